//! What a restore would do, seen before it is done: nothing is changed, and no content is read.

use std::time::{Duration, Instant};

use relight_pxar::{EntryKind, Node};
use serde::Serialize;

use super::{Folder, name_of};
use crate::error::Result;
use crate::files::browse::{Place, TreeView, View};
use crate::parts::{Part, find};

/// So many entries are looked at.
const MOST: u64 = 200_000;
/// So long.
const LONGEST: Duration = Duration::from_secs(10);
/// So many that exist are named.
const NAMED: usize = 20;

/// What a restore would do.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Survey {
    /// Regular files, images and streams.
    pub files: u64,
    /// Folders.
    pub folders: u64,
    /// Links, devices and the like.
    pub others: u64,
    /// Bytes of content.
    pub bytes: u64,
    /// Files and the like whose name is taken where they would be put.
    pub existing: u64,
    /// Of these, what is there is newer than what would come, or as old.
    pub newer: u64,
    /// Some of them, by their path below the target.
    pub names: Vec<String>,
    /// Whether that is all: large trees are only counted up to some hundred thousand entries.
    pub complete: bool,
}

struct Surveyor {
    seen: Survey,
    began: Instant,
    full: bool,
}

/// What would be restored of these paths (of everything, without any), and what would be in its way in `folder`, if that is
/// there already.
///
/// # Errors
/// A path is not in the snapshot; it cannot be read; the target cannot be looked at.
pub fn survey<P: AsRef<[u8]>>(view: &View, paths: &[P], folder: Option<&Folder>) -> Result<Survey> {
    let mut surveyor = Surveyor {
        seen: Survey::default(),
        began: Instant::now(),
        full: false,
    };
    if paths.is_empty() {
        for tree in view.trees() {
            surveyor.tree(tree, &tree.root()?, b"", folder)?;
        }
        for archive in view.archives() {
            surveyor.archive(&archive.name, archive.root.size, folder)?;
        }
    }
    for path in paths {
        let path = path.as_ref();
        // As the restore itself understands it.
        let place = match find(view.snapshot(), path)? {
            Part::Whole(archive) => {
                surveyor.archive(
                    name_of(archive, archive.name.ends_with(super::BLOB)),
                    archive.root.size,
                    folder,
                )?;
                continue;
            }
            Part::InTree(tree, below) => [tree.name.as_bytes(), b"/", &below].concat(),
        };
        match view.at(&place)? {
            Place::Entry { tree, node, path } => surveyor.tree(tree, &node, &path, folder)?,
            Place::Root | Place::Archive(_) => {}
        }
    }
    surveyor.seen.complete = !surveyor.full;
    Ok(surveyor.seen)
}

impl Surveyor {
    fn goes_on(&mut self) -> bool {
        let seen = self.seen.files + self.seen.folders + self.seen.others;
        self.full |= seen >= MOST || seen.is_multiple_of(256) && self.began.elapsed() > LONGEST;
        !self.full
    }

    fn archive(&mut self, name: &str, size: u64, folder: Option<&Folder>) -> Result<()> {
        self.seen.files += 1;
        self.seen.bytes = self.seen.bytes.saturating_add(size);
        if let Some(folder) = folder
            && folder.entry(name.as_bytes())?.is_some()
        {
            self.exists(name.as_bytes(), false);
        }
        Ok(())
    }

    fn exists(&mut self, path: &[u8], newer: bool) {
        self.seen.existing += 1;
        self.seen.newer += u64::from(newer);
        if self.seen.names.len() < NAMED {
            self.seen.names.push(crate::files::browse::printable(path));
        }
    }

    /// A node of a tree and all below it.
    fn tree(&mut self, tree: &TreeView, node: &Node, path: &[u8], target: Option<&Folder>) -> Result<()> {
        // The folder in the target that the node lies in, and its name there.
        let mut at = match target {
            Some(target) => target.child_if_there(tree.name.as_bytes())?,
            None => None,
        };
        let shown = |path: &[u8]| [tree.name.as_bytes(), b"/", path].concat();
        let mut parts: Vec<&[u8]> = path
            .split(|&byte| byte == b'/')
            .filter(|part| !part.is_empty())
            .collect();
        let own = parts.pop();
        for part in parts {
            at = match at {
                Some(folder) => folder.child_if_there(part)?,
                None => None,
            };
        }
        let is_folder = matches!(node.kind(), EntryKind::Directory);
        if let Some(name) = own {
            at = self.one(tree, node, name, &shown(path), at.as_ref())?;
        }
        if !is_folder {
            return Ok(());
        }
        // Folders of the target that are open, with the length of their path below the node.
        let mut open: Vec<(usize, Option<Folder>)> = vec![(0, at)];
        for item in tree.walk(node)? {
            if !self.goes_on() {
                return Ok(());
            }
            let (below, child) = item?;
            let (length, name) = match below.iter().rposition(|&byte| byte == b'/') {
                Some(slash) => (slash, &below[slash + 1..]),
                None => (0, below.as_slice()),
            };
            while open.len() > 1 && open.last().is_some_and(|(depth, _)| *depth > length) {
                open.pop();
            }
            let inside = open.last().and_then(|(_, folder)| folder.as_ref());
            let whole = crate::files::browse::join(path, &below);
            let made = self.one(tree, &child, name, &shown(&whole), inside)?;
            if matches!(child.kind(), EntryKind::Directory) {
                open.push((below.len(), made));
            }
        }
        Ok(())
    }

    /// Counts an entry; gives the folder of the target that it would be merged with.
    fn one(
        &mut self,
        tree: &TreeView,
        node: &Node,
        name: &[u8],
        shown: &[u8],
        target: Option<&Folder>,
    ) -> Result<Option<Folder>> {
        let mtime = match node.kind() {
            EntryKind::Directory => {
                self.seen.folders += 1;
                // Folders are merged; what is none and has its name is in the way.
                return match target.map(|target| target.entry(name)).transpose()?.flatten() {
                    Some((true, _)) => target.map_or(Ok(None), |target| target.child_if_there(name)),
                    Some((false, _)) => {
                        self.exists(shown, false);
                        Ok(None)
                    }
                    None => Ok(None),
                };
            }
            EntryKind::File { size, .. } => {
                self.seen.files += 1;
                self.seen.bytes = self.seen.bytes.saturating_add(size);
                node.stat()?.unwrap_or_default().mtime
            }
            EntryKind::Hardlink { .. } => {
                self.seen.files += 1;
                tree.resolved(node)?.stat()?.unwrap_or_default().mtime
            }
            _ => {
                self.seen.others += 1;
                node.stat()?.unwrap_or_default().mtime
            }
        };
        if let Some(target) = target
            && let Some((_, there)) = target.entry(name)?
        {
            self.exists(shown, there >= mtime);
        }
        Ok(None)
    }
}
