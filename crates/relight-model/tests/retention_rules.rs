//! What each retention rule keeps, by example: weeks, zones, clocks that change, guards against mistakes.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use jiff::Timestamp;
use jiff::tz::TimeZone;
use relight_model::retention::{Alarm, Candidate, Decision, Guards, Plan, Policy, PolicyError, plan};

fn zone(name: &str) -> TimeZone {
    TimeZone::get(name).unwrap()
}

fn ts(text: &str) -> Timestamp {
    text.parse().unwrap()
}

fn snapshot(time: &str) -> Candidate<String> {
    let id = time.to_owned();
    Candidate {
        id,
        group: "vm/100".to_owned(),
        time: ts(time),
        sequence: 0,
        protected: false,
        good: true,
    }
}

fn guards() -> Guards {
    Guards::new(ts("2027-01-10T00:00:00Z"), Some(ts("2027-01-09T00:00:00Z")))
}

fn judge(policy: &str, zone_name: &str, snapshots: Vec<Candidate<String>>) -> Plan<String> {
    plan(&policy.parse().unwrap(), &zone(zone_name), &guards(), snapshots)
}

fn kept(policy: &str, zone_name: &str, times: &[&str]) -> Vec<String> {
    let snapshots = times.iter().map(|time| snapshot(time)).collect();
    judge(policy, zone_name, snapshots)
        .kept()
        .map(|snapshot| snapshot.id.clone())
        .collect()
}

/// The reasons of every snapshot as the command line shows them; empty for those that go.
fn explained(plan: &Plan<String>) -> Vec<(String, String)> {
    let judged = plan.groups.iter().flat_map(|group| &group.snapshots);
    judged
        .map(|judged| {
            let reasons = match &judged.decision {
                Decision::Keep { reasons } => reasons
                    .iter()
                    .map(ToString::to_string)
                    .collect::<Vec<_>>()
                    .join(", "),
                Decision::Remove => String::new(),
            };
            (judged.snapshot.id.clone(), reasons)
        })
        .collect()
}

#[test]
fn each_snapshot_names_the_rules_that_keep_it() {
    let times = [
        "2026-11-20T01:00:00Z",
        "2026-11-21T01:00:00Z",
        "2026-11-21T13:00:00Z",
        "2026-11-22T01:00:00Z",
        "2026-11-22T13:00:00Z",
        "2026-10-01T01:00:00Z",
    ];
    let plan = judge(
        "keep-last=1,keep-daily=2,keep-monthly=1",
        "UTC",
        times.iter().map(|time| snapshot(time)).collect(),
    );
    let expected = [
        ("2026-11-22T13:00:00Z", "last, daily 2026-11-22, monthly 2026-11"),
        ("2026-11-22T01:00:00Z", ""),
        ("2026-11-21T13:00:00Z", "daily 2026-11-21"),
        ("2026-11-21T01:00:00Z", ""),
        // Today was covered by keep-last, so keep-daily counts two more days.
        ("2026-11-20T01:00:00Z", "daily 2026-11-20"),
        // November was covered too.
        ("2026-10-01T01:00:00Z", "monthly 2026-10"),
    ];
    assert_eq!(
        explained(&plan),
        expected.map(|(id, reasons)| (id.to_owned(), reasons.to_owned()))
    );
    let removed: Vec<_> = plan.removed().map(|snapshot| snapshot.id.as_str()).collect();
    assert_eq!(
        removed,
        ["2026-11-21T01:00:00Z", "2026-11-22T01:00:00Z"],
        "oldest first"
    );
}

#[test]
fn days_without_a_snapshot_do_not_count() {
    let times = [
        "2026-11-22T01:00:00Z",
        "2026-11-10T01:00:00Z",
        "2026-09-01T01:00:00Z",
        "2026-08-01T01:00:00Z",
    ];
    assert_eq!(kept("keep-daily=3", "UTC", &times), times[..3]);
}

#[test]
fn a_period_is_one_of_the_declared_zone() {
    // 23:30 UTC is the next day in Berlin.
    let times = [
        "2026-11-22T22:30:00Z",
        "2026-11-21T23:30:00Z",
        "2026-11-21T12:00:00Z",
    ];
    assert_eq!(kept("keep-daily=5", "UTC", &times), [times[0], times[1]]);
    assert_eq!(
        kept("keep-daily=5", "Europe/Berlin", &times),
        [times[0], times[2]]
    );
}

