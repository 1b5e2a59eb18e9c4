//! How much there is: of what was saved, of what it takes up, and what each workload has to itself.
//!
//! Each distinct list node is read once, from the top: what is known of a node when its turn comes is which workloads
//! lead to it, and that is handed down to its chunks. Sets of workloads are kept once each and named by a number, so
//! that a chunk costs four bytes.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex};

use serde::Serialize;

use crate::control::{Control, Unit};
use crate::error::{RepoError, Result};
use crate::id::ChunkId;
use crate::index::file::IndexFile;
use crate::index::segment;
use crate::pack::PackKind;
use crate::read::ChunkReader;
use crate::repository::Repository;
use crate::tree::Node;
use crate::tree::node::{Child, MAX_LEVELS};
use crate::verify::fold::load;

/// Members of all sets together that are remembered: 64 MiB. Beyond, sets that would be new are just "several".
const MEMBERS: usize = 16 << 20;

/// Content, and what it takes up.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    /// Distinct chunks.
    pub chunks: u64,
    /// Bytes of content in them: deduplicated.
    pub content: u64,
    /// Bytes that they take up in packs: compressed and sealed.
    pub stored: u64,
}

impl Amount {
    fn add(&mut self, other: Self) {
        self.chunks += other.chunks;
        self.content += other.content;
        self.stored += other.stored;
    }
}

/// Figures of one workload.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct WorkloadStats {
    /// Its name.
    pub workload: String,
    /// Its snapshots.
    pub snapshots: u64,
    /// Bytes of the archives of all its snapshots.
    pub logical: u64,
    /// Bytes of the archives of its newest snapshot.
    pub newest: u64,
    /// What its snapshots need.
    pub needed: Amount,
    /// What only its snapshots need: about what forgetting them all would free.
    pub exclusive: Amount,
}

/// Figures of a repository.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Stats {
    /// Snapshots.
    pub snapshots: u64,
    /// Bytes of all their archives.
    pub logical: u64,
    /// What they need.
    pub needed: Amount,
    /// What several workloads need.
    pub shared: Amount,
    /// By workload, in the order of their names.
    pub workloads: Vec<WorkloadStats>,
    /// So many different sets of workloads share chunks that `needed` of single workloads is too little.
    pub approximate: bool,
    /// Chunks that snapshots need and no index knows.
    pub missing: u64,
    /// Manifests and list nodes that cannot be read: what lies below them is not counted.
    pub unreadable: u64,
    /// Bytes of all data packs.
    pub data_packs: u64,
    /// Bytes of all metadata packs.
    pub metadata_packs: u64,
    /// Bytes of parity.
    pub parity: u64,
    /// Bytes of index segments.
    pub index: u64,
    /// Bytes of all objects.
    pub total: u64,
}

/// Counts.
///
/// # Errors
/// Where storage is not available, or somebody asked to stop.
pub fn stats(repository: &Arc<Repository>, control: Control<'_>) -> Result<Stats> {
    repository.refresh()?;
    let mut stats = Stats::default();
    weigh_objects(repository, &mut stats)?;
    let (snapshots, bad) = repository.snapshots()?;
    stats.unreadable = bad.len() as u64;
    let mut workloads: BTreeMap<&str, WorkloadStats> = BTreeMap::new();
    for snapshot in &snapshots {
        let figures = workloads.entry(&snapshot.workload).or_default();
        figures.snapshots += 1;
        figures.logical += snapshot.size();
        // They come oldest first.
        figures.newest = snapshot.size();
    }
    let numbers: HashMap<&str, u32> = workloads
        .keys()
        .enumerate()
        .map(|(number, name)| (*name, number as u32))
        .collect();

    let files = repository.index().files();
    let counter = Counter {
        state: Mutex::new(State::new(&files)),
        files,
    };
    let mut levels: Vec<HashMap<ChunkId, u32>> = vec![HashMap::new(); usize::from(MAX_LEVELS) + 1];
    for snapshot in &snapshots {
        let set = counter.lock().sets.only(numbers[snapshot.workload.as_str()]);
        for root in snapshot.archives.iter().map(|archive| archive.root) {
            if root.id == ChunkId::ZEROS {
                continue;
            }
            let Some(level) = levels.get_mut(usize::from(root.levels)) else {
                return Err(RepoError::damaged("chunk list", "it has too many levels"));
            };
            let mut state = counter.lock();
            let known = level.entry(root.id).or_insert(0);
            *known = state.sets.union(*known, set);
        }
    }
    counter.walk(repository, levels, control)?;
    let state = counter
        .state
        .into_inner()
        .unwrap_or_else(|poisoned| poisoned.into_inner());
    state.sum_up(&counter.files, &mut workloads, &mut stats);
    stats.snapshots = snapshots.len() as u64;
    stats.logical = snapshots.iter().map(|snapshot| snapshot.size()).sum();
    stats.workloads = workloads
        .into_iter()
        .map(|(name, figures)| WorkloadStats {
            workload: name.to_string(),
            ..figures
        })
        .collect();
    Ok(stats)
}

