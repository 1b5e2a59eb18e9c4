//! What can go wrong with a PostgreSQL cluster, told so that an operator knows what to do next.

use std::io;
use std::path::{Path, PathBuf};

use relight_repo::RepoError;
use relight_workloads::WorkloadError;

use crate::protocol::ServerMessage;
use crate::wal::WalError;

/// Result of an operation on a cluster.
pub type Result<T, E = PostgresError> = std::result::Result<T, E>;

/// Why something was not done to or with a PostgreSQL cluster.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum PostgresError {
    /// The repository.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// The log of a cluster.
    #[error(transparent)]
    Wal(#[from] WalError),
    /// The connection settings make no sense.
    #[error("{0}")]
    Settings(String),
    /// No connection came about.
    #[error("connect to PostgreSQL at {server}: {why}")]
    Connect {
        /// Host and port, or the socket.
        server: String,
        /// What happened.
        why: String,
    },
    /// The server refused or failed at what it was asked.
    #[error("{server}: {message}")]
    Server {
        /// Host and port, or the socket.
        server: String,
        /// What the server says.
        message: Box<ServerMessage>,
    },
    /// The connection broke.
    #[error("the connection to PostgreSQL at {server} was lost: {source}")]
    Lost {
        /// Host and port, or the socket.
        server: String,
        /// What happened.
        source: io::Error,
    },
    /// The other side does not speak as it should.
    #[error("{server} does not answer as a PostgreSQL server should: {why}")]
    Protocol {
        /// Host and port, or the socket.
        server: String,
        /// What is wrong.
        why: String,
    },
    /// A file or directory.
    #[error("{action} {}: {source}", .path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// What is stored or read is not what it should be.
    #[error("{what}: {why}")]
    Damaged {
        /// What.
        what: String,
        /// What is wrong with it.
        why: String,
    },
    /// What was asked for cannot or must not be done; says what to do instead.
    #[error("{0}")]
    Refused(String),
}

impl PostgresError {
    /// A failed action on a file.
    pub(crate) fn io<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io {
            action,
            path: path.to_path_buf(),
            source,
        }
    }

    /// Something that is not what it should be.
    pub(crate) fn damaged(what: impl Into<String>, why: impl Into<String>) -> Self {
        Self::Damaged {
            what: what.into(),
            why: why.into(),
        }
    }

    /// Whether somebody asked to stop.
    pub fn is_cancelled(&self) -> bool {
        matches!(
            self,
            Self::Repo(RepoError::Cancelled) | Self::Wal(WalError::Repo(RepoError::Cancelled))
        )
    }

    /// The code of the server's error (`SQLSTATE`), if it is one.
    pub fn sql_state(&self) -> Option<&str> {
        match self {
            Self::Server { message, .. } => Some(&message.code),
            _ => None,
        }
    }
}

impl From<PostgresError> for WorkloadError {
    fn from(error: PostgresError) -> Self {
        match error {
            PostgresError::Repo(error) | PostgresError::Wal(WalError::Repo(error)) => Self::Repo(error),
            PostgresError::Io { action, path, source } => Self::Io { action, path, source },
            other => Self::Refused(other.to_string()),
        }
    }
}
