//! Contents of archives: whole ones, and the parts of a payload that are files.

use std::io;
use std::sync::Arc;

use relight_pxar::read_at::ReadAt;
use relight_repo::read::{ArchiveReader, ChunkCache, ChunkReader};
use relight_repo::snapshot::{Archive, Snapshot};
use relight_repo::tree::{NodeSource, Root};
use relight_repo::{ChunkId, RepoError, Repository, Result};

/// Chunks of content that are kept in memory.
const DATA_ROOM: u64 = 64 << 20;
/// Chunks of names and attributes that are kept in memory.
const METADATA_ROOM: u64 = 24 << 20;
/// List nodes that are read to find out how much of an archive is holes.
const NODES: usize = 64;

/// What reads a repository on behalf of all that is mounted: bounded caches, one for content and one for names and
/// attributes, so that reading a large image does not drive out the latter.
#[derive(Clone)]
pub struct Readers {
    /// For content.
    pub data: Arc<ChunkCache>,
    /// For the metadata of trees.
    pub metadata: Arc<ChunkCache>,
}

impl Readers {
    /// What reads through `reader`.
    pub fn new(reader: Arc<ChunkReader>) -> Self {
        Self {
            data: Arc::new(ChunkCache::new(reader.clone(), DATA_ROOM)),
            metadata: Arc::new(ChunkCache::new(reader, METADATA_ROOM)),
        }
    }

    /// What reads chunks.
    pub fn chunks(&self) -> &Arc<ChunkReader> {
        self.data.reader()
    }
}

/// A whole archive, or the metadata of a tree, as the pxar crate reads it.
pub struct Bytes(pub ArchiveReader);

impl ReadAt for Bytes {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset).map_err(|error| match error {
            RepoError::Source(error) => error,
            error => io::Error::other(error),
        })
    }

    fn size(&self) -> u64 {
        self.0.size()
    }
}

/// The archive of a disk image (or any other stream) that is to be shown by itself.
#[derive(Clone)]
pub struct Image {
    readers: Readers,
    archive: Archive,
    snapshot: Arc<Snapshot>,
}

impl Image {
    /// The archive `name` of a snapshot.
    pub fn open(repository: Arc<Repository>, snapshot: &Snapshot, name: &str) -> Result<Self> {
        Self::over(Arc::new(ChunkReader::new(repository)?), snapshot, name)
    }

    /// The same, read through `reader`: it may have the key of a client.
    pub fn over(reader: Arc<ChunkReader>, snapshot: &Snapshot, name: &str) -> Result<Self> {
        let archive = snapshot.archive(name)?.clone();
        Ok(Self {
            readers: Readers::new(reader),
            archive,
            snapshot: Arc::new(snapshot.clone()),
        })
    }

    /// Its name in the snapshot.
    pub fn name(&self) -> &str {
        &self.archive.name
    }

    /// Its length in bytes.
    pub fn size(&self) -> u64 {
        self.archive.root.size
    }

    /// The snapshot it belongs to.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// A reader with a sense of its own for what is read in order, over the common cache.
    pub fn reader(&self) -> ArchiveReader {
        ArchiveReader::sharing(self.readers.data.clone(), self.archive.root)
    }

    pub(crate) fn readers(&self) -> &Readers {
        &self.readers
    }

    pub(crate) fn root(&self) -> Root {
        self.archive.root
    }
}

/// Bytes of an archive that are not known to be holes. Looks at a bounded part of the chunk list, from the top: small
/// holes in a large archive may not be found.
pub fn allocated(chunks: &ChunkReader, root: Root) -> Result<u64> {
    if root.id == ChunkId::ZEROS {
        return Ok(0);
    }
    let mut found = root.size;
    let mut nodes = std::collections::VecDeque::from([(root.id, root.levels)]);
    let mut left = NODES;
    while let Some((id, level)) = nodes.pop_front() {
        if level == 0 || left == 0 {
            break;
        }
        left -= 1;
        for child in &chunks.node(id, level)?.children {
            if child.id == ChunkId::ZEROS {
                found = found.saturating_sub(child.span);
            } else if level > 1 {
                nodes.push_back((child.id, level - 1));
            }
        }
    }
    Ok(found)
}
