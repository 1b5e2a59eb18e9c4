//! The wanted entries of an archive in its order, from a sequential or a random reader.

use super::selection::{Selection, Standing};
use super::source::ArchiveStream;
use crate::accessor::{Accessor, Node, NodeId};
use crate::decoder::{Decoder, Event};
use crate::entry::{ContentPlace, EntryKind};
use crate::error::DecodeError;
use crate::metadata::Metadata;
use crate::read_at::ReadAt;

/// An entry, owned.
#[derive(Debug)]
pub(in crate::fs) struct Item {
    /// Name in its directory; empty for the root.
    pub name: Vec<u8>,
    /// Where it lies in the archive: names it as long as the archive exists, and rises.
    pub position: u64,
    /// Empty for a hard link.
    pub metadata: Metadata,
    pub kind: ItemKind,
}

/// What an entry is.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::fs) enum ItemKind {
    Directory,
    File { size: u64, content: ContentPlace },
    Symlink { target: Vec<u8> },
    Device { major: u64, minor: u64 },
    Fifo,
    Socket,
    Hardlink { target_position: u64, target: Vec<u8> },
}

/// A step through the archive.
#[derive(Debug)]
#[expect(clippy::large_enum_variant, reason = "there is only one of it at a time")]
pub(in crate::fs) enum Step {
    /// An entry, and how its path stands to the selection. Behind a directory come the steps within it.
    Entry(Item, Standing),
    /// The end of the directory entered last.
    Leave,
}

/// Steps through the entries of an archive that are wanted or above something wanted.
pub(in crate::fs) enum Items<'a> {
    Sequential(Box<Decoder<Box<dyn ArchiveStream + 'a>>>),
    Random(RandomItems<'a>),
}

/// Name and id of an entry still to come: directories may be large, so no more of it is kept.
type Child = (Box<[u8]>, NodeId);

/// Looks wanted entries up.
pub(in crate::fs) struct RandomItems<'a> {
    accessor: Accessor<&'a dyn ReadAt>,
    /// What is left of each open directory, in reverse.
    levels: Vec<Vec<Child>>,
    /// Path of the innermost open directory.
    path: Vec<u8>,
    lengths: Vec<usize>,
    started: bool,
    /// Where the inline content of the file handed out last goes on, and how much of it is left.
    content: (u64, u64),
}

fn own(kind: &EntryKind<'_>) -> ItemKind {
    match *kind {
        EntryKind::Directory => ItemKind::Directory,
        EntryKind::File { size, content } => ItemKind::File { size, content },
        EntryKind::Symlink { target } => ItemKind::Symlink {
            target: target.to_vec(),
        },
        EntryKind::Device { major, minor } => ItemKind::Device { major, minor },
        EntryKind::Fifo => ItemKind::Fifo,
        EntryKind::Socket => ItemKind::Socket,
        EntryKind::Hardlink {
            target_position,
            target,
        } => ItemKind::Hardlink {
            target_position,
            target: target.to_vec(),
        },
    }
}

impl<'a> Items<'a> {
    pub fn sequential(metadata: Box<dyn ArchiveStream + 'a>) -> Result<Self, DecodeError> {
        Ok(Self::Sequential(Box::new(Decoder::seekable(metadata)?)))
    }

    pub fn random(archive: &'a dyn ReadAt) -> Result<Self, DecodeError> {
        Ok(Self::Random(RandomItems::open(archive)?))
    }

    /// The next step; none after the end.
    pub fn next(&mut self, selection: &Selection) -> Result<Option<Step>, DecodeError> {
        match self {
            Self::Sequential(decoder) => sequential_step(decoder, selection),
            Self::Random(items) => items.next(selection),
        }
    }

    /// The entry (no directory) at `position`, to be asked of a random reader only.
    pub fn at(&mut self, position: u64) -> Result<Item, DecodeError> {
        match self {
            Self::Sequential(_) => Err(DecodeError::WrongKind(
                "an archive that is read in order has no entries by position",
            )),
            Self::Random(items) => items.at(position),
        }
    }

    /// Passes over what is left of the directory entered last, and its end.
    pub fn skip_directory(&mut self) -> Result<(), DecodeError> {
        match self {
            Self::Sequential(decoder) => decoder.skip_directory(),
            Self::Random(items) => {
                items.leave();
                Ok(())
            }
        }
    }

    /// Reads on in the content of the file handed out last where it lies in the archive itself; 0 at its end.
    pub fn inline(&mut self, buffer: &mut [u8]) -> Result<usize, DecodeError> {
        match self {
            Self::Sequential(decoder) => decoder.read_content(buffer),
            Self::Random(items) => items.inline(buffer),
        }
    }
}

