//! A repository in memory for the tests of collection: small packs, snapshots that say themselves what is in them,
//! and a clock of the storage that moves when it is told to.
#![allow(dead_code, clippy::unwrap_used)]

pub mod upkeep;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use relight_keys::{KeyFile, SystemEntropy};
use relight_repo::collect::{CollectOptions, Plan, Report, collect, plan};
use relight_repo::control::Control;
use relight_repo::read::{ChunkReader, PieceStream};
use relight_repo::session::Session;
use relight_repo::settings::Settings;
use relight_repo::snapshot::{ArchiveKind, Snapshot, SnapshotSpec};
use relight_repo::storage::Storage;
use relight_repo::storage::fault::FaultStorage;
use relight_repo::storage::memory::MemoryStorage;
use relight_repo::{OpenOptions, Repository, Result, SnapshotId, keyring};

/// Size of a chunk.
pub const CHUNK: usize = 6 << 10;
pub const HOUR: Duration = Duration::from_secs(3600);
pub const DAY: Duration = Duration::from_secs(24 * 3600);

/// The world: what lives on when processes die.
pub struct World {
    pub storage: MemoryStorage,
    pub key: KeyFile,
    caches: tempfile::TempDir,
    opened: AtomicUsize,
}

impl World {
    pub fn new() -> Self {
        Self::with(Settings::default())
    }

    pub fn with(settings: Settings) -> Self {
        let storage = MemoryStorage::new();
        let key = KeyFile::generate(&mut SystemEntropy).unwrap();
        keyring::initialise(&storage, &key, "test", jiff::Timestamp::now(), settings).unwrap();
        Self {
            storage,
            key,
            // In memory where that is possible: thousands of caches are made.
            caches: tempfile::tempdir_in("/dev/shm")
                .or_else(|_| tempfile::tempdir())
                .unwrap(),
            opened: AtomicUsize::new(0),
        }
    }

    /// A process that uses the storage.
    pub fn process(&self) -> FaultStorage {
        FaultStorage::new(Arc::new(self.storage.clone()))
    }

    /// Opens the repository as another process on another machine would: with a cache of its own.
    pub fn open(&self) -> Arc<Repository> {
        self.open_through(Arc::new(self.storage.clone())).unwrap()
    }

    /// The same, through this handle of the storage.
    pub fn open_through(&self, storage: Arc<dyn Storage>) -> Result<Arc<Repository>> {
        let number = self.opened.fetch_add(1, Ordering::Relaxed);
        self.open_with_cache(storage, &number.to_string())
    }

    /// The same, with a cache that may have been used before.
    pub fn open_with_cache(&self, storage: Arc<dyn Storage>, cache: &str) -> Result<Arc<Repository>> {
        let keys = keyring::unlock(&*storage, &self.key)?.into_keys();
        let mut options = OpenOptions::new(&self.caches.path().join(cache));
        options.threads = 2;
        options.data_pack = 48 << 10;
        options.metadata_pack = 8 << 10;
        Repository::open(storage, keys, options).map(Arc::new)
    }

    /// Keys under a prefix.
    pub fn keys(&self, prefix: &str) -> Vec<String> {
        let mut keys: Vec<String> = self
            .storage
            .list(prefix)
            .unwrap()
            .into_iter()
            .map(|object| object.key)
            .collect();
        keys.sort();
        keys
    }

    /// Every visible snapshot restores byte for byte, through a fresh cache. Returns them.
    pub fn check(&self) -> HashSet<SnapshotId> {
        check(&self.open())
    }

    /// With parity.
    pub fn with_parity(percent: u8) -> Self {
        Self::with(Settings {
            parity_percent: percent,
            ..Settings::default()
        })
    }

