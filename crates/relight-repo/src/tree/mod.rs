//! Chunk lists as trees. An archive is a list of chunks; the list is stored as a tree of nodes which are chunks
//! themselves, so that what two archives have in common is stored, walked and compared once.

pub mod node;
pub mod reader;
pub mod writer;

use serde::{Deserialize, Serialize};

pub use node::Node;
pub use reader::{NodeSource, TreeReader};
pub use writer::{Cut, TreeWriter};

use crate::id::ChunkId;

/// The top of an archive's chunk list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Root {
    /// The topmost node; of a single chunk that chunk; [`ChunkId::ZEROS`] if all of it is zeros (or nothing).
    pub id: ChunkId,
    /// How many levels of nodes there are: 0 if `id` is a chunk of content.
    pub levels: u8,
    /// Length of the archive in bytes.
    pub size: u64,
}

impl Root {
    /// An archive of no bytes.
    pub const EMPTY: Self = Self {
        id: ChunkId::ZEROS,
        levels: 0,
        size: 0,
    };
}

/// A piece of an archive: `length` bytes that are the chunk `id`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Piece {
    /// Where in the archive it begins.
    pub offset: u64,
    /// Its length in bytes. Of zeros it may be more than a chunk.
    pub length: u64,
    /// The chunk, or [`ChunkId::ZEROS`].
    pub id: ChunkId,
}
