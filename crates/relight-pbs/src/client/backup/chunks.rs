//! Which chunks the server has, and which are under way to it.

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use http::Method;
use relight_repo::session::is_zero;
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::Shared;
use crate::client::{ClientError, Result};
use crate::formats::index::{Digest, FIXED_CHUNK};

/// What a session sent so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct UploadFigures {
    /// Chunks of all archives.
    pub chunks: u64,
    /// Bytes of their content.
    pub bytes: u64,
    /// Chunks that were sent; the server had the others.
    pub sent_chunks: u64,
    /// Bytes of content of these.
    pub new_bytes: u64,
    /// Bytes as they were sent, compressed and perhaps encrypted.
    pub sent_bytes: u64,
}

/// The chunks of a session.
#[derive(Default)]
pub(super) struct Chunks(Mutex<Table>);

#[derive(Default)]
struct Table {
    known: HashSet<Digest>,
    under_way: HashMap<Digest, watch::Receiver<()>>,
    figures: UploadFigures,
}

/// Whether a chunk must be sent.
enum Turn {
    /// The server has it.
    Known,
    /// Somebody sends it; the end of that is told.
    UnderWay(watch::Receiver<()>),
    /// Whoever asked sends it.
    Mine(Claim, Bytes),
}

/// The duty to send a chunk. Those who wait for it go on when this is dropped.
struct Claim {
    shared: Arc<Shared>,
    digest: Digest,
    _told: watch::Sender<()>,
}

impl Drop for Claim {
    fn drop(&mut self) {
        self.shared.chunks.table().under_way.remove(&self.digest);
    }
}

impl Chunks {
    fn table(&self) -> MutexGuard<'_, Table> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// These are there.
    pub fn add_known(&self, digests: impl IntoIterator<Item = Digest>) {
        self.table().known.extend(digests);
    }

    /// Counts a chunk that is named without its content; false if it is not known to be there.
    pub fn reuse(&self, digest: &Digest, length: u64) -> bool {
        let mut table = self.table();
        let is_known = table.known.contains(digest);
        if is_known {
            table.figures.chunks += 1;
            table.figures.bytes += length;
        }
        is_known
    }

    /// What was sent so far.
    pub fn figures(&self) -> UploadFigures {
        self.table().figures
    }
}

/// Sees to it that the server has a chunk with this content. Gives its digest when it has it. `room` is given back then.
pub(super) async fn store(
    shared: Arc<Shared>,
    call: &'static str,
    wid: u64,
    content: Bytes,
    room: OwnedSemaphorePermit,
) -> Result<Digest> {
    let length = content.len() as u64;
    let (digest, turn) = {
        let _thread = shared.threads.acquire().await.map_err(ClientError::broken)?;
        let this = shared.clone();
        tokio::task::spawn_blocking(move || prepare(&this, &content))
            .await
            .map_err(ClientError::broken)??
    };
    match turn {
        Turn::Known => {}
        Turn::UnderWay(mut told) => {
            // An error is the end of whoever sent it.
            let _ = told.changed().await;
            if !shared.chunks.table().known.contains(&digest) {
                return Err(ClientError::broken("a chunk could not be sent"));
            }
        }
        Turn::Mine(claim, blob) => {
            let digits = hex::encode(digest);
            let sent = blob.len() as u64;
            let target = format!("/{call}?wid={wid}&digest={digits}&size={length}&encoded-size={sent}");
            shared.wire.json(Method::POST, &target, Some(blob)).await?;
            let mut table = shared.chunks.table();
            table.known.insert(digest);
            table.figures.sent_chunks += 1;
            table.figures.new_bytes += length;
            table.figures.sent_bytes += sent;
            drop(table);
            drop(claim);
        }
    }
    let mut table = shared.chunks.table();
    table.figures.chunks += 1;
    table.figures.bytes += length;
    drop(table);
    drop(room);
    Ok(digest)
}

/// Hashes a chunk and, if it must be sent, compresses and encrypts it.
fn prepare(shared: &Arc<Shared>, content: &[u8]) -> Result<(Digest, Turn)> {
    let digest = if content.len() as u64 == FIXED_CHUNK && is_zero(content) {
        *shared.zeros.get_or_init(|| shared.digest(content))
    } else {
        shared.digest(content)
    };
    let claim = {
        let mut table = shared.chunks.table();
        if table.known.contains(&digest) {
            return Ok((digest, Turn::Known));
        }
        if let Some(told) = table.under_way.get(&digest) {
            return Ok((digest, Turn::UnderWay(told.clone())));
        }
        let (tell, told) = watch::channel(());
        table.under_way.insert(digest, told);
        Claim {
            shared: shared.clone(),
            digest,
            _told: tell,
        }
    };
    let blob = shared.encode(content).map_err(|source| ClientError::Blob {
        file: format!("chunk {}", hex::encode(digest)),
        source,
    })?;
    Ok((digest, Turn::Mine(claim, blob.into())))
}
