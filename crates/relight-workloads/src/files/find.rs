//! Finds entries of a tree by a pattern.

use std::sync::atomic::{AtomicBool, Ordering};

use relight_pxar::exclude::Pattern;
use relight_pxar::{Decoder, EntryKind, Event, FileTime};
use relight_repo::RepoError;

use super::archive_read;
use super::browse::{Kind, TreeView, components, join};
use crate::error::Result;

/// An entry that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Match {
    /// Its path in the snapshot, without a slash in front.
    pub path: Vec<u8>,
    /// What it is.
    pub kind: Kind,
    /// Bytes of its content, of a file.
    pub size: Option<u64>,
    /// When it was modified.
    pub mtime: FileTime,
}

/// All entries of a tree that the pattern matches by their path in the snapshot or by the path they were saved from.
/// Reads names and attributes from front to back, and nothing else.
pub fn find(tree: &TreeView, pattern: &Pattern, cancelled: &AtomicBool) -> Result<Vec<Match>> {
    let matches = |path: &[u8], is_directory| pattern.matches(path, is_directory);
    find_by(tree, &matches, usize::MAX, cancelled)
}

/// The first `most` entries of a tree of which one of the two paths, and whether it is a folder, is said to match.
pub fn find_by(
    tree: &TreeView,
    pattern: &dyn Fn(&[u8], bool) -> bool,
    most: usize,
    cancelled: &AtomicBool,
) -> Result<Vec<Match>> {
    let (mut found, mut links) = (Vec::new(), Vec::new());
    let origin = tree.path.as_deref().filter(|path| path.starts_with('/'));
    let origin = match origin {
        Some(path) => components(path.as_bytes())?.join(&b'/'),
        None => tree.name.clone().into_bytes(),
    };
    // Both beginnings stay in place; only what follows them changes.
    let mut paths = [tree.name.clone().into_bytes(), origin];
    let count = if paths[0] == paths[1] { 1 } else { 2 };
    let lengths = paths.each_ref().map(Vec::len);
    let mut decoder = Decoder::seekable(archive_read(tree.reader(), tree.metadata.root)?)?;
    while let Some(event) = decoder.next()? {
        if found.len() >= most {
            break;
        }
        let Event::Entry(entry) = event else { continue };
        if cancelled.load(Ordering::Relaxed) {
            return Err(RepoError::Cancelled.into());
        }
        let is_directory = matches!(entry.kind, EntryKind::Directory);
        let matches = paths.iter_mut().zip(lengths).take(count).any(|(path, length)| {
            path.truncate(length);
            if !entry.path.is_empty() {
                if length > 0 {
                    path.push(b'/');
                }
                path.extend_from_slice(entry.path);
            }
            pattern(path, is_directory)
        });
        if !matches {
            continue;
        }
        let stat = entry.stat().unwrap_or_default();
        let size = match entry.kind {
            EntryKind::File { size, .. } => Some(size),
            EntryKind::Hardlink { .. } => {
                links.push((found.len(), entry.path.to_vec()));
                None
            }
            _ => None,
        };
        let path = join(tree.name.as_bytes(), entry.path);
        found.push(Match {
            path,
            kind: Kind::of(&entry.kind, stat.mode),
            size,
            mtime: stat.mtime,
        });
    }
    // Only random access can tell what a link points at; there are few.
    for (number, path) in links {
        let Some(node) = tree.open()?.accessor().lookup_path(&path)? else {
            continue;
        };
        let target = tree.resolved(&node)?;
        let stat = target.stat()?.unwrap_or_default();
        let size = match target.kind() {
            EntryKind::File { size, .. } => Some(size),
            _ => None,
        };
        let entry = &mut found[number];
        (entry.kind, entry.size, entry.mtime) = (Kind::of(&target.kind(), stat.mode), size, stat.mtime);
    }
    Ok(found)
}
