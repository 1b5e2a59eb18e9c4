//! Why a drill failed, by the codes that docs/errors.md explains.

use std::fmt;

use relight_pxar::DecodeError;
use relight_repo::RepoError;
use relight_workloads::WorkloadError;

/// A code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Code {
    /// There is no recovery point to be picked.
    NoPoint,
    /// This kind of workload cannot be drilled, or the words of its probe make no sense.
    NotPossible,
    /// The sandbox cannot be made, or there is not enough room for it.
    Sandbox,
    /// It could not be restored.
    Restore,
    /// What the repository holds of it is damaged or missing.
    Damaged,
    /// What would be started is not isolated from this machine.
    NotIsolated,
    /// A program that is needed is not installed.
    NoProgram,
    /// What was restored does not start.
    Start,
    /// A probe says that it does not work.
    Probe,
    /// It could not be probed.
    NotProbed,
    /// It was made wrong on purpose, and no probe noticed.
    Control,
    /// Something that was made for the drill is still there.
    TearDown,
    /// Somebody cancelled it.
    Cancelled,
    /// The program itself failed.
    Unexpected,
    /// The repository cannot be read.
    Repository,
}

impl Code {
    /// As it is written.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoPoint => "RL301",
            Self::NotPossible => "RL302",
            Self::Sandbox => "RL303",
            Self::Restore => "RL304",
            Self::Damaged => "RL305",
            Self::NotIsolated => "RL306",
            Self::NoProgram => "RL307",
            Self::Start => "RL308",
            Self::Probe => "RL309",
            Self::NotProbed => "RL310",
            Self::Control => "RL311",
            Self::TearDown => "RL312",
            Self::Cancelled => "RL313",
            Self::Unexpected => "RL314",
            Self::Repository => "RL315",
        }
    }
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Why a drill failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failed {
    /// Its code.
    pub code: Code,
    /// In words.
    pub message: String,
}

impl Failed {
    /// With words.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { code, message }
    }

    /// From an error of a kind of workload. `code` holds where the error does not tell more.
    pub fn of(error: &WorkloadError, code: Code) -> Self {
        let code = match error {
            error if error.is_cancelled() => Code::Cancelled,
            WorkloadError::NotIsolated(_) => Code::NotIsolated,
            WorkloadError::NoProgram { .. } => Code::NoProgram,
            WorkloadError::Repo(error) => of_repository(error, code),
            WorkloadError::Archive(DecodeError::Damaged { .. } | DecodeError::Truncated { .. }) => {
                Code::Damaged
            }
            _ => code,
        };
        Self::new(code, error.to_string())
    }
}

fn of_repository(error: &RepoError, code: Code) -> Code {
    match error {
        RepoError::Cancelled => Code::Cancelled,
        RepoError::Damaged { .. } | RepoError::ChunkCorrupt { .. } | RepoError::ChunkMissing(_) => {
            Code::Damaged
        }
        RepoError::Storage(_) => Code::Repository,
        _ => code,
    }
}
