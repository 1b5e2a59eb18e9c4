//! Makes a repository with a long history: snapshots of one image, each of which changed a little.

use std::collections::HashSet;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use relight_repo::ChunkId;
use relight_repo::session::{ArchiveWriter, IMAGE_CHUNK, Session};
use relight_repo::snapshot::{Archive, ArchiveKind, SnapshotSpec};
use relight_repo::tree::TreeWriter;

use super::synthetic::{self, CHUNKS_A_PACK, Place, chunks_of_pack};
use crate::data::Random;
use crate::failure::{Doing, Result};

const SEED: u64 = 0x6869_7374;

/// A history of an image.
#[derive(Clone, Copy, Debug)]
pub struct History {
    /// Distinct chunks of all snapshots together.
    pub chunks: u64,
    /// Snapshots.
    pub snapshots: u64,
    /// Share of the image that each changed.
    pub changed: f64,
    /// Neighbouring chunks that change together.
    pub burst: u64,
}

impl History {
    /// Chunks of the image, so that it and all changes have the wanted number of distinct chunks.
    fn image(&self) -> u64 {
        (self.chunks as f64 / (1.0 + self.changed * (self.snapshots - 1) as f64)) as u64
    }

    /// Makes a repository with this history, and with one percent of data packs that nothing refers to.
    ///
    /// Its index, chunk lists and manifests are real; its data packs are files of holes.
    pub fn make(&self, root: &Path) -> Result<()> {
        let place = Place::under(root);
        place.initialise()?;
        let packs = self.chunks.div_ceil(CHUNKS_A_PACK);
        synthetic::add_data_packs(&place, SEED, packs, true)?;
        synthetic::add_data_packs(&place, SEED + 1, packs / 100, true)?;

        let repository = Arc::new(place.open()?);
        let session = Session::begin(repository, Arc::new(AtomicBool::new(false)))
            .doing(|| "begin a session".to_owned())?;
        let mut new_chunks = (0..packs).flat_map(|number| chunks_of_pack(SEED, number));
        let mut image: Vec<ChunkId> = new_chunks.by_ref().take(self.image() as usize).collect();
        let mut random = Random::new(SEED + 2);
        let mut stored = HashSet::new();
        for number in 0..self.snapshots {
            if number > 0 {
                self.change(&mut image, &mut new_chunks, &mut random);
            }
            publish(&session, &image, &mut stored)?;
        }
        Ok(())
    }

    /// Replaces the chunks of as many bursts as make up the share.
    fn change(&self, image: &mut [ChunkId], new: &mut impl Iterator<Item = ChunkId>, random: &mut Random) {
        let mut left = (image.len() as f64 * self.changed) as u64;
        while left > 0 {
            let start = random.below(image.len() as u64) as usize;
            let burst = self.burst.min(left) as usize;
            for (chunk, new) in image[start..].iter_mut().take(burst).zip(new.by_ref()) {
                *chunk = new;
            }
            left -= burst as u64;
        }
    }
}

/// Publishes a snapshot of an image of these chunks. `stored` knows the list nodes that are in the repository.
///
/// The list is built here and its new nodes are stored as what they are, chunks of metadata; going through an archive
/// of the image would look every chunk of every snapshot up, a hundred million times.
fn publish(session: &Session, image: &[ChunkId], stored: &mut HashSet<ChunkId>) -> Result<()> {
    let mut nodes = session
        .archive("nodes", ArchiveKind::Blob)
        .doing(|| "begin an archive".to_owned())?;
    let mut tree = TreeWriter::new(ArchiveKind::Image.cut());
    let mut store = |node: Vec<u8>| store(&mut nodes, node, stored);
    for &chunk in image {
        tree.push(IMAGE_CHUNK as u64, chunk, &mut store)
            .doing(|| "build a chunk list".to_owned())?;
    }
    let root = tree
        .finish(&mut store)
        .doing(|| "build a chunk list".to_owned())?;
    // Waits until all nodes are stored. Its own list is of no use to anyone.
    nodes.finish().doing(|| "store a chunk list".to_owned())?;
    let spec = SnapshotSpec {
        workload: "vm/100".to_owned(),
        host: "benchmark".to_owned(),
        ..SnapshotSpec::default()
    };
    let archive = Archive {
        name: "disk.raw".to_owned(),
        kind: ArchiveKind::Image,
        root,
    };
    session
        .publish(spec, vec![archive])
        .doing(|| "publish a snapshot".to_owned())?;
    Ok(())
}

fn store(
    nodes: &mut ArchiveWriter,
    node: Vec<u8>,
    stored: &mut HashSet<ChunkId>,
) -> std::result::Result<ChunkId, relight_repo::RepoError> {
    let id = ChunkId::of(&node);
    if stored.insert(id) {
        nodes.push_chunk(node)?;
    }
    Ok(id)
}
