//! The chunks of one index: those that the other server may lack are read here, in the order in which they lie, and sent
//! several at once, with bounded memory.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;

use bytes::Bytes;
use relight_repo::ChunkId;
use relight_repo::pack::Codec;
use relight_repo::read::{ChunkReader, PieceStream, Stored};
use relight_repo::tree::Piece;
use tokio::sync::mpsc;
use tokio_util::task::AbortOnDropHandle;

use super::{Push, Result, SyncError, stopped};
use crate::client::RawWriter;
use crate::formats::blob;
use crate::formats::ids::{FileKind, FileName};
use crate::formats::index::Digest;
use crate::service::datastore::{IndexChunk, IndexFile, StoreError};

/// Chunks that are sent at once at most.
const AT_ONCE: usize = 8;
/// Chunks that were read and wait to be sent.
const READ: usize = 2;
/// Chunks that are named in one call.
const BATCH: usize = 128;

/// A chunk that is sent, or need not be.
struct Queued {
    start: u64,
    digest: Digest,
    sending: Option<AbortOnDropHandle<Result<u64>>>,
}

impl Push<'_> {
    /// Sends an index. Gives how many chunks were sent for it, and their bytes.
    pub(super) async fn index(
        &self,
        writer: &RawWriter,
        name: &FileName,
        index: IndexFile,
        mut known: HashSet<Digest>,
    ) -> Result<(u64, u64)> {
        let fixed = name.kind() == FileKind::FixedIndex;
        let wid = writer.open(name, fixed.then_some(index.size)).await?;
        let mut missing = Vec::new();
        let mut is_sent = Vec::with_capacity(index.chunks.len());
        for chunk in &index.chunks {
            let first = known.insert(chunk.digest);
            is_sent.push(first);
            if first {
                missing.push(*chunk);
            }
        }
        let mut blobs = read(self.job.local.store.stored_reader(), missing);
        let mut sent = (0, 0);
        let mut queue: VecDeque<Queued> = VecDeque::new();
        let mut under_way = 0;
        let mut batch = Vec::with_capacity(BATCH);
        let mut start = 0;
        for (chunk, first) in index.chunks.iter().zip(is_sent) {
            stopped(self.task)?;
            while queue.len() >= BATCH || (first && under_way >= AT_ONCE) {
                let Some(queued) = queue.pop_front() else { break };
                under_way -= usize::from(queued.sending.is_some());
                settle(queued, &mut batch, &mut sent).await?;
                if batch.len() >= BATCH {
                    writer.append(fixed, wid, &batch).await?;
                    batch.clear();
                }
            }
            let sending = match first {
                true => {
                    let blob = blobs.recv().await.ok_or(SyncError::Lost)??;
                    let (writer, chunk) = (writer.clone(), *chunk);
                    under_way += 1;
                    let send = async move {
                        let length = blob.len() as u64;
                        writer
                            .chunk(fixed, wid, &chunk.digest, chunk.length, blob)
                            .await?;
                        Ok(length)
                    };
                    Some(AbortOnDropHandle::new(tokio::spawn(send)))
                }
                false => None,
            };
            queue.push_back(Queued {
                start,
                digest: chunk.digest,
                sending,
            });
            start += chunk.length;
        }
        for queued in queue {
            settle(queued, &mut batch, &mut sent).await?;
            if batch.len() >= BATCH {
                writer.append(fixed, wid, &batch).await?;
                batch.clear();
            }
        }
        if !batch.is_empty() {
            writer.append(fixed, wid, &batch).await?;
        }
        let count = index.chunks.len() as u64;
        writer.close(fixed, wid, count, index.size, &index.csum).await?;
        Ok(sent)
    }
}

/// Waits until a chunk has been sent, so that it may be named.
async fn settle(queued: Queued, batch: &mut Vec<(u64, Digest)>, sent: &mut (u64, u64)) -> Result<()> {
    if let Some(sending) = queued.sending {
        let length = sending.await.map_err(|_| SyncError::Lost)??;
        sent.0 += 1;
        sent.1 += length;
    }
    batch.push((queued.start, queued.digest));
    Ok(())
}

/// Reads chunks in order on a thread of its own, which ends when nobody wants them any more.
fn read(reader: Arc<ChunkReader>, chunks: Vec<IndexChunk>) -> mpsc::Receiver<Result<Bytes>> {
    let (give, take) = mpsc::channel(READ);
    tokio::task::spawn_blocking(move || {
        let piece = |chunk: &IndexChunk| {
            Ok(Piece {
                offset: 0,
                length: chunk.length,
                id: chunk.id,
            })
        };
        let pieces: Vec<_> = chunks.iter().map(piece).collect();
        let stream = PieceStream::of(&reader, Box::new(pieces.into_iter()));
        for (item, chunk) in stream.zip(&chunks) {
            let blob = item
                .map_err(|error| SyncError::Store(StoreError::from(error)))
                .and_then(|(piece, stored)| match stored {
                    Some(stored) => as_blob(&stored),
                    None if piece.id == ChunkId::ZEROS => zeros(chunk.length),
                    None => Err(SyncError::Lost),
                });
            let failed = blob.is_err();
            if give.blocking_send(blob).is_err() || failed {
                return;
            }
        }
    });
    take
}

fn as_blob(stored: &[u8]) -> Result<Bytes> {
    let stored = Stored::parse(stored).map_err(|error| SyncError::Store(error.into()))?;
    if let Some((_, sealed)) = stored.client_sealed() {
        return Ok(Bytes::copy_from_slice(sealed));
    }
    let header = blob::header(stored.codec == Codec::Zstd, [stored.payload]);
    Ok([header.as_slice(), stored.payload].concat().into())
}

fn zeros(length: u64) -> Result<Bytes> {
    let length = usize::try_from(length)
        .ok()
        .filter(|length| *length <= blob::MAX_CHUNK);
    let content = vec![0; length.ok_or(SyncError::Lost)?];
    let blob = blob::encode(&content, true);
    blob.map(Bytes::from)
        .map_err(|error| SyncError::Refused(error.to_string()))
}
