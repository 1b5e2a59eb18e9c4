//! A new snapshot of a workload.

use jiff::Timestamp;
use relight_model::plan::{Plan, Policy};
use relight_repo::session::Session;
use relight_repo::snapshot::SnapshotSpec;
use relight_workloads::kind::Subject;

use super::{Done, workload_of};
use crate::evidence::detail::Figures;
use crate::kinds;
use crate::runs::code::{Code, RunFailure};
use crate::runs::context::{Context, Planned};
use crate::runs::task::Task;

/// So many of the things that were not saved are named in the message.
const NAMED: usize = 3;

pub(super) fn run(context: &Context, planned: &Planned, task: &Task) -> Result<Done, RunFailure> {
    let name = workload_of(task)?;
    let (entry, policy) = planned.workload(name)?;
    let method = kinds::method(&planned.plan, entry).ok_or_else(|| {
        RunFailure::new(
            Code::Settings,
            format!("nothing says how {name} is captured: give it or its policy a method"),
        )
    })?;
    let kind = kinds::of(method).ok_or_else(|| {
        RunFailure::new(
            Code::Method,
            format!("{name}: this version cannot capture by the method {method}"),
        )
    })?;
    let subject = Subject::of(entry);
    kind.check(&subject)?;
    let datastore = context.datastore(&policy.repository.value)?;
    let points = context.points(datastore, name)?;
    let parent = points.last().map(|(body, _)| &body.snapshot);
    // After the list, which notices that the keyring has changed.
    let repository = datastore.repository();
    let session = Session::begin(repository.clone(), task.work.cancelled.clone())?;
    session.limit(task.throttle.clone());
    let captured = kind.capture(&subject, &session, parent, &task.work)?;
    let mut attributes = captured.attributes;
    attributes.extend([context.run_attribute(task.run.number)]);
    let spec = SnapshotSpec {
        workload: name.as_str().to_string(),
        time: captured.time,
        host: context.host.clone(),
        parent: parent.map(|parent| parent.id),
        attributes,
        incomplete: captured.incomplete,
        retain_until: lock(&planned.plan, policy, repository.now()),
    };
    let snapshot = session.publish(spec, captured.archives)?;
    task.note(&format!("published as {}", snapshot.id.short()));
    let failure = (!snapshot.incomplete.is_empty()).then(|| {
        let named: Vec<&str> = snapshot
            .incomplete
            .iter()
            .take(NAMED)
            .map(String::as_str)
            .collect();
        let more = snapshot.incomplete.len().saturating_sub(NAMED);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        RunFailure::new(
            Code::Incomplete,
            format!("not saved as it is: {}{more}", named.join("; ")),
        )
    });
    Ok(Done {
        snapshot: Some(snapshot.id.to_string()),
        figures: Figures {
            size: Some(snapshot.figures.logical),
            read: Some(captured.read),
            added: Some(snapshot.figures.added),
            stored: Some(snapshot.figures.stored),
            ..Figures::default()
        },
        failure,
        evidence: Vec::new(),
    })
}

/// Until when the storage of the repository is to refuse to delete what is stored now.
fn lock(plan: &Plan, policy: &Policy, now: Timestamp) -> Option<Timestamp> {
    let lock = plan.repositories.get(&policy.repository.value)?.lock.as_ref()?;
    now.checked_add(lock.value.0).ok()
}
