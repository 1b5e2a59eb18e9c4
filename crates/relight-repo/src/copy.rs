//! Copies snapshots from one repository to another. Both have keys of their own, so chunks are opened, checked and
//! sealed again; what the other one has already is not even read.
//!
//! A copy is made of the same chunks in the same order, so its lists are the same too, and what later copies share
//! with it is shared there. It remembers in its attributes which snapshot of which repository it is of, through any
//! number of copies: nothing is copied twice, not even by way of a third repository or back to where it came from.

use std::collections::{HashMap, VecDeque};
use std::ops::Range;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use serde::Serialize;

use crate::control::{Control, Unit};
use crate::error::{RepoError, Result};
use crate::group;
use crate::id::{ChunkId, SnapshotId};
use crate::read::{ChunkReader, Form, PieceStream};
use crate::repository::Repository;
use crate::session::{ArchiveWriter, Session};
use crate::snapshot::{Archive, Marks, Snapshot, SnapshotSpec};
use crate::storage::StorageError;
use crate::thaw::Needed;
use crate::throttle::Throttle;
use crate::tree::{Piece, Root, TreeReader};

/// Attribute that names the repository a copy came from first.
pub const ORIGIN_REPOSITORY: &str = "origin.repository";
/// Attribute that names the snapshot there.
pub const ORIGIN_SNAPSHOT: &str = "origin.snapshot";

/// Pieces of a list that are looked up at once.
const PIECES: usize = 512;

/// A snapshot that was copied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Copied {
    /// What it is called in the source.
    pub source: SnapshotId,
    /// What it is called in the target.
    pub target: SnapshotId,
    /// Bytes of its archives.
    pub logical: u64,
    /// Bytes of content that were new to the target.
    pub added: u64,
    /// Bytes by which the target grew.
    pub stored: u64,
}

/// What came of copying.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CopyReport {
    /// Snapshots that were copied, oldest first.
    pub copied: Vec<Copied>,
    /// Snapshots of the source that the target has already.
    pub skipped: Vec<SnapshotId>,
    /// Snapshots that cannot be read completely, and why. None of them is in the target.
    pub failed: Vec<(SnapshotId, String)>,
    /// Somebody asked to stop. What was read for the snapshot at hand is used by the next attempt.
    pub cancelled: bool,
}

/// Where a snapshot was first made: repository and name there.
pub fn origin(repository: &Repository, snapshot: &Snapshot) -> (String, String) {
    let first = |name: &str| snapshot.attributes.get(name).cloned();
    match (first(ORIGIN_REPOSITORY), first(ORIGIN_SNAPSHOT)) {
        (Some(repository), Some(snapshot)) => (repository, snapshot),
        _ => (repository.id().to_string(), snapshot.id.to_string()),
    }
}

/// Which snapshots, by their origin, a repository has.
fn there(target: &Repository) -> Result<HashMap<(String, String), SnapshotId>> {
    let snapshots = target.snapshots()?.0;
    Ok(snapshots
        .iter()
        .map(|snapshot| (origin(target, snapshot), snapshot.id))
        .collect())
}

/// What a copy of `snapshots` to `target` would read of the archives in the repository of `reader`: what is to be
/// readable before it begins, where data lies in a cold class.
///
/// # Errors
/// Where lists cannot be read, or the storage of either is not available.
pub fn needed(
    reader: &ChunkReader,
    target: &Repository,
    snapshots: &[Snapshot],
    control: Control<'_>,
) -> Result<Vec<Needed>> {
    let there = there(target)?;
    let mut needed = Vec::new();
    for snapshot in snapshots {
        if there.contains_key(&origin(reader.repository(), snapshot)) {
            continue;
        }
        for archive in &snapshot.archives {
            let mut ranges: Vec<Range<u64>> = Vec::new();
            for piece in TreeReader::new(reader, archive.root, 0)? {
                control.check()?;
                let piece = piece?;
                if piece.id == ChunkId::ZEROS || has(target, &piece) {
                    continue;
                }
                let end = piece.offset.saturating_add(piece.length);
                match ranges.last_mut().filter(|last| last.end == piece.offset) {
                    Some(last) => last.end = end,
                    None => ranges.push(piece.offset..end),
                }
            }
            needed.push(Needed {
                root: archive.root,
                ranges,
            });
        }
    }
    Ok(needed)
}

