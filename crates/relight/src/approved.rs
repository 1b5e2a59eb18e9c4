//! What one person alone may not be enough for, on the host of a server too: it is asked for in the name of root@host, and done
//! once it was approved.

use std::collections::BTreeSet;

use jiff::Timestamp;
use relight_pbs::access::{Action, Guarded, Pass};
use relight_server::approvals::HOST;
use relight_server::config::Config;
use relight_server::gate::Gate;
use relight_server::roles::workload_path;

use crate::context::Global;
use crate::failure::{Failure, Result};
use crate::noted::served;
use crate::server_state::operator;

/// The server of this host, one of whose repositories a command works on.
pub struct Served {
    /// Its configuration.
    pub config: Config,
    /// Its name of the repository.
    pub repository: String,
}

impl Served {
    /// Where something is that is about workloads: the place of the only one, or else that of the repository.
    pub fn place<'w>(&self, workloads: impl IntoIterator<Item = &'w str>) -> String {
        let names: BTreeSet<&str> = workloads.into_iter().collect();
        let one = names.first().filter(|_| names.len() == 1);
        match one.and_then(|name| name.parse().ok()) {
            Some(workload) => workload_path(&self.repository, &workload),
            None => format!("/datastore/{}", self.repository),
        }
    }

    /// The same as [`with_leave`], of a server that is known.
    pub fn with_leave<T>(
        &self,
        action: Action,
        asked: impl FnOnce(&Self) -> Result<Option<Asked>>,
        work: impl FnOnce() -> Result<T>,
    ) -> Result<T> {
        if !self.config.approvals.required.contains(&action) {
            return work();
        }
        let Some(asked) = asked(self)? else {
            return work();
        };
        let (gate, pass) = leave(self, action, &asked)?;
        let result = work();
        if result.is_err() {
            gate.give_back(pass, Timestamp::now());
        }
        result
    }
}

/// What is about to be done.
pub struct Asked {
    /// Where: who may approve there decides on it.
    pub path: String,
    /// What, in words.
    pub subject: String,
    /// What tells it from everything else that has the same words.
    pub exact: String,
}

/// Does something that may need a second person here; `asked` says what it is, or that it is not of that kind, and is called only
/// if it matters.
///
/// # Errors
/// Nobody has approved it yet, and it was asked for by this; or what comes of doing it. Then the approval is good for another try.
pub fn with_leave<T>(
    global: &Global,
    action: Action,
    asked: impl FnOnce(&Served) -> Result<Option<Asked>>,
    work: impl FnOnce() -> Result<T>,
) -> Result<T> {
    match served(global) {
        Some(served) => served.with_leave(action, asked, work),
        None => work(),
    }
}

fn leave(served: &Served, action: Action, asked: &Asked) -> Result<(Gate, Pass)> {
    let gate = Gate::on_host(&served.config)?;
    let who = HOST
        .parse()
        .map_err(|error| Failure::Usage(format!("{HOST}: {error}")))?;
    let guarded = Guarded {
        action,
        path: &asked.path,
        subject: &format!("{}, on the host ({})", asked.subject, operator()),
        exact: &asked.exact,
        reason: None,
    };
    match gate.leave(&who, &guarded, Timestamp::now()) {
        Ok(pass) => Ok((gate, pass)),
        Err(why) => Err(Failure::Usage(format!(
            "{why}. Nothing was changed; `relight approval` decides, or breaks the glass"
        ))),
    }
}
