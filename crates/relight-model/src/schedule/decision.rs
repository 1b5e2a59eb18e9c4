//! Decisions, and their reasons.

use std::fmt;

use jiff::Timestamp;
use serde::Serialize;

use super::clock::ClockAlarm;
use super::job::JobId;

/// What is to be done with a job that is due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "decision", rename_all = "kebab-case")]
pub enum Decision {
    /// It starts now. The state counts it as running from here on.
    Start {
        /// The job.
        job: JobId,
        /// When it was due.
        due: Timestamp,
        /// The how-manieth try, from 1.
        attempt: u32,
        /// It was due while the server was down.
        late: bool,
    },
    /// It waits.
    Wait {
        /// The job.
        job: JobId,
        /// When it was due.
        due: Timestamp,
        /// What for.
        reason: WaitReason,
    },
    /// It does not run for the time at which it was due; that is settled.
    Skip {
        /// The job.
        job: JobId,
        /// When it was due; the first of these times.
        due: Timestamp,
        /// Why.
        reason: SkipReason,
    },
}

/// What a job waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum WaitReason {
    /// Its place in the stagger, and its jitter.
    Staggered {
        /// It may start then.
        until: Timestamp,
    },
    /// Its window is closed.
    Window {
        /// It opens then; `None` if never again.
        until: Option<Timestamp>,
    },
    /// A failed try is not to be repeated yet.
    Backoff {
        /// How often it has failed.
        failed: u32,
        /// It is tried again then.
        until: Timestamp,
    },
    /// The run before still runs.
    StillRunning,
    /// It is used by as many runs as may use it.
    Resource {
        /// What: `host pve1`.
        resource: String,
        /// How many may.
        limit: u32,
    },
    /// As many runs run as may.
    Runs {
        /// How many may.
        limit: u32,
    },
    /// There is no snapshot yet that it could work on.
    NoSnapshot,
    /// The clock is not trusted, and this is neither a backup nor a copy.
    Clock,
}

/// Why a job does not run for a time at which it was due.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum SkipReason {
    /// It is due again; of several missed times only the last is made up for.
    Superseded {
        /// The last time at which it was due.
        by: Timestamp,
    },
    /// It was due while the server was down, and its policy says not to catch up.
    Missed,
}

impl fmt::Display for WaitReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Staggered { until } => write!(f, "its place in the stagger is {until}"),
            Self::Window { until: Some(until) } => write!(f, "its window opens {until}"),
            Self::Window { until: None } => f.write_str("its window never opens again"),
            Self::Backoff { failed, until } => write!(f, "failed {failed} times, tried again {until}"),
            Self::StillRunning => f.write_str("the run before still runs"),
            Self::Resource { resource, limit } => write!(f, "{resource} carries {limit} at a time"),
            Self::Runs { limit } => write!(f, "{limit} run at a time"),
            Self::NoSnapshot => f.write_str("there is no snapshot yet"),
            Self::Clock => f.write_str("the clock is not trusted"),
        }
    }
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Superseded { by } => write!(f, "due again {by}"),
            Self::Missed => f.write_str("due while the server was down, and its policy does not catch up"),
        }
    }
}

/// What one look at the clock has led to.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Tick {
    /// The time it was decided for: the wall clock, or the expected time if that was set while the machine ran.
    pub now: Timestamp,
    /// For every job that is due.
    pub decisions: Vec<Decision>,
    /// Why the clock is not trusted.
    pub alarm: Option<ClockAlarm>,
    /// Unless a run ends or somebody asks before, nothing changes until then.
    pub next: Option<Timestamp>,
}

impl Tick {
    /// The runs to start.
    pub fn started(&self) -> impl Iterator<Item = (&JobId, Timestamp, u32)> {
        self.decisions.iter().filter_map(|decision| match decision {
            Decision::Start {
                job, due, attempt, ..
            } => Some((job, *due, *attempt)),
            _ => None,
        })
    }
}
