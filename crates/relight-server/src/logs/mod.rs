//! Logs of workloads: the server follows those that the plan promises, and keeps looking how far each reaches.
//!
//! What is recoverable is not what was received but what a look at the repository finds: windows without a hole, from a
//! snapshot that is there.

mod follow;
mod look;
mod record;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError, RwLock};

use jiff::{SignedDuration, Timestamp};
use relight_model::Workload;
use relight_model::plan::{Plan, WorkloadEntry};
use relight_workloads::kind::KeepsLog;
use relight_workloads::log::{Seen, Windows};
use serde::Serialize;

pub(crate) use follow::Followers;

use crate::kinds;

/// How often it is looked how far logs reach, at most.
const LOOK: std::time::Duration = std::time::Duration::from_secs(5);

/// What is known of the log of a workload.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Known {
    /// What can be recovered, as of the last look that succeeded. None: there is no log.
    pub windows: Option<Arc<Windows>>,
    /// Why the last look failed.
    pub failure: Option<String>,
    /// What the server does about it. None: nothing, as the plan promises no log.
    pub follower: Option<Follower>,
}

/// How following a log goes.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Follower {
    /// What is seen.
    #[serde(flatten)]
    pub seen: Seen,
    /// Why it does not run, and since when; it is tried again.
    pub failed: Option<Failed>,
}

/// Why following a log ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Failed {
    /// Since when it has been failing.
    pub since: Timestamp,
    /// Why, at the last attempt.
    pub why: String,
}

/// All that is known, by workload.
pub type All = BTreeMap<Workload, Known>;

/// What is known of logs, for others to look at.
#[derive(Default)]
pub struct Logs {
    shown: RwLock<Arc<All>>,
}

impl Logs {
    /// All that is known.
    pub fn shown(&self) -> Arc<All> {
        self.shown.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn change(&self, change: impl FnOnce(&mut All)) {
        let mut shown = self.shown.write().unwrap_or_else(PoisonError::into_inner);
        change(Arc::make_mut(&mut shown));
    }
}

/// How a log stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct LogStanding {
    /// The first moment that can be recovered.
    pub since: Option<Timestamp>,
    /// Up to when nothing is missing.
    pub reaches: Option<Timestamp>,
    /// How many gaps there are.
    pub gaps: usize,
    /// Bytes that the source keeps because they are not in the repository yet.
    pub kept: Option<u64>,
    /// What is wrong, by what it is wrong about.
    pub alarms: BTreeMap<String, String>,
}

impl LogStanding {
    /// Of what is known. `promised` is how old the newest piece of the log may become.
    pub fn of(known: &Known, promised: Option<SignedDuration>, now: Timestamp) -> Self {
        let windows = known.windows.as_deref();
        let mut alarms = BTreeMap::new();
        if let Some(gap) = windows.and_then(Windows::open_gap) {
            let cause = &gap.cause;
            let words = format!(
                "the log has a gap behind {}, and nothing after it can be recovered until there is a new backup: {cause}",
                gap.from
            );
            alarms.insert("gap".to_owned(), words);
        }
        if let Some(follower) = &known.follower {
            let seen = follower.seen.alarms.iter();
            alarms.extend(seen.map(|(about, words)| ((*about).to_owned(), words.clone())));
            if let Some(failed) = &follower.failed {
                let words = format!("the log is not followed since {}: {}", failed.since, failed.why);
                alarms.insert("follower".to_owned(), words);
            }
        }
        let reaches = windows.and_then(|windows| windows.reaches);
        if let (Some(promised), Some(reaches)) = (promised, reaches) {
            let behind = now.duration_since(reaches);
            if behind > promised + SignedDuration::try_from(LOOK * 2).unwrap_or_default() {
                let words = format!(
                    "the log reaches {reaches} only, {} ago",
                    super::standing::between(reaches, now)
                );
                alarms.insert("behind".to_owned(), words);
            }
        }
        if let Some(failure) = &known.failure {
            alarms.insert(
                "look".to_owned(),
                format!("how far the log reaches is not known: {failure}"),
            );
        }
        Self {
            since: windows.and_then(|windows| windows.intervals.iter().map(|one| one.from).min()),
            reaches,
            gaps: windows.map_or(0, |windows| windows.gaps.len()),
            kept: known.follower.as_ref().and_then(|follower| follower.seen.kept),
            alarms,
        }
    }
}

/// How the log of a workload is kept, if it has one, and in which repository.
fn kept(plan: &Plan, entry: &WorkloadEntry) -> Option<(&'static dyn KeepsLog, String)> {
    let (_, policy) = plan.policy_of(entry)?;
    let kind = kinds::method(plan, entry).and_then(kinds::of)?;
    Some((kind.log()?, policy.repository.value.clone()))
}
