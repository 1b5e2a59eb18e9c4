//! Writes down what was found, so that writers store it again and readers look elsewhere first, and takes back what
//! is good again.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use crate::error::Result;
use crate::id::{ChunkId, PackId};
use crate::repository::Repository;
use crate::suspects;

/// What a verification or repair learned of packs.
#[derive(Debug, Default)]
pub(crate) struct Learned {
    /// Packs in which everything is good, or that nobody needs any more.
    pub good: HashSet<PackId>,
    /// Packs that are not there.
    pub lost: HashSet<PackId>,
    /// Packs that were looked at whole, with their corrupt chunks (none: only what is around them).
    pub damaged: HashMap<PackId, Vec<ChunkId>>,
    /// Chunks that are corrupt in packs that were not looked at whole.
    pub more: Vec<(PackId, ChunkId)>,
}

/// Brings the records in `known` up to date with what was learned. Returns the packs that were suspect and are good.
pub(crate) fn settle(
    repository: &Repository,
    known: &[(String, suspects::Record)],
    learned: &Learned,
) -> Result<Vec<PackId>> {
    let (mut lost, mut corrupt): (BTreeSet<PackId>, BTreeMap<PackId, BTreeSet<ChunkId>>) = Default::default();
    for (_, record) in known {
        lost.extend(&record.lost);
        for (pack, chunks) in &record.corrupt {
            corrupt.entry(*pack).or_default().extend(chunks);
        }
    }
    let before = (lost.clone(), corrupt.clone());
    for pack in &learned.good {
        lost.remove(pack);
        corrupt.remove(pack);
    }
    for pack in &learned.lost {
        lost.insert(*pack);
        corrupt.remove(pack);
    }
    for (pack, chunks) in &learned.damaged {
        lost.remove(pack);
        corrupt.insert(*pack, chunks.iter().copied().collect());
    }
    for (pack, chunk) in &learned.more {
        corrupt.entry(*pack).or_default().insert(*chunk);
    }
    let suspect = before.0.iter().chain(before.1.keys());
    let healed: BTreeSet<PackId> = suspect
        .filter(|pack| learned.good.contains(pack))
        .copied()
        .collect();
    let untidy = known.len() > 1 || (before.0.is_empty() && before.1.is_empty() && !known.is_empty());
    if untidy || (&lost, &corrupt) != (&before.0, &before.1) {
        // One record that says all, and only then the old ones go.
        if !lost.is_empty() || !corrupt.is_empty() {
            let corrupt = corrupt
                .into_iter()
                .map(|(pack, chunks)| (pack, chunks.into_iter().collect()));
            let record = suspects::Record {
                time: repository.now(),
                lost: lost.into_iter().collect(),
                corrupt: corrupt.collect(),
            };
            suspects::store(repository.vault(), &record)?;
        }
        for (key, _) in known {
            repository.storage().delete(key)?;
        }
        repository.refresh_states()?;
    }
    Ok(healed.into_iter().collect())
}
