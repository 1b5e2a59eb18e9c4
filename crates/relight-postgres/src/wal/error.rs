//! What can go wrong with the log, told so that an operator knows what to do next.

use std::io;
use std::path::{Path, PathBuf};

use relight_repo::RepoError;
use relight_repo::storage::StorageError;

use super::name::WalName;
use crate::error::PostgresError;
use crate::lsn::Lsn;

/// Result of an operation on the log.
pub type Result<T, E = WalError> = std::result::Result<T, E>;

/// Why something about the log was not done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WalError {
    /// The repository.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// The server.
    #[error(transparent)]
    Server(Box<PostgresError>),
    /// A text that names no file of the log.
    #[error(
        "{0:?} is not the name of a file of the log (such as 000000010000000000000001 or 00000002.history)"
    )]
    NoName(String),
    /// A segment size that there is not.
    #[error("a segment of {0} bytes: there are powers of two from 1 MiB to 1 GiB")]
    SegmentSize(u64),
    /// A file that is not what its name says.
    #[error("{name} is not a file of a log that Relight knows: {why}; it was not stored")]
    NotWal {
        /// The file.
        name: String,
        /// What is wrong with it.
        why: String,
    },
    /// A page that does not belong where it is.
    #[error("the page of the log at {at} is not what it should be: {why}")]
    BadPage {
        /// Where.
        at: Lsn,
        /// What is wrong with it.
        why: String,
    },
    /// A history file that cannot be understood.
    #[error("line {line} of the history of timeline {timeline:08X} cannot be understood: {why}")]
    BadHistory {
        /// Whose history.
        timeline: u32,
        /// Which line, counted from 1; 0 for the whole file.
        line: usize,
        /// What is wrong with it.
        why: String,
    },
    /// A file of that name is there already, with other content.
    #[error(
        "{name} of {workload} is in the repository already, with other content: two clusters may write to one name, or a \
         restored cluster to the log of the one it was restored from. Nothing was stored; give this cluster a workload of \
         its own"
    )]
    OtherContent {
        /// The file.
        name: WalName,
        /// The workload.
        workload: String,
    },
    /// The log of another cluster.
    #[error(
        "{what} comes from the cluster with system identifier {found}, but {workload} is the one with {known}: nothing was \
         stored. Give this cluster a workload of its own"
    )]
    OtherCluster {
        /// The file or server.
        what: String,
        /// Its system identifier.
        found: u64,
        /// That of the workload.
        known: u64,
        /// The workload.
        workload: String,
    },
    /// The same cluster after an upgrade.
    #[error(
        "{what} was written by PostgreSQL {found}, but the log of {workload} by {known}: after an upgrade make a new \
         workload (a log of one major version cannot be replayed by another)"
    )]
    OtherMajor {
        /// The file or server.
        what: String,
        /// Its major version.
        found: u32,
        /// That of the workload.
        known: u32,
        /// The workload.
        workload: String,
    },
    /// The same cluster with other segments.
    #[error("{what} has segments of {found} bytes, but the log of {workload} has {known}")]
    OtherSegmentSize {
        /// The file or server.
        what: String,
        /// Its segment size.
        found: u64,
        /// That of the workload.
        known: u64,
        /// The workload.
        workload: String,
    },
    /// The workload has neither a backup nor a log.
    #[error(
        "the repository has nothing of {0}: check the workload's name with `relight snapshots`; this is not the end of a \
         log"
    )]
    NoSuchWorkload(String),
    /// Snapshots that cannot be read may hold what was looked for.
    #[error(
        "{name} was not found, but {count} snapshots of the repository cannot be read, so this is not known to be the end \
         of the log ({first}); run `relight verify`"
    )]
    Unreadable {
        /// What was looked for.
        name: WalName,
        /// How many cannot be read.
        count: usize,
        /// The first of them and why.
        first: String,
    },
    /// A hole in the log.
    #[error(
        "{name} is missing from the log of {workload}, which goes on after it: this is a gap, not the end of the log. \
         `relight postgres windows` shows what can be recovered"
    )]
    Gap {
        /// What was looked for.
        name: WalName,
        /// The workload.
        workload: String,
    },
    /// A stored segment has another size than a segment has.
    #[error("{name} in the repository has {found} bytes instead of {expected}; run `relight verify`")]
    Size {
        /// The file.
        name: WalName,
        /// How many it has.
        found: u64,
        /// How many it should have.
        expected: u64,
    },
    /// A local file or folder.
    #[error("{action} {}: {source}", .path.display())]
    Io {
        /// What was being done.
        action: &'static str,
        /// To what.
        path: PathBuf,
        /// What happened.
        source: io::Error,
    },
    /// What was asked for makes no sense.
    #[error("{0}")]
    Refused(String),
}

impl WalError {
    /// A failed action on a local file.
    pub(crate) fn io<'a>(action: &'static str, path: &'a Path) -> impl FnOnce(io::Error) -> Self + 'a {
        move |source| Self::Io {
            action,
            path: path.to_path_buf(),
            source,
        }
    }

    /// Whether a file was refused for what it is: trying again does not help.
    pub fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::NoName(_)
                | Self::NotWal { .. }
                | Self::BadPage { .. }
                | Self::BadHistory { .. }
                | Self::OtherContent { .. }
                | Self::OtherCluster { .. }
                | Self::OtherMajor { .. }
                | Self::OtherSegmentSize { .. }
                | Self::Refused(_)
        )
    }

    /// Whether trying again later may help without anybody changing anything: the repository did not answer, or a disk
    /// was full.
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Repo(RepoError::Storage(error)) => matches!(
                error,
                StorageError::Unavailable { .. } | StorageError::Io { .. } | StorageError::Full { .. }
            ),
            Self::Server(error) => matches!(
                **error,
                PostgresError::Connect { .. } | PostgresError::Lost { .. } | PostgresError::Server { .. }
            ),
            Self::Repo(RepoError::Stopped(_) | RepoError::SessionEvicted) | Self::Io { .. } => true,
            _ => false,
        }
    }
}

impl From<PostgresError> for WalError {
    fn from(error: PostgresError) -> Self {
        match error {
            PostgresError::Wal(error) => error,
            PostgresError::Repo(error) => Self::Repo(error),
            other => Self::Server(Box::new(other)),
        }
    }
}

impl From<StorageError> for WalError {
    fn from(error: StorageError) -> Self {
        Self::Repo(error.into())
    }
}
