//! A datastore: a repository as clients of the protocol see it. Groups, snapshots and their files are made from what is in
//! the repository, whoever wrote it; what the protocol knows besides is kept in attributes, marks and groups there.
//!
//! Everything here blocks: call it from a thread that may wait.

mod collect;
pub mod entry;
mod error;
pub mod index;
pub mod listing;
mod locks;
mod manage;
mod moving;
mod naming;
mod opened;
mod pieces;
mod progress;
mod prune;
mod sealed;
mod serve;
mod status;
mod stores;
mod verify;
mod zeros;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::tz::TimeZone;
use relight_repo::Repository;
use relight_repo::collect::CollectOptions;
use relight_repo::read::ChunkReader;
use relight_repo::snapshot::Marks;

pub use collect::CollectStatus;
pub use entry::{Body, Entry, File, Source};
pub use error::{Result, StoreError};
pub use index::{IndexChunk, IndexFile};
pub use listing::{GroupEntry, Listing};
pub use locks::{Lock, Locks};
pub use manage::Removed;
pub use moving::{MoveOptions, Moved};
pub use naming::{OWN_KIND, group_of};
pub use opened::Reopen;
pub use progress::Log;
pub use prune::{Keep, Pruned};
pub use sealed::Protection;
pub use status::{Counts, Status};
pub use stores::{Stores, acl_path};
pub use verify::Selection;
pub use zeros::zero_digest;

use crate::access::AuthId;
use crate::formats::ids::{Group, Namespace, SnapshotName};
use listing::Lister;
use opened::Opened;

/// What an operator chooses about a datastore.
#[derive(Debug, Clone)]
pub struct DatastoreOptions {
    /// Words of the operator.
    pub comment: String,
    /// Who owns groups of which nobody said it: those that `relight backup` made.
    pub owner: AuthId,
    /// Whose days and weeks count when snapshots are pruned.
    pub zone: TimeZone,
    /// The folder in which the repository lies, if it is on a local disk: to tell how much room there is.
    pub path: Option<PathBuf>,
    /// How large it may become in bytes, where the storage does not tell.
    pub capacity: Option<u64>,
    /// How it is collected.
    pub collect: CollectOptions,
    /// Where this server keeps what it knows of the datastore: the figures of the last collection.
    pub state: Option<PathBuf>,
}

impl DatastoreOptions {
    /// With the owner of what has none, and defaults: the time zone of this host, no limits.
    pub fn new(owner: AuthId) -> Self {
        Self {
            comment: String::new(),
            owner,
            zone: TimeZone::system(),
            path: None,
            capacity: None,
            collect: CollectOptions::default(),
            state: None,
        }
    }
}

/// A datastore.
pub struct Datastore {
    name: String,
    opened: Opened,
    options: DatastoreOptions,
    lister: Lister,
    locks: Arc<Locks>,
    /// Who changes marks or groups reads them first: one after the other.
    changing: Mutex<()>,
    collecting: Mutex<collect::State>,
}

impl Datastore {
    /// The repository as a datastore of this name.
    ///
    /// # Errors
    /// No reader can be made.
    pub fn new(name: &str, repository: Arc<Repository>, options: DatastoreOptions) -> Result<Arc<Self>> {
        Self::make(name, Opened::new(repository, None)?, options)
    }

    /// The same, of a repository that is opened again when its keyring has changed.
    ///
    /// # Errors
    /// No reader can be made.
    pub fn reopening(
        name: &str,
        repository: Arc<Repository>,
        reopen: Reopen,
        options: DatastoreOptions,
    ) -> Result<Arc<Self>> {
        Self::make(name, Opened::new(repository, Some(reopen))?, options)
    }

    fn make(name: &str, opened: Opened, options: DatastoreOptions) -> Result<Arc<Self>> {
        let collecting = collect::State::load(options.state.as_deref());
        Ok(Arc::new(Self {
            name: name.to_string(),
            opened,
            options,
            lister: Lister::default(),
            locks: Arc::default(),
            changing: Mutex::default(),
            collecting: Mutex::new(collecting),
        }))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The repository, as it is open now: who goes on working keeps what it was given.
    pub fn repository(&self) -> Arc<Repository> {
        self.opened.now().repository.clone()
    }

    /// What an operator chose.
    pub fn options(&self) -> &DatastoreOptions {
        &self.options
    }

    /// Reads content of chunks.
    pub fn reader(&self) -> Arc<ChunkReader> {
        self.opened.now().reader.clone()
    }

    /// Reads chunks as they are stored ([`relight_repo::read::Form::Sealed`]): for clients that check digests themselves.
    pub fn stored_reader(&self) -> Arc<ChunkReader> {
        self.opened.now().sealed.clone()
    }

    /// Who is at work on what.
    pub fn locks(&self) -> &Arc<Locks> {
        &self.locks
    }

    /// What is in it now.
    pub fn list(&self) -> Result<Arc<Listing>> {
        self.lister.list(&self.opened)
    }

    /// All snapshots of the repository that can be read, in no order, with their marks. Also what clients are not shown:
    /// pieces of logs, the server's own.
    pub fn snapshots(&self) -> Result<Vec<(Arc<Body>, Option<Marks>)>> {
        self.lister.snapshots(&self.opened)
    }

    /// One snapshot.
    pub fn snapshot(&self, namespace: &Namespace, name: &SnapshotName) -> Result<Arc<Entry>> {
        let listing = self.list()?;
        let found = listing.snapshot(namespace, name).cloned();
        found.ok_or_else(|| StoreError::NoSnapshot(name.clone()))
    }

    /// One group, which has at least one snapshot.
    pub fn group(&self, namespace: &Namespace, group: &Group) -> Result<Arc<GroupEntry>> {
        let listing = self.list()?;
        let found = listing.group(namespace, group).cloned();
        found.ok_or_else(|| StoreError::NoGroup(group.clone()))
    }

    /// Who owns a group: who was said to, who made its newest snapshot, or who owns what has no owner. None if there is no
    /// such group.
    pub fn owner(&self, namespace: &Namespace, group: &Group) -> Result<Option<AuthId>> {
        let listing = self.list()?;
        Ok(listing.group(namespace, group).map(|found| self.owner_of(found)))
    }

    /// The owner of a group that was listed.
    pub fn owner_of(&self, group: &GroupEntry) -> AuthId {
        group.owner.clone().unwrap_or_else(|| self.options.owner.clone())
    }

    /// Fails if there is no such namespace.
    pub fn require_namespace(&self, namespace: &Namespace) -> Result<()> {
        if self.list()?.has_namespace(namespace) {
            Ok(())
        } else {
            Err(StoreError::NoNamespace(namespace.clone()))
        }
    }

    fn changing(&self) -> MutexGuard<'_, ()> {
        self.changing.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
