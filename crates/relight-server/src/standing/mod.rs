//! How every workload of the plan stands now: its newest recovery point, what is promised and kept, what ran last, what was
//! proven, and what has suddenly become different.
//!
//! [`History`] keeps of the state what this needs in memory and follows it; what stands is computed from that, the plan and
//! the time, by plain functions.

mod change;
mod history;
mod judge;
#[cfg(test)]
pub(crate) mod tests;

use jiff::Timestamp;
use jiff::civil::Date;
use relight_model::objective::{Judgement, Verdict};
use relight_model::{TimeSpan, Workload};
use serde::Serialize;

pub use change::{Change, Sample, What, changes};
pub use history::{History, News, Past};

use crate::logs::LogStanding;
use crate::state::Run;

/// How a workload stands.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Standing {
    /// Which.
    pub workload: Workload,
    /// Its policy. None: it is not protected.
    pub policy: Option<String>,
    /// Why it is not protected, where that is meant so.
    pub excluded: Option<Excluded>,
    /// The newest good recovery point.
    pub newest: Option<Point>,
    /// How far its log reaches. None: it has none, or that is not known yet.
    pub log: Option<LogStanding>,
    /// What is promised to be lost at most, against the age of the newest point. None: no policy.
    pub rpo: Option<Judgement>,
    /// Within which time it is promised to be back, against what drills have shown. None: no policy.
    pub rto: Option<Judgement>,
    /// The number of the backup that runs.
    pub running: Option<u64>,
    /// The last backup that has ended, whatever came of it.
    pub last_backup: Option<Run>,
    /// How many backups one after the other have not ended well, up to now.
    pub failures: u32,
    /// The last verification that has ended.
    pub last_verification: Option<Run>,
    /// The last verification that found everything whole.
    pub verified: Option<Timestamp>,
    /// The last run of its drill that has ended; it may have failed before anything was restored.
    pub last_drill_run: Option<Run>,
    /// What the last drill has shown.
    pub last_drill: Option<Drilled>,
    /// When a drill last showed that it comes back.
    pub proven: Option<Timestamp>,
    /// Its copies in other repositories.
    pub copies: Vec<Copied>,
    /// What was suddenly different about the newest good backup.
    pub changes: Vec<Change>,
    /// When its next backup is due, or expected where clients push it.
    pub next: Option<Timestamp>,
}

/// Why a workload has no policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Excluded {
    /// Why, as the plan says.
    pub reason: String,
    /// The last day for which that was decided.
    pub until: Option<Date>,
    /// That day is over.
    pub expired: bool,
}

/// A recovery point.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Point {
    /// When its capture began.
    pub time: Timestamp,
    /// The run that made it, or saw it come.
    pub run: u64,
    /// The snapshot.
    pub snapshot: Option<String>,
    /// Its size in bytes.
    pub size: Option<u64>,
    /// Bytes of it that were new.
    pub added: Option<u64>,
    /// How long its run took.
    pub took: TimeSpan,
}

/// What a drill has shown.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Drilled {
    /// The run.
    pub run: u64,
    /// When it was asked for.
    pub requested: Timestamp,
    /// The moment that was brought back.
    pub point: Option<Timestamp>,
    /// Whether it came back and was seen to work.
    pub good: bool,
    /// From the request until it was seen to work.
    pub measured: Option<TimeSpan>,
    /// Against the promise of then.
    pub verdict: Verdict,
    /// Whether probes noticed what was made wrong on purpose, if that was tried.
    pub control: Option<bool>,
    /// What went wrong.
    pub message: Option<String>,
}

/// A copy in another repository.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Copied {
    /// Where.
    pub repository: String,
    /// The last run that has ended.
    pub last: Option<Run>,
    /// The start of the last one that ended well: what was there then is there too.
    pub good: Option<Timestamp>,
}

impl Standing {
    /// Whether it is protected and everything that was promised is proven to be kept.
    pub fn is_good(&self) -> bool {
        let kept = |judgement: &Option<Judgement>| {
            judgement.as_ref().is_some_and(|judgement| {
                matches!(judgement.verdict, Verdict::Met { .. } | Verdict::NotPromised)
            })
        };
        kept(&self.rpo) && kept(&self.rto) && self.newest.is_some() && self.failures == 0
    }
}

/// From one moment to a later one; nothing if they are the other way round.
pub(crate) fn between(earlier: Timestamp, later: Timestamp) -> TimeSpan {
    TimeSpan(later.duration_since(earlier).try_into().unwrap_or_default())
}
