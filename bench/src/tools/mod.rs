//! The tools that are measured, each as the commands it takes for one step.
//!
//! All run with encryption on and with comparable compression, on a repository on the same file system as the
//! source, with their own empty home and cache, at their defaults otherwise.

mod borg;
mod relight;
mod restic;
mod rustic;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::failure::{Doing, Failure, Result};

/// A tool that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ToolName {
    /// This project.
    Relight,
    /// restic, in Go.
    Restic,
    /// rustic, in Rust, on restic's format.
    Rustic,
    /// Borg, in Python and C.
    Borg,
}

/// The passphrase of all repositories here. They hold generated data only.
const PASSPHRASE: &str = "benchmark repositories hold nothing secret";

impl ToolName {
    /// All of them, this project first.
    pub const ALL: [Self; 4] = [Self::Relight, Self::Restic, Self::Rustic, Self::Borg];

    /// The name in tables, which is that of the program too.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Relight => "relight",
            Self::Restic => "restic",
            Self::Rustic => "rustic",
            Self::Borg => "borg",
        }
    }
}

/// What a tool works on.
pub struct Source<'a> {
    /// The directory that is backed up.
    pub root: &'a Path,
    /// The disk image in it, when the set of data is one.
    pub image: Option<&'a Path>,
}

/// One thing a tool is asked to do.
pub enum Task<'a> {
    /// Make the repository.
    Init,
    /// Back the source up. The number tells the backups of a run apart.
    Backup(&'a Source<'a>, u32),
    /// Restore the newest snapshot, the backup of that number, into an empty directory.
    RestoreAll(&'a Source<'a>, u32, &'a Path),
    /// Restore the newest snapshot and compare what was written with what was saved. Only Relight can.
    CheckedRestore(&'a Path),
    /// Restore one file of it.
    RestoreOne(&'a Path, u32, &'a Path),
    /// Read and check all data.
    Verify,
    /// Forget all snapshots but the newest, and give back the space.
    Collect,
}

/// A tool set up to work on one repository.
pub struct Tool {
    /// Which tool.
    pub name: ToolName,
    program: PathBuf,
    /// Its repository.
    pub repository: PathBuf,
    home: PathBuf,
    password_file: PathBuf,
}

impl Tool {
    /// Sets `name` up with everything it keeps under `place`, which is created.
    pub fn new(name: ToolName, program: &Path, place: &Path) -> Result<Self> {
        let tool = Self {
            name,
            program: program.to_owned(),
            repository: place.join("repository"),
            home: place.join("home"),
            password_file: place.join("passphrase"),
        };
        fs::create_dir_all(&tool.home).doing(|| format!("create {}", tool.home.display()))?;
        fs::write(&tool.password_file, PASSPHRASE).doing(|| "write the passphrase file".to_owned())?;
        let private = std::os::unix::fs::PermissionsExt::from_mode(0o600);
        fs::set_permissions(&tool.password_file, private)
            .doing(|| "protect the passphrase file".to_owned())?;
        Ok(tool)
    }

    /// The commands for a task, to be run one after the other.
    pub fn commands(&self, task: &Task<'_>) -> Vec<Command> {
        match self.name {
            ToolName::Relight => relight::commands(self, task),
            ToolName::Restic => restic::commands(self, task),
            ToolName::Rustic => rustic::commands(self, task),
            ToolName::Borg => borg::commands(self, task),
        }
    }

    /// The program with a clean environment: nothing of the caller's configuration or caches has a part in it.
    fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .env("LANG", "C.UTF-8")
            .env("HOME", &self.home)
            .env("XDG_CACHE_HOME", self.home.join("cache"))
            .env("XDG_CONFIG_HOME", self.home.join("config"))
            .env("XDG_DATA_HOME", self.home.join("data"))
            .env("XDG_STATE_HOME", self.home.join("state"));
        command
    }
}

/// Finds the program of a tool in `directories`, then in `PATH`.
pub fn find_program(name: ToolName, directories: &[PathBuf]) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let in_path: Vec<PathBuf> = std::env::split_paths(&path).collect();
    directories
        .iter()
        .chain(&in_path)
        .map(|directory| directory.join(name.name()))
        .find(|program| program.is_file())
        .ok_or_else(|| {
            Failure::new(format!(
                "{} is not installed: start this through bench/run, or leave it out with --tools",
                name.name()
            ))
        })
}

/// What the program says its version is, on one line.
pub fn version(name: ToolName, program: &Path) -> Result<String> {
    let argument = if name == ToolName::Restic {
        "version"
    } else {
        "--version"
    };
    let doing = || format!("ask {} for its version", program.display());
    let output = Command::new(program).arg(argument).output().doing(doing)?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(text.lines().next().unwrap_or_default().trim().to_owned())
}
