//! What differs between two snapshots of one repository.
//!
//! A file counts as unchanged when size and modification time are the same, unless contents are asked for. Contents
//! are compared by the chunks they lie in; only what lies in different chunks is read.

mod content;
mod entries;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use relight_pxar::Metadata;
use relight_repo::RepoError;
use relight_repo::read::ChunkReader;
use relight_repo::snapshot::Archive;
use serde::Serialize;

use super::browse::{Kind, Place, TreeView, View};
use crate::error::{Result, WorkloadError};
use crate::image;

/// A difference.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The path in the snapshot, without a slash in front.
    pub path: Vec<u8>,
    /// What is there (in the right snapshot, unless it was removed).
    pub kind: Kind,
    /// What happened to it.
    pub change: Change,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// Only the right snapshot has it.
    Added,
    /// Only the left snapshot has it.
    Removed,
    /// It was another kind of thing in the left snapshot.
    Type(Kind),
    /// It is in both, and differs.
    Modified {
        /// Its content: what a file, image or stream holds.
        content: bool,
        /// Its attributes.
        attributes: Vec<Attribute>,
    },
}

/// What else can differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Attribute {
    /// Permission bits.
    Mode,
    /// Numeric owner.
    Owner,
    /// Numeric group.
    Group,
    /// Modification time.
    ModificationTime,
    /// Inode flags (`chattr`).
    Flags,
    /// Extended attributes.
    Xattrs,
    /// Access control lists.
    Acl,
    /// File capabilities.
    Capabilities,
    /// Project id of quotas.
    Project,
    /// What a symbolic link points at.
    Target,
    /// Numbers of a device.
    Device,
}

/// How to compare.
#[derive(Debug, Clone, Default)]
pub struct Options {
    /// Compare contents also where size and modification time are the same.
    pub contents: bool,
    /// Becomes true when somebody asks to stop.
    pub cancelled: Arc<AtomicBool>,
}

/// One comparison under way.
struct Comparison<'o> {
    options: &'o Options,
    report: &'o mut dyn FnMut(Difference) -> Result<()>,
}

/// Tells `report` what differs between two snapshots, or between what is at `path` in each of them.
///
/// # Errors
/// What `report` gives; [`WorkloadError::Refused`] if neither has the path; what goes wrong with reading.
pub fn compare(
    left: &View,
    right: &View,
    path: Option<&[u8]>,
    options: &Options,
    report: &mut dyn FnMut(Difference) -> Result<()>,
) -> Result<()> {
    let mut comparison = Comparison { options, report };
    let Some(path) = path else {
        return comparison.views(left, right);
    };
    match (left.find(path)?, right.find(path)?) {
        (None, None) => right.at(path).map(drop),
        (Some(Place::Root), Some(Place::Root)) => comparison.views(left, right),
        (one, other) => comparison.places(right.reader(), one, other),
    }
}

