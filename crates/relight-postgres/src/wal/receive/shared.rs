//! What the thread that receives and the one that stores tell each other.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard};
use std::time::Duration;

use jiff::Timestamp;

use crate::lsn::Lsn;
use crate::wal::error::WalError;
use crate::wal::name::Timeline;
use crate::wal::windows::KnownGap;

/// A stretch of a timeline that is received without a break.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stretch {
    /// The timeline.
    pub timeline: Timeline,
    /// Where it begins: where a segment begins.
    pub start: Lsn,
    /// How far it was received and lies in the spool.
    pub received: Lsn,
    /// Nothing more will come.
    pub ended: bool,
}

/// What both know.
#[derive(Debug, Default)]
pub struct State {
    /// Stretches that are not all in the repository, the oldest first. The last one may still grow.
    pub stretches: VecDeque<Stretch>,
    /// How far the last stretch is on the disk of this machine.
    pub written: Lsn,
    /// How far everything is durable in the repository.
    pub durable: Lsn,
    /// How far the server had written at which time by its clock, when it last said so.
    pub server: Option<(Lsn, Timestamp)>,
    /// Holes that are to be written down.
    pub gaps: Vec<KnownGap>,
    /// Files other than segments that are to be stored first.
    pub files: Vec<crate::wal::store::NewFile>,
    /// Store what there is, then end.
    pub ending: bool,
    /// Why nothing can be stored any more.
    pub failure: Option<WalError>,
}

/// The state, shared.
#[derive(Default)]
pub struct Shared {
    state: Mutex<State>,
    changed: Condvar,
}

impl Shared {
    /// Looks at it or changes it.
    pub fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Changes it and wakes who waits for that.
    pub fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let result = change(&mut self.lock());
        self.changed.notify_all();
        result
    }

    /// Waits until something changes, but not longer than so long.
    pub fn wait(&self, most: Duration) {
        let state = self.lock();
        drop(self.changed.wait_timeout(state, most));
    }
}
