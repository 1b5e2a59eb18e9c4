//! Windows of logs with holes, forks and bases in odd places.

use jiff::{SignedDuration, Timestamp};
use relight_repo::SnapshotId;

use super::*;
use crate::wal::history::{History, Step};
use crate::wal::name::SegmentSize;

fn size() -> SegmentSize {
    SegmentSize::try_from(1 << 20).unwrap()
}

/// The moment at which segment `number` was full, on the first timeline.
fn at(number: u64) -> Timestamp {
    Timestamp::from_second(1_790_000_000).unwrap() + SignedDuration::from_secs(60 * number as i64)
}

fn lsn(number: u64) -> Lsn {
    Lsn(number << 20)
}

fn whole(log: &mut Log, timeline: u32, numbers: impl IntoIterator<Item = u64>) {
    for number in numbers {
        let piece = Piece {
            end: lsn(number + 1),
            last_commit: Some(at(number)),
            ..Piece::default()
        };
        log.add_whole(Timeline(timeline), number, piece);
    }
}

/// A base backup made while segment `number` was written.
fn base(id: u8, timeline: u32, number: u64) -> Base {
    Base {
        snapshot: SnapshotId([id; 16]),
        timeline: Timeline(timeline),
        start: lsn(number).plus(100),
        stop: lsn(number).plus(5000),
        stop_time: at(number) - SignedDuration::from_secs(30),
        self_contained: true,
    }
}

fn fork(log: &mut Log, timeline: u32, steps: &[(u32, Lsn)]) {
    let steps = steps.iter().map(|(from, at)| Step {
        from: Timeline(*from),
        at: *at,
        why: String::new(),
    });
    log.tree.insert(History {
        timeline: Timeline(timeline),
        steps: steps.collect(),
    });
}

#[test]
fn one_base_and_a_log_without_a_hole_make_one_window() {
    let mut log = Log::new(size());
    whole(&mut log, 1, 3..=9);
    let view = view(&log, &[base(1, 1, 3), base(2, 1, 6)]);
    assert_eq!(view.gaps, []);
    let [window] = &view.windows[..] else {
        panic!("{view:?}")
    };
    assert_eq!(window.from.lsn, lsn(3).plus(5000));
    assert_eq!(window.from.time, base(1, 1, 3).stop_time);
    assert_eq!((window.to.lsn, window.to.time), (lsn(10), at(9)));
    assert_eq!(window.bases.len(), 2);
    assert!(view.at_time(Timeline(1), at(7)).is_some());
    assert!(view.at_time(Timeline(1), at(10)).is_none());
    assert!(view.at_lsn(Timeline(1), lsn(5)).is_some());
}

#[test]
fn a_missing_segment_splits_the_window_and_the_gap_says_which() {
    let mut log = Log::new(size());
    whole(&mut log, 1, (3..=9).filter(|number| *number != 5));
    let view = view(&log, &[base(1, 1, 3), base(2, 1, 7)]);
    assert_eq!(view.windows.len(), 2);
    assert_eq!(
        view.windows[0].to,
        Edge {
            lsn: lsn(5),
            time: at(4)
        }
    );
    assert_eq!(view.windows[1].from.lsn, base(2, 1, 7).stop);
    assert_eq!(view.windows[1].to.lsn, lsn(10));
    let [gap] = &view.gaps[..] else { panic!("{view:?}") };
    assert_eq!(
        (gap.from, gap.to),
        (view.windows[0].to, Some(view.windows[1].from))
    );
    let missing = Cause::Missing {
        first: "000000010000000000000005".into(),
        count: 1,
        told: None,
    };
    assert_eq!(gap.cause, missing);
}

#[test]
fn a_gap_without_a_base_behind_it_stays_open_and_tells_what_is_known_of_it() {
    let mut log = Log::new(size());
    whole(&mut log, 1, [3, 4, 8, 9]);
    log.gaps.push(KnownGap {
        timeline: Timeline(1),
        from: lsn(5),
        to: lsn(8),
        found: at(9),
        cause: "the server had removed it".into(),
    });
    let view = view(&log, &[base(1, 1, 3)]);
    assert_eq!(view.windows.len(), 1);
    assert_eq!(view.gaps.len(), 1);
    assert_eq!(view.gaps[0].to, None);
    let Cause::Missing { count, told, .. } = &view.gaps[0].cause else {
        panic!("{view:?}")
    };
    assert_eq!((*count, told.as_deref()), (3, Some("the server had removed it")));
}

#[test]
fn damaged_records_end_the_window_where_they_are() {
    let mut log = Log::new(size());
    whole(&mut log, 1, 3..=9);
    let piece = Piece {
        end: lsn(6).plus(77),
        damage: Some("the checksum of the record is wrong".into()),
        last_commit: None,
        points: Vec::new(),
    };
    log.add_whole(Timeline(1), 6, piece);
    let view = view(&log, &[base(1, 1, 3), base(2, 1, 8)]);
    assert_eq!(
        view.windows[0].to,
        Edge {
            lsn: lsn(6).plus(77),
            time: at(5)
        }
    );
    assert!(matches!(&view.gaps[0].cause, Cause::Damaged { segment, .. } if segment.ends_with('6')));
    assert_eq!(view.windows[1].to.lsn, lsn(10));
}

