//! Directories that are open.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use fuser::{Errno, FileAttr, FileType, INodeNo};
use relight_pxar::ChildList;

use super::{BRIEFLY, FOR_LONG, Fault, Snapshots};
use crate::attributes;
use crate::inode::Inode;
use crate::names::{Child, Kind};
use crate::tree::OpenTree;

/// A directory that is open.
pub struct OpenFolder {
    number: u64,
    parent: u64,
    content: Content,
    /// Something in it could not be read.
    damaged: AtomicBool,
}

enum Content {
    /// Made up: what was in it when it was opened.
    Made(Vec<(String, Child)>),
    Tree(u32, Arc<OpenTree>, ChildList),
}

/// One name as a listing gives it.
pub struct Listed<'a> {
    /// Where the listing goes on behind it.
    pub next: u64,
    /// The name.
    pub name: &'a OsStr,
    /// What it is; whole if that was asked for.
    pub attributes: FileAttr,
    /// How long the attributes hold.
    pub ttl: Duration,
}

impl OpenFolder {
    /// Its inode number.
    pub fn number(&self) -> u64 {
        self.number
    }
}

impl Snapshots {
    /// Opens a directory.
    pub(super) fn open_folder(&self, number: u64) -> Result<OpenFolder, Fault> {
        let (parent, content) = match Inode::from_number(number) {
            Inode::Made(made) => {
                let names = self.catalog.fresh_names();
                let made = names.made(made).ok_or(Errno::ESTALE)?;
                let Kind::Folder(children) = &made.kind else {
                    return Err(Errno::ENOTDIR.into());
                };
                let children = children.iter().map(|(name, child)| (name.clone(), *child));
                (made.parent, Content::Made(children.collect()))
            }
            Inode::InTree(tree, node) => {
                let open = self.tree(tree)?;
                let list = open.list(node)?;
                let place = self.place(tree)?;
                let is_root = node.to_raw() == place.tree.metadata.size;
                // Of others the parent is not known; nobody relies on the number, which is only for show.
                (
                    if is_root { place.parent } else { number },
                    Content::Tree(tree, open, list),
                )
            }
        };
        Ok(OpenFolder {
            number,
            parent,
            content,
            damaged: AtomicBool::new(false),
        })
    }

    /// Lists a directory from `offset` on until `take` says that there is no more room. `whole`: with all attributes, not
    /// only number and type.
    pub(super) fn list(
        &self,
        folder: &OpenFolder,
        offset: u64,
        whole: bool,
        take: &mut dyn FnMut(Listed<'_>) -> bool,
    ) -> Result<(), Fault> {
        for (at, name, number) in [(0, ".", folder.number), (1, "..", folder.parent)] {
            let attributes = self.bare(number, FileType::Directory);
            let listed = Listed {
                next: at + 1,
                name: OsStr::new(name),
                attributes,
                ttl: Duration::ZERO,
            };
            if offset <= at && take(listed) {
                return Ok(());
            }
        }
        let from = usize::try_from(offset.saturating_sub(2)).unwrap_or(usize::MAX);
        match &folder.content {
            Content::Made(children) => {
                let rest = children.iter().enumerate().skip(from);
                for (at, (name, child)) in rest {
                    let (attributes, ttl) = self.listed_child(*child, whole);
                    if take(Listed {
                        next: at as u64 + 3,
                        name: OsStr::new(name),
                        attributes,
                        ttl,
                    }) {
                        return Ok(());
                    }
                }
            }
            Content::Tree(tree, open, list) => {
                for (at, item) in (from..).zip(open.listed(list, from)) {
                    let attributes = item.and_then(|(name, node)| {
                        if whole {
                            return Ok((name, open.attributes(*tree, &node)?));
                        }
                        let kind = node.stat()?.as_ref().and_then(attributes::file_type);
                        let number = Inode::InTree(*tree, node.id()).number().unwrap_or_default();
                        Ok((name, self.bare(number, kind.unwrap_or(FileType::RegularFile))))
                    });
                    let (name, attributes) = match attributes {
                        Ok(listed) => listed,
                        Err(error) => {
                            // The others are listed; the end will tell that some are missing.
                            folder.damaged.store(true, Ordering::Relaxed);
                            self.errno(folder.number, error.into());
                            continue;
                        }
                    };
                    let name = OsStr::from_bytes(&name);
                    if take(Listed {
                        next: at as u64 + 3,
                        name,
                        attributes,
                        ttl: FOR_LONG,
                    }) {
                        return Ok(());
                    }
                }
                // Only an empty answer is the end of a listing.
                if folder.damaged.load(Ordering::Relaxed) && from >= list.len() {
                    return Err(Errno::EIO.into());
                }
            }
        }
        Ok(())
    }

    fn listed_child(&self, child: Child, whole: bool) -> (FileAttr, Duration) {
        if whole && let Ok(found) = self.child_attributes(child) {
            return found;
        }
        // A tree that cannot be read is listed all the same; whoever enters it gets the error.
        let kind = match child {
            Child::Tree(_) => FileType::Directory,
            Child::Made(number) => match self.catalog.names().made(number).map(|made| &made.kind) {
                Some(Kind::Link(_)) => FileType::Symlink,
                Some(Kind::Whole(_)) => FileType::RegularFile,
                Some(Kind::Folder(_)) | None => FileType::Directory,
            },
        };
        let number = self.child_number(child);
        (
            self.bare(number, kind),
            if whole { Duration::ZERO } else { BRIEFLY },
        )
    }

    /// Attributes of which only number and type are of use.
    fn bare(&self, number: u64, kind: FileType) -> FileAttr {
        let mut bare = attributes::of_made(number, self.owner, kind, 0, 0, jiff::Timestamp::UNIX_EPOCH);
        bare.ino = INodeNo(number);
        bare
    }
}
