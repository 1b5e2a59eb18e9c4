//! Backups that the server did not make itself but found: pushed by Proxmox VE, or made by `relight backup`. Each is a run
//! that somebody else did, and counts as the backup of its workload.

use std::sync::Arc;
use std::sync::mpsc::Sender;

use jiff::{SignedDuration, Timestamp};
use relight_model::Workload;
use relight_repo::snapshot::Snapshot;

use super::Message;
use super::context::{Context, Planned};
use super::vanished;
use crate::error::Result;
use crate::evidence::detail::{Ended, Figures};

/// A publication may become visible so much later than its time says (another server's clock, a slow storage): so far back it is
/// looked again.
const LATE: SignedDuration = SignedDuration::from_mins(10);

/// A backup that was found.
#[derive(Debug, Clone)]
pub(super) struct Arrival {
    pub workload: Workload,
    pub repository: String,
    pub snapshot: String,
    /// When its capture began.
    pub time: Timestamp,
    /// When it was published.
    pub published: Timestamp,
    pub ended: Ended,
    pub figures: Figures,
}

/// Looks for what has arrived since, in every repository that policies write to first, and tells the scheduler.
pub(super) fn look(context: &Context, planned: &Arc<Planned>, tell: &Sender<Message>) {
    for (name, datastore) in &context.datastores {
        let is_first = |policy: &relight_model::plan::Policy| policy.repository.value == *name;
        if !planned.plan.policies.values().any(is_first) {
            continue;
        }
        match look_in(context, planned, name, datastore) {
            Ok(arrivals) => arrivals.into_iter().for_each(|arrival| {
                let _ = tell.send(Message::Arrived(arrival));
            }),
            Err(error) => tracing::warn!("{error}: what was pushed to {name} is not known"),
        }
    }
}

/// Whether a snapshot is that of a run, or of one that will write it down when it ends. Of a server that was brought back, the
/// last runs before it was lost may have made snapshots that its saved state knows nothing of.
fn is_known(context: &Context, snapshot: &Snapshot) -> Result<bool> {
    if let Some(number) = context.run_of(snapshot)
        && let Some(run) = context.state.run(number)?
        && run.outcome.is_none()
        && run.started <= snapshot.published
    {
        return Ok(true);
    }
    context
        .state
        .knows_snapshot(&snapshot.workload, &snapshot.id.to_string())
}

fn look_in(
    context: &Context,
    planned: &Planned,
    name: &str,
    datastore: &relight_pbs::service::datastore::Datastore,
) -> Result<Vec<Arrival>> {
    let asked = Timestamp::now();
    let found = datastore
        .snapshots()
        .map_err(|error| crate::ServerError::System(error.to_string()))?;
    // An empty one is more likely a storage that is not mounted than one that everything was removed from.
    if !found.is_empty() {
        let ids = found.iter().map(|(body, _)| body.snapshot.id.to_string());
        let before = asked.checked_sub(LATE).unwrap_or(asked);
        vanished::settle(&context.state, &planned.plan, name, &ids.collect(), before)?;
    }
    let Some(known) = context.state.arrivals_known(name)? else {
        // The first look: what is there already is no news.
        let newest = found.iter().map(|(body, _)| body.snapshot.published).max();
        context
            .state
            .set_arrivals_known(name, newest.unwrap_or_else(Timestamp::now))?;
        return Ok(Vec::new());
    };
    let from = known.checked_sub(LATE).unwrap_or(known);
    let mut arrivals = Vec::new();
    for (body, _) in &found {
        let snapshot = &body.snapshot;
        let is_news = snapshot.published > from && !snapshot.is_log();
        let Some(workload) = snapshot.workload.parse::<Workload>().ok().filter(|_| is_news) else {
            continue;
        };
        let ours = planned
            .workload(&workload)
            .is_ok_and(|(_, policy)| policy.repository.value == name);
        if !ours || is_known(context, snapshot)? {
            continue;
        }
        arrivals.push(Arrival {
            workload,
            repository: name.to_string(),
            snapshot: snapshot.id.to_string(),
            time: snapshot.time,
            published: snapshot.published,
            ended: if snapshot.incomplete.is_empty() {
                Ended::Good
            } else {
                Ended::Incomplete
            },
            figures: Figures {
                size: Some(snapshot.figures.logical),
                added: Some(snapshot.figures.added),
                stored: Some(snapshot.figures.stored),
                ..Figures::default()
            },
        });
    }
    arrivals.sort_by_key(|arrival| arrival.published);
    Ok(arrivals)
}
