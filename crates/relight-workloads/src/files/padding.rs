//! Whether a payload has become so full of holes that its tree is better read once more as a whole.
//!
//! A chunk is taken over while one of its files is unchanged; what else is in it is padding. That costs storage, because
//! chunks are kept for a part of their content, and longer lists, because a chunk with changed files in its middle comes
//! once for each unchanged run. Reading everything costs storage as well: the changes have moved what is beside them, so
//! that most chunks around them are new. It is therefore put off until the chunks hold twice what the files do, which
//! keeps a tree with its padding below twice its size and spreads the reading over many backups.

use std::collections::HashSet;

use relight_repo::ChunkId;
use relight_repo::read::ChunkReader;
use relight_repo::tree::{Root, TreeReader};

/// Payloads below this size may have any padding.
const FROM: u64 = 64 << 20;
/// The chunks may hold so many times what the files do.
const STORED: u64 = 2;
/// The list may be so many times as long as the files are: it bounds what other programs read that take every piece of it.
const LISTED: u64 = 8;
/// Of longer payloads only one chunk in [`SAMPLE`] is looked at.
const SAMPLED_FROM: u64 = 256 << 30;
/// See [`SAMPLED_FROM`].
const SAMPLE: u8 = 16;

/// Whether the payload `root`, whose files have `live` bytes, is better written anew. What cannot be read counts as
/// padded: then every file is read.
pub(super) fn is_padded(reader: &ChunkReader, root: Root, live: u64) -> bool {
    if !may_be_padded(root.size, live) {
        return false;
    }
    let Ok(pieces) = TreeReader::new(reader, root, 0) else {
        return true;
    };
    let mut unread = false;
    let pieces = pieces.map_while(|piece| piece.inspect_err(|_| unread = true).ok());
    let chunks = pieces
        .filter(|piece| piece.id != ChunkId::ZEROS)
        .map(|piece| (piece.id.0, piece.length));
    let padded = is_padded_list(root.size, live, chunks);
    padded || unread
}

/// The same of a payload of `size` bytes that consists of these chunks.
pub fn is_padded_list(size: u64, live: u64, chunks: impl Iterator<Item = ([u8; 32], u64)>) -> bool {
    may_be_padded(size, live)
        && (size / LISTED > live || distinct(size, chunks).is_none_or(|bytes| bytes / STORED > live))
}

fn may_be_padded(size: u64, live: u64) -> bool {
    size > FROM && size / STORED > live
}

/// Bytes of the distinct chunks of a payload.
fn distinct(size: u64, chunks: impl Iterator<Item = ([u8; 32], u64)>) -> Option<u64> {
    let sample = if size > SAMPLED_FROM { SAMPLE } else { 1 };
    let mut seen = HashSet::new();
    let mut bytes = 0u64;
    for (id, length) in chunks {
        let [first, rest @ ..] = id;
        if first % sample != 0 {
            continue;
        }
        // Half of the identity tells chunks apart well enough for this, at half the memory.
        if seen.insert(u64::from_le_bytes(*rest.first_chunk()?)) {
            bytes = bytes.checked_add(length)?;
        }
    }
    bytes.checked_mul(u64::from(sample))
}
