//! Seals records with the server's key.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};

use super::record::{NewEvidence, Sealed, hash};
use crate::error::{Result, ServerError};

/// The server's identity, and the key it signs evidence with.
pub struct Signer {
    server: [u8; 16],
    key: Ed25519KeyPair,
}

impl Signer {
    /// With the seed of an Ed25519 key (RFC 8032, section 5.1.5).
    ///
    /// # Errors
    /// The key cannot be made.
    pub fn new(server: [u8; 16], seed: &[u8; 32]) -> Result<Self> {
        let key = Ed25519KeyPair::from_seed_unchecked(seed);
        let key = key.map_err(|_| ServerError::System("the key for evidence cannot be used".into()))?;
        Ok(Self { server, key })
    }

    /// The server's identity.
    pub fn server(&self) -> [u8; 16] {
        self.server
    }

    /// The public half of the key.
    pub fn public_key(&self) -> [u8; 32] {
        let mut key = [0; 32];
        let public = self.key.public_key().as_ref();
        let length = public.len().min(32);
        key[..length].copy_from_slice(&public[..length]);
        key
    }

    /// Makes the record that follows the one of this number and hash.
    ///
    /// # Errors
    /// It cannot be written as JSON.
    pub fn seal(&self, after: (u64, [u8; 32]), evidence: &NewEvidence) -> Result<Sealed> {
        let (sequence, previous) = after;
        let body = serde_json::to_string(&evidence.numbered(sequence + 1));
        let body = body.map_err(|error| ServerError::System(format!("write evidence down: {error}")))?;
        let hash = hash(&self.server, &previous, &body);
        let mut signature = [0; 64];
        signature.copy_from_slice(self.key.sign(&hash).as_ref());
        Ok(Sealed {
            body,
            previous,
            hash,
            signature,
        })
    }
}
