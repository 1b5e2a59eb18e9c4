//! Compares entries of trees: folders by going through both at once in the order of names.

use std::cmp::Ordering;
use std::iter::Peekable;

use relight_pxar::{ContentPlace, EntryKind, Node, payload};

use super::content::{Contents, Part};
use super::{Attribute, Change, Comparison, attributes};
use crate::error::Result;
use crate::files::browse::{Children, Kind, TreeView, join};

/// An entry and the tree it is in.
type Entry<'v> = (&'v TreeView, &'v Node);

/// Two folders of the same path, as far as they have been gone through.
struct Pair<'v> {
    path: Vec<u8>,
    left: Peekable<Children<'v>>,
    right: Peekable<Children<'v>>,
}

impl Comparison<'_> {
    /// Two entries of the same path, and all below them.
    pub(super) fn entries(&mut self, left: Entry<'_>, right: Entry<'_>, path: &[u8]) -> Result<()> {
        let mut contents = Contents::new(left.0.reader(), right.0.reader());
        let mut open = Vec::new();
        open.extend(self.pair(left, right, path, &mut contents)?);
        while let Some(pair) = open.last_mut() {
            self.check()?;
            let order = match (pair.left.peek(), pair.right.peek()) {
                (None, None) => {
                    open.pop();
                    continue;
                }
                (Some(Ok(left)), Some(Ok(right))) => left.name().cmp(right.name()),
                (Some(Err(_)), _) | (Some(_), None) => Ordering::Less,
                (_, Some(_)) => Ordering::Greater,
            };
            let one = if order.is_le() {
                pair.left.next().transpose()?
            } else {
                None
            };
            let other = if order.is_ge() {
                pair.right.next().transpose()?
            } else {
                None
            };
            let name = one
                .as_ref()
                .or(other.as_ref())
                .map(Node::name)
                .unwrap_or_default();
            let path = join(&pair.path, name);
            match (&one, &other) {
                (Some(one), Some(other)) => {
                    let below = self.pair((left.0, one), (right.0, other), &path, &mut contents)?;
                    open.extend(below);
                }
                (Some(one), None) => self.whole(left.0, one, &path, &Change::Removed)?,
                (None, Some(other)) => self.whole(right.0, other, &path, &Change::Added)?,
                (None, None) => {}
            }
        }
        Ok(())
    }

    /// An entry that only one has, and all below it.
    pub(super) fn whole(&mut self, tree: &TreeView, node: &Node, path: &[u8], change: &Change) -> Result<()> {
        self.tell(path, kind(tree, node)?, change.clone())?;
        if !matches!(node.kind(), EntryKind::Directory) {
            return Ok(());
        }
        for item in tree.walk(node)? {
            self.check()?;
            let (below, node) = item?;
            self.tell(&join(path, &below), kind(tree, &node)?, change.clone())?;
        }
        Ok(())
    }

    /// Compares two entries without what is below them; gives that if both are folders.
    fn pair<'v>(
        &mut self,
        left: (&'v TreeView, &Node),
        right: (&'v TreeView, &Node),
        path: &[u8],
        contents: &mut Contents,
    ) -> Result<Option<Pair<'v>>> {
        let (one, other) = (left.0.resolved(left.1)?, right.0.resolved(right.1)?);
        let (was, is) = (kind(left.0, &one)?, kind(right.0, &other)?);
        if was != is {
            self.tell(path, is, Change::Type(was))?;
            // What was in a folder went with it, or came with it.
            if was == Kind::Directory {
                self.below(left.0, &one, path, &Change::Removed)?;
            }
            if is == Kind::Directory {
                self.below(right.0, &other, path, &Change::Added)?;
            }
            return Ok(None);
        }
        let (before, after) = (one.metadata()?, other.metadata()?);
        let mut differing = attributes(&before, &after);
        let mut content = false;
        match (one.kind(), other.kind()) {
            (
                EntryKind::File { size, content: from },
                EntryKind::File {
                    size: new_size,
                    content: to,
                },
            ) => {
                content = size != new_size;
                if !content && (self.options.contents || before.mtime != after.mtime) {
                    content = !contents.are_equal(part(left.0, size, from), part(right.0, size, to))?;
                }
            }
            (EntryKind::Symlink { target }, EntryKind::Symlink { target: new }) if target != new => {
                differing.push(Attribute::Target);
            }
            (EntryKind::Device { .. }, EntryKind::Device { .. }) if one.kind() != other.kind() => {
                differing.push(Attribute::Device);
            }
            _ => {}
        }
        if content || !differing.is_empty() {
            self.tell(
                path,
                is,
                Change::Modified {
                    content,
                    attributes: differing,
                },
            )?;
        }
        if is != Kind::Directory {
            return Ok(None);
        }
        Ok(Some(Pair {
            path: path.to_vec(),
            left: left.0.children(&one)?.peekable(),
            right: right.0.children(&other)?.peekable(),
        }))
    }

    fn below(&mut self, tree: &TreeView, node: &Node, path: &[u8], change: &Change) -> Result<()> {
        for item in tree.walk(node)? {
            self.check()?;
            let (below, node) = item?;
            self.tell(&join(path, &below), kind(tree, &node)?, change.clone())?;
        }
        Ok(())
    }
}

/// What an entry is; of a hard link what it points at is.
fn kind(tree: &TreeView, node: &Node) -> Result<Kind> {
    let node = tree.resolved(node)?;
    let mode = node.stat()?.map_or(0, |stat| stat.mode);
    Ok(Kind::of(&node.kind(), mode))
}

/// Where the content of a file lies.
fn part(tree: &TreeView, size: u64, place: ContentPlace) -> Part {
    match place {
        ContentPlace::Payload { offset } => Part {
            root: tree.payload.root,
            start: payload::content_start(offset),
            size,
        },
        ContentPlace::Inline { offset } => Part {
            root: tree.metadata.root,
            start: offset,
            size,
        },
    }
}