    /// Forgets everything, collects until nothing changes, and expects that nothing is left over.
    pub fn empty_out(&self) {
        let repository = self.open();
        for id in repository.snapshot_ids().unwrap() {
            repository.forget(id).unwrap();
        }
        let options = CollectOptions {
            allow_empty: true,
            ..CollectOptions::default()
        };
        for _ in 0..8 {
            self.storage.advance(8 * DAY);
            run(&repository, &options).unwrap();
        }
        for prefix in [
            "packs/",
            "parity/",
            "index/",
            "condemned/",
            "sessions/",
            "suspects/",
            "marks/",
            "leases/clock/",
        ] {
            assert_eq!(self.keys(prefix), [""; 0], "nothing is left over");
        }
    }
}

/// Every visible snapshot restores byte for byte.
pub fn check(repository: &Arc<Repository>) -> HashSet<SnapshotId> {
    let (snapshots, bad) = repository.snapshots().unwrap();
    assert!(bad.is_empty(), "{bad:?}");
    for snapshot in &snapshots {
        if let Err(error) = restore(repository, snapshot) {
            panic!("snapshot {} cannot be restored: {error}", snapshot.id);
        }
    }
    snapshots.iter().map(|snapshot| snapshot.id).collect()
}

/// Reads a snapshot back and compares.
pub fn restore(repository: &Arc<Repository>, snapshot: &Snapshot) -> Result<()> {
    let seeds: Vec<u64> = serde_json::from_str(&snapshot.attributes["seeds"]).unwrap();
    let wanted: Vec<u8> = seeds.iter().flat_map(|seed| chunk(*seed)).collect();
    let reader = Arc::new(ChunkReader::new(repository.clone())?);
    let mut bytes = Vec::new();
    for item in PieceStream::new(&reader, snapshot.archives[0].root, 0)? {
        bytes.extend_from_slice(&item?.1.unwrap());
    }
    assert!(bytes == wanted, "snapshot {} comes back changed", snapshot.id);
    Ok(())
}

/// The content of a chunk.
pub fn chunk(seed: u64) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let mut bytes = Vec::with_capacity(CHUNK + 8);
    let length = CHUNK / 2 + (seed as usize * 37) % (CHUNK / 2);
    while bytes.len() < length {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes.extend_from_slice(&state.to_le_bytes());
    }
    bytes
}

/// Saves chunks as one snapshot.
pub fn back_up(repository: &Arc<Repository>, seeds: &[u64]) -> Result<Snapshot> {
    let session = begin(repository)?;
    publish(&session, seeds)
}

pub fn begin(repository: &Arc<Repository>) -> Result<Session> {
    Session::begin(repository.clone(), Arc::new(AtomicBool::new(false)))
}

pub fn publish(session: &Session, seeds: &[u64]) -> Result<Snapshot> {
    let archive = write(session, seeds)?;
    session.publish(spec(seeds), vec![archive])
}

pub fn write(session: &Session, seeds: &[u64]) -> Result<relight_repo::snapshot::Archive> {
    let mut writer = session.archive("data", ArchiveKind::Image)?;
    for seed in seeds {
        writer.push_chunk(chunk(*seed))?;
    }
    writer.finish()
}

pub fn spec(seeds: &[u64]) -> SnapshotSpec {
    SnapshotSpec {
        workload: "test".into(),
        attributes: [("seeds".to_string(), serde_json::to_string(seeds).unwrap())].into(),
        ..SnapshotSpec::default()
    }
}

/// Collects.
pub fn run(repository: &Arc<Repository>, options: &CollectOptions) -> Result<Report> {
    collect(repository, options, Control::quiet(&AtomicBool::new(false)))
}

/// Plans a collection.
pub fn look(repository: &Arc<Repository>, options: &CollectOptions) -> Result<Plan> {
    plan(repository, options, Control::quiet(&AtomicBool::new(false)))
}

/// No grace: a collection condemns at once, the next one deletes.
pub fn at_once() -> CollectOptions {
    CollectOptions {
        grace: Duration::ZERO,
        clock_skew: Duration::ZERO,
        ..CollectOptions::default()
    }
}
