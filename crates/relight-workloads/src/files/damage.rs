//! Which files damaged bytes of a payload belong to.

use std::collections::HashSet;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};

use relight_pxar::{ContentPlace, Decoder, EntryKind, Event, payload};
use relight_repo::RepoError;

use super::archive_read;
use super::browse::{TreeView, join};
use crate::error::Result;

/// Files that are concerned by damage.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Concerned {
    /// Their paths in the snapshot, as many as were asked for.
    pub paths: Vec<Vec<u8>>,
    /// How many there are.
    pub count: u64,
}

/// The files of which a part lies in `ranges` of the payload (sorted, none overlapping another), by all their names.
/// Names at most `most` of them. Bytes of a payload that belong to no file concern nobody.
///
/// Of a tree in one stream, names and attributes may lie there as well: then it fails, or nothing is found.
///
/// # Errors
/// Where names and attributes cannot be read: then all files of the tree may be concerned.
pub fn concerned(
    tree: &TreeView,
    ranges: &[Range<u64>],
    most: usize,
    cancelled: &AtomicBool,
) -> Result<Concerned> {
    let mut found = Concerned::default();
    let mut positions = HashSet::new();
    let mut decoder = Decoder::seekable(archive_read(tree.reader(), tree.metadata.root)?)?;
    while let Some(event) = decoder.next()? {
        let Event::Entry(entry) = event else { continue };
        if cancelled.load(Ordering::Relaxed) {
            return Err(RepoError::Cancelled.into());
        }
        let is_concerned = match entry.kind {
            EntryKind::File { size, content } => {
                let place = match content {
                    ContentPlace::Payload { offset } => offset..payload::end(offset, size),
                    ContentPlace::Inline { offset } => offset..offset.saturating_add(size),
                };
                let hit = overlaps(ranges, place);
                if hit {
                    positions.insert(entry.position);
                }
                hit
            }
            EntryKind::Hardlink { target_position, .. } => positions.contains(&target_position),
            _ => false,
        };
        if is_concerned {
            found.count += 1;
            if found.paths.len() < most {
                found.paths.push(join(tree.name.as_bytes(), entry.path));
            }
        }
    }
    Ok(found)
}

fn overlaps(ranges: &[Range<u64>], part: Range<u64>) -> bool {
    let after = ranges.partition_point(|range| range.end <= part.start);
    ranges.get(after).is_some_and(|range| range.start < part.end)
}

#[cfg(test)]
mod tests {
    use super::overlaps;

    #[test]
    fn a_file_is_concerned_by_any_byte_of_it() {
        let ranges = [10..20, 30..40];
        for (part, wanted) in [
            (0..10, false),
            (0..11, true),
            (19..25, true),
            (20..30, false),
            (39..90, true),
            (40..90, false),
        ] {
            assert_eq!(overlaps(&ranges, part.clone()), wanted, "{part:?}");
        }
        assert!(!overlaps(&[], 0..u64::MAX));
    }
}
