//! What was measured, for the plan's checker: sizes, lengths of runs, speeds, drills.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{Timestamp, ToSpan};
use relight_model::check::{Facts, RepositoryFacts, WorkloadFacts};
use relight_model::objective::forecast::Measurement;
use relight_model::plan::Plan;
use relight_model::schedule::{JobId, RunKind};
use relight_model::{ByteSize, Rate, TimeSpan};

use crate::error::Result;
use crate::evidence::Kind;
use crate::evidence::detail::{DrillDetail, Ended};
use crate::state::{EvidenceFilter, Run, RunFilter, State};

/// So many of the newest backups of a workload count: what was before is another machine.
const NEWEST: u32 = 10;
/// Of a run that moved less, the time says nothing about speed.
const WORTH_MEASURING: u64 = 64 << 20;
/// So far back drills count, in days.
const DRILLS: i64 = 3 * 366;

/// Bytes and the time they took.
#[derive(Default, Clone, Copy)]
struct Moved {
    bytes: u64,
    time: Duration,
}

impl Moved {
    fn add(&mut self, bytes: u64, time: Duration) {
        if bytes >= WORTH_MEASURING {
            self.bytes = self.bytes.saturating_add(bytes);
            self.time = self.time.saturating_add(time);
        }
    }

    fn rate(self) -> Option<Rate> {
        Rate::of(self.bytes, self.time).filter(|_| self.bytes > 0)
    }
}

fn took(run: &Run) -> Duration {
    let took = run.ended.map(|ended| ended.duration_since(run.started));
    took.and_then(|took| Duration::try_from(took).ok())
        .unwrap_or_default()
}

/// What was measured of what a plan protects.
///
/// # Errors
/// The state cannot be read.
pub fn facts(state: &State, plan: &Plan, now: Timestamp) -> Result<Facts> {
    let mut facts = Facts::at(now);
    let mut backups: BTreeMap<String, Moved> = BTreeMap::new();
    let mut restores: BTreeMap<String, Moved> = BTreeMap::new();
    for entry in &plan.workloads {
        let Some((_, policy)) = plan.policy_of(entry) else {
            continue;
        };
        let name = &entry.name.value;
        let filter = RunFilter {
            workload: Some(name.to_string()),
            job: Some(JobId::backup(name)),
            kind: Some(RunKind::Backup),
            outcome: Some(Ended::Good),
            limit: Some(NEWEST),
            ..RunFilter::default()
        };
        let runs = state.runs(&filter)?;
        let Some(newest) = runs.first() else {
            continue;
        };
        let moved = backups.entry(policy.repository.value.clone()).or_default();
        for run in &runs {
            moved.add(run.figures.added.unwrap_or(0), took(run));
        }
        let known = WorkloadFacts {
            size: newest.figures.size.map(ByteSize),
            // Of what clients push only the capture's begin and the end are known, which is what counts here.
            backup_time: runs.iter().map(took).max().map(TimeSpan),
            ..WorkloadFacts::default()
        };
        facts.workloads.insert(name.clone(), known);
    }
    let drills = EvidenceFilter {
        since: now.checked_sub((24 * DRILLS).hours()).ok(),
        kind: Some(Kind::Drill),
        ..EvidenceFilter::default()
    };
    // Newest first.
    for record in state.evidence(&drills)? {
        let detail: Result<DrillDetail, _> = serde_json::from_value(record.detail.into());
        let Some((detail, measured)) = detail
            .ok()
            .and_then(|detail| detail.measured.map(|measured| (detail, measured)))
        else {
            continue;
        };
        let step = detail.steps.iter().find(|step| step.name == "restore");
        let restore = step.map_or(TimeSpan::default(), |step| step.took);
        restores
            .entry(detail.repository.clone())
            .or_default()
            .add(detail.size, restore.0);
        facts
            .workloads
            .entry(detail.workload)
            .or_default()
            .drills
            .push(Measurement {
                at: detail.requested,
                size: ByteSize(detail.size),
                restore,
                rest: TimeSpan(measured.0.saturating_sub(restore.0)),
            });
    }
    for name in plan.repositories.keys() {
        let rate = |moved: &BTreeMap<String, Moved>| moved.get(name)?.rate();
        let known = RepositoryFacts {
            restore_rate: rate(&restores),
            backup_rate: rate(&backups),
        };
        facts.repositories.insert(name.clone(), known);
    }
    Ok(facts)
}
