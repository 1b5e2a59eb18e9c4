//! What the server needs of a kind of workload: how it is captured by a plan's words.
//!
//! A new kind is an implementation of [`Kind`], and a row in the server's registry.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use jiff::{SignedDuration, Timestamp};
use relight_model::Workload;
use relight_model::plan::{Method, Settings, WorkloadEntry};
use relight_repo::session::Session;
use relight_repo::snapshot::{Archive, Snapshot};
use relight_repo::{Repository, SnapshotId};

use crate::error::Result;
use crate::log::{Following, Windows};
use crate::rehearse::Rehearse;

/// A workload as the plan describes it.
#[derive(Debug, Clone, PartialEq)]
pub struct Subject {
    /// Its name.
    pub workload: Workload,
    /// Where and how it is read.
    pub source: Settings,
    /// How it is seen to work.
    pub probe: Settings,
}

impl Subject {
    /// Of a plan's entry.
    pub fn of(entry: &WorkloadEntry) -> Self {
        let settings = |at: &Option<relight_model::plan::At<Settings>>| {
            at.as_ref().map(|at| at.value.clone()).unwrap_or_default()
        };
        Self {
            workload: entry.name.value.clone(),
            source: settings(&entry.source),
            probe: settings(&entry.probe),
        }
    }
}

/// How work on a workload is watched and stopped.
#[derive(Clone)]
pub struct Work {
    /// Ends it soon after it becomes true.
    pub cancelled: Arc<AtomicBool>,
    /// Bytes that were looked at or written so far.
    pub done: Arc<AtomicU64>,
    /// Bytes there will be, as far as that is known; 0 if not.
    pub total: Arc<AtomicU64>,
    /// Is told, in words for the operator, what is being done.
    pub note: Arc<dyn Fn(&str) + Send + Sync>,
}

impl Work {
    /// Work that nobody watches.
    pub fn quiet() -> Self {
        Self {
            cancelled: Arc::default(),
            done: Arc::default(),
            total: Arc::default(),
            note: Arc::new(|_| {}),
        }
    }

    /// Tells what is being done.
    pub fn note(&self, what: &str) {
        (self.note)(what);
    }

    /// Whether somebody asked to stop.
    pub fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Relaxed)
    }
}

/// What was captured, to be published as a snapshot.
#[derive(Debug, Default)]
pub struct Captured {
    /// The moment it can bring back. None: when the session began.
    pub time: Option<Timestamp>,
    /// The archives.
    pub archives: Vec<Archive>,
    /// What the kind wants to remember.
    pub attributes: BTreeMap<String, String>,
    /// What is not saved as it should be, by name. Not empty: the snapshot is incomplete.
    pub incomplete: Vec<String>,
    /// Bytes that were read; what was unchanged was not.
    pub read: u64,
}

/// A kind of workload.
pub trait Kind: Send + Sync {
    /// The method of a plan that it stands for.
    fn method(&self) -> Method;

    /// Whether a subject's words make sense. Nothing is touched.
    ///
    /// # Errors
    /// What is wrong with them.
    fn check(&self, subject: &Subject) -> Result<()>;

    /// Captures it into a session. `parent` is the newest snapshot of the workload, whose unchanged parts may be taken
    /// over.
    ///
    /// # Errors
    /// Why it could not be captured; the caller publishes nothing then.
    fn capture(
        &self,
        subject: &Subject,
        session: &Session,
        parent: Option<&Snapshot>,
        work: &Work,
    ) -> Result<Captured>;

    /// How a drill restores it and sees that it works. None: drills of this kind are not possible.
    fn rehearse(&self) -> Option<&dyn Rehearse> {
        None
    }

    /// How the log between its snapshots is kept. None: this kind has no log.
    fn log(&self) -> Option<&dyn KeepsLog> {
        None
    }
}

/// A kind whose snapshots can be brought forward by a log. What of both must stay depends on each other: ask for the
/// snapshots that are needed, forget others, then let the log go that no snapshot needs any more.
pub trait KeepsLog: Send + Sync {
    /// The snapshots of a workload that must stay, whatever other rules say, so that any moment can be recovered of so
    /// much time back from now.
    ///
    /// # Errors
    /// If what is there cannot be read: then nothing may be forgotten.
    fn needed(
        &self,
        repository: &Arc<Repository>,
        workload: &Workload,
        point_in_time: SignedDuration,
    ) -> Result<BTreeSet<SnapshotId>>;

    /// Lets go of the log that the snapshots do not need: to be recovered themselves, and to be brought to any moment of
    /// so much time back from now (none: to any that they can be brought to). Returns how many snapshots of the log were
    /// forgotten or replaced by smaller ones.
    ///
    /// # Errors
    /// If what is there cannot be read: then nothing is forgotten.
    fn expire(
        &self,
        repository: &Arc<Repository>,
        workload: &Workload,
        point_in_time: Option<SignedDuration>,
        cancelled: &Arc<AtomicBool>,
    ) -> Result<u64>;

    /// What can be recovered of a workload with its log. None: there is no log of it in the repository.
    ///
    /// # Errors
    /// If what is there cannot be read.
    fn windows(&self, repository: &Arc<Repository>, workload: &Workload) -> Result<Option<Windows>>;

    /// Brings the log of a workload to another repository, to which its snapshots were copied: as much as they can be carried on
    /// with. `copy` copies snapshots.
    ///
    /// # Errors
    /// Why not all of it was brought.
    fn copy(
        &self,
        from: &Arc<Repository>,
        to: &Arc<Repository>,
        workload: &Workload,
        copy: &mut dyn FnMut(&[Snapshot]) -> Result<()>,
    ) -> Result<()>;

    /// Follows the log of a subject until it is cancelled: has it in the repository as it is written, or watches over those
    /// who bring it there. Returns early if there is nothing to do at present; it is called again later.
    ///
    /// # Errors
    /// Why it cannot be followed. It is tried again later.
    fn follow(
        &self,
        subject: &Subject,
        repository: &Arc<Repository>,
        following: &Arc<Following>,
    ) -> Result<()>;
}
