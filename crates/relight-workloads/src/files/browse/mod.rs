//! A snapshot as people see it: one folder with a folder for each tree and a file for each other archive.
//!
//! The tree `etc` is `etc/…`, the image `disk` is `disk.img`, a stream is `NAME`. A path that begins with a slash may
//! also be the one that a tree or image was saved from (`/srv/www/index.html` for `www/index.html` in the snapshot).

mod kind;
mod path;
mod walk;

use std::sync::{Arc, OnceLock};

use relight_pxar::{Accessor, EntryKind, FileContent, Node};
use relight_repo::read::ChunkReader;
use relight_repo::snapshot::{Archive, ArchiveKind, Snapshot};

pub use kind::Kind;
pub use path::{components, join, printable};
pub use walk::{Children, Walk};

use super::content::{RandomArchive, open_archive};
use super::{is_kept_index, trees};
use crate::error::{Result, WorkloadError};
use crate::image;

/// An open snapshot.
pub struct View {
    snapshot: Snapshot,
    reader: Arc<ChunkReader>,
    trees: Vec<TreeView>,
}

/// A tree of an open snapshot. Its archives are opened when they are needed.
pub struct TreeView {
    /// Its name in the snapshot.
    pub name: String,
    /// Where it was, if the snapshot tells.
    pub path: Option<String>,
    /// Names and attributes.
    pub metadata: Archive,
    /// Contents. Of a tree in one stream this is the same archive.
    pub payload: Archive,
    reader: Arc<ChunkReader>,
    open: OnceLock<OpenTree>,
}

/// The archives of a tree, ready to be read anywhere.
pub struct OpenTree {
    accessor: Accessor<RandomArchive>,
    payload: RandomArchive,
}

/// What a path in a snapshot names.
pub enum Place<'v> {
    /// The snapshot itself: a folder with everything in it.
    Root,
    /// Something in a tree.
    Entry {
        /// The tree.
        tree: &'v TreeView,
        /// The entry. Of a hard link the link itself: see [`TreeView::resolved`].
        node: Node,
        /// Its path from the root of the tree, without a slash in front; empty for that root.
        path: Vec<u8>,
    },
    /// An archive that is no tree.
    Archive(&'v Archive),
}

impl View {
    /// Opens a snapshot. Reads nothing yet.
    pub fn new(reader: Arc<ChunkReader>, snapshot: Snapshot) -> Self {
        let view = |tree: super::Tree<'_>| TreeView {
            name: tree.name.to_string(),
            path: tree.path.map(String::from),
            metadata: tree.metadata.clone(),
            payload: tree.payload.clone(),
            reader: reader.clone(),
            open: OnceLock::new(),
        };
        let trees = trees(&snapshot).into_iter().map(view).collect();
        Self {
            snapshot,
            reader,
            trees,
        }
    }

    /// The snapshot.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// What reads its chunks.
    pub fn reader(&self) -> &Arc<ChunkReader> {
        &self.reader
    }

    /// Its trees.
    pub fn trees(&self) -> &[TreeView] {
        &self.trees
    }

    /// Its archives that are no part of a tree.
    pub fn archives(&self) -> impl Iterator<Item = &Archive> {
        let of_tree = |kind| {
            matches!(
                kind,
                ArchiveKind::PxarMetadata | ArchiveKind::PxarPayload | ArchiveKind::PxarStat
            )
        };
        let trees = trees(&self.snapshot);
        let in_tree = move |archive: &Archive| trees.iter().any(|tree| tree.has(&archive.name));
        self.snapshot.archives.iter().filter(move |archive| {
            !of_tree(archive.kind) && !in_tree(archive) && !is_kept_index(&self.snapshot, archive)
        })
    }

    /// What is at `path`. With a slash in front it is taken for the path that something was saved from, and else, or if
    /// there is no such, for a path from the root of the snapshot. None if there is nothing.
    ///
    /// # Errors
    /// [`WorkloadError::Refused`] for a path with `..`, which leads out of what it is looked up in.
    pub fn find(&self, path: &[u8]) -> Result<Option<Place<'_>>> {
        let parts = components(path)?;
        let Some((first, rest)) = parts.split_first() else {
            return Ok(Some(Place::Root));
        };
        if path.first() == Some(&b'/')
            && let Some(place) = self.find_original(&parts)?
        {
            return Ok(Some(place));
        }
        if let Some(tree) = self.trees.iter().find(|tree| tree.name.as_bytes() == *first)
            && let Some(place) = tree.find(rest)?
        {
            return Ok(Some(place));
        }
        if rest.is_empty()
            && let Some(archive) = self.archives().find(|archive| archive.name.as_bytes() == *first)
        {
            return Ok(Some(Place::Archive(archive)));
        }
        Ok(None)
    }

    /// As [`View::find`], with an error that says what there is.
    pub fn at(&self, path: &[u8]) -> Result<Place<'_>> {
        self.find(path)?.ok_or_else(|| {
            let names = self.names();
            let more = if names.len() > 10 { ", …" } else { "" };
            WorkloadError::Refused(format!(
                "there is no {} in snapshot {}; it holds {}{more}",
                printable(path),
                self.snapshot.id.short(),
                names.iter().take(10).cloned().collect::<Vec<_>>().join(", "),
            ))
        })
    }

    /// The names in the root, each with where it was saved from if that is another path.
    fn names(&self) -> Vec<String> {
        let tree = |tree: &TreeView| match &tree.path {
            Some(path) if *path != format!("/{}", tree.name) => format!("{} ({path})", tree.name),
            _ => tree.name.clone(),
        };
        let archives = self.archives().map(|archive| archive.name.clone());
        self.trees.iter().map(tree).chain(archives).collect()
    }

    /// By the path that it was saved from. Of nested trees the inner one is asked first.
    fn find_original(&self, parts: &[&[u8]]) -> Result<Option<Place<'_>>> {
        let mut within: Vec<(&TreeView, usize)> = Vec::new();
        for tree in &self.trees {
            let Some(origin) = tree.path.as_deref().filter(|path| path.starts_with('/')) else {
                continue;
            };
            let Ok(origin) = components(origin.as_bytes()) else {
                continue;
            };
            if parts.starts_with(&origin) {
                within.push((tree, origin.len()));
            }
        }
        within.sort_by_key(|(_, length)| std::cmp::Reverse(*length));
        for (tree, length) in within {
            if let Some(place) = tree.find(&parts[length..])? {
                return Ok(Some(place));
            }
        }
        let saved_from = |archive: &&Archive| {
            let name = archive.name.strip_suffix(image::IMAGE)?;
            self.snapshot.attributes.get(&format!("image.{name}.path"))
        };
        let matches = |archive: &&Archive| {
            saved_from(archive)
                .is_some_and(|origin| components(origin.as_bytes()).is_ok_and(|origin| origin == parts))
        };
        Ok(self.archives().find(matches).map(Place::Archive))
    }
}

