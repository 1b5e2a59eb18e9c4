//! An open repository: storage, keys, index and settings together.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use jiff::Timestamp;
use relight_keys::{KeySet, ObjectKind, RepositoryId};

use crate::clock::{Clock, SystemClock};
use crate::condemned;
use crate::error::{RepoError, Result};
use crate::id::{PackId, SnapshotId};
use crate::index::{Index, PackState};
use crate::retire;
use crate::sealed::{self, Vault};
use crate::session::{PackMemory, pack_memory};
use crate::settings::{self, Descriptor, Settings};
use crate::snapshot::{self, Marks, Snapshot};
use crate::storage::{PutOptions, Storage};
use crate::suspects;

/// What an operator may choose when a repository is opened.
#[derive(Debug, Clone)]
pub struct OpenOptions {
    /// Folder for caches of all repositories; each has its own in it. May be deleted at any moment.
    pub cache: PathBuf,
    /// Tells the time.
    pub clock: Arc<dyn Clock>,
    /// Name of this host, for announcements and manifests.
    pub host: String,
    /// Threads that compress, seal and open.
    pub threads: usize,
    /// A data pack is full at this size in bytes.
    pub data_pack: usize,
    /// A metadata pack is full at this size in bytes.
    pub metadata_pack: usize,
    /// Open although the keyring lacks data keys that parts of the index are sealed under: to find out what is lost
    /// with them, and to save what is not. Such a repository cannot be collected.
    pub lost_keys: bool,
}

impl OpenOptions {
    /// With caches in `cache`, the clock of this host, and as many threads as it has processors (at most 8).
    pub fn new(cache: &Path) -> Self {
        let threads = std::thread::available_parallelism().map_or(2, usize::from).min(8);
        let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
        Self {
            cache: cache.to_path_buf(),
            clock: Arc::new(SystemClock),
            host,
            threads,
            data_pack: 24 << 20,
            metadata_pack: 8 << 20,
            lost_keys: false,
        }
    }
}

/// A snapshot whose manifest cannot be read, and why.
pub type Unreadable = (SnapshotId, RepoError);

/// A repository that has been opened.
pub struct Repository {
    storage: Arc<dyn Storage>,
    keys: KeySet,
    descriptor: Descriptor,
    index: Index,
    options: OpenOptions,
    pack_memory: Arc<PackMemory>,
}

impl Repository {
    /// Writes the descriptor of a new repository. The keyring must be in place before: a repository whose
    /// descriptor is there can be opened.
    pub fn initialise(
        storage: &dyn Storage,
        id: RepositoryId,
        created: Timestamp,
        settings: Settings,
    ) -> Result<Descriptor> {
        let descriptor = Descriptor::new(id, created, settings);
        match storage.put_new(settings::KEY, &[&descriptor.encode()?], &PutOptions::default()) {
            Ok(()) => Ok(descriptor),
            Err(error) if error.is_already_exists() => Err(RepoError::AlreadyARepository {
                location: storage.location(),
            }),
            Err(error) => Err(error.into()),
        }
    }

    /// Opens a repository with keys that were unlocked before.
    pub fn open(storage: Arc<dyn Storage>, keys: KeySet, options: OpenOptions) -> Result<Self> {
        let repository = Self::open_without_index(storage, keys, options)?;
        repository.refresh()?;
        Ok(repository)
    }

    /// Opens a repository in order to rebuild its index: what is there of it is not read.
    pub(crate) fn open_without_index(
        storage: Arc<dyn Storage>,
        keys: KeySet,
        options: OpenOptions,
    ) -> Result<Self> {
        let descriptor = Descriptor::load(&*storage)?;
        let id = descriptor.repository()?;
        if id != keys.repository() {
            return Err(RepoError::Keys(format!(
                "the keyring is that of repository {}, but {} holds repository {id}",
                keys.repository(),
                storage.location()
            )));
        }
        let directory = options.cache.join(id.to_string()).join("index");
        Ok(Self {
            index: Index::new(&directory, &keys),
            storage,
            keys,
            descriptor,
            pack_memory: pack_memory(&options),
            options,
        })
    }

