//! The last lines of a copy's log: what it came to. Their words are those of the original, which tools search for.

use std::time::Duration;

use super::{SyncFigures, size};
use crate::service::tasks::Task;

/// Which way was copied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// From another server.
    Pull,
    /// To another server.
    Push,
}

impl SyncFigures {
    /// Something could not be done, while the rest goes on.
    pub(super) fn failed(&mut self, task: &Task, what: String) {
        self.failed += 1;
        task.warn(what);
    }

    pub(super) fn summarise(&self, task: &Task, direction: Direction, took: Duration, removes: bool) {
        let (copy, copied) = match direction {
            Direction::Pull => ("pull", "pulled"),
            Direction::Push => ("push", "pushed"),
        };
        if self.chunks > 0 {
            let rate = self.bytes as f64 / took.as_secs_f64().max(0.001);
            task.log(format!(
                "summary: {copied} {} in {} chunks, {} snapshots (average rate: {}/s)",
                size(self.bytes),
                self.chunks,
                self.snapshots,
                size(rate as u64)
            ));
        } else {
            task.log(format!(
                "summary: no new data to {copy}, {} snapshots added",
                self.snapshots
            ));
        }
        if removes {
            task.log(format!(
                "summary: removed vanished: snapshots: {}, groups: {}, namespaces: {}",
                self.removed_snapshots, self.removed_groups, self.removed_namespaces
            ));
        }
    }
}
