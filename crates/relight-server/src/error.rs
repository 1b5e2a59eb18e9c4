//! Why the server cannot start or its state not be changed, in words for the operator.

use std::path::PathBuf;

/// Result of what the server does.
pub type Result<T, E = ServerError> = std::result::Result<T, E>;

/// Why something could not be done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ServerError {
    /// A file or folder.
    #[error("{what} {}: {source}", path.display())]
    File {
        /// What was tried, such as `read`.
        what: &'static str,
        /// Of which.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// The configuration says something that makes no sense.
    #[error("{}: {why}", path.display())]
    Config {
        /// The file.
        path: PathBuf,
        /// Line and reason.
        why: String,
    },
    /// The database of users, rules and records.
    #[error("the state in {}: {source}{}", path.display(), advice(source))]
    State {
        /// The file.
        path: PathBuf,
        /// Why.
        source: rusqlite::Error,
    },
    /// The state was written by a newer version.
    #[error("the state in {} was written by a newer version of Relight (its version is {found}); use that one", path.display())]
    Newer {
        /// The file.
        path: PathBuf,
        /// Version of its layout.
        found: i64,
    },
    /// What was asked for does not fit what is there: no such user, a name that is taken.
    #[error("{0}")]
    Refused(String),
    /// The certificate or its key.
    #[error("the certificate in {}: {why}", path.display())]
    Certificate {
        /// The file.
        path: PathBuf,
        /// Why.
        why: String,
    },
    /// No connections can be taken at an address.
    #[error("listen on {address}: {source}")]
    Listen {
        /// The address.
        address: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A repository cannot be opened.
    #[error("repository {name}: {why}")]
    Repository {
        /// Its name in the configuration.
        name: String,
        /// Why.
        why: String,
    },
    /// The system gave no random numbers, or a computation failed that never should.
    #[error("{0}")]
    System(String),
}

/// What to do about an error of the database.
fn advice(error: &rusqlite::Error) -> &'static str {
    use rusqlite::ErrorCode::{DatabaseCorrupt, DiskFull, NotADatabase, ReadOnly};
    match error.sqlite_error_code() {
        Some(DatabaseCorrupt | NotADatabase) => {
            "; it is damaged, and nothing was changed: move the folder away, and `relight adopt` brings the state back as it was \
             last saved into the repository; everything that was backed up can be restored without it"
        }
        Some(DiskFull) => "; make room on its file system",
        Some(ReadOnly) => "; it must be writable for the server's user",
        _ => "",
    }
}

impl ServerError {
    /// A failed action on a file.
    pub fn file(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { what, path, source }
    }
}