fn weigh_objects(repository: &Repository, stats: &mut Stats) -> Result<()> {
    for object in repository.storage().list("")? {
        stats.total += object.size;
        let folders = [
            (PackKind::Data.prefix(), &mut stats.data_packs),
            (PackKind::Metadata.prefix(), &mut stats.metadata_packs),
            (crate::parity::PREFIX, &mut stats.parity),
            (segment::PREFIX, &mut stats.index),
        ];
        for (prefix, bytes) in folders {
            if object.key.starts_with(prefix) {
                *bytes += object.size;
            }
        }
    }
    Ok(())
}

/// Walks and counts.
struct Counter {
    files: Vec<Arc<IndexFile>>,
    state: Mutex<State>,
}

struct State {
    sets: Sets,
    /// For each entry of each index file the set of workloads that need the chunk, if it is counted there.
    needed: Vec<Vec<u32>>,
    missing: u64,
    unreadable: u64,
}

impl Counter {
    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The one place where a chunk is counted, however many it lies in.
    fn place(&self, id: &ChunkId) -> Option<(usize, usize)> {
        let mut files = self.files.iter().enumerate();
        files.find_map(|(number, file)| Some((number, file.positions(id).next()?.0)))
    }

    fn count(&self, chunks: impl Iterator<Item = (ChunkId, u32)>) {
        let places: Vec<_> = chunks.map(|(id, set)| (self.place(&id), set)).collect();
        let state = &mut *self.lock();
        for (place, set) in places {
            match place {
                Some((file, at)) => {
                    let known = &mut state.needed[file][at];
                    *known = state.sets.union(*known, set);
                }
                None => state.missing += 1,
            }
        }
    }

    fn walk(
        &self,
        repository: &Arc<Repository>,
        mut levels: Vec<HashMap<ChunkId, u32>>,
        control: Control<'_>,
    ) -> Result<()> {
        let reader = ChunkReader::new(repository.clone())?;
        for level in (1..levels.len()).rev() {
            let nodes = std::mem::take(&mut levels[level]);
            if nodes.is_empty() {
                continue;
            }
            control
                .progress
                .begin("reading chunk lists", Unit::Items, nodes.len() as u64);
            let ids: Vec<ChunkId> = nodes.keys().copied().collect();
            let below = Mutex::new(std::mem::take(&mut levels[level - 1]));
            self.count(nodes.iter().map(|(id, set)| (*id, *set)));
            load(&reader, ids, level as u8, control, &|id, node: Result<Node>| {
                let (Ok(node), Some(set)) = (node, nodes.get(&id).copied()) else {
                    self.lock().unreadable += 1;
                    return;
                };
                let real = |child: &&Child| child.id != ChunkId::ZEROS;
                let children = node.children.iter().filter(real).map(|child| child.id);
                if level == 1 {
                    self.count(children.map(|child| (child, set)));
                    return;
                }
                let mut below = below.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                let mut state = self.lock();
                for child in children {
                    let known = below.entry(child).or_insert(0);
                    *known = state.sets.union(*known, set);
                }
            })?;
            levels[level - 1] = below
                .into_inner()
                .unwrap_or_else(|poisoned| poisoned.into_inner());
        }
        // Archives of a single chunk, which have no nodes.
        self.count(levels[0].iter().map(|(id, set)| (*id, *set)));
        Ok(())
    }
}

