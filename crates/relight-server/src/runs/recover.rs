//! What ran when the server went away: ended by what is known of it.

use relight_model::schedule::{JobId, RunKind};

use super::code::Code;
use super::context::Context;
use super::work::Done;
use crate::evidence::detail::Figures;
use crate::state::Run;

/// What came of a run of which nobody knows how it ended. A backup whose snapshot was published did what it was for, even
/// if the server went away before it could write that down.
pub(super) fn outcome(context: &Context, run: &Run) -> Option<Done> {
    if run.job.kind() != RunKind::Backup {
        return None;
    }
    let workload = run.job.workload()?;
    let datastore = context.datastores.get(run.repository.as_deref()?)?;
    let points = context.points(datastore, workload).ok()?;
    // A server that was brought back counts on from where its saved state was: the same number may be that of an earlier run.
    let made = points.iter().rev().find(|(body, _)| {
        context.run_of(&body.snapshot) == Some(run.number) && body.snapshot.published >= run.started
    });
    let snapshot = &made?.0.snapshot;
    let failure = snapshot.incomplete.first().map(|first| {
        let more = snapshot.incomplete.len() - 1;
        super::RunFailure::new(
            Code::Incomplete,
            format!("not saved as it is: {first} and {more} more"),
        )
    });
    Some(Done {
        snapshot: Some(snapshot.id.to_string()),
        figures: Figures {
            size: Some(snapshot.figures.logical),
            added: Some(snapshot.figures.added),
            stored: Some(snapshot.figures.stored),
            ..Figures::default()
        },
        failure,
        evidence: Vec::new(),
    })
}

/// What to do about a restore that the server's end has interrupted.
pub(super) fn again(context: &Context, run: &Run) -> &'static str {
    let asked = context.state.asked_of_run(run.number).ok().flatten();
    let asked: Option<serde_json::Value> = asked.and_then(|asked| serde_json::from_str(&asked).ok());
    match asked.is_some_and(|asked| asked.get("goal").is_some()) {
        true => "ask for it again: a cluster begins anew",
        false => "ask for it again, and it goes on where it ended",
    }
}

/// The repository that a job works on, or writes to.
pub(super) fn repository(planned: &super::Planned, job: &JobId) -> Option<String> {
    match (job.repository(), job.workload()) {
        (Some(name), _) => Some(name.to_string()),
        (None, Some(workload)) => Some(planned.workload(workload).ok()?.1.repository.value.clone()),
        (None, None) => None,
    }
}
