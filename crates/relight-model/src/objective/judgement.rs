//! What was promised for a workload against what could be restored, with the reason.

use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::forecast::{Measurement, forecast};
use super::{Objective, ObjectiveKind, Verdict, exposure};
use crate::duration::TimeSpan;
use crate::plan::Policy;
use crate::size::ByteSize;

/// What a workload could be restored to. Only what is known to be whole belongs in here: a run that ended with warnings, or
/// a log with a hole, is no recovery point.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Recoverable {
    /// When the capture of the newest good snapshot began.
    pub snapshot: Option<Timestamp>,
    /// Up to where the log can be applied without a hole, from a snapshot that is there.
    pub log: Option<Timestamp>,
}

impl Recoverable {
    /// The newest point that can be restored. A log alone is none: it needs a snapshot to be applied to.
    pub fn newest(&self) -> Option<Timestamp> {
        let snapshot = self.snapshot?;
        Some(self.log.map_or(snapshot, |log| log.max(snapshot)))
    }
}

/// A promise, what was measured, and what follows.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Judgement {
    /// Promise and measurement. The tolerance is part of the promise here.
    pub objective: Objective,
    /// How much of the promise is tolerance.
    pub tolerance: TimeSpan,
    /// What follows.
    pub verdict: Verdict,
    /// Why, with figures.
    pub reason: String,
    /// When the promise will be broken if nothing happens until then: the time for an alarm about what did *not* happen.
    pub breaks_at: Option<Timestamp>,
}

/// The recovery point objective of a workload: the age of the newest point that can be restored.
pub fn judge_rpo(policy: &Policy, recoverable: &Recoverable, now: Timestamp) -> Judgement {
    let promised = policy.permitted_exposure();
    let newest = recoverable.newest();
    let measured = exposure(newest, now);
    let objective = Objective {
        kind: ObjectiveKind::Rpo,
        promised,
        measured,
    };
    let by_log = newest.is_some() && recoverable.log == newest && recoverable.log != recoverable.snapshot;
    let reason = match (newest, measured) {
        (None, _) if recoverable.log.is_some() => "there is a log, but no snapshot to apply it to".to_owned(),
        (None, _) => "there is no recovery point".to_owned(),
        (Some(newest), None) => {
            format!("the newest recovery point is dated {newest}, later than now: a clock is wrong")
        }
        (Some(newest), Some(age)) => {
            let source = if by_log {
                "the log reaches"
            } else {
                "the newest snapshot is of"
            };
            let within = policy.rpo.is_some_and(|rpo| age > rpo.value)
                && promised.is_some_and(|promised| age <= promised);
            let tolerated = if within { ", within the tolerance" } else { "" };
            format!("{source} {newest}, {age} ago{tolerated}")
        }
    };
    let breaks_at = match (newest, promised) {
        (Some(newest), Some(promised)) => {
            let permitted = SignedDuration::try_from(promised.0).unwrap_or(SignedDuration::MAX);
            newest.checked_add(permitted).ok()
        }
        _ => None,
    };
    Judgement {
        verdict: objective.verdict(),
        objective,
        tolerance: if promised.is_some() {
            policy.rpo_tolerance
        } else {
            TimeSpan::default()
        },
        reason,
        breaks_at,
    }
}

/// The recovery time objective of a workload of `size`: what its drills say, for its real size and with the time until its
/// data can be read.
pub fn judge_rto(policy: &Policy, drills: &[Measurement], size: ByteSize, thaw: TimeSpan) -> Judgement {
    let forecast = forecast(drills, size, thaw);
    let objective = Objective {
        kind: ObjectiveKind::Rto,
        promised: policy.rto.map(|rto| rto.value),
        measured: forecast.map(|forecast| forecast.expected),
    };
    Judgement {
        verdict: objective.verdict(),
        objective,
        tolerance: TimeSpan::default(),
        reason: forecast.map_or_else(
            || "no drill was measured".to_owned(),
            |forecast| forecast.to_string(),
        ),
        breaks_at: None,
    }
}
