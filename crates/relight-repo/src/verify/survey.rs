//! What there is to verify, and in which order.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;

use super::checks::{Check, Checks};
use super::health::Health;
use super::report::{Damage, Oldest};
use crate::condemned;
use crate::error::Result;
use crate::id::PackId;
use crate::index::PackLine;
use crate::pack::{PackKind, Record};
use crate::repository::Repository;
use crate::suspects;

/// Records of packs that are gathered from the index at once: 48 MiB.
const GATHERED: u64 = 1 << 20;

/// A pack that snapshots may need.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate {
    pub line: PackLine,
    /// Its length in storage; none if it is not there.
    pub size: Option<u64>,
    /// Entries that the index has for it.
    pub entries: u64,
    /// When it was last checked, or else written: the order of rotation.
    pub since: Timestamp,
    pub check: Option<Check>,
}

/// A look at everything but content.
pub(crate) struct Survey {
    /// Packs that count, those first that were not checked for the longest time.
    pub packs: Vec<Candidate>,
    pub health: Health,
    pub checks: Checks,
    /// What earlier verifications found, by the key of the record.
    pub suspects: Vec<(String, suspects::Record)>,
    /// Packs in storage that no index mentions.
    pub unindexed: Vec<(PackKind, PackId)>,
    /// Packs that have parity.
    pub parity: HashSet<PackId>,
}

impl Survey {
    /// Brings the index up to date and looks at what lies in storage.
    pub fn take(repository: &Repository) -> Result<Self> {
        loop {
            let survey = Self::look(repository)?;
            let mut missing = survey.packs.iter().filter(|pack| pack.size.is_none()).peekable();
            if missing.peek().is_none() {
                return Ok(survey);
            }
            // A collection may have removed them, and all knowledge of them, between one look and the other.
            repository.refresh()?;
            let known = repository.index().packs();
            let dropped = condemned::load_states(repository)?;
            if missing.all(|pack| known.contains_key(&pack.line.id) && !dropped.contains_key(&pack.line.id)) {
                return Ok(survey);
            }
        }
    }

    fn look(repository: &Repository) -> Result<Self> {
        // What is listed first and indexed later is there; what is indexed first could be collected before the list.
        let storage = repository.storage();
        let mut listed = HashMap::new();
        for kind in PackKind::ALL {
            for object in storage.list(kind.prefix())? {
                if let Some((kind, id)) = PackKind::parse_key(&object.key) {
                    listed.insert(id, (kind, object.size, object.modified));
                }
            }
        }
        let mut parity = HashSet::new();
        for object in storage.list(crate::parity::PREFIX)? {
            parity.extend(crate::parity::parse_key(&object.key));
        }
        repository.refresh()?;
        let vault = repository.vault();
        let dropped: HashSet<PackId> = condemned::load_states(repository)?.into_keys().collect();
        let suspects = suspects::load_records(vault)?;
        let checks = Checks::load(vault)?;
        let mut health = Health::new(repository, dropped.clone());

        let mut counted: HashMap<PackId, (PackLine, u64)> = HashMap::new();
        for file in health.files() {
            let mut counts = vec![0; file.packs().len()];
            (0..file.len())
                .filter_map(|at| file.entry(at))
                .for_each(|entry| counts[entry.pack as usize] += 1);
            for (line, count) in file.packs().iter().zip(counts) {
                counted.entry(line.id).or_insert((*line, 0)).1 += count;
            }
        }
        let unindexed = listed
            .iter()
            .filter(|(id, _)| !counted.contains_key(*id))
            .map(|(id, (kind, ..))| (*kind, *id))
            .collect();
        let mut packs = Vec::with_capacity(counted.len());
        for (id, (line, entries)) in counted {
            if dropped.contains(&id) {
                continue;
            }
            let mut found = listed.get(&id).map(|(_, size, modified)| (*size, *modified));
            if found.is_none() {
                // Written after the list was made.
                found = match storage.head(&line.kind.key(id)) {
                    Ok(object) => Some((object.size, object.modified)),
                    Err(error) if error.is_not_found() => None,
                    Err(error) => return Err(error.into()),
                };
            }
            let check = checks.packs.get(&id).copied();
            let written = found.and_then(|(_, modified)| Timestamp::from_millisecond(modified).ok());
            let since = check
                .map(|check| check.time)
                .or(written)
                .unwrap_or(Timestamp::MIN);
            let size = found.map(|(size, _)| size);
            packs.push(Candidate {
                line,
                size,
                entries,
                since,
                check,
            });
        }
        packs.sort_unstable_by_key(|pack| (pack.since, pack.line.id));

        for (_, record) in &suspects {
            for (pack, chunks) in &record.corrupt {
                health.spoil(*pack, Damage::Corrupt, chunks.iter().copied());
            }
        }
        for pack in &packs {
            if pack.size.is_none() {
                health.lose(pack.line.id, Damage::Missing);
            } else if repository.keys().get(pack.line.key).is_none() {
                health.lose(pack.line.id, Damage::KeyMissing);
            }
        }
        Ok(Self {
            packs,
            health,
            checks,
            suspects,
            unindexed,
            parity,
        })
    }

