//! What the tests of mounts and exports share: a repository, trees and images in it, and mounts of it.
#![allow(dead_code, clippy::unwrap_used)]

pub mod nbd;
#[path = "../../../relight-pxar/tests/fs_support/tree.rs"]
pub mod tree;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64};

use relight_keys::{KeyFile, SystemEntropy};
use relight_mount::{MountOptions, Mounted};
use relight_pxar::fs::capture::CaptureOptions;
use relight_pxar::fs::compare::{CompareOptions, compare_trees};
use relight_pxar::fs::metadata::Part;
use relight_pxar::fs::progress::Progress;
use relight_repo::session::Session;
use relight_repo::settings::Settings;
use relight_repo::snapshot::{Snapshot, SnapshotSpec};
use relight_repo::storage::local::LocalStorage;
use relight_repo::{OpenOptions, Repository, keyring};
use relight_workloads::files::{self, TreeSource};
use relight_workloads::{image, stream};

pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// Fails with a plain reason where a file system cannot be mounted.
pub fn require_fuse() {
    assert!(
        Path::new("/dev/fuse").exists(),
        "this test mounts a file system: it needs /dev/fuse (modprobe fuse; in a container, the device)"
    );
    assert!(
        is_root(),
        "this test makes devices and foreign owners: it has to be run as root"
    );
}

/// Fails with a plain reason where a program is missing.
pub fn require(program: &str, package: &str) {
    assert!(
        Command::new(program).arg("--version").output().is_ok(),
        "this test needs {program} (Debian: apt-get install {package})"
    );
}

/// Runs a program that must succeed, and gives what it printed.
#[track_caller]
pub fn run(program: &str, arguments: &[&str]) -> String {
    let output = attempt(program, arguments);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {}\n{text}{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    text
}

pub fn attempt(program: &str, arguments: &[&str]) -> Output {
    Command::new(program).args(arguments).output().unwrap()
}

/// A repository in a folder, and room for what the test needs.
pub struct Lab {
    pub folder: tempfile::TempDir,
    key: KeyFile,
}

impl Lab {
    pub fn new() -> Self {
        let lab = Self {
            folder: tempfile::tempdir().unwrap(),
            key: KeyFile::generate(&mut SystemEntropy).unwrap(),
        };
        let storage = LocalStorage::create(&lab.path("repository")).unwrap();
        let now = jiff::Timestamp::now();
        keyring::initialise(&storage, &lab.key, "test", now, Settings::default()).unwrap();
        lab
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// A new, empty folder.
    pub fn folder(&self, name: &str) -> PathBuf {
        std::fs::create_dir_all(self.path(name)).unwrap();
        self.path(name)
    }

    /// Opens the repository as another process would.
    pub fn open(&self) -> Arc<Repository> {
        let storage = Arc::new(LocalStorage::open(&self.path("repository")).unwrap());
        let keys = keyring::unlock(&*storage, &self.key).unwrap().into_keys();
        let mut options = OpenOptions::new(&self.path("cache"));
        options.threads = 2;
        Repository::open(storage, keys, options).map(Arc::new).unwrap()
    }

    pub fn save_tree(&self, workload: &str, path: &Path) -> Snapshot {
        let session = self.session();
        let name = files::name_for(path, &[]);
        let sources = [TreeSource {
            name,
            path: path.to_path_buf(),
        }];
        let (archives, attributes, reports) = files::back_up(
            &session,
            &sources,
            &CaptureOptions::default(),
            None,
            &Progress::default(),
            &AtomicBool::new(false),
        )
        .unwrap();
        assert!(
            reports[0].report.problems.is_empty(),
            "{:?}",
            reports[0].report.problems
        );
        session.publish(spec(workload, attributes), archives).unwrap()
    }

    pub fn save_images(&self, workload: &str, images: &[(&str, &Path)]) -> Snapshot {
        let session = self.session();
        let (done, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        let save = |(name, path): &(&str, &Path)| {
            image::back_up(&session, name, path, None, &done, &stop)
                .unwrap()
                .archive
        };
        let archives = images.iter().map(save).collect();
        session
            .publish(spec(workload, BTreeMap::new()), archives)
            .unwrap()
    }

    pub fn save_stream(&self, workload: &str, name: &str, content: &[u8]) -> Snapshot {
        let session = self.session();
        let (done, stop) = (AtomicU64::new(0), AtomicBool::new(false));
        let archive = stream::back_up(&session, name, &mut &*content, &done, &stop).unwrap();
        session
            .publish(spec(workload, BTreeMap::new()), vec![archive])
            .unwrap()
    }

    fn session(&self) -> Session {
        Session::begin(self.open(), Arc::new(AtomicBool::new(false))).unwrap()
    }

    /// Mounts all snapshots.
    pub fn mount(&self) -> Mounted {
        require_fuse();
        let folder = self.folder("mount");
        relight_mount::mount::snapshots(self.open(), &folder, &MountOptions::default()).unwrap()
    }

    /// Changes `count` bytes, evenly spread, of each pack of that kind.
    pub fn damage_packs(&self, kind: &str, count: usize) {
        let mut folders = vec![self.path("repository/packs").join(kind)];
        let mut damaged = 0;
        while let Some(folder) = folders.pop() {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                    continue;
                }
                let mut bytes = std::fs::read(&path).unwrap();
                let step = (bytes.len() / (count + 1)).max(1);
                bytes
                    .iter_mut()
                    .skip(step)
                    .step_by(step)
                    .take(count)
                    .for_each(|byte| *byte ^= 0x40);
                std::fs::write(&path, bytes).unwrap();
                damaged += 1;
            }
        }
        assert!(damaged > 0, "there are no {kind} packs");
    }
}

fn spec(workload: &str, attributes: BTreeMap<String, String>) -> SnapshotSpec {
    SnapshotSpec {
        workload: workload.into(),
        attributes,
        ..SnapshotSpec::default()
    }
}

/// Compares every byte and every attribute.
#[track_caller]
pub fn assert_same(first: &Path, second: &Path) {
    assert_same_but(first, second, Vec::new());
}

/// The same but for some parts of the metadata.
#[track_caller]
pub fn assert_same_but(first: &Path, second: &Path, ignore: Vec<Part>) {
    let comparison = compare_trees(
        first,
        second,
        &CompareOptions {
            ignore,
            ..CompareOptions::default()
        },
        &Progress::default(),
        &AtomicBool::new(false),
    )
    .unwrap();
    let shown: Vec<_> = comparison
        .differences
        .iter()
        .take(20)
        .map(ToString::to_string)
        .collect();
    assert!(
        comparison.is_equal(),
        "{} differences: {shown:#?}",
        comparison.total
    );
    assert!(comparison.entries > 0);
}

/// Names in a folder, sorted.
pub fn names(folder: &Path) -> Vec<String> {
    let entries = std::fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}
