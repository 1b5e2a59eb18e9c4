//! Takes over unchanged parts of the previous payload by the chunks they lie in, without reading anything.
//!
//! A chunk is taken over whole even if only some of its files are still there: the rest is padding that no entry
//! refers to. When a changed file lies between two unchanged ones of the same chunk, the chunk comes twice in the
//! list, which costs a line of it and no storage.
//!
//! What cannot be read of the previous list costs speed only: from there on every file is read.

use std::ops::Range;

use relight_repo::Result;
use relight_repo::read::ChunkReader;
use relight_repo::session::ArchiveWriter;
use relight_repo::tree::{Piece, Root, TreeReader};

/// The previous payload, walked once from front to back.
pub(super) struct Reuse<'a> {
    reader: &'a ChunkReader,
    root: Root,
    /// What comes after `last`; none once the list could not be read on.
    pieces: Option<TreeReader<'a>>,
    /// The piece that was looked at last.
    last: Option<Piece>,
    run: Option<Run>,
}

/// What became of a part that was to be taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken {
    /// Its begin lies here now.
    At(u64),
    /// It has to be read.
    Lost {
        /// So many bytes behind its begin a lost chunk began. Where the same bytes are cut there again, the same
        /// chunk comes about, which brings back earlier snapshots that need it as well.
        cut: Option<u64>,
    },
}

/// Pieces that were appended one after the other: old and new offsets differ by the same amount.
#[derive(Clone, Copy)]
struct Run {
    old_end: u64,
    old_start: u64,
    new_start: u64,
}

impl<'a> Reuse<'a> {
    /// Of the payload `root`.
    pub fn new(reader: &'a ChunkReader, root: Root) -> Self {
        let pieces = TreeReader::new(reader, root, 0).inspect_err(warn).ok();
        Self {
            reader,
            root,
            pieces,
            last: None,
            run: None,
        }
    }

    /// Something else was written: what is taken over next begins anew.
    pub fn interrupt(&mut self) {
        self.run = None;
    }

    /// Makes `old` part of what `writer` writes, if all of its chunks are there in good order.
    pub fn take(&mut self, writer: &mut ArchiveWriter, old: Range<u64>) -> Result<Taken> {
        let fits = |run: &Run| old.start >= run.old_start && old.start <= run.old_end;
        let mut run = self.run.filter(fits);
        // First look, then append: a large file whose last chunk is lost must not leave all others as padding.
        if let Some(lost) = self.look(run.map_or(old.start, |run| run.old_end), &old) {
            self.run = None;
            return Ok(lost);
        }
        const LOST: Taken = Taken::Lost { cut: None };
        if run.is_none() {
            let Some(first) = self.find(old.start) else {
                return Ok(LOST);
            };
            let new_start = writer.position();
            if writer.push_known(first.id, first.length)? {
                run = Some(Run {
                    old_start: first.offset,
                    old_end: first.offset + first.length,
                    new_start,
                });
            }
        }
        self.run = None;
        let Some(mut run) = run else { return Ok(LOST) };
        while run.old_end < old.end {
            let Some(piece) = self.next().filter(|piece| piece.offset == run.old_end) else {
                return Ok(LOST);
            };
            if !writer.push_known(piece.id, piece.length)? {
                return Ok(LOST);
            }
            run.old_end += piece.length;
        }
        self.run = Some(run);
        Ok(Taken::At(run.new_start + (old.start - run.old_start)))
    }

    /// Whether a chunk of `old` from byte `from` on is lost.
    fn look(&self, from: u64, old: &Range<u64>) -> Option<Taken> {
        if from >= old.end {
            return None;
        }
        let index = self.reader.repository().index();
        let is_lost =
            |piece: &Piece| piece.id != relight_repo::ChunkId::ZEROS && index.writable(&piece.id).is_none();
        let pieces = self
            .pieces
            .as_ref()
            .and_then(|_| TreeReader::new(self.reader, self.root, from).ok());
        let Some(pieces) = pieces else {
            return Some(Taken::Lost { cut: None });
        };
        let (mut lost, mut end) = (false, from);
        for piece in pieces {
            let Ok(piece) = piece.inspect_err(warn) else {
                return Some(Taken::Lost { cut: None });
            };
            if piece.offset >= old.end {
                break;
            }
            if is_lost(&piece) {
                lost = true;
                if let Some(cut) = piece.offset.checked_sub(old.start) {
                    return Some(Taken::Lost { cut: Some(cut) });
                }
            }
            end = piece.offset + piece.length;
        }
        (lost || end < old.end).then_some(Taken::Lost { cut: None })
    }

    fn next(&mut self) -> Option<Piece> {
        let next = self.pieces.as_mut()?.next()?;
        match next {
            Ok(piece) => self.last = Some(piece),
            Err(error) => {
                warn(&error);
                self.pieces = None;
                return None;
            }
        }
        self.last
    }

    /// The piece that holds `offset`; those before it are passed over.
    fn find(&mut self, offset: u64) -> Option<Piece> {
        let holds = |piece: &Piece| (piece.offset..piece.offset + piece.length).contains(&offset);
        if let Some(last) = self.last.filter(|last| last.offset + last.length > offset) {
            return Some(last).filter(holds);
        }
        while let Some(piece) = self.next() {
            if piece.offset + piece.length > offset {
                return Some(piece).filter(holds);
            }
        }
        None
    }
}

fn warn(error: &relight_repo::RepoError) {
    tracing::warn!(%error, "the content list of the previous snapshot cannot be read; files are read again");
}
