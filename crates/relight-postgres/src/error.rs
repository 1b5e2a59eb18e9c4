//! What can go wrong with a PostgreSQL cluster, told so that an operator knows what to do next.

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use relight_model::ByteSize;
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
    /// What is to be restored has no room where it goes.
    #[error(
        "restore to {}: there is not enough room: {} are needed, and there are {}, so that {} are missing; nothing was written: make room, or choose another place",
        .place.display(), ByteSize(*.needed), ByteSize(*.room), ByteSize(.needed - .room)
    )]
    NoRoom {
        /// The directory.
        place: PathBuf,
        /// Bytes of all that goes there.
        needed: u64,
        /// Bytes that there are for it.
        room: u64,
    },
    /// A disk became full, and what had been made there is gone again, or goes with the folder it is in.
    #[error(
        "{source}: the file system is full, or allows no more files (see df and df -i); what had been made there was removed again"
    )]
    FullRemoved {
        /// What happened.
        source: Box<PostgresError>,
    },
    /// A disk became full in the middle of a restore.
    #[error(
        "{source}: no server starts from {}, and {} are taken there; make room for {}, then complete it with --delta, or remove it",
        .directory.display(), ByteSize(*.taken), Missing(*.missing)
    )]
    FullMidway {
        /// The data directory.
        directory: PathBuf,
        /// Bytes that are taken there.
        taken: u64,
        /// Bytes that are missing; zero: not known, others wrote there too.
        missing: u64,
        /// What happened.
        source: Box<PostgresError>,
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

/// Bytes that are missing, as far as that is known.
struct Missing(u64);

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => write!(f, "what is missing (see df and df -i)"),
            bytes => write!(f, "{} more", ByteSize(bytes)),
        }
    }
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

    /// Whether a disk, or what somebody may have of it, is full.
    pub fn is_full(&self) -> bool {
        match self {
            Self::NoRoom { .. } | Self::FullRemoved { .. } | Self::FullMidway { .. } => true,
            Self::Io { source, .. }
            | Self::Repo(RepoError::Source(source))
            | Self::Wal(WalError::Repo(RepoError::Source(source))) => matches!(
                source.kind(),
                io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded
            ),
            _ => false,
        }
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
            PostgresError::NoRoom { ref place, .. } => full(&error, "restore to", place),
            PostgresError::FullRemoved { ref source } | PostgresError::FullMidway { ref source, .. } => {
                match &**source {
                    PostgresError::Io { action, path, .. } => full(&error, action, path),
                    _ => Self::Refused(error.to_string()),
                }
            }
            PostgresError::Repo(error) | PostgresError::Wal(WalError::Repo(error)) => Self::Repo(error),
            PostgresError::Io { action, path, source } => Self::Io { action, path, source },
            other => Self::Refused(other.to_string()),
        }
    }
}

/// A full disk in the words of the error, which may begin with what was being done to what.
fn full(error: &PostgresError, action: &'static str, path: &Path) -> WorkloadError {
    let words = error.to_string();
    let begin = format!("{action} {}: ", path.display());
    let words = words.strip_prefix(&begin).unwrap_or(&words);
    WorkloadError::Io {
        action,
        path: path.to_path_buf(),
        source: io::Error::new(io::ErrorKind::StorageFull, words),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_stays_one_and_is_told_once_on_its_way_out() {
        let path = PathBuf::from("/data/base/1");
        let full = || PostgresError::Io {
            action: "write",
            path: path.clone(),
            source: io::ErrorKind::StorageFull.into(),
        };
        let midway = PostgresError::FullMidway {
            directory: "/data".into(),
            taken: 1 << 30,
            missing: 1 << 20,
            source: Box::new(full()),
        };
        let removed = PostgresError::FullRemoved {
            source: Box::new(full()),
        };
        let no_room = PostgresError::NoRoom {
            place: "/data".into(),
            needed: 3 << 30,
            room: 1 << 30,
        };
        for error in [midway, removed, no_room] {
            let words = error.to_string();
            let error = WorkloadError::from(error);
            let WorkloadError::Io { source, .. } = &error else {
                panic!("{error:?}")
            };
            assert_eq!(source.kind(), io::ErrorKind::StorageFull);
            assert_eq!(error.to_string(), words);
        }
    }
}
