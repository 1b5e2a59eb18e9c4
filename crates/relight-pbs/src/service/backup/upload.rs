//! Chunks that come in: read, checked and stored, several at once, with bounded memory.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use serde::Deserialize;
use tokio::sync::{Notify, Semaphore};

use super::Shared;
use super::engine::archive_kind;
use super::ingest::{self, NewChunk};
use super::known::parse_digest;
use crate::formats::blob::{self, MAX_CHUNK, MAX_ENCODED};
use crate::formats::index::Digest;
use crate::formats::manifest::UploadStatistic;
use crate::service::http::{ApiError, ApiResult};
use crate::service::protocol::Call;

/// Bytes of chunks that one session holds while they are read and stored. Of larger chunks there is one at a time.
const BUDGET: u32 = 12 << 20;
/// Bytes of chunks that all sessions may hold besides. On a line with latency, that more chunks are under way is what makes
/// it fast.
static SHARED: Semaphore = Semaphore::const_new(32 << 20);
/// The smallest chunk as it is sent: a header and a byte.
const MIN_ENCODED: usize = blob::HEADER + 1;

/// Processors of this host.
static PROCESSORS: LazyLock<usize> =
    LazyLock::new(|| std::thread::available_parallelism().map_or(2, usize::from));
/// How many chunks all sessions check and store at once: each takes all of a processor.
static WORKERS: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(*PROCESSORS));
/// Sessions that are under way.
static SESSIONS: AtomicUsize = AtomicUsize::new(0);
/// Buffers for chunks to come, of all sessions together.
static BUFFERS: Mutex<Vec<Vec<u8>>> = Mutex::new(Vec::new());
/// Bytes of buffers that are kept.
const KEPT: usize = 16 << 20;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Parameters {
    wid: u32,
    digest: String,
    size: usize,
    encoded_size: usize,
}

/// What uploads of a session share.
pub(super) struct Uploads {
    budget: Semaphore,
    /// Chunks that are being stored.
    storing: AtomicUsize,
    stored: Notify,
    count: AtomicU64,
    size: AtomicU64,
    encoded: AtomicU64,
    duplicates: AtomicU64,
}

impl Uploads {
    pub fn new() -> Self {
        SESSIONS.fetch_add(1, Ordering::Relaxed);
        Self {
            budget: Semaphore::new(BUDGET as usize),
            storing: AtomicUsize::new(0),
            stored: Notify::new(),
            count: AtomicU64::new(0),
            size: AtomicU64::new(0),
            encoded: AtomicU64::new(0),
            duplicates: AtomicU64::new(0),
        }
    }

    /// The figures so far.
    pub fn statistic(&self) -> UploadStatistic {
        let read = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        UploadStatistic {
            count: read(&self.count),
            size: read(&self.size),
            compressed_size: read(&self.encoded),
            duplicates: read(&self.duplicates),
        }
    }

    fn note(&self, size: u32, encoded: usize, new: bool) {
        let add = |counter: &AtomicU64, more| counter.fetch_add(more, Ordering::Relaxed);
        add(&self.count, 1);
        add(&self.size, u64::from(size));
        add(&self.encoded, encoded as u64);
        add(&self.duplicates, u64::from(!new));
    }

    /// Waits until this session may store one more chunk: its share of the processors. The engine fills a pack for each
    /// that was ever stored at the same time, so this bounds memory, too.
    async fn turn(&self) -> Turn<'_> {
        loop {
            let stored = self.stored.notified();
            let share = (*PROCESSORS / SESSIONS.load(Ordering::Relaxed).max(1)).max(1);
            let more = |storing| (storing < share).then_some(storing + 1);
            let begun = self
                .storing
                .fetch_update(Ordering::Relaxed, Ordering::Relaxed, more);
            if begun.is_ok() {
                return Turn(self);
            }
            stored.await;
        }
    }
}

impl Drop for Uploads {
    fn drop(&mut self) {
        if SESSIONS.fetch_sub(1, Ordering::Relaxed) == 1 {
            *lock(&BUFFERS) = Vec::new();
        }
    }
}

