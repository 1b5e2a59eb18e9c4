//! What an export consists of.

use std::collections::HashMap;
use std::io::{self, Read};
use std::sync::atomic::{AtomicBool, AtomicU64};

use relight_pxar::read_at::ReadAt;
use relight_pxar::{EntryKind, Metadata, Node, format};
use relight_repo::snapshot::{Archive, Snapshot};

use super::Item;
use crate::error::Result;
use crate::files::archive_read;
use crate::files::browse::{Kind, Place, TreeView, View, join};
use crate::files::compare::kind_of;

type Take<'a> = dyn FnMut(Item, &mut dyn Read) -> Result<()> + 'a;

/// Hands over everything at `place` and below, folders before what is in them.
pub(super) fn each(view: &View, place: &Place<'_>, links: bool, take: &mut Take<'_>) -> Result<()> {
    match place {
        Place::Root => {
            for tree in view.trees() {
                entry(tree, &tree.root()?, b"", links, take)?;
            }
            for found in view.archives() {
                archive(view, found, take)?;
            }
            Ok(())
        }
        Place::Entry { tree, node, path } => entry(tree, node, path, links, take),
        Place::Archive(found) => archive(view, found, take),
    }
}

fn archive(view: &View, archive: &Archive, take: &mut Take<'_>) -> Result<()> {
    let item = Item {
        path: archive.name.clone().into_bytes(),
        kind: kind_of(archive),
        metadata: made_at(view.snapshot()),
        size: archive.root.size,
        target: Vec::new(),
        device: (0, 0),
        link: None,
    };
    take(item, &mut archive_read(view.reader(), archive.root)?)
}

/// Attributes of what had none.
fn made_at(snapshot: &Snapshot) -> Metadata {
    Metadata {
        mode: format::mode::FILE | 0o600,
        mtime: relight_pxar::FileTime {
            secs: snapshot.time.as_second(),
            nanos: 0,
        },
        ..Metadata::default()
    }
}

fn entry(tree: &TreeView, node: &Node, path: &[u8], links: bool, take: &mut Take<'_>) -> Result<()> {
    let name = match path.rsplit(|&byte| byte == b'/').next() {
        Some(name) if !name.is_empty() => name.to_vec(),
        _ => tree.name.clone().into_bytes(),
    };
    let mut names = Names {
        tree,
        base: path,
        export: &name,
        links,
        elsewhere: HashMap::new(),
    };
    one(&mut names, node, name.clone(), take)?;
    if matches!(node.kind(), EntryKind::Directory) {
        for item in tree.walk(node)? {
            let (below, node) = item?;
            one(&mut names, &node, join(&name, &below), take)?;
        }
    }
    Ok(())
}

/// Knows under which name in the export a file came first.
struct Names<'a> {
    tree: &'a TreeView,
    /// The folder of the tree that is exported, and what it is called in the export.
    base: &'a [u8],
    export: &'a [u8],
    links: bool,
    /// For files whose first name is not in the export, the name that took its place.
    elsewhere: HashMap<u64, Vec<u8>>,
}

impl Names<'_> {
    /// The name in the export that `node` is a further name of; `path` is what takes that place if there is none.
    fn link(&mut self, node: &Node, path: &[u8]) -> Result<Option<Vec<u8>>> {
        let EntryKind::Hardlink {
            target_position,
            target,
        } = node.kind()
        else {
            return Ok(None);
        };
        if !self.links {
            return Ok(None);
        }
        if let Some(first) = self.elsewhere.get(&target_position) {
            return Ok(Some(first.clone()));
        }
        let below = match (self.base, target.strip_prefix(self.base)) {
            (b"", _) => Some(target),
            (_, Some(below)) => below.strip_prefix(b"/"),
            (_, None) => None,
        };
        // What the archive says of the path is only believed if the file is there.
        if let Some(below) = below {
            let there = self.tree.open()?.accessor().lookup_path(target)?;
            if there.is_some_and(|there| there.position() == target_position) {
                return Ok(Some(join(self.export, below)));
            }
        }
        self.elsewhere.insert(target_position, path.to_vec());
        Ok(None)
    }
}

fn one(names: &mut Names<'_>, node: &Node, path: Vec<u8>, take: &mut Take<'_>) -> Result<()> {
    let tree = names.tree;
    let link = names.link(node, &path)?;
    let found = tree.resolved(node)?;
    let metadata = found.metadata()?;
    let mut item = Item {
        path,
        kind: Kind::of(&found.kind(), metadata.mode),
        metadata,
        size: 0,
        target: Vec::new(),
        device: (0, 0),
        link,
    };
    match found.kind() {
        EntryKind::File { size, .. } if item.link.is_none() => {
            item.size = size;
            let content = tree.content(&found)?;
            return take(
                item,
                &mut Sequential {
                    source: &content,
                    at: 0,
                },
            );
        }
        EntryKind::Symlink { target } => item.target = target.to_vec(),
        EntryKind::Device { major, minor } => item.device = (major, minor),
        _ => {}
    }
    take(item, &mut io::empty())
}

/// Reads from front to back what can be read anywhere.
struct Sequential<'a> {
    source: &'a dyn ReadAt,
    at: u64,
}

impl Read for Sequential<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let count = (self.source.size() - self.at).min(buffer.len() as u64) as usize;
        self.source.read_exact_at(&mut buffer[..count], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

/// The content of a single file or archive as it is, written to `target`.
pub(crate) fn content(
    view: &View,
    place: &Place<'_>,
    target: &mut dyn io::Write,
    done: &AtomicU64,
    cancelled: &AtomicBool,
) -> Result<()> {
    each(view, place, false, &mut |item, content| {
        let mut content = super::Counted {
            content,
            done,
            cancelled,
        };
        let mut buffer = vec![0; 256 << 10];
        loop {
            let count = content
                .read(&mut buffer)
                .map_err(|error| super::failed(error, &item.path))?;
            if count == 0 {
                return Ok(());
            }
            target
                .write_all(&buffer[..count])
                .map_err(|error| super::failed(error, &item.path))?;
        }
    })
}
