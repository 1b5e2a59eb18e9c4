//! Files that are open.

use fuser::Errno;
use relight_repo::read::ArchiveReader;
use relight_repo::{ChunkId, RepoError};

use super::{Fault, Found, Snapshots};

/// A file that is open.
pub struct OpenFile {
    number: u64,
    reader: ArchiveReader,
    /// Its first byte in the archive.
    start: u64,
    size: u64,
}

/// What a program looks for in a sparse file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Seek {
    /// The next data.
    Data,
    /// The next hole; the end counts as one.
    Hole,
}

impl OpenFile {
    /// Its inode number.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// Reads up to `length` bytes from `offset` into `buffer`, which is made to fit; fewer only at the end.
    pub fn read<'b>(&self, buffer: &'b mut Vec<u8>, offset: u64, length: u32) -> Result<&'b [u8], RepoError> {
        let count = self.size.saturating_sub(offset).min(u64::from(length)) as usize;
        if buffer.len() < count {
            buffer.resize(count, 0);
        }
        let part = &mut buffer[..count];
        self.reader
            .read_exact_at(part, self.start.saturating_add(offset))?;
        Ok(part)
    }

    /// Where data or a hole begins at or after `offset`; none if there is none.
    pub fn seek(&self, offset: u64, wanted: Seek) -> Result<Option<u64>, RepoError> {
        if offset >= self.size {
            return Ok(None);
        }
        let from = self.start.saturating_add(offset);
        let end = self.start.saturating_add(self.size);
        for piece in self.reader.pieces(from)? {
            let piece = piece?;
            if piece.offset >= end {
                break;
            }
            if (piece.id == ChunkId::ZEROS) == (wanted == Seek::Hole) {
                return Ok(Some(piece.offset.max(from) - self.start));
            }
        }
        Ok((wanted == Seek::Hole).then_some(self.size))
    }
}

impl Snapshots {
    /// Opens a regular file.
    pub(super) fn open_file(&self, number: u64) -> Result<OpenFile, Fault> {
        match self.find(number)? {
            Found::Whole(whole) => Ok(OpenFile {
                number,
                reader: ArchiveReader::sharing(self.readers.data.clone(), whole.root),
                start: 0,
                size: whole.root.size,
            }),
            Found::Entry(tree, node) if !node.id().is_directory() => {
                let content = tree.content(&node)?;
                Ok(OpenFile {
                    number,
                    reader: content.reader,
                    start: content.start,
                    size: content.size,
                })
            }
            _ => Err(Errno::EISDIR.into()),
        }
    }
}
