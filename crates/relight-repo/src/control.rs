//! How long work is watched and stopped.

use std::sync::atomic::{AtomicBool, Ordering};

use crate::error::{RepoError, Result};

/// What the numbers of a progress count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unit {
    /// Bytes.
    Bytes,
    /// Things: packs, list nodes, objects.
    Items,
}

/// Is told how far long work has come, from several threads at once.
pub trait Progress: Sync {
    /// A step begins. `total` is how much there is to do in it, as far as that is known.
    fn begin(&self, step: &'static str, unit: Unit, total: u64);

    /// So much more of the step has been done.
    fn advance(&self, amount: u64);
}

/// Nobody watches.
impl Progress for () {
    fn begin(&self, _: &'static str, _: Unit, _: u64) {}
    fn advance(&self, _: u64) {}
}

/// How one piece of long work is watched and stopped.
#[derive(Clone, Copy)]
pub struct Control<'a> {
    /// Ends the work soon after it becomes true, in an orderly way.
    pub cancelled: &'a AtomicBool,
    /// Who watches.
    pub progress: &'a dyn Progress,
}

impl<'a> Control<'a> {
    /// Work that can be stopped but is not watched.
    pub fn quiet(cancelled: &'a AtomicBool) -> Self {
        Self {
            cancelled,
            progress: &(),
        }
    }

    /// Whether somebody asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    /// An error if somebody asked to stop.
    pub fn check(&self) -> Result<()> {
        if self.is_cancelled() {
            Err(RepoError::Cancelled)
        } else {
            Ok(())
        }
    }
}
