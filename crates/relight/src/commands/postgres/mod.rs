//! `relight postgres`: PostgreSQL clusters.

pub mod name;
mod windows;

use clap::Subcommand;

use crate::context::Global;
use crate::exit::Exit;
use crate::failure::Result;

/// What to do with a cluster.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Show which moments can be recovered, and where there are gaps
    Windows(windows::Options),
}

/// Does it.
pub fn run(global: &Global, command: &Command) -> Result<Exit> {
    match command {
        Command::Windows(options) => windows::run(global, options),
    }
}
