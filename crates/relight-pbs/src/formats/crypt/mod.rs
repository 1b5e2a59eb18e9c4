//! Encryption as clients do it: the server never has the keys.

mod gcm;
mod key_file;
pub mod master;

use aws_lc_rs::{digest, hmac, pbkdf2};
use zeroize::{Zeroize, Zeroizing};

pub use gcm::{IV, TAG};
pub use key_file::{Kdf, KeyFile, KeyFileError};

use gcm::WideIvGcm;

/// Length of a key in bytes.
pub const KEY: usize = 32;
/// What the identity of a key is derived with.
const ID_SALT: &[u8] = b"_id_key";
/// How often.
const ID_ITERATIONS: std::num::NonZeroU32 = std::num::NonZeroU32::new(10).unwrap();
/// What is hashed to begin a fingerprint.
const FINGERPRINT: &[u8] = b"Proxmox Backup Encryption Key Fingerprint";

/// Why something could not be encrypted or decrypted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CryptError {
    /// Another key, or other bytes than were written.
    #[error("it was encrypted with another key, or is damaged")]
    Mismatch,
    /// The cryptographic library failed.
    #[error("the cryptographic library refused to work; check this host")]
    Unavailable,
}

/// Fingerprint of a key: 32 bytes, written as pairs of hexadecimal digits with colons between them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Fingerprint(pub [u8; 32]);

impl Fingerprint {
    /// The first eight bytes, as people see them.
    pub fn short(&self) -> String {
        pairs(&self.0[..8])
    }
}

fn pairs(bytes: &[u8]) -> String {
    let digits: Vec<String> = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
    digits.join(":")
}

impl std::fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(&pairs(&self.0))
    }
}

impl std::str::FromStr for Fingerprint {
    type Err = super::ids::NameError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let refused =
            || super::ids::NameError::new("fingerprint", text, "is not 32 pairs of digits joined by ':'");
        if text.len() != 32 * 3 - 1 {
            return Err(refused());
        }
        let mut bytes = [0; 32];
        let mut pairs = text.split(':');
        for byte in &mut bytes {
            let pair = pairs.next().ok_or_else(refused)?;
            hex::decode_to_slice(pair, std::slice::from_mut(byte)).map_err(|_| refused())?;
        }
        Ok(Self(bytes))
    }
}

super::ids::as_text!(Fingerprint);

/// A client's key, ready to use.
pub struct CryptKey {
    gcm: WideIvGcm,
    id_key: [u8; 32],
}

impl std::fmt::Debug for CryptKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "CryptKey({})", self.fingerprint().short())
    }
}

impl Drop for CryptKey {
    fn drop(&mut self) {
        self.id_key.zeroize();
    }
}

impl CryptKey {
    /// From its bytes.
    pub fn new(key: &[u8; KEY]) -> Result<Self, CryptError> {
        let mut id_key = [0; 32];
        pbkdf2::derive(
            pbkdf2::PBKDF2_HMAC_SHA256,
            ID_ITERATIONS,
            ID_SALT,
            key,
            &mut id_key,
        );
        Ok(Self {
            gcm: WideIvGcm::new(key)?,
            id_key,
        })
    }

    /// A new key's bytes.
    pub fn generate() -> Result<Zeroizing<[u8; KEY]>, CryptError> {
        let mut key = Zeroizing::new([0; KEY]);
        aws_lc_rs::rand::fill(&mut *key).map_err(|_| CryptError::Unavailable)?;
        Ok(key)
    }

    /// By which it is known.
    pub fn fingerprint(&self) -> Fingerprint {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(digest::digest(&digest::SHA256, FINGERPRINT).as_ref());
        context.update(&self.id_key);
        Fingerprint(bytes_of(context.finish().as_ref()))
    }

    /// The digest of a chunk of this content when it is encrypted under this key: the same content has another digest
    /// under another key.
    pub fn digest(&self, content: &[u8]) -> [u8; 32] {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(content);
        context.update(&self.id_key);
        bytes_of(context.finish().as_ref())
    }

    /// A signature of `message`.
    pub fn sign(&self, message: &[u8]) -> [u8; 32] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.id_key);
        bytes_of(hmac::sign(&key, message).as_ref())
    }

    /// Whether `signature` is that of `message`, compared in constant time.
    pub fn is_signed(&self, message: &[u8], signature: &[u8]) -> bool {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.id_key);
        hmac::verify(&key, message, signature).is_ok()
    }

    /// Encrypts in place with a random IV.
    pub fn seal(&self, data: &mut [u8]) -> Result<([u8; IV], [u8; TAG]), CryptError> {
        let mut iv = [0; IV];
        aws_lc_rs::rand::fill(&mut iv).map_err(|_| CryptError::Unavailable)?;
        let tag = self.gcm.seal(&iv, data)?;
        Ok((iv, tag))
    }

    /// Decrypts in place; `data` is unchanged if the tag does not fit.
    pub fn open(&self, iv: &[u8; IV], tag: &[u8; TAG], data: &mut [u8]) -> Result<(), CryptError> {
        self.gcm.open(iv, tag, data)
    }
}

fn bytes_of(digest: &[u8]) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(&digest[..32]);
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fingerprints_read_back() {
        let key = CryptKey::new(&[7; 32]).unwrap();
        let text = key.fingerprint().to_string();
        assert_eq!(text.parse::<Fingerprint>().unwrap(), key.fingerprint());
        assert!(text.starts_with(&key.fingerprint().short()));
        for other in [
            "",
            "aa",
            &text[1..],
            &text.replace(':', "-"),
            &text.replacen(':', "0", 1),
        ] {
            assert!(other.parse::<Fingerprint>().is_err(), "{other}");
        }
    }

    #[test]
    fn the_digest_depends_on_the_key() {
        let (a, b) = (CryptKey::new(&[1; 32]).unwrap(), CryptKey::new(&[2; 32]).unwrap());
        assert_ne!(a.digest(b"content"), b.digest(b"content"));
        assert!(a.is_signed(b"m", &a.sign(b"m")) && !b.is_signed(b"m", &a.sign(b"m")));
    }
}