    /// Where it lies.
    pub fn storage(&self) -> &dyn Storage {
        &*self.storage
    }

    /// The storage, to be shared.
    pub fn shared_storage(&self) -> Arc<dyn Storage> {
        self.storage.clone()
    }

    /// Its data keys.
    pub fn keys(&self) -> &KeySet {
        &self.keys
    }

    /// Its identity.
    pub fn id(&self) -> RepositoryId {
        self.keys.repository()
    }

    /// Its descriptor.
    pub fn descriptor(&self) -> &Descriptor {
        &self.descriptor
    }

    /// How its objects are kept.
    pub fn settings(&self) -> &Settings {
        &self.descriptor.settings
    }

    /// Where its chunks lie.
    pub fn index(&self) -> &Index {
        &self.index
    }

    /// What it was opened with.
    pub fn options(&self) -> &OpenOptions {
        &self.options
    }

    /// Now.
    pub fn now(&self) -> Timestamp {
        self.options.clock.now()
    }

    pub(crate) fn pack_memory(&self) -> &Arc<PackMemory> {
        &self.pack_memory
    }

    pub(crate) fn vault(&self) -> Vault<'_> {
        Vault {
            storage: &*self.storage,
            keys: &self.keys,
            repository: self.id(),
        }
    }

    /// Reads what other processes have added to the index since.
    pub fn refresh(&self) -> Result<()> {
        self.index.refresh(&*self.storage, &self.keys, self.id())?;
        if !self.options.lost_keys {
            self.check_keys()?;
        }
        self.refresh_states().map(drop)
    }

    /// Fails if parts of the index are sealed under data keys that the keyring lacks.
    pub(crate) fn check_keys(&self) -> Result<()> {
        match self.index.locked().into_iter().next() {
            None => Ok(()),
            Some((segment, key)) => Err(RepoError::KeyMissing {
                what: crate::index::Segment::key(segment),
                key,
            }),
        }
    }

    /// Fails if the data key that this process seals under has been retired since it read the keyring.
    pub(crate) fn check_current_key(&self) -> Result<()> {
        retire::check(self.storage(), &self.keys)
    }

    /// Reads again which packs are condemned, gone or damaged. Returns those that must not be referred to.
    pub(crate) fn refresh_states(&self) -> Result<HashMap<PackId, PackState>> {
        let mut states = condemned::load_states(self)?;
        let suspects = suspects::load(self.vault())?;
        for pack in suspects.lost {
            states.insert(pack, PackState::Gone);
        }
        self.index.set_pack_states(states.clone());
        self.index.set_suspects(suspects.corrupt);
        Ok(states)
    }

    /// Identities of all snapshots, in no particular order.
    pub fn snapshot_ids(&self) -> Result<Vec<SnapshotId>> {
        let listed = self.storage.list(snapshot::PREFIX)?;
        Ok(listed
            .iter()
            // An empty object makes a name void: a writer that was given up intended to publish under it.
            .filter(|object| object.size > 0)
            .filter_map(|object| Snapshot::parse_key(&object.key))
            .collect())
    }

    /// All snapshots, oldest first. One that cannot be read is given with its error, and hides no other.
    pub fn snapshots(&self) -> Result<(Vec<Snapshot>, Vec<Unreadable>)> {
        let (mut good, mut bad) = (Vec::new(), Vec::new());
        for id in self.snapshot_ids()? {
            match self.snapshot(id) {
                Ok(snapshot) => good.push(snapshot),
                // Forgotten since it was listed.
                Err(RepoError::NoSuchSnapshot(_)) => {}
                Err(error) => bad.push((id, error)),
            }
        }
        good.sort_by_key(|snapshot: &Snapshot| (snapshot.time, snapshot.published, snapshot.id));
        Ok((good, bad))
    }

    /// One snapshot.
    pub fn snapshot(&self, id: SnapshotId) -> Result<Snapshot> {
        match Snapshot::load(self.vault(), id) {
            Err(RepoError::Storage(error)) if error.is_not_found() => {
                Err(RepoError::NoSuchSnapshot(id.short()))
            }
            other => other,
        }
    }

    /// What may change about a snapshot.
    pub fn marks(&self, id: SnapshotId) -> Result<Marks> {
        match self
            .vault()
            .get_json(ObjectKind::SNAPSHOT, &format!("{}{id}", snapshot::MARKS))
        {
            Err(RepoError::Storage(error)) if error.is_not_found() => Ok(Marks::default()),
            other => other,
        }
    }

    /// The snapshots about which something was noted.
    pub fn marked(&self) -> Result<std::collections::HashSet<SnapshotId>> {
        let listed = self.storage.list(snapshot::MARKS)?;
        let name = |key: &str| key.strip_prefix(snapshot::MARKS)?.parse().ok();
        Ok(listed.iter().filter_map(|object| name(&object.key)).collect())
    }

    /// Changes what may change about a snapshot.
    pub fn set_marks(&self, id: SnapshotId, marks: &Marks) -> Result<()> {
        self.check_current_key()?;
        self.snapshot(id)?;
        self.vault()
            .put_json(ObjectKind::SNAPSHOT, &format!("{}{id}", snapshot::MARKS), marks)
    }

    /// The log that came after the snapshot was published, if one did.
    pub fn log(&self, id: SnapshotId) -> Result<Option<Vec<u8>>> {
        let log = self
            .vault()
            .get(ObjectKind::SNAPSHOT, &format!("{}{id}", snapshot::LOGS));
        match log {
            Ok(log) => Ok(Some(log)),
            Err(RepoError::Storage(error)) if error.is_not_found() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The snapshots that have a log.
    pub fn logged(&self) -> Result<std::collections::HashSet<SnapshotId>> {
        let listed = self.storage.list(snapshot::LOGS)?;
        let name = |key: &str| key.strip_prefix(snapshot::LOGS)?.parse().ok();
        Ok(listed.iter().filter_map(|object| name(&object.key)).collect())
    }

    /// Adds a log to a snapshot; false if it has one already, which stays.
    pub fn add_log(&self, id: SnapshotId, log: &[u8]) -> Result<bool> {
        self.check_current_key()?;
        self.snapshot(id)?;
        if log.len() > snapshot::MAX_LOG {
            return Err(RepoError::ChunkTooLarge {
                size: log.len(),
                limit: snapshot::MAX_LOG,
            });
        }
        let key = format!("{}{id}", snapshot::LOGS);
        let sealed = sealed::seal(self.keys.current(), self.id(), ObjectKind::SNAPSHOT, &key, log)?;
        match self.storage.put_new(&key, &[&sealed], &PutOptions::default()) {
            Ok(()) => Ok(true),
            Err(error) if error.is_already_exists() => Ok(false),
            Err(error) => Err(error.into()),
        }
    }

    /// Removes a snapshot. Its chunks stay until a collection finds that nobody needs them.
    pub fn forget(&self, id: SnapshotId) -> Result<()> {
        let protected = match self.marks(id) {
            Ok(marks) => marks.protected,
            // What cannot be brought back any more is not protected by notes that cannot be read either.
            Err(RepoError::KeyMissing { .. } | RepoError::Damaged { .. })
                if matches!(
                    self.snapshot(id),
                    Err(RepoError::KeyMissing { .. } | RepoError::Damaged { .. })
                ) =>
            {
                false
            }
            Err(error) => return Err(error),
        };
        if protected {
            return Err(RepoError::Protected(id));
        }
        self.storage.delete(&Snapshot::key(id))?;
        self.storage.delete(&format!("{}{id}", snapshot::MARKS))?;
        self.storage.delete(&format!("{}{id}", snapshot::LOGS))?;
        Ok(())
    }
}
