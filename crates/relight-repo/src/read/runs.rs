//! Reads all pieces of an archive in parallel, and hands over together what follows one another: of a database each piece
//! is a page or two, and writing them one by one costs more than reading them.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use super::chunk::ChunkReader;
use super::scan::{Taker, scan_with};
use crate::direct::Aligned;
use crate::error::Result;
use crate::tree::{Piece, Root};

/// Bytes of a run at most, unless a single piece is longer.
const RUN: usize = 1 << 20;

/// Takes content that lies at a place of the archive.
type Put<'p> = &'p (dyn Fn(u64, &[u8]) -> Result<()> + Sync);

/// Pieces of which each follows the one before.
struct Run<'p> {
    put: Put<'p>,
    memory: Aligned,
    offset: u64,
    length: usize,
}

impl Taker for Run<'_> {
    fn take(&mut self, piece: Piece, content: &[u8]) -> Result<()> {
        let follows = piece.offset == self.offset + self.length as u64;
        if !follows || self.length + content.len() > RUN {
            self.pause()?;
        }
        if content.len() > RUN {
            return (self.put)(piece.offset, content);
        }
        if self.length == 0 {
            self.offset = piece.offset;
        }
        self.memory[self.length..self.length + content.len()].copy_from_slice(content);
        self.length += content.len();
        Ok(())
    }

    fn pause(&mut self) -> Result<()> {
        let length = std::mem::take(&mut self.length);
        if length == 0 {
            return Ok(());
        }
        (self.put)(self.offset, &self.memory[..length])
    }
}

/// Reads the archive `root` and calls `put` from several threads with all of its content but zeros, which are told to
/// `zeros`; in any order. Ends at the first error.
pub fn scan_runs(
    reader: &Arc<ChunkReader>,
    root: Root,
    cancelled: &AtomicBool,
    put: Put<'_>,
    zeros: &dyn Fn(Piece) -> Result<()>,
) -> Result<()> {
    let run = || Run {
        put,
        memory: Aligned::new(RUN),
        offset: 0,
        length: 0,
    };
    scan_with(reader, root, cancelled, &run, zeros)
}
