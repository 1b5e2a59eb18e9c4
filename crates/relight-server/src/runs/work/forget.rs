//! Snapshots that no policy keeps are forgotten. An alarm of one workload holds back its own snapshots only.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use relight_model::plan::{Plan, WorkloadEntry};
use relight_model::retention::{Candidate, Guards, Policy, plan};
use relight_repo::{RepoError, SnapshotId};
use relight_workloads::kind::KeepsLog;
use serde_json::{Map, Value, json};

use super::{Done, repository_of};
use crate::approvals;
use crate::evidence::detail::Figures;
use crate::evidence::{Kind, NewEvidence, Outcome};
use crate::kinds;
use crate::runs::code::{Code, RunFailure};
use crate::runs::context::{Context, Found, Planned};
use crate::runs::task::Task;

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
fn log_of(plan: &Plan, entry: &WorkloadEntry) -> (Option<&'static dyn KeepsLog>, Option<SignedDuration>) {
    let log = kinds::method(plan, entry)
        .and_then(kinds::of)
        .and_then(|kind| kind.log());
    let promised = plan
        .policy_of(entry)
        .and_then(|(_, policy)| policy.point_in_time.as_ref());
    let span = promised.and_then(|promised| SignedDuration::try_from(promised.value.duration()).ok());
    (log, span)
}

fn candidate(
    (sequence, (body, marks)): (u64, &Found),
    needed: &BTreeSet<SnapshotId>,
    now: Timestamp,
) -> Candidate<SnapshotId> {
    let snapshot = &body.snapshot;
    let promised = snapshot.retain_until.is_some_and(|until| until > now);
    Candidate {
        id: snapshot.id,
        group: snapshot.workload.clone(),
        time: snapshot.time,
        sequence,
        protected: promised
            || needed.contains(&snapshot.id)
            || marks.as_ref().is_some_and(|marks| marks.protected),
        good: snapshot.incomplete.is_empty(),
    }
}

/// The plan keeps less than the one before, and nobody has agreed.
fn held_back(held: &approvals::Held) -> RunFailure {
    let until = match held.until {
        Some(until) => format!(
            "until somebody decides on request {}, or {until} has come",
            held.number
        ),
        None => format!(
            "as request {} was denied: change the plan back, or to something else",
            held.number
        ),
    };
    let why = held.lowered.join("; ");
    RunFailure::new(
        Code::NotApproved,
        format!("the plan keeps or promises less than before ({why}): nothing is forgotten {until}"),
    )
}

pub(super) fn run(context: &Context, planned: &Planned, task: &Task) -> Result<Done, RunFailure> {
    let name = repository_of(task)?;
    let held = approvals::held(&context.state, &context.approvals, planned, Timestamp::now());
    let held = held.map_err(|error| RunFailure::new(Code::Internal, error.to_string()))?;
    if let Some(held) = held {
        return Err(held_back(&held));
    }
    let datastore = context.datastore(name)?;
    let all = datastore.snapshots()?;
    let repository = datastore.repository();
    let now = repository.now();
    // Whoever dates a snapshot into the future must not be able to switch retention off.
    let skew = SignedDuration::from_mins(5);
    let published = all.iter().map(|(body, _)| body.snapshot.published);
    let trusted = published.filter(|time| time.duration_since(now) <= skew).max();
    let (mut forgotten, mut held) = (Map::new(), Vec::new());
    let (mut count, mut cancelled) = (0, false);
    for entry in &planned.plan.workloads {
        let workload = &entry.name.value;
        let Some(rules) = rules(&planned.plan, entry, name) else {
            continue;
        };
        let mut points: Vec<&Found> = all
            .iter()
            .filter(|(body, _)| body.snapshot.workload == workload.as_str() && !body.snapshot.is_log())
            .collect();
        points.sort_by_key(|(body, _)| (body.snapshot.time, body.snapshot.published, body.snapshot.id));
        let (log, promised) = log_of(&planned.plan, entry);
        let needed = match (log, promised) {
            (Some(log), Some(promised)) => match log.needed(&repository, workload, promised) {
                Ok(needed) => needed,
                Err(error) => {
                    held.push(format!("{workload}: {error}"));
                    continue;
                }
            },
            _ => BTreeSet::new(),
        };
        let candidates = (0..)
            .zip(points)
            .map(|numbered| candidate(numbered, &needed, now));
        let guards = Guards::new(now, trusted);
        let made = plan(rules, &planned.plan.time_zone, &guards, candidates);
        if made.is_blocked() {
            let alarms: Vec<String> = made.alarms.iter().map(ToString::to_string).collect();
            task.note(&format!(
                "{workload}: nothing is forgotten, because {}",
                alarms.join("; and ")
            ));
            held.push(format!("{workload}: {}", alarms.join("; and ")));
            continue;
        }
        let mut gone = Vec::new();
        for removed in made.removed() {
            if task.work.is_cancelled() {
                cancelled = true;
                break;
            }
            match repository.forget(removed.id) {
                Ok(()) => gone.push(json!({"snapshot": removed.id.to_string(), "time": removed.time})),
                // Protected since the list was made, or gone already.
                Err(RepoError::Protected(_) | RepoError::NoSuchSnapshot(_)) => {}
                Err(error) => {
                    held.push(format!("{workload}: {}: {error}", removed.id.short()));
                    break;
                }
            }
        }
        if let Some(log) = log.filter(|_| !cancelled) {
            match log.expire(&repository, workload, promised, &task.work.cancelled) {
                Ok(0) => {}
                Ok(some) => task.note(&format!("{workload}: {some} pieces of its log forgotten")),
                Err(error) => held.push(format!("{workload}: {error}")),
            }
        }
        if !gone.is_empty() {
            task.note(&format!("{workload}: {} forgotten", gone.len()));
            count += gone.len() as u64;
            forgotten.insert(workload.to_string(), Value::Array(gone));
        }
    }
    let evidence = (count > 0).then(|| NewEvidence {
        time: now,
        kind: Kind::Change,
        who: task.run.who.clone(),
        what: format!("forgot {count} snapshots in {name} that no policy keeps"),
        outcome: Outcome::Done,
        detail: Map::from_iter([
            ("run".to_string(), task.run.number.into()),
            ("repository".to_string(), name.into()),
            ("forgotten".to_string(), Value::Object(forgotten)),
        ]),
    });
    let failure = match (held.first(), cancelled) {
        (Some(first), _) => {
            let more = if held.len() > 1 {
                format!("; and {} more", held.len() - 1)
            } else {
                String::new()
            };
            let advice = "`relight forget` shows what would go, and does it with --accept-alarms";
            Some(RunFailure::new(
                Code::RetentionAlarm,
                format!("{first}{more}; {advice}"),
            ))
        }
        (None, true) => Some(RunFailure::new(
            Code::Cancelled,
            "cancelled; the next run goes on",
        )),
        (None, false) => None,
    };
    Ok(Done {
        figures: Figures {
            snapshots: Some(count),
            ..Figures::default()
        },
        failure,
        evidence: evidence.into_iter().collect(),
        ..Done::default()
    })
}
