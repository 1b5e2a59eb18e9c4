//! `/api/v1`: what the page shows and does, as JSON, for programs too. Its description (OpenAPI) is made from the same table
//! as its routes.

mod approvals;
mod clusters;
mod download;
mod drills;
mod evidence;
mod keys;
mod operation;
mod overview;
mod paths;
mod people;
mod people_edit;
mod plan;
mod plan_edit;
mod plan_text;
mod point;
mod point_edit;
mod points;
mod providers;
mod recovery_key;
mod reports;
mod repositories;
mod restores;
mod runs;
mod schema;
mod second_factor;
mod session;
mod sight;
mod workloads;

use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use relight_model::plan::{Plan, WorkloadEntry};
use relight_pbs::service::http::{ApiError, Router};

use crate::config::{RepositoryConfig, RestoreConfig};
use crate::error::ServerError;
use crate::gate::Gate;
use crate::runs::{Board, Context};
use crate::standing::{History, Standing};
pub(crate) use download::Downloads;
use operation::Table;
pub(crate) use point::Open;

/// What calls are answered from.
pub(crate) struct Desk {
    /// Who may do what, and the state.
    pub gate: Arc<Gate>,
    /// The plan that holds, and what runs.
    pub board: Board,
    /// The repositories that are open, and the state.
    pub context: Arc<Context>,
    /// What has become of every job.
    pub history: Mutex<History>,
    /// Repositories as they are configured.
    pub repositories: Vec<RepositoryConfig>,
    /// The file with the plan.
    pub plan: PathBuf,
    /// Where may be restored to.
    pub restore: RestoreConfig,
    /// Recovery points that were looked into lately.
    pub open: Open,
    /// Downloads that are under way.
    pub downloads: Downloads,
}

impl Desk {
    /// How every workload of a plan stands.
    fn standings(&self, plan: &Plan, now: Timestamp) -> Result<Vec<Standing>, ApiError> {
        Ok(self.followed(plan)?.standings(plan, now))
    }

    /// How one of them stands.
    fn standing(&self, plan: &Plan, entry: &WorkloadEntry, now: Timestamp) -> Result<Standing, ApiError> {
        Ok(self.followed(plan)?.standing(plan, entry, now))
    }

    fn followed(&self, plan: &Plan) -> Result<MutexGuard<'_, History>, ApiError> {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        history.follow(self.gate.state(), plan).map_err(failed)?;
        history.see_logs(self.board.logs.shown());
        Ok(history)
    }
}

/// Adds the routes.
pub(crate) fn routes(router: &mut Router, desk: Arc<Desk>) {
    let mut table = Table::new(router, desk);
    session::operations(&mut table);
    second_factor::operations(&mut table);
    providers::operations(&mut table);
    overview::operations(&mut table);
    workloads::operations(&mut table);
    points::operations(&mut table);
    point_edit::operations(&mut table);
    download::operations(&mut table);
    restores::operations(&mut table);
    clusters::operations(&mut table);
    runs::operations(&mut table);
    drills::operations(&mut table);
    evidence::operations(&mut table);
    repositories::operations(&mut table);
    plan::operations(&mut table);
    approvals::operations(&mut table);
    people::operations(&mut table);
    people_edit::operations(&mut table);
    plan_edit::operations(&mut table);
    reports::operations(&mut table);
    keys::operations(&mut table);
    recovery_key::operations(&mut table);
    table.describe();
}

/// What the state refuses, as callers see it.
fn failed(error: ServerError) -> ApiError {
    crate::rest::failed(error)
}

/// So many of a list at once, if nothing is said.
const FEW: u32 = 50;
/// So many at most.
const MANY: u32 = 200;

/// How many of a list are asked for.
///
/// # Errors
/// 400: none, or more than [`MANY`].
fn limit(asked: Option<u32>) -> Result<usize, ApiError> {
    match asked.unwrap_or(FEW) {
        limit @ 1..=MANY => Ok(limit as usize),
        other => Err(ApiError::bad_request(format!(
            "limit = {other}: ask for 1 to {MANY} at once, and for more with what `next` says"
        ))),
    }
}
