//! Chunks that readers share: each is read once however many want it at the same time, and kept while there is room.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::thread::JoinHandle;

use crossbeam_channel::{Receiver, Sender};

use super::chunk::ChunkReader;
use super::plan::{Buffers, Fetch, plan, threads};
use super::scan::check_length;
use super::spare::Spare;
use crate::error::{RepoError, Result};
use crate::id::ChunkId;
use crate::pack::codec::Decoder;
use crate::tree::Piece;

/// For each thread that reads ahead there must be this much room: it holds a request of half of it.
const ROOM_A_THREAD: u64 = 16 << 20;
/// Sets of buffers that are kept for reads that were not foreseen.
const TOOLS: usize = 2;

/// Keeps chunks in memory, and reads ahead on behalf of [`super::ArchiveReader`]s. No lock is held while anything is
/// read.
pub struct ChunkCache {
    shared: Arc<Shared>,
    /// Threads that read ahead; started when they are first needed.
    pool: Mutex<Option<Pool>>,
}

struct Pool {
    work: Sender<(Fetch, Arc<Vec<Piece>>)>,
    threads: Vec<JoinHandle<()>>,
}

struct Shared {
    reader: Arc<ChunkReader>,
    room: u64,
    state: Mutex<State>,
    filled: Condvar,
    /// Memory of chunks that were let go of, for those to come: giving megabytes back and taking them again costs time,
    /// and leaves holes in the heap.
    spare: Spare,
    tools: Mutex<Vec<(Decoder, Buffers)>>,
    stopped: AtomicBool,
}

#[derive(Default)]
struct State {
    slots: HashMap<ChunkId, Slot>,
    /// What is filled by the time of its last use.
    order: BTreeMap<u64, ChunkId>,
    uses: u64,
    /// Bytes that are filled.
    bytes: u64,
    /// Bytes that are being read ahead.
    ahead: u64,
}

enum Slot {
    /// Somebody is reading it.
    Expected,
    Filled {
        content: Arc<Vec<u8>>,
        used: u64,
    },
}

impl ChunkCache {
    /// A cache that keeps up to `room` bytes of content.
    pub fn new(reader: Arc<ChunkReader>, room: u64) -> Self {
        let shared = Shared {
            reader,
            room,
            state: Mutex::default(),
            filled: Condvar::new(),
            spare: Spare::new(room / 8),
            tools: Mutex::default(),
            stopped: AtomicBool::new(false),
        };
        Self {
            shared: Arc::new(shared),
            pool: Mutex::new(None),
        }
    }

    /// What reads the chunks.
    pub fn reader(&self) -> &Arc<ChunkReader> {
        &self.shared.reader
    }

    /// How many bytes it keeps.
    pub fn room(&self) -> u64 {
        self.shared.room
    }

    /// The content of a piece that is not zeros.
    pub fn get(&self, piece: &Piece) -> Result<Arc<Vec<u8>>> {
        let shared = &*self.shared;
        let mut state = shared.lock();
        let content = loop {
            if let Some(content) = state.touch(&piece.id) {
                break content;
            }
            if state.slots.contains_key(&piece.id) {
                state = shared
                    .filled
                    .wait(state)
                    .unwrap_or_else(|poisoned| poisoned.into_inner());
                continue;
            }
            state.slots.insert(piece.id, Slot::Expected);
            drop(state);
            // Also if reading panics: others may wait for it.
            let _expected = Expected {
                shared,
                ids: vec![piece.id],
                ahead: 0,
            };
            break shared.read(piece)?;
        };
        check_length(shared.reader.form(), piece, &content)?;
        Ok(content)
    }

    /// Begins to read chunks that will be wanted soon. Those that do not fit beside what is being read ahead already
    /// are left out.
    pub fn read_ahead(&self, pieces: &[Piece]) {
        let mut taken = Vec::new();
        let mut ahead = 0;
        let mut state = self.shared.lock();
        for piece in pieces {
            if state.ahead + piece.length > self.shared.room / 2 {
                break;
            }
            if piece.id == ChunkId::ZEROS || state.slots.contains_key(&piece.id) {
                continue;
            }
            state.slots.insert(piece.id, Slot::Expected);
            state.ahead += piece.length;
            ahead += piece.length;
            taken.push(*piece);
        }
        drop(state);
        if taken.is_empty() {
            return;
        }
        let expected = Expected {
            shared: &self.shared,
            ids: taken.iter().map(|piece| piece.id).collect(),
            ahead,
        };
        // Whoever needs a chunk that cannot be found gets the error when it reads it itself.
        let Ok(fetches) = plan(&self.shared.reader, &taken) else {
            return;
        };
        expected.hand_over();
        let pieces = Arc::new(taken);
        let mut pool = self.pool.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let pool = pool.get_or_insert_with(|| Pool::start(&self.shared));
        for fetch in fetches {
            // The threads end only when this does.
            let _ = pool.work.send((fetch, pieces.clone()));
        }
    }
}

impl Drop for ChunkCache {
    fn drop(&mut self) {
        self.shared.stopped.store(true, Ordering::Relaxed);
        let pool = self
            .pool
            .get_mut()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        if let Some(Pool { work, threads }) = pool.take() {
            drop(work);
            for thread in threads {
                let _ = thread.join();
            }
        }
    }
}

