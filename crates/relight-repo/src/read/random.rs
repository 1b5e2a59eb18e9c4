//! Random access to an archive, by any number of threads at once. Reading on in order fetches ahead.

use std::sync::{Arc, Mutex, MutexGuard};

use super::cache::ChunkCache;
use super::chunk::ChunkReader;
use super::stored::Form;
use super::stream::Content;
use crate::error::{RepoError, Result};
use crate::id::ChunkId;
use crate::tree::{Piece, Root, TreeReader};

/// Content that an archive keeps if it does not share a cache.
const KEPT: u64 = 64 << 20;
/// Most bytes that are fetched ahead of one place.
const AHEAD: u64 = 32 << 20;
/// Bytes that are fetched ahead when a place turns out to be read in order.
const FIRST: u64 = 2 << 20;
/// Pieces of which it is remembered where they are.
const RECENT: usize = 32;
/// Places of one archive that may be read in order at the same time.
const RUNS: usize = 8;
/// Most pieces that are looked up for one read-ahead.
const PIECES: usize = 1024;

/// An archive whose bytes can be read at any offset by several threads.
pub struct ArchiveReader {
    cache: Arc<ChunkCache>,
    root: Root,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    /// The pieces used last, the newest at the end.
    recent: Vec<Piece>,
    /// Places that are read in order, the one used last at the end.
    runs: Vec<Run>,
}

/// A place from which the archive is read in order.
#[derive(Clone, Copy)]
struct Run {
    /// Where the next piece would begin.
    next: u64,
    /// What is before this was asked for ahead.
    asked: u64,
    /// How far ahead it reads.
    window: u64,
}

impl ArchiveReader {
    /// The archive `root`, with a cache of its own.
    pub fn new(reader: Arc<ChunkReader>, root: Root) -> Self {
        Self::sharing(Arc::new(ChunkCache::new(reader, KEPT)), root)
    }

    /// The archive `root`, with a cache that others use too.
    pub fn sharing(cache: Arc<ChunkCache>, root: Root) -> Self {
        Self {
            cache,
            root,
            state: Mutex::default(),
        }
    }

    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        self.root.size
    }

    /// Its chunk list.
    pub fn root(&self) -> Root {
        self.root
    }

    /// The pieces from the one that holds byte `from` on, without their content: where there is data, and where only
    /// zeros are.
    pub fn pieces(&self, from: u64) -> Result<TreeReader<'_>> {
        TreeReader::new(&**self.cache.reader(), self.root, from)
    }

    /// Fills `buffer` from `offset`; fails if the archive ends before.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
        if self.cache.reader().form() != Form::Content {
            let why = "its reader gives chunks as they are stored, not bytes";
            return Err(RepoError::Source(std::io::Error::other(why)));
        }
        let end = offset.checked_add(buffer.len() as u64);
        if end.is_none_or(|end| end > self.root.size) {
            return Err(RepoError::Source(std::io::ErrorKind::UnexpectedEof.into()));
        }
        let (mut rest, mut at) = (buffer, offset);
        while !rest.is_empty() {
            let (piece, content) = self.piece(at)?;
            let within = (at - piece.offset) as usize;
            let count = rest
                .len()
                .min((piece.length - within as u64).min(usize::MAX as u64) as usize);
            let (now, later) = rest.split_at_mut(count);
            match content {
                Some(content) => now.copy_from_slice(&content[within..within + count]),
                None => now.fill(0),
            }
            (rest, at) = (later, at + count as u64);
        }
        Ok(())
    }

    /// The piece that holds byte `at`, with its content; fails beyond the end.
    pub fn piece(&self, at: u64) -> Result<(Piece, Content)> {
        let recent = self.lock().recent(at);
        let piece = match recent {
            Some(piece) => piece,
            None => {
                let piece = self
                    .pieces(at)?
                    .next()
                    .transpose()?
                    .filter(|piece| holds(piece, at))
                    .ok_or_else(shorter)?;
                let window = AHEAD.min(self.cache.room() / 3);
                let ahead = self.lock().used(piece, window);
                if let Some((from, until)) = ahead {
                    self.read_ahead(from, until);
                }
                piece
            }
        };
        if piece.id == ChunkId::ZEROS {
            return Ok((piece, None));
        }
        Ok((piece, Some(self.cache.get(&piece)?)))
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn read_ahead(&self, from: u64, until: u64) {
        // A list that cannot be read is reported to whoever needs what it names.
        let Ok(pieces) = self.pieces(from) else { return };
        let pieces = pieces
            .map_while(Result::ok)
            .take(PIECES)
            .take_while(|piece| piece.offset < until);
        self.cache.read_ahead(&pieces.collect::<Vec<_>>());
    }
}

