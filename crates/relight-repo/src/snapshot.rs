//! Snapshots: one recovery point of one workload, a manifest that names archives. Published last and whole.

use std::collections::BTreeMap;

use jiff::Timestamp;
use relight_keys::ObjectKind;
use serde::{Deserialize, Serialize};

use crate::error::{RepoError, Result};
use crate::id::SnapshotId;
use crate::pack::PackKind;
use crate::sealed::Vault;
use crate::tree::{Cut, Root};

/// Folder of the manifests.
pub const PREFIX: &str = "snapshots/";
/// Folder of what may change about a snapshot: protection, notes.
pub const MARKS: &str = "marks/";
/// Folder of logs that came after a snapshot was published.
pub const LOGS: &str = "logs/";
/// No log is larger.
pub const MAX_LOG: usize = 16 << 20;
/// Attribute of a snapshot that holds a piece of a workload's log and is no recovery point by itself.
pub const LOG: &str = "log";
/// The version this program writes.
const VERSION: u32 = 1;
/// No manifest is larger, compressed or not.
const MAX_MANIFEST: usize = 64 << 20;

/// What kind of stream an archive is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ArchiveKind {
    /// A disk image: chunks of 4 MiB by position.
    Image,
    /// Any stream: chunks by content.
    Stream,
    /// The metadata half of a pxar archive of version 2: names and attributes of a file tree.
    PxarMetadata,
    /// The payload half: contents of the files.
    PxarPayload,
    /// What the next backup needs to know which files changed: inode and change time of each.
    PxarStat,
    /// A small thing kept as it came.
    Blob,
}

impl ArchiveKind {
    /// Which packs its chunks go to.
    pub fn pack_kind(self) -> PackKind {
        match self {
            Self::Image | Self::Stream | Self::PxarPayload => PackKind::Data,
            Self::PxarMetadata | Self::PxarStat | Self::Blob => PackKind::Metadata,
        }
    }

    /// How its chunk list is cut.
    pub fn cut(self) -> Cut {
        match self {
            Self::Image => Cut::Position,
            _ => Cut::Content,
        }
    }
}

/// One stream in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Archive {
    /// Its name, unique in the snapshot.
    pub name: String,
    /// What it is.
    pub kind: ArchiveKind,
    /// Its chunk list.
    pub root: Root,
}

/// Figures of the run that made a snapshot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Figures {
    /// Bytes of all archives.
    pub logical: u64,
    /// Bytes that were new to the repository, before compression.
    pub added: u64,
    /// Bytes by which the repository grew.
    pub stored: u64,
    /// Chunks that were new.
    pub new_chunks: u64,
    /// Chunks that were there already.
    pub known_chunks: u64,
}

/// The manifest of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Version of this format.
    version: u32,
    /// Its identity.
    pub id: SnapshotId,
    /// The workload it is a recovery point of.
    pub workload: String,
    /// The moment it can bring back: when the capture began.
    pub time: Timestamp,
    /// When it was published.
    pub published: Timestamp,
    /// The host it was made on.
    pub host: String,
    /// The program that made it.
    pub program: String,
    /// The archives, in the order they were made.
    pub archives: Vec<Archive>,
    /// The snapshot whose unchanged parts it took over.
    pub parent: Option<SnapshotId>,
    /// What kind-specific code wants to remember (paths, guest names, protocol fields).
    #[serde(default)]
    pub attributes: BTreeMap<String, String>,
    /// Files that could not be saved as they are and other remarks, by name. Not empty: the snapshot is incomplete.
    #[serde(default)]
    pub incomplete: Vec<String>,
    /// Figures of the run.
    #[serde(default)]
    pub figures: Figures,
    /// Not to be deleted before this time, as promised when it was made.
    #[serde(default)]
    pub retain_until: Option<Timestamp>,
}

/// What is needed to publish a snapshot besides its archives.
#[derive(Debug, Clone, Default)]
pub struct SnapshotSpec {
    /// The workload.
    pub workload: String,
    /// When the capture began; none is when the session began.
    pub time: Option<Timestamp>,
    /// The host it was made on.
    pub host: String,
    /// The snapshot whose unchanged parts were taken over.
    pub parent: Option<SnapshotId>,
    /// What kind-specific code wants to remember.
    pub attributes: BTreeMap<String, String>,
    /// What could not be saved as it is.
    pub incomplete: Vec<String>,
    /// Not to be deleted before.
    pub retain_until: Option<Timestamp>,
}

