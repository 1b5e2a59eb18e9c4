//! Why something cannot be done in a datastore.

use relight_repo::storage::StorageError;
use relight_repo::{RepoError, SnapshotId};

use crate::formats::ids::{FileName, Group, NameError, Namespace, SnapshotName};
use crate::service::http::ApiError;

/// Result of an operation on a datastore.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// Why something cannot be done in a datastore.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// The repository failed or refused.
    #[error(transparent)]
    Repository(#[from] RepoError),
    /// A name does not fit.
    #[error(transparent)]
    Name(#[from] NameError),
    /// No such namespace.
    #[error("namespace not found")]
    NoNamespace(Namespace),
    /// No such group.
    #[error("group {0} does not exist.")]
    NoGroup(Group),
    /// No such snapshot.
    #[error("snapshot {0} does not exist.")]
    NoSnapshot(SnapshotName),
    /// No such file in the snapshot.
    #[error("file {file} of snapshot {snapshot} - not found")]
    NoFile {
        /// The snapshot.
        snapshot: SnapshotName,
        /// The file.
        file: FileName,
    },
    /// Somebody else is at work on it.
    #[error("{0} is in use by another task; try again when that has ended")]
    Busy(String),
    /// What is stored does not fit together.
    #[error("snapshot {}: {why}", .snapshot.short())]
    Damaged {
        /// The snapshot.
        snapshot: SnapshotId,
        /// What is wrong.
        why: String,
    },
    /// It may not be done.
    #[error("{0}")]
    Refused(String),
    /// Where the server keeps things of its own.
    #[error("{action} {path}: {source}")]
    State {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: String,
        /// What went wrong.
        source: std::io::Error,
    },
}

impl StoreError {
    /// It may not be done.
    pub fn refused(why: impl Into<String>) -> Self {
        Self::Refused(why.into())
    }
}

impl From<StoreError> for ApiError {
    fn from(error: StoreError) -> Self {
        match &error {
            StoreError::NoNamespace(_) | StoreError::NoFile { .. } => Self::not_found(error.to_string()),
            StoreError::Damaged { .. } | StoreError::State { .. } => Self::internal(error.to_string()),
            StoreError::Repository(
                RepoError::Protected(_)
                | RepoError::ClientSealed(_)
                | RepoError::OtherClientKey(_)
                | RepoError::CollectionRunning { .. }
                | RepoError::CollectionWouldEmpty { .. }
                | RepoError::Cancelled
                | RepoError::ChunkTooLarge { .. }
                | RepoError::Storage(StorageError::Locked { .. }),
            ) => Self::bad_request(error.to_string()),
            StoreError::Repository(_) => Self::internal(error.to_string()),
            _ => Self::bad_request(error.to_string()),
        }
    }
}
