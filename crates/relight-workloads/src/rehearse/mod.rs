//! What a drill needs of a kind of workload: which moments can be brought back, how that is done in a sandbox, how what is
//! there is started, and how it is seen to work.
//!
//! The order (points, restore, start, probe, spoil, stop) is the server's; a kind only says what each step means for it.

pub mod command;
pub mod isolated;
mod point;

use std::path::Path;
use std::sync::Arc;

use relight_repo::Repository;
use relight_repo::read::ChunkReader;
use relight_repo::snapshot::Snapshot;
use serde::{Deserialize, Serialize};

use crate::error::{Result, WorkloadError};
use crate::kind::{Subject, Work};

pub use point::{Point, Reach, pick};

/// One thing that was looked at in what was restored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Probed {
    /// What: `content`, `command`, `boot`, `pg_amcheck`.
    pub name: String,
    /// Whether it was as it should be.
    pub passed: bool,
    /// What was seen, in words.
    pub seen: String,
}

impl Probed {
    /// Something that was as it should be.
    pub fn passed(name: impl Into<String>, seen: impl Into<String>) -> Self {
        Self {
            name: name.into(),
            passed: true,
            seen: seen.into(),
        }
    }

    /// Something that was not.
    pub fn failed(name: impl Into<String>, seen: impl Into<String>) -> Self {
        Self {
            passed: false,
            ..Self::passed(name, seen)
        }
    }
}

/// What is to be restored, and where.
#[derive(Clone, Copy)]
pub struct Rehearsal<'a> {
    /// The workload, with the words of its `source` and `probe`.
    pub subject: &'a Subject,
    /// Reads its repository.
    pub reader: &'a Arc<ChunkReader>,
    /// All its snapshots, pieces of its log among them, in the order of their time.
    pub snapshots: &'a [Snapshot],
    /// The one that it begins with.
    pub snapshot: &'a Snapshot,
    /// The moment that is to be brought back.
    pub point: Point,
    /// An empty folder that only this drill uses, and that is thrown away after it. On a file system with as much room as
    /// [`Rehearse::room`] asked for.
    pub sandbox: &'a Path,
}

/// How a kind of workload is drilled.
pub trait Rehearse: Send + Sync {
    /// Whether the words of `probe` make sense. Nothing is touched.
    ///
    /// # Errors
    /// What is wrong with them.
    fn check_probe(&self, subject: &Subject) -> Result<()>;

    /// What can be brought back: for each snapshot that is a recovery point the moments it can be carried on to. Without a
    /// log that is the one moment at which it was captured. `snapshots` are those of the workload, in the order of their
    /// time, without those that are not to be used because something is missing in them; `repository` is where they are.
    fn reach(&self, subject: &Subject, repository: &Arc<Repository>, snapshots: &[Snapshot]) -> Vec<Reach> {
        let _ = (subject, repository);
        Reach::of_snapshots(snapshots)
    }

    /// Bytes that a restore and all that follows need in the sandbox.
    ///
    /// # Errors
    /// The snapshot cannot be read.
    fn room(&self, rehearsal: &Rehearsal<'_>) -> Result<u64>;

    /// Restores into the sandbox. Every error leaves the sandbox to be removed by the caller.
    ///
    /// # Errors
    /// Why it could not be restored.
    fn restore<'a>(&self, rehearsal: &Rehearsal<'a>, work: &Work) -> Result<Box<dyn Restored + 'a>>;
}

/// What was restored, until it is thrown away. Dropping it stops what it started.
pub trait Restored: Send {
    /// Bytes that were restored.
    fn size(&self) -> u64;

    /// Starts what the probes talk to, isolated from the network of this machine (see [`isolated`]), and returns when it can
    /// be talked to. Nothing has to be started to look at files.
    ///
    /// # Errors
    /// Why it does not start.
    fn start(&mut self, work: &Work) -> Result<()> {
        let _ = work;
        Ok(())
    }

    /// Looks whether it works. A probe that fails is no error: the list says so. An empty list proves nothing, and counts as
    /// failed.
    ///
    /// # Errors
    /// Why it could not be looked at: it was cancelled, a tool is missing.
    fn probe(&mut self, work: &Work) -> Result<Vec<Probed>>;

    /// Makes what was restored wrong, where a probe is bound to notice, and says in words what it made wrong. The probes are
    /// asked again after that. What is running is stopped and started again if that is needed.
    ///
    /// # Errors
    /// Why it could not; for instance because there is nothing that could be made wrong.
    fn spoil(&mut self, work: &Work) -> Result<String>;

    /// Stops what was started.
    ///
    /// # Errors
    /// Something is still running.
    fn stop(&mut self) -> Result<()> {
        Ok(())
    }
}

/// The words of `probe` as a kind expects them.
///
/// # Errors
/// What is wrong with them.
pub fn probe_words<T: serde::de::DeserializeOwned>(subject: &Subject, example: &str) -> Result<T> {
    subject.probe.read().map_err(|why| {
        WorkloadError::Refused(format!(
            "{}: probe: {why}; write for instance probe = {example}",
            subject.workload
        ))
    })
}
