//! Which base backups and which files of the log must stay.
//!
//! Files of the log go by position and timeline of the base backups that are kept, never by age alone: a file is needed
//! as long as a kept base backup that it follows can be brought through it to a moment that was promised, or cannot
//! become consistent without it.

use std::collections::BTreeSet;

use jiff::{SignedDuration, Timestamp};
use relight_repo::SnapshotId;

use super::name::{SegmentName, Timeline, WalName};
use super::windows::{Base, Log, View, Window, view};

/// What is promised: any moment of so much time back from now can be recovered. None: all that the kept base backups
/// can be brought to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Promise {
    /// How far back.
    pub point_in_time: Option<SignedDuration>,
    /// Now.
    pub now: Timestamp,
}

impl Promise {
    /// The earliest moment that is promised.
    fn horizon(&self) -> Option<Timestamp> {
        self.now.checked_sub(self.point_in_time?).ok()
    }
}

/// Of each window that reaches into the promised time the base backup to reach it from: the newest one from before that
/// time, or else its oldest.
fn anchors<'a>(view: &View, bases: &'a [Base], horizon: Timestamp) -> Vec<(&'a Base, Timeline)> {
    let anchor = |window: &Window| {
        let inside = bases.iter().filter(|base| window.bases.contains(&base.snapshot));
        let mut inside: Vec<&Base> = inside.collect();
        inside.sort_by_key(|base| base.stop_time);
        let before = inside.iter().rev().find(|base| base.stop_time <= horizon);
        let base = before.or(inside.first())?;
        Some((*base, window.timeline))
    };
    let reaching = view.windows.iter().filter(|window| window.to.time >= horizon);
    reaching.filter_map(anchor).collect()
}

/// The base backups that must not be forgotten, because a part of what is promised could not be recovered without.
pub fn needed_bases(view: &View, bases: &[Base], promise: &Promise) -> BTreeSet<SnapshotId> {
    let Some(horizon) = promise.horizon() else {
        return BTreeSet::new();
    };
    let anchors = anchors(view, bases, horizon);
    anchors.into_iter().map(|(base, _)| base.snapshot).collect()
}

/// The files of a log that nothing needs any more, when only these base backups are kept. None of them, if there is no
/// base backup.
pub fn expired(
    files: impl IntoIterator<Item = WalName>,
    log: &Log,
    kept: &[Base],
    promise: &Promise,
) -> BTreeSet<WalName> {
    if kept.is_empty() {
        return BTreeSet::new();
    }
    let anchors = match promise.horizon() {
        None => {
            let timelines = log.timelines();
            let all = kept.iter();
            all.flat_map(|base| timelines.iter().map(move |timeline| (base, *timeline)))
                .collect()
        }
        Some(horizon) => anchors(&view(log, kept), kept, horizon),
    };
    let unneeded = |name: &WalName| match name {
        // Small, and what tells which way a recovery has to go.
        WalName::History(_) => false,
        WalName::Segment(segment) | WalName::Partial(segment) | WalName::Backup(segment, _) => {
            !is_needed(*segment, log, kept, &anchors)
        }
    };
    files.into_iter().filter(unneeded).collect()
}

