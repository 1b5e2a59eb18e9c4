//! What the plan's own rules let go of in a repository: for the runs that forget it, and for whoever forgets by hand, who needs
//! nobody's approval for that.

use std::collections::BTreeSet;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use relight_model::Workload;
use relight_model::plan::{Plan, WorkloadEntry};
use relight_model::retention::{self, Candidate, Guards, Policy};
use relight_repo::snapshot::Snapshot;
use relight_repo::{RepoError, Repository, SnapshotId};
use relight_workloads::WorkloadError;
use relight_workloads::kind::KeepsLog;

use super::Board;
use crate::approvals;
use crate::config::Config;
use crate::error::{Result, ServerError};
use crate::kinds;
use crate::state::State;

/// The rules that hold for a workload in a repository: those of its policy where that is its first one, those of a copy
/// otherwise.
fn rules<'p>(plan: &'p Plan, entry: &WorkloadEntry, repository: &str) -> Option<&'p Policy> {
    let (_, policy) = plan.policy_of(entry)?;
    if policy.repository.value == repository {
        return Some(&policy.retention.value);
    }
    let copy = policy
        .copies
        .iter()
        .find(|copy| copy.repository.value == repository)?;
    Some(
        copy.retention
            .as_ref()
            .map_or(&policy.retention.value, |own| &own.value),
    )
}

/// The log of a workload, if it has one, and how far back any moment of it is promised.
pub(super) fn log_of(
    plan: &Plan,
    entry: &WorkloadEntry,
) -> (Option<&'static dyn KeepsLog>, Option<SignedDuration>) {
    let log = kinds::method(plan, entry)
        .and_then(kinds::of)
        .and_then(|kind| kind.log());
    let promised = plan
        .policy_of(entry)
        .and_then(|(_, policy)| policy.point_in_time.as_ref());
    let span = promised.and_then(|promised| SignedDuration::try_from(promised.value.duration()).ok());
    (log, span)
}

/// The recovery points of a workload in a repository that must stay so that any moment can be recovered of the time that its
/// policy promises that for.
///
/// # Errors
/// What is there cannot be read: then nothing may be forgotten.
pub(crate) fn log_needs(
    plan: &Plan,
    entry: &WorkloadEntry,
    repository: &Arc<Repository>,
) -> std::result::Result<BTreeSet<SnapshotId>, WorkloadError> {
    match log_of(plan, entry) {
        (Some(log), Some(promised)) => log.needed(repository, &entry.name.value, promised),
        _ => Ok(BTreeSet::new()),
    }
}

/// Judges the snapshots of a repository by a plan.
pub(super) struct Judge<'a> {
    plan: &'a Plan,
    name: &'a str,
    repository: &'a Arc<Repository>,
    /// Each with whether it is protected.
    all: Vec<(&'a Snapshot, bool)>,
    guards: Guards,
}

impl<'a> Judge<'a> {
    /// Of a repository, by its name in the plan, with all its snapshots, each with whether it is protected.
    pub fn new(
        plan: &'a Plan,
        name: &'a str,
        repository: &'a Arc<Repository>,
        mut all: Vec<(&'a Snapshot, bool)>,
    ) -> Self {
        all.retain(|(snapshot, _)| !snapshot.is_log());
        all.sort_by_key(|(snapshot, _)| (snapshot.time, snapshot.published, snapshot.id));
        let now = repository.now();
        // Whoever dates a snapshot into the future must not be able to switch retention off.
        let skew = SignedDuration::from_mins(5);
        let published = all.iter().map(|(snapshot, _)| snapshot.published);
        let trusted = published.filter(|time| time.duration_since(now) <= skew).max();
        Self {
            plan,
            name,
            repository,
            all,
            guards: Guards::new(now, trusted),
        }
    }

    /// What stays of a workload, and what goes. None: the plan does not keep it in this repository.
    ///
    /// # Errors
    /// Its log cannot be read: then nobody knows what that needs, and nothing may go.
    pub fn of(
        &self,
        entry: &WorkloadEntry,
    ) -> Option<std::result::Result<retention::Plan<SnapshotId>, WorkloadError>> {
        let workload = &entry.name.value;
        let rules = rules(self.plan, entry, self.name)?;
        let needed = match log_needs(self.plan, entry, self.repository) {
            Ok(needed) => needed,
            Err(error) => return Some(Err(error)),
        };
        let candidates = self.candidates(workload, &needed);
        Some(Ok(retention::plan(
            rules,
            &self.plan.time_zone,
            &self.guards,
            candidates,
        )))
    }

    fn candidates(
        &self,
        workload: &Workload,
        needed: &BTreeSet<SnapshotId>,
    ) -> impl Iterator<Item = Candidate<SnapshotId>> {
        let points = self
            .all
            .iter()
            .filter(move |(snapshot, _)| snapshot.workload == workload.as_str());
        (0..).zip(points).map(|(sequence, (snapshot, protected))| {
            let promised = snapshot.retain_until.is_some_and(|until| until > self.guards.now);
            Candidate {
                id: snapshot.id,
                group: snapshot.workload.clone(),
                time: snapshot.time,
                sequence,
                protected: *protected || promised || needed.contains(&snapshot.id),
                good: snapshot.incomplete.is_empty(),
            }
        })
    }
}

/// What the plan of a server forgets anyway of one of its repositories, at its next run that does: everything else is gone early
/// if somebody forgets it. Of a plan that waits for approval, and of a workload with an alarm, that is nothing.
///
/// # Errors
/// Plan, state or repository cannot be read.
pub fn due(config: &Config, name: &str, repository: &Arc<Repository>) -> Result<BTreeSet<SnapshotId>> {
    let planned = Board::open(config)?.planned();
    let state = State::open(&config.server.state)?;
    if approvals::held(&state, &config.approvals, &planned, Timestamp::now())?.is_some() {
        return Ok(BTreeSet::new());
    }
    let failed = |error: RepoError| ServerError::Repository {
        name: name.to_owned(),
        why: error.to_string(),
    };
    let (snapshots, _) = repository.snapshots().map_err(failed)?;
    let marked = repository.marked().map_err(failed)?;
    let mut all = Vec::with_capacity(snapshots.len());
    for snapshot in &snapshots {
        let protected =
            marked.contains(&snapshot.id) && repository.marks(snapshot.id).map_err(failed)?.protected;
        all.push((snapshot, protected));
    }
    let judge = Judge::new(&planned.plan, name, repository, all);
    let mut gone = BTreeSet::new();
    for made in planned.plan.workloads.iter().filter_map(|entry| judge.of(entry)) {
        let made = made.map_err(|error| ServerError::Refused(error.to_string()))?;
        if !made.is_blocked() {
            gone.extend(made.removed().map(|candidate| candidate.id));
        }
    }
    Ok(gone)
}

/// How far back the plan of a server promises any moment of a log; none: as far as the base backups reach. Nothing of a workload
/// that the plan does not know, and of a plan that waits for approval: then nothing goes anyway.
///
/// # Errors
/// Plan or state cannot be read.
pub fn promised(config: &Config, workload: &Workload) -> Result<Option<Option<SignedDuration>>> {
    let planned = Board::open(config)?.planned();
    let state = State::open(&config.server.state)?;
    if approvals::held(&state, &config.approvals, &planned, Timestamp::now())?.is_some() {
        return Ok(None);
    }
    let entry = planned.plan.workload(workload);
    Ok(entry.map(|entry| log_of(&planned.plan, entry).1))
}
