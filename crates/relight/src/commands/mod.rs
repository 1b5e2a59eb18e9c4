//! One file a command.

mod backup;
mod init;
mod map;
mod mount;
mod quickstart;
mod restore;
mod snapshots;

use clap::Subcommand;

use crate::context::Global;
use crate::exit::Exit;
use crate::failure::Result;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// From nothing to a proven backup in one command: protect, verify, restore, compare
    Quickstart(quickstart::Options),
    /// Make a new, encrypted repository
    Init(init::Options),
    /// Save files, disk images or a stream as a new snapshot
    Backup(backup::Options),
    /// List the snapshots
    Snapshots(snapshots::Options),
    /// Bring back a snapshot or parts of it
    Restore(restore::Options),
    /// Show all snapshots as a read-only file system
    Mount(mount::Options),
    /// Show a disk image as a read-only file or network block device
    Map(map::Options),
}

impl Command {
    /// Does it.
    pub fn run(&self, global: &Global) -> Result<Exit> {
        match self {
            Self::Quickstart(options) => quickstart::run(global, options),
            Self::Init(options) => init::run(global, options),
            Self::Backup(options) => backup::run(global, options),
            Self::Snapshots(options) => snapshots::run(global, options),
            Self::Restore(options) => restore::run(global, options),
            Self::Mount(options) => mount::run(global, options),
            Self::Map(options) => map::run(global, options),
        }
    }
}
