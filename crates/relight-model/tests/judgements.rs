//! Verdicts about promises of a plan.

use jiff::Timestamp;
use relight_model::objective::exercise::{Recovered, judge_exercise};
use relight_model::objective::forecast::Measurement;
use relight_model::objective::{Recoverable, Verdict, judge_rpo, judge_rto};
use relight_model::plan::{PickRule, Plan, Stage};
use relight_model::{ByteSize, TimeSpan};

fn lab() -> Plan {
    Plan::parse(include_str!("../../../dist/plan.toml")).unwrap()
}

fn at(text: &str) -> Timestamp {
    format!("2026-11-{text}Z").parse().unwrap()
}

fn span(text: &str) -> TimeSpan {
    text.parse().unwrap()
}

#[test]
fn the_newest_point_that_can_be_restored_decides() {
    let plan = lab();
    let (linux, databases) = (&plan.policies["linux"], &plan.policies["databases"]);
    let now = at("23T12:00:00");
    let snapshot = |text: &str| Recoverable {
        snapshot: Some(at(text)),
        log: None,
    };

    let kept = judge_rpo(linux, &snapshot("23T02:00:00"), now);
    assert_eq!(kept.verdict, Verdict::Met { margin: span("19h") });
    assert_eq!(
        kept.reason,
        "the newest snapshot is of 2026-11-23T02:00:00Z, 10 h ago"
    );
    assert_eq!(kept.breaks_at, Some(at("24T07:00:00")));
    assert_eq!(kept.tolerance, span("5h"));

    let tolerated = judge_rpo(linux, &snapshot("22T08:00:00"), now);
    assert!(tolerated.verdict.is_met());
    assert!(
        tolerated.reason.ends_with("1 d 4 h ago, within the tolerance"),
        "{}",
        tolerated.reason
    );
    let missed = judge_rpo(linux, &snapshot("22T02:00:00"), now);
    assert_eq!(missed.verdict, Verdict::Missed { by: span("5h") });

    let log = Recoverable {
        snapshot: Some(at("20T00:00:00")),
        log: Some(at("23T11:55:00")),
    };
    let judged = judge_rpo(databases, &log, now);
    assert_eq!(
        judged.verdict,
        Verdict::Met {
            margin: span("5h55m")
        }
    );
    assert_eq!(judged.reason, "the log reaches 2026-11-23T11:55:00Z, 5 m ago");
}

#[test]
fn what_is_missing_is_never_taken_for_good() {
    let plan = lab();
    let databases = &plan.policies["databases"];
    let now = at("23T12:00:00");
    let nothing = judge_rpo(databases, &Recoverable::default(), now);
    assert_eq!(
        (nothing.verdict, nothing.reason.as_str()),
        (Verdict::NotMeasured, "there is no recovery point")
    );
    let log_alone = Recoverable {
        snapshot: None,
        log: Some(now),
    };
    let judged = judge_rpo(databases, &log_alone, now);
    assert_eq!(judged.verdict, Verdict::NotMeasured);
    assert!(judged.reason.contains("no snapshot to apply it to"));
    let future = Recoverable {
        snapshot: Some(at("24T12:00:00")),
        log: None,
    };
    let judged = judge_rpo(databases, &future, now);
    assert_eq!(judged.verdict, Verdict::NotMeasured);
    assert!(judged.reason.contains("a clock is wrong"));
    let never = judge_rto(databases, &[], ByteSize::gib(10), TimeSpan::default());
    assert_eq!(
        (never.verdict, never.reason.as_str()),
        (Verdict::NotMeasured, "no drill was measured")
    );
}

#[test]
fn a_small_drill_is_held_against_the_real_size() {
    let plan = lab();
    let drill = Measurement {
        at: at("01T12:00:00"),
        size: ByteSize::gib(10),
        restore: span("6m"),
        rest: span("4m"),
    };
    let databases = &plan.policies["databases"];
    let small = judge_rto(databases, &[drill], ByteSize::gib(50), TimeSpan::default());
    assert_eq!(small.verdict, Verdict::Met { margin: span("26m") });
    let large = judge_rto(databases, &[drill], ByteSize::gib(150), TimeSpan::default());
    assert_eq!(large.verdict, Verdict::Missed { by: span("34m") });
    assert!(
        large.reason.starts_with("1 h 34 m are expected for 150 GiB"),
        "{}",
        large.reason
    );
    let cold = judge_rto(databases, &[drill], ByteSize::gib(10), span("12h"));
    assert_eq!(cold.verdict, Verdict::Missed { by: span("11h10m") });
}

#[test]
fn an_exercise_has_an_order_and_a_total() {
    let plan = lab();
    let exercise = plan.exercise.unwrap();
    let one = |name: &str, stage: Stage, began: &str, ended: &str| Recovered {
        workload: name.parse().unwrap(),
        stage,
        began: at(began),
        ended: at(ended),
        good: true,
    };
    let mut recovered = vec![
        one("host/dc01", Stage::Identity, "14T08:05:00", "14T09:00:00"),
        one("vm/100", Stage::Network, "14T09:00:00", "14T09:20:00"),
        one("pg/pg01", Stage::Database, "14T09:20:00", "14T10:20:00"),
        one("mongo/mongo01", Stage::Database, "14T09:20:00", "14T10:00:00"),
        one("vm/101", Stage::Application, "14T10:20:00", "14T11:00:00"),
    ];
    let result = judge_exercise(&exercise, at("14T08:00:00"), &recovered);
    assert!(result.is_good());
    assert_eq!(result.objective.measured, Some(span("3h")));
    assert_eq!(
        result.stages,
        [
            (Stage::Identity, span("1h")),
            (Stage::Network, span("20m")),
            (Stage::Database, span("1h")),
            (Stage::Application, span("40m"))
        ]
    );
    // The application did not wait for its database.
    recovered[4].began = at("14T10:00:00");
    let result = judge_exercise(&exercise, at("14T08:00:00"), &recovered);
    assert!(!result.is_good());
    assert_eq!(result.out_of_order, ["vm/101".parse().unwrap()]);
    // What did not come back leaves no time to boast of.
    recovered[2].good = false;
    let result = judge_exercise(&exercise, at("14T08:00:00"), &recovered);
    assert_eq!(
        (result.verdict, result.failed),
        (Verdict::NotMeasured, vec!["pg/pg01".parse().unwrap()])
    );
    assert!(!judge_exercise(&exercise, at("14T08:00:00"), &[]).is_good());
}

#[test]
fn a_drill_picks_by_its_rule() {
    let points = [30, 10, 20];
    assert_eq!(PickRule::Latest.pick(points, 7), Some(30));
    assert_eq!(PickRule::Oldest.pick(points, 7), Some(10));
    let picked: Vec<i32> = (0..3)
        .filter_map(|lot| PickRule::Random.pick(points, lot))
        .collect();
    assert_eq!(picked, [10, 20, 30]);
    for rule in PickRule::ALL {
        assert_eq!(rule.pick(Vec::<i32>::new(), 7), None);
    }
}
