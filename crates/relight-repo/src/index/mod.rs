//! The index: where every chunk lies. Immutable segments in storage are the truth; what is here is a cache of them.

pub mod cache;
pub mod entry;
pub mod file;
pub mod segment;

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::{Arc, Mutex, RwLock};

use relight_keys::{KeyId, KeySet, RepositoryId};

pub use entry::{Entry, PackLine};
pub use segment::Segment;

use crate::error::Result;
use crate::id::{ChunkId, PackId, SegmentId};
use crate::pack::Record;
use crate::storage::Storage;
use cache::{Cache, Locked};
use file::IndexFile;

/// With more parts than this, those of a running session are merged.
const MAX_PARTS: usize = 24;

/// What may be done with the chunks of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum PackState {
    /// They can be read and referred to.
    Live,
    /// They can be read, but a new snapshot must not refer to them: the pack will be deleted.
    Condemned,
    /// The pack has been deleted or lost.
    Gone,
}

/// A place where a chunk lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Located {
    /// The pack.
    pub pack: PackLine,
    /// The record in it.
    pub record: Record,
}

/// An index file with the state of each of its packs.
#[derive(Clone)]
struct Part {
    file: Arc<IndexFile>,
    states: Arc<[PackState]>,
}

/// The index of one repository, open in this process.
pub struct Index {
    cache: Cache,
    state: RwLock<State>,
    merging: Mutex<()>,
}

#[derive(Default)]
struct State {
    parts: Vec<Part>,
    /// The data keys that are there.
    keys: HashSet<KeyId>,
    /// Segments that could not be read for want of a data key.
    locked: Locked,
    packs: HashMap<PackId, PackState>,
    suspects: HashMap<ChunkId, Vec<PackId>>,
}

impl State {
    fn part(&self, file: Arc<IndexFile>) -> Part {
        let state = |pack: &PackLine| {
            let said = self.packs.get(&pack.id).copied().unwrap_or(PackState::Live);
            // What cannot be opened for want of its key is nothing to build upon.
            if self.keys.contains(&pack.key) {
                said
            } else {
                said.max(PackState::Condemned)
            }
        };
        let states = file.packs().iter().map(state).collect();
        Part { file, states }
    }

    fn is_suspect(&self, located: &Located) -> bool {
        let suspect = |packs: &Vec<PackId>| packs.contains(&located.pack.id);
        !self.suspects.is_empty() && self.suspects.get(&located.record.id).is_some_and(suspect)
    }

    fn places<'a>(&'a self, id: &'a ChunkId) -> impl Iterator<Item = (Located, PackState)> + 'a {
        self.parts.iter().rev().flat_map(move |part| {
            part.file.find(id).map(|(entry, pack)| {
                (
                    Located {
                        pack: *pack,
                        record: entry.record,
                    },
                    part.states[entry.pack as usize],
                )
            })
        })
    }
}

impl Index {
    /// An index whose local cache is in `directory`. It knows nothing before the first [`Self::refresh`].
    pub fn new(directory: &Path, keys: &KeySet) -> Self {
        Self {
            cache: Cache::new(directory),
            state: RwLock::new(State {
                keys: keys.ids().collect(),
                ..State::default()
            }),
            merging: Mutex::new(()),
        }
    }

    /// Reads segments that were added, and lets go of those that are no more.
    pub fn refresh(&self, storage: &dyn Storage, keys: &KeySet, repository: RepositoryId) -> Result<()> {
        let (files, locked) = self.cache.synchronise(storage, keys, repository)?;
        let mut state = self
            .state
            .write()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        state.parts = files.into_iter().map(|file| state.part(file)).collect();
        state.locked = locked;
        Ok(())
    }

    /// Says which packs are not [`PackState::Live`]. Replaces what was said before.
    pub fn set_pack_states(&self, packs: HashMap<PackId, PackState>) {
        let mut state = self
            .state
            .write()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        state.packs = packs;
        state.parts = state
            .parts
            .iter()
            .map(|part| state.part(part.file.clone()))
            .collect();
    }

    /// Says which chunks were found corrupt, and in which packs. Replaces what was said before.
    pub fn set_suspects(&self, suspects: HashMap<ChunkId, Vec<PackId>>) {
        self.state
            .write()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .suspects = suspects;
    }

