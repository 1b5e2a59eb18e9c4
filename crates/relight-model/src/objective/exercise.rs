//! The recovery of everything: whether its order was followed, and how long it took in all.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::{Objective, ObjectiveKind, Verdict};
use crate::duration::TimeSpan;
use crate::plan::{Exercise, Stage};
use crate::workload::Workload;

/// One workload's recovery in an exercise.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovered {
    /// Which.
    pub workload: Workload,
    /// Its stage.
    pub stage: Stage,
    /// When its recovery began.
    pub began: Timestamp,
    /// When its probe had passed, or when it was given up.
    pub ended: Timestamp,
    /// Whether its probe passed.
    pub good: bool,
}

/// What an exercise has shown.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ExerciseResult {
    /// From the request until the last probe had passed, against what was promised. Nothing is measured if something did
    /// not come back.
    pub objective: Objective,
    /// What follows.
    pub verdict: Verdict,
    /// How long each stage took, in the order of the plan.
    pub stages: Vec<(Stage, TimeSpan)>,
    /// What did not come back.
    pub failed: Vec<Workload>,
    /// What was begun before a stage that it depends on had ended.
    pub out_of_order: Vec<Workload>,
}

impl ExerciseResult {
    /// Whether everything came back, in order, and in time where a time was promised.
    pub fn is_good(&self) -> bool {
        self.failed.is_empty()
            && self.out_of_order.is_empty()
            && !matches!(self.verdict, Verdict::Missed { .. } | Verdict::NotMeasured)
    }
}

/// Judges an exercise that was asked for at `requested`.
pub fn judge_exercise(plan: &Exercise, requested: Timestamp, recovered: &[Recovered]) -> ExerciseResult {
    let between =
        |from: Timestamp, to: Timestamp| TimeSpan(to.duration_since(from).try_into().unwrap_or_default());
    let mut stages = Vec::new();
    let mut out_of_order = Vec::new();
    let mut before_ended = requested;
    for &stage in &plan.order {
        let of_stage = recovered.iter().filter(|one| one.stage == stage);
        let mut ended = before_ended;
        for one in of_stage.clone() {
            if one.began < before_ended {
                out_of_order.push(one.workload.clone());
            }
            ended = ended.max(one.ended);
        }
        if of_stage.clone().next().is_some() {
            stages.push((stage, between(before_ended, ended)));
        }
        before_ended = ended;
    }
    // What no stage of the order has was recovered at no particular time.
    let last = recovered.iter().map(|one| one.ended).max();
    let failed: Vec<Workload> = recovered
        .iter()
        .filter(|one| !one.good)
        .map(|one| one.workload.clone())
        .collect();
    let objective = Objective {
        kind: ObjectiveKind::Rto,
        promised: plan.rto.map(|rto| rto.value),
        measured: last
            .filter(|_| failed.is_empty())
            .map(|last| between(requested, last)),
    };
    ExerciseResult {
        verdict: objective.verdict(),
        objective,
        stages,
        failed,
        out_of_order,
    }
}
