//! Walks the chunk lists of all snapshots and marks what is needed. Each distinct node is read once, level by level,
//! in the order in which nodes lie in packs, so that neighbours come in one request.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::atlas::{Atlas, Place};
use crate::control::{Control, Unit};
use crate::error::{RepoError, Result};
use crate::id::ChunkId;
use crate::pack::codec::Decoder;
use crate::pack::reader::PackOpener;
use crate::read::ChunkReader;
use crate::repository::Repository;
use crate::storage::StorageError;
use crate::tree::node::MAX_LEVELS;
use crate::tree::{Node, Root};

/// A request covers at most this much.
const MOST: u64 = 4 << 20;
/// Two nodes are fetched together if what lies between them is not more than this.
const GAP: u64 = 64 << 10;
/// Chunks that are remembered as marked (8 MiB of them), so that they need not be looked up again: the versions of a node
/// share nearly all of theirs.
const REMEMBERED: usize = 1 << 18;
/// Parts of what is remembered; each has a lock of its own.
const SHARDS: usize = 1 << 10;

/// What could not be found or read.
#[derive(Debug, Default)]
pub(super) struct Damage {
    pub count: u64,
    pub first: Option<ChunkId>,
}

impl Damage {
    fn add(&mut self, id: ChunkId) {
        self.count += 1;
        self.first.get_or_insert(id);
    }

    fn merge(&mut self, other: Self) {
        self.count += other.count;
        self.first = self.first.or(other.first);
    }
}

/// Marks what is needed.
pub(super) struct Marker<'a> {
    repository: &'a Arc<Repository>,
    atlas: &'a Atlas,
    control: Control<'a>,
    reader: ChunkReader,
    threads: usize,
}

/// Chunks that were marked lately.
struct Remembered(Box<[Mutex<[ChunkId; REMEMBERED / SHARDS]>]>);

impl Remembered {
    fn new() -> Self {
        let shard = || Mutex::new([ChunkId::ZEROS; REMEMBERED / SHARDS]);
        Self((0..SHARDS).map(|_| shard()).collect())
    }

    /// Whether it is among them; if not, it is from now on.
    fn has(&self, id: &ChunkId) -> bool {
        let place = u32::from_le_bytes([id.0[28], id.0[29], id.0[30], id.0[31]]) as usize % REMEMBERED;
        let mut shard = self.0[place % SHARDS]
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        std::mem::replace(&mut shard[place / SHARDS], *id) == *id
    }
}

/// One request: nodes that lie near each other in one pack.
struct Fetch {
    pack: u32,
    start: u64,
    end: u64,
    nodes: Vec<Place>,
}

/// What one thread brings home.
#[derive(Default)]
struct Harvest {
    next: Vec<Place>,
    damage: Damage,
}

struct Worker<'a, 'b> {
    marker: &'b Marker<'a>,
    level: u8,
    remembered: &'b Remembered,
    harvest: Harvest,
    decoder: Decoder,
    sealed: Vec<u8>,
    scratch: Vec<u8>,
}

impl<'a> Marker<'a> {
    pub fn new(repository: &'a Arc<Repository>, atlas: &'a Atlas, control: Control<'a>) -> Result<Self> {
        Ok(Self {
            repository,
            atlas,
            control,
            reader: ChunkReader::new(repository.clone())?,
            // More than processors, because they wait for the storage.
            threads: repository.options().threads.max(4),
        })
    }

    /// Marks everything under `roots`, and says what could not be found.
    pub fn mark(&self, roots: &[Root]) -> Result<Damage> {
        let mut damage = Damage::default();
        let mut levels: Vec<Vec<Place>> = vec![Vec::new(); usize::from(MAX_LEVELS) + 1];
        for root in roots {
            if root.levels > MAX_LEVELS {
                return Err(RepoError::damaged("chunk list", "it has too many levels"));
            }
            if root.id == ChunkId::ZEROS {
                continue;
            }
            let Some(place) = self.atlas.choose(&root.id) else {
                damage.add(root.id);
                continue;
            };
            self.atlas.mark(place);
            if root.levels > 0 && self.atlas.enter(place) {
                levels[usize::from(root.levels)].push(place);
            }
        }
        for level in (1..=MAX_LEVELS).rev() {
            let nodes = std::mem::take(&mut levels[usize::from(level)]);
            if nodes.is_empty() {
                continue;
            }
            let harvest = self.walk(level, nodes)?;
            damage.merge(harvest.damage);
            levels[usize::from(level) - 1].extend(harvest.next);
        }
        Ok(damage)
    }

