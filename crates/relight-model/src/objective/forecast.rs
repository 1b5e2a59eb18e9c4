//! How long a recovery will take, from the drills that were measured.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::duration::TimeSpan;
use crate::size::ByteSize;

/// One drill that ended well, in its two parts: what grows with the size, and what does not.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Measurement {
    /// When it was asked for.
    pub at: Timestamp,
    /// How much was restored.
    pub size: ByteSize,
    /// How long restoring took.
    pub restore: TimeSpan,
    /// How long the rest took: the request, the sandbox, the start, until the probe had passed.
    pub rest: TimeSpan,
}

impl Measurement {
    /// From the request until the probe had passed.
    pub fn total(&self) -> TimeSpan {
        TimeSpan(self.restore.0.saturating_add(self.rest.0))
    }

    /// How long it would have taken with another size.
    fn scaled(&self, size: ByteSize) -> TimeSpan {
        if self.size.0 == 0 {
            return self.total();
        }
        let nanos = self.restore.0.as_nanos().saturating_mul(u128::from(size.0)) / u128::from(self.size.0);
        let secs = u64::try_from(nanos / 1_000_000_000).unwrap_or(u64::MAX);
        let restore = std::time::Duration::new(secs, (nanos % 1_000_000_000) as u32);
        TimeSpan(restore.saturating_add(self.rest.0))
    }
}

/// The percentile that forecasts and verdicts go by: of ten drills, the second slowest.
pub const PERCENTILE: u8 = 90;

/// So many of the newest measurements count: what was before is another machine.
const NEWEST: usize = 20;

/// How long a recovery is expected to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Forecast {
    /// The time, [`PERCENTILE`] of what the drills say.
    pub expected: TimeSpan,
    /// The fastest.
    pub fastest: TimeSpan,
    /// The slowest.
    pub slowest: TimeSpan,
    /// The size for which it holds.
    pub size: ByteSize,
    /// How many drills it rests on.
    pub drills: usize,
    /// How long it takes until data can be read, which drills from a warm repository do not show. Part of the times.
    pub thaw: TimeSpan,
}

impl fmt::Display for Forecast {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            expected,
            fastest,
            slowest,
            size,
            drills,
            thaw,
        } = self;
        write!(
            f,
            "{expected} are expected for {size}, {fastest} to {slowest} by {drills} measured drills"
        )?;
        if thaw.0.is_zero() {
            Ok(())
        } else {
            write!(f, ", {thaw} of it for thawing")
        }
    }
}

/// What the newest drills say about a workload of `size` whose data can be read after `thaw`. `None` without drills.
pub fn forecast(drills: &[Measurement], size: ByteSize, thaw: TimeSpan) -> Option<Forecast> {
    let mut newest: Vec<&Measurement> = drills.iter().collect();
    newest.sort_by_key(|drill| std::cmp::Reverse(drill.at));
    newest.truncate(NEWEST);
    let times = newest
        .iter()
        .map(|drill| TimeSpan(drill.scaled(size).0.saturating_add(thaw.0)));
    let mut times: Vec<TimeSpan> = times.collect();
    times.sort_unstable();
    Some(Forecast {
        expected: percentile(&times, PERCENTILE)?,
        fastest: *times.first()?,
        slowest: *times.last()?,
        size,
        drills: times.len(),
        thaw,
    })
}

/// The smallest value that so many percent of the sorted values do not exceed (nearest rank).
pub fn percentile(sorted: &[TimeSpan], percent: u8) -> Option<TimeSpan> {
    let rank = (sorted.len() * usize::from(percent.min(100))).div_ceil(100);
    sorted.get(rank.max(1) - 1).copied()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn drill(day: i64, gib: u64, restore: &str, rest: &str) -> Measurement {
        Measurement {
            at: Timestamp::from_second(day * 86_400).unwrap(),
            size: ByteSize::gib(gib),
            restore: restore.parse().unwrap(),
            rest: rest.parse().unwrap(),
        }
    }

    #[test]
    fn only_restoring_grows_with_the_size() {
        let drills = [drill(1, 10, "10m", "2m")];
        let forecast = forecast(&drills, ByteSize::gib(100), TimeSpan::default()).unwrap();
        assert_eq!(forecast.expected.to_string(), "1 h 42 m");
        let thawed = super::forecast(&drills, ByteSize::gib(100), "12h".parse().unwrap()).unwrap();
        assert_eq!(thawed.expected.to_string(), "13 h 42 m");
        assert!(
            thawed
                .to_string()
                .ends_with("by 1 measured drills, 12 h of it for thawing")
        );
    }

    #[test]
    fn the_slow_drills_decide_and_old_ones_do_not() {
        let mut drills: Vec<Measurement> = (1..=10).map(|n| drill(n, 10, &format!("{n}m"), "0")).collect();
        let size = ByteSize::gib(10);
        let expected = |drills: &[Measurement]| forecast(drills, size, TimeSpan::default()).unwrap().expected;
        assert_eq!(expected(&drills).to_string(), "9 m");
        drills.extend((0..20).map(|n| drill(100 + n, 10, "30s", "30s")));
        assert_eq!(expected(&drills).to_string(), "1 m");
        assert_eq!(forecast(&[], size, TimeSpan::default()), None);
        assert_eq!(expected(&[drill(1, 0, "1m", "1m")]).to_string(), "2 m");
    }
}
