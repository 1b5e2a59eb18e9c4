//! Which archives of a snapshot are trees.

use relight_repo::snapshot::{Archive, ArchiveKind, Snapshot};

use super::{METADATA, PAYLOAD, STAT, WHOLE, path_attribute};

/// A tree in a snapshot.
#[derive(Debug, Clone, Copy)]
pub struct Tree<'a> {
    /// Its name: that of its archives without the ending.
    pub name: &'a str,
    /// Where it was, if the snapshot tells.
    pub path: Option<&'a str>,
    /// Names and attributes.
    pub metadata: &'a Archive,
    /// Contents. Of a tree in one stream this is the same archive.
    pub payload: &'a Archive,
    /// What tells which files changed.
    pub stat: Option<&'a Archive>,
}

impl Tree<'_> {
    /// Whether names, attributes and contents lie in one stream (pxar version 1).
    pub fn is_whole(&self) -> bool {
        self.metadata.name == self.payload.name
    }

    /// Whether an archive is a part of it.
    pub fn has(&self, archive: &str) -> bool {
        let parts = [Some(self.metadata), Some(self.payload), self.stat];
        parts.into_iter().flatten().any(|part| part.name == archive)
    }
}

/// The trees of a snapshot, in the order they were saved.
pub fn trees(snapshot: &Snapshot) -> Vec<Tree<'_>> {
    snapshot
        .archives
        .iter()
        .filter_map(|archive| split(snapshot, archive).or_else(|| whole(snapshot, archive)))
        .collect()
}

/// Whether an archive is of no use by itself: the index file, kept as it came, of another archive whose chunks a client
/// encrypted.
pub fn is_kept_index(snapshot: &Snapshot, archive: &Archive) -> bool {
    let of = archive
        .name
        .strip_suffix(".fidx")
        .or_else(|| archive.name.strip_suffix(".didx"));
    archive.kind == ArchiveKind::Blob && of.is_some_and(|name| find(snapshot, name, "").is_some())
}

fn find<'a>(snapshot: &'a Snapshot, name: &str, ending: &str) -> Option<&'a Archive> {
    let archives = &mut snapshot.archives.iter();
    archives.find(|archive| archive.name.strip_suffix(ending) == Some(name))
}

fn path<'a>(snapshot: &'a Snapshot, name: &str) -> Option<&'a str> {
    snapshot.attributes.get(&path_attribute(name)).map(String::as_str)
}

fn split<'a>(snapshot: &'a Snapshot, metadata: &'a Archive) -> Option<Tree<'a>> {
    let name = metadata.name.strip_suffix(METADATA)?;
    Some(Tree {
        name,
        path: path(snapshot, name),
        metadata,
        payload: find(snapshot, name, PAYLOAD)?,
        stat: find(snapshot, name, STAT),
    })
}

fn whole<'a>(snapshot: &'a Snapshot, archive: &'a Archive) -> Option<Tree<'a>> {
    let name = archive.name.strip_suffix(WHOLE)?;
    if name.is_empty() || archive.kind != ArchiveKind::Stream {
        return None;
    }
    // A split tree of that name, or an archive that has it, keeps it.
    let is_taken = find(snapshot, name, METADATA).is_some() || find(snapshot, name, "").is_some();
    Some(Tree {
        name: if is_taken { &archive.name } else { name },
        path: path(snapshot, name),
        metadata: archive,
        payload: archive,
        stat: None,
    })
}
