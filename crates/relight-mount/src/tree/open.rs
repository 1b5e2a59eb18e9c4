//! One tree of files that is open.

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::sync::{Arc, Mutex};

use fuser::FileAttr;
use relight_pxar::{Accessor, ChildList, ContentPlace, DecodeError, EntryKind, Node, NodeId, payload};
use relight_repo::read::ArchiveReader;

use super::links::Links;
use crate::attributes;
use crate::content::{Bytes, Readers};
use crate::inode::Inode;
use crate::source::TreeSource;

/// A tree that is open.
pub struct OpenTree {
    source: Arc<TreeSource>,
    accessor: Accessor<Bytes>,
    readers: Readers,
    /// Read when the first file is looked at.
    links: Mutex<Option<Arc<Links>>>,
}

/// Where the content of a file is.
pub struct FileContent {
    /// The archive it lies in.
    pub reader: ArchiveReader,
    /// Its first byte there.
    pub start: u64,
    /// Its length in bytes.
    pub size: u64,
}

impl OpenTree {
    /// Opens a tree: reads its beginning.
    pub fn open(readers: &Readers, source: &Arc<TreeSource>) -> Result<Self, DecodeError> {
        let metadata = ArchiveReader::sharing(readers.metadata.clone(), source.metadata);
        Ok(Self {
            source: source.clone(),
            accessor: Accessor::open(Bytes(metadata))?,
            readers: readers.clone(),
            links: Mutex::default(),
        })
    }

    /// An entry.
    pub fn node(&self, id: NodeId) -> Result<Node, DecodeError> {
        self.accessor.node(id)
    }

    /// What has that name in a directory; of a hard link what it points at.
    pub fn lookup(&self, directory: NodeId, name: &OsStr) -> Result<Option<Node>, DecodeError> {
        let directory = self.accessor.directory(&self.accessor.node(directory)?)?;
        match self.accessor.lookup(&directory, name.as_bytes())? {
            Some(node) => self.accessor.resolve_hardlink(&node).map(Some),
            None => Ok(None),
        }
    }

    /// Where the children of a directory are.
    pub fn list(&self, directory: NodeId) -> Result<ChildList, DecodeError> {
        self.accessor
            .child_list(&self.accessor.directory(&self.accessor.node(directory)?)?)
    }

    /// The children of a directory from number `from` on: name, and the entry (of a hard link what it points at).
    pub fn listed<'a>(
        &'a self,
        list: &'a ChildList,
        from: usize,
    ) -> impl Iterator<Item = Result<(Vec<u8>, Node), DecodeError>> + 'a {
        self.accessor.listed(list, from).map(|node| {
            let node = node?;
            let name = node.name().to_vec();
            match node.kind() {
                EntryKind::Hardlink { .. } => Ok((name, self.accessor.resolve_hardlink(&node)?)),
                _ => Ok((name, node)),
            }
        })
    }

    /// Attributes of an entry (not of a hard link) in the tree of that number.
    pub fn attributes(&self, tree: u32, node: &Node) -> Result<FileAttr, DecodeError> {
        let damaged = |what| DecodeError::Damaged {
            position: node.position(),
            what,
        };
        let stat = node
            .stat()?
            .ok_or_else(|| damaged("an entry has no attributes"))?;
        let kind = node.kind();
        let number = Inode::InTree(tree, node.id()).number();
        let number = number.ok_or_else(|| damaged("it lies beyond the 2 TiB that a mount can number"))?;
        let links = match kind {
            EntryKind::File { .. } => self.links()?.map_or(1, |links| links.of(node.id())),
            _ => 1,
        };
        attributes::of_entry(number, &stat, &kind, links)
            .ok_or_else(|| damaged("its mode is that of no kind of file"))
    }

    /// The content of a regular file.
    pub fn content(&self, node: &Node) -> Result<FileContent, DecodeError> {
        let payload = Bytes(ArchiveReader::sharing(
            self.readers.data.clone(),
            self.source.payload,
        ));
        // Checks that it lies where the metadata say.
        self.accessor.content(node, Some(&payload))?;
        let EntryKind::File { size, content } = node.kind() else {
            return Err(DecodeError::WrongKind("the entry is not a regular file"));
        };
        Ok(match content {
            ContentPlace::Payload { offset } => FileContent {
                reader: payload.0,
                start: payload::content_start(offset),
                size,
            },
            ContentPlace::Inline { offset } => FileContent {
                reader: ArchiveReader::sharing(self.readers.data.clone(), self.source.metadata),
                start: offset,
                size,
            },
        })
    }

    /// Names an entry in words: its path and snapshot.
    pub fn describe(&self, id: NodeId) -> String {
        let path = self
            .path(id)
            .unwrap_or_else(|| format!("<entry {}>", id.to_raw() & !(1 << 63)));
        let slash = if path.is_empty() { "" } else { "/" };
        format!("{}{slash}{path} of {}", self.source.name, self.source.of)
    }

    /// The path of an entry. The archive knows no parents; but an entry lies within its directory.
    fn path(&self, id: NodeId) -> Option<String> {
        let mut path = Vec::new();
        let mut directory = self.accessor.root().ok()?;
        let place = id.to_raw() & !(1 << 63);
        while directory.id() != id {
            let children = self
                .accessor
                .children(&self.accessor.directory(&directory).ok()?)
                .ok()?;
            // The last that begins before it; a directory is named by its end.
            let holds = |node: &Node| {
                if node.id().is_directory() {
                    node.position() < place && place <= node.id().to_raw()
                } else {
                    node.id() == id
                }
            };
            let child = children.map_while(Result::ok).find(holds)?;
            path.push(String::from_utf8_lossy(child.name()).into_owned());
            if !child.id().is_directory() {
                break;
            }
            directory = child;
        }
        Some(path.join("/"))
    }

    /// Which files have several names; none if no file has. Reads all names of the tree the first time.
    fn links(&self) -> Result<Option<Arc<Links>>, DecodeError> {
        if !self.source.may_have_links {
            return Ok(None);
        }
        let mut links = self.links.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        if links.is_none() {
            *links = Some(Arc::new(Links::read(self.accessor.archive())?));
        }
        Ok(links.clone())
    }
}
