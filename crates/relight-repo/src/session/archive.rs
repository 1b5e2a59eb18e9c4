//! Writes one archive: cuts what arrives into chunks, hands them to the workers, and builds the chunk list in order.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};

use crossbeam_channel::Sender;

use super::pipeline::{CHUNK_BUFFER, Content, Job, Pipeline, ReadChunk};
use crate::cdc::{Cutter, GearTable, Sizes};
use crate::error::{RepoError, Result};
use crate::id::ChunkId;
use crate::pack::PackKind;
use crate::pack::format::MAX_CHUNK;
use crate::read::Stored;
use crate::snapshot::{Archive, ArchiveKind};
use crate::tree::{Root, TreeWriter};

/// Size of an image's chunks: that of the Proxmox formats.
pub const IMAGE_CHUNK: usize = 4 << 20;

/// How far the chunks of an archive have come. Workers finish them in any order; the list wants them in theirs.
pub(crate) struct Progress {
    kind: ArchiveKind,
    ordered: Mutex<Ordered>,
    advanced: Condvar,
}

struct Ordered {
    next: u64,
    waiting: BTreeMap<u64, (u64, ChunkId)>,
    tree: Option<TreeWriter>,
}

impl Ordered {
    /// Writes list nodes as far as the order allows.
    fn advance(&mut self, pipeline: &Pipeline) -> Result<()> {
        while let Some((length, id)) = self.waiting.remove(&self.next) {
            self.next += 1;
            if let Some(tree) = &mut self.tree {
                tree.push(length, id, &mut |node| pipeline.place(PackKind::Metadata, &node))?;
            }
        }
        Ok(())
    }
}

impl Progress {
    fn new(kind: ArchiveKind) -> Self {
        let tree = Some(TreeWriter::new(kind.cut()));
        let ordered = Mutex::new(Ordered {
            next: 0,
            waiting: BTreeMap::new(),
            tree,
        });
        Self {
            kind,
            ordered,
            advanced: Condvar::new(),
        }
    }

    /// Which packs its chunks go to.
    pub fn pack_kind(&self) -> PackKind {
        self.kind.pack_kind()
    }

    fn lock(&self) -> MutexGuard<'_, Ordered> {
        self.ordered
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Takes note that a chunk is in a pack, and writes list nodes as far as the order allows.
    pub fn complete(&self, pipeline: &Pipeline, sequence: u64, length: u64, id: ChunkId) -> Result<()> {
        self.complete_all(pipeline, sequence, &[(length, id)])
    }

    /// The same for chunks that follow one another; the first has the number `sequence`.
    pub fn complete_all(&self, pipeline: &Pipeline, sequence: u64, chunks: &[(u64, ChunkId)]) -> Result<()> {
        let mut ordered = self.lock();
        for (number, chunk) in (sequence..).zip(chunks) {
            ordered.waiting.insert(number, *chunk);
        }
        ordered.advance(pipeline)
    }

    /// Wakes whoever waits for the archive to be complete.
    pub fn wake(&self) {
        self.advanced.notify_all();
    }
}

/// Writes one archive of a session.
pub struct ArchiveWriter {
    name: String,
    pipeline: Arc<Pipeline>,
    jobs: Sender<Job>,
    progress: Arc<Progress>,
    table: GearTable,
    cutter: Cutter,
    sizes: Sizes,
    buffer: Vec<u8>,
    filled: usize,
    sequence: u64,
    position: u64,
}

impl ArchiveWriter {
    pub(super) fn new(
        name: String,
        kind: ArchiveKind,
        pipeline: Arc<Pipeline>,
        jobs: Sender<Job>,
        table: GearTable,
    ) -> Self {
        let sizes = match kind.pack_kind() {
            PackKind::Data => Sizes::DATA,
            PackKind::Metadata => Sizes::METADATA,
        };
        Self {
            name,
            progress: Arc::new(Progress::new(kind)),
            buffer: pipeline.buffers.take(),
            pipeline,
            jobs,
            table,
            cutter: Cutter::new(sizes),
            sizes,
            filled: 0,
            sequence: 0,
            position: 0,
        }
    }

    /// Bytes of the archive so far.
    pub fn position(&self) -> u64 {
        self.position
    }

    /// Room to read the next bytes of a stream into; call [`Self::advance`] with how many there are. At least one.
    pub fn space(&mut self) -> &mut [u8] {
        let end = self.sizes.most.min(self.buffer.len());
        &mut self.buffer[self.filled..end]
    }

    /// Takes the first `count` bytes of [`Self::space`] into the archive, cut by content.
    pub fn advance(&mut self, count: usize) -> Result<()> {
        self.filled += count;
        self.position += count as u64;
        while let Some(length) = self.cutter.find(&self.table, &self.buffer[..self.filled]) {
            let mut rest = self.pipeline.buffers.take();
            rest[..self.filled - length].copy_from_slice(&self.buffer[length..self.filled]);
            self.filled -= length;
            let chunk = std::mem::replace(&mut self.buffer, rest);
            self.submit(length, Content::Buffer(chunk))?;
        }
        Ok(())
    }

