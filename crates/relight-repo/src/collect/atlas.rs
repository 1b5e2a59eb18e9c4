//! Every place where a chunk lies, with one bit for each that says whether it is needed there.
//!
//! Places are numbers of entries in the files of the local index, so that marking a chunk costs a bit and no memory
//! of its own, however many there are.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::survey::Survey;
use crate::error::Result;
use crate::id::{ChunkId, PackId};
use crate::index::file::IndexFile;
use crate::index::{Entry, PackLine, PackState};
use crate::repository::Repository;
use crate::storage::Millis;
use crate::suspects::Suspects;

/// One entry of the index.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(super) struct Place {
    part: u32,
    entry: u32,
}

/// What a pack is to a collection.
#[derive(Debug, Clone, Copy)]
pub(super) struct Pack {
    pub line: PackLine,
    pub state: PackState,
    /// When it was written, by the clock of the storage.
    pub modified: Millis,
    /// Whether it was there when the pass began. Others are newer, and none of its business.
    pub listed: bool,
    /// Not in storage, though nothing says that it was deleted.
    pub lost: bool,
    /// A verification did not find it, and nothing has taken that back yet.
    pub doubtful: bool,
    /// A verification found something corrupt in it.
    pub damaged: bool,
}

/// What lies in a pack.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Weight {
    /// Chunks that are needed here.
    pub live: u64,
    /// Their bytes.
    pub live_bytes: u64,
    /// Bytes of all its records and of their lines in the table of contents, as the index has them.
    pub held: u64,
    /// A chunk that is needed here is known to be damaged.
    pub hurt: bool,
}

struct Part {
    file: Arc<IndexFile>,
    /// Number in the atlas of each pack of the file.
    packs: Vec<u32>,
    live: Bits,
    walked: Bits,
}

struct Bits(Vec<AtomicU64>);

impl Bits {
    fn new(count: usize) -> Self {
        Self((0..count.div_ceil(64)).map(|_| AtomicU64::new(0)).collect())
    }

    /// Sets a bit; true if it was not set before.
    fn set(&self, at: u32) -> bool {
        let (word, bit) = (at as usize / 64, 1u64 << (at % 64));
        self.0[word].load(Ordering::Relaxed) & bit == 0
            && self.0[word].fetch_or(bit, Ordering::Relaxed) & bit == 0
    }

    fn get(&self, at: usize) -> bool {
        self.0[at / 64].load(Ordering::Relaxed) & (1 << (at % 64)) != 0
    }
}

/// How good a place is to keep a chunk at, the best first: whether it is known to be damaged there, what is said of
/// the pack, how new the pack is, and its name for want of anything better.
type Rank = (bool, PackState, Reverse<Millis>, PackId);

/// All places.
pub(super) struct Atlas {
    parts: Vec<Part>,
    pub packs: Vec<Pack>,
    numbers: HashMap<PackId, u32>,
    suspects: Suspects,
}

impl Atlas {
    /// The index as it is now, with what was found in storage.
    pub fn new(repository: &Repository, survey: &Survey, suspects: Suspects) -> Result<Self> {
        let states = crate::condemned::states(&survey.records);
        let mut atlas = Self {
            parts: Vec::new(),
            packs: Vec::new(),
            numbers: HashMap::new(),
            suspects,
        };
        for file in repository.index().files() {
            let mut numbers = Vec::with_capacity(file.packs().len());
            for line in file.packs() {
                if let Some(number) = atlas.numbers.get(&line.id) {
                    numbers.push(*number);
                    continue;
                }
                let state = states.get(&line.id).copied().unwrap_or(PackState::Live);
                let pack = atlas.find_pack(repository, survey, line, state)?;
                let number = atlas.packs.len() as u32;
                atlas.packs.push(pack);
                atlas.numbers.insert(line.id, number);
                numbers.push(number);
            }
            atlas.parts.push(Part {
                live: Bits::new(file.len()),
                walked: Bits::new(file.len()),
                packs: numbers,
                file,
            });
        }
        Ok(atlas)
    }

