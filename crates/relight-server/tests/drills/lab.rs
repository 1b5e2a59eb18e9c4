//! A repository with a file tree in it, and drills of that.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use jiff::Timestamp;
use relight_keys::{KeyFile, SystemEntropy};
use relight_model::plan::{PickRule, Settings};
use relight_repo::session::Session;
use relight_repo::snapshot::{LOG, Snapshot, SnapshotSpec};
use relight_repo::storage::local::LocalStorage;
use relight_repo::{OpenOptions, Repository, keyring};
use relight_server::drills::{DrillRequest, Drilled, drill};
use relight_server::evidence::detail::DrillDetail;
use relight_workloads::files::Files;
use relight_workloads::kind::{Kind, Subject, Work};

pub struct Lab {
    pub folder: tempfile::TempDir,
    pub repository: Arc<Repository>,
    key: KeyFile,
}

impl Lab {
    /// With an empty repository, and a tree `src` of a few files.
    pub fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let key = KeyFile::generate(&mut SystemEntropy).unwrap();
        let storage = LocalStorage::create(&folder.path().join("repository")).unwrap();
        keyring::initialise(&storage, &key, "test", Timestamp::now(), Default::default()).unwrap();
        let src = folder.path().join("src");
        fs::create_dir_all(src.join("deep/er")).unwrap();
        fs::write(src.join("hello"), "hello\n").unwrap();
        let noise: Vec<u8> = (0..3_000_000u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        fs::write(src.join("deep/er/large"), noise).unwrap();
        std::os::unix::fs::symlink("hello", src.join("link")).unwrap();
        let repository = open(folder.path(), &key);
        Self {
            folder,
            repository,
            key,
        }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// The tree, drilled with these words.
    pub fn subject(&self, probe: &str) -> Subject {
        let source = format!("paths = [{:?}]", self.path("src"));
        Subject {
            workload: "fs/src".parse().unwrap(),
            source: settings(&source),
            probe: settings(probe),
        }
    }

    /// Saves it.
    pub fn save(&self) -> Snapshot {
        self.save_as(false, &[])
    }

    /// Saves it as a piece of a log, or with things missing.
    pub fn save_as(&self, log: bool, missing: &[&str]) -> Snapshot {
        let session = Session::begin(self.repository.clone(), Arc::new(AtomicBool::new(false))).unwrap();
        let captured = Files
            .capture(&self.subject(""), &session, None, &Work::quiet())
            .unwrap();
        let mut attributes = captured.attributes;
        if log {
            attributes.insert(LOG.into(), "yes".into());
        }
        let spec = SnapshotSpec {
            workload: "fs/src".into(),
            attributes,
            incomplete: missing.iter().map(ToString::to_string).collect(),
            ..SnapshotSpec::default()
        };
        session.publish(spec, captured.archives).unwrap()
    }

    pub fn drilled(&self, probe: &str) -> Drilled {
        Drilled {
            subject: self.subject(probe),
            pick: PickRule::Latest,
            rto: Some("1 h".parse().unwrap()),
            host: None,
            stage: None,
        }
    }

    pub fn sandboxes(&self) -> PathBuf {
        self.path("sandbox")
    }

    /// Asks for a drill as `change` says.
    pub fn drill(
        &self,
        kind: &dyn Kind,
        probe: &str,
        change: impl FnOnce(&mut DrillRequest<'_>),
    ) -> DrillDetail {
        self.watched(kind, probe, &Work::quiet(), change)
    }

    pub fn watched(
        &self,
        kind: &dyn Kind,
        probe: &str,
        work: &Work,
        change: impl FnOnce(&mut DrillRequest<'_>),
    ) -> DrillDetail {
        let sandboxes = self.sandboxes();
        let mut request = DrillRequest::new(
            7,
            self.drilled(probe),
            ("main", &self.repository),
            kind,
            &sandboxes,
            Timestamp::now(),
        );
        change(&mut request);
        let detail = drill(&request, work);
        if !request.keep {
            assert_eq!(left(&sandboxes), Vec::<String>::new(), "{detail:?}");
            assert!(detail.torn_down, "{detail:?}");
        }
        detail
    }

    /// Flips a byte in the middle of each pack of data.
    pub fn damage(&mut self) {
        let packs = self.path("repository/packs/data");
        let mut files = Vec::new();
        list(&packs, &mut files);
        assert!(!files.is_empty());
        for file in files {
            let mut bytes = fs::read(&file).unwrap();
            let at = bytes.len() / 2;
            bytes[at] ^= 0x40;
            fs::write(&file, bytes).unwrap();
        }
        self.reopen();
    }

    /// Removes all packs of data.
    pub fn lose(&mut self) {
        fs::remove_dir_all(self.path("repository/packs/data")).unwrap();
        self.reopen();
    }

    fn reopen(&mut self) {
        self.repository = open(self.folder.path(), &self.key);
    }
}

fn open(folder: &Path, key: &KeyFile) -> Arc<Repository> {
    let storage = Arc::new(LocalStorage::open(&folder.join("repository")).unwrap());
    let keys = keyring::unlock(&*storage, key).unwrap().into_keys();
    let mut options = OpenOptions::new(&folder.join("cache"));
    options.threads = 2;
    Arc::new(Repository::open(storage, keys, options).unwrap())
}

pub fn settings(words: &str) -> Settings {
    Settings::new(words.parse::<toml::Table>().unwrap())
}

/// What lies in the folder for sandboxes.
pub fn left(sandboxes: &Path) -> Vec<String> {
    let entries = fs::read_dir(sandboxes).into_iter().flatten();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.filter(|name| name != ".lock").collect()
}

fn list(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            list(&path, files);
        } else {
            files.push(path);
        }
    }
}