impl State {
    fn recent(&self, at: u64) -> Option<Piece> {
        self.recent.iter().rev().find(|piece| holds(piece, at)).copied()
    }

    /// Takes note that a piece is used. Gives the range that should be read ahead now.
    fn used(&mut self, piece: Piece, most: u64) -> Option<(u64, u64)> {
        if self.recent.len() >= RECENT {
            self.recent.remove(0);
        }
        self.recent.push(piece);
        let end = piece.offset.saturating_add(piece.length);
        let follows = |run: &Run| (run.next..=run.next.max(run.asked)).contains(&piece.offset);
        // Several threads that share the work come a little out of order.
        let late = |run: &Run| piece.offset < run.next && piece.offset.saturating_add(run.window) >= run.next;
        let Some(number) = self.runs.iter().position(|run| follows(run) || late(run)) else {
            if self.runs.len() >= RUNS {
                self.runs.remove(0);
            }
            self.runs.push(Run {
                next: end,
                asked: end,
                window: 0,
            });
            return None;
        };
        let mut run = self.runs.remove(number);
        let goes_on = end > run.next;
        if goes_on {
            run.next = end;
            run.window = (run.window * 2).clamp(FIRST.min(most), most);
            run.asked = run.asked.max(end);
        }
        let until = run.next.saturating_add(run.window);
        let from = run.asked;
        let ask = goes_on && from - run.next <= run.window / 2 && from < until;
        if ask {
            run.asked = until;
        }
        self.runs.push(run);
        ask.then_some((from, until))
    }
}

fn holds(piece: &Piece, at: u64) -> bool {
    at >= piece.offset && at - piece.offset < piece.length
}

fn shorter() -> RepoError {
    RepoError::damaged("chunk list", "it is shorter than the archive")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(number: u64) -> Piece {
        Piece {
            offset: number << 20,
            length: 1 << 20,
            id: ChunkId([1; 32]),
        }
    }

    #[test]
    fn reading_in_order_asks_for_each_byte_once_and_ever_further_ahead() {
        let mut state = State::default();
        let mut asked = 0;
        for number in 0..200 {
            if let Some((from, until)) = state.used(piece(number), AHEAD) {
                assert!(from == asked || asked == 0, "{from} after {asked}");
                assert!(until - (number << 20) <= AHEAD + (1 << 20));
                asked = until;
            }
        }
        assert!(asked >= 200 << 20, "{asked}");
    }

    #[test]
    fn random_reads_ask_for_nothing_and_do_not_disturb_one_in_order() {
        let mut state = State::default();
        let mut ahead = 0;
        for order in 0..100u64 {
            let place = 1000 + order * 7919 % 5000 * 3;
            assert_eq!(state.used(piece(place), AHEAD), None);
            ahead += u64::from(state.used(piece(order), AHEAD).is_some());
        }
        assert!(ahead > 3, "{ahead}");
    }

    #[test]
    fn threads_that_share_the_work_count_as_in_order() {
        let mut state = State::default();
        let mut asked = 0;
        for number in 0..100u64 {
            // 1 0 3 2 5 4 …
            if let Some((_, until)) = state.used(piece(number ^ 1), AHEAD) {
                asked = until;
            }
        }
        assert!(asked >= 100 << 20, "{asked}");
    }
}
