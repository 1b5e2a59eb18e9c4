//! What the details of evidence of runs, drills and restores say. Whoever writes such evidence and whoever judges by it use
//! the same words.

use jiff::Timestamp;
use relight_model::objective::Verdict;
use relight_model::objective::exercise::Recovered;
use relight_model::objective::forecast::Measurement;
use relight_model::plan::{PickRule, Stage};
use relight_model::schedule::{JobId, RunKind};
use relight_model::{ByteSize, TimeSpan, Workload};
pub use relight_workloads::rehearse::Probed;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// How a run ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Ended {
    /// Everything was done.
    Good,
    /// It was done, but not all of it: some files could not be read, say. That is no success.
    Incomplete,
    /// It failed.
    Failed,
    /// Somebody cancelled it.
    Cancelled,
    /// The server stopped while it ran.
    Interrupted,
}

impl Ended {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Good,
        Self::Incomplete,
        Self::Failed,
        Self::Cancelled,
        Self::Interrupted,
    ];

    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Good => "good",
            Self::Incomplete => "incomplete",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
            Self::Interrupted => "interrupted",
        }
    }
}

/// Evidence of a run of any kind. For a drill or an exercise there is [`DrillDetail`] or [`ExerciseDetail`] beside it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RunDetail {
    /// Its number.
    pub run: u64,
    /// What was done to what.
    pub job: JobId,
    /// When it was due, or its snapshot was captured where a client pushed it.
    pub due: Timestamp,
    /// When it was started.
    pub started: Timestamp,
    /// How the run ended.
    pub ended: Ended,
    /// The how-manieth try, from 1.
    pub attempt: u32,
    /// A client made the backup and sent it; the server only received it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub pushed: bool,
    /// The code of what went wrong, as docs/errors.md explains it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// The repository it worked on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// The snapshot that was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub snapshot: Option<String>,
    /// What was done, in numbers.
    #[serde(flatten)]
    pub figures: Figures,
}

/// What a run did, in numbers. What does not apply to its kind is left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Figures {
    /// Bytes of all archives of the snapshot (backup), of the snapshots that were copied (copy), that were restored (drill).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<u64>,
    /// Bytes that were read from the workload, or from the repository (verify).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub read: Option<u64>,
    /// Bytes that were new to the repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub added: Option<u64>,
    /// Bytes by which the repository grew (backup, copy), or shrank (collect).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stored: Option<u64>,
    /// Snapshots that were copied, verified or forgotten.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub snapshots: Option<u64>,
    /// Places where something was found damaged (verify).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub damaged: Option<u64>,
}

/// Evidence of one drill of one workload.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct DrillDetail {
    /// The run that it was part of.
    pub run: u64,
    /// The workload.
    pub workload: Workload,
    /// Whether it was part of the exercise of everything.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub exercise: bool,
    /// The snapshot that was restored.
    pub snapshot: Option<String>,
    /// The moment that was brought back.
    pub point: Option<Timestamp>,
    /// By which rule it was picked.
    pub pick: PickRule,
    /// The repository it came from.
    pub repository: String,
    /// The machine it was done on.
    #[serde(default)]
    pub host: String,
    /// When it was asked for.
    pub requested: Timestamp,
    /// Bytes that were restored.
    pub size: u64,
    /// Its steps in their order.
    pub steps: Vec<Step>,
    /// What was probed.
    pub probes: Vec<Probed>,
    /// Whether a drill that must fail did fail, if that was tried.
    pub control: Option<NegativeControl>,
    /// From the request until all probes had passed. None: they did not.
    pub measured: Option<TimeSpan>,
    /// The RTO that was promised.
    pub promised: Option<TimeSpan>,
    /// What follows.
    pub verdict: Verdict,
    /// Whether everything that was made for it is gone again.
    pub torn_down: bool,
    /// What else is worth knowing, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub remarks: Vec<String>,
    /// Code and message of what went wrong, if anything did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// What went wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
}

impl DrillDetail {
    /// Whether it came back and was seen to work, and nothing about the drill itself was wrong. Whether that was in time is for
    /// the verdict to say.
    pub fn is_good(&self) -> bool {
        self.measured.is_some() && self.code.is_none()
    }

    /// For the forecast of later recoveries, if there is anything to learn from it.
    pub fn measurement(&self) -> Option<Measurement> {
        let total = self.measured?;
        let of = |step: &&Step| step.name == "restore";
        let restore = self
            .steps
            .iter()
            .find(of)
            .map_or(TimeSpan::default(), |step| step.took);
        Some(Measurement {
            at: self.requested,
            size: ByteSize(self.size),
            restore,
            rest: TimeSpan(total.0.saturating_sub(restore.0)),
        })
    }
}

/// A step of a drill: `pick`, `restore`, `start`, `probe`, `control`, `tear-down`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Step {
    /// Which.
    pub name: String,
    /// How long it took.
    pub took: TimeSpan,
}

/// A drill that must fail: what was restored is made wrong, and the same probes are asked again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NegativeControl {
    /// What was made wrong.
    pub spoiled: String,
    /// Whether the probes noticed.
    pub noticed: bool,
}

/// Evidence of the exercise of everything.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct ExerciseDetail {
    /// The run.
    pub run: u64,
    /// When it was asked for.
    pub requested: Timestamp,
    /// Each workload's recovery.
    pub recovered: Vec<Recovered>,
    /// How long each stage took.
    pub stages: Vec<(Stage, TimeSpan)>,
    /// What was begun before a stage that it depends on had ended.
    pub out_of_order: Vec<Workload>,
    /// In all. None: something did not come back.
    pub measured: Option<TimeSpan>,
    /// What was promised.
    pub promised: Option<TimeSpan>,
    /// What follows.
    pub verdict: Verdict,
}

/// Evidence that something was read out of a snapshot.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct RestoreDetail {
    /// The workload.
    pub workload: String,
    /// The snapshot.
    pub snapshot: String,
    /// The repository.
    pub repository: String,
    /// What of it: archives, paths. Empty: everything.
    pub parts: Vec<String>,
    /// To where, as far as the server knows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes: Option<u64>,
}

/// Evidence of how far the log of a workload reached over a time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct LogDetail {
    /// Whose.
    pub workload: Workload,
    /// Where.
    pub repository: String,
    /// When the time began.
    pub from: Timestamp,
    /// When it ended.
    pub to: Timestamp,
    /// Up to when nothing was missing when it began.
    pub reached_before: Timestamp,
    /// The same when it ended.
    pub reached: Timestamp,
    /// How much could have been lost at worst within it.
    pub exposure: TimeSpan,
    /// How many gaps there were in all that could be recovered.
    pub gaps: u64,
}

/// As the details of a record. Everything here is written as a table.
pub fn details(detail: &impl Serialize) -> Map<String, Value> {
    match serde_json::to_value(detail) {
        Ok(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

impl RunDetail {
    /// What kind of run it was.
    pub fn kind(&self) -> RunKind {
        self.job.kind()
    }
}
