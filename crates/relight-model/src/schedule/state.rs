//! What the scheduler remembers.

use std::collections::{BTreeMap, BTreeSet};

use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

use super::clock::{Clock, ClockAlarm, Watch};
use super::job::JobId;
use super::{Schedule, signed};
use crate::plan::Policy;

/// All that the scheduler remembers between two looks at the clock. It goes with any plan: jobs that it does not know are
/// new, and those that a plan no longer has are left alone.
///
/// It can be stored as a whole (serde), or as its [`Head`] and a row for each job: after each call that changes it,
/// [`State::take_changed`] says which rows to write, and [`State::from_rows`] makes it again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct State {
    #[serde(flatten)]
    pub(super) head: Head,
    pub(super) past: BTreeMap<JobId, Past>,
    running: BTreeMap<JobId, Running>,
    #[serde(skip)]
    changed: Changed,
}

/// What the scheduler remembers beside jobs. It changes with each tick.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    /// From when on new jobs are due.
    pub(super) since: Timestamp,
    pub(super) watch: Watch,
    /// When the scheduler last decided.
    pub(super) last_tick: Option<Timestamp>,
}

/// Jobs of which something has changed since somebody last asked. Two states are equal whoever has asked.
#[derive(Clone, Debug, Default)]
struct Changed(BTreeSet<JobId>);

impl PartialEq for Changed {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Changed {}

/// A job's row: what has become of it, and what runs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Row {
    /// What has become of it so far.
    pub past: Option<Past>,
    /// Its run, if it runs.
    pub running: Option<Running>,
}

/// What has become of a job so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Past {
    /// Up to here every time at which it was due is settled: run, given up, or skipped.
    pub settled: Timestamp,
    /// The try that comes next, after one that failed.
    pub retry: Option<Retry>,
    /// When it last ended well.
    pub last_good: Option<Timestamp>,
    /// When an operator asked for it.
    pub requested: Option<Timestamp>,
    /// Since when it waits for a resource, whichever of its times it waits for by now.
    pub waiting: Option<Timestamp>,
}

/// A run that is to be tried again.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Retry {
    /// When it was due.
    pub due: Timestamp,
    /// How often it has failed.
    pub failed: u32,
    /// Not before.
    pub not_before: Timestamp,
}

impl Retry {
    /// Whether it is not to be repeated yet. A time further ahead than any pause is of a clock that was wrong.
    pub(super) fn waits(&self, now: Timestamp) -> bool {
        let pause = self.not_before.duration_since(now);
        pause > SignedDuration::ZERO && pause <= signed(Policy::MAX_BACKOFF)
    }
}

/// A run that runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Running {
    /// When it was due.
    pub due: Timestamp,
    /// The how-manieth try, from 1.
    pub attempt: u32,
    /// When it was started.
    pub started: Timestamp,
    /// An operator asked for it.
    pub requested: bool,
}

/// How a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// Well.
    Good,
    /// Not well.
    Failed,
    /// The server was stopped or killed. It is tried again, and that is no failure of its own.
    Interrupted,
    /// An operator stopped it. It is not tried again.
    Cancelled,
}

/// What follows from the end of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// The job waits for its next time.
    Settled,
    /// It is tried again, not before.
    Retry(Timestamp),
    /// It has failed for good: its retries are used up.
    GivenUp,
}

impl State {
    /// Nothing has happened yet. Jobs are due from now on.
    pub fn new(clock: Clock) -> Self {
        let head = Head {
            since: clock.wall,
            watch: Watch::new(clock),
            last_tick: None,
        };
        Self::from_rows(head, [])
    }

    /// The state that was stored as its head and rows.
    pub fn from_rows(head: Head, rows: impl IntoIterator<Item = (JobId, Row)>) -> Self {
        let mut state = Self {
            head,
            past: BTreeMap::new(),
            running: BTreeMap::new(),
            changed: Changed::default(),
        };
        for (id, row) in rows {
            if let Some(running) = row.running {
                state.running.insert(id.clone(), running);
            }
            if let Some(past) = row.past {
                state.past.insert(id, past);
            }
        }
        state
    }

    /// What is to be stored beside rows, after each tick.
    pub fn head(&self) -> Head {
        self.head
    }

    /// The row of a job.
    pub fn row(&self, id: &JobId) -> Row {
        Row {
            past: self.past.get(id).copied(),
            running: self.running.get(id).copied(),
        }
    }

    /// The jobs whose rows have changed since this was last asked.
    pub fn take_changed(&mut self) -> impl Iterator<Item = JobId> {
        std::mem::take(&mut self.changed.0).into_iter()
    }

    pub(super) fn begin(&mut self, id: &JobId, running: Running) {
        self.changed.0.insert(id.clone());
        self.running.insert(id.clone(), running);
    }

    /// What runs.
    pub fn running(&self) -> impl Iterator<Item = (&JobId, &Running)> {
        self.running.iter()
    }

    /// What has become of a job.
    pub fn past(&self, id: &JobId) -> Option<&Past> {
        self.past.get(id)
    }

    /// Why the clock is not trusted at present.
    pub fn clock_alarm(&self) -> Option<ClockAlarm> {
        self.head.watch.alarm()
    }

    /// An operator says that the clock is right: the alarm ends, and time goes on from here.
    pub fn confirm_clock(&mut self, clock: Clock) {
        self.head.watch.confirm(clock);
    }

    /// An operator wants a job to run now, whatever its schedule and window say. Limits hold.
    pub fn request(&mut self, id: &JobId, now: Timestamp) {
        self.past_mut(id).requested = Some(now);
    }

    pub(super) fn past_mut(&mut self, id: &JobId) -> &mut Past {
        self.changed.0.insert(id.clone());
        let fresh = Past {
            settled: self.head.since,
            retry: None,
            last_good: None,
            requested: None,
            waiting: None,
        };
        self.past.entry(id.clone()).or_insert(fresh)
    }
}

impl Schedule {
    /// A run has ended. A run that the state does not know as running changes nothing but the time of the last good one.
    pub fn ended(&self, state: &mut State, id: &JobId, outcome: Outcome, now: Timestamp) -> Next {
        let running = state.running.remove(id);
        let past = state.past_mut(id);
        if outcome == Outcome::Good {
            past.last_good = Some(now);
        }
        let Some(running) = running else {
            return Next::Settled;
        };
        let job = self.job(id);
        let failed = running
            .attempt
            .saturating_sub(u32::from(outcome == Outcome::Interrupted));
        let again = match outcome {
            Outcome::Good | Outcome::Cancelled => None,
            Outcome::Interrupted => job.map(|_| now),
            Outcome::Failed => job.filter(|job| running.attempt <= job.retries).map(|job| {
                let doubled = 2_i32.saturating_pow(running.attempt.saturating_sub(1).min(16));
                let wait = job
                    .retry_after
                    .checked_mul(doubled)
                    .unwrap_or(SignedDuration::MAX);
                now.checked_add(wait.min(signed(Policy::MAX_BACKOFF)))
                    .unwrap_or(now)
            }),
        };
        match again {
            Some(not_before) => {
                past.retry = Some(Retry {
                    due: running.due,
                    failed,
                    not_before,
                });
                if running.requested {
                    past.requested = Some(running.due);
                }
                Next::Retry(not_before)
            }
            None => {
                past.retry = None;
                if !running.requested {
                    past.settled = past.settled.max(running.due);
                }
                match outcome {
                    Outcome::Failed => Next::GivenUp,
                    _ => Next::Settled,
                }
            }
        }
    }
}
