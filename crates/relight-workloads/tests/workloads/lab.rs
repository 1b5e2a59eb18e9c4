//! A repository, and workloads that go into it and come back.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use relight_keys::{KeyFile, SystemEntropy};
use relight_pxar::fs::capture::{CaptureOptions, CaptureReport};
use relight_pxar::fs::compare::{CompareOptions, compare_trees};
use relight_pxar::fs::extract::{ExtractOptions, RestoreReport};
use relight_pxar::fs::progress::Progress;
use relight_repo::control::Control;
use relight_repo::read::ChunkReader;
use relight_repo::session::Session;
use relight_repo::settings::Settings;
use relight_repo::snapshot::{Archive, Snapshot, SnapshotSpec};
use relight_repo::storage::Storage;
use relight_repo::storage::local::LocalStorage;
use relight_repo::{OpenOptions, Repository, keyring, verify};
use relight_workloads::files::{self, TreeSource};
use relight_workloads::{Result, image, stream};

/// Never set.
pub static GO_ON: AtomicBool = AtomicBool::new(false);

pub struct Lab {
    pub directory: tempfile::TempDir,
    pub storage: Arc<dyn Storage>,
    key: KeyFile,
    pub repository: Arc<Repository>,
}

impl Lab {
    /// A repository in a local directory.
    pub fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let storage = LocalStorage::create(&directory.path().join("repository")).unwrap();
        Self::within(directory, Arc::new(storage), Settings::default())
    }

    /// A repository in this storage.
    pub fn with(storage: Arc<dyn Storage>, settings: Settings) -> Self {
        Self::within(tempfile::tempdir().unwrap(), storage, settings)
    }

    fn within(directory: tempfile::TempDir, storage: Arc<dyn Storage>, settings: Settings) -> Self {
        let key = KeyFile::generate(&mut SystemEntropy).unwrap();
        keyring::initialise(&*storage, &key, "test", jiff::Timestamp::now(), settings).unwrap();
        let repository = open(&storage, &key, directory.path());
        Self {
            directory,
            storage,
            key,
            repository,
        }
    }

    /// Opens the repository anew, as another process would.
    pub fn reopen(&mut self) {
        self.repository = open(&self.storage, &self.key, self.directory.path());
    }

    /// A place beside the repository.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// An object as a file.
    pub fn object(&self, key: &str) -> PathBuf {
        self.path("repository").join(key)
    }

    pub fn reader(&self) -> Arc<ChunkReader> {
        Arc::new(ChunkReader::new(self.repository.clone()).unwrap())
    }

    pub fn session(&self) -> Session {
        Session::begin(self.repository.clone(), Arc::new(AtomicBool::new(false))).unwrap()
    }

    /// Saves trees under their names.
    pub fn save_trees(
        &self,
        sources: &[(&str, &Path)],
        parent: Option<&Snapshot>,
        retain_until: Option<jiff::Timestamp>,
    ) -> (Snapshot, Vec<CaptureReport>) {
        let session = self.session();
        let source = |(name, path): &(&str, &Path)| TreeSource {
            name: name.to_string(),
            path: path.to_path_buf(),
        };
        let sources: Vec<_> = sources.iter().map(source).collect();
        let (archives, attributes, reports) = files::back_up(
            &session,
            &sources,
            &CaptureOptions::default(),
            parent,
            &Progress::default(),
            &GO_ON,
        )
        .unwrap();
        let spec = SnapshotSpec {
            workload: "host/test".into(),
            parent: parent.map(|parent| parent.id),
            attributes,
            retain_until,
            ..SnapshotSpec::default()
        };
        let snapshot = session.publish(spec, archives).unwrap();
        (
            snapshot,
            reports.into_iter().map(|report| report.report).collect(),
        )
    }

    /// Saves one tree, of which nothing may be missing.
    pub fn save_tree(&self, path: &Path, parent: Option<&Snapshot>) -> (Snapshot, CaptureReport) {
        let (snapshot, mut reports) = self.save_trees(&[("tree", path)], parent, None);
        let report = reports.remove(0);
        assert!(
            report.problems.is_empty(),
            "{:?}",
            report.problems.iter().take(5).collect::<Vec<_>>()
        );
        (snapshot, report)
    }

    pub fn try_restore_tree(&self, snapshot: &Snapshot, name: &str, target: &Path) -> Result<RestoreReport> {
        let trees = files::trees(snapshot);
        let tree = trees.iter().find(|tree| tree.name == name).unwrap();
        let options = ExtractOptions {
            sync: false,
            ..ExtractOptions::default()
        };
        files::restore(
            &self.reader(),
            tree,
            target,
            &options,
            &Progress::default(),
            &GO_ON,
        )
    }

    /// Restores a tree and compares it with what it must be.
    #[track_caller]
    pub fn assert_tree(&self, snapshot: &Snapshot, name: &str, expected: &Path) {
        let target = tempfile::tempdir_in(self.directory.path()).unwrap();
        let restored = target.path().join("restored");
        let report = self.try_restore_tree(snapshot, name, &restored).unwrap();
        assert!(
            report.losses.is_empty(),
            "{:?}",
            report.losses.iter().take(5).collect::<Vec<_>>()
        );
        assert_same(expected, &restored);
        crate::tree::unseal(&restored);
    }

    /// Saves an image as `disk`.
    pub fn save_image(&self, path: &Path) -> Result<Snapshot> {
        let session = self.session();
        let archive = image::back_up(&session, "disk", path, None, &AtomicU64::new(0), &GO_ON)?.archive;
        Ok(session.publish(spec("vm/1"), vec![archive])?)
    }

    pub fn restore_image(&self, archive: &Archive, path: &Path, target: image::Target) -> Result<()> {
        let after = image::After {
            check: true,
            sync: false,
        };
        image::restore(
            &self.reader(),
            archive,
            path,
            target,
            after,
            &AtomicU64::new(0),
            &GO_ON,
        )
    }

    /// Saves a stream.
    pub fn save_stream(&self, source: &mut dyn std::io::Read) -> Result<Snapshot> {
        let session = self.session();
        let archive = stream::back_up(&session, "stream", source, &AtomicU64::new(0), &GO_ON)?;
        Ok(session.publish(spec("db/1"), vec![archive])?)
    }

    /// Verifies everything.
    pub fn verify(&self) -> verify::Report {
        let options = verify::Options::new(verify::Scope::Everything);
        verify::verify(&self.repository, &options, Control::quiet(&GO_ON)).unwrap()
    }
}