/// Whether a repository has the content of a piece, so that it is not copied.
fn has(target: &Repository, piece: &Piece) -> bool {
    let known = target.index().writable(&piece.id);
    known.is_some_and(|place| u64::from(place.record.raw) == piece.length)
}

/// Copies `snapshots` of `source` to `target`, oldest first; those that are there already are skipped.
///
/// # Errors
/// Where the target fails, or the source is not available. Snapshots that were copied until then are whole, and what
/// was stored for others is used by the next attempt.
pub fn copy(
    source: &Arc<Repository>,
    target: &Arc<Repository>,
    snapshots: &[Snapshot],
    control: Control<'_>,
) -> Result<CopyReport> {
    copy_throttled(source, target, snapshots, None, control)
}

/// The same, no faster than `throttle` lets pass.
///
/// # Errors
/// As [`copy`].
pub fn copy_throttled(
    source: &Arc<Repository>,
    target: &Arc<Repository>,
    snapshots: &[Snapshot],
    throttle: Option<&Arc<Throttle>>,
    control: Control<'_>,
) -> Result<CopyReport> {
    let mut there = there(target)?;
    let mut order: Vec<&Snapshot> = snapshots.iter().collect();
    order.sort_by_key(|snapshot| (snapshot.time, snapshot.published, snapshot.id));
    let mut report = CopyReport::default();
    order.retain(|snapshot| {
        let is_there = there.contains_key(&origin(source, snapshot));
        if is_there {
            report.skipped.push(snapshot.id);
        }
        !is_there
    });
    let total = order.iter().map(|snapshot| snapshot.size()).sum();
    control.progress.begin("copying", Unit::Bytes, total);
    // What is compressed stays as it is, and what clients encrypted can be copied without their keys.
    let reader = Arc::new(ChunkReader::in_form(source.clone(), Form::Stored)?);
    for snapshot in order {
        if control.is_cancelled() {
            report.cancelled = true;
            break;
        }
        let job = Job {
            reader: &reader,
            target,
            throttle,
            control,
        };
        match job.copy(snapshot, &there) {
            Ok(copy) => {
                there.insert(origin(source, snapshot), copy.id);
                report.copied.push(Copied {
                    source: snapshot.id,
                    target: copy.id,
                    logical: copy.figures.logical,
                    added: copy.figures.added,
                    stored: copy.figures.stored,
                });
            }
            Err(RepoError::Cancelled) => {
                report.cancelled = true;
                break;
            }
            // One snapshot that is damaged does not keep the others from being copied.
            Err(error) if is_of_content(&error) => report.failed.push((snapshot.id, error.to_string())),
            Err(error) => return Err(error),
        }
    }
    let is_copied = |snapshot: &&Snapshot| there.contains_key(&origin(source, snapshot));
    group::copy(source, target, snapshots.iter().filter(is_copied))?;
    Ok(report)
}

fn is_of_content(error: &RepoError) -> bool {
    matches!(
        error,
        RepoError::ChunkMissing(_)
            | RepoError::ChunkCorrupt { .. }
            | RepoError::Damaged { .. }
            | RepoError::TooNew { .. }
            | RepoError::KeyMissing { .. }
            | RepoError::Storage(
                StorageError::NotFound { .. } | StorageError::Short { .. } | StorageError::Cold { .. }
            )
    )
}

struct Job<'a> {
    reader: &'a Arc<ChunkReader>,
    target: &'a Arc<Repository>,
    throttle: Option<&'a Arc<Throttle>>,
    control: Control<'a>,
}

