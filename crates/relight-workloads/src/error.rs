//! What can go wrong between a workload and the repository.

use std::io;
use std::path::PathBuf;

use relight_pxar::DecodeError;
use relight_pxar::fs::capture::CaptureError;
use relight_repo::RepoError;

/// Result of capturing or restoring.
pub type Result<T, E = WorkloadError> = std::result::Result<T, E>;

/// Why a workload was not captured or restored.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WorkloadError {
    /// The repository.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// The file tree.
    #[error(transparent)]
    Capture(CaptureError),
    /// Bringing a file tree back.
    #[error(transparent)]
    Restore(relight_pxar::fs::extract::RestoreError),
    /// A file tree in a snapshot.
    #[error(transparent)]
    Archive(DecodeError),
    /// A file or device.
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
    /// What a drill would start could not be isolated from this machine, and was not started.
    #[error("what the drill would start is not isolated: {0}")]
    NotIsolated(String),
    /// A program is not installed.
    #[error("{program} is not installed on this machine: install the Debian package {package}")]
    NoProgram {
        /// The program.
        program: String,
        /// The package that has it.
        package: &'static str,
    },
}

impl WorkloadError {
    /// Whether somebody asked to stop.
    pub fn is_cancelled(&self) -> bool {
        matches!(
            self,
            Self::Repo(RepoError::Cancelled) | Self::Capture(CaptureError::Cancelled)
        )
    }
}

/// Carries an error of the repository through an interface that knows only [`io::Error`].
pub(crate) fn into_io(error: RepoError) -> io::Error {
    io::Error::other(error)
}

/// Gets it back.
pub(crate) fn from_io(error: io::Error) -> Result<RepoError, io::Error> {
    error.downcast::<RepoError>()
}

impl From<CaptureError> for WorkloadError {
    fn from(error: CaptureError) -> Self {
        match error {
            CaptureError::Cancelled => Self::Repo(RepoError::Cancelled),
            CaptureError::Sink(error) => match from_io(error) {
                Ok(error) => Self::Repo(error),
                Err(error) => Self::Capture(CaptureError::Sink(error)),
            },
            other => Self::Capture(other),
        }
    }
}

impl From<DecodeError> for WorkloadError {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::Io(error) => match from_io(error) {
                Ok(error) => Self::Repo(error),
                Err(error) => Self::Archive(DecodeError::Io(error)),
            },
            other => Self::Archive(other),
        }
    }
}
