//! A repository for tests.
#![allow(dead_code, reason = "each test uses a part of it")]

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use relight_keys::{KeyFile, SystemEntropy};
use relight_repo::read::ChunkReader;
use relight_repo::session::Session;
use relight_repo::settings::Settings;
use relight_repo::snapshot::{Snapshot, SnapshotSpec};
use relight_repo::storage::local::LocalStorage;
use relight_repo::{OpenOptions, Repository, keyring};
use relight_workloads::kind::Captured;

/// The workload of all snapshots.
pub const WORKLOAD: &str = "pg/test";

/// The same.
pub fn workload() -> relight_model::Workload {
    WORKLOAD.parse().unwrap()
}

pub struct Repo {
    pub repository: Arc<Repository>,
    pub directory: tempfile::TempDir,
}

impl Repo {
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let storage = Arc::new(LocalStorage::create(&directory.path().join("repository")).unwrap());
        let key = KeyFile::generate(&mut SystemEntropy).unwrap();
        keyring::initialise(
            &*storage,
            &key,
            "test",
            jiff::Timestamp::now(),
            Settings::default(),
        )
        .unwrap();
        let keys = keyring::unlock(&*storage, &key).unwrap().into_keys();
        let options = OpenOptions::new(&directory.path().join("cache"));
        let repository = Arc::new(Repository::open(storage, keys, options).unwrap());
        Self {
            repository,
            directory,
        }
    }

    pub fn reader(&self) -> Arc<ChunkReader> {
        self.repository.refresh().unwrap();
        Arc::new(ChunkReader::new(self.repository.clone()).unwrap())
    }

    /// Publishes what `capture` gives.
    pub fn try_save(
        &self,
        capture: impl FnOnce(&Session) -> relight_postgres::Result<Captured>,
    ) -> relight_postgres::Result<Snapshot> {
        let session = Session::begin(self.repository.clone(), Arc::new(AtomicBool::new(false))).unwrap();
        let captured = capture(&session)?;
        let spec = SnapshotSpec {
            workload: WORKLOAD.into(),
            time: captured.time,
            host: "test".into(),
            attributes: captured.attributes,
            incomplete: captured.incomplete,
            ..SnapshotSpec::default()
        };
        Ok(session.publish(spec, captured.archives)?)
    }

    pub fn save(&self, capture: impl FnOnce(&Session) -> relight_postgres::Result<Captured>) -> Snapshot {
        self.try_save(capture).unwrap()
    }
}

impl Repo {
    /// The content of a small archive.
    pub fn blob(&self, snapshot: &Snapshot, name: &str) -> Vec<u8> {
        let root = snapshot.archive(name).unwrap().root;
        let mut bytes = vec![0; root.size as usize];
        relight_repo::read::ArchiveReader::new(self.reader(), root)
            .read_exact_at(&mut bytes, 0)
            .unwrap();
        bytes
    }
}

impl Repo {
    /// The content of a file of a base backup.
    pub fn file(
        &self,
        snapshot: &Snapshot,
        list: &relight_postgres::base::files::FileList,
        path: &str,
    ) -> Vec<u8> {
        use relight_postgres::base::files::EntryKind;
        let entry = list.entries.iter().find(|entry| entry.path == path).unwrap();
        let EntryKind::File { size, offset } = entry.kind else {
            panic!("{path} is no file")
        };
        let root = snapshot.archive(relight_postgres::base::CONTENT).unwrap().root;
        let mut bytes = vec![0; size as usize];
        relight_repo::read::ArchiveReader::new(self.reader(), root)
            .read_exact_at(&mut bytes, offset)
            .unwrap();
        bytes
    }
}
