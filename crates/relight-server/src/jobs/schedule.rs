//! Runs jobs when they are due, and when somebody on this host asks for it.

use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use relight_pbs::access::AuthId;
use relight_pbs::sync::DEFAULT_OWNER;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::Jobs;
use crate::state::{JobRun, SyncJob};

/// How often it is looked what is due.
const LOOK: Duration = Duration::from_secs(2);

/// Looks until the server is told to stop.
pub(crate) async fn watch(jobs: Arc<Jobs>, mut stop: watch::Receiver<bool>) {
    let mut ticks = tokio::time::interval(LOOK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            _ = stop.wait_for(|stop| *stop) => return,
            _ = ticks.tick() => {}
        }
        let jobs = jobs.clone();
        let _ = tokio::task::spawn_blocking(move || look(&jobs, Timestamp::now())).await;
    }
}

/// Whether the schedule of a job has come since it ran last. What was missed while the server was off is made up for once.
fn is_due(job: &SyncJob, run: &JobRun, now: Timestamp) -> bool {
    let next = job
        .event()
        .and_then(|event| event.next_after(run.since, &TimeZone::system()));
    next.is_some_and(|next| next <= now)
}

fn look(jobs: &Arc<Jobs>, now: Timestamp) {
    let state = jobs.gate.state();
    let list = match state.sync_jobs() {
        Ok(list) => list,
        Err(error) => return tracing::error!("{error}"),
    };
    let Ok(who) = DEFAULT_OWNER.parse::<AuthId>() else {
        return;
    };
    for (job, run) in list {
        let asked = run.requested.is_some();
        if !asked && !is_due(&job, &run, now) {
            continue;
        }
        // One that runs yet is due as soon as it has ended.
        if jobs.running().contains(&job.id) {
            continue;
        }
        let schedule = job.fields.schedule.as_deref().filter(|_| !asked);
        if let Err(error) = jobs.run(&job, &who, schedule) {
            tracing::error!("sync job '{}': {error}", job.id);
            let told = state
                .sync_job_begins(&job.id, "")
                .and_then(|()| state.sync_job_ended(&job.id, "", &error.message));
            if let Err(error) = told {
                tracing::error!("{error}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_missed_is_made_up_for_once() {
        let job = SyncJob {
            id: "nightly".into(),
            fields: crate::state::SyncJobFields {
                schedule: Some("*-*-* 02:00 UTC".into()),
                ..Default::default()
            },
        };
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let mut run = JobRun {
            since: at("2026-03-01T12:00:00Z"),
            ..JobRun::default()
        };
        assert!(!is_due(&job, &run, at("2026-03-02T01:59:59Z")));
        assert!(is_due(&job, &run, at("2026-03-02T02:00:00Z")));
        // Off for a week: once, then not before the next night.
        let now = at("2026-03-09T08:00:00Z");
        assert!(is_due(&job, &run, now));
        run.since = now;
        assert!(!is_due(&job, &run, at("2026-03-10T01:00:00Z")));
        assert!(is_due(&job, &run, at("2026-03-10T02:00:01Z")));
        let by_hand = SyncJob {
            fields: Default::default(),
            ..job
        };
        assert!(!is_due(&by_hand, &run, at("2030-01-01T00:00:00Z")));
    }
}
