//! What is told, of a state that is filled as a server fills it.

use std::collections::BTreeMap;

use relight_model::schedule::JobId;

use super::*;
use crate::evidence::detail::Ended;
use crate::runs::Shown;
use crate::standing::tests::{House, at};

fn text(house: &House, hours: i64) -> String {
    let mut history = History::default();
    history.follow(&house.state, &house.plan).unwrap();
    let size = |day: i64| Size {
        time: at(24 * day),
        used: 100 + 10 * u64::try_from(day).unwrap(),
        available: 200,
    };
    let sizes = Sizes::new(BTreeMap::from([("main".to_string(), (0..5).map(size).collect())]));
    let metrics = Metrics {
        plan: &house.plan,
        history: &history,
        shown: &Shown::default(),
        growth: &sizes.growth(),
        started: at(0),
        now: at(hours),
    };
    metrics.text()
}

#[track_caller]
fn has(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(
            text.lines().any(|found| found == *line),
            "{line} is not in\n{text}"
        );
    }
}

#[test]
fn metrics_tell_what_is_kept_and_what_is_not() {
    let house = House::new();
    let empty = text(&house, 0);
    has(
        &empty,
        &[
            "relight_workloads{coverage=\"protected\"} 1",
            "relight_workloads{coverage=\"exclusion-expired\"} 1",
            "relight_workloads_without_recovery_point 1",
            "relight_workload_rpo_met{workload=\"vm/1\",policy=\"linux\"} 0",
            "relight_workload_rto_met{workload=\"vm/1\",policy=\"linux\"} 0",
            "relight_clock_trusted 1",
        ],
    );
    house.run(JobId::backup(&house.vm), 0, Ended::Good);
    house.run(JobId::backup(&house.vm), 24, Ended::Failed);
    house.run(JobId::verify(&house.vm), 25, Ended::Failed);
    house.drill(2, Some(30));
    let label = "{workload=\"vm/1\",policy=\"linux\"}";
    let lines = |pairs: &[(&str, f64)]| -> Vec<String> {
        let line = |(name, value): &(&str, f64)| format!("relight_workload_{name}{label} {value}");
        pairs.iter().map(line).collect()
    };
    let later = text(&house, 30);
    let expected = lines(&[
        ("rpo_met", 0.0),
        ("rpo_promised_seconds", 26.0 * 3600.0),
        ("rpo_exposure_seconds", 30.0 * 3600.0),
        ("rto_met", 1.0),
        ("rto_expected_seconds", 1800.0),
        ("failures", 1.0),
        ("last_backup_good", 0.0),
        ("last_verification_good", 0.0),
        ("last_drill_good", 1.0),
        ("backup_size_bytes", (10_u64 << 30) as f64),
    ]);
    has(&later, &expected.iter().map(String::as_str).collect::<Vec<_>>());
    has(
        &later,
        &[
            "relight_objectives{objective=\"rpo\",verdict=\"missed\"} 1",
            "relight_repository_used_bytes{repository=\"main\"} 140",
            // 10 a day and 200 are left: 20 days after the fourth.
            &format!(
                "relight_repository_full_timestamp_seconds{{repository=\"main\"}} {}",
                at(24 * 24).as_second()
            ),
        ],
    );
    assert!(text(&house, 25).contains(&lines(&[("rpo_met", 1.0)])[0]));
}

#[test]
fn nothing_that_happens_makes_more_series() {
    let house = House::new();
    house.run(JobId::backup(&house.vm), 0, Ended::Good);
    let before = text(&house, 1).lines().count();
    for n in 1..40 {
        house.run(JobId::backup(&house.vm), n * 24, Ended::Good);
    }
    assert_eq!(text(&house, 1000).lines().count(), before);
}