#[test]
fn the_beginning_of_a_segment_extends_the_window_but_nothing_follows_it() {
    let mut log = Log::new(size());
    whole(&mut log, 1, 3..=5);
    let tail = Piece {
        end: lsn(6).plus(400),
        last_commit: Some(at(6)),
        ..Piece::default()
    };
    log.add_partial(Timeline(1), 6, tail);
    let view = view(&log, &[base(1, 1, 3)]);
    assert_eq!(
        view.windows[0].to,
        Edge {
            lsn: lsn(6).plus(400),
            time: at(6)
        }
    );
    assert_eq!(view.gaps, []);
    // What comes behind it is behind a hole.
    whole(&mut log, 1, 7..=8);
    let view = super::view(&log, &[base(1, 1, 3)]);
    assert_eq!(view.windows[0].to.lsn, lsn(6).plus(400));
    assert_eq!(view.gaps.len(), 1);
}

#[test]
fn a_fork_is_followed_and_what_the_old_timeline_wrote_behind_it_is_its_own() {
    let mut log = Log::new(size());
    whole(&mut log, 1, 3..=9);
    // Forked in the middle of segment 6, which was copied.
    whole(&mut log, 2, 6..=8);
    fork(&mut log, 2, &[(1, lsn(6).plus(1000))]);
    let view = view(&log, &[base(1, 1, 3)]);
    assert_eq!(view.windows.len(), 2);
    assert_eq!(
        (view.windows[0].timeline, view.windows[0].to.lsn),
        (Timeline(1), lsn(10))
    );
    assert_eq!(
        (view.windows[1].timeline, view.windows[1].to.lsn),
        (Timeline(2), lsn(9))
    );
    assert_eq!(
        view.windows[1].from,
        Edge {
            lsn: lsn(6).plus(1000),
            time: at(5)
        }
    );
    assert_eq!(view.latest().unwrap().timeline, Timeline(2));
    assert!(view.rootless.is_empty());
}

#[test]
fn a_base_behind_a_fork_does_not_lead_to_the_other_branch() {
    let mut log = Log::new(size());
    whole(&mut log, 1, 3..=9);
    whole(&mut log, 2, 6..=8);
    fork(&mut log, 2, &[(1, lsn(6).plus(1000))]);
    let view = view(&log, &[base(1, 1, 7)]);
    assert_eq!(view.windows.len(), 1);
    assert_eq!(view.windows[0].timeline, Timeline(1));
}

#[test]
fn a_hole_before_the_fork_keeps_the_new_timeline_out_of_reach() {
    let mut log = Log::new(size());
    whole(&mut log, 1, [3, 5, 6]);
    whole(&mut log, 2, 6..=8);
    fork(&mut log, 2, &[(1, lsn(6).plus(1000))]);
    let reachable = view(&log, &[base(1, 1, 3)]);
    assert_eq!(reachable.windows.len(), 1);
    assert_eq!(reachable.windows[0].to.lsn, lsn(4));
    // The segment of the fork itself is taken from the new timeline.
    let mut log = Log::new(size());
    whole(&mut log, 1, 3..=5);
    whole(&mut log, 2, 6..=8);
    fork(&mut log, 2, &[(1, lsn(6).plus(1000))]);
    assert_eq!(view(&log, &[base(1, 1, 3)]).windows[1].to.lsn, lsn(9));
}

#[test]
fn a_timeline_without_history_is_named() {
    let mut log = Log::new(size());
    whole(&mut log, 1, 3..=5);
    whole(&mut log, 2, 6..=8);
    let view = view(&log, &[base(1, 1, 3)]);
    assert_eq!(view.rootless, [Timeline(2)]);
    assert_eq!(view.windows.len(), 1);
}

#[test]
fn a_base_without_its_log_is_no_window() {
    let mut log = Log::new(size());
    let mut bare = base(1, 1, 3);
    bare.self_contained = false;
    bare.stop = lsn(5).plus(1);
    let nothing = view(&log, std::slice::from_ref(&bare));
    assert_eq!(nothing.windows, []);
    assert_eq!(nothing.unusable[0].missing, "000000010000000000000003");
    whole(&mut log, 1, 3..=4);
    assert_eq!(
        view(&log, std::slice::from_ref(&bare)).unusable[0].missing,
        "000000010000000000000005"
    );
    whole(&mut log, 1, 5..=5);
    assert_eq!(view(&log, &[bare]).windows.len(), 1);
}

#[test]
fn a_base_alone_can_be_brought_to_its_own_end() {
    let view = view(&Log::new(size()), &[base(1, 1, 3)]);
    assert_eq!(view.windows.len(), 1);
    assert_eq!(view.windows[0].from, view.windows[0].to);
}
