//! `relight plan`: the plan in the server's configuration, checked, shown and foreseen. Nothing is started; only `edit` changes
//! something, and only over the API, which knows who may.

mod check;
mod edit;
mod next;
mod over_api;
mod promise;
mod show;
pub(super) mod words;

pub use edit::agreed;

use std::fs::File;
use std::io::Read;

use clap::Subcommand;
use relight_model::plan::{Plan, PlanErrors, Position};

use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::server_state::ConfigOptions;

/// What to do with the plan.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Tell what is wrong with it: errors in the file, promises that cannot be kept, gaps
    Check(check::Options),
    /// Show what is promised for each workload, and when it is due next
    Show(show::Options),
    /// Change the plan of another host's server: in an editor, or as a file has it
    Edit(edit::Options),
    /// Foresee which runs would be started, when, and what they would wait for
    Next(next::Options),
}

/// Does it.
pub fn run(global: &Global, command: &Command) -> Result<Exit> {
    match command {
        Command::Check(options) => check::run(global, options),
        Command::Show(options) => show::run(global, options),
        Command::Edit(options) => edit::run(global, options),
        Command::Next(options) => next::run(global, options),
    }
}

/// The text of the configuration. A plan refuses more than it can hold, so that no more than that is read.
const MOST: u64 = (16 << 20) + 1;

pub(super) fn read(config: &ConfigOptions) -> Result<String> {
    let path = config.path();
    let file = File::open(path).map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => config.missing(),
        _ => Failure::Io(format!("read the configuration {}", path.display()), error),
    })?;
    let mut text = String::new();
    file.take(MOST)
        .read_to_string(&mut text)
        .map_err(Failure::io(format!("read the configuration {}", path.display())))?;
    Ok(text)
}

/// The plan, or all that is wrong with it as one failure.
pub fn load(config: &ConfigOptions) -> Result<Plan> {
    parse(config, &read(config)?)
}

/// The plan in the text of a configuration.
pub(super) fn parse(config: &ConfigOptions, text: &str) -> Result<Plan> {
    Plan::parse(text).map_err(|PlanErrors(problems)| {
        let lines = problems
            .iter()
            .map(|problem| format!("{}: {}", place(config, problem.at), problem.message));
        Failure::Usage(format!(
            "the plan cannot be read:\n{}",
            lines.collect::<Vec<_>>().join("\n")
        ))
    })
}

/// `FILE:LINE:COLUMN`, as editors and compilers write it.
fn place(config: &ConfigOptions, at: Position) -> String {
    format!("{}:{at}", config.path().display())
}
