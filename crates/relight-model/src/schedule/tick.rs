//! What is to be done now.

use std::collections::HashMap;

use jiff::{SignedDuration, Timestamp};

use super::clock::{Clock, ClockAlarm, PERMITTED_DEVIATION};
use super::decision::{Decision, SkipReason, Tick, WaitReason};
use super::state::{Past, Running, State};
use super::{Job, Schedule};
use crate::plan::Window;

/// What waits for a resource gains so much priority an hour.
pub const PRIORITY_AN_HOUR: i64 = 10;

/// What has waited for a resource so long has all its resources held free.
pub const RESERVE_AFTER: SignedDuration = SignedDuration::from_hours(1);

/// Without a look at the clock for longer than this, the server was down, and what was due in between was missed.
const DOWN_AFTER: SignedDuration = SignedDuration::from_mins(10);

/// What an operator asked for comes first.
const PRIORITY_REQUESTED: i64 = 1_000_000;

/// A job that could start, but for resources.
struct Ready<'s> {
    job: &'s Job,
    due: Timestamp,
    attempt: u32,
    late: bool,
    requested: bool,
    /// Since when it could.
    since: Timestamp,
}

/// A tick while it is made.
struct Making<'s> {
    schedule: &'s Schedule,
    now: Timestamp,
    last_tick: Option<Timestamp>,
    alarm: Option<ClockAlarm>,
    decisions: Vec<Decision>,
    ready: Vec<Ready<'s>>,
    next: Option<Timestamp>,
    /// Which windows are open, and when the others open.
    windows: Vec<Result<(), Option<Timestamp>>>,
    /// What is due of the event with this text since this time: many jobs share both.
    due: HashMap<(&'s str, Timestamp), Due>,
}

/// The times of an event around now.
#[derive(Clone, Copy)]
struct Due {
    /// The first that is not settled, due or not.
    first: Option<Timestamp>,
    /// The last that is due.
    latest: Option<Timestamp>,
    /// The next that is not due yet.
    after: Option<Timestamp>,
}

impl Schedule {
    fn is_open(&self, window: &Window, now: Timestamp) -> Result<(), Option<Timestamp>> {
        match window.open_until(now, &self.zone) {
            Some(_) => Ok(()),
            None => Err(window.opens.value.next_after(now, &self.zone)),
        }
    }

    /// Decides what is to be done now, and moves the state on: what is started runs, what is skipped is settled.
    pub fn tick(&self, state: &mut State, clock: Clock) -> Tick {
        let now = state.head.watch.look(clock);
        let mut making = Making {
            schedule: self,
            now,
            last_tick: state.head.last_tick,
            alarm: state.head.watch.alarm(),
            decisions: Vec::new(),
            ready: Vec::new(),
            next: None,
            windows: self
                .windows
                .iter()
                .map(|window| self.is_open(window, now))
                .collect(),
            due: HashMap::new(),
        };
        for job in &self.jobs {
            making.consider(job, state);
        }
        making.start(state);
        state.head.last_tick = Some(now);
        Tick {
            now,
            decisions: making.decisions,
            alarm: making.alarm,
            next: making.next,
        }
    }
}

impl<'s> Making<'s> {
    fn wake(&mut self, at: Timestamp) {
        self.next = Some(self.next.map_or(at, |next| next.min(at)));
    }

    fn wait(&mut self, job: &Job, due: Timestamp, reason: WaitReason) {
        match &reason {
            WaitReason::Staggered { until }
            | WaitReason::Backoff { until, .. }
            | WaitReason::Window { until: Some(until) } => self.wake(*until),
            _ => {}
        }
        self.decisions.push(Decision::Wait {
            job: job.id.clone(),
            due,
            reason,
        });
    }

    fn times(&mut self, job: &'s Job, settled: Timestamp) -> Due {
        let (now, zone) = (self.now, &self.schedule.zone);
        *self.due.entry((&job.text, settled)).or_insert_with(|| {
            let first = job.schedule.next_after(settled, zone);
            if first.is_none_or(|first| first > now) {
                return Due {
                    first,
                    latest: None,
                    after: first,
                };
            }
            Due {
                first,
                latest: job.schedule.latest_between(settled, now, zone),
                after: job.schedule.next_after(now, zone),
            }
        })
    }

