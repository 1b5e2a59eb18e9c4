//! The recovery of everything.

use jiff::Timestamp;
use relight_model::objective::Verdict;
use relight_model::plan::{Plan, Stage};
use relight_server::drills::{DrillRequest, ExerciseRequest, exercise};
use relight_workloads::files::Files;
use relight_workloads::kind::Work;

use crate::lab::{Lab, left};

const PLAN: &str = "[exercise]\nschedule = 'yearly'\norder = ['identity', 'database']\nrto = '1 h'\n";

/// The tree in each of these stages, with these probes.
fn run(
    lab: &Lab,
    parts: &[(Option<Stage>, &str)],
) -> (relight_server::evidence::detail::ExerciseDetail, usize) {
    let plan = Plan::parse(PLAN).unwrap().exercise.unwrap();
    let (sandboxes, now) = (lab.sandboxes(), Timestamp::now());
    let drills = parts.iter().map(|(stage, probe)| {
        let mut drilled = lab.drilled(probe);
        drilled.stage = *stage;
        DrillRequest::new(9, drilled, ("main", &lab.repository), &Files, &sandboxes, now)
    });
    let request = ExerciseRequest {
        run: 9,
        plan: &plan,
        drills: drills.collect(),
        now,
        at_a_time: 2,
    };
    let (detail, drills) = exercise(&request, &Work::quiet());
    assert_eq!(left(&sandboxes), Vec::<String>::new());
    assert!(
        drills
            .iter()
            .all(|drill| drill.exercise && drill.run == 9 && drill.torn_down)
    );
    (detail, drills.len())
}

#[test]
fn stages_follow_each_other_and_the_total_is_judged() {
    let lab = Lab::new();
    lab.save();
    let (database, identity) = (Some(Stage::Database), Some(Stage::Identity));
    let parts = [
        (database, ""),
        (identity, ""),
        (identity, ""),
        (identity, ""),
        (None, ""),
    ];
    let (detail, drills) = run(&lab, &parts);
    assert_eq!((drills, detail.recovered.len()), (4, 4));
    assert!(matches!(detail.verdict, Verdict::Met { .. }), "{detail:?}");
    assert!(detail.measured.is_some() && detail.out_of_order.is_empty());
    let order: Vec<Stage> = detail.recovered.iter().map(|one| one.stage).collect();
    let [rest @ .., last] = order.as_slice() else {
        panic!()
    };
    assert!(rest.iter().all(|stage| *stage == Stage::Identity) && *last == Stage::Database);
    let ended = detail.recovered[..3].iter().map(|one| one.ended).max().unwrap();
    assert!(detail.recovered[3].began >= ended);
    assert_eq!(detail.stages.len(), 2);
}

#[test]
fn what_does_not_come_back_leaves_nothing_measured_and_the_rest_is_tried() {
    let lab = Lab::new();
    lab.save();
    let parts = [
        (Some(Stage::Identity), "paths-exist = ['absent']"),
        (Some(Stage::Database), ""),
    ];
    let (detail, drills) = run(&lab, &parts);
    assert_eq!(drills, 2);
    assert_eq!((detail.measured, detail.verdict), (None, Verdict::NotMeasured));
    let good: Vec<bool> = detail.recovered.iter().map(|one| one.good).collect();
    assert_eq!(good, [false, true]);
}
