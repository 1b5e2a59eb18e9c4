//! Restores that somebody asked for: what is to be done, until a run does it.

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use relight_model::Workload;
use relight_postgres::restore::Goal;
use relight_pxar::fs::extract::ConflictPolicy;
use serde::{Deserialize, Serialize};

use crate::state::Run;

/// What becomes of files that exist where something is restored to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Existing {
    /// They stay, and what would take their place is left out.
    Skip,
    /// They stay unless they are older.
    KeepNewer,
    /// What is restored takes their place.
    Overwrite,
}

impl Existing {
    /// The names.
    pub const NAMES: [&str; 3] = ["skip", "keep-newer", "overwrite"];

    /// As the restore knows it.
    pub const fn policy(self) -> ConflictPolicy {
        match self {
            Self::Skip => ConflictPolicy::Skip,
            Self::KeepNewer => ConflictPolicy::KeepNewer,
            Self::Overwrite => ConflictPolicy::Replace,
        }
    }
}

/// A restore that was confirmed.
#[derive(Debug, Clone)]
pub(crate) struct Restore {
    /// The workload.
    pub workload: Workload,
    /// The repository that it is read from.
    pub repository: String,
    /// The snapshot.
    pub snapshot: String,
    /// What of it. Nothing: everything.
    pub paths: Vec<Vec<u8>>,
    /// The root that the configuration permits.
    pub root: PathBuf,
    /// The folder below it.
    pub below: PathBuf,
    /// What becomes of what is there.
    pub existing: Existing,
    /// How far a database cluster is recovered, if that is what is restored, and not the files in the recovery point.
    pub cluster: Option<Cluster>,
    /// Bytes that there will be, as they were counted; 0: it is not known.
    pub bytes: u64,
}

/// A database cluster that is restored to a moment.
#[derive(Debug, Clone)]
pub(crate) struct Cluster {
    /// The moment.
    pub goal: Goal,
    /// User and group of its files; none: those of this process.
    pub owner: Option<(u32, u32)>,
}

/// Restores that wait for the scheduler's thread, each with its run.
#[derive(Clone, Default)]
pub(crate) struct Asked(Arc<Mutex<VecDeque<(Run, Restore)>>>);

impl Asked {
    /// Adds one.
    pub fn add(&self, run: Run, restore: Restore) {
        let mut asked = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        asked.push_back((run, restore));
    }

    /// Takes the first one.
    pub fn take(&self) -> Option<(Run, Restore)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).pop_front()
    }
}
