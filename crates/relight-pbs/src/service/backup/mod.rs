//! The backup protocol: one client writes one snapshot.
//!
//! [`begin`] does what is checked while the connection still speaks HTTP/1.1, and takes the locks; [`Backup::serve`] takes
//! the calls after it changed to HTTP/2. Chunks are taken several at once; all other calls one after the other, in the order
//! in which they were made, because clients send the next before the last is answered. The snapshot comes into being with
//! `finish`, whole, or not at all.

mod calls;
mod dynamic;
pub(crate) mod engine;
mod finish;
mod fixed;
pub(crate) mod ingest;
pub(crate) mod known;
mod previous;
mod route;
mod state;
mod upload;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::io::{AsyncRead, AsyncWrite};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::access::AuthId;
use crate::formats::ids::{BackupType, Namespace, SnapshotName};
use crate::service::datastore::{Datastore, Entry, Lock};
use crate::service::http::{ApiError, ApiResult, blocking};
use crate::service::protocol::{Closed, run};

pub use route::routes;

use engine::Engine;
use known::KnownChunks;
use state::State;
use upload::Uploads;

/// Name of the protocol, as clients ask for it.
pub const PROTOCOL: &str = "proxmox-backup-protocol-v1";

/// What a client wants to write, and where.
#[derive(Clone)]
pub struct BackupRequest {
    /// The datastore.
    pub datastore: Arc<Datastore>,
    /// Where in it.
    pub namespace: Namespace,
    /// The snapshot.
    pub snapshot: SnapshotName,
    /// Who writes. Whether it may at all was checked before.
    pub auth_id: AuthId,
    /// Only to measure speed: nothing is kept.
    pub benchmark: bool,
}

/// How a session ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ended {
    /// The snapshot is there.
    Finished,
    /// The client went away before; nothing is there.
    Aborted(String),
}

/// What is kept from others meanwhile.
struct Held {
    _group: Lock,
    _snapshot: Lock,
    /// The previous snapshot stays as it is.
    _base: Option<Lock>,
}

/// A session that may begin.
pub struct Backup {
    shared: Running,
}

/// What the calls of a session share.
struct Shared {
    request: BackupRequest,
    /// The newest snapshot of the group, if there is one.
    base: Option<Arc<Entry>>,
    engine: Engine,
    known: KnownChunks,
    uploads: Uploads,
    state: Mutex<State>,
    /// Chunks are stored by those who read it; whoever makes the snapshot waits for them and writes it.
    gate: tokio::sync::RwLock<()>,
    held: Mutex<Option<Held>>,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take_held(&self) -> Option<Held> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

/// A session that nobody may forget to end: whatever becomes of it, others can go on at once.
struct Running(Arc<Shared>);

impl Drop for Running {
    fn drop(&mut self) {
        // Not if a snapshot is being made: then who makes it has them.
        drop(self.0.take_held());
        self.0.engine.cancel();
    }
}

/// Checks all that must be so before a backup begins, and locks the group.
///
/// # Errors
/// 404: no such namespace. 400: somebody writes to the group, another owns it, or the time is not newer than that of its
/// last snapshot.
pub async fn begin(request: BackupRequest) -> ApiResult<Backup> {
    blocking(move || begin_now(request)).await
}

fn begin_now(request: BackupRequest) -> ApiResult<Backup> {
    let refuse = |message: &str| Err(ApiError::bad_request(message));
    let BackupRequest {
        datastore,
        namespace,
        snapshot,
        auth_id,
        benchmark,
    } = &request;
    let group = &snapshot.group;
    let for_benchmark = group.backup_type == BackupType::Host && group.backup_id.as_str() == "benchmark";
    if for_benchmark != *benchmark {
        return refuse("host/benchmark is for benchmarks, and benchmarks are for it");
    }
    // Fails if the names do not fit into one.
    group.workload(namespace)?;
    datastore.require_namespace(namespace)?;
    let group_lock = datastore.locks().group(namespace, group)?;
    let found = datastore.list()?.group(namespace, group).cloned();
    if let Some(found) = &found {
        let owner = datastore.owner_of(found);
        if !auth_id.owns_as(&owner) {
            let message = format!("backup owner check failed ({auth_id} != {owner})");
            return refuse(&message);
        }
    }
    let base = found.and_then(|found| found.snapshots.first().cloned());
    if let Some(base) = &base
        && snapshot.backup_time <= base.name.backup_time
    {
        return refuse("backup timestamp is older than last backup.");
    }
    let base_lock = base
        .as_ref()
        .map(|base| datastore.locks().snapshot(namespace, &base.name, false));
    let held = Held {
        _group: group_lock,
        _snapshot: datastore.locks().snapshot(namespace, snapshot, true)?,
        _base: base_lock.transpose()?,
    };
    let engine = Engine::begin(datastore)?;
    let shared = Shared {
        base,
        engine,
        known: KnownChunks::default(),
        uploads: Uploads::new(),
        state: Mutex::default(),
        gate: tokio::sync::RwLock::default(),
        held: Mutex::new(Some(held)),
        request,
    };
    Ok(Backup {
        shared: Running(Arc::new(shared)),
    })
}

impl Backup {
    /// Takes the client's calls until the connection ends, however that happens.
    pub async fn serve<IO>(self, io: IO) -> Ended
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        let running = self.shared;
        let shared = &running.0;
        let (queue, mut waiting) = mpsc::unbounded_channel();
        let mut lane = JoinSet::new();
        let this = shared.clone();
        lane.spawn(async move {
            while let Some(call) = waiting.recv().await {
                calls::answer(&this, call).await;
            }
        });
        let closed = run(io, |call| {
            // At most as many as there are streams wait in the queue.
            let aside = match calls::is_independent(&call) {
                true => Some((call, shared.clone())),
                false => {
                    let _ = queue.send(call);
                    None
                }
            };
            async {
                if let Some((call, shared)) = aside {
                    calls::answer_independent(shared, call).await;
                }
            }
        })
        .await;
        lane.shutdown().await;
        if shared.state().finished {
            // The client just goes; how does not matter.
            return Ended::Finished;
        }
        Ended::Aborted(match closed {
            Closed::Ended => "the client ended the connection before the backup was finished".into(),
            Closed::Broken(error) => format!("the connection broke before the backup was finished: {error}"),
            Closed::Silent => "the client was silent for too long".into(),
        })
    }
}
