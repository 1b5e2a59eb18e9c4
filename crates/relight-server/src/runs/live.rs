//! What runs at present, for others to look at and to cancel.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use relight_model::schedule::{ClockAlarm, Decision, JobId, Tick, WaitReason};
use serde::Serialize;

use super::task::Task;

/// What runs at present, by number, and what the scheduler shows beside it.
#[derive(Default)]
pub struct Live {
    tasks: Mutex<BTreeMap<u64, Task>>,
    shown: Mutex<Arc<Shown>>,
    /// When that was.
    decided: Mutex<Option<Instant>>,
}

/// What the scheduler decided last.
#[derive(Debug, Default, Serialize)]
pub struct Shown {
    /// What is due and waits.
    pub waiting: Vec<Waiting>,
    /// Why the clock is not trusted.
    pub clock: Option<ClockAlarm>,
}

/// A run that is due and waits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Waiting {
    /// What is to be done.
    pub job: JobId,
    /// When it was due.
    pub due: Timestamp,
    /// What it waits for.
    pub reason: WaitReason,
}

/// How far a run has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Progress {
    /// Its number.
    pub run: u64,
    /// Bytes so far.
    pub done: u64,
    /// Bytes in all, as far as that is known; 0 if not.
    pub total: u64,
}

impl Live {
    fn tasks(&self) -> MutexGuard<'_, BTreeMap<u64, Task>> {
        self.tasks.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the scheduler decided last.
    pub fn shown(&self) -> Arc<Shown> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether nothing was decided for this time.
    pub fn stands_still(&self, time: Duration) -> bool {
        let decided = *self.decided.lock().unwrap_or_else(PoisonError::into_inner);
        decided.is_none_or(|at| at.elapsed() > time)
    }

    pub(super) fn show(&self, tick: &Tick) {
        let waiting = tick.decisions.iter().filter_map(|decision| match decision {
            Decision::Wait { job, due, reason } => Some(Waiting {
                job: job.clone(),
                due: *due,
                reason: reason.clone(),
            }),
            Decision::Start { .. } | Decision::Skip { .. } => None,
        });
        let shown = Arc::new(Shown {
            waiting: waiting.collect(),
            clock: tick.alarm,
        });
        *self.shown.lock().unwrap_or_else(PoisonError::into_inner) = shown;
        *self.decided.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    pub(super) fn add(&self, task: Task) {
        self.tasks().insert(task.run.number, task);
    }

    pub(super) fn remove(&self, run: u64) -> Option<Task> {
        self.tasks().remove(&run)
    }

    pub(super) fn all(&self) -> Vec<Task> {
        self.tasks().values().cloned().collect()
    }

    /// How many run.
    pub fn count(&self) -> usize {
        self.tasks().len()
    }

    /// How far each has come.
    pub fn progress(&self) -> Vec<Progress> {
        self.tasks()
            .iter()
            .map(|(run, task)| progress(*run, task))
            .collect()
    }

    /// How far one has come. None: it does not run.
    pub fn progress_of(&self, run: u64) -> Option<Progress> {
        self.tasks().get(&run).map(|task| progress(run, task))
    }

    /// Asks a run to end soon. False: it does not run.
    pub fn cancel(&self, run: u64) -> bool {
        let tasks = self.tasks();
        let Some(task) = tasks.get(&run) else {
            return false;
        };
        task.work.cancelled.store(true, Ordering::Relaxed);
        true
    }
}

fn progress(run: u64, task: &Task) -> Progress {
    Progress {
        run,
        done: task.work.done.load(Ordering::Relaxed),
        total: task.work.total.load(Ordering::Relaxed),
    }
}