#[test]
fn weeks_are_those_of_iso_8601() {
    // 2026 has 53 weeks: Thursday 31 December to Sunday 3 January lie in 2026-W53, Monday the 4th in 2027-W01.
    let times = [
        "2027-01-04T01:00:00Z",
        "2027-01-03T01:00:00Z",
        "2026-12-31T01:00:00Z",
        "2026-12-27T01:00:00Z",
        "2026-12-21T01:00:00Z",
    ];
    let plan = judge(
        "keep-weekly=9",
        "UTC",
        times.iter().map(|time| snapshot(time)).collect(),
    );
    let reasons: Vec<String> = explained(&plan).into_iter().map(|(_, reasons)| reasons).collect();
    assert_eq!(
        reasons,
        ["weekly 2027-W01", "weekly 2026-W53", "", "weekly 2026-W52", ""]
    );
    // 1 January 2027 is in the ISO year 2026, but in the calendar year 2027.
    let new_year = ["2027-01-01T01:00:00Z", "2026-12-31T01:00:00Z"];
    assert_eq!(kept("keep-yearly=2", "UTC", &new_year), new_year);
    assert_eq!(kept("keep-weekly=2", "UTC", &new_year), new_year[..1]);
}

#[test]
fn a_daily_backup_at_half_past_two_survives_both_clock_changes() {
    // 02:30 in Berlin: on 29 March 2026 that time does not exist (run at 03:30), on 25 October it exists twice.
    let spring = [
        "2026-03-30T00:30:00Z",
        "2026-03-29T01:30:00Z",
        "2026-03-28T01:30:00Z",
    ];
    assert_eq!(kept("keep-daily=3", "Europe/Berlin", &spring), spring);
    let autumn = [
        "2026-10-26T01:30:00Z",
        "2026-10-25T01:30:00Z",
        "2026-10-25T00:30:00Z",
        "2026-10-24T00:30:00Z",
    ];
    assert_eq!(
        kept("keep-daily=3", "Europe/Berlin", &autumn),
        [autumn[0], autumn[1], autumn[3]]
    );
    // The hour from 02:00 to 03:00 happens twice, and each is an hour of its own.
    assert_eq!(kept("keep-hourly=4", "Europe/Berlin", &autumn), autumn);
}

#[test]
fn within_counts_on_the_calendar_and_from_the_newest_snapshot() {
    // Seven days back over the change of clocks is the same time of day; one second more is too old.
    let times = [
        "2026-10-26T11:00:00Z",
        "2026-10-19T10:00:00Z",
        "2026-10-19T09:59:59Z",
    ];
    assert_eq!(kept("keep-within=7d", "Europe/Berlin", &times), times[..2]);
    assert_eq!(kept("keep-within=168h", "Europe/Berlin", &times), times[..1]);
    // A month before 31 March is the end of February. Backups stopped long before "now", and nothing is lost by it.
    let months = [
        "2026-03-31T12:00:00Z",
        "2026-02-28T12:00:00Z",
        "2026-02-28T11:59:59Z",
    ];
    assert_eq!(kept("keep-within=1m", "UTC", &months), months[..2]);
    assert_eq!(kept("keep-within=1000y", "UTC", &months), months);
}

#[test]
fn a_week_across_two_months_leaves_each_month_its_last_point() {
    // The week of 30 November to 6 December 2026.
    let times = [
        "2026-12-02T01:00:00Z",
        "2026-11-30T01:00:00Z",
        "2026-11-29T01:00:00Z",
        "2026-10-31T01:00:00Z",
        "2026-09-30T01:00:00Z",
    ];
    let plan = judge(
        "keep-daily=1,keep-weekly=1,keep-monthly=1",
        "UTC",
        times.iter().map(|time| snapshot(time)).collect(),
    );
    let reasons: Vec<String> = explained(&plan).into_iter().map(|(_, reasons)| reasons).collect();
    assert_eq!(
        reasons,
        [
            "daily 2026-12-02, weekly 2026-W49, monthly 2026-12",
            "monthly 2026-11",
            "weekly 2026-W48",
            "monthly 2026-10",
            ""
        ]
    );
}

