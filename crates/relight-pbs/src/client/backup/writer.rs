//! Writes one archive: cuts it into chunks, sends those that are new, and names all of them in order.

use std::collections::VecDeque;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use http::Method;
use serde_json::json;
use tokio_util::task::AbortOnDropHandle;

use super::{Shared, chunks};
use crate::client::{ClientError, Result};
use crate::formats::blob::MAX_CHUNK;
use crate::formats::chunker::StreamChunker;
use crate::formats::ids::FileName;
use crate::formats::index::{Digest, DynamicSum, FIXED_CHUNK, FixedSum};

/// Chunks that are under way at most, however small.
const QUEUE: usize = 64;
/// Chunks that are named in one call.
const BATCH: usize = 128;

/// Which index is written.
enum Kind {
    Fixed {
        sum: FixedSum,
        /// Whether a chunk came that was not full: it must be the last.
        ended: bool,
    },
    Dynamic {
        sum: DynamicSum,
        chunker: StreamChunker,
    },
}

/// An archive that is being written. Nothing of it counts before [`ArchiveWriter::finish`].
pub struct ArchiveWriter {
    shared: Arc<Shared>,
    name: FileName,
    wid: u64,
    kind: Kind,
    /// What is not a chunk yet.
    rest: BytesMut,
    /// Chunks whose digest or upload is still under way, in order.
    queue: VecDeque<(u64, AbortOnDropHandle<Result<Digest>>)>,
    /// Chunks that the server has but that were not named yet.
    batch: Vec<(u64, Digest)>,
    naming: Option<AbortOnDropHandle<Result<()>>>,
    /// Where the next chunk that is named begins.
    named: u64,
    count: u64,
}

/// An archive that was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SavedArchive {
    /// Its file in the manifest, with its ending.
    pub file: FileName,
    /// Bytes of its content.
    pub size: u64,
    /// Its chunks.
    pub chunks: u64,
    /// Checksum of its index.
    pub csum: Digest,
}

impl ArchiveWriter {
    pub(super) async fn fixed(shared: Arc<Shared>, name: FileName, size: Option<u64>) -> Result<Self> {
        let size = size.map_or(String::new(), |size| format!("&size={size}"));
        let target = format!("/fixed_index?archive-name={name}{size}");
        let kind = Kind::Fixed {
            sum: FixedSum::default(),
            ended: false,
        };
        Self::open(shared, name, &target, kind).await
    }

    pub(super) async fn dynamic(shared: Arc<Shared>, name: FileName, chunker: StreamChunker) -> Result<Self> {
        let target = format!("/dynamic_index?archive-name={name}");
        let kind = Kind::Dynamic {
            sum: DynamicSum::default(),
            chunker,
        };
        Self::open(shared, name, &target, kind).await
    }

    async fn open(shared: Arc<Shared>, name: FileName, target: &str, kind: Kind) -> Result<Self> {
        let wid = shared.wire.json(Method::POST, target, None).await?;
        let wid = wid
            .as_u64()
            .ok_or_else(|| ClientError::protocol("the server gave no number for the index"))?;
        Ok(Self {
            shared,
            name,
            wid,
            kind,
            rest: BytesMut::new(),
            queue: VecDeque::new(),
            batch: Vec::new(),
            naming: None,
            named: 0,
            count: 0,
        })
    }

