//! The bytes of a list node: `RN`, version, level, then 40 bytes a child: span (u64, little endian) and identity.
//!
//! Level 1 is right above content. A child that is all zeros, however long, has the identity of zeros and is not
//! stored, so holes cost nothing at any level.

use crate::error::{RepoError, Result};
use crate::id::ChunkId;

const MAGIC: [u8; 2] = *b"RN";
const VERSION: u8 = 1;
const HEADER: usize = 4;
const CHILD: usize = 40;

/// Most children that a node may have; more is refused when reading.
pub const MAX_CHILDREN: usize = 4096;
/// Most levels that a tree may have. 64 children a node and 12 levels are beyond any archive.
pub const MAX_LEVELS: u8 = 16;

/// One child of a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Child {
    /// Bytes of the archive under it.
    pub span: u64,
    /// The node or chunk.
    pub id: ChunkId,
}

/// A list node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// 1 right above content.
    pub level: u8,
    /// In the order of the archive.
    pub children: Vec<Child>,
}

impl Node {
    /// Its bytes, which are stored as a chunk.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER + self.children.len() * CHILD);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&[VERSION, self.level]);
        for child in &self.children {
            bytes.extend_from_slice(&child.span.to_le_bytes());
            bytes.extend_from_slice(&child.id.0);
        }
        bytes
    }

    /// Reads the node `id` and checks that it is of the level that was expected.
    pub fn decode(id: ChunkId, bytes: &[u8], level: u8) -> Result<Self> {
        let damaged = |why: &str| RepoError::damaged(format!("list node {id}"), why);
        let (header, rest) = bytes
            .split_at_checked(HEADER)
            .ok_or_else(|| damaged("it was cut short"))?;
        if header[..2] != MAGIC {
            return Err(damaged("it is not a list node"));
        }
        if header[2] != VERSION {
            return Err(RepoError::TooNew {
                what: format!("list node {id}"),
                found: u32::from(header[2]),
                known: u32::from(VERSION),
            });
        }
        if header[3] != level {
            return Err(damaged("it is of another level"));
        }
        let (children, rest) = rest.as_chunks::<CHILD>();
        if !rest.is_empty() || children.is_empty() || children.len() > MAX_CHILDREN {
            return Err(damaged("it has an impossible number of children"));
        }
        let children = children.iter().map(|bytes| {
            let mut child = Child {
                span: 0,
                id: ChunkId::default(),
            };
            let (span, id) = bytes.split_at(8);
            child.span = u64::from_le_bytes([
                span[0], span[1], span[2], span[3], span[4], span[5], span[6], span[7],
            ]);
            child.id.0.copy_from_slice(id);
            child
        });
        let node = Self {
            level,
            children: children.collect(),
        };
        let mut total = 0u64;
        for child in &node.children {
            total = total
                .checked_add(child.span)
                .ok_or_else(|| damaged("it spans too much"))?;
        }
        Ok(node)
    }

    /// Bytes of the archive under it.
    pub fn span(&self) -> u64 {
        self.children.iter().map(|child| child.span).sum()
    }
}
