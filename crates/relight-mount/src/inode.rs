//! Inode numbers. They say where an object is found, so that none has to be remembered, however many files are looked
//! at, and hard links have the same number by themselves.
//!
//! | bits | |
//! | --- | --- |
//! | 63 to 42 | the tree it lies in; 0 for what the mount itself makes up (folders, links, whole archives) |
//! | 41 | in a tree: it is not a directory |
//! | 40 to 0 | in a tree: its place in the metadata archive (at most 2 TiB); else a running number, 1 is the root |

use relight_pxar::NodeId;

const PLACE_BITS: u32 = 41;
const PLACE: u64 = (1 << PLACE_BITS) - 1;
const NOT_DIRECTORY: u64 = 1 << PLACE_BITS;
const TREE_SHIFT: u32 = PLACE_BITS + 1;
/// The mark by which [`NodeId`] tells what is not a directory.
const NODE_NOT_DIRECTORY: u64 = 1 << 63;

/// Most trees that one mount can number.
pub const MAX_TREES: u32 = (1 << (64 - TREE_SHIFT)) - 1;

/// What an inode number names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inode {
    /// Something the mount makes up.
    Made(u64),
    /// An entry of a tree.
    InTree(u32, NodeId),
}

impl Inode {
    /// The root of the mount.
    pub const ROOT: u64 = 1;

    /// What the number names.
    pub fn from_number(number: u64) -> Self {
        match (number >> TREE_SHIFT) as u32 {
            0 => Self::Made(number),
            tree => {
                let mark = if number & NOT_DIRECTORY != 0 {
                    NODE_NOT_DIRECTORY
                } else {
                    0
                };
                Self::InTree(tree, NodeId::from_raw((number & PLACE) | mark))
            }
        }
    }

    /// Its number; none if the tree is too large for it.
    pub fn number(self) -> Option<u64> {
        match self {
            Self::Made(number) => Some(number).filter(|number| number >> TREE_SHIFT == 0),
            Self::InTree(tree, node) => {
                let place = node.to_raw() & !NODE_NOT_DIRECTORY;
                let mark = if node.is_directory() { 0 } else { NOT_DIRECTORY };
                let fits = place <= PLACE && (1..=MAX_TREES).contains(&tree);
                fits.then_some(u64::from(tree) << TREE_SHIFT | mark | place)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_lead_back_to_what_they_name() {
        let nodes = [1, PLACE, 77 | NODE_NOT_DIRECTORY, PLACE | NODE_NOT_DIRECTORY].map(NodeId::from_raw);
        for tree in [1, 2, MAX_TREES] {
            for node in nodes {
                let inode = Inode::InTree(tree, node);
                assert_eq!(Inode::from_number(inode.number().unwrap()), inode);
            }
        }
        assert_eq!(Inode::from_number(Inode::ROOT), Inode::Made(1));
        assert_eq!(Inode::Made(5).number(), Some(5));
    }

    #[test]
    fn what_does_not_fit_has_no_number() {
        assert_eq!(Inode::InTree(1, NodeId::from_raw(PLACE + 1)).number(), None);
        assert_eq!(Inode::InTree(MAX_TREES + 1, NodeId::from_raw(1)).number(), None);
        assert_eq!(Inode::InTree(0, NodeId::from_raw(1)).number(), None);
        assert_eq!(Inode::Made(1 << TREE_SHIFT).number(), None);
    }
}
