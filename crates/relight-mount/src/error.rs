//! Why something cannot be mounted or exported.

use std::io;
use std::path::PathBuf;

use relight_repo::RepoError;

/// Result of mounting or exporting.
pub type Result<T, E = MountError> = std::result::Result<T, E>;

/// Why something cannot be mounted or exported.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MountError {
    /// The repository.
    #[error(transparent)]
    Repo(#[from] RepoError),
    /// The place is not fit.
    #[error("cannot mount on {}: {why}", .path.display())]
    Place {
        /// Where it was to be mounted.
        path: PathBuf,
        /// What is wrong with it and what to do.
        why: String,
    },
    /// The operating system did not mount or unmount.
    #[error("cannot {action} {}: {source}", .path.display())]
    Mount {
        /// What was being done.
        action: &'static str,
        /// Where.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// An address that cannot be used.
    #[error("{address}: {why}")]
    Address {
        /// As it was given.
        address: String,
        /// What is wrong with it and what to do.
        why: String,
    },
    /// The network.
    #[error("cannot {action} {address}: {source}")]
    Network {
        /// What was being done.
        action: &'static str,
        /// Where.
        address: String,
        /// What happened.
        source: io::Error,
    },
}