#[test]
fn protected_snapshots_stay_and_do_not_count() {
    let mut snapshots: Vec<_> = [
        "2026-11-22T01:00:00Z",
        "2026-11-21T01:00:00Z",
        "2026-11-20T01:00:00Z",
        "2026-11-19T01:00:00Z",
    ]
    .map(snapshot)
    .into();
    snapshots[0].protected = true;
    snapshots[3].protected = true;
    let plan = judge("keep-last=1", "UTC", snapshots);
    let reasons: Vec<String> = explained(&plan).into_iter().map(|(_, reasons)| reasons).collect();
    assert_eq!(reasons, ["protected", "last", "", "protected"]);
}

#[test]
fn workloads_are_judged_apart() {
    let mut other = snapshot("2020-01-01T00:00:00Z");
    other.group = "vm/101".to_owned();
    let plan = judge(
        "keep-last=1",
        "UTC",
        vec![snapshot("2026-11-22T01:00:00Z"), other],
    );
    assert_eq!(plan.groups.len(), 2);
    assert_eq!(plan.removed().count(), 0);
}

#[test]
fn the_newest_good_snapshot_stays_unless_forced() {
    let mut snapshots: Vec<_> = [
        "2026-11-22T01:00:00Z",
        "2026-11-21T01:00:00Z",
        "2026-11-20T01:00:00Z",
        "2026-11-19T01:00:00Z",
    ]
    .map(snapshot)
    .into();
    snapshots[0].good = false;
    snapshots[1].good = false;
    let policy: Policy = "keep-last=1".parse().unwrap();
    let careful = plan(&policy, &TimeZone::UTC, &guards(), snapshots.clone());
    let reasons: Vec<String> = explained(&careful)
        .into_iter()
        .map(|(_, reasons)| reasons)
        .collect();
    assert_eq!(reasons, ["last", "", "newest good snapshot", ""]);
    let forced = Guards {
        danger_remove_last_good: true,
        ..guards()
    };
    assert_eq!(
        plan(&policy, &TimeZone::UTC, &forced, snapshots).kept().count(),
        1
    );
}

#[test]
fn a_damaged_newest_of_a_day_does_not_push_the_good_one_out() {
    let mut snapshots: Vec<_> = [
        "2026-11-22T13:00:00Z",
        "2026-11-21T23:00:00Z",
        "2026-11-21T13:00:00Z",
        "2026-11-21T01:00:00Z",
    ]
    .map(snapshot)
    .into();
    snapshots[1].good = false;
    let plan = judge("keep-daily=2", "UTC", snapshots);
    let reasons: Vec<String> = explained(&plan).into_iter().map(|(_, reasons)| reasons).collect();
    assert_eq!(
        reasons,
        [
            "daily 2026-11-22",
            "daily 2026-11-21",
            "daily 2026-11-21 (newest good)",
            ""
        ]
    );
}

#[test]
fn an_empty_policy_keeps_everything() {
    let plan = plan(
        &Policy::default(),
        &TimeZone::UTC,
        &guards(),
        ["2026-11-22T01:00:00Z", "1999-01-01T00:00:00Z"].map(snapshot),
    );
    assert_eq!(plan.kept().count(), 2);
    assert!(explained(&plan).iter().all(|(_, reason)| reason == "no policy"));
}

#[test]
fn snapshots_from_the_future_cannot_crowd_out_real_ones() {
    // Someone who can write floods the repository with dates of next year.
    let mut snapshots: Vec<_> = (1..=20)
        .map(|day| snapshot(&format!("2028-01-{day:02}T00:00:00Z")))
        .collect();
    let real = ["2027-01-09T01:00:00Z", "2027-01-08T01:00:00Z"];
    snapshots.extend(real.map(snapshot));
    let plan = judge("keep-daily=2", "UTC", snapshots);
    assert_eq!(plan.removed().count(), 0);
    assert!(real.iter().all(|real| plan.kept().any(|kept| kept.id == *real)));
    assert_eq!(
        plan.alarms,
        [Alarm::Misdated {
            group: "vm/100".to_owned(),
            count: 20,
            latest: ts("2028-01-20T00:00:00Z")
        }]
    );
    assert!(
        !plan.is_blocked(),
        "a forger must not be able to switch retention off either"
    );
}

