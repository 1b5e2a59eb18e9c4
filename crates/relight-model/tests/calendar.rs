//! Calendar events: what systemd and Proxmox users write, and the nights in which clocks change.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use relight_model::calendar::{Event, EventError};

fn event(text: &str) -> Event {
    text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn berlin() -> TimeZone {
    TimeZone::get("Europe/Berlin").unwrap()
}

/// The next times of an event, as clocks in the zone show them, with the offset.
fn next(text: &str, after: &str, count: usize, zone: &TimeZone) -> Vec<String> {
    let after: Timestamp = after.parse().unwrap();
    let event = event(text);
    let show = |t: Timestamp| {
        t.to_zoned(zone.clone())
            .strftime("%a %Y-%m-%d %H:%M:%S %:z")
            .to_string()
    };
    event.iter_after(after, zone).take(count).map(show).collect()
}

/// The same in UTC, after Monday 2026-11-23 05:00, to the minute.
fn utc(text: &str, count: usize) -> Vec<String> {
    let times = next(text, "2026-11-23T05:00:00Z", count, &TimeZone::UTC);
    times.into_iter().map(|time| time[..20].to_owned()).collect()
}

#[test]
fn events_of_every_shape_are_read_and_have_a_normal_form() {
    for (text, normal) in [
        ("minutely", "*-*-* *:*:00"),
        ("hourly", "*-*-* *:00:00"),
        ("daily", "*-*-* 00:00:00"),
        ("Weekly", "mon *-*-* 00:00:00"),
        ("monthly", "*-*-01 00:00:00"),
        ("quarterly", "*-01,04,07,10-01 00:00:00"),
        ("semiannually", "*-01,07-01 00:00:00"),
        ("semi-annually", "*-01,07-01 00:00:00"),
        ("yearly", "*-01-01 00:00:00"),
        ("annually", "*-01-01 00:00:00"),
        ("mon..fri 02:00", "mon..fri *-*-* 02:00:00"),
        ("mon..fri", "mon..fri *-*-* 00:00:00"),
        ("Wed, 17:48", "wed *-*-* 17:48:00"),
        ("Sat,Thu,Mon..Wed,Sat..Sun", "mon..thu,sat,sun *-*-* 00:00:00"),
        ("sat..mon 1:00", "mon,sat,sun *-*-* 01:00:00"),
        ("Mon,Sun 12-*-* 2,1:23", "mon,sun 2012-*-* 02,01:23:00"),
        ("*-*-1 03:30", "*-*-01 03:30:00"),
        ("*-05", "*-*-05 00:00:00"),
        ("10-15", "*-10-15 00:00:00"),
        ("monday *-12-* 17:00", "mon *-12-* 17:00:00"),
        ("21:00/30", "*-*-* 21:00/30:00"),
        ("*/6:00", "*-*-* 00/6:00:00"),
        ("0/6:00", "*-*-* 00/6:00:00"),
        ("*:*", "*-*-* *:*:00"),
        ("08:05:40", "*-*-* 08:05:40"),
        ("mon..fri 8..17,22:0/15", "mon..fri *-*-* 08..17,22:00/15:00"),
        ("sat *-1..7 15:00", "sat *-*-01..07 15:00:00"),
        ("*-*~1", "*-*~01 00:00:00"),
        ("Mon *-05~07/1", "mon *-05~07/1 00:00:00"),
        ("2003-02..04-05", "2003-02..04-05 00:00:00"),
        ("2020-1-1 05:40 UTC", "2020-01-01 05:40:00 UTC"),
        ("weekly Pacific/Auckland", "mon *-*-* 00:00:00 Pacific/Auckland"),
    ] {
        let read = event(text);
        assert_eq!(read.to_string(), normal, "{text}");
        assert_eq!(event(&read.to_string()), read, "{text}");
        let json = serde_json::to_string(&read).unwrap();
        assert_eq!(serde_json::from_str::<Event>(&json).unwrap(), read, "{text}");
    }
}

#[test]
fn next_times_are_those_of_systemd() {
    // As `systemd-analyze calendar --base-time '2026-11-23 05:00:00'` of systemd 252 answers.
    for (text, times) in [
        (
            "mon",
            [
                "Mon 2026-11-30 00:00",
                "Mon 2026-12-07 00:00",
                "Mon 2026-12-14 00:00",
            ],
        ),
        (
            "sat *-1..7 15:00",
            [
                "Sat 2026-12-05 15:00",
                "Sat 2027-01-02 15:00",
                "Sat 2027-02-06 15:00",
            ],
        ),
        (
            "*-*~1",
            [
                "Mon 2026-11-30 00:00",
                "Thu 2026-12-31 00:00",
                "Sun 2027-01-31 00:00",
            ],
        ),
        (
            "*-*~1..3",
            [
                "Sat 2026-11-28 00:00",
                "Sun 2026-11-29 00:00",
                "Mon 2026-11-30 00:00",
            ],
        ),
        (
            "*-*~7/2",
            [
                "Tue 2026-11-24 00:00",
                "Thu 2026-11-26 00:00",
                "Sat 2026-11-28 00:00",
            ],
        ),
        (
            "*-*~1,3",
            [
                "Sat 2026-11-28 00:00",
                "Mon 2026-11-30 00:00",
                "Tue 2026-12-29 00:00",
            ],
        ),
        (
            "21:00/30",
            [
                "Mon 2026-11-23 21:00",
                "Mon 2026-11-23 21:30",
                "Tue 2026-11-24 21:00",
            ],
        ),
        (
            "8..17/2:00",
            [
                "Mon 2026-11-23 08:00",
                "Mon 2026-11-23 10:00",
                "Mon 2026-11-23 12:00",
            ],
        ),
        (
            "0/7:00",
            [
                "Mon 2026-11-23 07:00",
                "Mon 2026-11-23 14:00",
                "Mon 2026-11-23 21:00",
            ],
        ),
        (
            "*-*-31",
            [
                "Thu 2026-12-31 00:00",
                "Sun 2027-01-31 00:00",
                "Wed 2027-03-31 00:00",
            ],
        ),
        (
            "1/2-1-1",
            [
                "Fri 2027-01-01 00:00",
                "Mon 2029-01-01 00:00",
                "Wed 2031-01-01 00:00",
            ],
        ),
        (
            "*-*-5/10",
            [
                "Wed 2026-11-25 00:00",
                "Sat 2026-12-05 00:00",
                "Tue 2026-12-15 00:00",
            ],
        ),
        (
            "*-2-29",
            [
                "Tue 2028-02-29 00:00",
                "Sun 2032-02-29 00:00",
                "Fri 2036-02-29 00:00",
            ],
        ),
    ] {
        assert_eq!(utc(text, 3), times, "{text}");
    }
}

#[test]
fn what_is_no_event_is_refused_with_a_reason() {
    for (text, says) in [
        ("", "is needed"),
        ("  ", "is needed"),
        ("dayly", "neither a weekday"),
        ("mon..xyz", "neither a weekday"),
        ("5", "is no part of a calendar event"),
        ("*", "is no part of a calendar event"),
        ("02:00 mon", "is no part of a calendar event"),
        ("daily 02:00", "is no part of a calendar event"),
        ("1-2-3-4", "is no part of a calendar event"),
        ("1:2:3:4", "is no part of a calendar event"),
        (
            "24:00",
            "\"24\" is no value for the hours of a calendar event: give 0 to 23",
        ),
        ("0:60", "for the minutes"),
        ("0:+5", "for the minutes"),
        ("*-13-1", "for the months"),
        ("*-0-1", "for the months"),
        ("*-*-32", "for the days"),
        ("1800-1-1", "for the years"),
        ("22..2:00", "ends before it begins"),
        ("*-*-5..3", "ends before it begins"),
        ("5/0:00", "\"0\" is no step"),
        ("*:0/60", "\"60\" is no step"),
        ("0:0:1.5", "whole seconds"),
        ("daily Foo/Bar", "no time zone"),
        ("*-2-30", "never happens"),
        ("*-4,6-31 12:00", "never happens"),
        ("2023-2-29", "never happens"),
        ("mon 2026-11-24", "never happens"),
    ] {
        let error = text.parse::<Event>().unwrap_err().to_string();
        assert!(error.contains(says), "{text}: {error}");
    }
    assert_eq!("x".repeat(1_000).parse::<Event>(), Err(EventError::Empty));
}

#[test]
fn an_event_of_the_past_has_no_next() {
    let now = "2026-11-23T05:00:00Z".parse().unwrap();
    assert_eq!(event("2020-01-01 02:00").next_after(now, &TimeZone::UTC), None);
    assert_eq!(event("2020..2026-01-01").next_after(now, &TimeZone::UTC), None);
    assert_eq!(event("hourly").next_after(Timestamp::MAX, &TimeZone::UTC), None);
    assert!(event("daily").next_after(Timestamp::MIN, &berlin()).is_some());
}

#[test]
fn a_time_that_does_not_exist_happens_after_the_gap() {
    // On 29 March 2026, 02:00 to 03:00 does not exist in Berlin.
    assert_eq!(
        next("02:30", "2026-03-28T00:00:00Z", 3, &berlin()),
        [
            "Sat 2026-03-28 02:30:00 +01:00",
            "Sun 2026-03-29 03:00:00 +02:00",
            "Mon 2026-03-30 02:30:00 +02:00"
        ]
    );
    // Not twice where the first instant after the gap is one of its times too.
    assert_eq!(
        next("2,3:00,30", "2026-03-28T23:00:00Z", 3, &berlin()),
        [
            "Sun 2026-03-29 03:00:00 +02:00",
            "Sun 2026-03-29 03:30:00 +02:00",
            "Mon 2026-03-30 02:00:00 +02:00"
        ]
    );
}

#[test]
fn a_time_that_occurs_twice_happens_once_at_the_first() {
    // On 25 October 2026, 02:00 to 03:00 occurs twice in Berlin.
    let expected = ["Sun 2026-10-25 02:30:00 +02:00", "Mon 2026-10-26 02:30:00 +01:00"];
    assert_eq!(next("02:30", "2026-10-24T12:00:00Z", 2, &berlin()), expected);
    // Asked in the second hour of the name.
    assert_eq!(next("02:30", "2026-10-25T01:10:00Z", 1, &berlin()), expected[1..]);
}

#[test]
fn an_event_of_every_hour_keeps_its_distance_when_clocks_change() {
    assert_eq!(
        next("*:30", "2026-10-24T23:00:00Z", 4, &berlin()),
        [
            "Sun 2026-10-25 01:30:00 +02:00",
            "Sun 2026-10-25 02:30:00 +02:00",
            "Sun 2026-10-25 02:30:00 +01:00",
            "Sun 2026-10-25 03:30:00 +01:00"
        ]
    );
    assert_eq!(
        next("hourly", "2026-03-28T23:00:00Z", 3, &berlin()),
        [
            "Sun 2026-03-29 01:00:00 +01:00",
            "Sun 2026-03-29 03:00:00 +02:00",
            "Sun 2026-03-29 04:00:00 +02:00"
        ]
    );
}

#[test]
fn the_far_future_is_found_at_once() {
    let began = std::time::Instant::now();
    assert_eq!(
        next("9000-7-1 *:00", "2026-11-23T05:00:00Z", 1, &berlin()),
        ["Tue 9000-07-01 00:00:00 +02:00"]
    );
    assert_eq!(
        next("9000-7-1 02:00", "2026-11-23T05:00:00Z", 1, &berlin()).len(),
        1
    );
    // Day by day it would take hours.
    assert!(began.elapsed().as_secs() < 30);
}

#[test]
fn zones_with_odd_changes_work() {
    // Clocks in Lord Howe change by half an hour; Samoa left out a whole day; Beirut skips midnight.
    let lord_howe = TimeZone::get("Australia/Lord_Howe").unwrap();
    assert_eq!(
        next("02:15", "2026-10-03T00:00:00Z", 2, &lord_howe)[0],
        "Sun 2026-10-04 02:30:00 +11:00"
    );
    let apia = TimeZone::get("Pacific/Apia").unwrap();
    assert_eq!(
        next("12:00", "2011-12-29T12:00:00Z", 3, &apia),
        [
            "Thu 2011-12-29 12:00:00 -10:00",
            "Sat 2011-12-31 00:00:00 +14:00",
            "Sat 2011-12-31 12:00:00 +14:00"
        ]
    );
    let beirut = TimeZone::get("Asia/Beirut").unwrap();
    assert_eq!(
        next("daily", "2026-03-28T12:00:00Z", 1, &beirut),
        ["Sun 2026-03-29 01:00:00 +03:00"]
    );
}

#[test]
fn an_events_own_time_zone_prevails() {
    assert_eq!(
        next("02:00 America/New_York", "2026-11-23T05:00:00Z", 1, &berlin()),
        ["Mon 2026-11-23 08:00:00 +01:00"]
    );
}

#[test]
fn what_was_missed_is_found_however_often_it_was_due() {
    let at = |text: &str| -> Timestamp { text.parse().unwrap() };
    let (long_ago, now) = (at("2016-11-23T05:00:30Z"), at("2026-11-23T05:00:30Z"));
    for (text, latest) in [
        ("minutely", "2026-11-23T05:00:00Z"),
        ("sat 02:*:*", "2026-11-21T02:59:59Z"),
        ("*-2-29", "2024-02-29T00:00:00Z"),
        ("yearly", "2026-01-01T00:00:00Z"),
        ("*:*:*", "2026-11-23T05:00:30Z"),
    ] {
        assert_eq!(
            event(text).latest_between(long_ago, now, &TimeZone::UTC),
            Some(at(latest)),
            "{text}"
        );
    }
    let daily = event("daily");
    assert_eq!(
        daily.latest_between(at("2026-11-23T00:00:00Z"), now, &TimeZone::UTC),
        None
    );
    assert_eq!(
        daily.latest_between(
            at("2026-11-22T23:59:59.5Z"),
            at("2026-11-23T00:00:00Z"),
            &TimeZone::UTC
        ),
        Some(at("2026-11-23T00:00:00Z"))
    );
}
