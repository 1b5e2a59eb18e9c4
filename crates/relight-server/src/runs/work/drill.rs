//! Recovery is tested: of one workload, or of everything.

use std::path::Path;
use std::sync::Arc;

use jiff::{Timestamp, ToSpan};
use relight_model::objective::Verdict;
use relight_model::objective::exercise::Recovered;
use relight_model::plan::{Policy, WorkloadEntry};
use relight_pbs::service::datastore::Datastore;
use relight_repo::Repository;
use relight_workloads::kind::Kind;

use super::{Done, workload_of};
use crate::drills::{self, Code as DrillCode, DrillRequest, Drilled, ExerciseRequest};
use crate::evidence::detail::{DrillDetail, Ended, ExerciseDetail, Figures, details};
use crate::evidence::{self, NewEvidence, Outcome};
use crate::kinds;
use crate::runs::code::{Code, RunFailure};
use crate::runs::context::{Context, Planned};
use crate::runs::task::Task;
use crate::state::EvidenceFilter;

/// So many workloads of a stage are recovered at a time in an exercise.
const AT_A_TIME: usize = 2;

/// The kind that brings a workload back: of the method that the plan names, or else, where clients push, of what the newest
/// snapshot is.
fn kind_of(
    context: &Context,
    planned: &Planned,
    entry: &WorkloadEntry,
    datastore: &Datastore,
) -> Result<&'static dyn Kind, RunFailure> {
    let name = &entry.name.value;
    if let Some(method) = kinds::method(&planned.plan, entry) {
        return kinds::of(method).ok_or_else(|| {
            let why = format!("{name}: this version cannot restore what the method {method} captures");
            RunFailure::new(Code::Method, why)
        });
    }
    let points = context.points(datastore, name)?;
    let newest = points
        .last()
        .and_then(|(body, _)| kinds::of_snapshot(&body.snapshot));
    newest.ok_or_else(|| {
        let why = format!(
            "{name}: there is no snapshot that a drill could bring back, and the plan names no method"
        );
        RunFailure::new(Code::Nothing, why)
    })
}

fn request<'a>(
    task: &Task,
    entry: &WorkloadEntry,
    policy: &Policy,
    repository: &'a Arc<Repository>,
    kind: &'static dyn Kind,
    sandboxes: &'a Path,
    now: Timestamp,
) -> DrillRequest<'a> {
    let name = policy.repository.value.as_str();
    DrillRequest::new(
        task.run.number,
        Drilled::of(entry, policy),
        (name, repository),
        kind,
        sandboxes,
        now,
    )
}

/// The evidence of a drill.
fn record(task: &Task, detail: &DrillDetail) -> NewEvidence {
    let good = detail.is_good();
    NewEvidence {
        time: Timestamp::now(),
        kind: evidence::Kind::Drill,
        who: task.run.who.clone(),
        what: format!("drill {}", detail.workload),
        outcome: if good { Outcome::Done } else { Outcome::Failed },
        detail: details(detail),
    }
}

/// Why a drill counts as failed: it failed, or took longer than promised.
fn failure(detail: &DrillDetail) -> Option<RunFailure> {
    if let Some(code) = &detail.code {
        let is_cancelled = code == DrillCode::Cancelled.name();
        return Some(RunFailure {
            code: code.clone(),
            message: detail.message.clone().unwrap_or_default(),
            ended: if is_cancelled {
                Ended::Cancelled
            } else {
                Ended::Failed
            },
            try_again: true,
        });
    }
    match detail.verdict {
        Verdict::Missed { by } => {
            let took = detail.measured.unwrap_or_default();
            Some(RunFailure::new(
                Code::Slow,
                format!("it came back after {took}, {by} later than promised"),
            ))
        }
        _ => None,
    }
}

/// Whether a drill of this workload that must fail was tried in this quarter already.
fn was_controlled(context: &Context, planned: &Planned, workload: &str, now: Timestamp) -> bool {
    let today = now.to_zoned(planned.plan.time_zone.clone());
    let month = (today.month() - 1) / 3 * 3 + 1;
    let first = today.date().with().month(month).day(1).build();
    let since = first.and_then(|first| first.to_zoned(planned.plan.time_zone.clone()));
    let since = since.map_or(now - (24 * 90).hours(), |first| first.timestamp());
    let filter = EvidenceFilter {
        since: Some(since),
        drilled: Some(workload.to_owned()),
        ..EvidenceFilter::default()
    };
    let Ok(records) = context.state.evidence(&filter) else {
        return false;
    };
    let tried = |record: &evidence::Body| {
        record
            .detail
            .get("control")
            .is_some_and(|control| !control.is_null())
    };
    records.iter().any(tried)
}

