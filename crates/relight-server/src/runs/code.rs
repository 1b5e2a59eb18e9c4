//! Codes of what went wrong in runs. They never change their meaning; docs/errors.md explains each.

use std::fmt;

use crate::evidence::detail::Ended;
use relight_pbs::service::datastore::StoreError;
use relight_repo::RepoError;
use relight_repo::storage::StorageError;
use relight_workloads::WorkloadError;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $code:literal,)*) => {
        /// What went wrong, for programs and for looking up.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        pub enum Code {
            $($(#[$doc])* $name,)*
        }

        impl Code {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name,)*];

            /// As it is written.
            pub const fn name(self) -> &'static str {
                match self {
                    $(Self::$name => $code,)*
                }
            }
        }
    };
}

codes! {
    /// Storage of the repository could not be reached, or refused.
    RepositoryUnavailable = "RL201",
    /// Something that is stored is missing or damaged.
    RepositoryDamaged = "RL202",
    /// The keys do not fit.
    Key = "RL203",
    /// The workload, or a part of it, could not be read.
    Source = "RL204",
    /// The plan's words for this workload make no sense.
    Settings = "RL205",
    /// This version has no such method.
    Method = "RL206",
    /// The plan names a repository that the server did not open.
    NoRepository = "RL207",
    /// A snapshot was made, but not of everything.
    Incomplete = "RL208",
    /// Somebody cancelled it.
    Cancelled = "RL209",
    /// The server stopped while it ran.
    Interrupted = "RL210",
    /// Forgetting was held back by an alarm.
    RetentionAlarm = "RL211",
    /// A collection refused, because it would not have been safe.
    CollectionUnsafe = "RL212",
    /// Another collection is at work, or took over.
    CollectionBusy = "RL213",
    /// Verification found that snapshots cannot be restored completely.
    Damage = "RL214",
    /// Some snapshots could not be copied.
    CopyIncomplete = "RL215",
    /// There is no space left.
    Full = "RL216",
    /// There is nothing that it could work on.
    Nothing = "RL217",
    /// The session was given up, because it was silent for too long.
    Evicted = "RL218",
    /// What the storage keeps must be thawed first.
    Cold = "RL219",
    /// It came back, but later than was promised.
    Slow = "RL220",
    /// In an exercise, something did not come back.
    NotRecovered = "RL221",
    /// The plan keeps less than before, and nobody has agreed to that.
    NotApproved = "RL222",
    /// Where something is to be restored to cannot be used.
    Target = "RL223",
    /// Something that should never happen.
    Internal = "RL299",
}

impl fmt::Display for Code {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Why a run did not end well.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RunFailure {
    /// For programs and for looking up: that of a [`Code`] or of a drill's.
    pub code: String,
    /// In words.
    pub message: String,
    /// How the run ends by it.
    pub ended: Ended,
    /// Whether it may go better in a few minutes. If not, the next time is the schedule's.
    pub try_again: bool,
}

impl RunFailure {
    /// With this code and these words.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self {
            code: code.name().to_string(),
            message: message.into(),
            ended: match code {
                Code::Incomplete => Ended::Incomplete,
                Code::Cancelled => Ended::Cancelled,
                Code::Interrupted => Ended::Interrupted,
                _ => Ended::Failed,
            },
            try_again: !matches!(
                code,
                Code::Settings
                    | Code::Method
                    | Code::NoRepository
                    | Code::RetentionAlarm
                    | Code::NotApproved
                    | Code::CollectionUnsafe
                    | Code::Damage
                    | Code::Nothing
                    | Code::Cold
                    | Code::Slow
                    | Code::NotRecovered
                    | Code::Target
            ),
        }
    }
}

impl From<&StorageError> for Code {
    fn from(error: &StorageError) -> Self {
        match error {
            StorageError::NotFound { .. } | StorageError::Short { .. } => Self::RepositoryDamaged,
            StorageError::Full { .. } => Self::Full,
            StorageError::Cold { .. } => Self::Cold,
            StorageError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => Self::Full,
            _ => Self::RepositoryUnavailable,
        }
    }
}

impl From<&RepoError> for Code {
    fn from(error: &RepoError) -> Self {
        match error {
            RepoError::Storage(error) => error.into(),
            RepoError::Damaged { .. }
            | RepoError::ChunkMissing(_)
            | RepoError::ChunkCorrupt { .. }
            | RepoError::ChunkMismatch(_)
            | RepoError::TooNew { .. } => Self::RepositoryDamaged,
            RepoError::KeyMissing { .. }
            | RepoError::KeyRetired(_)
            | RepoError::ClientSealed(_)
            | RepoError::OtherClientKey(_) => Self::Key,
            RepoError::Source(error) if error.kind() == std::io::ErrorKind::StorageFull => Self::Full,
            RepoError::Source(_) => Self::Source,
            RepoError::SessionEvicted => Self::Evicted,
            RepoError::Cancelled => Self::Cancelled,
            RepoError::CollectionRunning { .. } | RepoError::LeaseLost => Self::CollectionBusy,
            RepoError::CollectionUnsafe { .. } | RepoError::CollectionWouldEmpty { .. } => {
                Self::CollectionUnsafe
            }
            RepoError::NoSuchSnapshot(_) | RepoError::NoSuchArchive { .. } => Self::Nothing,
            _ => Self::RepositoryUnavailable,
        }
    }
}

impl From<RepoError> for RunFailure {
    fn from(error: RepoError) -> Self {
        Self::new((&error).into(), error.to_string())
    }
}

impl From<WorkloadError> for RunFailure {
    fn from(error: WorkloadError) -> Self {
        let code = match &error {
            WorkloadError::Repo(error) => error.into(),
            WorkloadError::Refused(_) => Code::Settings,
            WorkloadError::Archive(_) => Code::RepositoryDamaged,
            WorkloadError::Io { source, .. } if source.kind() == std::io::ErrorKind::StorageFull => {
                Code::Full
            }
            _ => Code::Source,
        };
        Self::new(code, error.to_string())
    }
}

impl From<StoreError> for RunFailure {
    fn from(error: StoreError) -> Self {
        let code = match &error {
            StoreError::Repository(error) => error.into(),
            StoreError::Busy(_) => Code::CollectionBusy,
            _ => Code::RepositoryUnavailable,
        };
        Self::new(code, error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_is_explained_for_operators() {
        let page = include_str!("../../../../docs/errors.md");
        for code in Code::ALL {
            assert!(
                page.contains(&format!("| {code} |")),
                "{code} is not in docs/errors.md"
            );
        }
    }
}
