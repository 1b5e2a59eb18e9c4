//! What operators do with the server's repositories by commands, beside the server: that leaves evidence, too.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use relight_server::config::{Config, DEFAULT_PATH};
use relight_server::evidence::{Kind, NewEvidence, Outcome};
use relight_server::state::State;
use serde_json::Map;

use crate::approved::Served;
use crate::commands::Command;
use crate::commands::key;
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::Failure;
use crate::output;
use crate::server_state::operator;

/// What a command leaves in the evidence.
fn told(command: &Command) -> Option<(Kind, String)> {
    let many = |what: &str, names: &[String]| format!("{what} {}", names.join(" "));
    Some(match command {
        Command::Restore(options) if options.is_of_repository() => (Kind::Restore, options.told()),
        Command::Dump(options) => (Kind::Restore, options.told()),
        Command::Mount(_) => (
            Kind::Restore,
            "showed all snapshots as a file system (mount)".into(),
        ),
        Command::Map(options) => (
            Kind::Restore,
            format!("showed the image in {} (map)", options.snapshot),
        ),
        Command::Forget(options) if options.applies() => (Kind::Change, "forgot snapshots by command".into()),
        Command::Protect(options) => (Kind::Change, many("protected", &options.snapshots)),
        Command::Unprotect(options) => (
            Kind::Change,
            many("took the protection away from", &options.snapshots),
        ),
        Command::Postgres(command) => (Kind::Restore, command.told()?),
        Command::Key(command) => (Kind::Key, key::told(command)?),
        _ => return None,
    })
}

fn same(configured: &str, given: &str) -> bool {
    let resolved = |path: &str| std::fs::canonicalize(Path::new(path));
    configured == given
        || matches!((resolved(configured), resolved(given)), (Ok(configured), Ok(given)) if configured == given)
}

/// The server of this host, if a command works on one of its repositories.
pub fn served(global: &Global) -> Option<Served> {
    let location = global.repository.as_deref()?;
    let path = std::env::var_os("RELIGHT_CONFIG").map_or_else(|| PathBuf::from(DEFAULT_PATH), PathBuf::from);
    let config = Config::load(&path).ok()?;
    let known = config
        .repositories
        .iter()
        .find(|known| same(&known.location, location))?;
    let repository = known.name.clone();
    State::is_there(&config.server.state).then_some(Served { config, repository })
}

/// Writes down what a command did, if it worked on a repository of this host's server. A command has done what it was for by
/// then: that it cannot be written down is only said.
pub fn after(global: &Global, command: &Command, result: &Result<Exit, Failure>) {
    let Some((kind, what)) = told(command) else {
        return;
    };
    let Some(Served { config, repository }) = served(global) else {
        return;
    };
    let mut detail = Map::from_iter([("repository".to_string(), repository.into())]);
    let outcome = match result {
        Ok(Exit::Done | Exit::Incomplete) => Outcome::Done,
        Ok(_) => Outcome::Failed,
        Err(failure) => {
            detail.insert("message".into(), failure.to_string().into());
            Outcome::Failed
        }
    };
    let record = NewEvidence {
        time: Timestamp::now(),
        kind,
        who: Some(operator()),
        what,
        outcome,
        detail,
    };
    let written = State::open(&config.server.state).and_then(|state| state.add_evidence(&[record]));
    if let Err(error) = written {
        output::remark(
            global,
            &format!("this could not be written into the evidence of the server: {error}"),
        );
    }
}
