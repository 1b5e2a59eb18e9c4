//! Replaces index segments: many small ones by few, and those that speak mostly of deleted packs.

use std::collections::{HashMap, HashSet};

use super::figures::Report;
use super::pass::Pass;
use crate::control::Unit;
use crate::error::Result;
use crate::id::{PackId, SegmentId};
use crate::index::entry::ENTRY;
use crate::index::segment::{self, MAX_ENTRIES, Segment};
use crate::index::{Entry, PackLine};
use crate::storage::PutOptions;

/// With more small segments than this, they are merged.
const MOST_SMALL: usize = 32;
/// A segment of fewer entries than this is small.
const SMALL: u64 = MAX_ENTRIES as u64 / 4;

/// Segments that become one.
#[derive(Default)]
struct Group {
    packs: Vec<PackLine>,
    numbers: HashMap<PackId, u32>,
    entries: Vec<Entry>,
    replaced: Vec<SegmentId>,
    /// Whether replacing them changes anything.
    worth: bool,
}

impl Group {
    /// Takes over what is still useful of a segment.
    fn take(&mut self, id: SegmentId, segment: &Segment, gone: &HashSet<PackId>) {
        let mut numbers = Vec::with_capacity(segment.packs.len());
        for line in &segment.packs {
            if gone.contains(&line.id) {
                self.worth = true;
                numbers.push(None);
                continue;
            }
            let packs = &mut self.packs;
            let number = self.numbers.entry(line.id).or_insert_with(|| {
                packs.push(*line);
                packs.len() as u32 - 1
            });
            numbers.push(Some(*number));
        }
        self.entries.extend(segment.entries.iter().filter_map(|entry| {
            let pack = numbers[entry.pack as usize]?;
            Some(Entry { pack, ..*entry })
        }));
        self.worth |= !self.replaced.is_empty();
        self.replaced.push(id);
    }
}

impl Pass<'_> {
    /// Compacts the index. `gone` are packs that have been deleted, `stale` says that many entries are of them.
    pub(super) fn compact(&self, gone: &HashSet<PackId>, stale: bool, report: &mut Report) -> Result<()> {
        let repository = self.repository;
        let mut listed = repository.storage().list(segment::PREFIX)?;
        let is_small = |size: u64| size < SMALL * ENTRY as u64;
        let merge = listed.iter().filter(|object| is_small(object.size)).count() > MOST_SMALL;
        if !merge && !stale {
            return Ok(());
        }
        self.control
            .progress
            .begin("compact the index", Unit::Items, listed.len() as u64);
        listed.sort_by(|a, b| (a.modified, &a.key).cmp(&(b.modified, &b.key)));
        let mut group = Group::default();
        for object in &listed {
            self.control.check()?;
            self.control.progress.advance(1);
            let small = is_small(object.size);
            if !(stale || small) {
                continue;
            }
            let Some(id) = Segment::parse_key(&object.key) else {
                continue;
            };
            let sealed = match repository.storage().get(&object.key) {
                Ok(sealed) => sealed,
                Err(error) if error.is_not_found() => continue,
                Err(error) => return Err(error.into()),
            };
            let segment = Segment::open(&sealed, repository.keys(), repository.id(), id)?;
            let useless = segment
                .packs
                .iter()
                .filter(|line| gone.contains(&line.id))
                .count();
            // A large segment is replaced when a good part of it is useless.
            if !(small && merge) && useless * 10 < segment.packs.len() + 1 {
                continue;
            }
            if !group.replaced.is_empty() && group.entries.len() + segment.entries.len() > MAX_ENTRIES {
                self.replace(std::mem::take(&mut group), report)?;
            }
            group.take(id, &segment, gone);
        }
        self.replace(group, report)
    }

    /// Writes the new segment, then deletes the old ones.
    fn replace(&self, group: Group, report: &mut Report) -> Result<()> {
        if !group.worth {
            return Ok(());
        }
        let repository = self.repository;
        let mut segment = Segment {
            supersedes: group.replaced.clone(),
            packs: group.packs,
            entries: group.entries,
            ..Segment::default()
        };
        segment
            .entries
            .sort_unstable_by_key(|entry| (entry.record.id, entry.pack, entry.record.offset));
        // Two segments may speak of one pack.
        segment.entries.dedup();
        if !segment.packs.is_empty() {
            self.fence()?;
            let id = SegmentId::random()?;
            let sealed = segment.seal(repository.keys().current(), repository.id(), id)?;
            repository
                .storage()
                .put(&Segment::key(id), &[&sealed], &PutOptions::default())?;
        }
        self.fence()?;
        for id in &group.replaced {
            repository.storage().delete(&Segment::key(*id))?;
            report.segments_replaced += 1;
        }
        Ok(())
    }
}
