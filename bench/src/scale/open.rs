//! Opening a repository of very many chunks, and looking chunks up in it.

use std::hint::black_box;
use std::time::Instant;

use relight_repo::ChunkId;
use serde::{Deserialize, Serialize};

use super::process::{self, Memory};
use super::synthetic::{CHUNKS_A_PACK, Place, chunks_of_pack};
use crate::data::Random;
use crate::failure::{Failure, Result};

/// The seed of the chunks that are there; that of those that are not is another.
pub const SEED: u64 = 0x6f70_656e;
const LOOKUPS: u64 = 1_000_000;

/// What opening and looking up cost.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Opened {
    /// Chunks in the index.
    pub chunks: u64,
    /// From nothing to an open repository, in seconds.
    pub open_seconds: f64,
    /// Memory right after.
    pub open_memory: Memory,
    /// A look-up of a chunk that is not there, in nanoseconds.
    pub unknown_nanos: f64,
    /// Page faults that waited for a disk, over a million such look-ups.
    pub unknown_major_faults: u64,
    /// Bytes read from a disk over a million such look-ups.
    pub unknown_disk_read: u64,
    /// Memory right after them.
    pub unknown_memory: Memory,
    /// A look-up of a chunk that is there, in nanoseconds.
    pub known_nanos: f64,
}

/// Opens the repository and looks up what is and what is not in it.
pub fn measure(place: &Place) -> Result<Opened> {
    let started = Instant::now();
    let repository = place.open()?;
    let open_seconds = started.elapsed().as_secs_f64();
    let open_memory = process::memory();
    let index = repository.index();
    let chunks = index.len() as u64;

    let mut random = Random::new(SEED + 1);
    let (faults, read) = (process::major_faults(), process::disk_read());
    let started = Instant::now();
    for _ in 0..LOOKUPS {
        let mut id = ChunkId::default();
        random.fill(&mut id.0);
        if black_box(index.writable(&id)).is_some() {
            return Err(Failure::new("a chunk that was never made was found"));
        }
    }
    let unknown_nanos = started.elapsed().as_secs_f64() * 1e9 / LOOKUPS as f64;
    let (faults, read) = (process::major_faults() - faults, process::disk_read() - read);
    let unknown_memory = process::memory();

    let packs = chunks / CHUNKS_A_PACK;
    let mut wanted = Vec::new();
    for _ in 0..(LOOKUPS / CHUNKS_A_PACK).min(packs) {
        wanted.extend(chunks_of_pack(SEED, random.below(packs)));
    }
    let started = Instant::now();
    for id in &wanted {
        if black_box(index.writable(id)).is_none() {
            return Err(Failure::new("a chunk of the index was not found"));
        }
    }
    let known_nanos = started.elapsed().as_secs_f64() * 1e9 / wanted.len().max(1) as f64;
    Ok(Opened {
        chunks,
        open_seconds,
        open_memory,
        unknown_nanos,
        unknown_major_faults: faults,
        unknown_disk_read: read,
        unknown_memory,
        known_nanos,
    })
}
