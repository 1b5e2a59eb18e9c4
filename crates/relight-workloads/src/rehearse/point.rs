//! Which moments a drill may bring back, and which one it does.

use jiff::Timestamp;
use relight_model::plan::PickRule;
use relight_repo::SnapshotId;
use relight_repo::snapshot::Snapshot;

/// A moment that can be brought back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Point {
    /// The moment.
    pub time: Timestamp,
    /// The snapshot that the restore begins with.
    pub snapshot: SnapshotId,
}

/// The moments that can be brought back beginning with one snapshot: from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reach {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The first moment.
    pub first: Timestamp,
    /// The last; the same without a log.
    pub last: Timestamp,
}

impl Reach {
    /// Each snapshot at its own moment; pieces of a log are none.
    pub fn of_snapshots(snapshots: &[Snapshot]) -> Vec<Self> {
        let points = snapshots.iter().filter(|snapshot| !snapshot.is_log());
        let reach = points.map(|snapshot| Self {
            snapshot: snapshot.id,
            first: snapshot.time,
            last: snapshot.time,
        });
        reach.collect()
    }

    /// Milliseconds that it spans, its first one included: so that a single moment counts too.
    fn span(&self) -> u64 {
        let span = self
            .last
            .as_millisecond()
            .saturating_sub(self.first.as_millisecond());
        u64::try_from(span).unwrap_or(0).saturating_add(1)
    }

    fn at(&self, time: Timestamp) -> Point {
        Point {
            time,
            snapshot: self.snapshot,
        }
    }
}

/// The point that a drill restores. Where chance decides, `lot` does, and every moment that a log reaches is as likely as any
/// other, whichever snapshot it is reached from; the same number gives the same point.
pub fn pick(rule: PickRule, reach: &[Reach], lot: u64) -> Option<Point> {
    match rule {
        PickRule::Latest => rule.pick(reach.iter().map(|one| one.at(one.last)), lot),
        PickRule::Oldest => rule.pick(reach.iter().map(|one| one.at(one.first)), lot),
        PickRule::Random => {
            let mut reach = reach.to_vec();
            reach.sort_unstable_by_key(|one| (one.first, one.snapshot));
            let total = reach.iter().fold(0u64, |sum, one| sum.saturating_add(one.span()));
            let mut left = lot.checked_rem(total)?;
            for one in &reach {
                if left >= one.span() {
                    left -= one.span();
                    continue;
                }
                let after = i64::try_from(left).ok()?;
                let time = one.first.as_millisecond().checked_add(after)?;
                // Exactly the first moment where no other was drawn: milliseconds may round it down.
                let time = match left {
                    0 => one.first,
                    _ => Timestamp::from_millisecond(time).ok()?.clamp(one.first, one.last),
                };
                return Some(one.at(time));
            }
            None
        }
        // A rule of a newer plan: the newest point is the one that a recovery would take.
        _ => PickRule::Latest.pick(reach.iter().map(|one| one.at(one.last)), lot),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reach(id: u8, first: i64, last: i64) -> Reach {
        let at = |second| Timestamp::from_second(second).unwrap();
        Reach {
            snapshot: SnapshotId([id; 16]),
            first: at(first),
            last: at(last),
        }
    }

    #[test]
    fn snapshots_without_a_log_are_equally_likely() {
        let all = [reach(3, 30, 30), reach(1, 10, 10), reach(2, 20, 20)];
        let seconds = |rule, lot| pick(rule, &all, lot).unwrap().time.as_second();
        assert_eq!(seconds(PickRule::Latest, 5), 30);
        assert_eq!(seconds(PickRule::Oldest, 5), 10);
        let drawn: Vec<i64> = (0..4).map(|lot| seconds(PickRule::Random, lot)).collect();
        assert_eq!(drawn, [10, 20, 30, 10]);
        for rule in PickRule::ALL {
            assert_eq!(pick(*rule, &[], 1), None);
        }
    }

    #[test]
    fn with_a_log_any_moment_can_be_drawn_from_the_snapshot_that_reaches_it() {
        let all = [reach(1, 0, 100), reach(2, 200, 200)];
        let latest = pick(PickRule::Latest, &all, 0).unwrap();
        assert_eq!((latest.time.as_second(), latest.snapshot), (200, all[1].snapshot));
        let drawn = pick(PickRule::Random, &all, 50_000).unwrap();
        assert_eq!((drawn.time.as_second(), drawn.snapshot), (50, all[0].snapshot));
        let last = pick(PickRule::Random, &all, 100_000).unwrap();
        assert_eq!(last.time, all[0].last);
        let second = pick(PickRule::Random, &all, 100_001).unwrap();
        assert_eq!(second.snapshot, all[1].snapshot);
        let again = pick(PickRule::Random, &all, 100_002).unwrap();
        assert_eq!(again.time, all[0].first);
    }
}