impl Pool {
    fn start(shared: &Arc<Shared>) -> Self {
        let (work, queue) = crossbeam_channel::unbounded();
        let run = |_| {
            let (shared, queue) = (shared.clone(), queue.clone());
            std::thread::spawn(move || shared.fetch_all(&queue))
        };
        let most = usize::try_from(shared.room / ROOM_A_THREAD)
            .unwrap_or(usize::MAX)
            .max(1);
        Self {
            work,
            threads: (0..threads(&shared.reader).min(most)).map(run).collect(),
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// Reads a chunk that was not foreseen.
    fn read(&self, piece: &Piece) -> Result<Arc<Vec<u8>>> {
        let lock = || self.tools.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let tools = lock().pop();
        let mut tools = match tools {
            Some(tools) => tools,
            None => (self.reader.decoder()?, Buffers::default()),
        };
        let (decoder, buffers) = &mut tools;
        let mut found = Err(RepoError::ChunkMissing(piece.id));
        for fetch in plan(&self.reader, std::slice::from_ref(piece))? {
            fetch.run(&self.reader, decoder, buffers, |_, content| {
                found = Ok(self.fill(&piece.id, content));
                Ok(())
            })?;
        }
        let mut kept = lock();
        if kept.len() < TOOLS {
            kept.push(tools);
        }
        found
    }

    /// Keeps the content of a chunk that was expected, and lets go of what was not used for longest.
    fn fill(&self, id: &ChunkId, content: &[u8]) -> Arc<Vec<u8>> {
        let mut copy = self.spare.take(content.len());
        copy.extend_from_slice(content);
        let content = Arc::new(copy);
        let mut gone = Vec::new();
        let mut state = self.lock();
        let used = state.next_use();
        let slot = Slot::Filled {
            content: content.clone(),
            used,
        };
        if let Some(Slot::Filled { content, used }) = state.slots.insert(*id, slot) {
            state.bytes -= content.capacity() as u64;
            state.order.remove(&used);
        }
        state.bytes += content.capacity() as u64;
        state.order.insert(used, *id);
        while state.bytes + state.ahead > self.room && state.order.len() > 1 {
            let Some((_, oldest)) = state.order.pop_first() else {
                break;
            };
            if let Some(Slot::Filled { content, .. }) = state.slots.remove(&oldest) {
                state.bytes -= content.capacity() as u64;
                gone.push(content);
            }
        }
        drop(state);
        self.filled.notify_all();
        // What somebody still reads is freed when they are done.
        gone.into_iter()
            .filter_map(|content| Arc::try_unwrap(content).ok())
            .for_each(|content| self.spare.put(content));
        content
    }

    fn fetch_all(&self, queue: &Receiver<(Fetch, Arc<Vec<Piece>>)>) {
        let mut buffers = Buffers::default();
        let mut decoder = None;
        for (fetch, pieces) in queue {
            let wanted = fetch
                .parts
                .iter()
                .flat_map(|(_, numbers)| numbers)
                .filter_map(|&number| pieces.get(number));
            let (mut ids, mut ahead) = (Vec::new(), 0);
            for piece in wanted {
                ids.push(piece.id);
                ahead += piece.length;
            }
            let _expected = Expected {
                shared: self,
                ids,
                ahead,
            };
            if self.stopped.load(Ordering::Relaxed) {
                continue;
            }
            if decoder.is_none() {
                decoder = self.reader.decoder().ok();
            }
            let Some(decoder) = &mut decoder else { continue };
            // What could not be read is forgotten: whoever needs it reads it again and gets the error.
            let _ = fetch.run(&self.reader, decoder, &mut buffers, |numbers, content| {
                for piece in numbers.iter().filter_map(|&number| pieces.get(number)) {
                    self.fill(&piece.id, content);
                }
                Ok(())
            });
        }
    }
}

impl State {
    fn next_use(&mut self) -> u64 {
        self.uses += 1;
        self.uses
    }

    /// The content of a chunk that is there, which is now the one that was used last.
    fn touch(&mut self, id: &ChunkId) -> Option<Arc<Vec<u8>>> {
        let now = self.next_use();
        let Some(Slot::Filled { content, used }) = self.slots.get_mut(id) else {
            return None;
        };
        let content = content.clone();
        let before = std::mem::replace(used, now);
        self.order.remove(&before);
        self.order.insert(now, *id);
        Some(content)
    }
}

/// Chunks that somebody undertook to read. What is not filled when this goes is forgotten, and whoever waits for it
/// tries again.
struct Expected<'a> {
    shared: &'a Shared,
    ids: Vec<ChunkId>,
    ahead: u64,
}

impl Expected<'_> {
    /// Another is responsible now.
    fn hand_over(mut self) {
        self.ids.clear();
        self.ahead = 0;
    }
}

impl Drop for Expected<'_> {
    fn drop(&mut self) {
        if self.ids.is_empty() {
            return;
        }
        let mut state = self.shared.lock();
        state.ahead -= self.ahead;
        for id in &self.ids {
            if matches!(state.slots.get(id), Some(Slot::Expected)) {
                state.slots.remove(id);
            }
        }
        drop(state);
        self.shared.filled.notify_all();
    }
}
