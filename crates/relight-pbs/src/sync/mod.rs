//! Copies of snapshots from another server of the protocol, and to one: what was there is there, bit for bit, whoever
//! encrypted it. Only chunks that are not there yet are sent, and a snapshot appears whole or not at all.

mod error;
mod filter;
mod pull;
mod push;
mod remote;
mod summary;

use std::num::NonZeroUsize;
use std::sync::Arc;
use std::time::Duration;

use error::blocking;
pub use error::{Result, SyncError};
pub use filter::{FilterError, GroupFilter, GroupFilters};
pub use pull::{PullJob, pull};
pub use push::{PushJob, push};

use crate::access::{Access, AuthId, Privileges};
use crate::formats::ids::Namespace;
use crate::service::datastore::{Datastore, acl_path};
use crate::service::tasks::Task;

/// What of a datastore is copied, and how.
#[derive(Debug, Clone, Default)]
pub struct Selection {
    /// Which groups.
    pub filters: GroupFilters,
    /// How many levels of namespaces below the first one; all if none is given.
    pub max_depth: Option<usize>,
    /// Only so many snapshots of a group, the newest.
    pub transfer_last: Option<NonZeroUsize>,
    /// Only snapshots of which every file is encrypted by the client.
    pub encrypted_only: bool,
    /// Only snapshots whose last verification at the source was good.
    pub verified_only: bool,
    /// Remove from the target what the source does not have any more.
    pub remove_vanished: bool,
    /// Copy snapshots again whose verification at the target failed.
    pub resync_corrupt: bool,
}

/// What a copy has come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SyncFigures {
    /// Groups that were looked at.
    pub groups: usize,
    /// Snapshots that were copied.
    pub snapshots: usize,
    /// Chunks that were sent.
    pub chunks: u64,
    /// Bytes that were sent, as they are stored.
    pub bytes: u64,
    /// Snapshots that were removed from the target.
    pub removed_snapshots: usize,
    /// Groups that were removed from the target.
    pub removed_groups: usize,
    /// Namespaces that were removed from the target.
    pub removed_namespaces: usize,
    /// What could not be copied: namespaces, groups or snapshots.
    pub failed: usize,
}

/// The datastore of this server that takes part, and on whose behalf.
#[derive(Clone)]
pub struct Local {
    /// The datastore.
    pub store: Arc<Datastore>,
    /// Where in it.
    pub namespace: Namespace,
    /// Who owns what a pull makes, and whose groups alone it touches; whose groups a push reads.
    pub owner: AuthId,
    /// Tells what the owner may do.
    pub access: Arc<dyn Access>,
}

impl Local {
    fn is_default(&self) -> bool {
        self.owner.token().is_none() && self.owner.user().as_str() == DEFAULT_OWNER
    }

    /// Whether the owner may do this in a namespace. The administrator of the original, in whose name jobs without an owner
    /// run, need not be known here: nobody can make such a job who could not give groups to others.
    fn may(&self, namespace: &Namespace, all: Privileges) -> bool {
        let path = acl_path(self.store.name(), namespace);
        self.is_default() || self.access.privileges(&self.owner, &path).contains(all)
    }
}

/// The owner of jobs that name none, as the original has it.
pub const DEFAULT_OWNER: &str = "root@pam";

fn stopped(task: &Task) -> Result<()> {
    match task.is_stopped() {
        true => Err(SyncError::Stopped),
        false => Ok(()),
    }
}

/// How often it is looked whether somebody wants a task to stop.
const LOOK: Duration = Duration::from_millis(200);

/// Does the work until somebody wants the task to stop, however long the other server takes to answer.
async fn unless_stopped<T>(task: &Task, work: impl Future<Output = Result<T>>) -> Result<T> {
    let stop = async {
        while !task.is_stopped() {
            tokio::time::sleep(LOOK).await;
        }
    };
    tokio::select! {
        result = work => result,
        () = stop => Err(SyncError::Stopped),
    }
}

/// A namespace of one side on the other: what is below `from` there is below `to` here.
fn mapped(namespace: &Namespace, from: &Namespace, to: &Namespace) -> Result<Namespace> {
    let mut result = to.clone();
    for part in namespace.parts().skip(from.depth()) {
        result = result.child(part)?;
    }
    Ok(result)
}

/// A namespace as logs show it.
fn shown(namespace: &Namespace) -> String {
    match namespace.is_root() {
        true => "the root namespace".into(),
        false => format!("namespace '{namespace}'"),
    }
}

/// Bytes as logs show them.
fn size(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "KiB", "MiB", "GiB"] {
        if value < 1024.0 {
            return match unit {
                "B" => format!("{bytes} B"),
                _ => format!("{value:.2} {unit}"),
            };
        }
        value /= 1024.0;
    }
    format!("{value:.2} TiB")
}