impl TreeView {
    /// Opens its archives, once.
    pub fn open(&self) -> Result<&OpenTree> {
        if let Some(open) = self.open.get() {
            return Ok(open);
        }
        let open = OpenTree {
            accessor: Accessor::open(open_archive(&self.reader, &self.metadata))?,
            payload: open_archive(&self.reader, &self.payload),
        };
        Ok(self.open.get_or_init(|| open))
    }

    /// What reads its chunks.
    pub fn reader(&self) -> &Arc<ChunkReader> {
        &self.reader
    }

    /// Whether names, attributes and contents lie in one stream (pxar version 1).
    pub fn is_whole(&self) -> bool {
        self.metadata.name == self.payload.name
    }

    /// Its root folder.
    pub fn root(&self) -> Result<Node> {
        Ok(self.open()?.accessor.root()?)
    }

    fn find(&self, parts: &[&[u8]]) -> Result<Option<Place<'_>>> {
        let accessor = self.open()?.accessor();
        let mut node = accessor.root()?;
        for name in parts {
            if !matches!(node.kind(), EntryKind::Directory) {
                return Ok(None);
            }
            match accessor.lookup(&accessor.directory(&node)?, name)? {
                Some(child) => node = child,
                None => return Ok(None),
            }
        }
        Ok(Some(Place::Entry {
            tree: self,
            node,
            path: parts.join(&b'/'),
        }))
    }

    /// The entry that holds the attributes and content: of a hard link what it points at, else the node itself.
    pub fn resolved(&self, node: &Node) -> Result<Node> {
        match node.kind() {
            EntryKind::Hardlink { .. } => Ok(self.open()?.accessor.resolve_hardlink(node)?),
            _ => Ok(node.clone()),
        }
    }

    /// The children of a folder by name.
    pub fn children(&self, node: &Node) -> Result<Children<'_>> {
        Children::new(self.open()?.accessor(), node)
    }

    /// Everything below a folder.
    pub fn walk(&self, node: &Node) -> Result<Walk<'_>> {
        Walk::new(self.open()?.accessor(), node)
    }

    /// The content of a regular file (a resolved one), readable anywhere.
    pub fn content<'a>(&'a self, node: &Node) -> Result<FileContent<'a>> {
        let open = self.open()?;
        Ok(open.accessor.content(node, Some(&open.payload))?)
    }
}

impl OpenTree {
    /// Names and attributes.
    pub fn accessor(&self) -> &Accessor<RandomArchive> {
        &self.accessor
    }

    /// Contents.
    pub fn payload(&self) -> &RandomArchive {
        &self.payload
    }
}
