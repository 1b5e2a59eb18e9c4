//! What a collection tells about its work.

use serde::{Deserialize, Serialize};

/// So many packs of so many bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Amount {
    /// Packs.
    pub packs: u64,
    /// Their bytes in storage.
    pub bytes: u64,
}

impl Amount {
    pub(super) fn add(&mut self, bytes: u64) {
        self.packs += 1;
        self.bytes += bytes;
    }
}

/// What a collection found, and what follows from it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Plan {
    /// Snapshots.
    pub snapshots: u64,
    /// Sessions that are at work.
    pub sessions: u64,
    /// All packs in storage.
    pub packs: Amount,
    /// Chunks that snapshots need; list nodes are counted, too.
    pub live_chunks: u64,
    /// Their bytes in storage.
    pub live_bytes: u64,
    /// Bytes in packs that are neither condemned nor needed.
    pub waste: u64,
    /// Packs that are left alone because they are young or of a running session.
    pub young: Amount,
    /// Those of them that nothing needs: a later collection condemns them, if that stays so.
    pub young_waste: Amount,
    /// Packs that no index segment mentions.
    pub orphans: Amount,
    /// Packs that were condemned earlier and are not deleted yet, because of the grace or of sessions.
    pub waiting: Amount,
    /// Packs that were condemned earlier and are deleted now.
    pub delete: Amount,
    /// Packs that nothing needs.
    pub condemn: Amount,
    /// Packs of which what is needed is moved to new ones.
    pub rewrite: Amount,
    /// Bytes of that which is needed.
    pub moved: u64,
    /// Chunks that are needed and lie in condemned packs only: they are copied.
    pub rescue: u64,
    /// Packs of which the local index does not hold all. They are left alone; deleting the cache helps.
    pub incoherent: u64,
    /// Packs that the index mentions and that are not in storage.
    pub lost: u64,
    /// Chunks that snapshots need and that are missing or damaged.
    pub damaged: u64,
}

/// What a collection has done.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Report {
    /// What it found.
    pub found: Plan,
    /// Packs that it deleted.
    pub deleted: Amount,
    /// Packs that it would have deleted, but the storage protects them (object lock).
    pub kept_by_lock: Amount,
    /// Packs that it condemned; a later collection deletes them.
    pub condemned: Amount,
    /// Packs that it wrote in order to empty others.
    pub written: Amount,
    /// Packs that it could not rewrite because something in them cannot be read.
    pub unreadable: u64,
    /// Orphaned packs that it took into the index.
    pub adopted: u64,
    /// Orphaned packs that cannot be read.
    pub unreadable_orphans: u64,
    /// Sessions that it gave up.
    pub given_up: u64,
    /// Index segments that it replaced.
    pub segments_replaced: u64,
    /// Remains of other kinds that it removed.
    pub leftovers: u64,
}