fn open(storage: &Arc<dyn Storage>, key: &KeyFile, cache: &Path) -> Arc<Repository> {
    let keys = keyring::unlock(&**storage, key).unwrap().into_keys();
    let mut options = OpenOptions::new(&cache.join("cache"));
    options.threads = 2;
    Arc::new(Repository::open(storage.clone(), keys, options).unwrap())
}

pub fn spec(workload: &str) -> SnapshotSpec {
    SnapshotSpec {
        workload: workload.into(),
        ..SnapshotSpec::default()
    }
}

#[track_caller]
pub fn assert_same(first: &Path, second: &Path) {
    let compared = compare_trees(
        first,
        second,
        &CompareOptions::default(),
        &Progress::default(),
        &GO_ON,
    )
    .unwrap();
    let shown: Vec<_> = compared
        .differences
        .iter()
        .take(20)
        .map(ToString::to_string)
        .collect();
    assert!(compared.is_equal(), "{} differences: {shown:#?}", compared.total);
}

/// Whether the tests run with all privileges.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A change within two seconds before a capture counts as one after it: this is how long to wait until it does not.
pub fn settle() {
    std::thread::sleep(std::time::Duration::from_millis(2100));
}

/// A copy that keeps everything.
pub fn copy(from: &Path, to: &Path) {
    let status = std::process::Command::new("cp")
        .arg("-a")
        .arg(from)
        .arg(to)
        .status()
        .unwrap();
    assert!(status.success());
}

/// Sums of lengths of all objects under a prefix.
pub fn stored(storage: &dyn Storage, prefix: &str) -> u64 {
    storage
        .list(prefix)
        .unwrap()
        .iter()
        .map(|object| object.size)
        .sum()
}

/// Random numbers that are the same for the same seed.
pub struct Dice(pub u64);

impl Dice {
    pub fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    pub fn below(&mut self, end: u64) -> u64 {
        (self.next() >> 11) % end.max(1)
    }
}

/// Writes a file of noise.
pub fn write_noise(path: &Path, dice: &mut Dice, length: u64) {
    fs::write(path, crate::tree::noise(dice.next(), length as usize)).unwrap();
}
