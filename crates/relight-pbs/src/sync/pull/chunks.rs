//! The chunks of one index: those that are not here are fetched, several at once, with bounded memory.

use std::collections::HashSet;
use std::sync::Arc;

use bytes::Bytes;
use http::StatusCode;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::{Result, SyncError, blocking, stopped};
use crate::client::RawReader;
use crate::formats::blob::{Blob, MAX_CHUNK};
use crate::formats::ids::FileKind;
use crate::formats::index::{Digest, FIXED_CHUNK};
use crate::formats::manifest::{CryptMode, ManifestFile};
use crate::service::backup::engine::{Engine, archive_kind};
use crate::service::backup::ingest::{self, NewChunk};
use crate::service::backup::known::{Form, Known, KnownChunks};
use crate::service::datastore::zero_digest;
use crate::service::tasks::Task;

/// Chunks that are asked for at once at most.
const AT_ONCE: usize = 16;
/// Bytes of content that are under way at most, beyond one chunk.
const ROOM: usize = 32 << 20;

/// The chunks of one index.
pub(super) struct Incoming {
    engine: Arc<Engine>,
    known: Arc<KnownChunks>,
    file: ManifestFile,
    chunks: u64,
    bytes: u64,
}

/// A chunk that is asked for.
#[derive(Clone, Copy)]
struct Asked {
    chunk: NewChunk,
    encrypted: bool,
}

impl Incoming {
    pub fn new(engine: Arc<Engine>, file: &ManifestFile) -> Self {
        Self {
            engine,
            known: Arc::default(),
            file: file.clone(),
            chunks: 0,
            bytes: 0,
        }
    }

    /// Chunks that were fetched, and their bytes.
    pub fn figures(&self) -> (u64, u64) {
        (self.chunks, self.bytes)
    }

    /// The chunks, now that all are here.
    pub fn into_known(self) -> Arc<KnownChunks> {
        self.known
    }

    /// Which chunks are to be fetched, each once, in the order of the index.
    fn missing(&self, chunks: &[(Digest, u64)]) -> Result<Vec<Asked>> {
        let name = &self.file.filename;
        let image = name.kind() == FileKind::FixedIndex;
        let encrypted = self.file.crypt_mode == CryptMode::Encrypt;
        let mut seen = HashSet::with_capacity(chunks.len());
        let mut missing = Vec::new();
        for (digest, length) in chunks {
            if !seen.insert(*digest) {
                continue;
            }
            if *length == 0 || *length > MAX_CHUNK as u64 {
                return Err(SyncError::Refused(format!("{name}: a chunk has {length} bytes")));
            }
            let size = *length as u32;
            let known = |form| Known { length: size, form };
            if image && !encrypted && *length == FIXED_CHUNK && *digest == zero_digest(FIXED_CHUNK) {
                self.known.add(*digest, known(Form::Zeros))?;
                continue;
            }
            let form = if encrypted { Form::Sealed } else { Form::Plain };
            if self.engine.has_chunk(&known(form).id(digest), size)? {
                self.known.add(*digest, known(form))?;
                continue;
            }
            let chunk = NewChunk {
                digest: *digest,
                size,
                pack: archive_kind(name).pack_kind(),
                image,
            };
            missing.push(Asked { chunk, encrypted });
        }
        Ok(missing)
    }

    /// Fetches what is missing.
    pub async fn fetch(&mut self, reader: &RawReader, chunks: &[(Digest, u64)], task: &Task) -> Result<()> {
        let missing = self.missing(chunks)?;
        let room = Arc::new(Semaphore::new(ROOM.max(MAX_CHUNK)));
        let workers = std::thread::available_parallelism().map_or(2, usize::from);
        let workers = Arc::new(Semaphore::new(workers));
        // Ends with this: what is under way is dropped if one fails.
        let mut under_way: JoinSet<Result<u64>> = JoinSet::new();
        for asked in missing {
            stopped(task)?;
            while under_way.len() >= AT_ONCE {
                self.settle(&mut under_way).await?;
            }
            let permits = asked.chunk.size;
            let permit = loop {
                if let Ok(permit) = room.clone().try_acquire_many_owned(permits) {
                    break permit;
                }
                self.settle(&mut under_way).await?;
            };
            let reader = reader.clone();
            let workers = workers.clone();
            let (engine, known) = (self.engine.clone(), self.known.clone());
            under_way.spawn(async move {
                let _permit = permit;
                let bytes = reader.chunk(&asked.chunk.digest).await?;
                let _worker = workers.acquire_owned().await.map_err(|_| SyncError::Lost)?;
                let length = bytes.len() as u64;
                blocking(move || store(&engine, &known, &asked, &bytes)).await?;
                Ok(length)
            });
        }
        while !under_way.is_empty() {
            stopped(task)?;
            self.settle(&mut under_way).await?;
        }
        Ok(())
    }

    async fn settle(&mut self, under_way: &mut JoinSet<Result<u64>>) -> Result<()> {
        match under_way.join_next().await {
            Some(Ok(stored)) => {
                self.bytes += stored?;
                self.chunks += 1;
                Ok(())
            }
            Some(Err(_)) => Err(SyncError::Lost),
            None => Ok(()),
        }
    }
}

fn store(engine: &Engine, known: &KnownChunks, asked: &Asked, bytes: &Bytes) -> Result<()> {
    let digest = || hex::encode(asked.chunk.digest);
    let damaged = |why: String| SyncError::Refused(format!("chunk {}: {why}", digest()));
    let blob = Blob::parse(bytes).map_err(|error| damaged(error.to_string()))?;
    blob.check_crc().map_err(|error| damaged(error.to_string()))?;
    if blob.kind().is_encrypted() != asked.encrypted {
        return Err(damaged(
            "it is encrypted although the manifest says that it is not, or not although it says so".into(),
        ));
    }
    let (chunk, _) = ingest::store(engine, &asked.chunk, bytes).map_err(|error| match error.status {
        StatusCode::BAD_REQUEST => damaged(error.message),
        _ => error.into(),
    })?;
    known.add(asked.chunk.digest, chunk)?;
    Ok(())
}
