//! What an operator types after `restore`, and which snapshot comes back.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use jiff::Timestamp;
use jiff::tz::TimeZone;
use proptest::prelude::*;
use relight_model::snapshot_ref::{ChooseError, Listed, SnapshotRefError};
use relight_model::{PointInTime, SnapshotRef};

fn berlin() -> TimeZone {
    TimeZone::get("Europe/Berlin").unwrap()
}

const SNAPSHOTS: [(&str, &str, &str); 5] = [
    ("aaaa1111", "host/web01", "2026-11-20T01:00:00Z"),
    ("aaaa2222", "host/web01", "2026-11-21T22:30:00Z"),
    ("bbbb3333", "host/web01", "2026-11-22T09:00:37.5Z"),
    ("cccc4444", "host/web01", "2026-11-22T21:00:00Z"),
    ("dddd5555", "vm/100", "2026-11-23T00:00:00Z"),
];

fn choose(text: &str) -> Result<&'static str, String> {
    let wanted: SnapshotRef = text.parse().map_err(|e: SnapshotRefError| e.to_string())?;
    let listed = SNAPSHOTS.map(|(id, workload, time)| Listed {
        id,
        workload,
        time: time.parse().unwrap(),
        item: id,
    });
    wanted.choose(listed, &berlin()).map_err(|e| e.to_string())
}

#[test]
fn every_way_to_name_a_snapshot_finds_it() {
    for (text, id) in [
        ("bbbb", "bbbb3333"),
        ("AAAA1", "aaaa1111"),
        ("latest", "dddd5555"),
        ("host/web01@latest", "cccc4444"),
        ("host/web01@2026-11-22T10:00:00Z", "bbbb3333"),
        ("host/web01@2026-11-22T10:00:00+01:00", "aaaa2222"),
        // 10:00 in Berlin is 09:00 UTC; the snapshot of 09:00:37 was taken in that minute.
        ("host/web01@2026-11-22 10:00", "bbbb3333"),
        ("host/web01@2026-11-22T10:00", "bbbb3333"),
        ("host/web01@2026-11-22T10:00:37", "bbbb3333"),
        ("host/web01@2026-11-22T10:00:36", "aaaa2222"),
        ("host/web01@2026-11-22T10:00:37.4", "aaaa2222"),
        // The 21st ends at 23:00 UTC in Berlin, and the 22nd holds everything up to there on the next day.
        ("host/web01@2026-11-21", "aaaa2222"),
        ("host/web01@2026-11-22", "cccc4444"),
        ("host/web01@2030-01-01T00:00Z", "cccc4444"),
    ] {
        assert_eq!(choose(text).as_deref(), Ok(id), "{text}");
    }
}

#[test]
fn what_cannot_be_found_is_told_with_a_way_on() {
    for (text, part) in [
        ("aaaa", "aaaa1 or aaaa2"),
        ("abcdef", "relight snapshots"),
        ("host/web02@latest", "no snapshot of host/web02"),
        (
            "host/web01@2026-11-19",
            "no snapshot on 2026-11-19; its oldest is of 2026-11-20T01:00:00Z",
        ),
        (
            "host/web01@2026-11-20T00:59:59Z",
            "at or before 2026-11-20T00:59:59Z",
        ),
        ("abc", "at least 4"),
        ("host/web01", "WORKLOAD@latest"),
        ("web01@latest", "KIND/NAME"),
        ("host/web01@yesterday", "not a time"),
        ("host/web01@", "not a time"),
        ("host/web01@2026-02-30", "not a time"),
        ("host/web01@2026-11-22T", "not a time"),
        ("host/web01@2026-11-22T25:00", "not a time"),
        ("", "names no snapshot"),
    ] {
        let error = choose(text).unwrap_err();
        assert!(error.contains(part), "{text}: {error}");
    }
    let nothing: [Listed<'_, ()>; 0] = [];
    assert_eq!(
        SnapshotRef::Latest(None).choose(nothing, &TimeZone::UTC),
        Err(ChooseError::Empty)
    );
}

#[test]
fn days_are_those_of_the_zone_when_clocks_change() {
    let day = |text: &str| {
        let bounds = text.parse::<PointInTime>().unwrap().bounds(&berlin());
        bounds
            .not_after
            .duration_since(bounds.not_before.unwrap())
            .as_hours()
            + 1
    };
    assert_eq!(day("2026-03-29"), 23);
    assert_eq!(day("2026-10-25"), 25);
    // 02:30 occurs twice; all of both occurrences is meant.
    let twice = "2026-10-25T02:30"
        .parse::<PointInTime>()
        .unwrap()
        .bounds(&berlin());
    assert_eq!(
        twice.not_after,
        "2026-10-25T01:30:59.999999999Z".parse::<Timestamp>().unwrap()
    );
    // 02:30 does not occur.
    let never = "2026-03-29T02:30"
        .parse::<PointInTime>()
        .unwrap()
        .bounds(&berlin());
    assert_eq!(
        never.not_after,
        "2026-03-29T01:30:59.999999999Z".parse::<Timestamp>().unwrap()
    );
}

#[test]
fn the_ends_of_time_are_no_panic() {
    for text in [
        "9999-12-31",
        "-009999-01-01",
        "9999-12-31T23:59:59.9",
        "9999-12-31T23:59",
        "-009999-01-01T00:00",
    ] {
        for zone in [
            TimeZone::UTC,
            berlin(),
            TimeZone::get("Pacific/Kiritimati").unwrap(),
        ] {
            if let Ok(time) = text.parse::<PointInTime>() {
                let _ = time.bounds(&zone);
            }
        }
    }
}

proptest! {
    #[test]
    fn any_text_is_read_without_panic(text in ".*") {
        let _ = text.parse::<SnapshotRef>();
    }

    #[test]
    fn nearly_right_times_are_read_without_panic(time in "[-+]?[0-9]{0,6}-?[0-9]{0,3}-?[0-9]{0,3}[T t]?[0-9:.,]{0,12}[Zz+-]?[0-9:]{0,6}(\\[[a-zA-Z/]{0,9}\\])?") {
        if let Ok(SnapshotRef::At(_, time)) = format!("vm/1@{time}").parse::<SnapshotRef>() {
            let _ = time.bounds(&berlin());
        }
    }

    #[test]
    fn a_displayed_reference_reads_back(seconds in 0..4_000_000_000_i64) {
        let at = Timestamp::from_second(seconds).unwrap();
        let written = format!("vm/1@{at}");
        let read: SnapshotRef = written.parse().unwrap();
        prop_assert_eq!(read.to_string(), written);
    }
}
