//! What runs work with: the plan, the repositories, the state.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;

use aws_lc_rs::digest::SHA256;
use relight_model::Workload;
use relight_model::plan::{Plan, Policy, WorkloadEntry};
use relight_model::schedule::{JobId, Schedule};
use relight_pbs::service::datastore::{Body, Datastore};
use relight_pbs::service::tasks::Tasks;
use relight_repo::snapshot::{Marks, Snapshot};

use super::code::{Code, RunFailure};
use crate::config::ApprovalsConfig;
use crate::state::State;

/// Attribute of a snapshot that a run of a server made: the server's identity and the number of the run.
const RUN: &str = "relight.run";

/// A plan in both its forms.
pub(crate) struct Planned {
    /// As it is written.
    pub plan: Plan,
    /// As jobs.
    pub schedule: Schedule,
    /// SHA-256 of the file it was read from.
    pub digest: String,
    /// What was read.
    pub text: Arc<str>,
}

/// By which a text of a plan is known: SHA-256 in hexadecimal digits.
pub(crate) fn digest(text: &str) -> String {
    hex::encode(aws_lc_rs::digest::digest(&SHA256, text.as_bytes()))
}

impl Planned {
    /// Of a plan and the text it was read from.
    pub fn new(plan: Plan, text: &str) -> Self {
        Self {
            digest: digest(text),
            text: text.into(),
            schedule: Schedule::new(&plan),
            plan,
        }
    }

    /// A workload with its policy.
    pub fn workload(&self, name: &Workload) -> Result<(&WorkloadEntry, &Policy), RunFailure> {
        let gone = || {
            RunFailure::new(
                Code::Settings,
                format!("{name} is not in the plan any more, or has no policy"),
            )
        };
        let entry = self.plan.workload(name).ok_or_else(gone)?;
        let (_, policy) = self.plan.policy_of(entry).ok_or_else(gone)?;
        Ok((entry, policy))
    }
}

/// What runs work with.
pub(crate) struct Context {
    /// The database.
    pub state: Arc<State>,
    /// The repositories that are open.
    pub datastores: BTreeMap<String, Arc<Datastore>>,
    /// The tasks that clients of the protocol see.
    pub tasks: Arc<Tasks>,
    /// This server's identity.
    pub instance: String,
    /// The name of this host.
    pub host: String,
    /// Where drills work.
    pub sandbox: PathBuf,
    /// Where what was received of logs waits until it is in a repository.
    pub logs: PathBuf,
    /// What needs a second person.
    pub approvals: ApprovalsConfig,
}

/// A snapshot and what may change about it.
pub(crate) type Found = (Arc<Body>, Option<Marks>);

impl Context {
    /// An open repository.
    pub fn datastore(&self, name: &str) -> Result<&Arc<Datastore>, RunFailure> {
        self.datastores.get(name).ok_or_else(|| {
            let why = format!(
                "the repository {name} is not open: it was added to the configuration after the server was started; restart it"
            );
            RunFailure::new(Code::NoRepository, why)
        })
    }

    /// The recovery points of a workload in a repository, oldest first.
    pub fn points(&self, datastore: &Datastore, workload: &Workload) -> Result<Vec<Found>, RunFailure> {
        let mut found = datastore.snapshots()?;
        found.retain(|(body, _)| body.snapshot.workload == workload.as_str() && !body.snapshot.is_log());
        found.sort_by_key(|(body, _)| (body.snapshot.time, body.snapshot.published, body.snapshot.id));
        Ok(found)
    }

    /// The attribute of snapshots that a run makes.
    pub fn run_attribute(&self, run: u64) -> (String, String) {
        (RUN.to_string(), format!("{}/{run}", self.instance))
    }

    /// Which run of this server made a snapshot, if one did.
    pub fn run_of(&self, snapshot: &Snapshot) -> Option<u64> {
        let (server, run) = snapshot.attributes.get(RUN)?.split_once('/')?;
        (server == self.instance).then(|| run.parse().ok())?
    }
}

/// Why a job cannot be asked for that the plan does not have.
pub fn not_planned(plan: &Plan, schedule: &Schedule, job: &JobId) -> String {
    if let Some(workload) = job.workload() {
        let entry = plan.workload(workload);
        let pushed = entry
            .and_then(|entry| plan.policy_of(entry))
            .is_some_and(|(_, policy)| policy.pushed);
        if pushed && *job == JobId::backup(workload) {
            return format!("backups of {workload} are pushed by a client: start it there");
        }
        let known: Vec<String> = schedule
            .jobs()
            .filter(|known| known.workload() == Some(workload))
            .map(ToString::to_string)
            .collect();
        if !known.is_empty() {
            return format!(
                "the plan has no {} for {workload}; there is: {}",
                job.kind(),
                known.join(", ")
            );
        }
    }
    format!("{job} is not in the plan; `relight plan show` tells what is")
}
