//! The file system as the kernel asks for it. Nothing is kept for each inode: its number says where it is found.

mod dispatch;
mod folder;
mod open_file;

use std::ffi::OsStr;
use std::sync::Arc;
use std::time::Duration;

use fuser::{Errno, FileAttr, FileType};
use relight_pxar::{DecodeError, Node, NodeId};
use relight_repo::RepoError;

use crate::attributes::{self, Owner};
use crate::content::{Readers, allocated};
use crate::handles::Handles;
use crate::inode::Inode;
use crate::names::{Child, Kind, Place};
use crate::refresh::Catalog;
use crate::source::WholeSource;
use crate::tree::{OpenTree, Trees};
use crate::trouble::Trouble;
use folder::OpenFolder;
use open_file::OpenFile;

/// How long the kernel may keep what never changes.
const FOR_LONG: Duration = Duration::from_secs(24 * 3600);
/// How long it may keep what comes and goes with snapshots.
const BRIEFLY: Duration = Duration::from_secs(1);

/// A read-only file system over a repository.
pub struct Snapshots {
    catalog: Catalog,
    readers: Readers,
    trees: Trees,
    files: Handles<OpenFile>,
    folders: Handles<OpenFolder>,
    owner: Owner,
    /// The kernel decides by owner, mode and ACL who may read.
    guarded: bool,
    trouble: Trouble,
}

/// Why a request is not answered.
enum Fault {
    /// For a reason that is the asker's own.
    Errno(Errno),
    /// A tree cannot be read.
    Tree(DecodeError),
    /// An archive cannot be read.
    Repo(RepoError),
}

impl From<Errno> for Fault {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl From<DecodeError> for Fault {
    fn from(error: DecodeError) -> Self {
        match error {
            DecodeError::WrongKind(_) => Self::Errno(Errno::ENOTDIR),
            other => Self::Tree(other),
        }
    }
}

impl From<RepoError> for Fault {
    fn from(error: RepoError) -> Self {
        Self::Repo(error)
    }
}

/// What an inode number leads to.
enum Found {
    Folder,
    Link(String),
    Whole(Arc<WholeSource>),
    Entry(Arc<OpenTree>, Node),
}

impl Snapshots {
    /// What `catalog` names. `guarded`: others than who mounts it may see it, as far as owner, mode and ACL allow.
    pub fn new(catalog: Catalog, readers: Readers, guarded: bool) -> Self {
        Self {
            catalog,
            readers,
            trees: Trees::default(),
            files: Handles::default(),
            folders: Handles::default(),
            owner: Owner::me(),
            guarded,
            trouble: Trouble::default(),
        }
    }

    /// The error code for the kernel, after a word about what it is if that is not the asker's own mistake.
    fn errno(&self, number: u64, fault: Fault) -> Errno {
        match fault {
            Fault::Errno(errno) => return errno,
            Fault::Tree(error) => self.trouble.say(number, || self.describe(number), &error),
            Fault::Repo(error) => self.trouble.say(number, || self.describe(number), &error),
        }
        Errno::EIO
    }

    /// Names what an inode number leads to.
    fn describe(&self, number: u64) -> String {
        let unknown = || format!("inode {number} of a snapshot that is gone");
        let found = match Inode::from_number(number) {
            Inode::Made(_) => match self.find(number) {
                Ok(Found::Whole(whole)) => format!("{} of {}", whole.name, whole.of),
                _ => unknown(),
            },
            Inode::InTree(tree, node) => match (self.place(tree), self.tree(tree)) {
                (_, Ok(open)) => open.describe(node),
                (Ok(place), Err(_)) => format!("{} of {}", place.tree.name, place.tree.of),
                _ => unknown(),
            },
        };
        format!("cannot read {found}")
    }

    fn place(&self, tree: u32) -> Result<Place, Fault> {
        self.catalog
            .names()
            .tree(tree)
            .cloned()
            .ok_or(Fault::Errno(Errno::ESTALE))
    }

    /// Opens the tree of that number.
    fn tree(&self, number: u32) -> Result<Arc<OpenTree>, Fault> {
        let place = self.place(number)?;
        Ok(self.trees.open(&self.readers, place.key, &place.tree)?)
    }

