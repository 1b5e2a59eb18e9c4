//! Random access to an archive: a few chunks are kept, and reading on sequentially fetches ahead.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use super::chunk::ChunkReader;
use super::stream::{Content, PieceStream};
use crate::error::{RepoError, Result};
use crate::id::ChunkId;
use crate::tree::{Piece, Root, TreeReader};

/// Pieces kept in memory, up to this many bytes.
const KEPT: u64 = 32 << 20;
/// This many pieces in a row read in order begin a read-ahead.
const IN_ORDER: usize = 2;

/// An archive whose bytes can be read at any offset by several threads.
pub struct ArchiveReader {
    reader: Arc<ChunkReader>,
    root: Root,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    kept: VecDeque<(Piece, Content)>,
    bytes: u64,
    /// Where the next piece would begin if reading goes on in order, and how often it did.
    next: u64,
    in_order: usize,
    stream: Option<PieceStream>,
}

impl ArchiveReader {
    /// The archive `root`.
    pub fn new(reader: Arc<ChunkReader>, root: Root) -> Self {
        Self {
            reader,
            root,
            state: Mutex::default(),
        }
    }

    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        self.root.size
    }

    /// Fills `buffer` from `offset`; fails if the archive ends before.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> Result<()> {
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

    /// The piece that holds byte `at`, with its content.
    fn piece(&self, at: u64) -> Result<(Piece, Content)> {
        let mut state = self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let holds = |piece: &Piece| (piece.offset..piece.offset + piece.length).contains(&at);
        if let Some((piece, content)) = state.kept.iter().rev().find(|(piece, _)| holds(piece)) {
            return Ok((*piece, content.clone()));
        }
        state.in_order = if at == state.next { state.in_order + 1 } else { 0 };
        if state.in_order < IN_ORDER {
            state.stream = None;
        } else if state.stream.is_none() {
            state.stream = Some(PieceStream::new(&self.reader, self.root, at)?);
        }
        let (piece, content) = match &mut state.stream {
            Some(stream) => stream.next().transpose()?.ok_or_else(shorter)?,
            None => self.single(at)?,
        };
        if !holds(&piece) {
            return Err(shorter());
        }
        state.next = piece.offset + piece.length;
        let held = content.as_ref().map_or(0, |content| content.len() as u64);
        state.bytes += held;
        state.kept.push_back((piece, content.clone()));
        while state.kept.len() > 1 && (state.bytes > KEPT || state.kept.len() > 1024) {
            if let Some((_, old)) = state.kept.pop_front() {
                state.bytes -= old.map_or(0, |content| content.len() as u64);
            }
        }
        Ok((piece, content))
    }

    fn single(&self, at: u64) -> Result<(Piece, Content)> {
        let piece = TreeReader::new(&*self.reader, self.root, at)?
            .next()
            .transpose()?
            .ok_or_else(shorter)?;
        if piece.id == ChunkId::ZEROS {
            return Ok((piece, None));
        }
        let content = self.reader.read(&piece.id)?;
        super::scan::check_length(&piece, &content)?;
        Ok((piece, Some(Arc::new(content))))
    }
}

fn shorter() -> RepoError {
    RepoError::damaged("chunk list", "it is shorter than the archive")
}
