//! Object lock: what a snapshot promises to keep cannot be deleted from storage before, by anyone.

use std::collections::HashSet;
use std::sync::Arc;

use crate::error::Result;
use crate::id::{ChunkId, PackId};
use crate::pack::PackKind;
use crate::read::ChunkReader;
use crate::repository::Repository;
use crate::snapshot::Snapshot;
use crate::storage::Millis;
use crate::tree::NodeSource;

/// Until when the objects of a snapshot are to be locked; none if the repository does not lock.
pub(crate) fn object_lock(repository: &Repository, snapshot: &Snapshot) -> Option<Millis> {
    let until = snapshot.retain_until?;
    repository.settings().object_lock.then(|| until.as_millisecond())
}

/// Until when any snapshot promises to be kept: the lock of an object that is put back in its place, because which
/// snapshots need it is not known without reading their lists. None if the repository does not lock.
pub(crate) fn longest_lock(repository: &Repository) -> Result<Option<Millis>> {
    if !repository.settings().object_lock {
        return Ok(None);
    }
    let (snapshots, _) = repository.snapshots()?;
    let now = repository.now();
    let promised = snapshots.iter().filter_map(|snapshot| snapshot.retain_until);
    Ok(promised
        .filter(|until| *until > now)
        .max()
        .map(|until| until.as_millisecond()))
}

/// Extends the lock of every pack that the snapshot needs, before it is published: the lock of a chunk is never
/// shorter than that of any snapshot that refers to it.
pub(crate) fn lock_before_publication(repository: &Arc<Repository>, snapshot: &Snapshot) -> Result<()> {
    let Some(until) = object_lock(repository, snapshot) else {
        return Ok(());
    };
    for (kind, pack) in packs_of(repository, snapshot)? {
        repository.storage().retain(&kind.key(pack), until)?;
    }
    Ok(())
}

/// Every pack that holds something of the snapshot.
pub(crate) fn packs_of(
    repository: &Arc<Repository>,
    snapshot: &Snapshot,
) -> Result<HashSet<(PackKind, PackId)>> {
    let reader = ChunkReader::new(repository.clone())?;
    let (mut packs, mut seen) = (HashSet::new(), HashSet::new());
    let mut todo: Vec<(ChunkId, u8)> = snapshot
        .archives
        .iter()
        .map(|archive| (archive.root.id, archive.root.levels))
        .collect();
    while let Some((id, level)) = todo.pop() {
        if id == ChunkId::ZEROS || !seen.insert(id) {
            continue;
        }
        if let Some(place) = reader.locate(&id)?.first() {
            packs.insert((place.pack.kind, place.pack.id));
        }
        if level > 0 {
            todo.extend(
                reader
                    .node(id, level)?
                    .children
                    .iter()
                    .map(|child| (child.id, level - 1)),
            );
        }
    }
    Ok(packs)
}