    fn consider(&mut self, job: &'s Job, state: &mut State) {
        let now = self.now;
        let past = state.past.get(&job.id).copied();
        let requested = past.and_then(|past| past.requested);
        let mut settled = past.map_or(state.head.since, |past| past.settled);
        let held = self.alarm.is_some() && !job.id.kind().goes_on();
        if !held && settled.duration_since(now) > PERMITTED_DEVIATION {
            // A clock that was ahead must not keep jobs from running until the time that it said.
            settled = now;
            state.past_mut(&job.id).settled = now;
        }
        let Due { first, latest, after } = self.times(job, settled);
        if let Some(after) = after {
            self.wake(after);
        }
        if requested.is_none() && latest.is_none() {
            return;
        }
        if let Some(running) = state.row(&job.id).running {
            // What runs is settled when it ends; until then its own time is still there, but waits for nothing.
            let own = |due: &Timestamp| !running.requested && *due <= running.due;
            if let Some(due) = latest.filter(|due| !own(due)).or(requested) {
                self.wait(job, due, WaitReason::StillRunning);
            }
            return;
        }
        if held {
            // Before anything is settled by a time that may be wrong.
            self.wait(job, latest.or(requested).unwrap_or(now), WaitReason::Clock);
            return;
        }
        if let (Some(first), Some(latest)) = (first, latest)
            && first < latest
        {
            self.skip(job, state, first, SkipReason::Superseded { by: latest }, latest);
        }
        if let Some(needs) = &job.needs
            && state.past.get(needs).and_then(|past| past.last_good).is_none()
        {
            self.wait(job, latest.or(requested).unwrap_or(now), WaitReason::NoSnapshot);
            return;
        }
        if let Some(asked) = requested {
            self.requested(job, asked, past);
            return;
        }
        let Some(due) = latest else {
            return;
        };
        self.due(job, state, due, after, past);
    }

    fn skip(&mut self, job: &Job, state: &mut State, due: Timestamp, reason: SkipReason, before: Timestamp) {
        let past = state.past_mut(&job.id);
        past.settled = before
            .checked_sub(SignedDuration::from_nanos(1))
            .unwrap_or(before);
        self.decisions.push(Decision::Skip {
            job: job.id.clone(),
            due,
            reason,
        });
    }

    fn requested(&mut self, job: &'s Job, asked: Timestamp, past: Option<Past>) {
        let retry = past
            .and_then(|past| past.retry)
            .filter(|retry| retry.due == asked);
        if let Some(retry) = retry.filter(|retry| retry.not_before > self.now) {
            self.wait(
                job,
                asked,
                WaitReason::Backoff {
                    failed: retry.failed,
                    until: retry.not_before,
                },
            );
            return;
        }
        self.ready.push(Ready {
            job,
            due: asked,
            attempt: retry.map_or(0, |retry| retry.failed) + 1,
            late: false,
            requested: true,
            since: asked,
        });
    }

    fn due(
        &mut self,
        job: &'s Job,
        state: &mut State,
        due: Timestamp,
        after: Option<Timestamp>,
        past: Option<Past>,
    ) {
        let now = self.now;
        // Never so late that the next time would come first, again and again.
        let half = after.map_or(SignedDuration::MAX, |after| after.duration_since(due) / 2);
        let begins = due.checked_add(job.delay(due).min(half)).unwrap_or(due);
        if begins > now {
            self.wait(job, due, WaitReason::Staggered { until: begins });
            return;
        }
        let retry = past.and_then(|past| past.retry).filter(|retry| retry.due == due);
        // Down at the time, and for long before now.
        let missed = |last: Timestamp| last < begins && now.duration_since(last) > DOWN_AFTER;
        let late =
            retry.is_none() && self.last_tick.is_some_and(missed) && now.duration_since(begins) > DOWN_AFTER;
        if late && !job.catch_up {
            let after = due.checked_add(SignedDuration::from_nanos(1)).unwrap_or(due);
            self.skip(job, state, due, SkipReason::Missed, after);
            return;
        }
        if let Some(retry) = retry.filter(|retry| retry.waits(now)) {
            self.wait(
                job,
                due,
                WaitReason::Backoff {
                    failed: retry.failed,
                    until: retry.not_before,
                },
            );
            return;
        }
        let window = job.window.and_then(|at| self.windows.get(at).copied());
        if let Some(Err(until)) = window {
            self.wait(job, due, WaitReason::Window { until });
            return;
        }
        self.ready.push(Ready {
            job,
            due,
            attempt: retry.map_or(0, |retry| retry.failed) + 1,
            late,
            requested: false,
            since: past
                .and_then(|past| past.waiting)
                .unwrap_or_else(|| retry.map_or(begins, |retry| retry.not_before)),
        });
    }

