//! The chunks that a client may ask for: those that the indexes list which it has downloaded in this session.

use std::collections::HashMap;

use relight_repo::ChunkId;
use relight_repo::tree::Piece;

use super::Ended;
use super::ahead::{Ahead, List};
use crate::formats::index::Digest;
use crate::service::datastore::IndexChunk;
use crate::service::http::{ApiError, ApiResult};

impl List for Vec<IndexChunk> {
    fn len(&self) -> usize {
        self.len()
    }

    fn at(&self, position: usize) -> Option<(&Digest, u64)> {
        let chunk = self.get(position)?;
        let bytes = if chunk.id == ChunkId::ZEROS {
            0
        } else {
            chunk.length
        };
        Some((&chunk.digest, bytes))
    }
}

/// The indexes that were downloaded, and what was asked for of them.
#[derive(Default)]
pub(super) struct Lists {
    lists: Vec<Vec<IndexChunk>>,
    names: Vec<String>,
    /// Where a chunk is first: list and position.
    places: HashMap<Digest, (u32, u32)>,
    ahead: Ahead,
    chunks: u64,
    foreseen: u64,
}

/// A chunk to be read, and others that will be asked for next.
pub(super) struct Wanted {
    pub piece: Piece,
    pub ahead: Vec<Piece>,
}

fn piece(chunk: &IndexChunk) -> Piece {
    Piece {
        offset: 0,
        length: chunk.length,
        id: chunk.id,
    }
}

impl Lists {
    /// Takes up an index: its chunks may be asked for from now on.
    pub fn add(&mut self, name: &str, chunks: Vec<IndexChunk>) -> ApiResult<()> {
        if self.names.iter().any(|known| known == name) {
            return Ok(());
        }
        let too_large = |_| ApiError::internal("the index has too many chunks");
        let list = u32::try_from(self.lists.len()).map_err(too_large)?;
        u32::try_from(chunks.len()).map_err(too_large)?;
        self.places.reserve(chunks.len());
        for (position, chunk) in chunks.iter().enumerate() {
            self.places.entry(chunk.digest).or_insert((list, position as u32));
        }
        self.lists.push(chunks);
        self.names.push(name.to_string());
        Ok(())
    }

    /// A chunk that is asked for; none if it may not be.
    pub fn want(&mut self, digest: &Digest) -> Option<Wanted> {
        let &(list, position) = self.places.get(digest)?;
        let first = (list as usize, position as usize);
        let chunk = self.lists.get(first.0)?.get(first.1)?;
        let step = self.ahead.asked_for(&self.lists, digest, first);
        self.chunks += 1;
        self.foreseen += u64::from(step.foreseen || chunk.id == ChunkId::ZEROS);
        let ahead = step
            .ahead
            .and_then(|(list, range)| self.lists.get(list)?.get(range));
        let needed = |chunk: &&IndexChunk| chunk.id != ChunkId::ZEROS;
        Some(Wanted {
            piece: piece(chunk),
            ahead: ahead.into_iter().flatten().filter(needed).map(piece).collect(),
        })
    }

    /// What was asked for so far.
    pub fn statistic(&self) -> Ended {
        Ended {
            chunks: self.chunks,
            foreseen: self.foreseen,
            broken: false,
        }
    }
}