    /// What an inode number leads to.
    fn find(&self, number: u64) -> Result<Found, Fault> {
        match Inode::from_number(number) {
            Inode::InTree(tree, node) => {
                let tree = self.tree(tree)?;
                let node = tree.node(node)?;
                Ok(Found::Entry(tree, node))
            }
            Inode::Made(made) => {
                let names = self.catalog.names();
                Ok(match &names.made(made).ok_or(Errno::ESTALE)?.kind {
                    Kind::Folder(_) => Found::Folder,
                    Kind::Link(target) => Found::Link(target.clone()),
                    Kind::Whole(whole) => Found::Whole(whole.clone()),
                })
            }
        }
    }

    /// Attributes, and how long they hold.
    fn attributes(&self, number: u64) -> Result<(FileAttr, Duration), Fault> {
        match Inode::from_number(number) {
            Inode::Made(made) => Ok((self.made_attributes(made)?, BRIEFLY)),
            Inode::InTree(tree, node) => {
                let open = self.tree(tree)?;
                Ok((open.attributes(tree, &open.node(node)?)?, FOR_LONG))
            }
        }
    }

    fn made_attributes(&self, number: u64) -> Result<FileAttr, Fault> {
        let (kind, size, time) = {
            let names = self.catalog.names();
            let made = names.made(number).ok_or(Errno::ESTALE)?;
            match &made.kind {
                Kind::Folder(_) => (FileType::Directory, 0, made.time),
                Kind::Link(target) => (FileType::Symlink, target.len() as u64, made.time),
                Kind::Whole(whole) => {
                    let (whole, time) = (whole.clone(), made.time);
                    drop(names);
                    // Reads from the chunk list.
                    let used = self.used_bytes(&whole);
                    let (kind, size) = (FileType::RegularFile, whole.root.size);
                    return Ok(attributes::of_made(number, self.owner, kind, size, used, time));
                }
            }
        };
        Ok(attributes::of_made(number, self.owner, kind, size, 0, time))
    }

    fn used_bytes(&self, whole: &WholeSource) -> u64 {
        if let Some(known) = whole.allocated.get() {
            return *known;
        }
        // If that cannot be read, reading the file will say so.
        let found = allocated(self.readers.chunks(), whole.root).unwrap_or(whole.root.size);
        *whole.allocated.get_or_init(|| found)
    }

    /// The inode number of a child of a made-up folder.
    fn child_number(&self, child: Child) -> u64 {
        match child {
            Child::Made(number) => number,
            Child::Tree(tree) => {
                let root = self.place(tree).map_or(0, |place| place.tree.metadata.size);
                Inode::InTree(tree, NodeId::from_raw(root))
                    .number()
                    .unwrap_or_default()
            }
        }
    }

    /// Attributes of a child of a made-up folder, and how long they hold.
    fn child_attributes(&self, child: Child) -> Result<(FileAttr, Duration), Fault> {
        match child {
            Child::Made(number) => Ok((self.made_attributes(number)?, BRIEFLY)),
            Child::Tree(tree) => {
                let open = self.tree(tree)?;
                let root = self.place(tree)?.tree.metadata.size;
                let node = open.node(NodeId::from_raw(root))?;
                Ok((open.attributes(tree, &node)?, FOR_LONG))
            }
        }
    }

    /// What has that name in a folder or directory: its attributes, how long the name and how long the attributes hold.
    /// None if there is nothing of that name, and never will be.
    fn lookup(&self, parent: u64, name: &OsStr) -> Result<Option<(FileAttr, Duration, Duration)>, Fault> {
        match Inode::from_number(parent) {
            Inode::InTree(number, directory) => {
                let tree = self.tree(number)?;
                let Some(node) = tree.lookup(directory, name)? else {
                    return Ok(None);
                };
                Ok(Some((tree.attributes(number, &node)?, FOR_LONG, FOR_LONG)))
            }
            Inode::Made(folder) => {
                let child = {
                    let names = self.catalog.fresh_names();
                    let made = names.made(folder).ok_or(Errno::ESTALE)?;
                    let Kind::Folder(children) = &made.kind else {
                        return Err(Errno::ENOTDIR.into());
                    };
                    let name = name.to_str().ok_or(Errno::ENOENT)?;
                    *children.get(name).ok_or(Errno::ENOENT)?
                };
                // What cannot be read is the child, not the folder.
                let blame = |fault| Fault::Errno(self.errno(self.child_number(child), fault));
                let (attributes, ttl) = self.child_attributes(child).map_err(blame)?;
                Ok(Some((attributes, BRIEFLY, ttl)))
            }
        }
    }
}
