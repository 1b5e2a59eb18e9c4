//! Folders to restore into, and what to look for in them.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use relight_pxar::fs::extract::{ConflictPolicy, ExtractOptions};
use relight_pxar::metadata::Metadata;

pub fn names(path: &Path) -> Vec<String> {
    let mut names: Vec<_> = fs::read_dir(path)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect();
    names.sort();
    names
}

pub fn with(conflict: ConflictPolicy, resume: bool) -> ExtractOptions {
    ExtractOptions {
        conflict,
        resume,
        ..ExtractOptions::default()
    }
}

pub fn no_temporaries(root: &Path) {
    let found = Command::new("find")
        .arg(root)
        .args(["-name", ".relight-restore.*"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8_lossy(&found.stdout), "");
}

/// Source and target folders, and one next to them that must stay as it is.
pub struct Places {
    pub _scratch: tempfile::TempDir,
    pub source: PathBuf,
    pub target: PathBuf,
    pub outside: PathBuf,
}

pub fn places() -> Places {
    let scratch = tempfile::tempdir().unwrap();
    let [source, target, outside] = ["source", "target", "outside"].map(|name| scratch.path().join(name));
    for path in [&source, &target, &outside] {
        fs::create_dir(path).unwrap();
    }
    Places {
        _scratch: scratch,
        source,
        target,
        outside,
    }
}

pub const DIRECTORY: u32 = 0o040_755;
pub const FILE: u32 = 0o100_644;
pub const LINK: u32 = 0o120_777;

pub fn of_mode(mode: u32) -> Metadata {
    Metadata {
        mode,
        ..Metadata::default()
    }
}
