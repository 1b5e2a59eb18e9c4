//! Goes through folders of a tree, in the order of their names.

use relight_pxar::{Accessor, EntryKind, Node};

use super::path::join;
use crate::error::{Result, WorkloadError};
use crate::files::content::RandomArchive;

/// The children of a folder by name.
pub struct Children<'t> {
    children: relight_pxar::Children<'t, RandomArchive>,
    last: Option<Vec<u8>>,
}

impl<'t> Children<'t> {
    pub(super) fn new(accessor: &'t Accessor<RandomArchive>, node: &Node) -> Result<Self> {
        let children = accessor.children(&accessor.directory(node)?)?;
        Ok(Self { children, last: None })
    }
}

impl Iterator for Children<'_> {
    type Item = Result<Node>;

    fn next(&mut self) -> Option<Self::Item> {
        let node = match self.children.next()? {
            Ok(node) => node,
            Err(error) => return Some(Err(error.into())),
        };
        // What compares two folders relies on the order.
        if self.last.as_deref().is_some_and(|last| last >= node.name()) {
            return Some(Err(WorkloadError::Archive(relight_pxar::DecodeError::Damaged {
                position: node.position(),
                what: "the names of a directory are not in order",
            })));
        }
        self.last = Some(node.name().to_vec());
        Some(Ok(node))
    }
}

/// Everything below a folder, each folder before what is in it.
pub struct Walk<'t> {
    accessor: &'t Accessor<RandomArchive>,
    open: Vec<(Vec<u8>, Children<'t>)>,
}

impl<'t> Walk<'t> {
    pub(super) fn new(accessor: &'t Accessor<RandomArchive>, node: &Node) -> Result<Self> {
        Ok(Self {
            accessor,
            open: vec![(Vec::new(), Children::new(accessor, node)?)],
        })
    }

    fn advance(&mut self) -> Result<Option<(Vec<u8>, Node)>> {
        while let Some((folder, children)) = self.open.last_mut() {
            let Some(node) = children.next().transpose()? else {
                self.open.pop();
                continue;
            };
            let path = join(folder, node.name());
            if matches!(node.kind(), EntryKind::Directory) {
                self.open
                    .push((path.clone(), Children::new(self.accessor, &node)?));
            }
            return Ok(Some((path, node)));
        }
        Ok(None)
    }
}

impl Iterator for Walk<'_> {
    /// The path from the folder that the walk began at, and the entry.
    type Item = Result<(Vec<u8>, Node)>;

    fn next(&mut self) -> Option<Self::Item> {
        let next = self.advance();
        if next.is_err() {
            self.open.clear();
        }
        next.transpose()
    }
}
