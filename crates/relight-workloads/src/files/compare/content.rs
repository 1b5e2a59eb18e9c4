//! Compares contents by the chunks they lie in, and reads only what lies in different ones.

use std::sync::Arc;

use relight_repo::read::ChunkReader;
use relight_repo::tree::{Piece, Root, TreeReader};
use relight_repo::{ChunkId, RepoError};

use crate::error::Result;

/// A part of an archive.
#[derive(Debug, Clone, Copy)]
pub(super) struct Part {
    /// The archive.
    pub root: Root,
    /// Where the part begins.
    pub start: u64,
    /// How long it is.
    pub size: u64,
}

/// Compares parts of two archives; keeps the chunks that were read last.
pub(super) struct Contents {
    left: Side,
    right: Side,
}

struct Side {
    reader: Arc<ChunkReader>,
    last: Option<(ChunkId, Vec<u8>)>,
}

/// Bytes that follow each other in one chunk.
#[derive(Clone, Copy)]
struct Segment {
    id: ChunkId,
    /// Length of the chunk; of zeros, which are no chunk, of no meaning.
    chunk: u64,
    from: u64,
    length: u64,
}

impl Contents {
    /// Of two archives.
    pub fn new(left: &Arc<ChunkReader>, right: &Arc<ChunkReader>) -> Self {
        let side = |reader: &Arc<ChunkReader>| Side {
            reader: reader.clone(),
            last: None,
        };
        Self {
            left: side(left),
            right: side(right),
        }
    }

    /// Whether both parts hold the same bytes.
    pub fn are_equal(&mut self, left: Part, right: Part) -> Result<bool> {
        if left.size != right.size {
            return Ok(false);
        }
        if left.root == right.root && left.start == right.start {
            return Ok(true);
        }
        // The readers are borrowed apart from the chunks that are kept.
        let (left_reader, right_reader) = (self.left.reader.clone(), self.right.reader.clone());
        let mut lefts = Segments::new(&left_reader, left)?;
        let mut rights = Segments::new(&right_reader, right)?;
        let (mut a, mut b) = (lefts.next()?, rights.next()?);
        while let (Some(one), Some(other)) = (a, b) {
            let length = one.length.min(other.length);
            if !self.same(one, other, length)? {
                return Ok(false);
            }
            a = if length == one.length {
                lefts.next()?
            } else {
                Some(one.after(length))
            };
            b = if length == other.length {
                rights.next()?
            } else {
                Some(other.after(length))
            };
        }
        Ok(a.is_none() && b.is_none())
    }

    fn same(&mut self, left: Segment, right: Segment, length: u64) -> Result<bool> {
        if left.id == right.id && (left.id == ChunkId::ZEROS || left.from == right.from) {
            return Ok(true);
        }
        // Chunks of the same cut with different identities differ, whatever is in them.
        if left.is_whole(length) && right.is_whole(length) && left.id != right.id {
            return Ok(false);
        }
        let left = self.left.bytes(left, length)?;
        let right = self.right.bytes(right, length)?;
        Ok(match (left, right) {
            (Some(left), Some(right)) => left == right,
            (Some(bytes), None) | (None, Some(bytes)) => bytes.iter().all(|&byte| byte == 0),
            (None, None) => true,
        })
    }
}

impl Side {
    /// The bytes of a segment; none stands for zeros.
    fn bytes(&mut self, segment: Segment, length: u64) -> Result<Option<&[u8]>> {
        if segment.id == ChunkId::ZEROS {
            return Ok(None);
        }
        if self.last.as_ref().is_none_or(|(id, _)| *id != segment.id) {
            self.last = Some((segment.id, self.reader.read(&segment.id)?));
        }
        let content = self.last.as_ref().map_or(&[][..], |(_, content)| content);
        let range = segment.from as usize..segment.from.saturating_add(length) as usize;
        let part = content
            .get(range)
            .filter(|_| content.len() as u64 == segment.chunk);
        let damaged = || RepoError::Damaged {
            what: "chunk list".into(),
            why: format!("it says that chunk {} has {} bytes", segment.id, segment.chunk),
        };
        Ok(Some(part.ok_or_else(damaged)?))
    }
}

impl Segment {
    fn after(self, length: u64) -> Self {
        Self {
            from: self.from + length,
            length: self.length - length,
            ..self
        }
    }

    /// Whether `length` bytes are all of a chunk whose identity follows from its content.
    fn is_whole(&self, length: u64) -> bool {
        self.id != ChunkId::ZEROS && self.from == 0 && length == self.chunk
    }
}

struct Segments<'a> {
    pieces: TreeReader<'a>,
    at: u64,
    end: u64,
}

impl<'a> Segments<'a> {
    fn new(reader: &'a ChunkReader, part: Part) -> Result<Self> {
        let end = part.start.saturating_add(part.size);
        Ok(Self {
            pieces: TreeReader::new(reader, part.root, part.start)?,
            at: part.start,
            end,
        })
    }

    fn next(&mut self) -> Result<Option<Segment>> {
        if self.at >= self.end {
            return Ok(None);
        }
        let shorter = || RepoError::Damaged {
            what: "chunk list".into(),
            why: "it is shorter than what the file tree says of it".into(),
        };
        let Piece { offset, length, id } = self.pieces.next().transpose()?.ok_or_else(shorter)?;
        let from = self
            .at
            .checked_sub(offset)
            .filter(|from| *from < length)
            .ok_or_else(shorter)?;
        let taken = (length - from).min(self.end - self.at);
        self.at += taken;
        Ok(Some(Segment {
            id,
            chunk: length,
            from,
            length: taken,
        }))
    }
}
