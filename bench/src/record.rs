//! What a run leaves behind: every single measurement, and what it was measured on.

use std::collections::BTreeMap;

use clap::ValueEnum;
use serde::{Deserialize, Serialize};

use crate::data::{DataSet, Prepared};
use crate::machine::Machine;
use crate::tools::ToolName;

/// A measured step, in the order in which a run takes them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Step {
    /// Into an empty repository.
    FirstBackup,
    /// With nothing changed.
    UnchangedBackup,
    /// After one percent has changed.
    ChangedBackup,
    /// Everything, into an empty directory.
    Restore,
    /// The same, with everything read back and compared, which only Relight does.
    CheckedRestore,
    /// One small file of it.
    RestoreOne,
    /// Reading and checking all data.
    Verify,
    /// Forgetting all snapshots but the newest and giving back the space.
    Collect,
}

impl Step {
    /// All steps, in order.
    pub const ALL: [Self; 8] = [
        Self::FirstBackup,
        Self::UnchangedBackup,
        Self::ChangedBackup,
        Self::Restore,
        Self::CheckedRestore,
        Self::RestoreOne,
        Self::Verify,
        Self::Collect,
    ];

    /// The name in tables.
    pub const fn name(self) -> &'static str {
        match self {
            Self::FirstBackup => "first backup",
            Self::UnchangedBackup => "unchanged backup",
            Self::ChangedBackup => "backup after 1 % change",
            Self::Restore => "full restore",
            Self::CheckedRestore => "full restore, read back",
            Self::RestoreOne => "restore of one file",
            Self::Verify => "verify, all data read",
            Self::Collect => "forget and collect",
        }
    }

    /// Whether a rate over the size of the data says something: the step goes through all of it.
    pub const fn goes_through_all(self) -> bool {
        !matches!(self, Self::RestoreOne | Self::Collect)
    }
}

/// One measurement.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Sample {
    /// The set of data.
    pub data: DataSet,
    /// The step.
    pub step: Step,
    /// The tool.
    pub tool: ToolName,
    /// Which repetition, from 0.
    pub repetition: u32,
    /// From start to end of the command, in seconds.
    pub wall_seconds: f64,
    /// Processor time in user mode, in seconds.
    pub user_seconds: f64,
    /// Processor time in the kernel, in seconds.
    pub system_seconds: f64,
    /// The largest resident set, in bytes.
    pub peak_rss_bytes: u64,
    /// The size of all files of the repository afterwards.
    pub repository_bytes: u64,
    /// How long it then took until all that had been written was on disk: work that the command left behind.
    pub sync_seconds: f64,
}

impl Sample {
    /// Processor time in all, in seconds.
    pub fn cpu_seconds(&self) -> f64 {
        self.user_seconds + self.system_seconds
    }
}

/// A step that a tool did not manage.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Failed {
    /// The set of data.
    pub data: DataSet,
    /// The step; `None` while making the repository.
    pub step: Option<Step>,
    /// The tool.
    pub tool: ToolName,
    /// What happened.
    pub why: String,
}

/// Everything about a run.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Record {
    /// When it began, RFC 3339.
    pub started: String,
    /// What it ran on.
    pub machine: Machine,
    /// Versions of the tools.
    pub versions: BTreeMap<ToolName, String>,
    /// Of the full size.
    pub scale: f64,
    /// How often each step was measured.
    pub repetitions: u32,
    /// What was generated.
    pub data: BTreeMap<DataSet, Prepared>,
    /// Every measurement.
    pub samples: Vec<Sample>,
    /// Every failure.
    pub failures: Vec<Failed>,
}

/// The middle of the repetitions of one tool's step.
#[derive(Clone, Copy, Debug)]
pub struct Median {
    /// Seconds from start to end.
    pub wall: f64,
    /// Processor seconds.
    pub cpu: f64,
    /// The largest resident set of all repetitions, in bytes: a peak is not to be averaged away.
    pub peak_rss: u64,
    /// The size of the repository.
    pub repository: u64,
    /// Seconds of writing left behind.
    pub sync: f64,
}

impl Record {
    /// The median of a tool's step; `None` when it was not measured.
    pub fn median(&self, data: DataSet, step: Step, tool: ToolName) -> Option<Median> {
        let samples: Vec<&Sample> = self
            .samples
            .iter()
            .filter(|s| (s.data, s.step, s.tool) == (data, step, tool))
            .collect();
        let of = |value: fn(&Sample) -> f64| median(samples.iter().map(|sample| value(sample)));
        Some(Median {
            wall: of(|s| s.wall_seconds)?,
            cpu: of(Sample::cpu_seconds)?,
            peak_rss: samples.iter().map(|s| s.peak_rss_bytes).max()?,
            repository: of(|s| s.repository_bytes as f64)? as u64,
            sync: of(|s| s.sync_seconds)?,
        })
    }

    /// The peer that was fastest at a step.
    pub fn best_peer(&self, data: DataSet, step: Step) -> Option<(ToolName, Median)> {
        let peers = ToolName::ALL
            .into_iter()
            .filter(|&tool| tool != ToolName::Relight);
        peers
            .filter_map(|tool| Some((tool, self.median(data, step, tool)?)))
            .min_by(|(_, a), (_, b)| a.wall.total_cmp(&b.wall))
    }
}

/// The middle value, or the mean of the two middle ones.
fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => values.get(middle).copied(),
        _ => Some((values.get(middle - 1)? + values.get(middle)?) / 2.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_middle() {
        assert_eq!(median([].into_iter()), None);
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), Some(2.5));
    }
}
