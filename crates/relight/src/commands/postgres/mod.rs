//! `relight postgres`: PostgreSQL clusters.

mod attach;
mod backup;
mod check;
mod dump;
mod dump_backup;
mod expire;
mod load;
pub mod name;
mod receive;
mod restore;
mod source;
mod windows;

use clap::Subcommand;

use crate::context::Global;
use crate::exit::Exit;
use crate::failure::Result;

/// What to do with a cluster.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Look whether a cluster can be protected, say what to change, and add it to the plan
    Attach(attach::Options),
    /// Prove that what the server logs arrives in the repository
    Check(check::Options),
    /// Take a base backup
    Backup(backup::Options),
    /// Bring a cluster back as it was at any moment that can be recovered
    Restore(Box<restore::Options>),
    /// Write one database, tables of it, or the roles, as they were at any moment that can be recovered, as a dump
    Dump(Box<dump::Options>),
    /// Save a logical dump: roles, and each database as pg_dump writes it
    DumpBackup(dump_backup::Options),
    /// Bring databases of a logical dump into a server
    Load(load::Options),
    /// Take the log from the server as it is written, until stopped
    Receive(receive::Options),
    /// Let go of the log that no base backup needs; shows what would go unless told to do it
    Expire(expire::Options),
    /// Show which moments can be recovered, and where there are gaps
    Windows(windows::Options),
}

/// Does it.
pub fn run(global: &Global, command: &Command) -> Result<Exit> {
    match command {
        Command::Attach(options) => attach::run(global, options),
        Command::Check(options) => check::run(global, options),
        Command::Backup(options) => backup::run(global, options),
        Command::Restore(options) => restore::run(global, options),
        Command::Dump(options) => dump::run(global, options),
        Command::DumpBackup(options) => dump_backup::run(global, options),
        Command::Load(options) => load::run(global, options),
        Command::Receive(options) => receive::run(global, options),
        Command::Expire(options) => expire::run(global, options),
        Command::Windows(options) => windows::run(global, options),
    }
}

impl Command {
    /// What it brings back, in words for the evidence; none if it brings nothing back.
    pub fn told(&self) -> Option<String> {
        match self {
            Self::Restore(options) => Some(options.told()),
            Self::Dump(options) => Some(options.told()),
            Self::Load(options) => Some(options.told()),
            _ => None,
        }
    }
}