fn sequential_step(
    decoder: &mut Decoder<Box<dyn ArchiveStream + '_>>,
    selection: &Selection,
) -> Result<Option<Step>, DecodeError> {
    loop {
        let (item, standing) = match decoder.next()? {
            None => return Ok(None),
            Some(Event::EndDirectory { .. }) => return Ok(Some(Step::Leave)),
            Some(Event::Entry(entry)) => {
                let standing = selection.standing(entry.path);
                let is_directory = matches!(entry.kind, EntryKind::Directory);
                match standing {
                    Standing::Outside if is_directory => (None, standing),
                    Standing::Outside => continue,
                    Standing::Above if !is_directory => continue,
                    _ => {
                        let item = Item {
                            name: entry.name.to_vec(),
                            position: entry.position,
                            metadata: entry.decode_metadata()?,
                            kind: own(&entry.kind),
                        };
                        (Some(item), standing)
                    }
                }
            }
        };
        match item {
            Some(item) => return Ok(Some(Step::Entry(item, standing))),
            None => decoder.skip_directory()?,
        }
    }
}

impl<'a> RandomItems<'a> {
    fn open(archive: &'a dyn ReadAt) -> Result<Self, DecodeError> {
        Ok(Self {
            accessor: Accessor::open(archive)?,
            levels: Vec::new(),
            path: Vec::new(),
            lengths: Vec::new(),
            started: false,
            content: (0, 0),
        })
    }

    fn next(&mut self, selection: &Selection) -> Result<Option<Step>, DecodeError> {
        loop {
            let (name, id) = if !std::mem::replace(&mut self.started, true) {
                (Vec::new(), self.accessor.root_id())
            } else {
                let Some(level) = self.levels.last_mut() else {
                    return Ok(None);
                };
                match level.pop() {
                    Some((name, id)) => (name.into_vec(), id),
                    None => {
                        self.leave();
                        return Ok(Some(Step::Leave));
                    }
                }
            };
            let node = self.accessor.node(id)?;
            let mut path = self.path.clone();
            if !path.is_empty() {
                path.push(b'/');
            }
            path.extend_from_slice(&name);
            let standing = selection.standing(&path);
            let is_directory = matches!(node.kind(), EntryKind::Directory);
            if standing == Standing::Outside || (standing == Standing::Above && !is_directory) {
                continue;
            }
            if is_directory {
                let mut children = self.wanted(&node, &path, standing, selection)?;
                children.reverse();
                self.lengths.push(self.path.len());
                self.levels.push(children);
                self.path = path;
            }
            return Ok(Some(Step::Entry(self.hand_out(name, &node)?, standing)));
        }
    }

    fn at(&mut self, position: u64) -> Result<Item, DecodeError> {
        let node = self.accessor.node(NodeId::of_entry(position))?;
        self.hand_out(node.name().to_vec(), &node)
    }

    fn hand_out(&mut self, name: Vec<u8>, node: &Node) -> Result<Item, DecodeError> {
        self.content = match node.kind() {
            EntryKind::File {
                size,
                content: ContentPlace::Inline { offset },
            } => (offset, size),
            _ => (0, 0),
        };
        Ok(Item {
            name,
            position: node.position(),
            metadata: node.metadata()?,
            kind: own(&node.kind()),
        })
    }

    fn inline(&mut self, buffer: &mut [u8]) -> Result<usize, DecodeError> {
        let (at, left) = &mut self.content;
        let count = usize::try_from(*left).unwrap_or(usize::MAX).min(buffer.len());
        if count > 0 {
            self.accessor.archive().read_exact_at(&mut buffer[..count], *at)?;
            *at += count as u64;
            *left -= count as u64;
        }
        Ok(count)
    }

    /// The children of a directory that are wanted, in the order of the archive.
    fn wanted(
        &self,
        node: &Node,
        path: &[u8],
        standing: Standing,
        selection: &Selection,
    ) -> Result<Vec<Child>, DecodeError> {
        let directory = self.accessor.directory(node)?;
        let child = |node: Node| (node.name().into(), node.id());
        if standing == Standing::Inside {
            return self
                .accessor
                .children(&directory)?
                .map(|node| Ok(child(node?)))
                .collect();
        }
        let mut nodes = Vec::new();
        for name in selection.names_in(path) {
            nodes.extend(self.accessor.lookup(&directory, name)?);
        }
        nodes.sort_unstable_by_key(Node::position);
        Ok(nodes.into_iter().map(child).collect())
    }

    fn leave(&mut self) {
        self.levels.pop();
        self.path.truncate(self.lengths.pop().unwrap_or(0));
    }
}
