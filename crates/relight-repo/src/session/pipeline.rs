//! The pipeline of a session: chunks are hashed, looked up, compressed and sealed by workers, each into a pack in
//! memory; full packs are stored by writers; the packs that are durable become index segments.
//!
//! Every queue is bounded, so memory does not grow with what is saved.

use std::collections::HashSet;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, OnceLock};
use std::thread::{JoinHandle, ThreadId};

use crossbeam_channel::{Receiver, Sender};

use super::announce::Pulse;
use super::archive::Progress;
use super::encoded::Encoded;
use super::memory::{PackMemory, Share};
use super::pool::Pool;
use crate::error::{RepoError, Result};
use crate::id::{ChunkId, PackId, SegmentId};
use crate::index::Segment;
use crate::index::segment::MAX_ENTRIES;
use crate::pack::codec::Encoder;
use crate::pack::{FinishedPack, PackBuilder, PackKind};
use crate::pair::identities;
use crate::read::Stored;
use crate::repository::{OpenOptions, Repository};
use crate::snapshot::Figures;
use crate::storage::PutOptions;
use crate::throttle::Throttle;
use crate::tree::Root;

/// The memory of a pack: what it holds when it is full and one chunk of the usual size more.
const PACK_SPARE: usize = 6 << 20;
/// Size of a chunk buffer.
pub(crate) const CHUNK_BUFFER: usize = 4 << 20;
/// An index segment is written when this many bytes of packs wait for one: what a crash makes invisible.
const SEGMENT_BYTES: u64 = 4 << 30;
/// Threads that store packs. Two, so that one waits for the disk while the other fills its cache.
const WRITERS: usize = 2;
/// Parts of the set of chunks under way; each has a lock of its own.
const SHARDS: usize = 16;

/// Reads a chunk's content into a buffer.
pub(crate) type ReadChunk = Box<dyn FnOnce(&mut [u8]) -> io::Result<()> + Send>;

/// Where a chunk's content comes from.
pub(crate) enum Content {
    /// From this buffer, which goes back to the pool.
    Buffer(Vec<u8>),
    /// The worker reads it: several at once keep a disk busy.
    Read(ReadChunk),
    /// The stored form of this chunk, as a reader gave it.
    Stored(ChunkId, Vec<u8>),
}

/// One chunk, or several that follow one another, on its way.
pub(crate) struct Job {
    pub archive: Arc<Progress>,
    pub sequence: u64,
    pub length: usize,
    /// It is cut into chunks of so many bytes.
    pub part: usize,
    pub content: Content,
}

/// Figures that are counted while the session runs.
#[derive(Default)]
pub(crate) struct Counters {
    pub added: AtomicU64,
    pub stored: AtomicU64,
    pub new_chunks: AtomicU64,
    pub known_chunks: AtomicU64,
}

/// What all threads of a session share.
pub(crate) struct Pipeline {
    pub repository: Arc<Repository>,
    pub buffers: Pool<Vec<u8>>,
    pub counters: Counters,
    /// Packs that chunks were found in or written to: none of them may be condemned when a snapshot is published.
    pub used: Mutex<HashSet<PackId>>,
    /// Lists (by their topmost node, or any node) whose chunks all lie in these packs.
    pub lists: Mutex<HashSet<ChunkId>>,
    pulse: Arc<Pulse>,
    packs: Share,
    /// Chunks that are in a pack of this session but in no segment yet.
    under_way: [Mutex<HashSet<ChunkId>>; SHARDS],
    open: [Mutex<Vec<OpenPack>>; 2],
    finished: Mutex<Option<Sender<FinishedPack>>>,
    unindexed: Mutex<Unindexed>,
    outstanding: Mutex<usize>,
    stored: Condvar,
    failure: Mutex<Option<RepoError>>,
    failed: AtomicBool,
    /// It failed by itself, not only because what is saved could not be read.
    broken: AtomicBool,
    pub cancelled: Arc<AtomicBool>,
    /// How fast packs may be stored.
    pub throttle: OnceLock<Arc<Throttle>>,
}

struct OpenPack {
    builder: PackBuilder,
    encoder: Encoder,
    /// Who wrote to it last.
    last: ThreadId,
}

#[derive(Default)]
struct Unindexed {
    segment: Segment,
    bytes: u64,
}

