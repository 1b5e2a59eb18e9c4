//! Sessions: everything that adds to a repository. A session announces itself, writes archives, and publishes
//! snapshots, each whole and last.

pub(crate) mod announce;
mod archive;
mod encoded;
mod memory;
mod pipeline;
mod pool;

use std::collections::HashSet;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex, MutexGuard};

use jiff::Timestamp;
use relight_keys::ObjectKind;

pub use archive::{ArchiveWriter, IMAGE_CHUNK};
pub use encoded::Encoded;
pub(crate) use memory::PackMemory;
pub use pipeline::is_zero;
pub(crate) use pipeline::pack_memory;

use crate::cdc::GearTable;
use crate::condemned;
use crate::error::{RepoError, Result};
use crate::id::{ChunkId, PackId, SnapshotId};
use crate::index::PackState;
use crate::pack::PackKind;
use crate::read::{ChunkReader, Stored};
use crate::repository::Repository;
use crate::sealed;
use crate::snapshot::{Archive, ArchiveKind, Figures, Snapshot, SnapshotSpec};
use crate::storage::{PutOptions, StorageError};
use crate::throttle::Throttle;
use crate::tree::TreeReader;
use announce::{Intent, Presence};
use pipeline::{Pipeline, Threads};

/// A running writer.
pub struct Session {
    repository: Arc<Repository>,
    presence: Presence,
    pipeline: Arc<Pipeline>,
    threads: Threads,
    table: GearTable,
    began: Timestamp,
}

impl Session {
    /// Announces a new session, then reads what is in the repository: in this order, so that a collection either
    /// knows of the session or has told it what it condemned. `cancelled` ends it soon after it becomes true.
    pub fn begin(repository: Arc<Repository>, cancelled: Arc<AtomicBool>) -> Result<Self> {
        let began = repository.now();
        let presence = Presence::announce(repository.clone())?;
        if repository.options().lost_keys {
            // Who only reads does not mind which packs are about to go; who refers to them does.
            condemned::load(repository.vault())?;
        }
        repository.refresh()?;
        let table = GearTable::new(&repository.keys().secret("content-defined chunking v1"));
        let (pipeline, threads) = Pipeline::start(repository.clone(), cancelled, presence.pulse().clone());
        Ok(Self {
            repository,
            presence,
            pipeline,
            threads,
            table,
            began,
        })
    }

    /// The repository it writes to.
    pub fn repository(&self) -> &Arc<Repository> {
        &self.repository
    }

    /// From now on packs are stored no faster than this lets them pass. Only the first limit holds.
    pub fn limit(&self, throttle: Arc<Throttle>) {
        let _ = self.pipeline.throttle.set(throttle);
    }

    /// Begins an archive.
    pub fn archive(&self, name: &str, kind: ArchiveKind) -> Result<ArchiveWriter> {
        let stopped = || RepoError::Stopped("its workers have ended".into());
        let jobs = self.threads.jobs().ok_or_else(stopped)?;
        Ok(ArchiveWriter::new(
            name.to_string(),
            kind,
            self.pipeline.clone(),
            jobs,
            self.table.clone(),
        ))
    }

    /// The figures so far.
    pub fn figures(&self) -> Figures {
        self.pipeline.figures()
    }

    /// Sees to it that a chunk is in the repository; false if it was already, in good order. Many threads may do so at
    /// once: each works by itself, into a pack of its own. An archive takes the chunk up with
    /// [`ArchiveWriter::push_known`]. The chunk of zeros needs no storing.
    ///
    /// The caller answers for the identity: `id` is the SHA-256 of the content, of which it has made sure, or, of what a
    /// client encrypted, [`ChunkId::of_client_sealed`] (which is checked).
    ///
    /// # Errors
    /// [`RepoError::ChunkTooLarge`] and [`RepoError::ChunkMismatch`], after which the session can go on; any other ends
    /// it.
    pub fn put_chunk(&self, kind: PackKind, id: ChunkId, encoded: Encoded<'_>) -> Result<bool> {
        encoded.check(id)?;
        self.pipeline.check()?;
        if id == ChunkId::ZEROS {
            return Ok(false);
        }
        self.pipeline
            .place_encoded(kind, id, encoded)
            .inspect_err(|error| {
                // The chunk, and others of the same pack, were announced and are not there.
                self.pipeline.fail(RepoError::Stopped(error.to_string()));
            })
    }

    /// Stores what was written so far, so that the next session finds it, without a snapshot.
    pub fn keep_progress(&self) -> Result<()> {
        self.pipeline.flush()
    }

