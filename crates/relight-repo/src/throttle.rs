//! A limit of bytes a second that several sessions share, and that may change while they work.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often who waits looks whether the limit is another, or whether to stop.
const LOOK: Duration = Duration::from_millis(100);

/// The limit. Whoever moves bytes waits for its turn first.
#[derive(Debug, Default)]
pub struct Throttle(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// Bytes a second; `None` without a limit.
    rate: Option<u64>,
    /// When what was let pass so far has had its time.
    free: Option<Instant>,
    /// Goes up when the rate changes: who waits for the old one asks again.
    epoch: u64,
}

impl Throttle {
    /// With this limit in bytes a second; none lets everything pass.
    pub fn new(rate: Option<u64>) -> Self {
        let throttle = Self::default();
        throttle.set_rate(rate);
        throttle
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// From now on this is the limit, also for those who wait.
    pub fn set_rate(&self, rate: Option<u64>) {
        let mut state = self.state();
        let rate = rate.map(|rate| rate.max(1));
        if state.rate != rate {
            state.rate = rate;
            state.free = None;
            state.epoch += 1;
        }
    }

    /// Waits until `bytes` may pass. Ends at once when `cancelled` becomes true; the caller sees that for itself.
    pub fn pass(&self, bytes: u64, cancelled: &AtomicBool) {
        loop {
            let (begin, epoch) = {
                let mut state = self.state();
                let Some(rate) = state.rate else {
                    return;
                };
                let now = Instant::now();
                let begin = state.free.filter(|free| *free > now).unwrap_or(now);
                // Whole seconds and the rest, so that neither overflows nor is lost.
                let (seconds, rest) = (bytes / rate, bytes % rate);
                let nanos = u128::from(rest) * 1_000_000_000 / u128::from(rate);
                let length = Duration::new(seconds, u32::try_from(nanos).unwrap_or(0));
                state.free = begin.checked_add(length).or(state.free);
                (begin, state.epoch)
            };
            loop {
                let now = Instant::now();
                if now >= begin || cancelled.load(Ordering::Relaxed) {
                    return;
                }
                std::thread::sleep(LOOK.min(begin - now));
                if self.state().epoch != epoch {
                    break;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    #[test]
    fn those_who_share_it_together_move_no_more() {
        let throttle = Arc::new(Throttle::new(Some(10 << 20)));
        let never = AtomicBool::new(false);
        let began = Instant::now();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| (0..5).for_each(|_| throttle.pass(1 << 18, &never)));
            }
        });
        // 5 MiB at 10 MiB/s; the last piece is let go when its turn begins.
        let took = began.elapsed();
        assert!(took >= Duration::from_millis(450), "{took:?}");
    }

    #[test]
    fn who_waits_follows_a_change_and_a_cancellation() {
        let throttle = Arc::new(Throttle::new(Some(1)));
        let cancelled = AtomicBool::new(false);
        throttle.pass(1 << 30, &cancelled);
        std::thread::scope(|scope| {
            let waits = scope.spawn(|| throttle.pass(1, &AtomicBool::new(false)));
            std::thread::sleep(Duration::from_millis(50));
            throttle.set_rate(None);
            waits.join().unwrap();
            throttle.set_rate(Some(1));
            throttle.pass(1 << 30, &cancelled);
            let waits = scope.spawn(|| throttle.pass(1, &cancelled));
            cancelled.store(true, Ordering::Relaxed);
            waits.join().unwrap();
        });
    }
}
