//! The memory of packs, shared by all sessions of an open repository.
//!
//! A session on its own gets what keeps its threads and the disk busy. Several at once share little more than that: each
//! always gets the two packs it cannot do without, one for data and one for metadata; for further ones it waits until
//! somebody's pack is stored. So four backups that a server takes in at once do not need four times the memory of one.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::pack::PackBuffer;

/// Packs that each session can have at any time.
const OWN: usize = 2;
/// Packs that are there besides, however many sessions there are.
const COMMON: usize = 2;
/// Nobody waits longer for memory: those who have it may be waiting for something themselves.
const PATIENCE: Duration = Duration::from_secs(1);

#[derive(Default)]
struct State {
    sessions: usize,
    /// Packs that are being filled or stored.
    held: usize,
    free: Vec<PackBuffer>,
}

/// The memory of packs of an open repository.
pub(crate) struct PackMemory {
    state: Mutex<State>,
    given: Condvar,
    /// Bytes of each buffer.
    size: usize,
    /// Packs that a session gets if it is alone.
    alone: usize,
    patience: Duration,
}

impl PackMemory {
    /// Buffers of `size` bytes, `alone` of them for a session that has the repository to itself.
    pub fn new(size: usize, alone: usize) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::default(),
            given: Condvar::new(),
            size,
            alone,
            patience: PATIENCE,
        })
    }

    /// The share of a new session.
    pub fn share(self: &Arc<Self>) -> Share {
        self.lock().sessions += 1;
        Share {
            memory: self.clone(),
            held: AtomicUsize::new(0),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn most(&self, state: &State) -> usize {
        self.alone.max(OWN * state.sessions + COMMON)
    }
}

/// What one session has of the memory.
pub(crate) struct Share {
    memory: Arc<PackMemory>,
    held: AtomicUsize,
}

impl Share {
    /// Memory for a pack: used before, or new. Its content is whatever it was.
    pub fn take(&self) -> PackBuffer {
        let memory = &*self.memory;
        let until = Instant::now() + memory.patience;
        let mut state = memory.lock();
        while self.held.load(Ordering::Relaxed) >= OWN && state.held >= memory.most(&state) {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                break;
            }
            let woken = memory.given.wait_timeout(state, left);
            state = woken.unwrap_or_else(PoisonError::into_inner).0;
        }
        state.held += 1;
        self.held.fetch_add(1, Ordering::Relaxed);
        let used = state.free.pop();
        drop(state);
        used.unwrap_or_else(|| PackBuffer::new(memory.size))
    }

    /// Gives the memory of a pack back.
    pub fn give(&self, buffer: PackBuffer) {
        let memory = &*self.memory;
        let mut state = memory.lock();
        state.held = state.held.saturating_sub(1);
        self.held.fetch_sub(1, Ordering::Relaxed);
        if state.held + state.free.len() < memory.most(&state) {
            state.free.push(buffer);
        }
        drop(state);
        memory.given.notify_all();
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut state = self.memory.lock();
        state.sessions -= 1;
        // Of packs that were never stored.
        state.held = state.held.saturating_sub(self.held.load(Ordering::Relaxed));
        let most = if state.sessions == 0 {
            0
        } else {
            self.memory.most(&state)
        };
        let kept = most.saturating_sub(state.held);
        state.free.truncate(kept);
        drop(state);
        self.memory.given.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn held(memory: &PackMemory) -> (usize, usize) {
        let state = memory.lock();
        (state.held, state.free.len())
    }

    fn memory(patience: Duration) -> Arc<PackMemory> {
        let mut memory = PackMemory::new(1 << 10, 6);
        Arc::get_mut(&mut memory).unwrap().patience = patience;
        memory
    }

    #[test]
    fn several_sessions_share_what_one_has_alone() {
        let memory = memory(Duration::from_secs(3600));
        let one = memory.share();
        let packs: Vec<PackBuffer> = (0..6).map(|_| one.take()).collect();
        packs.into_iter().for_each(|pack| one.give(pack));
        assert_eq!(held(&memory), (0, 6));
        let others: Vec<Share> = (0..3).map(|_| memory.share()).collect();
        // Each has its own two at once, and two more are common.
        let mut packs = Vec::new();
        for share in others.iter().chain([&one]) {
            packs.push((share, [share.take(), share.take()]));
        }
        let (first, second) = (one.take(), others[0].take());
        assert_eq!(held(&memory), (10, 0));
        // The next waits until one is given back.
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| one.give(one.take()));
            std::thread::sleep(Duration::from_millis(50));
            assert!(!waiting.is_finished());
            others[0].give(second);
            waiting.join().unwrap();
        });
        assert_eq!(held(&memory).0, 9);
        one.give(first);
        drop(packs);
        drop(others);
        drop(one);
        assert_eq!(held(&memory), (0, 0), "nothing is kept when nobody writes");
    }

    #[test]
    fn nobody_waits_for_ever() {
        let memory = memory(Duration::from_millis(10));
        let one = memory.share();
        let packs: Vec<PackBuffer> = (0..8).map(|_| one.take()).collect();
        assert_eq!(held(&memory), (8, 0));
        packs.into_iter().for_each(|pack| one.give(pack));
        assert_eq!(held(&memory), (0, 6));
    }
}
