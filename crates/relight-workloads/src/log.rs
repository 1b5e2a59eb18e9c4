//! The log between the snapshots of a workload, as the server sees it: what it makes recoverable, and who follows it.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use jiff::Timestamp;
use relight_repo::SnapshotId;
use serde::Serialize;

/// What can be recovered of a workload with its log: intervals, not points.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Windows {
    /// When this was looked at, by the clock of this machine.
    pub looked: Timestamp,
    /// Up to when nothing is missing: the last moment of the newest interval, or later if it is known that nothing has
    /// happened since. None: nothing can be recovered.
    pub reaches: Option<Timestamp>,
    /// By branch, then by time.
    pub intervals: Vec<Interval>,
    /// What cannot be recovered between or behind intervals.
    pub gaps: Vec<Gap>,
    /// Named moments that can be recovered.
    pub points: Vec<Named>,
    /// What else is not as it should be, in words.
    pub remarks: Vec<String>,
}

/// An interval any moment of which can be recovered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Interval {
    /// The branch of the log: the timeline of a PostgreSQL cluster.
    pub branch: String,
    /// The first moment.
    pub from: Timestamp,
    /// The last moment.
    pub to: Timestamp,
    /// Where the log is at the first moment, as the workload's own tools write it.
    pub first: String,
    /// Where it is at the last one.
    pub last: String,
    /// The snapshots from which it can be reached, the oldest first.
    pub snapshots: Vec<SnapshotId>,
}

/// What cannot be recovered, although the log goes on behind it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Gap {
    /// The branch of the log.
    pub branch: String,
    /// The last moment before it.
    pub from: Timestamp,
    /// The first moment behind it that can be recovered; none as long as no snapshot was made since.
    pub to: Option<Timestamp>,
    /// Why, in words.
    pub cause: String,
}

/// A moment that somebody gave a name.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Named {
    /// The branch of the log.
    pub branch: String,
    /// Its name.
    pub name: String,
    /// When it was.
    pub time: Timestamp,
}

impl Windows {
    /// The gap that is still open: the log goes on, but nothing of it can be used until the next snapshot.
    pub fn open_gap(&self) -> Option<&Gap> {
        self.gaps.iter().rev().find(|gap| gap.to.is_none())
    }
}

/// What is seen of the source of a log while it is followed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Seen {
    /// What is done, in words.
    pub doing: String,
    /// When the source was last seen to be well.
    pub well: Option<Timestamp>,
    /// Bytes that the source keeps because they are not in the repository yet.
    pub kept: Option<u64>,
    /// Beyond so many it throws them away.
    pub limit: Option<u64>,
    /// What is wrong, in words, by what is wrong about it.
    pub alarms: BTreeMap<&'static str, String>,
}

/// How following a log is watched and stopped.
#[derive(Debug)]
pub struct Following {
    /// Folder on this machine for what is not in the repository yet.
    pub folder: PathBuf,
    /// Ends it soon after it becomes true; what was received is stored first.
    pub cancelled: Arc<AtomicBool>,
    seen: Mutex<Seen>,
}

impl Following {
    /// With this folder.
    pub fn new(folder: PathBuf) -> Arc<Self> {
        Arc::new(Self {
            folder,
            cancelled: Arc::default(),
            seen: Mutex::default(),
        })
    }

    /// What was seen last.
    pub fn seen(&self) -> Seen {
        self.lock().clone()
    }

    /// It is begun anew: nothing is known to be wrong.
    pub fn begin(&self) {
        self.lock().alarms.clear();
    }

    /// Tells what is done.
    pub fn doing(&self, what: impl Into<String>) {
        self.lock().doing = what.into();
    }

    /// Tells that the source is well, and what it keeps.
    pub fn well(&self, now: Timestamp, kept: Option<u64>, limit: Option<u64>) {
        let mut seen = self.lock();
        (seen.well, seen.kept, seen.limit) = (Some(now), kept, limit);
    }

    /// Tells what is wrong about something, or that nothing is.
    pub fn alarm(&self, about: &'static str, words: Option<String>) {
        let mut seen = self.lock();
        match words {
            Some(words) => seen.alarms.insert(about, words),
            None => seen.alarms.remove(about),
        };
    }

    /// Whether somebody asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
