//! How full a datastore is, and how much is in it.

use serde::Serialize;

use super::Datastore;
use super::error::{Result, StoreError};
use crate::formats::ids::BackupType;

/// What is said to be free where the storage knows no limit and the operator gave none: clients look at the number before
/// they begin.
const UNLIMITED: u64 = 1 << 50;

/// How full it is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Status {
    /// All there is.
    pub total: u64,
    /// Used by whatever.
    pub used: u64,
    /// Free.
    pub avail: u64,
    /// What it lies on: `filesystem` or `s3`.
    #[serde(rename = "backend-type")]
    pub backend: &'static str,
}

/// Groups and snapshots of one type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Count {
    /// Groups.
    pub groups: u64,
    /// Snapshots.
    pub snapshots: u64,
}

/// Groups and snapshots by type; none where there are none.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Containers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ct: Option<Count>,
    /// Hosts and everything else.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<Count>,
    /// Virtual machines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vm: Option<Count>,
}

impl Datastore {
    /// How full it is.
    pub fn status(&self) -> Result<Status> {
        if let Some(path) = &self.options.path {
            let found = rustix::fs::statvfs(path).map_err(|error| StoreError::State {
                action: "find the free space of",
                path: path.display().to_string(),
                source: error.into(),
            })?;
            let bytes = |blocks: u64| blocks.saturating_mul(found.f_frsize);
            return Ok(Status {
                total: bytes(found.f_blocks),
                used: bytes(found.f_blocks.saturating_sub(found.f_bfree)),
                avail: bytes(found.f_bavail),
                backend: "filesystem",
            });
        }
        let used = self
            .repository()
            .index()
            .packs()
            .values()
            .map(|(pack, _)| pack.size)
            .fold(0, u64::saturating_add);
        let total = self.options.capacity.unwrap_or(used.saturating_add(UNLIMITED));
        Ok(Status {
            total,
            used,
            avail: total.saturating_sub(used),
            backend: "s3",
        })
    }

    /// How much is in it.
    pub fn counts(&self) -> Result<Counts> {
        let mut counts = Counts::default();
        for group in self.list()?.all_groups() {
            let count = match group.group.backup_type {
                BackupType::Ct => &mut counts.ct,
                BackupType::Host => &mut counts.host,
                BackupType::Vm => &mut counts.vm,
            };
            let count = count.get_or_insert_default();
            count.groups += 1;
            count.snapshots += group.snapshots.len() as u64;
        }
        Ok(counts)
    }
}
