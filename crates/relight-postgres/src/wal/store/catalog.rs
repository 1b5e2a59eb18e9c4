//! What there is of a log.

use std::collections::BTreeMap;

use relight_model::workload::Workload;
use relight_repo::repository::Unreadable;
use relight_repo::snapshot::{Archive, Snapshot};
use relight_repo::{Repository, SnapshotId};

use super::manifests;
use crate::wal::attributes::{self, Note};
use crate::wal::error::Result;
use crate::wal::name::{SegmentSize, Timeline, WalName};
use crate::wal::summary::Cluster;

/// A file of the log as it is kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept {
    /// Its content.
    pub archive: Archive,
    /// The snapshot that holds it.
    pub snapshot: SnapshotId,
    /// What is known about it.
    pub note: Note,
}

/// What there is of a log, and the backups of its cluster.
#[derive(Debug, Default)]
pub struct Catalog {
    /// Whose log it is; none as long as no snapshot says so.
    pub cluster: Option<Cluster>,
    /// The files by name.
    pub files: BTreeMap<WalName, Kept>,
    /// Names under which different contents were found; the older one is in `files`.
    pub conflicts: Vec<WalName>,
    /// The snapshots that hold files of the log, the oldest first.
    pub logs: Vec<Snapshot>,
    /// The other snapshots of the workload, the oldest first, without their archives.
    pub backups: Vec<Snapshot>,
    /// Snapshots of the repository that cannot be read: any of them may hold a part of the log.
    pub unreadable: Vec<Unreadable>,
}

impl Catalog {
    pub(super) fn load(repository: &Repository, workload: &Workload) -> Result<Self> {
        let (snapshots, unreadable) = manifests::load(repository, workload)?;
        let mut catalog = Self::of(snapshots);
        catalog.unreadable = unreadable;
        Ok(catalog)
    }

    /// That of these snapshots, the oldest first.
    pub fn of(snapshots: Vec<Snapshot>) -> Self {
        let mut catalog = Self::default();
        for snapshot in snapshots {
            if catalog.cluster.is_none() {
                catalog.cluster = attributes::cluster(&snapshot);
            }
            if snapshot.is_log() {
                catalog.add(snapshot);
            } else {
                catalog.backups.push(snapshot);
            }
        }
        catalog
    }

    fn add(&mut self, snapshot: Snapshot) {
        for archive in &snapshot.archives {
            let Ok(name) = archive.name.parse::<WalName>() else {
                continue;
            };
            if let Some(there) = self.files.get(&name) {
                if there.archive.root != archive.root {
                    self.conflicts.push(name);
                }
                continue;
            }
            let kept = Kept {
                archive: archive.clone(),
                snapshot: snapshot.id,
                note: attributes::note(&snapshot, name),
            };
            self.files.insert(name, kept);
        }
        self.logs.push(snapshot);
    }

    /// Whether there is anything of the workload.
    pub fn is_empty(&self) -> bool {
        self.logs.is_empty() && self.backups.is_empty() && self.cluster.is_none()
    }

    /// Bytes of a segment.
    pub fn segment_size(&self) -> SegmentSize {
        self.cluster
            .map_or_else(SegmentSize::default, |cluster| cluster.segment_size)
    }

    /// Numbers of the whole segments of a timeline, ascending.
    pub fn segments(&self, timeline: Timeline) -> impl Iterator<Item = (u64, &Kept)> {
        let size = self.segment_size();
        self.files.iter().filter_map(move |(name, kept)| match name {
            WalName::Segment(segment) if segment.timeline == timeline => Some((segment.number(size)?, kept)),
            _ => None,
        })
    }
}
