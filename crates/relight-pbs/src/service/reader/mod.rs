//! The reader protocol: one client reads one snapshot.
//!
//! [`begin`] does what is checked while the connection still speaks HTTP/1.1; [`Reader::serve`] takes the calls after it
//! changed to HTTP/2. Clients ask for one chunk after the other and wait for each, so what they will ask for is read ahead,
//! in the order of the index that they have downloaded.

mod ahead;
mod calls;
mod chunks;
mod route;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use relight_repo::read::ChunkCache;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::Semaphore;

use crate::access::AuthId;
use crate::formats::ids::{Namespace, SnapshotName};
use crate::service::datastore::{Datastore, Entry, Lock, StoreError};
use crate::service::http::{ApiResult, blocking};
use crate::service::protocol::{Closed, run};

pub use route::routes;

use chunks::Lists;

/// Name of the protocol, as clients ask for it.
pub const PROTOCOL: &str = "proxmox-backup-reader-protocol-v1";

/// Bytes of chunks that a session keeps, half of them at most read ahead.
const ROOM: u64 = 64 << 20;
/// Chunks that are fetched and sent at once.
const AT_ONCE: usize = 8;

/// What a client wants to read.
#[derive(Clone)]
pub struct ReaderRequest {
    /// The datastore.
    pub datastore: Arc<Datastore>,
    /// Where in it.
    pub namespace: Namespace,
    /// The snapshot.
    pub snapshot: SnapshotName,
    /// Who reads. Whether it may at all was checked before.
    pub auth_id: AuthId,
    /// Whether it may read only what it owns.
    pub must_own: bool,
}

/// What a session did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ended {
    /// Chunks that were asked for.
    pub chunks: u64,
    /// How many of them were being read already, or were there.
    pub foreseen: u64,
    /// Whether the connection broke rather than being closed. Clients do not tell the difference.
    pub broken: bool,
}

/// A session that may begin.
pub struct Reader {
    shared: Arc<Shared>,
}

/// What the calls of a session share.
struct Shared {
    request: ReaderRequest,
    entry: Arc<Entry>,
    lists: Mutex<Lists>,
    cache: ChunkCache,
    at_once: Semaphore,
    _lock: Lock,
}

impl Shared {
    fn lists(&self) -> MutexGuard<'_, Lists> {
        self.lists.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Finds the snapshot, and sees to it that it is not removed meanwhile.
///
/// # Errors
/// 404: no such namespace. 400: no such snapshot, or it is being made or removed. 403: it belongs to somebody else.
pub async fn begin(request: ReaderRequest) -> ApiResult<Reader> {
    blocking(move || {
        let ReaderRequest {
            datastore,
            namespace,
            snapshot,
            auth_id,
            must_own,
        } = &request;
        let listing = datastore.list()?;
        if !listing.has_namespace(namespace) {
            return Err(StoreError::NoNamespace(namespace.clone()).into());
        }
        let no_snapshot = || StoreError::NoSnapshot(snapshot.clone());
        let group = listing
            .group(namespace, &snapshot.group)
            .ok_or_else(no_snapshot)?;
        if *must_own && !auth_id.owns_as(&datastore.owner_of(group)) {
            return Err(crate::service::http::ApiError::forbidden());
        }
        let lock = datastore.locks().snapshot(namespace, snapshot, false)?;
        // Looked for again: it may have been removed before it was locked.
        let entry = datastore.snapshot(namespace, snapshot)?;
        Ok(Reader {
            shared: Arc::new(Shared {
                cache: ChunkCache::new(datastore.stored_reader(), ROOM),
                entry,
                lists: Mutex::default(),
                at_once: Semaphore::new(AT_ONCE),
                _lock: lock,
                request,
            }),
        })
    })
    .await
}

impl Reader {
    /// Takes the client's calls until the connection ends.
    pub async fn serve<IO>(self, io: IO) -> Ended
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let shared = self.shared;
        let closed = run(io, |call| calls::answer(shared.clone(), call)).await;
        let statistic = shared.lists().statistic();
        // It waits for its threads.
        let _ = tokio::task::spawn_blocking(move || drop(shared)).await;
        Ended {
            broken: !matches!(closed, Closed::Ended),
            ..statistic
        }
    }
}