    /// The pack that was not checked for the longest time.
    pub fn oldest(&self) -> Option<Oldest> {
        let since = |pack: &Candidate| match self.checks.packs.get(&pack.line.id) {
            Some(check) => (check.time, true),
            None => (pack.since, false),
        };
        let there = self.packs.iter().filter(|pack| pack.size.is_some());
        there
            .map(|pack| (since(pack), pack.line.id))
            .min()
            .map(|((since, checked), pack)| Oldest { pack, since, checked })
    }

    /// Packs that earlier verifications found damaged.
    pub fn suspect_packs(&self) -> HashSet<PackId> {
        let records = self.suspects.iter();
        records
            .flat_map(|(_, record)| {
                let corrupt = record.corrupt.iter().map(|(pack, _)| *pack);
                record.lost.iter().copied().chain(corrupt)
            })
            .collect()
    }

    /// What the index has of some packs, in parts that fit in memory: each pack with its records by offset.
    pub fn parts<'a>(
        &'a self,
        chosen: &'a [Candidate],
    ) -> impl Iterator<Item = Vec<(Candidate, Vec<Record>)>> + 'a {
        let mut rest = chosen;
        std::iter::from_fn(move || {
            let mut entries = 0;
            let fits = |pack: &&Candidate| {
                entries += pack.entries;
                entries <= GATHERED
            };
            let count = rest.iter().take_while(fits).count().max(1).min(rest.len());
            let (now, later) = rest.split_at(count);
            rest = later;
            (!now.is_empty()).then(|| self.gather(now))
        })
    }

    fn gather(&self, chosen: &[Candidate]) -> Vec<(Candidate, Vec<Record>)> {
        let numbers: HashMap<PackId, usize> = chosen
            .iter()
            .enumerate()
            .map(|(number, pack)| (pack.line.id, number))
            .collect();
        let mut gathered: Vec<(Candidate, Vec<Record>)> = chosen
            .iter()
            .map(|pack| (*pack, Vec::with_capacity(pack.entries as usize)))
            .collect();
        for file in self.health.files() {
            let places: Vec<Option<usize>> = file
                .packs()
                .iter()
                .map(|pack| numbers.get(&pack.id).copied())
                .collect();
            if places.iter().all(Option::is_none) {
                continue;
            }
            for entry in (0..file.len()).filter_map(|at| file.entry(at)) {
                if let Some(place) = places[entry.pack as usize] {
                    gathered[place].1.push(entry.record);
                }
            }
        }
        for (_, records) in &mut gathered {
            records.sort_unstable_by_key(|record| record.offset);
            // Two segments may speak of one pack: a collection was interrupted before it removed the older one.
            records.dedup();
        }
        gathered
    }
}
