use std::io;

/// Why a storage did not do what it was asked. The texts name the object and what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StorageError {
    /// The object does not exist. Never used for "could not look".
    #[error("{key}: no such object in {location}")]
    NotFound {
        /// The object.
        key: String,
        /// The storage.
        location: String,
    },
    /// `put_new` found one already there.
    #[error("{key}: exists already in {location}")]
    AlreadyExists {
        /// The object.
        key: String,
        /// The storage.
        location: String,
    },
    /// The object ends before the range that was asked for.
    #[error("{key}: ends before byte {wanted_end} in {location}: it was cut short")]
    Short {
        /// The object.
        key: String,
        /// The storage.
        location: String,
        /// End of the range that was asked for.
        wanted_end: u64,
    },
    /// The object lies in a class that must be thawed before it can be read.
    #[error(
        "{key}: lies in a cold storage class in {location} and must be thawed before it can be read: \
         `relight restore --thaw DAYS` asks for all that a restore needs"
    )]
    Cold {
        /// The object.
        key: String,
        /// The storage.
        location: String,
    },
    /// Retention forbids deleting or replacing the object.
    #[error("{key}: is under retention in {location} and cannot be deleted yet")]
    Locked {
        /// The object.
        key: String,
        /// The storage.
        location: String,
    },
    /// The storage refused: credentials or permissions.
    #[error("{action} {key}: denied by {location}: {reason}; check the credentials and their permissions")]
    Denied {
        /// What was being done.
        action: &'static str,
        /// The object.
        key: String,
        /// The storage.
        location: String,
        /// The storage's words.
        reason: String,
    },
    /// No space or quota left.
    #[error(
        "{action} {key}: no space left in {location}; free some or enlarge it, then run the command again"
    )]
    Full {
        /// What was being done.
        action: &'static str,
        /// The object.
        key: String,
        /// The storage.
        location: String,
    },
    /// The storage could not be reached or did not answer, also after retries. Says nothing about the object.
    #[error("{action} {key}: {location} is not available: {reason}; nothing is known to be lost, try again")]
    Unavailable {
        /// What was being done.
        action: &'static str,
        /// The object.
        key: String,
        /// The storage.
        location: String,
        /// What happened.
        reason: String,
    },
    /// This storage cannot do that at all.
    #[error("{location} cannot {what}")]
    Unsupported {
        /// The storage.
        location: String,
        /// What it cannot do.
        what: &'static str,
    },
    /// The operating system reported an error (disk, permissions).
    #[error("{action} {key} in {location}: {source}")]
    Io {
        /// What was being done.
        action: &'static str,
        /// The object.
        key: String,
        /// The storage.
        location: String,
        /// The error.
        source: io::Error,
    },
}

impl StorageError {
    /// Whether the object is known not to exist.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }

    /// Whether `put_new` lost.
    pub fn is_already_exists(&self) -> bool {
        matches!(self, Self::AlreadyExists { .. })
    }
}
