//! Why something could not be copied.

use crate::client::ClientError;
use crate::formats::ids::NameError;
use crate::formats::manifest::ManifestError;
use crate::service::datastore::StoreError;
use crate::service::http::ApiError;

/// Result of copying.
pub type Result<T, E = SyncError> = std::result::Result<T, E>;

/// Why something could not be copied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SyncError {
    /// The other server refuses, or cannot be reached.
    #[error("{0}")]
    Remote(#[from] ClientError),
    /// The datastore of this server.
    #[error("{0}")]
    Store(#[from] StoreError),
    /// A chunk or file that comes is not what it should be, or cannot be stored.
    #[error("{0}")]
    Ingest(#[from] ApiError),
    /// A name that this server does not take.
    #[error("{0}")]
    Name(#[from] NameError),
    /// The manifest cannot be used.
    #[error("{0}")]
    Manifest(#[from] ManifestError),
    /// A file is not what the manifest says.
    #[error("{file} is not what the manifest says: {what}")]
    Mismatch {
        /// The file.
        file: String,
        /// What differs.
        what: &'static str,
    },
    /// It may not be done, or makes no sense.
    #[error("{0}")]
    Refused(String),
    /// Somebody asked it to stop.
    #[error("it was stopped")]
    Stopped,
    /// A thread came to an untimely end.
    #[error("it failed unexpectedly; the server's log tells more")]
    Lost,
}

impl SyncError {
    /// Whether it is the snapshot at hand that cannot be copied as it is: others can.
    pub(super) fn is_of_snapshot(&self) -> bool {
        match self {
            Self::Mismatch { .. } | Self::Manifest(_) | Self::Refused(_) | Self::Name(_) => true,
            Self::Remote(error) => error.status().is_some(),
            Self::Ingest(error) => error.status == http::StatusCode::BAD_REQUEST,
            _ => false,
        }
    }

    /// Whether it makes no sense to go on with anything else: the other server is gone, or somebody wants it to stop.
    pub(super) fn is_fatal(&self) -> bool {
        match self {
            Self::Stopped => true,
            Self::Remote(error) => matches!(
                error,
                ClientError::Connect { .. } | ClientError::Untrusted { .. } | ClientError::Secret(_)
            ),
            _ => false,
        }
    }
}

/// Runs code that waits for storage on a thread of its own.
pub(super) async fn blocking<T, F, E>(code: F) -> Result<T>
where
    T: Send + 'static,
    E: Into<SyncError> + Send + 'static,
    F: FnOnce() -> Result<T, E> + Send + 'static,
{
    match tokio::task::spawn_blocking(code).await {
        Ok(result) => result.map_err(Into::into),
        Err(error) => {
            tracing::error!("copying: {error}");
            Err(SyncError::Lost)
        }
    }
}