    /// Takes bytes of a stream into the archive, cut by content.
    pub fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let space = self.space();
            let count = bytes.len().min(space.len()).min(256 << 10);
            space[..count].copy_from_slice(&bytes[..count]);
            self.advance(count)?;
            bytes = &bytes[count..];
        }
        Ok(())
    }

    /// Ends the current chunk here, whatever its content says.
    pub fn cut(&mut self) -> Result<()> {
        if self.filled > 0 {
            let rest = self.pipeline.buffers.take();
            let chunk = std::mem::replace(&mut self.buffer, rest);
            let length = std::mem::take(&mut self.filled);
            self.cutter = Cutter::new(self.sizes);
            self.submit(length, Content::Buffer(chunk))?;
        }
        Ok(())
    }

    /// Bytes of the current chunk so far.
    pub fn pending(&self) -> usize {
        self.filled
    }

    /// Appends a chunk of `length` bytes that a worker reads by itself.
    pub fn push_read(&mut self, length: usize, read: ReadChunk) -> Result<()> {
        if length > MAX_CHUNK {
            return Err(RepoError::ChunkTooLarge {
                size: length,
                limit: MAX_CHUNK,
            });
        }
        self.cut()?;
        self.position += length as u64;
        self.submit(length, Content::Read(read))
    }

    /// Appends `length` bytes that a worker reads by itself, as chunks of `part` bytes; the last may be shorter. Small
    /// chunks cost less when they are read together.
    pub fn push_read_parts(&mut self, length: usize, part: usize, read: ReadChunk) -> Result<()> {
        self.check_parts(length, part)?;
        self.cut()?;
        self.position += length as u64;
        self.submit_parts(length, part, Content::Read(read))
    }

    /// Appends this content as chunks of `part` bytes; the last may be shorter.
    pub fn push_parts(&mut self, content: Vec<u8>, part: usize) -> Result<()> {
        self.check_parts(content.len(), part)?;
        self.cut()?;
        self.position += content.len() as u64;
        self.submit_parts(content.len(), part, Content::Buffer(content))
    }

    fn check_parts(&self, length: usize, part: usize) -> Result<()> {
        let limit = MAX_CHUNK;
        match length.max(part) {
            size if size > limit || part == 0 => Err(RepoError::ChunkTooLarge { size, limit }),
            _ => Ok(()),
        }
    }

    /// Appends a chunk with this content.
    pub fn push_chunk(&mut self, content: Vec<u8>) -> Result<()> {
        if content.len() > MAX_CHUNK {
            return Err(RepoError::ChunkTooLarge {
                size: content.len(),
                limit: MAX_CHUNK,
            });
        }
        self.cut()?;
        self.position += content.len() as u64;
        self.submit(content.len(), Content::Buffer(content))
    }

    /// Appends a chunk of `length` bytes in its stored form, as a reader of [`crate::read::Form::Stored`] gave it: what
    /// is compressed stays as it is, what a client encrypted is kept.
    pub fn push_stored(&mut self, id: ChunkId, length: u64, stored: Vec<u8>) -> Result<()> {
        let form = Stored::parse(&stored)?;
        form.encoded()?.check(id)?;
        if u64::from(form.raw) != length {
            return Err(RepoError::ChunkMismatch(id));
        }
        self.cut()?;
        self.position += length;
        self.submit(form.raw as usize, Content::Stored(id, stored))
    }

    /// Appends `length` zeros. Nothing is read, hashed or stored for them.
    pub fn push_zeros(&mut self, mut length: u64) -> Result<()> {
        self.cut()?;
        // One piece a chunk, as if they had been read: a hole that is filled later moves nothing in the list.
        while length > 0 {
            let piece = length.min(IMAGE_CHUNK as u64);
            self.complete(piece, ChunkId::ZEROS)?;
            length -= piece;
        }
        Ok(())
    }

    /// Appends a chunk by its identity alone. False if the repository does not have it (any more, or in good order):
    /// then its content has to be given.
    pub fn push_known(&mut self, id: ChunkId, length: u64) -> Result<bool> {
        self.cut()?;
        if !self.pipeline.is_known(&id) {
            return Ok(false);
        }
        self.pipeline
            .counters
            .known_chunks
            .fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        self.complete(length, id)?;
        Ok(true)
    }

    fn complete(&mut self, length: u64, id: ChunkId) -> Result<()> {
        self.pipeline.check()?;
        self.position += length;
        let sequence = self.next();
        self.progress.complete(&self.pipeline, sequence, length, id)
    }

    fn next(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence - 1
    }

    fn submit(&mut self, length: usize, content: Content) -> Result<()> {
        self.submit_parts(length, length, content)
    }

    fn submit_parts(&mut self, length: usize, part: usize, content: Content) -> Result<()> {
        self.pipeline.check()?;
        if length == 0 {
            return Ok(());
        }
        let job = Job {
            archive: self.progress.clone(),
            sequence: self.sequence,
            length,
            part,
            content,
        };
        self.sequence += length.div_ceil(part) as u64;
        self.jobs
            .send(job)
            .map_err(|_| RepoError::Stopped("its workers have ended".into()))
    }

    /// Ends the archive: waits for its chunks and completes its list.
    pub fn finish(mut self) -> Result<Archive> {
        self.cut()?;
        let mut ordered = self.progress.lock();
        while ordered.next < self.sequence {
            self.pipeline.check()?;
            // A worker that fails wakes everybody; the time-out is for a cancellation while workers are idle.
            let waited = self
                .progress
                .advanced
                .wait_timeout(ordered, std::time::Duration::from_millis(200));
            ordered = waited.unwrap_or_else(|poisoned| poisoned.into_inner()).0;
        }
        let tree = ordered.tree.take();
        drop(ordered);
        let root = match tree {
            Some(tree) => tree.finish(&mut |node| self.pipeline.place(PackKind::Metadata, &node))?,
            None => Root::EMPTY,
        };
        let buffer = std::mem::take(&mut self.buffer);
        if buffer.len() == CHUNK_BUFFER {
            self.pipeline.buffers.give(buffer);
        }
        self.pipeline.note_list(root);
        Ok(Archive {
            name: self.name,
            kind: self.progress.kind,
            root,
        })
    }
}
