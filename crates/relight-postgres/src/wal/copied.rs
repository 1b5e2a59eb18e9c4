//! What of a log is copied to another repository beside its base backups, so that it has windows there too.

use std::collections::BTreeSet;

use relight_repo::snapshot::Snapshot;

use super::error::Result;
use super::name::WalName;
use super::store::LogStore;
use super::tail::TailPiece;
use super::windows::Base;

/// The snapshots of the log in `from` that hold something which base backups in `to` can be carried on with and which is
/// not there yet.
///
/// # Errors
/// Those of the repositories.
pub fn wanted(from: &LogStore, to: &LogStore) -> Result<Vec<Snapshot>> {
    let (here, there) = (from.catalog()?, to.catalog()?);
    let size = here.segment_size();
    let bases = there.backups.iter().filter_map(Base::of);
    let Some(first) = bases.map(|base| size.segment_of(base.start)).min() else {
        return Ok(Vec::new());
    };
    let is_wanted = |snapshot: &&Snapshot| {
        let names = snapshot.archives.iter().map(|archive| archive.name.parse());
        names.flatten().any(|name: WalName| {
            let is_old = match name {
                WalName::Segment(segment) | WalName::Partial(segment) => {
                    segment.number(size).is_some_and(|number| number < first)
                }
                WalName::History(_) | WalName::Backup(..) => false,
            };
            !is_old && !there.files.contains_key(&name)
        })
    };
    Ok(here.logs.iter().filter(is_wanted).cloned().collect())
}

/// Brings the newest pieces of the log, which are in no snapshot, to where its snapshots were copied. `pieces` are those of
/// the source as they were before that.
///
/// # Errors
/// Those of the repository.
pub fn bring_tail(pieces: &[TailPiece], to: &LogStore) -> Result<()> {
    let there = to.catalog()?;
    let size = there.segment_size();
    let is_needed = |piece: &&TailPiece| {
        let name = super::SegmentName::at(piece.head.timeline, piece.head.start, size);
        !there.files.contains_key(&WalName::Segment(name))
    };
    let new: Vec<&TailPiece> = pieces.iter().filter(is_needed).collect();
    let numbers: BTreeSet<u64> = new.iter().map(|piece| piece.number).collect();
    let old = to.tail()?;
    for piece in new {
        to.put_tail(piece)?;
    }
    let gone = old.pieces.iter().map(|piece| piece.number);
    to.remove_tail(gone.filter(|number| !numbers.contains(number)))
}
