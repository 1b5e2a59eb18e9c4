//! Walks the chunk lists of many archives at once, each distinct node once: down by levels, so that the nodes of a
//! level are fetched together by pack, and up again with what was learned.

use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use crate::control::Control;
use crate::error::{RepoError, Result};
use crate::id::ChunkId;
use crate::index::Located;
use crate::read::ChunkReader;
use crate::tree::Node;
use crate::tree::node::{Child, MAX_LEVELS};

/// Nodes are fetched together in requests of at most this much, with gaps of at most that much.
const REQUEST: u64 = 4 << 20;
const GAP: u64 = 128 << 10;

/// What is learned on the way.
pub(crate) trait Visit: Sync {
    /// What is known of everything under a node.
    type Value: Copy + Send;

    /// Of a chunk of content, or of a node that is not there or not what it should be.
    fn leaf(&self, child: &Child) -> Self::Value;

    /// Of a node alone, without what is under it.
    fn node(&self, id: ChunkId) -> Self::Value;

    /// Of a node that cannot be read.
    fn unreadable(&self, id: ChunkId, error: &RepoError) -> Self::Value;

    /// Of a child whose node spans another length than its parent says.
    fn misfit(&self, parent: ChunkId, child: &Child) -> Self::Value;

    /// Of two things together.
    fn join(&self, a: Self::Value, b: Self::Value) -> Self::Value;
}

/// What was learned of each distinct node.
pub(crate) struct Folded<T> {
    values: HashMap<ChunkId, (T, u64)>,
}

impl<T: Copy> Folded<T> {
    /// What was learned of a node.
    pub fn get(&self, id: &ChunkId) -> Option<T> {
        self.values.get(id).map(|(value, _)| *value)
    }

    /// How many nodes there were.
    pub fn len(&self) -> usize {
        self.values.len()
    }
}

/// Walks all nodes under `roots` (a node and its level, at least 1).
pub(crate) fn fold<V: Visit>(
    reader: &ChunkReader,
    roots: impl IntoIterator<Item = (ChunkId, u8)>,
    visit: &V,
    control: Control<'_>,
) -> Result<Folded<V::Value>> {
    let mut wanted: Vec<HashSet<ChunkId>> = vec![HashSet::new(); usize::from(MAX_LEVELS) + 1];
    for (id, level) in roots {
        if id == ChunkId::ZEROS || level == 0 {
            continue;
        }
        if level > MAX_LEVELS {
            return Err(RepoError::damaged("chunk list", "it has too many levels"));
        }
        wanted[usize::from(level)].insert(id);
    }
    let mut values: HashMap<ChunkId, (V::Value, u64)> = HashMap::new();
    let mut inner: Vec<Vec<(ChunkId, Vec<Child>)>> = vec![Vec::new(); wanted.len()];
    for level in (1..wanted.len()).rev() {
        let ids: Vec<ChunkId> = std::mem::take(&mut wanted[level]).into_iter().collect();
        if ids.is_empty() {
            continue;
        }
        let below = Mutex::new((&mut values, &mut inner[level], HashSet::new()));
        load(reader, ids, level as u8, control, &|id, node| {
            let learned = match &node {
                Err(error) => Some((visit.unreadable(id, error), u64::MAX)),
                Ok(node) if level == 1 => {
                    let children = node.children.iter().filter(|child| child.id != ChunkId::ZEROS);
                    let value = children.fold(visit.node(id), |value, child| {
                        visit.join(value, visit.leaf(child))
                    });
                    Some((value, node.span()))
                }
                Ok(_) => None,
            };
            let mut below = below.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
            let (values, inner, next) = &mut *below;
            if let Some(learned) = learned {
                values.insert(id, learned);
            } else if let Ok(node) = node {
                let children = node.children.iter().filter(|child| child.id != ChunkId::ZEROS);
                next.extend(children.map(|child| child.id));
                inner.push((id, node.children));
            }
        })?;
        let (_, _, next) = below
            .into_inner()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        wanted[level - 1].extend(next);
    }
    for nodes in &mut inner {
        for (id, children) in std::mem::take(nodes) {
            let mut span = 0;
            let mut value = visit.node(id);
            for child in children {
                span += child.span;
                if child.id == ChunkId::ZEROS {
                    continue;
                }
                value = match values.get(&child.id) {
                    Some((under, length)) if *length == child.span || *length == u64::MAX => {
                        visit.join(value, *under)
                    }
                    _ => visit.join(value, visit.misfit(id, &child)),
                };
            }
            values.insert(id, (value, span));
        }
    }
    Ok(Folded { values })
}