/// What may change about a snapshot after it was published.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Marks {
    /// It is not forgotten, whatever the rules say.
    pub protected: bool,
    /// Words of the operator.
    pub notes: String,
    /// What the last verification of this snapshot found.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verification: Option<Verification>,
}

/// What a verification of one snapshot found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verification {
    /// When it ended.
    pub time: Timestamp,
    /// Whether everything that the snapshot needs was there and as it should be.
    pub good: bool,
    /// What did it, as whoever ran it names it.
    #[serde(default)]
    pub task: String,
}

/// Why a snapshot is not forgotten, whoever asks for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// Somebody protected it.
    Protected,
    /// It was promised until then when it was made.
    Promised(Timestamp),
}

impl std::fmt::Display for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Protected => f.write_str("protected"),
            Self::Promised(until) => write!(f, "promised until {until}"),
        }
    }
}

impl Snapshot {
    /// Why it must stay at this time, by what is noted of it and by what it says itself.
    pub fn held(&self, marks: Option<&Marks>, now: Timestamp) -> Option<Held> {
        if marks.is_some_and(|marks| marks.protected) {
            return Some(Held::Protected);
        }
        self.retain_until.filter(|until| *until > now).map(Held::Promised)
    }

    pub(crate) fn new(
        id: SnapshotId,
        spec: SnapshotSpec,
        archives: Vec<Archive>,
        began: Timestamp,
        now: Timestamp,
        figures: Figures,
    ) -> Self {
        Self {
            version: VERSION,
            id,
            workload: spec.workload,
            time: spec.time.unwrap_or(began),
            published: now,
            host: spec.host,
            program: concat!("relight ", env!("CARGO_PKG_VERSION")).to_string(),
            archives,
            parent: spec.parent,
            attributes: spec.attributes,
            incomplete: spec.incomplete,
            figures,
            retain_until: spec.retain_until,
        }
    }

    /// Whether it holds a piece of the workload's log: no recovery point, and nothing that rules for recovery points may
    /// count or forget.
    pub fn is_log(&self) -> bool {
        self.attributes.contains_key(LOG)
    }

    /// Key of a manifest.
    pub fn key(id: SnapshotId) -> String {
        format!("{PREFIX}{id}")
    }

    /// The snapshot that a key names.
    pub fn parse_key(key: &str) -> Option<SnapshotId> {
        key.strip_prefix(PREFIX)?.parse().ok()
    }

    /// The archive of that name.
    pub fn archive(&self, name: &str) -> Result<&Archive> {
        let found = self.archives.iter().find(|archive| archive.name == name);
        found.ok_or_else(|| RepoError::NoSuchArchive {
            snapshot: self.id,
            archive: name.to_string(),
        })
    }

    /// Bytes of all archives.
    pub fn size(&self) -> u64 {
        self.archives.iter().map(|archive| archive.root.size).sum()
    }

    /// The bytes of the manifest before sealing: JSON, zstd.
    pub(crate) fn encode(&self) -> Result<Vec<u8>> {
        let failed = |error: &dyn std::fmt::Display| RepoError::damaged("manifest", error.to_string());
        let json = serde_json::to_vec(self).map_err(|error| failed(&error))?;
        zstd::bulk::compress(&json, 3).map_err(|error| failed(&error))
    }

    /// Reads a manifest and checks that it is that of `id`.
    pub fn decode(bytes: &[u8], id: SnapshotId) -> Result<Self> {
        let what = format!("manifest of snapshot {id}");
        let damaged = |error: &dyn std::fmt::Display| RepoError::damaged(&what, error.to_string());
        let json = zstd::bulk::decompress(bytes, MAX_MANIFEST).map_err(|error| damaged(&error))?;
        #[derive(Deserialize)]
        struct Versioned {
            version: u32,
        }
        let Versioned { version } = serde_json::from_slice(&json).map_err(|error| damaged(&error))?;
        if version != VERSION {
            return Err(RepoError::TooNew {
                what,
                found: version,
                known: VERSION,
            });
        }
        let snapshot: Self = serde_json::from_slice(&json).map_err(|error| damaged(&error))?;
        if snapshot.id != id {
            return Err(damaged(&"it is that of another snapshot"));
        }
        Ok(snapshot)
    }

    pub(crate) fn load(vault: Vault<'_>, id: SnapshotId) -> Result<Self> {
        Self::decode(&vault.get(ObjectKind::SNAPSHOT, &Self::key(id))?, id)
    }
}
