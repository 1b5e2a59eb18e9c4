//! Rebuilds the index from the packs' own tables of contents. Nothing of the old index is needed; where a pack's
//! table of contents cannot be read, what the old index says of it is kept.
//!
//! It takes the lease of collections, so that no pack is deleted meanwhile. Writers go on: the segments that they add
//! are newer than the list of what is replaced. The new segments are durable before the first old one is removed; a
//! crash in between leaves both, which say the same.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use relight_keys::{KeySet, SEALED_OVERHEAD};
use serde::Serialize;

use crate::condemned;
use crate::control::{Control, Unit};
use crate::error::{RepoError, Result};
use crate::id::{PackId, SegmentId};
use crate::index::segment::{self, MAX_ENTRIES, Segment};
use crate::index::{PackLine, PackState};
use crate::lease::{COLLECT, Lease};
use crate::pack::reader::read_toc;
use crate::pack::{PackKind, Record};
use crate::repository::{OpenOptions, Repository};
use crate::session::announce::Presence;
use crate::storage::{PutOptions, Storage, StorageError};
use crate::verify::Damage;

/// A pack whose table of contents could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeptPack {
    /// The pack.
    pub pack: PackId,
    /// What is wrong.
    pub damage: Damage,
    /// In words.
    pub detail: String,
    /// Whether the old index knew what is in it, so that its chunks can still be found.
    pub known: bool,
}

/// A segment of the old index that could not be read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BadSegment {
    /// The segment.
    pub segment: SegmentId,
    /// What is wrong.
    pub damage: Damage,
    /// In words.
    pub detail: String,
}

/// What came of rebuilding an index.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct IndexReport {
    /// Packs in the new index.
    pub packs: u64,
    /// Chunks in them.
    pub chunks: u64,
    /// Packs of these that the old index did not mention.
    pub new_packs: u64,
    /// Segments that were written.
    pub written: u64,
    /// Segments that they replaced.
    pub replaced: u64,
    /// Segments that could not be read. They were replaced like the others, unless all they lack is a data key: those
    /// were left where they are.
    pub bad_segments: Vec<BadSegment>,
    /// Packs whose table of contents could not be read.
    pub kept: Vec<KeptPack>,
    /// Packs that the old index mentions and that are not there.
    pub missing: Vec<PackId>,
}

/// Rebuilds the index of the repository in `storage`, which need not be one that can be opened.
///
/// # Errors
/// Where storage is not available, a collection is running, or no data key at all fits. Nothing is removed then.
pub fn index(
    storage: Arc<dyn Storage>,
    keys: KeySet,
    options: OpenOptions,
    control: Control<'_>,
) -> Result<IndexReport> {
    let repository = Arc::new(Repository::open_without_index(storage, keys, options)?);
    let lease = Lease::acquire(&repository, COLLECT)?;
    let presence = Presence::announce(repository.clone())?;
    let rebuild = Rebuild {
        repository: &repository,
        lease: &lease,
        presence: &presence,
        control,
    };
    rebuild.run()
}

fn missing_key(error: &RepoError) -> Option<&str> {
    match error {
        RepoError::KeyMissing { key, .. } => Some(key),
        _ => None,
    }
}

struct Rebuild<'a> {
    repository: &'a Repository,
    lease: &'a Lease,
    presence: &'a Presence,
    control: Control<'a>,
}

/// The new index while it is being made.
struct Growing {
    segment: Segment,
    replaces: Vec<SegmentId>,
    report: IndexReport,
    mentioned: HashSet<PackId>,
}

