//! The walk over records, on logs that are made up. Real ones are read by the tests with servers.

use jiff::{SignedDuration, Timestamp};

use super::name::{SegmentName, Timeline};
use super::sample::Sample;
use super::summary::Summary;
use super::walk::Walker;
use crate::lsn::Lsn;

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + second).unwrap()
}

/// Three segments: commits in each, a named point, a record across each border.
fn sample(major: u32) -> Sample {
    let mut sample = Sample::new(Sample::cluster(major), 1, 5);
    for segment in 0..3 {
        sample.commit(at(segment * 10));
        sample.point(at(segment * 10 + 1), &format!("point {segment}"));
        sample.commit(at(segment * 10 + 2));
        sample.fill();
    }
    sample.commit(at(100));
    sample
}

#[test]
fn a_segment_tells_whose_it_is_and_when_it_was_written() {
    for major in 14..=18 {
        let segments = sample(major).segments();
        assert_eq!(segments.len(), 3);
        for (number, (name, bytes)) in (0..).zip(&segments) {
            let summary = Summary::of(*name, bytes).unwrap();
            assert_eq!(summary.cluster, Sample::cluster(major));
            assert_eq!(summary.times.first_commit, Some(at(number * 10)));
            assert_eq!(summary.times.last_commit, Some(at(number * 10 + 2)));
            assert_eq!(summary.times.points[0].name, format!("point {number}"));
            assert_eq!(summary.broken, None);
            assert!(summary.end > summary.start && summary.end < summary.start.plus(1 << 20));
        }
    }
}

#[test]
fn the_walk_is_the_same_however_the_bytes_are_cut() {
    let sample = sample(17);
    let all = sample.from(Lsn(5 << 20));
    let whole = {
        let mut walker = Walker::new(Lsn(5 << 20), Sample::cluster(17).segment_size);
        let mut seen = Vec::new();
        walker.feed(all, &mut |at, event| seen.push((at, event))).unwrap();
        assert_eq!(walker.end(), Some(sample.end()));
        seen
    };
    assert_eq!(whole.len(), 10);
    for step in [1, 7, 23, 24, 41, 4096, 8191, 8193, 100_003] {
        let mut walker = Walker::new(Lsn(5 << 20), Sample::cluster(17).segment_size);
        let mut seen = Vec::new();
        for piece in all.chunks(step) {
            walker
                .feed(piece, &mut |at, event| seen.push((at, event)))
                .unwrap();
        }
        assert_eq!(seen, whole, "in pieces of {step}");
        assert_eq!(walker.stop(), None);
    }
}

#[test]
fn a_switch_leaves_the_rest_of_its_segment_empty_and_nothing_is_wrong_with_that() {
    let mut sample = Sample::new(Sample::cluster(18), 1, 1);
    sample.commit(at(1));
    sample.switch();
    sample.commit(at(2));
    sample.switch();
    for (name, bytes) in sample.segments() {
        let summary = Summary::of(name, &bytes).unwrap();
        assert_eq!(summary.broken, None);
        assert!(summary.times.last_commit.is_some());
    }
}

#[test]
fn a_flipped_bit_ends_the_records_where_it_is() {
    let (name, mut bytes) = sample(17).segments().swap_remove(1);
    bytes[500_000] ^= 4;
    let summary = Summary::of(name, &bytes).unwrap();
    let (at, why) = summary.broken.unwrap();
    assert!(at < Lsn((6 << 20) + 500_000) && at > Lsn((6 << 20) + 490_000));
    assert!(why.contains("checksum"), "{why}");
}

#[test]
fn a_segment_under_another_name_or_of_another_program_is_refused() {
    let segments = sample(17).segments();
    let (name, bytes) = &segments[0];
    let size = Sample::cluster(17).segment_size;
    assert!(Summary::of(SegmentName::new(Timeline(1), 9, size), bytes).is_err());
    // A later timeline may have been forked in it, an earlier one not.
    assert!(Summary::of(SegmentName::new(Timeline(2), 5, size), bytes).is_ok());
    assert!(Summary::of(SegmentName::new(Timeline(0), 5, size), bytes).is_err());
    assert!(Summary::of(*name, &bytes[..30]).is_err());
    assert!(Summary::of(*name, &[0; 1 << 20]).is_err());
    let mut other = bytes.clone();
    other[0] = 0x77;
    let error = Summary::of(*name, &other).unwrap_err().to_string();
    assert!(error.contains("14 to 18"), "{error}");
}

#[test]
fn times_of_pieces_add_up() {
    let mut sum = super::summary::Times::default();
    for (name, bytes) in sample(17).segments() {
        sum.extend(&Summary::of(name, &bytes).unwrap().times);
    }
    assert_eq!(sum.first_commit, Some(at(0)));
    assert_eq!(sum.last_commit, Some(at(0) + SignedDuration::from_secs(22)));
    assert_eq!(sum.points.len(), 3);
}