    fn find_pack(
        &self,
        repository: &Repository,
        survey: &Survey,
        line: &PackLine,
        state: PackState,
    ) -> Result<Pack> {
        let (modified, listed, lost) = match survey.packs.get(&line.id) {
            // One of another length is not what the index describes.
            Some(found) if found.kind == line.kind && found.size == line.size => {
                (found.modified, true, false)
            }
            Some(found) => (found.modified, true, true),
            None if state == PackState::Gone => (Millis::MIN, false, true),
            // Written since the packs were listed, or lost.
            None => match repository.storage().head(&line.kind.key(line.id)) {
                Ok(found) => (found.modified, false, found.size != line.size),
                Err(error) if error.is_not_found() => (Millis::MIN, false, true),
                Err(error) => return Err(error.into()),
            },
        };
        Ok(Pack {
            line: *line,
            state,
            modified,
            listed,
            lost,
            doubtful: self.suspects.lost.contains(&line.id),
            damaged: self.suspects.damaged.contains(&line.id),
        })
    }

    /// Whether a verification found that the chunk cannot be read there.
    fn is_suspect(&self, id: &ChunkId, pack: &Pack) -> bool {
        let corrupt = &self.suspects.corrupt;
        let known = |packs: &Vec<PackId>| packs.contains(&pack.line.id);
        pack.doubtful || (!corrupt.is_empty() && corrupt.get(id).is_some_and(known))
    }

    /// The place where a chunk is to be kept, the same for the same input: not damaged, not condemned, in the newest
    /// pack. None if it is nowhere.
    pub fn choose(&self, id: &ChunkId) -> Option<Place> {
        let mut best: Option<(Rank, Place)> = None;
        for (number, part) in self.parts.iter().enumerate() {
            for (at, entry) in part.file.positions(id) {
                let pack = &self.packs[part.packs[entry.pack as usize] as usize];
                if pack.lost || pack.state == PackState::Gone {
                    continue;
                }
                let place = Place {
                    part: number as u32,
                    entry: at as u32,
                };
                let rank = (
                    self.is_suspect(id, pack),
                    pack.state,
                    Reverse(pack.modified),
                    pack.line.id,
                );
                if best.is_none_or(|(known, _)| rank < known) {
                    best = Some((rank, place));
                }
            }
        }
        best.map(|(_, place)| place)
    }

    /// Notes that the chunk is needed at this place.
    pub fn mark(&self, place: Place) {
        self.parts[place.part as usize].live.set(place.entry);
    }

    /// Notes that the node at this place is walked; true if it was not before. Not the same as being marked: content
    /// may have the very bytes of a node.
    pub fn enter(&self, place: Place) -> bool {
        self.parts[place.part as usize].walked.set(place.entry)
    }

    /// What the index says of a place: the number of the pack, and the entry (whose own pack number is the file's).
    pub fn entry(&self, place: Place) -> Option<(u32, Entry)> {
        let part = &self.parts[place.part as usize];
        let entry = part.file.entry(place.entry as usize)?;
        Some((part.packs[entry.pack as usize], entry))
    }

    /// Visits every entry: the number of its pack, the entry, whether it is needed there.
    pub fn for_each(&self, mut visit: impl FnMut(u32, &Entry, bool)) {
        for part in &self.parts {
            for at in 0..part.file.len() {
                if let Some(entry) = part.file.entry(at) {
                    visit(part.packs[entry.pack as usize], &entry, part.live.get(at));
                }
            }
        }
    }

    /// Weighs each pack.
    pub fn weigh(&self) -> Vec<Weight> {
        let mut weights = vec![Weight::default(); self.packs.len()];
        self.for_each(|pack, entry, live| {
            let weight = &mut weights[pack as usize];
            let stored = u64::from(entry.record.stored);
            weight.held += stored + crate::pack::format::ENTRY as u64;
            if live {
                weight.live += 1;
                weight.live_bytes += stored;
                weight.hurt |= self.is_suspect(&entry.record.id, &self.packs[pack as usize]);
            }
        });
        weights
    }
}
