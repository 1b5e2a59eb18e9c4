//! A directory's children by number: for a listing that goes on where an earlier call stopped.

use super::window::Cache;
use super::{Accessor, Directory, LIST_BLOCK, Node};
use crate::error::DecodeError;
use crate::goodbye::GoodbyeItem;
use crate::read_at::ReadAt;

/// Where the children of a directory lie, in the order of their names. 24 bytes a child.
#[derive(Debug, Clone)]
pub struct ChildList {
    directory: Directory,
    items: Vec<GoodbyeItem>,
}

impl ChildList {
    /// How many children there are.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }
}

impl<R: ReadAt> Accessor<R> {
    /// Finds the children of a directory, for [`Accessor::listed`].
    pub fn child_list(&self, directory: &Directory) -> Result<ChildList, DecodeError> {
        let items = self.child_items(directory)?;
        Ok(ChildList {
            directory: *directory,
            items,
        })
    }

    /// The children of a directory from number `from` on. One that cannot be read does not hide those behind it.
    pub fn listed<'a>(
        &'a self,
        list: &'a ChildList,
        from: usize,
    ) -> impl Iterator<Item = Result<Node, DecodeError>> + 'a {
        let mut cache = Cache::new(LIST_BLOCK);
        let items = list.items.get(from..).unwrap_or_default();
        items
            .iter()
            .map(move |item| self.child(&mut cache, &list.directory, *item))
    }
}