/// One workload.
pub(super) fn one(context: &Context, planned: &Planned, task: &Task) -> Result<Done, RunFailure> {
    let name = workload_of(task)?;
    let (entry, policy) = planned.workload(name)?;
    let datastore = context.datastore(&policy.repository.value)?;
    // The list notices that the keyring has changed.
    datastore.list()?;
    let kind = kind_of(context, planned, entry, datastore)?;
    let repository = datastore.repository();
    let now = Timestamp::now();
    let mut request = request(task, entry, policy, &repository, kind, &context.sandbox, now);
    request.control = !was_controlled(context, planned, name.as_str(), now);
    let detail = drills::drill(&request, &task.work);
    Ok(Done {
        snapshot: detail.snapshot.clone(),
        figures: Figures {
            size: Some(detail.size),
            ..Figures::default()
        },
        failure: failure(&detail),
        evidence: vec![record(task, &detail)],
    })
}

/// Everything, in the order of the plan.
pub(super) fn everything(context: &Context, planned: &Planned, task: &Task) -> Result<Done, RunFailure> {
    let gone = || RunFailure::new(Code::Settings, "the plan has no exercise any more");
    let exercise = planned.plan.exercise.as_ref().ok_or_else(gone)?;
    let now = Timestamp::now();
    let (mut repositories, mut impossible) = (Vec::new(), Vec::new());
    for entry in &planned.plan.workloads {
        let Some((_, policy)) = planned.plan.policy_of(entry) else {
            continue;
        };
        let ready = context.datastore(&policy.repository.value).and_then(|datastore| {
            datastore.list()?;
            Ok((
                kind_of(context, planned, entry, datastore)?,
                datastore.repository(),
            ))
        });
        match ready {
            Ok((kind, repository)) => repositories.push((entry, policy, kind, repository)),
            Err(failure) => {
                task.note(&format!(
                    "{} cannot be recovered: {}",
                    entry.name.value, failure.message
                ));
                impossible.push(entry);
            }
        }
    }
    let drills = repositories.iter().map(|(entry, policy, kind, repository)| {
        request(task, entry, policy, repository, *kind, &context.sandbox, now)
    });
    let request = ExerciseRequest {
        run: task.run.number,
        plan: exercise,
        drills: drills.collect(),
        now,
        at_a_time: AT_A_TIME,
    };
    let (mut detail, drilled) = drills::exercise(&request, &task.work);
    for entry in impossible {
        let Some(stage) = entry.stage.filter(|stage| exercise.order.contains(stage)) else {
            continue;
        };
        detail.recovered.push(Recovered {
            workload: entry.name.value.clone(),
            stage,
            began: now,
            ended: now,
            good: false,
        });
        // What did not come back has no time.
        detail.measured = None;
        detail.verdict = if detail.promised.is_some() {
            Verdict::NotMeasured
        } else {
            Verdict::NotPromised
        };
    }
    let failure = exercise_failure(&detail, task);
    let mut evidence: Vec<NewEvidence> = drilled.iter().map(|detail| record(task, detail)).collect();
    evidence.push(NewEvidence {
        time: Timestamp::now(),
        kind: evidence::Kind::Drill,
        who: task.run.who.clone(),
        what: "exercise".into(),
        outcome: if failure.is_none() {
            Outcome::Done
        } else {
            Outcome::Failed
        },
        detail: details(&detail),
    });
    Ok(Done {
        figures: Figures {
            size: Some(drilled.iter().map(|detail| detail.size).sum()),
            snapshots: Some(drilled.len() as u64),
            ..Figures::default()
        },
        failure,
        evidence,
        ..Done::default()
    })
}

fn exercise_failure(detail: &ExerciseDetail, task: &Task) -> Option<RunFailure> {
    if task.work.is_cancelled() {
        return Some(RunFailure::new(
            Code::Cancelled,
            "cancelled; what was recovered until then is in the evidence",
        ));
    }
    let failed: Vec<&str> = detail
        .recovered
        .iter()
        .filter(|one| !one.good)
        .map(|one| one.workload.as_str())
        .collect();
    if !failed.is_empty() {
        let (count, all) = (failed.len(), detail.recovered.len());
        let named = failed.iter().take(5).copied().collect::<Vec<_>>().join(", ");
        let message = format!("{count} of {all} workloads did not come back: {named}");
        return Some(RunFailure::new(Code::NotRecovered, message));
    }
    if detail.recovered.is_empty() {
        return Some(RunFailure::new(
            Code::Nothing,
            "no workload has a stage of the exercise, so that nothing was recovered",
        ));
    }
    match detail.verdict {
        Verdict::Missed { by } => {
            let took = detail.measured.unwrap_or_default();
            Some(RunFailure::new(
                Code::Slow,
                format!("everything was back after {took}, {by} later than promised"),
            ))
        }
        _ if !detail.out_of_order.is_empty() => Some(RunFailure::new(
            Code::NotRecovered,
            "workloads were begun before a stage that they depend on had ended",
        )),
        _ => None,
    }
}
