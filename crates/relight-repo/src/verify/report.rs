//! What a verification says.

use jiff::Timestamp;
use serde::Serialize;

use crate::error::RepoError;
use crate::id::{ChunkId, PackId, SnapshotId};
use crate::pack::PackKind;
use crate::snapshot::ArchiveKind;
use crate::storage::StorageError;

/// What is wrong, by what follows from it. The first are certain, the last say nothing about the data.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Damage {
    /// It is known not to be there.
    Missing,
    /// It is there and not what it should be: bit rot, a torn write, or tampering.
    Corrupt,
    /// The data key is not in the keyring: another keyring may open it.
    KeyMissing,
    /// The disk or service gave an error: no verdict about the data. Try again, and look after the storage.
    Unreadable,
}

impl Damage {
    /// What an error says of the thing that was read.
    pub fn of(error: &RepoError) -> Self {
        match error {
            RepoError::Storage(StorageError::NotFound { .. }) | RepoError::ChunkMissing(_) => Self::Missing,
            RepoError::Storage(StorageError::Short { .. }) => Self::Corrupt,
            RepoError::KeyMissing { .. } => Self::KeyMissing,
            RepoError::ChunkCorrupt { .. } | RepoError::Damaged { .. } | RepoError::TooNew { .. } => {
                Self::Corrupt
            }
            _ => Self::Unreadable,
        }
    }

    /// In a word, for messages.
    pub fn word(self) -> &'static str {
        match self {
            Self::Missing => "missing",
            Self::Corrupt => "corrupt",
            Self::KeyMissing => "without its key",
            Self::Unreadable => "unreadable",
        }
    }
}

/// Something that is wrong with a pack, or with a chunk that lies in none.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// The pack. None: a chunk that snapshots need and no pack holds, or a list that contradicts itself.
    pub pack: Option<PackId>,
    /// What the pack holds.
    pub kind: Option<PackKind>,
    /// What is wrong.
    pub damage: Damage,
    /// The chunks concerned; empty if all of the pack is, or only what is around the chunks.
    pub chunks: Vec<ChunkId>,
    /// Whether a snapshot (of those that were looked at) lacks something because of it. False: everything that is
    /// needed lies in good order elsewhere, or is not needed at all.
    pub needed: bool,
    /// In words.
    pub detail: String,
}

/// Bytes of an archive that cannot be restored now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BadRange {
    /// Where they begin in the archive.
    pub offset: u64,
    /// How many.
    pub length: u64,
    /// The chunk (or the list node above) that is bad.
    pub chunk: ChunkId,
    /// What is wrong with it.
    pub damage: Damage,
}

/// An archive that cannot be restored completely now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct AffectedArchive {
    /// Its name.
    pub name: String,
    /// What it is.
    pub kind: ArchiveKind,
    /// Bytes concerned.
    pub bytes: u64,
    /// Which, in order. Not all of them if there are very many: then `bytes` is more than their sum.
    pub ranges: Vec<BadRange>,
}

/// A snapshot that cannot be restored completely now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Affected {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// Its workload.
    pub workload: String,
    /// Its time.
    pub time: Timestamp,
    /// Its archives that are concerned.
    pub archives: Vec<AffectedArchive>,
}

/// A snapshot whose manifest cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BadManifest {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// What is wrong.
    pub damage: Damage,
    /// In words.
    pub detail: String,
}

/// A pack whose parity is missing or damaged, while the pack itself is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BadParity {
    /// The pack.
    pub pack: PackId,
    /// What is wrong with its parity.
    pub damage: Damage,
}

/// The pack that was not checked for the longest time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Oldest {
    /// The pack.
    pub pack: PackId,
    /// When it was last checked, or else written.
    pub since: Timestamp,
    /// Whether it was ever checked.
    pub checked: bool,
}

/// Figures of a verification.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Figures {
    /// Packs that were read and checked whole.
    pub packs: u64,
    /// Their bytes in storage.
    pub bytes: u64,
    /// Chunks in them.
    pub chunks: u64,
    /// Bytes of content in them.
    pub content: u64,
    /// Chunks that were wrong when first read, and right when read again: look after memory, cables, disks.
    pub flaky: u64,
    /// All packs of the repository that snapshots may need.
    pub all_packs: u64,
    /// Their bytes in storage.
    pub all_bytes: u64,
    /// Packs of these that were never checked until now.
    pub never_checked: u64,
    /// Packs that were not read because they lie in a cold storage class.
    pub cold: u64,
    /// Packs that no index mentions: of a backup that runs now, or that was interrupted.
    pub unindexed: u64,
    /// List nodes that were read to look through the snapshots.
    pub list_nodes: u64,
    /// Snapshots that were looked through.
    pub snapshots: u64,
}

/// What a verification says.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Report {
    /// Figures.
    pub figures: Figures,
    /// What is wrong, by pack.
    pub findings: Vec<Finding>,
    /// Manifests that cannot be read.
    pub manifests: Vec<BadManifest>,
    /// Parity that is missing or damaged.
    pub parity: Vec<BadParity>,
    /// Snapshots that cannot be restored completely, oldest first.
    pub affected: Vec<Affected>,
    /// Packs that an earlier verification found damaged and that are good again.
    pub healed: Vec<PackId>,
    /// The pack that was not checked for the longest time, after this run.
    pub oldest: Option<Oldest>,
    /// Somebody asked to stop: what is said here is true, but not everything was looked at.
    pub cancelled: bool,
}

impl Report {
    /// Whether everything that was looked at can be restored.
    pub fn is_restorable(&self) -> bool {
        self.manifests.is_empty()
            && self.affected.is_empty()
            && !self.findings.iter().any(|found| found.needed)
    }

    /// Whether nothing at all was wrong.
    pub fn is_clean(&self) -> bool {
        self.is_restorable() && self.findings.is_empty() && self.parity.is_empty()
    }
}
