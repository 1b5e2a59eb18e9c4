//! Errors of reading and writing archives.

use std::io;

/// Why an archive cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// The bytes could not be had.
    #[error("cannot read the archive: {0}")]
    Io(#[from] io::Error),
    /// The stream ends within an item, or before its root directory ends.
    #[error(
        "the archive ends at byte {position}, within an entry or before its end: restore from another snapshot or copy"
    )]
    Truncated {
        /// Where the bytes end.
        position: u64,
    },
    /// The bytes are not what the format allows.
    #[error(
        "the archive is damaged at byte {position}: {what}; verify the snapshot and use another or a copy of it"
    )]
    Damaged {
        /// Where the item in question begins.
        position: u64,
        /// What is wrong with it.
        what: &'static str,
    },
    /// The version item names a version this program does not know.
    #[error("the archive has format version {version}, this program reads 1 and 2: use a newer release")]
    UnknownVersion {
        /// Version found.
        version: u64,
    },
    /// A method was called for an entry it does not fit, as listing the children of a file.
    #[error("{0}")]
    WrongKind(&'static str),
}

impl DecodeError {
    pub(crate) fn damaged(position: u64, what: &'static str) -> Self {
        Self::Damaged { position, what }
    }
}

/// Why an entry cannot be written. Unless it is [`EncodeError::Io`], nothing of the entry was written and the archive
/// can go on without it.
#[derive(Debug, thiserror::Error)]
pub enum EncodeError {
    /// The bytes could not be written, or the content of a file could not be read; the archive is unusable.
    #[error("cannot write the archive: {0}")]
    Io(#[from] io::Error),
    /// An earlier error left the archive unusable.
    #[error("the archive is unusable after an earlier write error")]
    Failed,
    /// A name the format does not allow.
    #[error("cannot archive {}: {what}", String::from_utf8_lossy(.name))]
    Name {
        /// The name.
        name: Vec<u8>,
        /// What is wrong with it.
        what: &'static str,
    },
    /// Children of a directory must come sorted by name, each once.
    #[error("entry {} does not come after {} in byte order: entries must be added sorted by name, each once",
        String::from_utf8_lossy(.name), String::from_utf8_lossy(.previous))]
    Order {
        /// The name refused.
        name: Vec<u8>,
        /// The name before it.
        previous: Vec<u8>,
    },
    /// Metadata the format cannot hold.
    #[error("cannot archive the metadata: {0}")]
    Metadata(&'static str),
    /// A call that does not fit the state or version of the archive.
    #[error("{0}")]
    Misuse(&'static str),
    /// Payload references may not go backwards: sequential readers of the original refuse such archives.
    #[error("payload reference {offset} lies before byte {end}, the end of the payload referred to last")]
    PayloadOrder {
        /// Position asked for.
        offset: u64,
        /// End of the payload before.
        end: u64,
    },
}
