//! Shows long work of the engine step by step.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use relight_repo::control::{Progress, Unit};

use crate::context::Global;
use crate::progress::Meter;

/// Watches work of the engine and shows the step that it is at.
pub struct Steps<'g> {
    global: &'g Global,
    now: Mutex<Option<Meter>>,
    /// Of the step that is shown.
    done: Mutex<Arc<AtomicU64>>,
}

impl<'g> Steps<'g> {
    /// Nothing has begun.
    pub fn new(global: &'g Global) -> Self {
        Self {
            global,
            now: Mutex::default(),
            done: Mutex::default(),
        }
    }
}

impl Progress for Steps<'_> {
    fn begin(&self, step: &'static str, unit: Unit, total: u64) {
        let done = Arc::new(AtomicU64::new(0));
        let mut now = self.now.lock().unwrap_or_else(PoisonError::into_inner);
        // The line of the step before goes first.
        *now = None;
        *now = Some(match unit {
            Unit::Bytes => Meter::start(self.global, done.clone(), total, move || step.to_string()),
            Unit::Items => Meter::counting(self.global, done.clone(), total, step),
        });
        *self.done.lock().unwrap_or_else(PoisonError::into_inner) = done;
    }

    fn advance(&self, amount: u64) {
        let done = self.done.lock().unwrap_or_else(PoisonError::into_inner);
        done.fetch_add(amount, Ordering::Relaxed);
    }
}
