//! Reads the chunk list of an archive.

use std::sync::Arc;

use super::node::{MAX_LEVELS, Node};
use super::{Piece, Root};
use crate::error::{RepoError, Result};
use crate::id::ChunkId;

/// Where nodes are read. May keep them in memory.
pub trait NodeSource: Send + Sync {
    /// The node `id`, which must be of `level`.
    fn node(&self, id: ChunkId, level: u8) -> Result<Arc<Node>>;
}

/// Walks the pieces of an archive in order, from any offset.
pub struct TreeReader<'a> {
    source: &'a dyn NodeSource,
    /// Nodes on the way down, each with the child that comes next.
    path: Vec<(Arc<Node>, usize)>,
    /// What comes when the path is empty: an archive without nodes.
    single: Option<Piece>,
    offset: u64,
    size: u64,
}

impl<'a> TreeReader<'a> {
    /// The pieces of `root` from the one that holds byte `from` on.
    pub fn new(source: &'a dyn NodeSource, root: Root, from: u64) -> Result<Self> {
        let mut reader = Self {
            source,
            path: Vec::new(),
            single: None,
            offset: 0,
            size: root.size,
        };
        if root.levels > MAX_LEVELS {
            return Err(RepoError::damaged("chunk list", "it has too many levels"));
        }
        if from >= root.size {
            reader.offset = root.size;
        } else if root.levels == 0 || root.id == ChunkId::ZEROS {
            reader.single = Some(Piece {
                offset: 0,
                length: root.size,
                id: root.id,
            });
        } else {
            reader.descend(root.id, root.levels, root.size, from)?;
        }
        Ok(reader)
    }

    /// Enters the node and those under it that lead to byte `from` (counted from the node's begin), leaving the
    /// path at the child that holds it.
    fn descend(&mut self, mut id: ChunkId, mut level: u8, mut span: u64, mut from: u64) -> Result<()> {
        loop {
            let node = self.source.node(id, level)?;
            if node.span() != span {
                return Err(RepoError::damaged(
                    format!("list node {id}"),
                    "it spans more or less than it should",
                ));
            }
            let mut next = 0;
            while from >= node.children[next].span {
                from -= node.children[next].span;
                self.offset += node.children[next].span;
                next += 1;
            }
            let child = node.children[next];
            self.path.push((node, next));
            if level == 1 || child.id == ChunkId::ZEROS {
                return Ok(());
            }
            if let Some((_, next)) = self.path.last_mut() {
                *next += 1;
            }
            (id, span, level) = (child.id, child.span, level - 1);
        }
    }

    fn advance(&mut self) -> Result<Option<Piece>> {
        if let Some(piece) = self.single.take() {
            self.offset = self.size;
            return Ok(Some(piece));
        }
        while let Some((node, next)) = self.path.last_mut() {
            let Some(child) = node.children.get(*next).copied() else {
                self.path.pop();
                continue;
            };
            *next += 1;
            let level = node.level;
            if child.span == 0 {
                continue;
            }
            if level > 1 && child.id != ChunkId::ZEROS {
                self.descend(child.id, level - 1, child.span, 0)?;
                continue;
            }
            let piece = Piece {
                offset: self.offset,
                length: child.span,
                id: child.id,
            };
            self.offset += child.span;
            return Ok(Some(piece));
        }
        if self.offset != self.size {
            return Err(RepoError::damaged("chunk list", "it is shorter than the archive"));
        }
        Ok(None)
    }
}

impl Iterator for TreeReader<'_> {
    type Item = Result<Piece>;

    fn next(&mut self) -> Option<Result<Piece>> {
        self.advance().transpose()
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use proptest::prelude::*;

    use super::super::writer::{Cut, TreeWriter};
    use super::*;

    #[derive(Default)]
    struct Nodes(HashMap<ChunkId, Vec<u8>>);

    impl NodeSource for Nodes {
        fn node(&self, id: ChunkId, level: u8) -> Result<Arc<Node>> {
            Node::decode(id, &self.0[&id], level).map(Arc::new)
        }
    }

    fn build(nodes: &mut Nodes, cut: Cut, pieces: &[(u64, ChunkId)]) -> Root {
        let mut store = |bytes: Vec<u8>| {
            let id = ChunkId::of(&bytes);
            nodes.0.insert(id, bytes);
            Ok(id)
        };
        let mut writer = TreeWriter::new(cut);
        for &(span, id) in pieces {
            writer.push(span, id, &mut store).unwrap();
        }
        writer.finish(&mut store).unwrap()
    }

    fn chunk(number: u64) -> ChunkId {
        ChunkId::of(&number.to_le_bytes())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn every_piece_comes_back_from_any_offset(
            spans in proptest::collection::vec((1u64..5000, any::<bool>()), 0..6000),
            by_content in any::<bool>(),
            from in any::<u64>(),
        ) {
            let pieces: Vec<_> = spans.iter().enumerate()
                .map(|(at, &(span, zeros))| (span, if zeros { ChunkId::ZEROS } else { chunk(at as u64) }))
                .collect();
            let mut nodes = Nodes::default();
            let root = build(&mut nodes, if by_content { Cut::Content } else { Cut::Position }, &pieces);
            prop_assert_eq!(root.size, pieces.iter().map(|piece| piece.0).sum::<u64>());
            let from = from % (root.size + 2);
            let mut place = 0;
            let mut wanted = Vec::new();
            for &(span, id) in &pieces {
                if place + span > from && id != ChunkId::ZEROS {
                    wanted.push(Piece { offset: place, length: span, id });
                }
                place += span;
            }
            let all: Vec<_> = TreeReader::new(&nodes, root, from).unwrap().map(Result::unwrap).collect();
            if let (Some(first), Some(last)) = (all.first(), all.last()) {
                prop_assert!(first.offset <= from);
                prop_assert_eq!(last.offset + last.length, root.size);
            }
            let found: Vec<_> = all.into_iter().filter(|piece| piece.id != ChunkId::ZEROS).collect();
            prop_assert_eq!(found, wanted);
        }
    }

    #[test]
    fn a_small_change_rewrites_a_small_part_of_the_list() {
        let mut pieces: Vec<_> = (0..100_000).map(|number| (1000, chunk(number))).collect();
        for cut in [Cut::Position, Cut::Content] {
            let mut nodes = Nodes::default();
            build(&mut nodes, cut, &pieces);
            let before = nodes.0.len();
            pieces[50_000].1 = chunk(1 << 40);
            build(&mut nodes, cut, &pieces);
            assert!(nodes.0.len() - before <= 6, "{cut:?}: {}", nodes.0.len() - before);
        }
        let mut nodes = Nodes::default();
        build(&mut nodes, Cut::Content, &pieces);
        let before = nodes.0.len();
        pieces.insert(3, (1000, chunk(1 << 41)));
        build(&mut nodes, Cut::Content, &pieces);
        assert!(
            nodes.0.len() - before <= 6,
            "after an insertion: {}",
            nodes.0.len() - before
        );
    }

    #[test]
    fn holes_cost_nothing() {
        let mut nodes = Nodes::default();
        let root = build(
            &mut nodes,
            Cut::Position,
            &vec![(4 << 20, ChunkId::ZEROS); 1_000_000],
        );
        assert_eq!((root.id, nodes.0.len()), (ChunkId::ZEROS, 0));
        let pieces: Vec<_> = TreeReader::new(&nodes, root, 5)
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert_eq!(
            pieces,
            [Piece {
                offset: 0,
                length: root.size,
                id: ChunkId::ZEROS
            }]
        );
    }
}
