//! Small sealed objects: everything in a repository that is neither a pack nor the descriptor.

use relight_keys::{DataKey, KeyId, KeySet, ObjectKind, RepositoryId, SEALED_HEADER_LENGTH, SealError};

use crate::error::{RepoError, Result};
use crate::retire;
use crate::storage::{PutOptions, Storage};

/// Seals `plain` as the object `name`.
pub(crate) fn seal(
    key: &DataKey,
    repository: RepositoryId,
    kind: ObjectKind,
    name: &str,
    plain: &[u8],
) -> Result<Vec<u8>> {
    relight_keys::seal_object(key, repository, kind, name, plain).map_err(|error| failed(name, error))
}

/// Opens the object `name`.
pub(crate) fn open(
    keys: &KeySet,
    repository: RepositoryId,
    kind: ObjectKind,
    name: &str,
    sealed: &[u8],
) -> Result<Vec<u8>> {
    relight_keys::open_object(keys, repository, kind, name, sealed).map_err(|error| failed(name, error))
}

/// The data key that a sealed object with this header is sealed under; none if it is no such header.
pub(crate) fn key_in(header: &[u8; SEALED_HEADER_LENGTH]) -> Option<KeyId> {
    header.starts_with(b"RLSEALED").then(|| {
        KeyId(u32::from_le_bytes([
            header[12], header[13], header[14], header[15],
        ]))
    })
}

fn failed(name: &str, error: SealError) -> RepoError {
    match error {
        SealError::KeyNotAvailable { key, .. } => RepoError::KeyMissing {
            what: name.to_string(),
            key: key.to_string(),
        },
        SealError::Version { found, .. } => RepoError::TooNew {
            what: name.to_string(),
            found: u32::from(found),
            known: 1,
        },
        other => RepoError::damaged(name, other.to_string()),
    }
}

/// Where sealed objects are read and written: storage and keys together.
#[derive(Clone, Copy)]
pub(crate) struct Vault<'a> {
    pub storage: &'a dyn Storage,
    pub keys: &'a KeySet,
    pub repository: RepositoryId,
}

impl Vault<'_> {
    /// Reads and opens an object.
    pub fn get(&self, kind: ObjectKind, name: &str) -> Result<Vec<u8>> {
        open(self.keys, self.repository, kind, name, &self.storage.get(name)?)
    }

    /// Reads an object that holds JSON.
    pub fn get_json<T: serde::de::DeserializeOwned>(&self, kind: ObjectKind, name: &str) -> Result<T> {
        let plain = self.get(kind, name)?;
        serde_json::from_slice(&plain)
            .map_err(|error| RepoError::damaged(name, format!("it is not what it should be ({error})")))
    }

    /// Seals and writes an object, replacing one of that name.
    pub fn put(&self, kind: ObjectKind, name: &str, plain: &[u8], options: &PutOptions) -> Result<()> {
        retire::check(self.storage, self.keys)?;
        let sealed = seal(self.keys.current(), self.repository, kind, name, plain)?;
        Ok(self.storage.put(name, &[&sealed], options)?)
    }

    /// Writes an object that holds JSON.
    pub fn put_json<T: serde::Serialize>(&self, kind: ObjectKind, name: &str, value: &T) -> Result<()> {
        let plain = serde_json::to_vec(value)
            .map_err(|error| RepoError::damaged(name, format!("it cannot be written ({error})")))?;
        self.put(kind, name, &plain, &PutOptions::default())
    }

    /// Writes an object that holds JSON where there is none of that name.
    pub fn put_json_new<T: serde::Serialize>(&self, kind: ObjectKind, name: &str, value: &T) -> Result<()> {
        let plain = serde_json::to_vec(value)
            .map_err(|error| RepoError::damaged(name, format!("it cannot be written ({error})")))?;
        retire::check(self.storage, self.keys)?;
        let sealed = seal(self.keys.current(), self.repository, kind, name, &plain)?;
        Ok(self.storage.put_new(name, &[&sealed], &PutOptions::default())?)
    }
}
