//! The plan: what is kept and why, what goes, and what a person must look at before.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use relight_repo::SnapshotId;
use serde::{Deserialize, Serialize};

use super::rules::Request;
use crate::failure::{Failure, Result};

/// Version of the JSON form, which `--plan` reads.
const VERSION: u32 = 1;
/// A plan for ten thousand snapshots has a few megabytes.
const MOST: u64 = 256 << 20;

/// What will be done.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Plan {
    /// Version of this form.
    pub version: u32,
    /// The repository.
    pub repository: String,
    /// When it was made.
    pub made: Timestamp,
    /// What was asked for.
    #[serde(flatten)]
    pub request: Request,
    /// What would be forgotten, in the order in which that is done.
    pub forget: Vec<SnapshotId>,
    /// What a person must look at.
    pub alarms: Vec<String>,
    /// Whether the alarms forbid the execution without consent.
    pub blocked: bool,
    /// All snapshots that it is about.
    pub workloads: Vec<Group>,
}

/// The snapshots of a workload, the newest first.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Group {
    pub workload: String,
    pub snapshots: Vec<Planned>,
}

/// What happens to a snapshot.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Planned {
    pub id: SnapshotId,
    pub time: Timestamp,
    pub keep: bool,
    /// The rules that keep it, each with its period; or why it goes.
    pub why: Vec<String>,
}

impl Plan {
    /// A plan made now.
    pub fn new(repository: String, made: Timestamp, request: Request) -> Self {
        Self {
            version: VERSION,
            repository,
            made,
            request,
            forget: Vec::new(),
            alarms: Vec::new(),
            blocked: false,
            workloads: Vec::new(),
        }
    }

    /// Refuses what an alarm forbids.
    pub fn check_alarms(&self, accepted: bool) -> Result<()> {
        if !self.blocked || accepted {
            return Ok(());
        }
        Err(Failure::Usage(format!(
            "nothing was forgotten, because {}. If that is as it should be, repeat with --accept-alarms",
            self.alarms.join("; and ")
        )))
    }
}

/// What is of interest of a plan that was made earlier.
#[derive(Debug, Deserialize)]
pub(super) struct Earlier {
    version: u32,
    repository: String,
    made: Timestamp,
    #[serde(flatten)]
    pub request: Request,
    forget: Vec<SnapshotId>,
    #[serde(skip)]
    file: PathBuf,
}

impl Earlier {
    /// Reads one.
    pub fn read(path: &PathBuf) -> Result<Self> {
        let failed = || Failure::io(format!("read {}", path.display()));
        if std::fs::metadata(path).map_err(failed())?.len() > MOST {
            return Err(no_plan(path, "it is too large"));
        }
        let bytes = std::fs::read(path).map_err(failed())?;
        let mut plan: Self =
            serde_json::from_slice(&bytes).map_err(|error| no_plan(path, &error.to_string()))?;
        if plan.version != VERSION {
            return Err(no_plan(path, "it was made by another version of Relight"));
        }
        plan.request.check()?;
        plan.file = path.clone();
        Ok(plan)
    }

    /// Refuses it if `today` differs in what it would forget.
    pub fn check(&self, today: &Plan) -> Result<()> {
        if self.repository != today.repository {
            return Err(Failure::Usage(format!(
                "the plan in {} is for repository {}, this is {}; nothing was changed",
                self.file.display(),
                self.repository,
                today.repository
            )));
        }
        let set = |ids: &[SnapshotId]| ids.iter().copied().collect::<BTreeSet<_>>();
        let (then, now) = (set(&self.forget), set(&today.forget));
        if then == now {
            return Ok(());
        }
        let shorts = |ids: Vec<&SnapshotId>| {
            let more = if ids.len() > 5 { ", …" } else { "" };
            ids.iter()
                .take(5)
                .map(|id| id.short())
                .collect::<Vec<_>>()
                .join(", ")
                + more
        };
        let mut differences = Vec::new();
        let (no_more, new) = (
            then.difference(&now).collect::<Vec<_>>(),
            now.difference(&then).collect::<Vec<_>>(),
        );
        if !no_more.is_empty() {
            differences.push(format!("would no longer forget {}", shorts(no_more)));
        }
        if !new.is_empty() {
            differences.push(format!("would also forget {}", shorts(new)));
        }
        Err(Failure::Usage(format!(
            "the plan of {} does not hold any more: today it {}. Nothing was changed; make a new plan",
            self.made,
            differences.join(" and ")
        )))
    }
}

fn no_plan(path: &Path, why: &str) -> Failure {
    Failure::Usage(format!(
        "{} is no plan that `relight forget --json` printed: {why}; nothing was changed",
        path.display()
    ))
}
