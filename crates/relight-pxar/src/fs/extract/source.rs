//! What a restore reads from.

use std::io::{self, Read, Seek};
use std::ops::{ControlFlow, Range};

use crate::read_at::ReadAt;

/// A part of a content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Piece<'a> {
    /// Bytes.
    Bytes(&'a [u8]),
    /// That many zeros, which the source knew without making them.
    Zeros(u64),
}

/// Hands out parts of a payload stream.
pub trait ContentSource {
    /// Hands the bytes of `range` to `take`, piece by piece in order, until they end or `take` breaks off. Ranges are
    /// asked for in rising order and never overlap, so the source may read ahead.
    ///
    /// # Errors
    /// Where bytes cannot be had: lost, damaged, or beyond the end. The file in question is reported, and the restore
    /// goes on with the next.
    fn read(
        &mut self,
        range: Range<u64>,
        take: &mut dyn FnMut(Piece<'_>) -> ControlFlow<()>,
    ) -> io::Result<()>;
}

/// An archive that is read from its beginning. Contents within it that are not wanted are passed over by
/// [`io::SeekFrom::Current`], always forward; nothing else is ever asked of [`Seek`].
pub trait ArchiveStream: Read + Seek {}

impl<T: Read + Seek> ArchiveStream for T {}

/// An archive to restore from. A restore may open its streams more than once, one after the other.
pub trait ArchiveSource {
    /// The archive (version 1) or its metadata stream (version 2) from its beginning.
    fn metadata(&self) -> io::Result<Box<dyn ArchiveStream + '_>>;

    /// The payload stream (version 2).
    fn content(&self) -> io::Result<Box<dyn ContentSource + '_>>;

    /// The bytes of [`ArchiveSource::metadata`] at any offset, where they can be had: a few paths out of many are then
    /// found (and, of version 1, their contents read) without reading all of it.
    fn random_access(&self) -> Option<&dyn ReadAt> {
        None
    }
}

/// Reads contents from anything with random access.
#[derive(Debug)]
pub struct ReadAtContent<R> {
    payload: R,
    buffer: Vec<u8>,
}

impl<R: ReadAt> ReadAtContent<R> {
    /// Contents out of `payload`; allocates 256 KiB.
    pub fn new(payload: R) -> Self {
        Self {
            payload,
            buffer: vec![0; 256 * 1024],
        }
    }
}

impl<R: ReadAt> ContentSource for ReadAtContent<R> {
    fn read(
        &mut self,
        range: Range<u64>,
        take: &mut dyn FnMut(Piece<'_>) -> ControlFlow<()>,
    ) -> io::Result<()> {
        let mut position = range.start;
        while position < range.end {
            let length = (range.end - position).min(self.buffer.len() as u64);
            let part = &mut self.buffer[..length as usize];
            self.payload.read_exact_at(part, position)?;
            if take(Piece::Bytes(part)).is_break() {
                break;
            }
            position += length;
        }
        Ok(())
    }
}