    /// Takes the next bytes. Waits while too much is under way.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the server's words; otherwise what went wrong on the way, also with earlier bytes.
    pub async fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        match &self.kind {
            Kind::Fixed { .. } => {
                while !bytes.is_empty() {
                    let full = FIXED_CHUNK as usize;
                    self.rest.reserve(full - self.rest.len());
                    let (part, later) = bytes.split_at(bytes.len().min(full - self.rest.len()));
                    self.rest.extend_from_slice(part);
                    bytes = later;
                    if self.rest.len() == full {
                        let chunk = self.rest.split().freeze();
                        self.push(chunk).await?;
                    }
                }
            }
            Kind::Dynamic { .. } => {
                self.rest.extend_from_slice(bytes);
                while let Kind::Dynamic { chunker, .. } = &mut self.kind {
                    let Some(length) = chunker.find(&self.rest) else {
                        break;
                    };
                    let chunk = self.rest.split_to(length).freeze();
                    self.push(chunk).await?;
                }
            }
        }
        Ok(())
    }

    /// Takes a whole chunk of whoever cuts by themselves. Of an image all but the last have 4 MiB.
    ///
    /// # Errors
    /// [`ClientError::Misuse`] if it has a length that it may not have; otherwise as [`ArchiveWriter::write`].
    pub async fn push(&mut self, chunk: Bytes) -> Result<()> {
        let misuse = |what: &str| Err(ClientError::Misuse(format!("{}: {what}", self.name)));
        let length = chunk.len();
        if length == 0 || length > MAX_CHUNK {
            return misuse("a chunk has 1 byte to 16 MiB");
        }
        let call = match &mut self.kind {
            Kind::Fixed { ended: true, .. } => return misuse("only the last chunk of an image may be short"),
            Kind::Fixed { ended, .. } => {
                if length as u64 > FIXED_CHUNK {
                    return misuse("a chunk of an image has at most 4 MiB");
                }
                *ended = (length as u64) < FIXED_CHUNK;
                "fixed_chunk"
            }
            Kind::Dynamic { .. } => "dynamic_chunk",
        };
        while self.queue.len() >= QUEUE || self.queue.front().is_some_and(|(_, task)| task.is_finished()) {
            self.settle().await?;
        }
        let permits = u32::try_from(length.min(self.shared.most_room)).unwrap_or(u32::MAX);
        let room = self.shared.room.clone().acquire_many_owned(permits);
        let room = room.await.map_err(ClientError::broken)?;
        let task = tokio::spawn(chunks::store(self.shared.clone(), call, self.wid, chunk, room));
        self.queue
            .push_back((length as u64, AbortOnDropHandle::new(task)));
        Ok(())
    }

    /// Appends a chunk that the server has: one of the previous index of the same name. What was written before and is no
    /// chunk yet becomes one.
    ///
    /// # Errors
    /// [`ClientError::Misuse`] if the server is not known to have it; otherwise as [`ArchiveWriter::write`].
    pub async fn push_known(&mut self, digest: Digest, length: u64) -> Result<()> {
        if !self.rest.is_empty() {
            let chunk = self.rest.split().freeze();
            self.push(chunk).await?;
        }
        match &mut self.kind {
            Kind::Dynamic { chunker, .. } => chunker.restart(),
            Kind::Fixed { .. } => {
                return Err(ClientError::Misuse(format!(
                    "{}: chunks of images are given with their content",
                    self.name
                )));
            }
        }
        if !self.shared.chunks.reuse(&digest, length) {
            return Err(ClientError::Misuse(format!(
                "{}: the server is not known to have chunk {}",
                self.name,
                hex::encode(digest)
            )));
        }
        while self.queue.len() >= QUEUE || self.queue.front().is_some_and(|(_, task)| task.is_finished()) {
            self.settle().await?;
        }
        let known = tokio::spawn(std::future::ready(Ok(digest)));
        self.queue.push_back((length, AbortOnDropHandle::new(known)));
        Ok(())
    }

    /// Waits for the oldest chunk and notes it.
    async fn settle(&mut self) -> Result<()> {
        let Some((length, task)) = self.queue.pop_front() else {
            return Ok(());
        };
        let digest = task.await.map_err(ClientError::broken)??;
        self.batch.push((self.named, digest));
        self.named += length;
        self.count += 1;
        match &mut self.kind {
            Kind::Fixed { sum, .. } => sum.add(&digest),
            Kind::Dynamic { sum, .. } => sum.add(self.named, &digest),
        }
        if self.batch.len() >= BATCH {
            self.name_batch().await?;
        }
        Ok(())
    }

    /// Names the chunks of the batch, once those before them are named.
    async fn name_batch(&mut self) -> Result<()> {
        if let Some(before) = self.naming.take() {
            before.await.map_err(ClientError::broken)??;
        }
        if self.batch.is_empty() {
            return Ok(());
        }
        let batch = std::mem::take(&mut self.batch);
        let digests: Vec<String> = batch.iter().map(|(_, digest)| hex::encode(digest)).collect();
        let offsets: Vec<u64> = batch.iter().map(|(offset, _)| *offset).collect();
        let body = json!({"wid": self.wid, "digest-list": digests, "offset-list": offsets}).to_string();
        let target = match self.kind {
            Kind::Fixed { .. } => "/fixed_index",
            Kind::Dynamic { .. } => "/dynamic_index",
        };
        let shared = self.shared.clone();
        let task = async move {
            let body = Some(Bytes::from(body));
            shared.wire.json(Method::PUT, target, body).await.map(drop)
        };
        self.naming = Some(AbortOnDropHandle::new(tokio::spawn(task)));
        Ok(())
    }

    /// Sends what is left and closes the index. The archive is in the manifest then.
    ///
    /// # Errors
    /// [`ClientError::Refused`] with the server's words; otherwise what went wrong on the way.
    pub async fn finish(mut self) -> Result<SavedArchive> {
        if !self.rest.is_empty() {
            let chunk = self.rest.split().freeze();
            self.push(chunk).await?;
        }
        while !self.queue.is_empty() {
            self.settle().await?;
        }
        // The last batch, and then that it was named.
        self.name_batch().await?;
        self.name_batch().await?;
        let (call, csum) = match self.kind {
            Kind::Fixed { sum, .. } => ("fixed_close", sum.finish()),
            Kind::Dynamic { sum, .. } => ("dynamic_close", sum.finish()),
        };
        let (wid, count, size) = (self.wid, self.count, self.named);
        let target = format!(
            "/{call}?wid={wid}&chunk-count={count}&size={size}&csum={}",
            hex::encode(csum)
        );
        self.shared.wire.json(Method::POST, &target, None).await?;
        self.shared.add_file(self.name.clone(), size, csum);
        Ok(SavedArchive {
            file: self.name,
            size,
            chunks: count,
            csum,
        })
    }
}
