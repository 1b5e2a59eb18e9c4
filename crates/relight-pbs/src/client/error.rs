//! What can go wrong between this client and a server.

use http::StatusCode;

use crate::formats::blob::BlobError;
use crate::formats::crypt::{CryptError, Fingerprint};
use crate::formats::ids::NameError;
use crate::formats::index::IndexError;
use crate::formats::manifest::ManifestError;

/// Why a call or a session of the client failed. None of these ever holds a secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The address of a server is not written as it should be.
    #[error("{0}")]
    Address(String),
    /// The secret of a token, or a password, cannot be used.
    #[error("{0}")]
    Secret(String),
    /// No connection.
    #[error("cannot connect to {server}: {source}")]
    Connect {
        /// Host and port.
        server: String,
        /// What the system says.
        source: std::io::Error,
    },
    /// Nobody vouches for the certificate of the server.
    #[error(
        "the certificate of {server} is not trusted ({why}); its SHA-256 fingerprint is {fingerprint}: compare it with \
         the one the server shows, and give it if it is the same"
    )]
    Untrusted {
        /// Host and port.
        server: String,
        /// Fingerprint of the certificate that the server showed.
        fingerprint: Fingerprint,
        /// Why it is refused.
        why: String,
    },
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(String),
    /// The server refuses; its words.
    #[error("{message}")]
    Refused {
        /// Status of the answer.
        status: StatusCode,
        /// What the server says.
        message: String,
    },
    /// The server does not answer as the protocol demands.
    #[error("the server does not keep to the protocol: {0}")]
    Protocol(String),
    /// The connection ended, or nothing came any more.
    #[error("the connection to the server broke off: {0}")]
    Broken(String),
    /// The server did not answer.
    #[error("the server did not answer {what} within {seconds} seconds")]
    Timeout {
        /// What was asked.
        what: String,
        /// For so long was waited.
        seconds: u64,
    },
    /// A name cannot be used.
    #[error(transparent)]
    Name(#[from] NameError),
    /// A file of the snapshot is damaged, or encrypted with another key.
    #[error("{file}: {source}")]
    Blob {
        /// The file, or the digest of the chunk.
        file: String,
        /// What is wrong.
        source: BlobError,
    },
    /// An index cannot be read.
    #[error("{file}: {source}")]
    Index {
        /// The file.
        file: String,
        /// What is wrong.
        source: IndexError,
    },
    /// The manifest cannot be used.
    #[error(transparent)]
    Manifest(#[from] ManifestError),
    /// The cryptographic library failed.
    #[error(transparent)]
    Crypt(#[from] CryptError),
    /// Something is not what the manifest or the index says.
    #[error("{file} is not what the {by} says: {what}")]
    Mismatch {
        /// The file, or the digest of the chunk.
        file: String,
        /// What tells what it should be.
        by: &'static str,
        /// What differs.
        what: &'static str,
    },
    /// The snapshot has no such file.
    #[error("the snapshot has no {0}")]
    NoFile(String),
    /// The key that was given is not that of the snapshot.
    #[error(
        "the snapshot was made with the client key {wanted}, but {}: give the file of that key",
        given.as_ref().map_or_else(|| "none was given".to_string(), |given| format!("the key given is {given}"))
    )]
    OtherKey {
        /// Short fingerprint of the key that was used.
        wanted: String,
        /// Short fingerprint of the key at hand.
        given: Option<String>,
    },
    /// It was asked for something that makes no sense in the session.
    #[error("{0}")]
    Misuse(String),
}

impl ClientError {
    pub(super) fn protocol(what: impl Into<String>) -> Self {
        Self::Protocol(what.into())
    }

    pub(super) fn broken(why: impl std::fmt::Display) -> Self {
        Self::Broken(why.to_string())
    }

    /// The status with which the server refused, if it did.
    pub fn status(&self) -> Option<StatusCode> {
        match self {
            Self::Refused { status, .. } => Some(*status),
            _ => None,
        }
    }
}