#[test]
fn a_clock_ten_years_ahead_stops_the_plan() {
    let times = (1..=20).map(|day| snapshot(&format!("2026-11-{day:02}T00:00:00Z")));
    let mut snapshots: Vec<_> = times.collect();
    // The first backup after the jump bears the wrong date too, so that by itself nothing looks misdated.
    snapshots.push(snapshot("2036-11-22T00:00:00Z"));
    let policy: Policy = "keep-within=30d".parse().unwrap();
    let jumped = Guards::new(ts("2036-11-22T01:00:00Z"), Some(ts("2026-11-22T00:00:00Z")));
    let plan_with = |guards: &Guards| plan(&policy, &TimeZone::UTC, guards, snapshots.clone());
    let stopped = plan_with(&jumped);
    assert_eq!(stopped.removed().count(), 20);
    assert!(stopped.is_blocked());
    assert!(
        stopped
            .alarms
            .iter()
            .any(|alarm| matches!(alarm, Alarm::ClockAhead { .. }))
    );
    // Without a record of trusted time the share of removals still stops it.
    let unrecorded = plan_with(&Guards::new(ts("2036-11-22T01:00:00Z"), None));
    assert!(unrecorded.is_blocked());
    assert!(matches!(
        unrecorded.alarms.as_slice(),
        [Alarm::ManyRemovals {
            removed: 20,
            of: 21,
            ..
        }]
    ));
    let back = plan_with(&Guards::new(
        ts("2026-11-20T00:00:00Z"),
        Some(ts("2026-11-22T00:00:00Z")),
    ));
    assert!(
        back.alarms
            .iter()
            .any(|alarm| matches!(alarm, Alarm::ClockBehind { .. }))
    );
}

#[test]
fn a_misspelled_rule_is_an_error_and_not_an_empty_policy() {
    assert!(matches!(
        "keep-dayly=7".parse::<Policy>(),
        Err(PolicyError::UnknownRule { .. })
    ));
    assert!(matches!("".parse::<Policy>(), Err(PolicyError::Empty)));
    assert!(matches!(" , ".parse::<Policy>(), Err(PolicyError::Empty)));
    assert!(matches!(
        "keep-daily".parse::<Policy>(),
        Err(PolicyError::NoValue { .. })
    ));
    assert!(matches!(
        "keep-daily=0".parse::<Policy>(),
        Err(PolicyError::BadCount { .. })
    ));
    assert!(matches!(
        "keep-daily=-1".parse::<Policy>(),
        Err(PolicyError::BadCount { .. })
    ));
    assert!(matches!(
        "keep-daily=7,keep-daily=8".parse::<Policy>(),
        Err(PolicyError::Repeated { .. })
    ));
    for span in ["7", "d", "7x", "0d", "7d7d", "99999999d", "", "1001y"] {
        assert!(format!("keep-within={span}").parse::<Policy>().is_err(), "{span}");
    }
    assert!(serde_json::from_str::<Policy>(r#"{"keep-dayly":7}"#).is_err());
    assert!(serde_json::from_str::<Policy>(r#"{"keep-daily":0}"#).is_err());
    let written = "keep-last=3,keep-within=1y6m,keep-hourly=24,keep-daily=7,keep-weekly=4,keep-monthly=12,keep-yearly=9";
    let policy: Policy = written.parse().unwrap();
    assert_eq!(policy.to_string(), written);
    let json = serde_json::to_string(&policy).unwrap();
    assert_eq!(serde_json::from_str::<Policy>(&json).unwrap(), policy);
    assert_eq!(
        serde_json::from_str::<Policy>(r#"{"keep-last":1,"keep-within":"30d"}"#)
            .unwrap()
            .to_string(),
        "keep-last=1,keep-within=30d"
    );
}

#[test]
fn the_plan_reads_well_as_json() {
    let plan = judge(
        "keep-weekly=1",
        "UTC",
        vec![snapshot("2026-11-22T01:00:00Z"), snapshot("2026-11-21T01:00:00Z")],
    );
    let json = serde_json::to_value(&plan).unwrap();
    let judged = &json["groups"][0]["snapshots"];
    assert_eq!(judged[0]["decision"], "keep");
    assert_eq!(judged[0]["reasons"][0]["rule"], "keep-weekly");
    assert_eq!(judged[0]["reasons"][0]["period"], "2026-W47");
    assert_eq!(judged[1]["decision"], "remove");
}
