//! What random access hands out: entries, directories, contents.

use std::io;

use crate::entry::{EntryKind, Layout, part};
use crate::error::DecodeError;
use crate::metadata::{Metadata, Stat};
use crate::metadata_items::RawMetadata;
use crate::read_at::ReadAt;

/// Marks the [`NodeId`] of anything but a directory.
pub(super) const NOT_DIRECTORY: u64 = 1 << 63;

/// Names an entry of an archive as long as that archive exists; never 0, fit for an inode number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct NodeId(pub(super) u64);

impl NodeId {
    /// The id as a number.
    pub const fn to_raw(self) -> u64 {
        self.0
    }

    /// The id a number was made from. Only ids of the same archive are of use: another number names
    /// nothing, or bytes that happen to look like an entry.
    pub const fn from_raw(raw: u64) -> Self {
        Self(raw)
    }

    /// Whether it names a directory.
    pub const fn is_directory(self) -> bool {
        self.0 & NOT_DIRECTORY == 0
    }

    pub(crate) const fn of_entry(position: u64) -> Self {
        Self(position | NOT_DIRECTORY)
    }
}

/// An entry found in an archive.
#[derive(Debug, Clone)]
pub struct Node {
    pub(super) id: NodeId,
    pub(super) position: u64,
    pub(super) bytes: Vec<u8>,
    pub(super) layout: Layout,
}

/// A directory opened for listing and look-up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Directory {
    /// Where its ENTRY item lies.
    pub(super) entry: u64,
    /// Where its GOODBYE item lies.
    pub(super) table: u64,
    /// Children.
    pub(super) count: u64,
    /// Position behind it.
    pub(super) end: u64,
}

/// The content of a regular file, readable anywhere.
pub struct FileContent<'a> {
    pub(super) source: &'a dyn ReadAt,
    pub(super) start: u64,
    pub(super) size: u64,
}

impl Node {
    /// Its id.
    pub fn id(&self) -> NodeId {
        self.id
    }

    /// Its name; empty for the root, and for a directory opened by its id.
    pub fn name(&self) -> &[u8] {
        part(&self.bytes, &self.layout.name)
    }

    /// Where it begins in the archive: its FILENAME item, or ENTRY item for the root and a directory opened by its id.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// What it is.
    pub fn kind(&self) -> EntryKind<'_> {
        self.layout.kind(&self.bytes)
    }

    /// Its metadata as it stands in the archive; none for a hard link, which has that of its target.
    pub fn raw_metadata(&self) -> Result<Option<RawMetadata<'_>>, DecodeError> {
        self.layout.metadata(&self.bytes, self.position)
    }

    /// The part of the metadata every entry has; none for a hard link.
    pub fn stat(&self) -> Result<Option<Stat>, DecodeError> {
        Ok(self.raw_metadata()?.map(|raw| raw.stat()))
    }

    /// Decodes the metadata; that of a hard link is empty.
    pub fn metadata(&self) -> Result<Metadata, DecodeError> {
        self.raw_metadata()?
            .map_or_else(|| Ok(Metadata::default()), |raw| raw.decode())
    }
}

impl Directory {
    /// How many children it has.
    pub fn len(&self) -> u64 {
        self.count
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }
}

impl std::fmt::Debug for FileContent<'_> {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter
            .debug_struct("FileContent")
            .field("start", &self.start)
            .field("size", &self.size)
            .finish()
    }
}

impl ReadAt for FileContent<'_> {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let end = offset
            .checked_add(buffer.len() as u64)
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        if end > self.size {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        self.source.read_exact_at(buffer, self.start + offset)
    }

    fn size(&self) -> u64 {
        self.size
    }
}