/// The threads of a pipeline.
pub(crate) struct Threads {
    jobs: Option<Sender<Job>>,
    workers: Vec<JoinHandle<()>>,
    writers: Vec<JoinHandle<()>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

/// The memory of packs for all sessions of a repository that is opened with these options.
pub(crate) fn pack_memory(options: &OpenOptions) -> Arc<PackMemory> {
    let size = options.data_pack.max(options.metadata_pack) + PACK_SPARE;
    PackMemory::new(size, options.threads.max(1) + WRITERS + 2)
}

impl Pipeline {
    /// Starts the threads of a pipeline.
    pub fn start(
        repository: Arc<Repository>,
        cancelled: Arc<AtomicBool>,
        pulse: Arc<Pulse>,
    ) -> (Arc<Self>, Threads) {
        let count = repository.options().threads.max(1);
        let (jobs, job_queue) = crossbeam_channel::bounded(count + 2);
        let (finished, pack_queue) = crossbeam_channel::bounded(1);
        let packs = repository.pack_memory().share();
        let pipeline = Arc::new(Self {
            repository,
            buffers: Pool::new(2 * count + 4, || vec![0; CHUNK_BUFFER]),
            counters: Counters::default(),
            used: Mutex::default(),
            lists: Mutex::default(),
            pulse,
            packs,
            under_way: Default::default(),
            open: Default::default(),
            finished: Mutex::new(Some(finished)),
            unindexed: Mutex::default(),
            outstanding: Mutex::new(0),
            stored: Condvar::new(),
            failure: Mutex::new(None),
            failed: AtomicBool::new(false),
            broken: AtomicBool::new(false),
            cancelled,
            throttle: OnceLock::new(),
        });
        let spawn = |run: fn(&Self, &Receiver<Job>), queue: &Receiver<Job>| {
            let (pipeline, queue) = (pipeline.clone(), queue.clone());
            std::thread::spawn(move || run(&pipeline, &queue))
        };
        let workers = (0..count).map(|_| spawn(Self::work, &job_queue)).collect();
        let writers = (0..WRITERS).map(|_| {
            let (pipeline, queue) = (pipeline.clone(), pack_queue.clone());
            std::thread::spawn(move || pipeline.write(&queue))
        });
        let threads = Threads {
            jobs: Some(jobs),
            workers,
            writers: writers.collect(),
        };
        (pipeline, threads)
    }

    /// Fails if the session has failed or was cancelled.
    pub fn check(&self) -> Result<()> {
        if self.failed.load(Ordering::Acquire) {
            // The first to ask gets the error itself, later ones its echo.
            return Err(match lock(&self.failure).take() {
                Some(error) => error,
                None => RepoError::Stopped("of an earlier error".into()),
            });
        }
        if self.cancelled.load(Ordering::Relaxed) {
            return Err(RepoError::Cancelled);
        }
        Ok(())
    }

    /// Ends the session with an error; the first one counts.
    pub fn fail(&self, error: RepoError) {
        self.broken.store(true, Ordering::Release);
        self.end(error);
    }

    /// The same where only what is saved could not be read: what came before it is as good as ever.
    fn fail_source(&self, error: io::Error) {
        self.end(RepoError::Source(error));
    }

    fn end(&self, error: RepoError) {
        if !self.failed.swap(true, Ordering::AcqRel) {
            *lock(&self.failure) = Some(error);
        }
        self.stored.notify_all();
    }

    fn has_failed(&self) -> bool {
        self.failed.load(Ordering::Acquire)
    }

    /// Whether what was stored so far must not be brought into the index.
    pub fn is_broken(&self) -> bool {
        self.broken.load(Ordering::Acquire)
    }

    fn work(&self, jobs: &Receiver<Job>) {
        for job in jobs {
            let archive = job.archive.clone();
            if !self.has_failed()
                && let Err(error) = self.process(job)
            {
                self.fail(error);
            }
            // Whoever waits for this archive must learn of the end, good or bad.
            archive.wake();
        }
    }

    fn process(&self, job: Job) -> Result<()> {
        let Job {
            archive,
            sequence,
            length,
            part,
            content,
        } = job;
        let buffer = match content {
            Content::Buffer(buffer) => buffer,
            Content::Read(read) => {
                let mut buffer = self.buffers.take();
                if buffer.len() < length {
                    buffer.resize(length, 0);
                }
                if let Err(error) = read(&mut buffer[..length]) {
                    self.buffers.give(buffer);
                    self.fail_source(error);
                    return Ok(());
                }
                buffer
            }
            Content::Stored(id, bytes) => {
                let encoded = Stored::parse(&bytes)?.encoded()?;
                self.place_encoded(archive.pack_kind(), id, encoded)?;
                return archive.complete(self, sequence, length as u64, id);
            }
        };
        let mut chunks = Vec::with_capacity(length.div_ceil(part));
        for two in buffer[..length].chunks(2 * part) {
            let (first, second) = two.split_at(part.min(two.len()));
            let ids = if is_zero(first) || is_zero(second) {
                [first, second].map(|data| {
                    if is_zero(data) {
                        ChunkId::ZEROS
                    } else {
                        ChunkId::of(data)
                    }
                })
            } else {
                identities(first, second)
            };
            for (data, id) in [first, second].into_iter().zip(ids) {
                if data.is_empty() {
                    continue;
                }
                if id != ChunkId::ZEROS {
                    self.place_as(archive.pack_kind(), id, data)?;
                }
                chunks.push((data.len() as u64, id));
            }
        }
        archive.complete_all(self, sequence, &chunks)?;
        if buffer.len() == CHUNK_BUFFER {
            self.buffers.give(buffer);
        }
        Ok(())
    }