    /// Publishes a snapshot of `archives`. When this returns, it is durable and whole.
    pub fn publish(&self, spec: SnapshotSpec, archives: Vec<Archive>) -> Result<Snapshot> {
        self.pipeline.check()?;
        self.pipeline.flush()?;
        self.pipeline.check()?;
        let id = SnapshotId::random()?;
        let intent = Intent {
            snapshot: id,
            roots: archives.iter().map(|archive| archive.root).collect(),
        };
        // From here to the publication a collection that gives this session up keeps what the intent names.
        let intended = self.presence.intend(&intent)?;
        self.rescue(&archives)?;
        self.presence.check()?;

        let mut figures = self.pipeline.figures();
        figures.logical = archives.iter().map(|archive| archive.root.size).sum();
        let snapshot = Snapshot::new(id, spec, archives, self.began, self.repository.now(), figures);
        crate::retention::lock_before_publication(&self.repository, &snapshot)?;
        match self.store(&snapshot) {
            Ok(()) => Ok(snapshot),
            Err(error @ RepoError::Storage(StorageError::Unavailable { .. } | StorageError::Io { .. })) => {
                // It may have been written, or be written yet.
                intended.keep();
                Err(error)
            }
            Err(error) => Err(error),
        }
    }

    fn store(&self, snapshot: &Snapshot) -> Result<()> {
        let key = Snapshot::key(snapshot.id);
        let repository = &self.repository;
        let sealed = sealed::seal(
            repository.keys().current(),
            repository.id(),
            ObjectKind::SNAPSHOT,
            &key,
            &snapshot.encode()?,
        )?;
        let options = PutOptions {
            class: None,
            retain_until: crate::retention::object_lock(repository, snapshot),
        };
        match repository.storage().put_new(&key, &[&sealed], &options) {
            Err(error) if error.is_already_exists() => {
                // Either an attempt whose answer was lost wrote it, or a collection that waited for days made the
                // name void before it cleared the intent away.
                if repository.storage().get(&key)? == sealed {
                    Ok(())
                } else {
                    Err(RepoError::SessionEvicted)
                }
            }
            other => Ok(other?),
        }
    }

    /// Stores again what lies in packs that have been condemned since. The intent must be in storage.
    fn rescue(&self, archives: &[Archive]) -> Result<()> {
        let states = self.repository.refresh_states()?;
        let is_condemned = |pack: &PackId| states.get(pack).is_some_and(|state| *state > PackState::Live);
        let condemned = lock(&self.pipeline.used).iter().any(is_condemned);
        // Of a list that another session wrote it is not known in which packs its chunks lie.
        let foreign = |archive: &Archive| {
            archive.root.id != ChunkId::ZEROS && !lock(&self.pipeline.lists).contains(&archive.root.id)
        };
        if !condemned && !archives.iter().any(foreign) {
            return Ok(());
        }
        if condemned {
            tracing::info!("packs were condemned while this session ran; what it needs is stored again");
            lock(&self.pipeline.lists).clear();
            self.repository.refresh()?;
        }
        let reader = ChunkReader::new(self.repository.clone())?;
        let mut walked = HashSet::new();
        for archive in archives {
            let kind = archive.kind.pack_kind();
            self.rescue_node(&reader, archive.root.id, archive.root.levels, kind, &mut walked)?;
        }
        self.pipeline.flush()?;
        lock(&self.pipeline.lists).extend(walked);
        Ok(())
    }

    fn rescue_node(
        &self,
        reader: &ChunkReader,
        id: ChunkId,
        level: u8,
        kind: PackKind,
        walked: &mut HashSet<ChunkId>,
    ) -> Result<()> {
        if id == ChunkId::ZEROS {
            return Ok(());
        }
        if level > 0 && (lock(&self.pipeline.lists).contains(&id) || !walked.insert(id)) {
            return Ok(());
        }
        if !self.pipeline.is_known(&id) {
            let kind = if level > 0 { PackKind::Metadata } else { kind };
            let stored = reader.read_stored(&id)?;
            self.pipeline
                .place_encoded(kind, id, Stored::parse(&stored)?.encoded()?)?;
        }
        if level > 0 {
            use crate::tree::NodeSource;
            for child in &reader.node(id, level)?.children {
                self.rescue_node(reader, child.id, level - 1, kind, walked)?;
            }
        }
        Ok(())
    }

    /// All pieces of an archive of an earlier snapshot, to take over what is unchanged.
    pub fn pieces<'a>(&self, reader: &'a ChunkReader, archive: &Archive) -> Result<TreeReader<'a>> {
        TreeReader::new(reader, archive.root, 0)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

impl Drop for Session {
    fn drop(&mut self) {
        self.threads.end_workers();
        // After it was given up its packs may be gone: nothing may speak of them any more.
        if !self.pipeline.is_broken() && self.presence.check().is_ok() {
            // Cancelled, given up by its owner, or what it saved could not be read: what is stored already need not be
            // stored again.
            let _ = self.pipeline.flush();
        }
        self.threads.end(&self.pipeline);
    }
}