fn is_needed(segment: SegmentName, log: &Log, kept: &[Base], anchors: &[(&Base, Timeline)]) -> bool {
    let size = log.segment_size();
    let timeline = segment.timeline;
    let Some(number) = segment.number(size) else {
        return true;
    };
    // Whose place in the tree is not known may be anybody's successor.
    if !log.tree.knows(timeline) {
        return true;
    }
    let makes_consistent = |base: &Base| {
        base.timeline == timeline
            && !base.self_contained
            && (size.segment_of(base.start)..=size.segment_of(base.stop)).contains(&number)
    };
    // Whether it lies on the way from the base backup to the end of the other timeline.
    let leads = |(base, target): &(&Base, Timeline)| {
        let path = log.tree.path(*target);
        let mut ahead = path.iter().skip_while(|(step, _)| *step != base.timeline);
        let Some(&(_, leave)) = ahead.clone().next() else {
            return false;
        };
        if leave.is_some_and(|leave| leave < base.stop) {
            return false;
        }
        let Some(&(_, leave)) = ahead.find(|(step, _)| *step == timeline) else {
            return false;
        };
        let begins = match log.tree.origin(timeline) {
            Some(origin) if timeline != base.timeline => origin.at,
            _ => base.start,
        };
        number >= size.segment_of(begins) && leave.is_none_or(|leave| number <= size.segment_of(leave))
    };
    kept.iter().any(makes_consistent) || anchors.iter().any(leads)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::lsn::Lsn;
    use crate::wal::history::{History, Step};
    use crate::wal::name::SegmentSize;
    use crate::wal::windows::Piece;

    const HOUR: i64 = 3600;

    fn at(hour: u64) -> Timestamp {
        Timestamp::from_second(1_790_000_000 + HOUR * hour as i64).unwrap()
    }

    fn size() -> SegmentSize {
        SegmentSize::try_from(1 << 20).unwrap()
    }

    /// A segment an hour on timeline 1, and on timeline 2 from the middle of segment 50 on.
    fn log() -> Log {
        let mut log = Log::new(size());
        for (timeline, numbers) in [(1, 1..=60), (2, 50..=70)] {
            for number in numbers {
                let piece = Piece {
                    end: size().start_of(number + 1),
                    last_commit: Some(at(number)),
                    ..Piece::default()
                };
                log.add_whole(Timeline(timeline), number, piece);
            }
        }
        log.tree.insert(History {
            timeline: Timeline(2),
            steps: vec![Step {
                from: Timeline(1),
                at: Lsn((50 << 20) + 9000),
                why: String::new(),
            }],
        });
        log
    }

    fn base(timeline: u32, number: u64) -> Base {
        Base {
            snapshot: SnapshotId([number as u8; 16]),
            timeline: Timeline(timeline),
            start: Lsn((number << 20) + 100),
            stop: Lsn(((number + 1) << 20) + 5000),
            stop_time: at(number),
            self_contained: false,
        }
    }

    fn files() -> Vec<WalName> {
        let all = [(1, 1..=60), (2, 50..=70)];
        let segments = all.into_iter().flat_map(|(timeline, numbers)| {
            numbers.map(move |number| WalName::Segment(SegmentName::new(Timeline(timeline), number, size())))
        });
        segments.chain([WalName::History(Timeline(2))]).collect()
    }

    fn kept_of(timeline: u32, gone: &BTreeSet<WalName>) -> Vec<u64> {
        let left = files().into_iter().filter(|name| !gone.contains(name));
        left.filter_map(|name| match name {
            WalName::Segment(segment) if segment.timeline == Timeline(timeline) => segment.number(size()),
            _ => None,
        })
        .collect()
    }

    fn promise(hours: Option<i64>) -> Promise {
        Promise {
            point_in_time: hours.map(SignedDuration::from_hours),
            now: at(70),
        }
    }

    #[test]
    fn without_a_promise_everything_behind_the_oldest_kept_base_stays() {
        let gone = expired(files(), &log(), &[base(1, 20), base(1, 40)], &promise(None));
        assert_eq!(kept_of(1, &gone), (20..=60).collect::<Vec<_>>());
        assert_eq!(kept_of(2, &gone), (50..=70).collect::<Vec<_>>());
        assert!(!gone.contains(&WalName::History(Timeline(2))));
    }

    #[test]
    fn a_promise_shorter_than_the_bases_are_kept_leaves_the_old_ones_what_makes_them_consistent() {
        let bases = [base(1, 10), base(1, 20), base(2, 55), base(2, 65)];
        let gone = expired(files(), &log(), &bases, &promise(Some(9)));
        // Nine hours back from 70 is 61: the base at 55 leads there. Timeline 1 ended before.
        assert_eq!(kept_of(2, &gone), (55..=70).collect::<Vec<_>>());
        // The old ones stay restorable.
        assert_eq!(kept_of(1, &gone), [10, 11, 20, 21]);
    }

    #[test]
    fn the_base_from_before_the_promised_time_is_needed() {
        let bases = [base(1, 10), base(1, 30), base(2, 55), base(2, 65)];
        let needed = |hours| needed_bases(&view(&log(), &bases), &bases, &promise(Some(hours)));
        assert!(needed(8).contains(&base(2, 55).snapshot));
        assert!(!needed(8).contains(&base(1, 30).snapshot));
        // Thirty hours back is 40, before the fork.
        assert!(needed(30).contains(&base(1, 30).snapshot));
        assert!(!needed(30).contains(&base(1, 10).snapshot));
        assert!(needed_bases(&view(&log(), &bases), &bases, &promise(None)).is_empty());
    }

    #[test]
    fn nothing_goes_without_a_base_or_from_a_timeline_of_unknown_origin() {
        assert!(expired(files(), &log(), &[], &promise(Some(1))).is_empty());
        let mut log = log();
        log.tree = Default::default();
        let gone = expired(files(), &log, &[base(1, 55)], &promise(None));
        assert_eq!(kept_of(2, &gone).len(), 21);
        assert_eq!(kept_of(1, &gone), (55..=60).collect::<Vec<_>>());
    }

    #[test]
    fn what_is_kept_always_covers_what_is_promised() {
        // Whatever base backups there are and whatever is promised: no moment of it is lost by expiring.
        for seed in 0..200_u64 {
            let mut state = seed * 7919 + 1;
            let mut next = |most: u64| {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                (state >> 33) % most
            };
            let bases: Vec<Base> = (0..1 + next(5))
                .map(|_| {
                    if next(2) == 0 {
                        base(1, 1 + next(55))
                    } else {
                        base(2, 51 + next(17))
                    }
                })
                .collect();
            let promise = promise(Some(1 + next(80) as i64));
            let log = log();
            let before = view(&log, &bases);
            let needed = needed_bases(&before, &bases, &promise);
            let kept: Vec<Base> = bases
                .into_iter()
                .filter(|base| needed.contains(&base.snapshot))
                .collect();
            let gone = expired(files(), &log, &kept, &promise);
            let mut left = Log::new(size());
            left.tree = log.tree.clone();
            for timeline in [1, 2] {
                for number in kept_of(timeline, &gone) {
                    if let Some((piece, _)) = log.piece(Timeline(timeline), number) {
                        left.add_whole(Timeline(timeline), number, piece.clone());
                    }
                }
            }
            let after = view(&left, &kept);
            let horizon = promise.horizon().unwrap();
            for window in &before.windows {
                let mut time = window.from.time.max(horizon);
                while time <= window.to.time {
                    assert!(
                        after.at_time(window.timeline, time).is_some(),
                        "seed {seed}: {time} is lost"
                    );
                    time += SignedDuration::from_mins(30);
                }
            }
        }
    }
}
