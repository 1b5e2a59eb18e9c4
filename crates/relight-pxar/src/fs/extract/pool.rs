//! Hands work to threads in order, with a bound on what waits.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Bytes of content that may wait in the queue.
const MAX_WAITING: usize = 16 << 20;
/// Batches that may wait in the queue.
const MAX_BATCHES: usize = 16;

/// A queue of numbered batches of work that several threads take from in order.
#[derive(Debug)]
pub(super) struct Pool<T> {
    state: Mutex<State<T>>,
    /// There is work, or no more will come.
    work: Condvar,
    /// Work was taken or finished.
    change: Condvar,
}

#[derive(Debug)]
struct State<T> {
    waiting: VecDeque<Batch<T>>,
    waiting_bytes: usize,
    running: Vec<u64>,
    next: u64,
    closed: bool,
}

#[derive(Debug)]
struct Batch<T> {
    number: u64,
    bytes: usize,
    items: Vec<T>,
}

impl<T> Pool<T> {
    pub fn new() -> Self {
        Self {
            state: Mutex::new(State {
                waiting: VecDeque::new(),
                waiting_bytes: 0,
                running: Vec::new(),
                next: 0,
                closed: false,
            }),
            work: Condvar::new(),
            change: Condvar::new(),
        }
    }

    // A thread that panicked takes the whole restore down when it is joined; until then the state is whole.
    fn state(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait<'a>(condition: &Condvar, state: MutexGuard<'a, State<T>>) -> MutexGuard<'a, State<T>> {
        condition.wait(state).unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a batch behind those that wait; waits itself while there is too much.
    pub fn push(&self, items: Vec<T>, bytes: usize) {
        if items.is_empty() {
            return;
        }
        let mut state = self.state();
        while !state.waiting.is_empty()
            && (state.waiting_bytes + bytes > MAX_WAITING || state.waiting.len() >= MAX_BATCHES)
        {
            state = Self::wait(&self.change, state);
        }
        let number = state.next;
        state.next += 1;
        state.waiting_bytes += bytes;
        state.waiting.push_back(Batch { number, bytes, items });
        drop(state);
        self.work.notify_one();
    }

    /// Waits until everything pushed so far is done.
    pub fn drain(&self) {
        let mut state = self.state();
        while !state.waiting.is_empty() || !state.running.is_empty() {
            state = Self::wait(&self.change, state);
        }
    }

    /// To be called while working on batch `number`: waits until every batch before it is done.
    pub fn wait_for_turn(&self, number: u64) {
        let mut state = self.state();
        while state.running.iter().any(|&other| other < number) {
            state = Self::wait(&self.change, state);
        }
    }

    /// No more work will come; threads return once what waits is done.
    pub fn close(&self) {
        self.state().closed = true;
        self.work.notify_all();
    }

    /// Works until the pool is closed and empty. `run` is given the number of the batch that the item is of.
    pub fn work(&self, mut run: impl FnMut(u64, T)) {
        loop {
            let mut state = self.state();
            let batch = loop {
                if let Some(batch) = state.waiting.pop_front() {
                    break batch;
                }
                if state.closed {
                    return;
                }
                state = Self::wait(&self.work, state);
            };
            state.waiting_bytes -= batch.bytes;
            state.running.push(batch.number);
            drop(state);
            self.change.notify_all();
            let done = Done {
                pool: self,
                number: batch.number,
            };
            for item in batch.items {
                run(batch.number, item);
            }
            drop(done);
        }
    }
}

/// Closes a pool when it goes, even by a panic: threads wait for it.
pub(super) struct CloseOnDrop<'a, T>(pub &'a Pool<T>);

impl<T> Drop for CloseOnDrop<'_, T> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Tells the pool that a batch is done, even by a panic: others wait for it.
struct Done<'a, T> {
    pool: &'a Pool<T>,
    number: u64,
}

impl<T> Drop for Done<'_, T> {
    fn drop(&mut self) {
        self.pool.state().running.retain(|&number| number != self.number);
        self.pool.change.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU64, Ordering};

    #[test]
    fn a_turn_comes_when_all_before_are_done() {
        let pool = Pool::new();
        let done = AtomicU64::new(0);
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    pool.work(|number, last: bool| {
                        if last {
                            pool.wait_for_turn(number);
                            assert_eq!(done.load(Ordering::SeqCst), number);
                        } else {
                            std::thread::yield_now();
                        }
                        done.fetch_add(1, Ordering::SeqCst);
                    })
                });
            }
            for round in 1..=500 {
                pool.push(vec![round % 5 == 0], 1);
                if round % 5 == 0 {
                    pool.drain();
                    assert_eq!(done.load(Ordering::SeqCst), round);
                }
            }
            pool.close();
        });
    }

    #[test]
    fn what_is_larger_than_the_bound_still_passes() {
        let pool = Pool::new();
        std::thread::scope(|scope| {
            scope.spawn(|| pool.work(|_, ()| {}));
            for _ in 0..10 {
                pool.push(vec![()], 4 * MAX_WAITING);
            }
            pool.drain();
            pool.close();
        });
    }
}
