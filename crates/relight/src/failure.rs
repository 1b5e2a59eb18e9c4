//! Why a command failed, in words for whoever ran it.

use relight_mount::MountError;
use relight_pbs::client::ClientError;
use relight_postgres::PostgresError;
use relight_postgres::wal::WalError;
use relight_pxar::DecodeError;
use relight_repo::RepoError;
use relight_repo::storage::StorageError;
use relight_server::ServerError;
use relight_workloads::WorkloadError;

use crate::exit::Exit;

/// Result of a command.
pub type Result<T, E = Failure> = std::result::Result<T, E>;

/// Why a command failed.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    /// The repository.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// A workload.
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    /// The log of a PostgreSQL cluster.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// A PostgreSQL cluster.
    #[error(transparent)]
    Postgres(#[from] PostgresError),
    /// The server, its configuration or state.
    #[error(transparent)]
    Server(#[from] ServerError),
    /// A server that something is sent to.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The arguments do not fit together or name something that is not there.
    #[error("{0}")]
    Usage(String),
    /// What is stored is not what it should be.
    #[error("{0}")]
    Damaged(String),
    /// A file or the terminal.
    #[error("{0}: {1}")]
    Io(String, std::io::Error),
}

impl Failure {
    /// What the repository said, whoever passed it on.
    fn repo(&self) -> Option<&RepoError> {
        match self {
            Self::Repo(error)
            | Self::Wal(WalError::Repo(error))
            | Self::Postgres(PostgresError::Repo(error) | PostgresError::Wal(WalError::Repo(error)))
            | Self::Workload(WorkloadError::Repo(error)) => Some(error),
            _ => None,
        }
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self::Repo(error.into())
    }
}

impl From<MountError> for Failure {
    fn from(error: MountError) -> Self {
        match error {
            MountError::Repo(error) => Self::Repo(error),
            other => Self::Usage(other.to_string()),
        }
    }
}

impl Failure {
    /// A failed action on something.
    pub fn io(what: impl Into<String>) -> impl FnOnce(std::io::Error) -> Self {
        let what = what.into();
        move |error| Self::Io(what, error)
    }

    /// The exit code that says it.
    pub fn exit(&self) -> Exit {
        match (self, self.repo()) {
            (_, Some(RepoError::Cancelled)) => Exit::Cancelled,
            (Self::Workload(error), _) if error.is_cancelled() => Exit::Cancelled,
            (
                _,
                Some(RepoError::Damaged { .. } | RepoError::ChunkCorrupt { .. } | RepoError::ChunkMissing(_)),
            )
            | (Self::Damaged(_) | Self::Postgres(PostgresError::Damaged { .. }), _)
            | (
                Self::Workload(WorkloadError::Archive(
                    DecodeError::Damaged { .. } | DecodeError::Truncated { .. },
                )),
                _,
            ) => Exit::Damage,
            _ => Exit::Failed,
        }
    }
}
