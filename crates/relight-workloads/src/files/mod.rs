//! File trees: each path that is protected is a pxar archive of version 2 (metadata and payload), and beside it the
//! stat records by which the next backup knows what is unchanged. Trees that other programs saved, without stat records
//! or as one stream of version 1, are read as well.

pub mod browse;
mod capture;
pub mod compare;
mod content;
pub mod damage;
mod drill;
pub mod export;
pub mod find;
mod kind;
mod padding;
mod ranges;
mod rehearse;
mod restore;
mod reuse;
mod sink;
mod trees;

use std::path::Path;

pub use capture::{Saved, TreeReport, TreeSource, back_up};
pub use content::{RandomArchive, archive_read, open_archive};
pub use drill::{DrillReport, drill};
pub use kind::{Files, problems, tree_sources};
pub use padding::is_padded_list;
pub use ranges::payload_ranges;
pub(crate) use rehearse::spoil_byte;
pub use restore::{TreeArchive, restore, restore_into};
pub use trees::{Tree, is_kept_index, trees};

use relight_repo::snapshot::Snapshot;

/// Ending of a tree's metadata archive.
pub const METADATA: &str = ".mpxar";
/// Ending of its payload archive.
pub const PAYLOAD: &str = ".ppxar";
/// Ending of its stat records.
pub const STAT: &str = ".stat";
/// Ending of an archive of pxar version 1, which holds all of a tree in one stream. Only other programs write it.
pub const WHOLE: &str = ".pxar";

/// Attribute of a snapshot that tells where the tree `name` was.
pub fn path_attribute(name: &str) -> String {
    format!("files.{name}.path")
}

/// Attribute of a snapshot that tells how many bytes of the payload of tree `name` are content of its files.
fn live_attribute(name: &str) -> String {
    format!("files.{name}.live")
}

/// Attribute of a snapshot that tells how many regular files tree `name` has, each counted once.
fn files_attribute(name: &str) -> String {
    format!("files.{name}.files")
}

/// Attribute of a snapshot that tells how many further names files of tree `name` have.
fn links_attribute(name: &str) -> String {
    format!("files.{name}.hardlinks")
}

/// How many further names (hard links) the files of the tree `name` have, if the snapshot tells.
pub fn hard_links(snapshot: &Snapshot, name: &str) -> Option<u64> {
    snapshot.attributes.get(&links_attribute(name))?.parse().ok()
}

/// Bytes of content of the files of the tree that was at `path`.
pub fn live_bytes(snapshot: &Snapshot, path: &Path) -> Option<u64> {
    let path = path.display().to_string();
    let tree = trees(snapshot)
        .into_iter()
        .find(|tree| tree.path == Some(&path))?;
    snapshot.attributes.get(&live_attribute(tree.name))?.parse().ok()
}

/// A name for the tree at `path` that no other in `taken` has: its last part, or `root`.
pub fn name_for(path: &Path, taken: &[String]) -> String {
    let last = path
        .file_name()
        .map(|name| name.to_string_lossy().into_owned())
        .unwrap_or_default();
    let plain: String = last
        .chars()
        .map(|char| {
            if char.is_ascii_alphanumeric() || matches!(char, '-' | '_' | '.') {
                char
            } else {
                '_'
            }
        })
        .collect();
    let base = match plain.trim_matches('.') {
        "" => "root",
        name => name,
    };
    let numbered = (2..).map(|number| format!("{base}-{number}"));
    let names = std::iter::once(base.to_string()).chain(numbered);
    names
        .into_iter()
        .find(|name| !taken.contains(name))
        .unwrap_or_default()
}