    /// Starts what can be started, the most urgent first.
    fn start(&mut self, state: &mut State) {
        let now = self.now;
        let mut used = vec![0_u32; self.schedule.limits.len()];
        let mut runs = 0_u32;
        for (id, _) in state.running() {
            runs = runs.saturating_add(1);
            for &at in self.schedule.job(id).map_or(&[][..], |job| &job.resources) {
                if let Some(used) = used.get_mut(at) {
                    *used = used.saturating_add(1);
                }
            }
        }
        let mut ready = std::mem::take(&mut self.ready);
        ready.sort_by_cached_key(|ready| {
            (
                std::cmp::Reverse(ready.urgency(now)),
                ready.since,
                ready.job.id.lot(ready.due.as_second()),
            )
        });
        for ready in ready {
            let full = ready.job.resources.iter().copied().find(|&at| {
                let limit = self.schedule.limits.get(at).map_or(u32::MAX, |(_, limit)| *limit);
                used.get(at).copied().unwrap_or(0) >= limit
            });
            let reason = if let Some(at) = full {
                let limit = self.schedule.limits.get(at);
                limit.map(|((kind, name), limit)| WaitReason::Resource {
                    resource: format!("{kind} {name}"),
                    limit: *limit,
                })
            } else if runs >= self.schedule.runs {
                Some(WaitReason::Runs {
                    limit: self.schedule.runs,
                })
            } else {
                None
            };
            let starts = reason.is_none();
            if starts || now.duration_since(ready.since) >= RESERVE_AFTER {
                for &at in &ready.job.resources {
                    if let Some(used) = used.get_mut(at) {
                        *used = used.saturating_add(1);
                    }
                }
            }
            match reason {
                Some(reason) => {
                    let past = state.past.get(&ready.job.id);
                    if past.is_none_or(|past| past.waiting.is_none()) {
                        state.past_mut(&ready.job.id).waiting = Some(ready.since);
                    }
                    self.wait(ready.job, ready.due, reason);
                }
                None => {
                    runs += 1;
                    self.run(ready, state);
                }
            }
        }
    }

    fn run(&mut self, ready: Ready<'_>, state: &mut State) {
        let id = &ready.job.id;
        if state.past.contains_key(id) {
            let past = state.past_mut(id);
            past.waiting = None;
            if ready.requested {
                past.requested = None;
            }
        }
        let running = Running {
            due: ready.due,
            attempt: ready.attempt,
            started: self.now,
            requested: ready.requested,
        };
        state.begin(id, running);
        self.decisions.push(Decision::Start {
            job: id.clone(),
            due: ready.due,
            attempt: ready.attempt,
            late: ready.late,
        });
    }
}

impl Ready<'_> {
    fn urgency(&self, now: Timestamp) -> i64 {
        let waited = now.duration_since(self.since).as_secs().max(0);
        let asked = if self.requested { PRIORITY_REQUESTED } else { 0 };
        asked + i64::from(self.job.priority) + waited * PRIORITY_AN_HOUR / 3_600
    }
}

impl Job {
    /// How long after its time it begins: its place in the stagger, and a jitter that is the same for the same time.
    fn delay(&self, due: Timestamp) -> SignedDuration {
        let jitter = self.jitter.as_secs().max(0).unsigned_abs();
        let drawn = self.id.lot(due.as_second()) % (jitter + 1);
        self.offset + SignedDuration::from_secs(i64::try_from(drawn).unwrap_or(0))
    }
}
