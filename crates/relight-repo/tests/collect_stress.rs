//! Two writers, a collector and a reader at once, on a directory, without any grace. `STRESS_SECONDS` says for how long.

#![allow(clippy::unwrap_used)]

#[path = "collect_support/mod.rs"]
mod support;

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use relight_keys::{KeyFile, SystemEntropy};
use relight_repo::collect::CollectOptions;
use relight_repo::settings::Settings;
use relight_repo::storage::StorageError;
use relight_repo::storage::local::LocalStorage;
use relight_repo::{OpenOptions, RepoError, Repository, SnapshotId, keyring};
use support::*;

/// A place on a disk (in memory, if there is a file system there).
struct Disk {
    directory: tempfile::TempDir,
    storage: Arc<LocalStorage>,
    key: KeyFile,
}

impl Disk {
    fn new() -> Self {
        let directory = tempfile::tempdir_in("/dev/shm")
            .or_else(|_| tempfile::tempdir())
            .unwrap();
        let storage = Arc::new(LocalStorage::create(&directory.path().join("repository")).unwrap());
        let key = KeyFile::generate(&mut SystemEntropy).unwrap();
        keyring::initialise(&*storage, &key, "x", jiff::Timestamp::now(), Settings::default()).unwrap();
        Self {
            directory,
            storage,
            key,
        }
    }

    fn open(&self, cache: &str) -> Arc<Repository> {
        let keys = keyring::unlock(&*self.storage, &self.key).unwrap().into_keys();
        let mut options = OpenOptions::new(&self.directory.path().join(cache));
        options.threads = 2;
        options.data_pack = 48 << 10;
        options.metadata_pack = 8 << 10;
        Arc::new(Repository::open(self.storage.clone(), keys, options).unwrap())
    }
}

/// Numbers that look random.
struct Random(u64);

impl Random {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 >> 11) % limit
    }
}

#[test]
fn two_writers_a_collector_and_a_reader() {
    let seconds = std::env::var("STRESS_SECONDS")
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(10);
    let disk = Disk::new();
    let end = Instant::now() + Duration::from_secs(seconds);
    let kept: Mutex<HashSet<SnapshotId>> = Mutex::default();
    let stopped = AtomicBool::new(false);
    let going = || Instant::now() < end && !stopped.load(Ordering::Relaxed);
    let (saved, passes, deleted, read) = (
        AtomicU64::new(0),
        AtomicU64::new(0),
        AtomicU64::new(0),
        AtomicU64::new(0),
    );
    let failed = AtomicU64::new(0);
    /// Ends the others when one fails.
    struct Stop<'a>(&'a AtomicBool);
    impl Drop for Stop<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::Relaxed);
        }
    }
    let write = |number: u64| {
        let mut random = Random(number * 7919 + 1);
        let mut repository = disk.open(&format!("writer{number}"));
        let mut own = Vec::new();
        while going() {
            let from = random.below(80);
            let seeds: Vec<u64> = (from..from + 1 + random.below(40))
                .map(|seed| {
                    if random.below(10) == 0 {
                        10_000 + random.below(1 << 30)
                    } else {
                        seed
                    }
                })
                .collect();
            let snapshot = match back_up(&repository, &seeds) {
                Ok(snapshot) => snapshot,
                // A collection that waits for nobody took away what it wanted to use again. Nothing was promised.
                Err(RepoError::ChunkMissing(_) | RepoError::Storage(StorageError::NotFound { .. })) => {
                    failed.fetch_add(1, Ordering::Relaxed);
                    continue;
                }
                Err(error) => panic!("{error}"),
            };
            saved.fetch_add(1, Ordering::Relaxed);
            kept.lock().unwrap().insert(snapshot.id);
            own.push(snapshot.id);
            while own.len() > 6 || (!own.is_empty() && random.below(4) == 0) {
                let id = own.swap_remove(random.below(own.len() as u64) as usize);
                kept.lock().unwrap().remove(&id);
                repository.forget(id).unwrap();
            }
            if random.below(10) == 0 {
                repository = disk.open(&format!("writer{number}"));
            }
        }
    };
    let collect = || {
        let repository = disk.open("collector");
        while going() {
            let options = CollectOptions {
                allow_empty: true,
                wait_for_sessions: passes.load(Ordering::Relaxed) % 3 > 0,
                ..at_once()
            };
            let report = run(&repository, &options).unwrap();
            passes.fetch_add(1, Ordering::Relaxed);
            deleted.fetch_add(report.deleted.packs, Ordering::Relaxed);
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let restore_some = || {
        let mut random = Random(99);
        let repository = disk.open("reader");
        while going() {
            let (snapshots, bad) = repository.snapshots().unwrap();
            assert!(bad.is_empty(), "{bad:?}");
            let Some(snapshot) = snapshots.get(random.below(snapshots.len().max(1) as u64) as usize) else {
                continue;
            };
            match restore(&repository, snapshot) {
                Ok(()) => drop(read.fetch_add(1, Ordering::Relaxed)),
                // It may have been forgotten while it was read.
                Err(error) => assert!(
                    matches!(
                        repository.snapshot(snapshot.id),
                        Err(RepoError::NoSuchSnapshot(_))
                    ),
                    "{error}"
                ),
            }
        }
    };
    std::thread::scope(|scope| {
        let works: [Box<dyn FnOnce() + Send + '_>; 4] = [
            Box::new(|| write(1)),
            Box::new(|| write(2)),
            Box::new(collect),
            Box::new(restore_some),
        ];
        for work in works {
            let stopped = &stopped;
            scope.spawn(move || {
                let _stop = Stop(stopped);
                work();
            });
        }
    });
    println!(
        "{saved:?} backups ({failed:?} failed), {passes:?} collections, {deleted:?} packs deleted, {read:?} restores"
    );
    let repository = disk.open("at the end");
    let visible = check(&repository);
    assert_eq!(visible, *kept.lock().unwrap());
    assert!(saved.into_inner() > 4 && passes.into_inner() > 2 && read.into_inner() > 4);
    for _ in 0..3 {
        run(&repository, &at_once()).unwrap();
    }
    assert_eq!(check(&disk.open("after all")), visible);
}
