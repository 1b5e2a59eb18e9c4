//! The whole chunk list of an archive, read level by level: the nodes of a level lie side by side in their packs and are
//! fetched together, which on object storage is the difference between seconds and minutes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use relight_repo::read::{ChunkReader, PieceStream};
use relight_repo::tree::node::{Child, MAX_LEVELS, Node};
use relight_repo::tree::{NodeSource, Piece, Root};
use relight_repo::{ChunkId, RepoError};

use super::error::Result;

/// With fewer nodes than this no threads are started to read them.
const FEW: usize = 8;
/// Most chunks of an archive whose list is made: 2^24 of 4 MiB are 64 TiB.
pub const MOST: usize = 1 << 24;

fn damaged(why: &str) -> RepoError {
    RepoError::Damaged {
        what: "chunk list".into(),
        why: why.into(),
    }
}

/// The pieces of an archive in order; runs of zeros may be one piece, however long.
pub fn pieces(reader: &Arc<ChunkReader>, root: Root) -> Result<Vec<Child>> {
    if root.levels > MAX_LEVELS {
        return Err(damaged("it has too many levels").into());
    }
    if root.size == 0 {
        return Ok(Vec::new());
    }
    let mut line = vec![Child {
        span: root.size,
        id: root.id,
    }];
    for level in (1..=root.levels).rev() {
        line = expand(reader, line, level)?;
        if line.len() > MOST {
            return Err(damaged("it has too many chunks").into());
        }
    }
    Ok(line)
}

/// The children of these nodes; zeros stay what they are.
fn expand(reader: &Arc<ChunkReader>, line: Vec<Child>, level: u8) -> Result<Vec<Child>> {
    let nodes = read(reader, &line, level)?;
    let mut below = Vec::with_capacity(line.len() * 64);
    for child in line {
        let Some(node) = nodes.get(&child.id) else {
            below.push(child);
            continue;
        };
        if node.span() != child.span {
            return Err(damaged("a node spans more or less than it should").into());
        }
        below.extend(node.children.iter().filter(|child| child.span > 0));
    }
    Ok(below)
}

fn read(reader: &Arc<ChunkReader>, line: &[Child], level: u8) -> Result<HashMap<ChunkId, Arc<Node>>> {
    let wanted: HashSet<ChunkId> = line
        .iter()
        .map(|child| child.id)
        .filter(|id| *id != ChunkId::ZEROS)
        .collect();
    if wanted.len() < FEW {
        let nodes = wanted.into_iter().map(|id| Ok((id, reader.node(id, level)?)));
        return nodes.collect();
    }
    let mut pieces = Vec::with_capacity(wanted.len());
    for id in &wanted {
        let place = reader.locate(id)?;
        pieces.push(Ok(Piece {
            offset: 0,
            length: place.first().map_or(0, |place| u64::from(place.record.raw)),
            id: *id,
        }));
    }
    let mut nodes = HashMap::with_capacity(wanted.len());
    for item in PieceStream::of(reader, Box::new(pieces.into_iter())) {
        let (piece, content) = item?;
        let content = content.ok_or_else(|| damaged("a node is missing"))?;
        nodes.insert(piece.id, Arc::new(Node::decode(piece.id, &content, level)?));
    }
    Ok(nodes)
}
