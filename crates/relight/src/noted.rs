//! What operators do with the server's repositories by commands, beside the server: that leaves evidence, too.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use relight_server::config::{Config, DEFAULT_PATH};
use relight_server::evidence::{Kind, NewEvidence, Outcome};
use relight_server::state::State;
use serde_json::Map;

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

/// Writes down what a command did, if it worked on a repository of this host's server. A command has done what it was for by
/// then: that it cannot be written down is only said.
pub fn after(global: &Global, command: &Command, result: &Result<Exit, Failure>) {
    let (Some((kind, what)), Some(location)) = (told(command), global.repository.as_deref()) else {
        return;
    };
    let path = std::env::var_os("RELIGHT_CONFIG").map_or_else(|| PathBuf::from(DEFAULT_PATH), PathBuf::from);
    let Ok(config) = Config::load(&path) else {
        return;
    };
    let Some(repository) = config
        .repositories
        .iter()
        .find(|known| same(&known.location, location))
    else {
        return;
    };
    if !State::is_there(&config.server.state) {
        return;
    }
    let mut detail = Map::from_iter([("repository".to_string(), repository.name.clone().into())]);
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
