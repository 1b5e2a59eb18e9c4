//! How far a job is, as lines of its log: few, however much there is to do.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use relight_repo::control::{Progress, Unit};

/// A line is written when so many percent more are done…
const PERCENT: u64 = 5;
/// …or when this time has passed.
const PAUSE: Duration = Duration::from_secs(30);

/// Takes lines of a log.
pub type Log<'a> = &'a (dyn Fn(&str) + Sync);

/// Writes progress as lines.
pub struct Lines<'a> {
    log: Log<'a>,
    state: Mutex<State>,
}

struct State {
    step: &'static str,
    unit: Unit,
    total: u64,
    done: u64,
    told: u64,
    at: Instant,
}

impl<'a> Lines<'a> {
    /// To this log.
    pub fn new(log: Log<'a>) -> Self {
        let state = State {
            step: "",
            unit: Unit::Items,
            total: 0,
            done: 0,
            told: 0,
            at: Instant::now(),
        };
        Self {
            log,
            state: Mutex::new(state),
        }
    }
}

impl Progress for Lines<'_> {
    fn begin(&self, step: &'static str, unit: Unit, total: u64) {
        *self.state.lock().unwrap_or_else(PoisonError::into_inner) = State {
            step,
            unit,
            total,
            done: 0,
            told: 0,
            at: Instant::now(),
        };
        (self.log)(step);
    }

    fn advance(&self, amount: u64) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.done = state.done.saturating_add(amount);
        if state.total == 0 {
            return;
        }
        let percent = (u128::from(state.done) * 100 / u128::from(state.total)).min(100) as u64;
        let due = percent >= state.told + PERCENT
            || (percent > state.told && (percent == 100 || state.at.elapsed() >= PAUSE));
        if !due {
            return;
        }
        (state.told, state.at) = (percent, Instant::now());
        let figures = match state.unit {
            Unit::Bytes => format!("{} of {} MiB", state.done >> 20, state.total.div_ceil(1 << 20)),
            Unit::Items => format!("{} of {}", state.done, state.total),
        };
        let line = format!("{}: {percent}% ({figures})", state.step);
        drop(state);
        (self.log)(&line);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_log_has_few_lines_and_the_last_says_that_all_is_done() {
        let lines = Mutex::new(Vec::new());
        let log = |line: &str| lines.lock().unwrap().push(line.to_string());
        let progress = Lines::new(&log);
        progress.begin("reading packs", Unit::Bytes, 100 << 30);
        (0..100 << 10).for_each(|_| progress.advance(1 << 20));
        let lines = lines.into_inner().unwrap();
        assert_eq!(lines.len(), 21);
        assert_eq!(lines[20], "reading packs: 100% (102400 of 102400 MiB)");
    }
}
