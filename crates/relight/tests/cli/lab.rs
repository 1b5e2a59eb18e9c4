//! A repository, its key, and something to save.

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};

use relight_keys::{KeyFile, SystemEntropy};
use serde_json::Value;
use tempfile::TempDir;

/// A folder with a repository `repo`, its key file `key`, caches, and a tree `src`.
pub struct Lab {
    pub folder: TempDir,
}

/// What a run of the program gave.
pub struct Run {
    pub code: i32,
    pub out: Vec<u8>,
    pub err: String,
    what: String,
}

impl Lab {
    /// With an empty repository and an empty tree.
    pub fn new() -> Self {
        let lab = Self::bare();
        lab.run(&["init"]).ok();
        lab
    }

    /// With a key and an empty tree, and no repository yet.
    pub fn bare() -> Self {
        let lab = Self {
            folder: tempfile::tempdir().unwrap(),
        };
        lab.make_key("key");
        fs::create_dir(lab.path("src")).unwrap();
        lab
    }

    /// With a small tree, saved once as `host/lab`.
    pub fn saved() -> Self {
        let lab = Self::new();
        fs::create_dir_all(lab.path("src/docs/deep")).unwrap();
        fs::write(lab.path("src/hello.txt"), "hello\n").unwrap();
        fs::write(lab.path("src/docs/big"), noise(1, 3_000_000)).unwrap();
        fs::write(lab.path("src/docs/deep/note"), "note\n").unwrap();
        std::os::unix::fs::symlink("hello.txt", lab.path("src/link")).unwrap();
        lab.save();
        lab
    }

    /// Draws a key file.
    pub fn make_key(&self, name: &str) {
        KeyFile::generate(&mut SystemEntropy)
            .unwrap()
            .create(&self.path(name))
            .unwrap();
    }

    /// A path in the folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Saves the tree and gives the new snapshot's short id.
    pub fn save(&self) -> String {
        self.save_with(&[])
    }

    /// The same with more options.
    pub fn save_with(&self, more: &[&str]) -> String {
        let src = self.path("src");
        let mut arguments = vec!["backup", src.to_str().unwrap(), "-w", "host/lab", "--json"];
        arguments.extend(more);
        self.run(&arguments).json()["short_id"]
            .as_str()
            .unwrap()
            .to_string()
    }

    /// The program, ready to run in this folder.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_relight"));
        for (name, _) in std::env::vars_os() {
            let text = name.to_string_lossy();
            if text.starts_with("RELIGHT_") || text.starts_with("AWS_") {
                command.env_remove(name);
            }
        }
        command
            .args(arguments)
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .env("RELIGHT_REPOSITORY", self.path("repo"))
            .env("RELIGHT_KEY_FILE", self.path("key"))
            .env("RELIGHT_CACHE_DIR", self.path("cache"))
            .env("TZ", "UTC");
        command
    }

    /// Runs the program.
    pub fn run(&self, arguments: &[&str]) -> Run {
        Run::of(arguments, self.command(arguments).output().unwrap())
    }

    /// Runs it without the key.
    pub fn run_without_key(&self, arguments: &[&str]) -> Run {
        Run::of(
            arguments,
            self.command(arguments)
                .env_remove("RELIGHT_KEY_FILE")
                .output()
                .unwrap(),
        )
    }

    /// Every file of the repository with its bytes.
    pub fn repository_files(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        files(&self.path("repo"))
    }

    /// All packs of a kind (`data` or `metadata`), the largest first.
    pub fn packs(&self, kind: &str) -> Vec<PathBuf> {
        let folder = format!("/packs/{kind}/");
        let mut packs: Vec<PathBuf> = self
            .repository_files()
            .into_keys()
            .filter(|path| path.to_str().unwrap().contains(&folder))
            .collect();
        packs.sort_by_key(|path| std::cmp::Reverse(fs::metadata(path).unwrap().size()));
        packs
    }
}

impl Run {
    /// What a command with these arguments gave.
    pub fn of(arguments: &[&str], output: Output) -> Self {
        Self {
            code: output.status.code().unwrap_or(-1),
            out: output.stdout,
            err: String::from_utf8_lossy(&output.stderr).into_owned(),
            what: arguments.join(" "),
        }
    }

    /// It must have ended with this code.
    #[track_caller]
    pub fn code(self, code: i32) -> Self {
        assert_eq!(
            self.code,
            code,
            "relight {}\n{}\n{}",
            self.what,
            self.text(),
            self.err
        );
        self
    }

    /// It must have been done.
    #[track_caller]
    pub fn ok(self) -> Self {
        self.code(0)
    }

    /// It must have failed, saying this.
    #[track_caller]
    pub fn fails(self, says: &str) -> Self {
        let run = self.code(1);
        assert!(
            run.err.contains(says),
            "relight {}: {:?} does not say {says:?}",
            run.what,
            run.err
        );
        run
    }

    /// What it printed.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.out).into_owned()
    }

    /// What it printed, as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        assert!(!self.out.is_empty(), "relight {}: {}", self.what, self.err);
        serde_json::from_slice(&self.out)
            .unwrap_or_else(|error| panic!("relight {}: {error}: {}", self.what, self.text()))
    }
}

/// Every file below a folder with its bytes.
pub fn files(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let (mut found, mut todo) = (BTreeMap::new(), vec![folder.to_path_buf()]);
    while let Some(folder) = todo.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                todo.push(path);
            } else {
                found.insert(path.clone(), fs::read(path).unwrap());
            }
        }
    }
    found
}

/// Bytes that do not compress, the same for the same seed.
pub fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1;
    let next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 32) as u8
    };
    std::iter::repeat_with(next).take(length).collect()
}