impl Job<'_> {
    fn copy(&self, snapshot: &Snapshot, there: &HashMap<(String, String), SnapshotId>) -> Result<Snapshot> {
        let source = self.reader.repository();
        let session = Session::begin(self.target.clone(), Arc::new(AtomicBool::new(false)))?;
        if let Some(throttle) = self.throttle {
            session.limit(throttle.clone());
        }
        let mut archives = Vec::with_capacity(snapshot.archives.len());
        for archive in &snapshot.archives {
            archives.push(self.copy_archive(&session, archive)?);
        }
        let mut attributes = snapshot.attributes.clone();
        let (repository, id) = origin(source, snapshot);
        attributes.insert(ORIGIN_REPOSITORY.into(), repository);
        attributes.insert(ORIGIN_SNAPSHOT.into(), id);
        let parent = snapshot
            .parent
            .and_then(|parent| source.snapshot(parent).ok())
            .and_then(|parent| there.get(&origin(source, &parent)).copied());
        let spec = SnapshotSpec {
            workload: snapshot.workload.clone(),
            time: Some(snapshot.time),
            host: snapshot.host.clone(),
            parent,
            attributes,
            incomplete: snapshot.incomplete.clone(),
            retain_until: snapshot.retain_until,
        };
        let copy = session.publish(spec, archives)?;
        // Nobody has verified the copy yet.
        let marks = Marks {
            verification: None,
            ..source.marks(snapshot.id)?
        };
        if marks != Marks::default() {
            self.target.set_marks(copy.id, &marks)?;
        }
        if let Some(log) = source.log(snapshot.id)? {
            self.target.add_log(copy.id, &log)?;
        }
        Ok(copy)
    }

    fn copy_archive(&self, session: &Session, archive: &Archive) -> Result<Archive> {
        let mut writer = session.archive(&archive.name, archive.kind)?;
        let planned: Planned = Arc::default();
        let pieces = Pieces {
            reader: self.reader.clone(),
            target: self.target.clone(),
            root: archive.root,
            at: 0,
            some: VecDeque::new(),
            planned: planned.clone(),
        };
        for item in PieceStream::of(self.reader, Box::new(pieces)) {
            self.control.check()?;
            let (_, stored) = item?;
            let piece = planned
                .lock()
                .unwrap_or_else(|poisoned| poisoned.into_inner())
                .pop_front()
                .ok_or_else(|| RepoError::damaged("chunk list", "it changed while it was read"))?;
            match stored {
                Some(stored) => writer.push_stored(piece.id, piece.length, Arc::unwrap_or_clone(stored))?,
                None if piece.id == ChunkId::ZEROS => writer.push_zeros(piece.length)?,
                None => self.push_known(&mut writer, &piece)?,
            }
            self.control.progress.advance(piece.length);
        }
        writer.finish()
    }

    fn push_known(&self, writer: &mut ArchiveWriter, piece: &Piece) -> Result<()> {
        if writer.push_known(piece.id, piece.length)? {
            return Ok(());
        }
        // Condemned since it was looked up.
        writer.push_stored(piece.id, piece.length, self.reader.read(&piece.id)?)
    }
}

/// The pieces in the order in which they come out of the stream.
type Planned = Arc<Mutex<VecDeque<Piece>>>;

/// Gives the pieces of an archive; those that the target has pass for zeros, so that nothing is fetched for them.
struct Pieces {
    reader: Arc<ChunkReader>,
    target: Arc<Repository>,
    root: Root,
    at: u64,
    some: VecDeque<Piece>,
    planned: Planned,
}

impl Pieces {
    fn advance(&mut self) -> Result<Option<Piece>> {
        if self.some.is_empty() && self.at < self.root.size {
            let tree = TreeReader::new(&*self.reader, self.root, self.at)?;
            for piece in tree.take(PIECES) {
                self.some.push_back(piece?);
            }
        }
        let Some(piece) = self.some.pop_front() else {
            return Ok(None);
        };
        self.at = piece.offset + piece.length;
        self.planned
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .push_back(piece);
        let id = if has(&self.target, &piece) {
            ChunkId::ZEROS
        } else {
            piece.id
        };
        Ok(Some(Piece { id, ..piece }))
    }
}

impl Iterator for Pieces {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Result<Piece>> {
        let next = self.advance();
        if next.is_err() {
            self.at = u64::MAX;
            self.some.clear();
        }
        next.transpose()
    }
}
