//! Snapshots that no policy keeps are forgotten. An alarm of one workload holds back its own snapshots only.

use jiff::Timestamp;
use relight_repo::RepoError;
use serde_json::{Map, Value, json};

use super::{Done, repository_of};
use crate::approvals;
use crate::evidence::detail::Figures;
use crate::evidence::{Kind, NewEvidence, Outcome};
use crate::runs::code::{Code, RunFailure};
use crate::runs::context::{Context, Planned};
use crate::runs::retention::{Judge, log_of};
use crate::runs::task::Task;

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
    let all: Vec<_> = all
        .iter()
        .map(|(body, marks)| {
            let protected = marks.as_ref().is_some_and(|marks| marks.protected);
            (&body.snapshot, protected)
        })
        .collect();
    let judge = Judge::new(&planned.plan, name, &repository, all);
    let (mut forgotten, mut held) = (Map::new(), Vec::new());
    let (mut count, mut cancelled) = (0, false);
    for entry in &planned.plan.workloads {
        let workload = &entry.name.value;
        let made = match judge.of(entry) {
            None => continue,
            Some(Ok(made)) => made,
            Some(Err(error)) => {
                held.push(format!("{workload}: {error}"));
                continue;
            }
        };
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
        let (log, promised) = log_of(&planned.plan, entry);
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
        time: repository.now(),
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