    /// Sees to it that a chunk with this content is in the repository.
    pub fn place(&self, kind: PackKind, data: &[u8]) -> Result<ChunkId> {
        let id = ChunkId::of(data);
        self.place_as(kind, id, data)?;
        Ok(id)
    }

    fn place_as(&self, kind: PackKind, id: ChunkId, data: &[u8]) -> Result<()> {
        if self.is_known(&id) || !lock(self.shard(&id)).insert(id) {
            self.counters.known_chunks.fetch_add(1, Ordering::Relaxed);
            return Ok(());
        }
        self.count_new(data.len());
        self.append(kind, id, Encoded::Plain(data))
    }

    /// Sees to it that this chunk, which was encoded before, is in the repository. False if it was already.
    pub fn place_encoded(&self, kind: PackKind, id: ChunkId, encoded: Encoded<'_>) -> Result<bool> {
        if self.is_known(&id) || !lock(self.shard(&id)).insert(id) {
            self.counters.known_chunks.fetch_add(1, Ordering::Relaxed);
            return Ok(false);
        }
        self.count_new(encoded.raw() as usize);
        self.append(kind, id, encoded)?;
        Ok(true)
    }

    fn count_new(&self, raw: usize) {
        self.counters.new_chunks.fetch_add(1, Ordering::Relaxed);
        self.counters.added.fetch_add(raw as u64, Ordering::Relaxed);
    }

    /// Whether a snapshot may refer to the chunk without its content being stored again.
    pub fn is_known(&self, id: &ChunkId) -> bool {
        if *id == ChunkId::ZEROS {
            return true;
        }
        match self.repository.index().writable(id) {
            Some(place) => {
                lock(&self.used).insert(place.pack.id);
                true
            }
            None => lock(self.shard(id)).contains(id),
        }
    }

    fn shard(&self, id: &ChunkId) -> &Mutex<HashSet<ChunkId>> {
        &self.under_way[usize::from(id.0[0]) % SHARDS]
    }

    fn append(&self, kind: PackKind, id: ChunkId, encoded: Encoded<'_>) -> Result<()> {
        let (slot, full) = match kind {
            PackKind::Data => (&self.open[0], self.repository.options().data_pack),
            PackKind::Metadata => (&self.open[1], self.repository.options().metadata_pack),
        };
        // Each worker goes on with the pack that it had, so that chunks that follow one another lie side by side.
        let me = std::thread::current().id();
        let taken = {
            let mut slot = lock(slot);
            match slot.iter().position(|open| open.last == me) {
                Some(mine) => Some(slot.swap_remove(mine)),
                None => slot.pop(),
            }
        };
        let mut open = match taken {
            Some(open) if open.builder.fits(encoded.payload()) => open,
            other => {
                if let Some(full) = other {
                    self.send(full.builder.finish())?;
                }
                self.new_pack(kind)?
            }
        };
        let record = encoded.append(id, &mut open.builder, &mut open.encoder)?;
        self.counters
            .stored
            .fetch_add(u64::from(record.stored), Ordering::Relaxed);
        if open.builder.used() >= full {
            self.send(open.builder.finish())
        } else {
            open.last = me;
            lock(slot).push(open);
            Ok(())
        }
    }

    fn new_pack(&self, kind: PackKind) -> Result<OpenPack> {
        let buffer = self.packs.take();
        let repository = &self.repository;
        let builder = PackBuilder::new(kind, repository.id(), repository.keys().current(), buffer)?;
        let encoder = Encoder::new().map_err(RepoError::Source)?;
        Ok(OpenPack {
            builder,
            encoder,
            last: std::thread::current().id(),
        })
    }