    fn walk(&self, level: u8, nodes: Vec<Place>) -> Result<Harvest> {
        self.control
            .progress
            .begin("read chunk lists", Unit::Items, nodes.len() as u64);
        let fetches = self.plan(nodes);
        let next = AtomicUsize::new(0);
        let remembered = Remembered::new();
        let outcome = Mutex::new(Ok(Harvest::default()));
        std::thread::scope(|scope| {
            for _ in 0..self.threads.min(fetches.len()) {
                scope.spawn(|| {
                    let result = self.work(level, &fetches, &next, &remembered);
                    let mut outcome = outcome.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
                    match (&mut *outcome, result) {
                        (Ok(all), Ok(mut harvest)) => {
                            all.next.append(&mut harvest.next);
                            all.damage.merge(harvest.damage);
                        }
                        (Ok(_), Err(error)) => {
                            *outcome = Err(error);
                            // The others find nothing more to do.
                            next.store(fetches.len(), Ordering::Relaxed);
                        }
                        (Err(_), _) => {}
                    }
                });
            }
        });
        outcome
            .into_inner()
            .unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    fn plan(&self, nodes: Vec<Place>) -> Vec<Fetch> {
        let mut located: Vec<(u32, u32, u32, Place)> = nodes
            .into_iter()
            .filter_map(|place| {
                let (pack, entry) = self.atlas.entry(place)?;
                Some((pack, entry.record.offset, entry.record.stored, place))
            })
            .collect();
        located.sort_unstable_by_key(|&(pack, offset, ..)| (pack, offset));
        let mut fetches: Vec<Fetch> = Vec::new();
        for (pack, offset, stored, place) in located {
            let (start, end) = (u64::from(offset), u64::from(offset) + u64::from(stored));
            match fetches.last_mut() {
                Some(last) if last.pack == pack && start <= last.end + GAP && end - last.start <= MOST => {
                    last.end = last.end.max(end);
                    last.nodes.push(place);
                }
                _ => fetches.push(Fetch {
                    pack,
                    start,
                    end,
                    nodes: vec![place],
                }),
            }
        }
        fetches
    }

    fn work(
        &self,
        level: u8,
        fetches: &[Fetch],
        next: &AtomicUsize,
        remembered: &Remembered,
    ) -> Result<Harvest> {
        let mut worker = Worker {
            marker: self,
            level,
            remembered,
            harvest: Harvest::default(),
            decoder: Decoder::new().map_err(RepoError::Source)?,
            sealed: Vec::new(),
            scratch: Vec::new(),
        };
        while let Some(fetch) = fetches.get(next.fetch_add(1, Ordering::Relaxed)) {
            self.control.check()?;
            worker.run(fetch)?;
            self.control.progress.advance(fetch.nodes.len() as u64);
        }
        Ok(worker.harvest)
    }
}

impl Worker<'_, '_> {
    fn run(&mut self, fetch: &Fetch) -> Result<()> {
        let repository = self.marker.repository;
        let line = self.marker.atlas.packs[fetch.pack as usize].line;
        let opener = PackOpener::new(repository.id(), repository.keys(), line.kind, line.id, line.key);
        let mut sealed = std::mem::take(&mut self.sealed);
        let mut scratch = std::mem::take(&mut self.scratch);
        sealed.resize((fetch.end - fetch.start) as usize, 0);
        let read = repository
            .storage()
            .get_range(&line.kind.key(line.id), fetch.start, &mut sealed);
        for place in &fetch.nodes {
            let Some((_, entry)) = self.marker.atlas.entry(*place) else {
                continue;
            };
            let record = entry.record;
            let from = (u64::from(record.offset) - fetch.start) as usize;
            let part = &mut sealed[from..from + record.stored as usize];
            let node = match (&read, &opener) {
                (Ok(()), Ok(opener)) => opener
                    .content(&record, part, &mut self.decoder, &mut scratch)
                    .and_then(|content| Node::decode(record.id, content, self.level))
                    .ok(),
                _ => None,
            };
            match node {
                Some(node) => self.take(&node),
                None => self.read_elsewhere(record.id)?,
            }
        }
        self.sealed = sealed;
        self.scratch = scratch;
        Ok(())
    }

    /// Tries every place where the node may lie.
    fn read_elsewhere(&mut self, id: ChunkId) -> Result<()> {
        let read = self.marker.reader.read(&id);
        match read.and_then(|content| Node::decode(id, &content, self.level)) {
            Ok(node) => self.take(&node),
            Err(error) if is_damage(&error) => self.harvest.damage.add(id),
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn take(&mut self, node: &Node) {
        for child in &node.children {
            let id = child.id;
            if id == ChunkId::ZEROS || self.remembered.has(&id) {
                continue;
            }
            let Some(place) = self.marker.atlas.choose(&id) else {
                self.harvest.damage.add(id);
                continue;
            };
            self.marker.atlas.mark(place);
            if self.level > 1 && self.marker.atlas.enter(place) {
                self.harvest.next.push(place);
            }
        }
    }
}

/// Whether an error says that something is lost, rather than that it cannot be had now.
pub(super) fn is_damage(error: &RepoError) -> bool {
    matches!(
        error,
        RepoError::ChunkMissing(_)
            | RepoError::ChunkCorrupt { .. }
            | RepoError::Damaged { .. }
            | RepoError::Storage(StorageError::NotFound { .. } | StorageError::Short { .. })
    )
}