    /// Where a new snapshot may refer to the chunk: in a live pack, and not known to be corrupt there.
    pub fn writable(&self, id: &ChunkId) -> Option<Located> {
        let state = self.state.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        let fit = |(place, pack): &(Located, PackState)| *pack == PackState::Live && !state.is_suspect(place);
        state.places(id).find(fit).map(|(place, _)| place)
    }

    /// Every place where the chunk may still be read, the best first.
    pub fn readable(&self, id: &ChunkId) -> Vec<Located> {
        let state = self.state.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        let mut places: Vec<_> = state
            .places(id)
            .filter(|(_, pack)| *pack != PackState::Gone)
            .collect();
        if places.len() > 1 {
            places.sort_by_key(|(place, pack)| (state.is_suspect(place), *pack));
        }
        places.into_iter().map(|(place, _)| place).collect()
    }

    /// Adds a segment that this process has just stored.
    pub fn add(&self, id: SegmentId, segment: &Segment) -> Result<()> {
        let file = self.cache.add(id, segment)?;
        let mut state = self
            .state
            .write()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let part = state.part(file);
        state.parts.push(part);
        let many = state.parts.len() > MAX_PARTS;
        drop(state);
        if many { self.merge_parts() } else { Ok(()) }
    }

    /// Merges the parts that a long session has added, so that a look-up does not ask more and more of them. Look-ups go
    /// on meanwhile.
    fn merge_parts(&self) -> Result<()> {
        let Ok(_merging) = self.merging.try_lock() else {
            return Ok(());
        };
        let read = || self.state.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        let before: Vec<Arc<IndexFile>> = read().parts.iter().map(|part| part.file.clone()).collect();
        let mut merged = before.clone();
        self.cache.merge(&mut merged)?;
        let mut state = self
            .state
            .write()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        let is_among = |file: &Arc<IndexFile>| before.iter().any(|old| Arc::ptr_eq(old, file));
        let (old, added): (Vec<Part>, Vec<Part>) =
            state.parts.drain(..).partition(|part| is_among(&part.file));
        // A refresh meanwhile has put others in their place: what was merged is then known already.
        state.parts = if old.len() == before.len() {
            merged
                .into_iter()
                .map(|file| state.part(file))
                .chain(added)
                .collect()
        } else {
            old.into_iter().chain(added).collect()
        };
        Ok(())
    }

    /// The packs that it speaks of, each once, with their state.
    pub fn packs(&self) -> HashMap<PackId, (PackLine, PackState)> {
        let state = self.state.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        let lines = state
            .parts
            .iter()
            .flat_map(|part| part.file.packs().iter().zip(part.states.iter()));
        lines.map(|(line, state)| (line.id, (*line, *state))).collect()
    }

    /// The files it is made of at this moment. They stay readable for as long as they are held.
    pub fn files(&self) -> Vec<Arc<IndexFile>> {
        let state = self.state.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        state.parts.iter().map(|part| part.file.clone()).collect()
    }

    /// Segments that it could not read because the keyring lacks their data key (given with each).
    pub fn locked(&self) -> Locked {
        let state = self.state.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        state.locked.clone()
    }

    /// The segments it was read from.
    pub fn segments(&self) -> Vec<SegmentId> {
        let state = self.state.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        state
            .parts
            .iter()
            .flat_map(|part| part.file.segments().iter().copied())
            .collect()
    }

    /// Calls `visit` for every entry of every pack that is not gone, in no particular order. A chunk that lies in
    /// several packs is visited for each.
    pub fn for_each(&self, mut visit: impl FnMut(&Located, PackState)) {
        let parts = self
            .state
            .read()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
            .parts
            .clone();
        for part in parts {
            for at in 0..part.file.len() {
                let Some(entry) = part.file.entry(at) else {
                    continue;
                };
                let number = entry.pack as usize;
                if part.states[number] != PackState::Gone {
                    let located = Located {
                        pack: part.file.packs()[number],
                        record: entry.record,
                    };
                    visit(&located, part.states[number]);
                }
            }
        }
    }

    /// Entries it holds, those of packs that are gone included.
    pub fn len(&self) -> usize {
        let state = self.state.read().unwrap_or_else(|poisoned| poisoned.into_inner());
        state.parts.iter().map(|part| part.file.len()).sum()
    }

    /// Whether it holds nothing.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