    fn send(&self, pack: FinishedPack) -> Result<()> {
        *lock(&self.outstanding) += 1;
        let sender = lock(&self.finished).clone();
        let sent = sender.is_some_and(|sender| sender.send(pack).is_ok());
        if sent {
            Ok(())
        } else {
            Err(RepoError::Stopped("its writers have ended".into()))
        }
    }

    fn write(&self, packs: &Receiver<FinishedPack>) {
        for pack in packs {
            if !self.is_broken()
                && let Err(error) = self.store(pack)
            {
                self.fail(error);
            }
            *lock(&self.outstanding) -= 1;
            self.stored.notify_all();
        }
    }

    fn store(&self, pack: FinishedPack) -> Result<()> {
        if let Some(throttle) = self.throttle.get() {
            throttle.pass(pack.size(), &self.cancelled);
        }
        let line = crate::pack::store::put(&self.repository, &pack)?;
        let (buffer, records) = pack.into_buffer();
        self.packs.give(buffer);
        lock(&self.used).insert(line.id);
        let mut unindexed = lock(&self.unindexed);
        unindexed.bytes += line.size;
        unindexed.segment.add_pack(line, &records);
        if unindexed.bytes >= SEGMENT_BYTES || unindexed.segment.entries.len() >= MAX_ENTRIES / 2 {
            let full = std::mem::take(&mut *unindexed);
            drop(unindexed);
            self.store_segment(full.segment)?;
        }
        Ok(())
    }

    fn store_segment(&self, mut segment: Segment) -> Result<()> {
        if segment.packs.is_empty() {
            return Ok(());
        }
        // Nobody may come to rely on packs that a collection has meanwhile deleted.
        self.pulse.check()?;
        segment.sort();
        let repository = &self.repository;
        // Nor can anybody open the index if a part of it is sealed under a key that is no more.
        repository.check_current_key()?;
        let id = SegmentId::random()?;
        let sealed = segment.seal(repository.keys().current(), repository.id(), id)?;
        repository
            .storage()
            .put(&Segment::key(id), &[&sealed], &PutOptions::default())?;
        // First findable in the index, then no longer under way: never neither.
        repository.index().add(id, &segment)?;
        for entry in &segment.entries {
            lock(self.shard(&entry.record.id)).remove(&entry.record.id);
        }
        Ok(())
    }

    /// Stores everything that is still in memory. When this returns, all chunks are durable and in the index.
    pub fn flush(&self) -> Result<()> {
        for slot in &self.open {
            let open = std::mem::take(&mut *lock(slot));
            for pack in open {
                if !pack.builder.is_empty() {
                    self.send(pack.builder.finish())?;
                }
            }
        }
        let mut outstanding = lock(&self.outstanding);
        while *outstanding > 0 && !self.is_broken() {
            outstanding = self
                .stored
                .wait(outstanding)
                .unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        drop(outstanding);
        if self.is_broken() {
            return self.check();
        }
        let rest = std::mem::take(&mut *lock(&self.unindexed));
        self.store_segment(rest.segment)
    }

    /// Takes note of a list that was written through this pipeline.
    pub fn note_list(&self, root: Root) {
        // A chunk of content may have the very bytes of a node, so it does not belong there.
        if root.levels > 0 {
            lock(&self.lists).insert(root.id);
        }
    }

    /// The figures so far.
    pub fn figures(&self) -> Figures {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Figures {
            logical: 0,
            added: read(&self.counters.added),
            stored: read(&self.counters.stored),
            new_chunks: read(&self.counters.new_chunks),
            known_chunks: read(&self.counters.known_chunks),
        }
    }
}

impl Threads {
    /// Where chunks are handed over.
    pub fn jobs(&self) -> Option<Sender<Job>> {
        self.jobs.clone()
    }

    /// Lets the workers end what they are at: from then on every open pack is where [`Pipeline::flush`] finds it.
    pub fn end_workers(&mut self) {
        self.jobs = None;
        for worker in self.workers.drain(..) {
            let _ = worker.join();
        }
    }

    /// Ends all threads.
    pub fn end(&mut self, pipeline: &Pipeline) {
        self.end_workers();
        *lock(&pipeline.finished) = None;
        for writer in self.writers.drain(..) {
            let _ = writer.join();
        }
    }
}

/// Whether there is nothing but zeros. Looks at the ends first, which tells for nearly everything.
pub fn is_zero(data: &[u8]) -> bool {
    let (Some(first), Some(last)) = (data.first(), data.last()) else {
        return true;
    };
    if *first != 0 || *last != 0 {
        return false;
    }
    let (words, rest) = data.as_chunks::<32>();
    words.iter().all(|word| *word == [0; 32]) && rest.iter().all(|&byte| byte == 0)
}
