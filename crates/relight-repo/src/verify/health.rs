//! What is known to be wrong, and what follows for a single chunk.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use super::report::Damage;
use crate::id::{ChunkId, PackId};
use crate::index::PackLine;
use crate::index::file::IndexFile;
use crate::pack::Record;
use crate::repository::Repository;

/// What is known of packs and of the chunks in them. What nothing is known of is taken to be good.
pub(crate) struct Health {
    files: Vec<Arc<IndexFile>>,
    /// Packs that collections have deleted or are about to: nothing may rely on them.
    dropped: HashSet<PackId>,
    /// Packs of which no chunk can be had.
    whole: HashMap<PackId, Damage>,
    /// What is to be said of a chunk that no index knows.
    absent: Damage,
    /// Single chunks that cannot be had in a pack.
    single: HashMap<PackId, HashMap<ChunkId, Damage>>,
}

impl Health {
    pub fn new(repository: &Repository, dropped: HashSet<PackId>) -> Self {
        Self {
            files: repository.index().files(),
            dropped,
            whole: HashMap::new(),
            // It may be in the part that nobody can read now.
            absent: match repository.index().locked().is_empty() {
                true => Damage::Missing,
                false => Damage::KeyMissing,
            },
            single: HashMap::new(),
        }
    }

    /// The index it goes by.
    pub fn files(&self) -> &[Arc<IndexFile>] {
        &self.files
    }

    /// Nothing of the pack can be had.
    pub fn lose(&mut self, pack: PackId, damage: Damage) {
        self.single.remove(&pack);
        self.whole.insert(pack, damage);
    }

    /// These chunks of the pack cannot be had, the others can.
    pub fn spoil(&mut self, pack: PackId, damage: Damage, chunks: impl IntoIterator<Item = ChunkId>) {
        let mut chunks = chunks.into_iter().peekable();
        if chunks.peek().is_some() {
            let spoilt = self.single.entry(pack).or_default();
            spoilt.extend(chunks.map(|chunk| (chunk, damage)));
        }
    }

    /// Forgets what was known of a pack: it has been looked at again.
    pub fn clear(&mut self, pack: PackId) {
        self.whole.remove(&pack);
        self.single.remove(&pack);
    }

    /// Whether anything is known to be wrong.
    pub fn is_perfect(&self) -> bool {
        self.whole.is_empty() && self.single.is_empty()
    }

    /// Every place of a chunk in packs that count, with what is wrong there.
    pub fn places<'a>(
        &'a self,
        id: &'a ChunkId,
    ) -> impl Iterator<Item = (&'a PackLine, Record, Option<Damage>)> + 'a {
        self.files
            .iter()
            .rev()
            .flat_map(move |file| file.find(id))
            .filter(|(_, pack)| !self.dropped.contains(&pack.id))
            .map(|(entry, pack)| {
                let single = || self.single.get(&pack.id)?.get(id).copied();
                let damage = self.whole.get(&pack.id).copied().or_else(single);
                (pack, entry.record, damage)
            })
    }

    /// What is wrong with a chunk, if there is no place where it is good: by its best place.
    pub fn verdict(&self, id: &ChunkId) -> Option<Damage> {
        let mut best = None;
        for (_, _, damage) in self.places(id) {
            match damage {
                None => return None,
                Some(damage) => best = best.max(Some(damage)),
            }
        }
        best.or(Some(self.absent))
    }
}
