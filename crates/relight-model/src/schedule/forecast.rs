//! What the scheduler would do: its rules over simulated time.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::decision::{Decision, SkipReason, WaitReason};
use super::job::JobId;
use super::state::{Outcome, State};
use super::{Clock, Schedule, signed};
use crate::duration::TimeSpan;

/// Simulated time never goes on by more at once, as a watched clock does not.
const LONGEST_STEP: SignedDuration = SignedDuration::from_hours(24);
const SHORTEST_STEP: SignedDuration = SignedDuration::from_secs(1);

/// What is foreseen if nothing goes wrong: every run ends well, after the time that was assumed for it; at the beginning
/// nothing runs or waits, and what works on snapshots has one.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Forecast {
    /// What is due from then on, that time included.
    pub from: Timestamp,
    /// Up to then, or up to where the forecast had to end because there is too much.
    pub until: Timestamp,
    /// Whether it ends before the time that was asked for.
    pub cut: bool,
    /// In the order of their starts.
    pub runs: Vec<Foreseen>,
}

/// A run that is foreseen.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Foreseen {
    /// What.
    pub job: JobId,
    /// When it is due.
    pub due: Timestamp,
    /// What it waits for, one after the other.
    pub waits: Vec<Waited>,
    /// What becomes of it.
    #[serde(flatten)]
    pub fate: Fate,
}

/// A time of waiting; it ends with the next one, or when the run starts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Waited {
    /// Since when.
    pub since: Timestamp,
    /// What for.
    #[serde(flatten)]
    pub reason: WaitReason,
}

/// What becomes of a run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "fate", rename_all = "kebab-case")]
pub enum Fate {
    /// It runs.
    Runs {
        /// When it starts.
        starts: Timestamp,
        /// When it ends, if it takes as long as assumed.
        ends: Timestamp,
    },
    /// It still waits at the end of the forecast.
    Waits,
    /// It does not run.
    Skipped {
        /// Why.
        why: SkipReason,
    },
}

impl Foreseen {
    /// When it starts, or would have.
    fn order(&self) -> (Timestamp, Timestamp, &JobId) {
        match self.fate {
            Fate::Runs { starts, .. } => (starts, self.due, &self.job),
            Fate::Waits | Fate::Skipped { .. } => (self.due, self.due, &self.job),
        }
    }
}

/// Runs by job and due time.
#[derive(Default)]
struct Seen {
    runs: Vec<Foreseen>,
    at: HashMap<(JobId, Timestamp), usize>,
}

impl Seen {
    fn run(&mut self, job: JobId, due: Timestamp) -> Option<&mut Foreseen> {
        let at = match self.at.entry((job, due)) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                self.runs.push(Foreseen {
                    job: new.key().0.clone(),
                    due,
                    waits: Vec::new(),
                    fate: Fate::Waits,
                });
                *new.insert(self.runs.len() - 1)
            }
        };
        self.runs.get_mut(at)
    }
}

impl Schedule {
    /// What would be started from `from` until `until`. `length` tells how long a run that starts then is assumed to
    /// take; after `most` runs the forecast ends.
    pub fn forecast(
        &self,
        from: Timestamp,
        until: Timestamp,
        most: usize,
        mut length: impl FnMut(&JobId, Timestamp) -> TimeSpan,
    ) -> Forecast {
        // What is due at the very beginning is part of it.
        let before = from.checked_sub(SHORTEST_STEP).unwrap_or(from);
        let clock = |now: Timestamp| Clock {
            wall: now,
            monotonic: now.duration_since(before).try_into().unwrap_or_default(),
            boot: 0,
        };
        let mut state = State::new(clock(before));
        for needs in self.jobs.iter().filter_map(|job| job.needs.as_ref()) {
            self.ended(&mut state, needs, Outcome::Good, before);
        }
        let mut seen = Seen::default();
        let mut running: BTreeMap<JobId, Timestamp> = BTreeMap::new();
        let mut now = from;
        while now <= until && seen.runs.len() < most {
            running.retain(|job, ends| {
                let over = *ends <= now;
                if over {
                    self.ended(&mut state, job, Outcome::Good, now);
                }
                !over
            });
            let tick = self.tick(&mut state, clock(now));
            for decision in tick.decisions {
                match decision {
                    Decision::Start { job, due, .. } => {
                        let ends = now.checked_add(signed(length(&job, now)));
                        let ends = ends.unwrap_or(Timestamp::MAX);
                        if let Some(run) = seen.run(job.clone(), due) {
                            run.fate = Fate::Runs { starts: now, ends };
                        }
                        running.insert(job, ends);
                    }
                    Decision::Wait { job, due, reason } => {
                        if let Some(run) = seen.run(job, due)
                            && run.waits.last().is_none_or(|last| last.reason != reason)
                        {
                            run.waits.push(Waited { since: now, reason });
                        }
                    }
                    Decision::Skip { job, due, reason } => {
                        if let Some(run) = seen.run(job, due) {
                            run.fate = Fate::Skipped { why: reason };
                        }
                    }
                }
            }
            let step = |step| now.checked_add(step).unwrap_or(Timestamp::MAX);
            let wake = running.values().copied().chain(tick.next).min();
            let next = wake.map_or(step(LONGEST_STEP), |wake| wake.min(step(LONGEST_STEP)));
            let next = next.max(step(SHORTEST_STEP));
            if next <= now {
                // The end of all time that can be written.
                break;
            }
            now = next;
        }
        let mut runs = seen.runs;
        runs.sort_by(|a, b| a.order().cmp(&b.order()));
        let cut = now <= until && runs.len() >= most;
        Forecast {
            from,
            until: if cut { now } else { until },
            cut,
            runs,
        }
    }
}