impl Comparison<'_> {
    fn check(&self) -> Result<()> {
        if self.options.cancelled.load(Ordering::Relaxed) {
            return Err(RepoError::Cancelled.into());
        }
        Ok(())
    }

    fn tell(&mut self, path: &[u8], kind: Kind, change: Change) -> Result<()> {
        (self.report)(Difference {
            path: path.to_vec(),
            kind,
            change,
        })
    }

    fn views(&mut self, left: &View, right: &View) -> Result<()> {
        for tree in left.trees() {
            match counterpart(tree, left, right) {
                Some(other) => self.trees(tree, other)?,
                None => self.whole_tree(tree, Change::Removed)?,
            }
        }
        for tree in right.trees() {
            if counterpart(tree, right, left).is_none() {
                self.whole_tree(tree, Change::Added)?;
            }
        }
        for archive in left.archives() {
            let other = right.archives().find(|other| other.name == archive.name);
            self.archives(left.reader(), Some(archive), other)?;
        }
        for archive in right.archives() {
            if !left.archives().any(|other| other.name == archive.name) {
                self.archives(right.reader(), None, Some(archive))?;
            }
        }
        Ok(())
    }

    fn trees(&mut self, left: &TreeView, right: &TreeView) -> Result<()> {
        let same_contents = left.payload.root == right.payload.root;
        if left.metadata.root == right.metadata.root && (same_contents || !self.options.contents) {
            return Ok(());
        }
        let path = right.name.clone().into_bytes();
        self.entries((left, &left.root()?), (right, &right.root()?), &path)
    }

    fn whole_tree(&mut self, tree: &TreeView, change: Change) -> Result<()> {
        let path = tree.name.clone().into_bytes();
        self.whole(tree, &tree.root()?, &path, &change)
    }

    fn places(
        &mut self,
        reader: &Arc<ChunkReader>,
        left: Option<Place<'_>>,
        right: Option<Place<'_>>,
    ) -> Result<()> {
        match (left, right) {
            (Some(Place::Entry { tree: a, node: left, .. }), Some(Place::Entry { tree: b, node: right, path })) => {
                self.entries((a, &left), (b, &right), &in_snapshot(b, &path))
            }
            (Some(Place::Entry { tree, node, path }), None) => {
                self.whole(tree, &node, &in_snapshot(tree, &path), &Change::Removed)
            }
            (None, Some(Place::Entry { tree, node, path })) => {
                self.whole(tree, &node, &in_snapshot(tree, &path), &Change::Added)
            }
            (Some(Place::Archive(left)), Some(Place::Archive(right))) => {
                self.archives(reader, Some(left), Some(right))
            }
            (Some(Place::Archive(left)), None) => self.archives(reader, Some(left), None),
            (None, Some(Place::Archive(right))) => self.archives(reader, None, Some(right)),
            _ => Err(WorkloadError::Refused(
                "the path is a tree in one of the snapshots and an image or a stream in the other; compare the \
                 snapshots without a path"
                    .into(),
            )),
        }
    }

    fn archives(
        &mut self,
        reader: &Arc<ChunkReader>,
        left: Option<&Archive>,
        right: Option<&Archive>,
    ) -> Result<()> {
        self.check()?;
        let Some(shown) = right.or(left) else {
            return Ok(());
        };
        let change = match (left, right) {
            (Some(left), Some(right)) if kind_of(left) != kind_of(right) => Change::Type(kind_of(left)),
            (Some(left), Some(right)) => {
                let whole = |archive: &Archive| content::Part {
                    root: archive.root,
                    start: 0,
                    size: archive.root.size,
                };
                if content::Contents::new(reader, reader).are_equal(whole(left), whole(right))? {
                    return Ok(());
                }
                Change::Modified {
                    content: true,
                    attributes: Vec::new(),
                }
            }
            (None, _) => Change::Added,
            (_, None) => Change::Removed,
        };
        self.tell(shown.name.as_bytes(), kind_of(shown), change)
    }
}

/// The same tree in another snapshot: saved from the same place, or else of the same name.
fn counterpart<'v>(tree: &TreeView, own: &View, others: &'v View) -> Option<&'v TreeView> {
    let same_place = |tree: &TreeView, view: &'v View| -> Option<&'v TreeView> {
        tree.path.as_ref()?;
        view.trees().iter().find(|other| other.path == tree.path)
    };
    if let Some(other) = same_place(tree, others) {
        return Some(other);
    }
    // One that has a counterpart by its place is not taken by its name.
    let free =
        |other: &&TreeView| other.path.is_none() || !own.trees().iter().any(|tree| tree.path == other.path);
    others
        .trees()
        .iter()
        .find(|other| other.name == tree.name)
        .filter(free)
}

/// What an archive that is no tree is.
pub fn kind_of(archive: &Archive) -> Kind {
    if archive.name.ends_with(image::IMAGE) {
        Kind::Image
    } else {
        Kind::Stream
    }
}

fn in_snapshot(tree: &TreeView, path: &[u8]) -> Vec<u8> {
    super::browse::join(tree.name.as_bytes(), path)
}

/// Which attributes differ. The times of folders count like those of files.
fn attributes(left: &Metadata, right: &Metadata) -> Vec<Attribute> {
    const PERMISSIONS: u32 = 0o7777;
    let checks = [
        (
            left.mode & PERMISSIONS != right.mode & PERMISSIONS,
            Attribute::Mode,
        ),
        (left.uid != right.uid, Attribute::Owner),
        (left.gid != right.gid, Attribute::Group),
        (left.mtime != right.mtime, Attribute::ModificationTime),
        (left.flags != right.flags, Attribute::Flags),
        (sorted(left) != sorted(right), Attribute::Xattrs),
        (left.acl != right.acl, Attribute::Acl),
        (left.fcaps != right.fcaps, Attribute::Capabilities),
        (left.project_id != right.project_id, Attribute::Project),
    ];
    checks
        .into_iter()
        .filter_map(|(differs, attribute)| differs.then_some(attribute))
        .collect()
}

/// Archives of others may keep extended attributes in any order.
fn sorted(metadata: &Metadata) -> Vec<&(Vec<u8>, Vec<u8>)> {
    let mut xattrs: Vec<_> = metadata.xattrs.iter().collect();
    xattrs.sort_unstable();
    xattrs
}

impl std::fmt::Display for Attribute {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(match self {
            Self::Mode => "mode",
            Self::Owner => "owner",
            Self::Group => "group",
            Self::ModificationTime => "modification time",
            Self::Flags => "flags",
            Self::Xattrs => "extended attributes",
            Self::Acl => "ACL",
            Self::Capabilities => "capabilities",
            Self::Project => "project id",
            Self::Target => "target",
            Self::Device => "device",
        })
    }
}
