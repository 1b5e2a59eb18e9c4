//! Index files, made from the chunk lists of archives: the same list gives the same file, so none needs to be stored.
//! Only where a client encrypted the chunks its own file is kept, because their digests are not in the list.

use std::sync::Arc;

use aws_lc_rs::digest;
use relight_repo::read::ChunkReader;
use relight_repo::snapshot::Archive;
use relight_repo::tree::node::Child;
use relight_repo::{ChunkId, RepoError, SnapshotId};

use super::error::Result;
use super::pieces::pieces;
use super::zeros::zero_digest;
use crate::formats::ids::{BackupTime, FileKind, FileName};
use crate::formats::index::{
    Digest, DynamicEntry, DynamicIndex, FIXED_CHUNK, FixedIndex, IndexError, IndexHeader,
};

/// One chunk of an index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexChunk {
    /// As clients name it.
    pub digest: Digest,
    /// As the repository names it.
    pub id: ChunkId,
    /// Bytes of content.
    pub length: u64,
}

/// An index file and what it lists.
#[derive(Debug)]
pub struct IndexFile {
    /// The file.
    pub bytes: Vec<u8>,
    /// The checksum of its entries.
    pub csum: Digest,
    /// Bytes of what it lists.
    pub size: u64,
    /// The chunks in order.
    pub chunks: Vec<IndexChunk>,
}

/// What the header of an index that is made says: the same each time.
pub fn header(snapshot: SnapshotId, name: &FileName, time: BackupTime) -> IndexHeader {
    let mut context = digest::Context::new(&digest::SHA256);
    context.update(b"relight index uuid v1\0");
    context.update(&snapshot.0);
    context.update(name.as_str().as_bytes());
    let mut uuid = [0; 16];
    uuid.copy_from_slice(&context.finish().as_ref()[..16]);
    // A UUID of version 4 (RFC 9562, section 5.4).
    uuid[6] = uuid[6] & 0x0f | 0x40;
    uuid[8] = uuid[8] & 0x3f | 0x80;
    IndexHeader {
        uuid,
        ctime: time.seconds(),
    }
}

fn damaged(archive: &Archive, why: &str) -> RepoError {
    RepoError::Damaged {
        what: format!("chunk list of {}", archive.name),
        why: why.into(),
    }
}

fn failed(archive: &Archive) -> impl Fn(IndexError) -> RepoError + '_ {
    |error| damaged(archive, &error.to_string())
}

/// The index of an archive that is to be known as `name`.
pub fn make(
    reader: &Arc<ChunkReader>,
    archive: &Archive,
    name: &FileName,
    header: IndexHeader,
) -> Result<IndexFile> {
    let pieces = pieces(reader, archive.root)?;
    let chunks = split(archive, &pieces, name.kind() == FileKind::FixedIndex)?;
    let failed = failed(archive);
    if name.kind() == FileKind::FixedIndex {
        let digests = chunks.iter().map(|chunk| chunk.digest).collect();
        let index = FixedIndex::new(header, archive.root.size, digests).map_err(failed)?;
        return Ok(IndexFile {
            bytes: index.encode(),
            csum: index.sum(),
            size: archive.root.size,
            chunks,
        });
    }
    let mut end = 0;
    let entries = chunks.iter().map(|chunk| {
        end += chunk.length;
        DynamicEntry {
            end,
            digest: chunk.digest,
        }
    });
    let index = DynamicIndex::new(header, entries.collect()).map_err(failed)?;
    Ok(IndexFile {
        bytes: index.encode(),
        csum: index.sum(),
        size: archive.root.size,
        chunks,
    })
}

/// Pieces as chunks of the protocol: runs of zeros are cut every 4 MiB. With `fixed` all others must be, too.
fn split(archive: &Archive, pieces: &[Child], fixed: bool) -> Result<Vec<IndexChunk>> {
    let mut chunks = Vec::with_capacity(pieces.len());
    let mut at = 0;
    for piece in pieces {
        let end = at + piece.span;
        if piece.id != ChunkId::ZEROS {
            let expected = FIXED_CHUNK.min(archive.root.size - at);
            if fixed && (at % FIXED_CHUNK != 0 || piece.span != expected) {
                return Err(damaged(archive, "it is not cut every 4 MiB").into());
            }
            chunks.push(IndexChunk {
                digest: piece.id.0,
                id: piece.id,
                length: piece.span,
            });
            at = end;
        } else if fixed && (at % FIXED_CHUNK != 0 || (end % FIXED_CHUNK != 0 && end != archive.root.size)) {
            return Err(damaged(archive, "it is not cut every 4 MiB").into());
        }
        while at < end {
            let length = FIXED_CHUNK.min(end - at);
            chunks.push(IndexChunk {
                digest: zero_digest(length),
                id: ChunkId::ZEROS,
                length,
            });
            at += length;
        }
    }
    Ok(chunks)
}

/// The index whose file was kept beside the archive.
pub fn kept(
    reader: &Arc<ChunkReader>,
    archive: &Archive,
    name: &FileName,
    bytes: Vec<u8>,
) -> Result<IndexFile> {
    let failed = failed(archive);
    let (csum, listed): (Digest, Vec<(Digest, u64)>) = if name.kind() == FileKind::FixedIndex {
        let index = FixedIndex::parse(&bytes).map_err(failed)?;
        (index.sum(), index.chunks().collect())
    } else {
        let index = DynamicIndex::parse(&bytes).map_err(failed)?;
        (index.sum(), index.chunks().collect())
    };
    let pieces = pieces(reader, archive.root)?;
    if pieces.len() != listed.len() {
        return Err(damaged(archive, "its index lists other chunks").into());
    }
    let mut chunks = Vec::with_capacity(pieces.len());
    for (piece, (digest, length)) in pieces.iter().zip(listed) {
        let is_its = piece.id.0 == digest || piece.id == ChunkId::of_client_sealed(&digest);
        if !is_its || piece.span != length {
            return Err(damaged(archive, "its index lists other chunks").into());
        }
        chunks.push(IndexChunk {
            digest,
            id: piece.id,
            length,
        });
    }
    Ok(IndexFile {
        bytes,
        csum,
        size: archive.root.size,
        chunks,
    })
}
