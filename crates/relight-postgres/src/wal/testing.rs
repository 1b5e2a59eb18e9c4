//! What the tests of the log share: a repository in memory.

use std::sync::Arc;

use jiff::Timestamp;
use relight_keys::{KeyFile, SystemEntropy};
use relight_repo::settings::Settings;
use relight_repo::storage::Storage;
use relight_repo::storage::memory::MemoryStorage;
use relight_repo::{OpenOptions, Repository, keyring};

use super::error::Result;
use super::store::LogStore;

/// The workload of all tests.
pub const WORKLOAD: &str = "pg/main";

/// A storage with a repository in it.
pub struct Place {
    /// The storage.
    pub storage: Arc<dyn Storage>,
    /// What opens it.
    pub key: KeyFile,
    /// Caches.
    pub cache: tempfile::TempDir,
}

impl Place {
    /// A new one in memory.
    pub fn new() -> Self {
        let storage: Arc<dyn Storage> = Arc::new(MemoryStorage::new());
        let key = KeyFile::generate(&mut SystemEntropy).unwrap();
        keyring::initialise(&*storage, &key, "test", Timestamp::now(), Settings::default()).unwrap();
        Self {
            storage,
            key,
            cache: tempfile::tempdir().unwrap(),
        }
    }

    /// The log in it, as another process would open it.
    pub fn open(&self) -> LogStore {
        self.open_through(self.storage.clone()).unwrap()
    }

    /// The same through another handle to the storage.
    pub fn open_through(&self, storage: Arc<dyn Storage>) -> Result<LogStore> {
        let keys = keyring::unlock(&*storage, &self.key)?.into_keys();
        let mut options = OpenOptions::new(self.cache.path());
        options.threads = 1;
        let repository = Arc::new(Repository::open(storage, keys, options)?);
        Ok(LogStore::new(
            repository,
            WORKLOAD.parse().unwrap(),
            Arc::default(),
        ))
    }
}
