//! The keys a reader or writer of a repository holds.

use std::{collections::BTreeMap, fmt};

use crate::{
    data_key::DataKey,
    derive,
    entropy::{Entropy, EntropyError},
    ids::{KeyId, RepositoryId},
    secret::Secret,
};

/// Keys that do not belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum KeySetError {
    /// The sets are of two repositories.
    #[error("the key sets belong to two repositories, {0} and {1}")]
    OtherRepository(RepositoryId, RepositoryId),
    /// One repository, two repository secrets: one of the keyrings is not genuine.
    #[error("two keyrings of repository {0} hold different repository secrets; one of them is not genuine")]
    OtherSecret(RepositoryId),
    /// One number, two keys: one of the keyrings is not genuine.
    #[error("two keyrings hold different keys under the number {0}; one of them is not genuine")]
    Conflict(KeyId),
    /// The key said to be current is not in the set.
    #[error("the key set lacks its own current key {0}")]
    NoCurrent(KeyId),
    /// The key is the one new data is sealed under.
    #[error("data key {0} is the current one and cannot be retired; rotate first")]
    IsCurrent(KeyId),
    /// No such key.
    #[error("the key set has no data key {0}")]
    Unknown(KeyId),
}

#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) key: DataKey,
    pub(crate) created: i64,
}

/// All data keys known of a repository, one of them current for writing, and the repository's own secret.
#[derive(Clone, PartialEq, Eq)]
pub struct KeySet {
    repository: RepositoryId,
    secret: Secret,
    entries: BTreeMap<KeyId, Entry>,
    current: KeyId,
}

impl KeySet {
    /// Draws the keys of a new repository: one data key and the repository secret. `now` is in seconds since
    /// 1970 (UTC), for display only.
    ///
    /// # Errors
    /// When `entropy` fails.
    pub fn generate(
        repository: RepositoryId,
        now: i64,
        entropy: &mut dyn Entropy,
    ) -> Result<Self, EntropyError> {
        let secret = Secret::generate(entropy)?;
        let key = DataKey::generate(entropy)?;
        let current = key.id();
        let entries = BTreeMap::from([(current, Entry { key, created: now })]);
        Ok(Self {
            repository,
            secret,
            entries,
            current,
        })
    }

    pub(crate) fn from_parts(
        repository: RepositoryId,
        secret: Secret,
        entries: BTreeMap<KeyId, Entry>,
        current: KeyId,
    ) -> Result<Self, KeySetError> {
        if !entries.contains_key(&current) {
            return Err(KeySetError::NoCurrent(current));
        }
        Ok(Self {
            repository,
            secret,
            entries,
            current,
        })
    }

    /// The repository these keys belong to.
    pub fn repository(&self) -> RepositoryId {
        self.repository
    }

    /// The key that new data is sealed under.
    pub fn current(&self) -> &DataKey {
        // Every constructor and change keeps the current key in the map.
        &self.entries[&self.current].key
    }

    /// The key of a number, if it is known.
    pub fn get(&self, id: KeyId) -> Option<&DataKey> {
        self.entries.get(&id).map(|entry| &entry.key)
    }

    /// When a key was made, in seconds since 1970 (UTC), by the clock of the machine that made it.
    pub fn created(&self, id: KeyId) -> Option<i64> {
        self.entries.get(&id).map(|entry| entry.created)
    }

    /// The numbers of all keys, ascending.
    pub fn ids(&self) -> impl Iterator<Item = KeyId> + '_ {
        self.entries.keys().copied()
    }

    /// A secret of the repository for one purpose, named by `label`: HKDF-SHA256 of a secret that is drawn
    /// once and never rotated. For what must stay the same for ever, such as the parameters of content-defined
    /// chunking and keyed object names; never for sealing.
    pub fn secret(&self, label: &str) -> [u8; 32] {
        *derive::secret(
            self.secret.expose(),
            &self.repository.0,
            &[b"relight repository secret v1:", label.as_bytes()],
        )
        .expose()
    }

    /// Adds a new data key and makes it current; returns its number. Old keys stay for reading.
    ///
    /// # Errors
    /// When `entropy` fails; nothing is changed then.
    pub(crate) fn rotate(&mut self, now: i64, entropy: &mut dyn Entropy) -> Result<KeyId, EntropyError> {
        let mut key = DataKey::generate(entropy)?;
        while self.entries.contains_key(&key.id()) {
            key = DataKey::generate(entropy)?;
        }
        self.current = key.id();
        self.entries.insert(self.current, Entry { key, created: now });
        Ok(self.current)
    }

    /// Drops an old key for good.
    pub(crate) fn retire(&mut self, id: KeyId) -> Result<(), KeySetError> {
        if id == self.current {
            return Err(KeySetError::IsCurrent(id));
        }
        self.entries.remove(&id).map(drop).ok_or(KeySetError::Unknown(id))
    }

    /// Takes over the keys of `other` that are missing here. `current` stays.
    ///
    /// # Errors
    /// When the sets contradict each other; nothing is changed then.
    pub(crate) fn unite(&mut self, other: &KeySet) -> Result<(), KeySetError> {
        if self.repository != other.repository {
            return Err(KeySetError::OtherRepository(self.repository, other.repository));
        }
        if self.secret != other.secret {
            return Err(KeySetError::OtherSecret(self.repository));
        }
        for (id, entry) in &other.entries {
            if self.get(*id).is_some_and(|mine| *mine != entry.key) {
                return Err(KeySetError::Conflict(*id));
            }
        }
        for (id, entry) in &other.entries {
            self.entries.entry(*id).or_insert_with(|| entry.clone());
        }
        Ok(())
    }

    pub(crate) fn repository_secret(&self) -> &Secret {
        &self.secret
    }

    pub(crate) fn entries(&self) -> &BTreeMap<KeyId, Entry> {
        &self.entries
    }
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("KeySet")
            .field("repository", &self.repository)
            .field("current", &self.current)
            .field("keys", &self.entries.keys().collect::<Vec<_>>())
            .finish_non_exhaustive()
    }
}
