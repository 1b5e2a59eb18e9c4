//! The log of a cluster in the repository: snapshots that hold its files, one archive each.
//!
//! A name is given once: the same content again is no error and changes nothing, other content is refused. The storage
//! cannot watch over that by itself, so whoever pushes looks before and after: of two who push different content
//! under one name at once, at least one notices and takes its snapshot back.
//!
//! Each push publishes a small snapshot. When many have come together they are replaced by one that names the same
//! archives; their content is not touched.

mod catalog;
mod expire;
mod fetch;
mod manifests;
mod merge;
mod push;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use relight_model::workload::Workload;
use relight_repo::Repository;

pub use catalog::{Catalog, Kept};
pub use expire::Expiry;
pub use fetch::Fetched;
pub use push::{Checked, NewFile, Push, Pushed};

use super::error::Result;

/// The log of one workload in a repository.
pub struct LogStore {
    repository: Arc<Repository>,
    workload: Workload,
    cancelled: Arc<AtomicBool>,
}

impl LogStore {
    /// The log of `workload`. `cancelled` ends what it does soon after it becomes true.
    pub fn new(repository: Arc<Repository>, workload: Workload, cancelled: Arc<AtomicBool>) -> Self {
        Self {
            repository,
            workload,
            cancelled,
        }
    }

    /// The repository.
    pub fn repository(&self) -> &Arc<Repository> {
        &self.repository
    }

    /// The workload.
    pub fn workload(&self) -> &Workload {
        &self.workload
    }

    /// Looks what there is now.
    pub fn catalog(&self) -> Result<Catalog> {
        let mut catalog = Catalog::load(&self.repository, &self.workload)?;
        if catalog.cluster.is_none() {
            // A receiver that has just begun has only stored the newest pieces.
            catalog.cluster = self.tail()?.cluster();
        }
        Ok(catalog)
    }
}
