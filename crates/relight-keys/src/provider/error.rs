//! What can go wrong between an operator's secret and a wrap.

use std::{io, path::PathBuf};

use super::recovery_code::RecoveryCodeError;

/// A provider could not be read, created or used. Never carries anything secret.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProviderError {
    /// A new wrap may not be made under so short a passphrase.
    #[error(
        "the passphrase has {length} bytes; a new one needs at least {minimum} (several random words are good)"
    )]
    PassphraseTooShort {
        /// Its length in bytes.
        length: usize,
        /// The least length in bytes.
        minimum: usize,
    },
    /// There is no passphrase where one was expected.
    #[error("the passphrase is empty (only the first line of a passphrase file is used)")]
    PassphraseEmpty,
    /// More than a passphrase can be.
    #[error("the passphrase has more than {maximum} bytes; is this the right file?")]
    PassphraseTooLong {
        /// The greatest length in bytes.
        maximum: usize,
    },
    /// Argon2 parameters outside the limits.
    #[error("Argon2id with {memory_kib} KiB, {passes} passes and {lanes} lanes is not accepted: {limits}")]
    Cost {
        /// Memory in KiB.
        memory_kib: u32,
        /// Passes over the memory.
        passes: u32,
        /// Lanes.
        lanes: u32,
        /// What is accepted.
        limits: &'static str,
    },
    /// The machine lacks the memory that deriving the key takes.
    #[error(
        "deriving the key from the passphrase needs {memory_kib} KiB of memory, which this machine did not give"
    )]
    Memory {
        /// Memory needed in KiB.
        memory_kib: u32,
    },
    /// A file could not be read or made.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A key file that others than its owner may use.
    #[error(
        "{}: the key file is open to group or others (mode {mode:04o}); others may have copied it. Run `chmod 600` on it, \
         and make a new key if others use this machine",
        path.display()
    )]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permission bits.
        mode: u32,
    },
    /// The file is no key file, or was altered.
    #[error("{}: {reason}", path.display())]
    NotKeyFile {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: &'static str,
    },
    /// The recovery key was mistyped.
    #[error("recovery key: {0}")]
    RecoveryCode(#[from] RecoveryCodeError),
    /// Parameters of a wrap that this version cannot read.
    #[error(
        "the keyring's parameters for a {kind} wrap cannot be used: {reason}; a newer program may have written them"
    )]
    Parameters {
        /// Kind of the wrap.
        kind: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// No random bytes.
    #[error("the system's random generator failed")]
    Entropy,
}