/// Keeps a buffer for the next chunk, unless what is kept is enough.
fn give_back(mut buffer: Vec<u8>) {
    buffer.clear();
    let mut buffers = lock(&BUFFERS);
    let kept: usize = buffers.iter().map(Vec::capacity).sum();
    if kept + buffer.capacity() <= KEPT {
        buffers.push(buffer);
    }
}

/// A chunk that is being stored.
struct Turn<'a>(&'a Uploads);

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.0.storing.fetch_sub(1, Ordering::Relaxed);
        self.0.stored.notify_one();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Answers `POST /fixed_chunk` and `POST /dynamic_chunk`.
pub(super) async fn answer(shared: Arc<Shared>, mut call: Call, fixed: bool) {
    match upload(&shared, &mut call, fixed).await {
        Ok(digest) => call.reply.data(hex::encode(digest)).await,
        Err(error) => call.refuse(&error).await,
    }
}

async fn upload(shared: &Arc<Shared>, call: &mut Call, fixed: bool) -> ApiResult<Digest> {
    let parameters: Parameters = call.parameters()?;
    let Parameters {
        wid,
        size,
        encoded_size,
        ..
    } = parameters;
    let digest = parse_digest(&parameters.digest)?;
    if size == 0 || size > MAX_CHUNK || !(MIN_ENCODED..=MAX_ENCODED).contains(&encoded_size) {
        return Err(ApiError::bad_request(
            "a chunk must have between 1 byte and 16 MiB",
        ));
    }
    let chunk = shared.announce(wid, digest, size as u32, fixed)?;
    let room = u32::try_from(encoded_size).unwrap_or(BUDGET).min(BUDGET);
    let ended = |_| ApiError::internal("the session has ended");
    let room = tokio::select! {
        biased;
        own = shared.uploads.budget.acquire_many(room) => own,
        common = SHARED.acquire_many(room) => common,
    };
    let _room = room.map_err(ended)?;

    let mut buffer = lock(&BUFFERS).pop().unwrap_or_default();
    buffer.reserve_exact(encoded_size);
    call.read(&mut buffer, encoded_size).await?;
    if buffer.len() != encoded_size {
        let got = buffer.len();
        return Err(ApiError::bad_request(format!(
            "wrong blob size ({got} != {encoded_size})"
        )));
    }
    // Not while a snapshot is made: all chunks must then be where the engine looks for them.
    let _gate = shared.gate.read().await;
    shared.state().check()?;
    let _turn = shared.uploads.turn().await;
    let _worker = WORKERS.acquire().await.map_err(ended)?;
    let this = shared.clone();
    let stored = tokio::task::spawn_blocking(move || {
        let result = this.store(&chunk, &buffer);
        give_back(buffer);
        result
    });
    let new = stored.await.map_err(|_| {
        ApiError::internal("storing a chunk failed unexpectedly; the server's log tells more")
    })??;
    shared.uploads.note(chunk.size, encoded_size, new);
    Ok(digest)
}

impl Shared {
    /// Whether a chunk of this length may come for this index.
    fn announce(&self, wid: u32, digest: Digest, size: u32, fixed: bool) -> ApiResult<NewChunk> {
        let mut state = self.state();
        let name = if fixed {
            let writer = state.fixed(wid)?;
            writer.check_upload(wid, &digest, size)?;
            &writer.name
        } else {
            &state.dynamic(wid)?.name
        };
        Ok(NewChunk {
            digest,
            size,
            pack: archive_kind(name).pack_kind(),
            image: fixed,
        })
    }

    /// Checks a chunk and stores it. False if it was there already.
    fn store(&self, chunk: &NewChunk, bytes: &[u8]) -> ApiResult<bool> {
        let (known, new) = ingest::store(&self.engine, chunk, bytes)?;
        self.known.add(chunk.digest, known)?;
        Ok(new)
    }
}
