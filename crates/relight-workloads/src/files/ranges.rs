//! Which bytes of the payload a restore of parts of a tree reads.

use std::ops::Range;
use std::sync::Arc;

use relight_pxar::decoder::{Decoder, Event};
use relight_pxar::entry::{ContentPlace, EntryKind};
use relight_pxar::fs::extract::{Selection, Standing};
use relight_pxar::payload;
use relight_repo::read::ChunkReader;

use super::Tree;
use super::content::archive_read;
use crate::error::Result;

/// Bytes of the payload that the contents of what is selected take, in rising order. Reads names and attributes only.
pub fn payload_ranges(
    reader: &Arc<ChunkReader>,
    tree: &Tree<'_>,
    selection: &Selection,
) -> Result<Vec<Range<u64>>> {
    // Of a tree in one stream even names are read only when it is thawed, and they lie between contents.
    if selection.is_all() || tree.is_whole() {
        let all = 0..tree.payload.root.size;
        return Ok(vec![all]);
    }
    let (mut ranges, first_names) = select(reader, tree, selection)?;
    if !first_names.is_empty() {
        // A further name has the content of the first, which need not be selected itself.
        ranges.extend(select(reader, tree, &Selection::paths(first_names))?.0);
    }
    ranges.sort_unstable_by_key(|range| (range.start, range.end));
    ranges.dedup();
    Ok(ranges)
}

type Selected = (Vec<Range<u64>>, Vec<Vec<u8>>);

/// Ranges of the selected files, and the first names of selected further names.
fn select(reader: &Arc<ChunkReader>, tree: &Tree<'_>, selection: &Selection) -> Result<Selected> {
    let mut decoder = Decoder::new(archive_read(reader, tree.metadata.root)?)?;
    let (mut ranges, mut first_names) = (Vec::new(), Vec::new());
    while let Some(event) = decoder.next()? {
        let Event::Entry(entry) = event else { continue };
        if selection.standing(entry.path) != Standing::Inside {
            continue;
        }
        match entry.kind {
            EntryKind::File {
                size,
                content: ContentPlace::Payload { offset },
            } => ranges.push(offset..payload::end(offset, size)),
            EntryKind::Hardlink { target, .. } => first_names.push(target.to_vec()),
            _ => {}
        }
    }
    Ok((ranges, first_names))
}
