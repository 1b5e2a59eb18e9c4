//! Reading an archive block by block around the entry at hand.

use std::io;

use crate::entry::Window;
use crate::error::DecodeError;
use crate::read_at::ReadAt;

/// Fills `buffer` from `offset`; [`DecodeError::Truncated`] where the bytes end before.
pub(super) fn read(
    source: &(impl ReadAt + ?Sized),
    buffer: &mut [u8],
    offset: u64,
) -> Result<(), DecodeError> {
    source
        .read_exact_at(buffer, offset)
        .map_err(|error| match error.kind() {
            io::ErrorKind::UnexpectedEof => DecodeError::Truncated {
                position: source.size(),
            },
            _ => error.into(),
        })
}

/// A stretch of the archive kept for the entries to come.
#[derive(Debug)]
pub(super) struct Cache {
    start: u64,
    bytes: Vec<u8>,
    block: usize,
}

impl Cache {
    pub(super) fn new(block: usize) -> Self {
        Self {
            start: 0,
            bytes: Vec::new(),
            block,
        }
    }

    /// The bytes kept from `position` on.
    fn from(&self, position: u64) -> &[u8] {
        let offset = position
            .checked_sub(self.start)
            .and_then(|offset| usize::try_from(offset).ok());
        offset
            .and_then(|offset| self.bytes.get(offset..))
            .unwrap_or_default()
    }
}

/// The archive from an entry on, read block by block.
pub(super) struct CacheWindow<'w, R> {
    archive: &'w R,
    cache: &'w mut Cache,
    position: u64,
    limit: u64,
}

impl<'w, R: ReadAt> CacheWindow<'w, R> {
    /// The bytes from `position` on, none of them at `limit` or behind.
    pub(super) fn new(archive: &'w R, cache: &'w mut Cache, position: u64, limit: u64) -> Self {
        Self {
            archive,
            cache,
            position,
            limit,
        }
    }
}

impl<R: ReadAt> Window for CacheWindow<'_, R> {
    fn position(&self) -> u64 {
        self.position
    }

    fn require(&mut self, length: usize) -> Result<&[u8], DecodeError> {
        if self
            .position
            .checked_add(length as u64)
            .is_none_or(|end| end > self.limit)
        {
            return Err(DecodeError::Truncated { position: self.limit });
        }
        let kept = self.cache.from(self.position).len();
        if kept < length {
            // Twice what was there, so that large metadata is not read again with each of its items.
            let wanted = length.max(self.cache.block).max(kept.saturating_mul(2)) as u64;
            let wanted = wanted.min(self.archive.size().saturating_sub(self.position));
            self.cache.start = self.position;
            self.cache.bytes.resize(wanted as usize, 0);
            let result = read(self.archive, &mut self.cache.bytes, self.position);
            if result.is_err() {
                self.cache.bytes.clear();
            }
            result?;
        }
        Ok(self.cache.from(self.position))
    }

    fn ends_at(&mut self, length: usize) -> Result<bool, DecodeError> {
        Ok(self.position.saturating_add(length as u64) >= self.limit)
    }
}
