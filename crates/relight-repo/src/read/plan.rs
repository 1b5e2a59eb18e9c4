//! Plans reads by pack: chunks that lie side by side are fetched in one request.

use std::collections::HashMap;
use std::sync::Arc;

use super::chunk::ChunkReader;
use crate::error::Result;
use crate::id::ChunkId;
use crate::index::{Located, PackLine};
use crate::pack::Record;
use crate::pack::codec::Decoder;
use crate::tree::Piece;

/// A request covers at most this much.
const MOST: u64 = 8 << 20;
/// Two chunks are fetched together if what lies between them is not more than this.
const GAP: u64 = 64 << 10;

/// One request to storage and what comes of it.
pub(super) struct Fetch {
    pack: PackLine,
    start: u64,
    end: u64,
    /// Each record with the pieces (by number in the plan) that it is.
    pub parts: Vec<(Record, Vec<usize>)>,
}

/// Memory that a thread uses for one fetch after the other.
#[derive(Default)]
pub(super) struct Buffers {
    sealed: Vec<u8>,
    scratch: Vec<u8>,
    again: Vec<u8>,
}

/// Makes requests for `pieces`; pieces of zeros need none.
pub(super) fn plan(reader: &ChunkReader, pieces: &[Piece]) -> Result<Vec<Fetch>> {
    let mut wanted: HashMap<ChunkId, Vec<usize>> = HashMap::with_capacity(pieces.len());
    for (number, piece) in pieces.iter().enumerate() {
        if piece.id != ChunkId::ZEROS {
            wanted.entry(piece.id).or_default().push(number);
        }
    }
    let mut places = Vec::with_capacity(wanted.len());
    for (id, numbers) in wanted {
        if let Some(place) = reader.locate(&id)?.first() {
            places.push((*place, numbers));
        }
    }
    places.sort_by_key(|(place, _)| (place.pack.id, place.record.offset));
    let mut fetches: Vec<Fetch> = Vec::new();
    for (Located { pack, record }, numbers) in places {
        let (start, end) = (
            u64::from(record.offset),
            u64::from(record.offset) + u64::from(record.stored),
        );
        match fetches.last_mut() {
            Some(last) if last.pack.id == pack.id && start <= last.end + GAP && end - last.start <= MOST => {
                last.end = end;
                last.parts.push((record, numbers));
            }
            _ => fetches.push(Fetch {
                pack,
                start,
                end,
                parts: vec![(record, numbers)],
            }),
        }
    }
    // In the order in which they are needed first.
    fetches.sort_by_key(|fetch| {
        fetch
            .parts
            .iter()
            .flat_map(|(_, numbers)| numbers.iter().min())
            .min()
            .copied()
    });
    Ok(fetches)
}

impl Fetch {
    /// Reads, opens and checks, and hands over the content of each record with its pieces.
    pub fn run(
        &self,
        reader: &ChunkReader,
        decoder: &mut Decoder,
        buffers: &mut Buffers,
        mut take: impl FnMut(&[usize], &[u8]) -> Result<()>,
    ) -> Result<()> {
        let length = (self.end - self.start) as usize;
        if buffers.sealed.len() < length {
            buffers.sealed.resize(length, 0);
        }
        let sealed = &mut buffers.sealed[..length];
        let key = self.pack.kind.key(self.pack.id);
        let opener = reader.opener(&self.pack)?;
        let got = reader.repository().storage().get_range(&key, self.start, sealed);
        for (record, numbers) in &self.parts {
            let from = (u64::from(record.offset) - self.start) as usize;
            let part = &mut sealed[from..from + record.stored as usize];
            let content = match &got {
                Ok(()) => opener
                    .give(
                        record,
                        part,
                        decoder,
                        &mut buffers.scratch,
                        (reader.form(), reader.client_key()),
                    )
                    .ok(),
                Err(_) => None,
            };
            match content {
                Some(content) => take(numbers, content)?,
                // Any other place where the chunk lies, after a look at what is there now; its error if none is good.
                None => {
                    buffers.again = reader.read(&record.id)?;
                    take(numbers, &buffers.again)?;
                }
            }
        }
        Ok(())
    }
}

/// Threads that read: enough to hide the latency of object storage.
pub(super) fn threads(reader: &Arc<ChunkReader>) -> usize {
    reader.repository().options().threads.max(4)
}
