//! A workload's snapshots are brought to another repository: those that the copy's own retention would keep.

use std::collections::HashMap;

use relight_model::retention::{Candidate, Guards, to_copy};
use relight_pbs::service::datastore::Datastore;
use relight_repo::copy;
use relight_repo::snapshot::Snapshot;

use super::{Done, repository_of, workload_of};
use crate::evidence::detail::Figures;
use crate::kinds;
use crate::runs::code::{Code, RunFailure};
use crate::runs::context::{Context, Found, Planned};
use crate::runs::task::{Steps, Task};

/// A snapshot, wherever it is: the repository it was first made in and its name there.
type Origin = (String, String);

fn candidates(datastore: &Datastore, points: &[Found]) -> Vec<Candidate<Origin>> {
    let repository = datastore.repository();
    let one = |(sequence, (body, marks)): (u64, &Found)| {
        let snapshot = &body.snapshot;
        Candidate {
            id: copy::origin(&repository, snapshot),
            group: snapshot.workload.clone(),
            time: snapshot.time,
            sequence,
            protected: marks.as_ref().is_some_and(|marks| marks.protected),
            good: snapshot.incomplete.is_empty(),
        }
    };
    (0..).zip(points).map(one).collect()
}

pub(super) fn run(context: &Context, planned: &Planned, task: &Task) -> Result<Done, RunFailure> {
    let (name, to) = (workload_of(task)?, repository_of(task)?);
    let (_, policy) = planned.workload(name)?;
    let rule = policy.copies.iter().find(|copy| copy.repository.value == to);
    let rule = rule.ok_or_else(|| {
        RunFailure::new(
            Code::Settings,
            format!("the plan does not copy {name} to {to} any more"),
        )
    })?;
    let source = context.datastore(&policy.repository.value)?;
    let target = context.datastore(to)?;
    let here = context.points(source, name)?;
    let there = context.points(target, name)?;
    let retention = rule.retention.as_ref().unwrap_or(&policy.retention);
    let guards = Guards::new(target.repository().now(), None);
    let zone = &planned.plan.time_zone;
    let wanted = to_copy(
        &retention.value,
        zone,
        &guards,
        &candidates(source, &here),
        &candidates(target, &there),
    );
    if here.is_empty() {
        return Err(RunFailure::new(
            Code::Nothing,
            format!("there is no snapshot of {name} that could be copied"),
        ));
    }
    let repository = source.repository();
    let by_origin: HashMap<Origin, &Snapshot> = here
        .iter()
        .map(|(body, _)| (copy::origin(&repository, &body.snapshot), &body.snapshot))
        .collect();
    let chosen: Vec<Snapshot> = wanted
        .iter()
        .filter_map(|origin| by_origin.get(origin).map(|snapshot| (*snapshot).clone()))
        .collect();
    task.note(&format!(
        "{} of {} snapshots are to be copied to {to}",
        chosen.len(),
        here.len()
    ));
    let steps = Steps::free(task);
    let bring = |snapshots: &[Snapshot]| {
        copy::copy_throttled(
            &repository,
            &target.repository(),
            snapshots,
            Some(&task.throttle),
            task.control(&steps),
        )
    };
    let mut report = bring(&chosen)?;
    let entry = planned.plan.workload(name);
    let kind = entry.and_then(|entry| kinds::of(kinds::method(&planned.plan, entry)?));
    if let Some(log) = kind.and_then(|kind| kind.log()).filter(|_| !report.cancelled) {
        log.copy(&repository, &target.repository(), name, &mut |snapshots| {
            let brought = bring(snapshots)?;
            task.note(&format!("{} pieces of its log copied", brought.copied.len()));
            report.copied.extend(brought.copied);
            report.failed.extend(brought.failed);
            report.cancelled |= brought.cancelled;
            Ok(())
        })?;
    }
    let sum = |of: fn(&copy::Copied) -> u64| Some(report.copied.iter().map(of).sum());
    let failure = match report.failed.as_slice() {
        [] if report.cancelled => Some(RunFailure::new(
            Code::Cancelled,
            "cancelled; the next copy goes on",
        )),
        [] => None,
        [(id, why), rest @ ..] => {
            let more = if rest.is_empty() {
                String::new()
            } else {
                format!(" and {} more", rest.len())
            };
            let message = format!("not copied: {}{more}: {why}", id.short());
            Some(RunFailure::new(Code::CopyIncomplete, message))
        }
    };
    Ok(Done {
        figures: Figures {
            size: sum(|copied| copied.logical),
            added: sum(|copied| copied.added),
            stored: sum(|copied| copied.stored),
            snapshots: Some(report.copied.len() as u64),
            ..Figures::default()
        },
        failure,
        ..Done::default()
    })
}
