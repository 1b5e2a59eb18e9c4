//! Takes over unchanged parts of the previous payload by the chunks they lie in, without reading anything.
//!
//! A chunk is taken over whole even if only some of its files are still there: the rest is padding that no entry
//! refers to. When a changed file lies between two unchanged ones of the same chunk, the chunk comes twice in the
//! list, which costs a line of it and no storage.

use std::ops::Range;

use relight_repo::Result;
use relight_repo::session::ArchiveWriter;
use relight_repo::tree::{Piece, TreeReader};

/// The previous payload, walked once from front to back.
pub(super) struct Reuse<'a> {
    pieces: TreeReader<'a>,
    /// The piece that was looked at last.
    last: Option<Piece>,
    run: Option<Run>,
}

/// Pieces that were appended one after the other: old and new offsets differ by the same amount.
#[derive(Clone, Copy)]
struct Run {
    old_end: u64,
    old_start: u64,
    new_start: u64,
}

impl<'a> Reuse<'a> {
    /// Of these pieces.
    pub fn new(pieces: TreeReader<'a>) -> Self {
        Self { pieces, last: None, run: None }
    }

    /// Something else was written: what is taken over next begins anew.
    pub fn interrupt(&mut self) {
        self.run = None;
    }

    /// Makes `old` part of what `writer` writes and tells where its begin lies now. None if a chunk is lost.
    pub fn take(&mut self, writer: &mut ArchiveWriter, old: Range<u64>) -> Result<Option<u64>> {
        let fits = |run: &Run| old.start >= run.old_start && old.start <= run.old_end;
        let mut run = match self.run.filter(fits) {
            Some(run) => run,
            None => {
                let Some(first) = self.find(old.start)? else { return Ok(None) };
                let run = Run {
                    old_start: first.offset,
                    old_end: first.offset + first.length,
                    new_start: writer.position(),
                };
                if !writer.push_known(first.id, first.length)? {
                    self.run = None;
                    return Ok(None);
                }
                run
            }
        };
        while run.old_end < old.end {
            let piece = self.next()?.filter(|piece| piece.offset == run.old_end);
            let known = match piece {
                Some(piece) => writer.push_known(piece.id, piece.length)?.then_some(piece),
                None => None,
            };
            let Some(piece) = known else {
                self.run = None;
                return Ok(None);
            };
            run.old_end += piece.length;
        }
        self.run = Some(run);
        Ok(Some(run.new_start + (old.start - run.old_start)))
    }

    fn next(&mut self) -> Result<Option<Piece>> {
        let next = self.pieces.next().transpose()?;
        if next.is_some() {
            self.last = next;
        }
        Ok(next)
    }

    /// The piece that holds `offset`; those before it are passed over.
    fn find(&mut self, offset: u64) -> Result<Option<Piece>> {
        let holds = |piece: &Piece| (piece.offset..piece.offset + piece.length).contains(&offset);
        if let Some(last) = self.last.filter(holds) {
            return Ok(Some(last));
        }
        while let Some(piece) = self.next()? {
            if holds(&piece) {
                return Ok(Some(piece));
            }
            if piece.offset > offset {
                return Ok(None);
            }
        }
        Ok(None)
    }
}
