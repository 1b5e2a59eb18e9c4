//! Builds the chunk list of an archive from its pieces in order.

use super::Root;
use super::node::{Child, Node};
use crate::error::Result;
use crate::id::ChunkId;

/// Where a list is cut into nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cut {
    /// After a fixed number of children: for images, whose chunks never move.
    Position,
    /// Where a child's identity says so: for streams, in which an insertion moves all that follows.
    Content,
}

/// Children of a node cut by position. Small, so that scattered changes rewrite little of the list.
const FIXED: usize = 64;
/// Fewest, and most children of a node cut by content; the average is between.
const LEAST: usize = 24;
const MOST: usize = 256;
/// One identity in this many ends a node.
const ONE_IN: u8 = 48;

impl Cut {
    fn ends(self, count: usize, last: &ChunkId) -> bool {
        match self {
            Self::Position => count >= FIXED,
            Self::Content => count >= MOST || (count >= LEAST && last.0[31].is_multiple_of(ONE_IN)),
        }
    }
}

/// Builds a list. Memory is one node a level.
pub struct TreeWriter {
    cut: Cut,
    /// Children that wait for their node, by level.
    open: Vec<Vec<Child>>,
    size: u64,
}

impl TreeWriter {
    /// An empty list.
    pub fn new(cut: Cut) -> Self {
        Self {
            cut,
            open: vec![Vec::new()],
            size: 0,
        }
    }

    /// Bytes of the archive so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Appends a piece. `store` keeps a node and gives its identity.
    pub fn push(
        &mut self,
        span: u64,
        id: ChunkId,
        store: &mut dyn FnMut(Vec<u8>) -> Result<ChunkId>,
    ) -> Result<()> {
        self.size += span;
        self.add(0, Child { span, id }, store)
    }

    fn add(
        &mut self,
        level: usize,
        child: Child,
        store: &mut dyn FnMut(Vec<u8>) -> Result<ChunkId>,
    ) -> Result<()> {
        if self.open.len() == level {
            self.open.push(Vec::new());
        }
        self.open[level].push(child);
        if self.cut.ends(self.open[level].len(), &child.id) {
            self.close(level, store)?;
        }
        Ok(())
    }

    fn close(&mut self, level: usize, store: &mut dyn FnMut(Vec<u8>) -> Result<ChunkId>) -> Result<()> {
        let node = Node {
            level: level as u8 + 1,
            children: std::mem::take(&mut self.open[level]),
        };
        let zeros = node.children.iter().all(|child| child.id == ChunkId::ZEROS);
        let id = if zeros {
            ChunkId::ZEROS
        } else {
            store(node.encode())?
        };
        self.add(
            level + 1,
            Child {
                span: node.span(),
                id,
            },
            store,
        )
    }

    /// Ends the list. What is left open at each level becomes a node, up to the one that holds all.
    pub fn finish(mut self, store: &mut dyn FnMut(Vec<u8>) -> Result<ChunkId>) -> Result<Root> {
        let mut level = 0;
        loop {
            let top = level + 1 == self.open.len();
            match (top, self.open[level].as_slice()) {
                (true, []) => return Ok(Root::EMPTY),
                (true, [only]) => {
                    return Ok(Root {
                        id: only.id,
                        levels: level as u8,
                        size: self.size,
                    });
                }
                (false, []) => {}
                _ => self.close(level, store)?,
            }
            level += 1;
        }
    }
}