impl Rebuild<'_> {
    fn run(&self) -> Result<IndexReport> {
        let storage = self.repository.storage();
        // First the segments: every pack that one of them speaks of is in the list that follows, or lost.
        let mut old: Vec<SegmentId> = storage
            .list(segment::PREFIX)?
            .iter()
            .filter_map(|object| Segment::parse_key(&object.key))
            .collect();
        old.sort_unstable();
        // What another keyring may open is left where it is.
        let locked = self.take_locked(&mut old)?;
        let mut packs: BTreeMap<(PackKind, PackId), u64> = BTreeMap::new();
        for kind in PackKind::ALL {
            for object in storage.list(kind.prefix())? {
                packs.extend(PackKind::parse_key(&object.key).map(|name| (name, object.size)));
            }
        }
        let states = condemned::load_states(self.repository)?;
        packs.retain(|(_, id), _| states.get(id) != Some(&PackState::Gone));

        let growing = Mutex::new(Growing {
            segment: Segment::default(),
            replaces: old.clone(),
            report: IndexReport::default(),
            mentioned: HashSet::new(),
        });
        let unread = self.read_all(&packs, &growing)?;
        let mut growing = growing
            .into_inner()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        // A key of which no pack knows is damage to the segment's own header.
        let wanted: HashSet<&str> = unread.values().filter_map(missing_key).collect();
        for (key, bad) in locked {
            match wanted.contains(key.as_str()) {
                true => growing.report.bad_segments.push(bad),
                false => old.push(bad.segment),
            }
        }
        self.keep(&old, &packs, &states, unread, &mut growing)?;
        let rest = std::mem::take(&mut growing.segment);
        self.store(rest, &mut growing)?;
        self.remove(&old, &mut growing.report)?;
        let mut report = growing.report;
        report.missing.sort_unstable();
        report.kept.sort_unstable_by_key(|kept| kept.pack);
        match self.repository.refresh() {
            Ok(()) | Err(RepoError::KeyMissing { .. }) => Ok(report),
            Err(error) => Err(error),
        }
    }

    /// Takes out segments that are sealed under data keys which the keyring lacks.
    fn take_locked(&self, old: &mut Vec<SegmentId>) -> Result<Vec<(String, BadSegment)>> {
        let repository = self.repository;
        let mut locked = Vec::new();
        let mut failure = None;
        old.retain(|segment| {
            let mut header = [0; SEALED_OVERHEAD];
            let name = Segment::key(*segment);
            match repository.storage().get_range(&name, 0, &mut header) {
                Ok(()) => {}
                Err(error @ (StorageError::Unavailable { .. } | StorageError::Denied { .. })) => {
                    failure.get_or_insert(error);
                    return true;
                }
                Err(_) => return true,
            }
            let opened = Segment::open(&header, repository.keys(), repository.id(), *segment);
            match opened {
                Err(RepoError::KeyMissing { what, key }) => {
                    let bad = BadSegment {
                        segment: *segment,
                        damage: Damage::KeyMissing,
                        detail: format!("{what} is sealed under data key {key}, which is not in the keyring"),
                    };
                    locked.push((key, bad));
                    false
                }
                // The front alone never opens; that it is not for want of a key is all that counts.
                _ => true,
            }
        });
        match failure {
            Some(error) => Err(error.into()),
            None => Ok(locked),
        }
    }

    /// Reads the tables of contents of all packs. Returns what could not be read.
    fn read_all(
        &self,
        packs: &BTreeMap<(PackKind, PackId), u64>,
        growing: &Mutex<Growing>,
    ) -> Result<HashMap<PackId, RepoError>> {
        let list: Vec<_> = packs.iter().collect();
        self.control
            .progress
            .begin("reading tables of contents", Unit::Items, list.len() as u64);
        let next = AtomicUsize::new(0);
        let unread = Mutex::new(HashMap::new());
        let failure: Mutex<Option<RepoError>> = Mutex::new(None);
        let threads = self.repository.options().threads.max(8).min(list.len());
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(|| {
                    while let Some((name, size)) = list.get(next.fetch_add(1, Ordering::Relaxed)) {
                        if let Err(error) = self.read_one(name.0, name.1, **size, growing, &unread) {
                            next.store(list.len(), Ordering::Relaxed);
                            failure
                                .lock()
                                .unwrap_or_else(|poisoned| poisoned.into_inner())
                                .get_or_insert(error);
                        }
                        self.control.progress.advance(1);
                    }
                });
            }
        });
        match failure
            .into_inner()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
        {
            Some(error) => Err(error),
            None => Ok(unread
                .into_inner()
                .unwrap_or_else(|poisoned| poisoned.into_inner())),
        }
    }

    fn read_one(
        &self,
        kind: PackKind,
        id: PackId,
        size: u64,
        growing: &Mutex<Growing>,
        unread: &Mutex<HashMap<PackId, RepoError>>,
    ) -> Result<()> {
        self.control.check()?;
        let repository = self.repository;
        let storage = repository.storage();
        match read_toc(storage, repository.id(), repository.keys(), kind, id, size) {
            Ok((header, records)) => {
                let line = PackLine {
                    id,
                    kind,
                    key: header.key,
                    size,
                };
                let mut growing = growing.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                self.add(line, &records, &mut growing)
            }
            // A service that is down would make an index that knows nothing.
            Err(RepoError::Storage(
                error @ (StorageError::Unavailable { .. } | StorageError::Denied { .. }),
            )) => Err(error.into()),
            Err(error) => {
                let mut unread = unread.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                unread.insert(id, error);
                Ok(())
            }
        }
    }

    fn add(&self, line: PackLine, records: &[Record], growing: &mut Growing) -> Result<()> {
        let held = &growing.segment.entries;
        if !held.is_empty() && held.len() + records.len() > MAX_ENTRIES / 2 {
            let full = std::mem::take(&mut growing.segment);
            self.store(full, growing)?;
        }
        growing.report.packs += 1;
        growing.report.chunks += records.len() as u64;
        growing.mentioned.insert(line.id);
        growing.segment.add_pack(line, records);
        Ok(())
    }

    fn fence(&self) -> Result<()> {
        self.control.check()?;
        self.presence.check()?;
        self.lease.check()
    }

    fn store(&self, mut segment: Segment, growing: &mut Growing) -> Result<()> {
        if segment.packs.is_empty() {
            return Ok(());
        }
        self.fence()?;
        segment.rebuilt = true;
        segment.supersedes = growing.replaces.clone();
        segment.sort();
        let (repository, id) = (self.repository, SegmentId::random()?);
        let sealed = segment.seal(repository.keys().current(), repository.id(), id)?;
        repository
            .storage()
            .put(&Segment::key(id), &[&sealed], &PutOptions::default())?;
        growing.report.written += 1;
        Ok(())
    }

    /// Looks through the old index: which packs are lost, and what does it say of those that could not be read?
    fn keep(
        &self,
        old: &[SegmentId],
        packs: &BTreeMap<(PackKind, PackId), u64>,
        states: &HashMap<PackId, PackState>,
        unread: HashMap<PackId, RepoError>,
        growing: &mut Growing,
    ) -> Result<()> {
        let repository = self.repository;
        self.control
            .progress
            .begin("reading the old index", Unit::Items, old.len() as u64);
        let mut kept: HashMap<PackId, (PackLine, Vec<Record>)> = HashMap::new();
        let mut mentioned: HashSet<PackId> = HashSet::new();
        let mut missing: HashSet<PackId> = HashSet::new();
        for id in old {
            self.control.check()?;
            self.control.progress.advance(1);
            let opened = match repository.storage().get(&Segment::key(*id)) {
                Ok(sealed) => Segment::open(&sealed, repository.keys(), repository.id(), *id),
                Err(error) if error.is_not_found() => continue,
                Err(error @ (StorageError::Unavailable { .. } | StorageError::Denied { .. })) => {
                    return Err(error.into());
                }
                Err(error) => Err(error.into()),
            };
            let segment = match opened {
                Ok(segment) => segment,
                Err(error) => {
                    growing.report.bad_segments.push(BadSegment {
                        segment: *id,
                        damage: Damage::of(&error),
                        detail: error.to_string(),
                    });
                    continue;
                }
            };
            for line in &segment.packs {
                mentioned.insert(line.id);
                if !packs.contains_key(&(line.kind, line.id)) && !states.contains_key(&line.id) {
                    missing.insert(line.id);
                }
                if unread.contains_key(&line.id) {
                    kept.entry(line.id).or_insert((*line, Vec::new()));
                }
            }
            for entry in &segment.entries {
                if let Some((_, records)) = kept.get_mut(&segment.packs[entry.pack as usize].id) {
                    records.push(entry.record);
                }
            }
        }
        for (pack, error) in unread {
            let known = kept.remove(&pack);
            growing.report.kept.push(KeptPack {
                pack,
                damage: Damage::of(&error),
                detail: error.to_string(),
                known: known.is_some(),
            });
            if let Some((line, mut records)) = known {
                records.sort_unstable_by_key(|record| record.offset);
                records.dedup();
                self.add(line, &records, growing)?;
            }
        }
        growing.report.new_packs = growing.mentioned.difference(&mentioned).count() as u64;
        growing.report.missing.extend(missing);
        Ok(())
    }

    /// Removes the old segments, now that the new ones are durable.
    fn remove(&self, old: &[SegmentId], report: &mut IndexReport) -> Result<()> {
        if old.is_empty() {
            return Ok(());
        }
        self.fence()?;
        for id in old {
            self.repository.storage().delete(&Segment::key(*id))?;
            report.replaced += 1;
        }
        Ok(())
    }
}
