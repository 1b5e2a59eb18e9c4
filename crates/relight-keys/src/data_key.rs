//! Data keys: what content and objects are sealed under.

use std::fmt;

use crate::{
    derive,
    entropy::{Entropy, EntropyError},
    ids::{KeyId, RepositoryId},
    pack_cipher::PackCipher,
    secret::Secret,
};

/// One data key of a repository: 32 random bytes and a number.
///
/// It is never used as a cipher key itself; keys for packs and objects are derived from it, one each. The bytes
/// are wiped when dropped and `Debug` prints only the number.
#[derive(Clone, PartialEq, Eq)]
pub struct DataKey {
    id: KeyId,
    secret: Secret,
}

impl DataKey {
    /// Draws a new key and its number.
    ///
    /// # Errors
    /// When `entropy` fails.
    pub fn generate(entropy: &mut dyn Entropy) -> Result<Self, EntropyError> {
        Ok(Self {
            id: KeyId::generate(entropy)?,
            secret: Secret::generate(entropy)?,
        })
    }

    pub(crate) fn from_parts(id: KeyId, secret: Secret) -> Self {
        Self { id, secret }
    }

    /// The key's number.
    pub fn id(&self) -> KeyId {
        self.id
    }

    pub(crate) fn secret(&self) -> &Secret {
        &self.secret
    }

    /// The cipher of one pack: AES-256-GCM under HKDF-SHA256(this key, salt = repository id,
    /// info = "relight pack v1" + pack id). See [`PackCipher`] for why that settles the question of nonces.
    ///
    /// Costs a few microseconds; make one a pack, not one a record.
    pub fn pack_cipher(&self, repository: RepositoryId, pack: &[u8; 16]) -> PackCipher {
        PackCipher::new(derive::cipher(
            self.secret.expose(),
            &repository.0,
            &[b"relight pack v1", pack],
        ))
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "DataKey({})", self.id)
    }
}
