//! Names of jobs.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::size::shortened;
use crate::workload::Workload;

/// What kind of run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RunKind {
    /// A new snapshot of a workload.
    Backup,
    /// A workload's snapshots are brought to another repository.
    Copy,
    /// A workload's snapshots are read and compared.
    Verify,
    /// A workload's recovery is tested.
    Drill,
    /// Snapshots that no rule keeps are forgotten.
    Forget,
    /// Space is collected.
    Collect,
    /// The recovery of everything is tested.
    Exercise,
    /// Something of a workload is brought back, because somebody asked for it. No plan has such jobs.
    Restore,
}

impl RunKind {
    /// All kinds.
    pub const ALL: [Self; 8] = [
        Self::Backup,
        Self::Copy,
        Self::Verify,
        Self::Drill,
        Self::Forget,
        Self::Collect,
        Self::Exercise,
        Self::Restore,
    ];

    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Backup => "backup",
            Self::Copy => "copy",
            Self::Verify => "verify",
            Self::Drill => "drill",
            Self::Forget => "forget",
            Self::Collect => "collect",
            Self::Exercise => "exercise",
            Self::Restore => "restore",
        }
    }

    /// Whether it is done even while the clock is not trusted: what adds recovery points. What removes something must
    /// not trust a doubtful clock, and nobody wants the exercise of a year to begin because of one.
    pub const fn goes_on(self) -> bool {
        matches!(self, Self::Backup | Self::Copy)
    }
}

impl fmt::Display for RunKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// What is done to what: `backup vm/100`, `copy vm/100 archive`, `forget main`, `exercise`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct JobId {
    kind: RunKind,
    workload: Option<Workload>,
    repository: Option<String>,
}

/// A text that is no job.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no job: write for instance \"backup vm/100\", \"copy vm/100 archive\" or \"forget main\"")]
pub struct BadJobId(String);

impl JobId {
    fn of(kind: RunKind, workload: Option<&Workload>, repository: Option<&str>) -> Self {
        Self {
            kind,
            workload: workload.cloned(),
            repository: repository.map(str::to_owned),
        }
    }

    /// The backup of a workload.
    pub fn backup(workload: &Workload) -> Self {
        Self::of(RunKind::Backup, Some(workload), None)
    }

    /// The copy of a workload's snapshots to a repository.
    pub fn copy(workload: &Workload, repository: &str) -> Self {
        Self::of(RunKind::Copy, Some(workload), Some(repository))
    }

    /// The verification of a workload's snapshots.
    pub fn verify(workload: &Workload) -> Self {
        Self::of(RunKind::Verify, Some(workload), None)
    }

    /// The drill of a workload.
    pub fn drill(workload: &Workload) -> Self {
        Self::of(RunKind::Drill, Some(workload), None)
    }

    /// Forgetting in a repository.
    pub fn forget(repository: &str) -> Self {
        Self::of(RunKind::Forget, None, Some(repository))
    }

    /// Collecting a repository.
    pub fn collect(repository: &str) -> Self {
        Self::of(RunKind::Collect, None, Some(repository))
    }

    /// The exercise of everything.
    pub fn exercise() -> Self {
        Self::of(RunKind::Exercise, None, None)
    }

    /// The restore of something of a workload.
    pub fn restore(workload: &Workload) -> Self {
        Self::of(RunKind::Restore, Some(workload), None)
    }

    /// What is done.
    pub fn kind(&self) -> RunKind {
        self.kind
    }

    /// To which workload.
    pub fn workload(&self) -> Option<&Workload> {
        self.workload.as_ref()
    }

    /// In, or to, which repository.
    pub fn repository(&self) -> Option<&str> {
        self.repository.as_deref()
    }

    /// A number that is the same for the same job and time on every machine and in every release, and otherwise as good
    /// as drawn by chance (FNV-1a, then the mixer of SplitMix64).
    pub(super) fn lot(&self, due: i64) -> u64 {
        let mut hash = 0xcbf2_9ce4_8422_2325_u64;
        for byte in self.to_string().bytes().chain(due.to_le_bytes()) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        hash = (hash ^ (hash >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        hash ^ (hash >> 31)
    }
}

impl fmt::Display for JobId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.kind.name())?;
        if let Some(workload) = &self.workload {
            write!(f, " {workload}")?;
        }
        if let Some(repository) = &self.repository {
            write!(f, " {repository}")?;
        }
        Ok(())
    }
}

impl FromStr for JobId {
    type Err = BadJobId;

    fn from_str(text: &str) -> Result<Self, BadJobId> {
        let bad = || BadJobId(shortened(text));
        let mut words = text.split(' ');
        let kind = words
            .next()
            .and_then(|word| RunKind::ALL.into_iter().find(|kind| kind.name() == word));
        let kind = kind.ok_or_else(bad)?;
        let workload = match kind {
            RunKind::Backup | RunKind::Copy | RunKind::Verify | RunKind::Drill | RunKind::Restore => {
                Some(words.next().ok_or_else(bad)?.parse().map_err(|_| bad())?)
            }
            RunKind::Forget | RunKind::Collect | RunKind::Exercise => None,
        };
        let repository = match kind {
            RunKind::Copy | RunKind::Forget | RunKind::Collect => Some(
                words
                    .next()
                    .filter(|name| !name.is_empty())
                    .ok_or_else(bad)?
                    .to_owned(),
            ),
            RunKind::Backup | RunKind::Verify | RunKind::Drill | RunKind::Restore | RunKind::Exercise => None,
        };
        match words.next() {
            Some(_) => Err(bad()),
            None => Ok(Self {
                kind,
                workload,
                repository,
            }),
        }
    }
}

impl TryFrom<String> for JobId {
    type Error = BadJobId;

    fn try_from(text: String) -> Result<Self, BadJobId> {
        text.parse()
    }
}

impl From<JobId> for String {
    fn from(id: JobId) -> Self {
        id.to_string()
    }
}
