//! One run while it runs: what it is told, what it tells.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use jiff::Timestamp;
use relight_repo::control::{Control, Progress, Unit};
use relight_repo::throttle::Throttle;
use relight_workloads::kind::Work;

use crate::state::{Run, RunEvent, State};

/// So many events of a run are kept.
const MOST_EVENTS: u64 = 2_000;

/// A run while it runs.
#[derive(Clone)]
pub(crate) struct Task {
    /// Its row.
    pub run: Run,
    /// How it is watched and stopped.
    pub work: Work,
    /// How fast it may be.
    pub throttle: Arc<Throttle>,
}

impl Task {
    /// Of a run that has just begun. Its events go to the state.
    pub fn new(run: Run, state: Arc<State>) -> Self {
        let (number, written) = (run.number, AtomicU64::new(0));
        let note = move |text: &str| {
            let count = written.fetch_add(1, Ordering::Relaxed);
            let text = match count {
                0..MOST_EVENTS => text.to_owned(),
                MOST_EVENTS => "further events are not kept".to_owned(),
                _ => return,
            };
            tracing::debug!(run = number, "{text}");
            let event = RunEvent {
                time: Timestamp::now(),
                text,
            };
            if let Err(error) = state.add_run_events(number, &[event]) {
                tracing::warn!(run = number, "{error}: an event could not be written down");
            }
        };
        Self {
            run,
            work: Work {
                cancelled: Arc::new(AtomicBool::new(false)),
                done: Arc::default(),
                total: Arc::default(),
                note: Arc::new(note),
            },
            throttle: Arc::default(),
        }
    }

    /// Tells what is being done.
    pub fn note(&self, what: &str) {
        self.work.note(what);
    }

    /// For work of the repository.
    pub fn control<'a>(&'a self, progress: &'a Steps<'a>) -> Control<'a> {
        Control {
            cancelled: &self.work.cancelled,
            progress,
        }
    }
}

/// Passes the progress of the repository's work on. Bytes that are read wait for their turn here.
pub(crate) struct Steps<'a> {
    task: &'a Task,
    in_bytes: AtomicBool,
    throttled: bool,
}

impl<'a> Steps<'a> {
    /// Work whose bytes are limited elsewhere, or not at all.
    pub fn free(task: &'a Task) -> Self {
        Self {
            task,
            in_bytes: AtomicBool::new(false),
            throttled: false,
        }
    }

    /// Work whose progress is what it reads from storage.
    pub fn throttled(task: &'a Task) -> Self {
        Self {
            throttled: true,
            ..Self::free(task)
        }
    }
}

impl Progress for Steps<'_> {
    fn begin(&self, step: &'static str, unit: Unit, total: u64) {
        let in_bytes = unit == Unit::Bytes;
        self.in_bytes.store(in_bytes, Ordering::Relaxed);
        self.task.note(step);
        if in_bytes {
            self.task.work.done.store(0, Ordering::Relaxed);
            self.task.work.total.store(total, Ordering::Relaxed);
        }
    }

    fn advance(&self, amount: u64) {
        if !self.in_bytes.load(Ordering::Relaxed) {
            return;
        }
        self.task.work.done.fetch_add(amount, Ordering::Relaxed);
        if self.throttled {
            self.task.throttle.pass(amount, &self.task.work.cancelled);
        }
    }
}
