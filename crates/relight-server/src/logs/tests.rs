//! What is made of what was looked at.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use relight_model::TimeSpan;
use relight_model::objective::Verdict;
use relight_model::schedule::JobId;
use relight_workloads::log::{Gap, Interval, Windows};

use super::record::Ledger;
use super::{All, Follower, Known, LogStanding};
use crate::evidence::Kind;
use crate::evidence::detail::{Ended, LogDetail};
use crate::standing::History;
use crate::standing::tests::{House, at};

fn windows(looked: Timestamp, behind: i64) -> Windows {
    let reaches = looked - SignedDuration::from_secs(behind);
    Windows {
        looked,
        reaches: Some(reaches),
        intervals: vec![Interval {
            branch: "1".into(),
            from: at(0),
            to: reaches,
            first: "0/1".into(),
            last: "0/2".into(),
            snapshots: Vec::new(),
        }],
        gaps: Vec::new(),
        points: Vec::new(),
        remarks: Vec::new(),
    }
}

#[test]
fn the_rpo_counts_what_the_log_reaches_but_not_without_a_snapshot() {
    let house = House::new();
    let mut history = History::default();
    let known = Known {
        windows: Some(Arc::new(windows(at(40), 7))),
        ..Known::default()
    };
    history.see_logs(Arc::new(All::from([(house.vm.clone(), known)])));
    history.follow(&house.state, &house.plan).unwrap();
    let standing = |history: &History| history.standing(&house.plan, &house.plan.workloads[0], at(40));
    let rpo = standing(&history).rpo.unwrap();
    assert_eq!(rpo.verdict, Verdict::NotMeasured);
    assert!(
        rpo.reason.contains("no snapshot to apply it to"),
        "{}",
        rpo.reason
    );
    house.run(JobId::backup(&house.vm), 1, Ended::Good);
    history.follow(&house.state, &house.plan).unwrap();
    let found = standing(&history);
    let rpo = found.rpo.unwrap();
    assert!(rpo.verdict.is_met(), "{}", rpo.reason);
    assert_eq!(rpo.objective.measured, Some(TimeSpan::from_secs(7)));
    assert!(rpo.reason.contains("the log reaches"), "{}", rpo.reason);
    assert_eq!(found.log.unwrap().gaps, 0);
}

#[test]
fn what_is_wrong_with_a_log_is_told() {
    let mut found = windows(at(2), 60);
    found.gaps.push(Gap {
        branch: "1".into(),
        from: at(1),
        to: None,
        cause: "segments missing".into(),
    });
    let follower = Follower::default();
    let mut known = Known {
        windows: Some(Arc::new(found)),
        failure: None,
        follower: Some(follower),
    };
    let promised = Some(SignedDuration::from_secs(5));
    let standing = LogStanding::of(&known, promised, at(2));
    assert!(
        standing.alarms["gap"].contains("segments missing"),
        "{standing:?}"
    );
    assert!(standing.alarms["behind"].contains("1 m ago"), "{standing:?}");
    // As old as it may be, and a look older.
    let standing = LogStanding::of(&known, Some(SignedDuration::from_secs(50)), at(2));
    assert!(!standing.alarms.contains_key("behind"), "{standing:?}");
    known.failure = Some("the repository does not answer".into());
    assert!(LogStanding::of(&known, None, at(2)).alarms["look"].contains("does not answer"));
}

#[test]
fn evidence_of_a_log_is_short_and_tells_when_the_promise_was_broken() {
    let house = House::new();
    let mut ledger = Ledger::default();
    let permitted = Some(TimeSpan::from_secs(60));
    let mut see = |second: i64, behind: i64| {
        let now = at(0) + SignedDuration::from_secs(second);
        ledger.see(
            &house.state,
            &house.vm,
            "main",
            permitted,
            Some(&windows(now, behind)),
        );
    };
    // Ten minutes well, five in which nothing comes, then well again, until two hours are over.
    for look in 0..40 {
        see(look * 15, 1);
    }
    for look in 40..60 {
        see(look * 15, 1 + (look - 39) * 15);
    }
    for look in 60..480 {
        see(look * 15, 1);
    }
    ledger.close(&house.state, at(3));
    let records = house.state.evidence_of(Kind::Log, 0).unwrap();
    let details: Vec<LogDetail> = records
        .into_iter()
        .map(|record| serde_json::from_value(record.detail.into()).unwrap())
        .collect();
    assert!(details.len() <= 6, "{details:#?}");
    let worst: Vec<u64> = details.iter().map(|detail| detail.exposure.0.as_secs()).collect();
    assert_eq!(worst.iter().filter(|worst| **worst > 60).count(), 1, "{worst:?}");
    assert!((301..=317).contains(worst.iter().max().unwrap()), "{worst:?}");
    for pair in details.windows(2) {
        assert_eq!(pair[0].to, pair[1].from);
        assert!(pair[0].reached <= pair[1].reached);
    }
    assert_eq!(details.first().unwrap().from, at(0));
    assert_eq!(
        details.last().unwrap().to,
        at(0) + SignedDuration::from_secs(479 * 15)
    );
}