/// One request and the nodes in it.
struct Request {
    start: u64,
    end: u64,
    places: Vec<Located>,
}

/// Reads nodes of one level, by several threads, and hands over each once.
pub(crate) fn load(
    reader: &ChunkReader,
    ids: Vec<ChunkId>,
    level: u8,
    control: Control<'_>,
    take: &(dyn Fn(ChunkId, Result<Node>) + Sync),
) -> Result<()> {
    let index = reader.repository().index();
    let (mut places, mut rest) = (Vec::with_capacity(ids.len()), Vec::new());
    for id in ids {
        match index.readable(&id).first() {
            Some(place) => places.push(*place),
            None => rest.push(id),
        }
    }
    places.sort_unstable_by_key(|place| (place.pack.id, place.record.offset));
    let mut requests: Vec<Request> = Vec::new();
    for place in places {
        let start = u64::from(place.record.offset);
        let end = start + u64::from(place.record.stored);
        match requests.last_mut() {
            Some(last)
                if last.places[0].pack.id == place.pack.id
                    && start <= last.end + GAP
                    && start >= last.start
                    && end - last.start <= REQUEST =>
            {
                last.end = end.max(last.end);
                last.places.push(place);
            }
            _ => requests.push(Request {
                start,
                end,
                places: vec![place],
            }),
        }
    }
    let rest = Mutex::new(rest);
    let threads = reader.repository().options().threads.max(4).min(requests.len());
    let (sender, queue) = crossbeam_channel::unbounded();
    requests
        .into_iter()
        .for_each(|request| drop(sender.send(request)));
    drop(sender);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            scope.spawn(|| {
                let mut sealed = Vec::new();
                for request in &queue {
                    if control.is_cancelled() {
                        break;
                    }
                    let failed = run(reader, &request, level, &mut sealed, take);
                    control
                        .progress
                        .advance((request.places.len() - failed.len()) as u64);
                    rest.lock()
                        .unwrap_or_else(|poisoned| poisoned.into_inner())
                        .extend(failed);
                }
            });
        }
    });
    control.check()?;
    // What is not where it was thought to be: a collection may have moved it.
    let rest = rest.into_inner().unwrap_or_else(|poisoned| poisoned.into_inner());
    if !rest.is_empty() {
        reader.repository().refresh()?;
    }
    for id in rest {
        control.check()?;
        take(
            id,
            read_anywhere(reader, id).and_then(|bytes| Node::decode(id, &bytes, level)),
        );
        control.progress.advance(1);
    }
    Ok(())
}

/// Reads one request and hands over its nodes; returns those that could not be read.
fn run(
    reader: &ChunkReader,
    request: &Request,
    level: u8,
    sealed: &mut Vec<u8>,
    take: &(dyn Fn(ChunkId, Result<Node>) + Sync),
) -> Vec<ChunkId> {
    let pack = &request.places[0].pack;
    let length = (request.end - request.start) as usize;
    if sealed.len() < length {
        sealed.resize(length, 0);
    }
    let read = reader.repository().storage().get_range(
        &pack.kind.key(pack.id),
        request.start,
        &mut sealed[..length],
    );
    let mut failed = Vec::new();
    for place in &request.places {
        let from = (u64::from(place.record.offset) - request.start) as usize;
        let sealed = &mut sealed[from..from + place.record.stored as usize];
        let id = place.record.id;
        match read.is_ok().then(|| reader.open(place, sealed)) {
            Some(Ok(bytes)) => take(id, Node::decode(id, &bytes, level)),
            _ => failed.push(id),
        }
    }
    failed
}

/// Tries every place where a chunk may lie, and gives the error of the best.
fn read_anywhere(reader: &ChunkReader, id: ChunkId) -> Result<Vec<u8>> {
    let mut first = None;
    for place in reader.repository().index().readable(&id) {
        match reader.read_at(&place) {
            Ok(bytes) => return Ok(bytes),
            Err(error) => drop(first.get_or_insert(error)),
        }
    }
    Err(first.unwrap_or(RepoError::ChunkMissing(id)))
}