impl State {
    fn new(files: &[Arc<IndexFile>]) -> Self {
        Self {
            sets: Sets::default(),
            needed: files.iter().map(|file| vec![0; file.len()]).collect(),
            missing: 0,
            unreadable: 0,
        }
    }

    fn sum_up(
        &self,
        files: &[Arc<IndexFile>],
        workloads: &mut BTreeMap<&str, WorkloadStats>,
        stats: &mut Stats,
    ) {
        let mut sums = vec![Amount::default(); self.sets.members.len()];
        for (file, needed) in files.iter().zip(&self.needed) {
            for (at, set) in needed.iter().enumerate().filter(|(_, set)| **set != NOBODY) {
                if let Some(entry) = file.entry(at) {
                    sums[*set as usize].add(Amount {
                        chunks: 1,
                        content: u64::from(entry.record.raw),
                        stored: u64::from(entry.record.stored),
                    });
                }
            }
        }
        let mut by_number: Vec<&mut WorkloadStats> = workloads.values_mut().collect();
        for (members, amount) in self.sets.members.iter().zip(sums) {
            stats.needed.add(amount);
            match members[..] {
                [only] => {
                    by_number[only as usize].needed.add(amount);
                    by_number[only as usize].exclusive.add(amount);
                }
                _ => {
                    stats.shared.add(amount);
                    members
                        .iter()
                        .for_each(|member| by_number[*member as usize].needed.add(amount));
                }
            }
        }
        stats.approximate = self.sets.overflown;
        stats.missing = self.missing;
        stats.unreadable += self.unreadable;
    }
}

/// The set of no workload, and that of several of which is not known which.
const NOBODY: u32 = 0;
const SEVERAL: u32 = 1;

/// Sets of workloads, each kept once.
struct Sets {
    members: Vec<Vec<u32>>,
    numbers: HashMap<Vec<u32>, u32>,
    unions: HashMap<(u32, u32), u32>,
    held: usize,
    overflown: bool,
}

impl Default for Sets {
    fn default() -> Self {
        Self {
            members: vec![Vec::new(), Vec::new()],
            numbers: HashMap::new(),
            unions: HashMap::new(),
            held: 0,
            overflown: false,
        }
    }
}

impl Sets {
    fn only(&mut self, workload: u32) -> u32 {
        self.number(vec![workload])
    }

    fn number(&mut self, members: Vec<u32>) -> u32 {
        if let Some(number) = self.numbers.get(&members) {
            return *number;
        }
        if members.len() > 1 && self.held + members.len() > MEMBERS {
            self.overflown = true;
            return SEVERAL;
        }
        self.held += members.len();
        let number = self.members.len() as u32;
        self.members.push(members.clone());
        self.numbers.insert(members, number);
        number
    }

    fn union(&mut self, a: u32, b: u32) -> u32 {
        if a == b || b == NOBODY {
            return a;
        }
        if a == NOBODY {
            return b;
        }
        if a == SEVERAL || b == SEVERAL {
            return SEVERAL;
        }
        let pair = (a.min(b), a.max(b));
        if let Some(number) = self.unions.get(&pair) {
            return *number;
        }
        let mut members = [&self.members[a as usize][..], &self.members[b as usize]].concat();
        members.sort_unstable();
        members.dedup();
        let number = self.number(members);
        if self.unions.len() < MEMBERS / 8 {
            self.unions.insert(pair, number);
        }
        number
    }
}
