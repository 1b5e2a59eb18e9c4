//! The recovery of everything, tried: stage by stage, in the order of the plan.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use relight_model::objective::exercise::{Recovered, judge_exercise};
use relight_model::plan::{Exercise, Stage};
use relight_workloads::kind::Work;

use super::drill::{DrillRequest, numbered};
use crate::evidence::detail::{DrillDetail, ExerciseDetail};

/// An exercise that is asked for.
pub struct ExerciseRequest<'a> {
    /// Number of its run.
    pub run: u64,
    /// What the plan says.
    pub plan: &'a Exercise,
    /// What is recovered. Those whose stage the plan does not order are left out, and that is said.
    pub drills: Vec<DrillRequest<'a>>,
    /// When it was asked for.
    pub now: Timestamp,
    /// So many workloads of a stage are recovered at a time; at least one.
    pub at_a_time: usize,
}

/// Recovers everything, and gives what the exercise and each of its drills have shown. A workload that does not come back does not
/// end it: the others are tried as well.
pub fn exercise(request: &ExerciseRequest<'_>, work: &Work) -> (ExerciseDetail, Vec<DrillDetail>) {
    let began = Instant::now();
    let order = &request.plan.order;
    for left_out in &request.drills {
        if !left_out.drilled.stage.is_some_and(|stage| order.contains(&stage)) {
            let workload = &left_out.drilled.subject.workload;
            work.note(&format!(
                "{workload} has no stage of the exercise, and is left out"
            ));
        }
    }
    let (mut recovered, mut details) = (Vec::new(), Vec::new());
    for &stage in order {
        let of_stage = request.drills.iter().enumerate();
        let of_stage: Vec<_> = of_stage
            .filter(|(_, drill)| drill.drilled.stage == Some(stage))
            .collect();
        if of_stage.is_empty() {
            continue;
        }
        work.note(&format!("stage {stage}: {} workloads", of_stage.len()));
        let next = AtomicUsize::new(0);
        let done: Mutex<Vec<(usize, Recovered, DrillDetail)>> = Mutex::default();
        std::thread::scope(|scope| {
            for _ in 0..request.at_a_time.clamp(1, of_stage.len()) {
                scope.spawn(|| {
                    while let Some((number, drill)) = of_stage.get(next.fetch_add(1, Ordering::Relaxed)) {
                        let at = later(request.now, began);
                        let (recovered, detail) = one(request.run, *number, drill, stage, at, work);
                        done.lock()
                            .unwrap_or_else(PoisonError::into_inner)
                            .push((*number, recovered, detail));
                    }
                });
            }
        });
        let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
        done.sort_by_key(|(number, ..)| *number);
        for (_, one, detail) in done {
            recovered.push(one);
            details.push(detail);
        }
    }
    let result = judge_exercise(request.plan, request.now, &recovered);
    let detail = ExerciseDetail {
        run: request.run,
        requested: request.now,
        recovered,
        stages: result.stages,
        out_of_order: result.out_of_order,
        measured: result.objective.measured,
        promised: result.objective.promised,
        verdict: result.verdict,
    };
    (detail, details)
}

/// By the clock that is not set.
fn later(now: Timestamp, began: Instant) -> Timestamp {
    let passed = SignedDuration::try_from(began.elapsed()).unwrap_or(SignedDuration::MAX);
    now.checked_add(passed).unwrap_or(Timestamp::MAX)
}

fn one(
    run: u64,
    number: usize,
    drill: &DrillRequest<'_>,
    stage: Stage,
    at: Timestamp,
    work: &Work,
) -> (Recovered, DrillDetail) {
    let request = DrillRequest {
        run,
        now: at,
        exercise: true,
        ..drill.clone()
    };
    let (detail, decided) = numbered(&request, work, &format!("{run}-{}", number + 1));
    let decided = SignedDuration::try_from(decided).unwrap_or(SignedDuration::MAX);
    let recovered = Recovered {
        workload: detail.workload.clone(),
        stage,
        began: at,
        ended: at.checked_add(decided).unwrap_or(Timestamp::MAX),
        good: detail.is_good(),
    };
    (recovered, detail)
}
