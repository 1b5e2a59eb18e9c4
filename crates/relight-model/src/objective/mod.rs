//! Recovery objectives: what was promised, what was measured, and the verdict that follows from both.
//!
//! A verdict is never entered by hand. What was not measured has the verdict [`Verdict::NotMeasured`], and never
//! counts as met.

pub mod exercise;
pub mod forecast;
mod judgement;

pub use judgement::{Judgement, Recoverable, judge_rpo, judge_rto};

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::duration::TimeSpan;

/// Which promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ObjectiveKind {
    /// Recovery point objective: at most so much of the newest data may be lost.
    Rpo,
    /// Recovery time objective: the workload is back after at most so long.
    Rto,
}

impl fmt::Display for ObjectiveKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Rpo => "RPO",
            Self::Rto => "RTO",
        })
    }
}

/// One promise and its measurement, for one workload.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Objective {
    /// Which promise.
    pub kind: ObjectiveKind,
    /// What was promised; `None` when nothing was.
    pub promised: Option<TimeSpan>,
    /// What was measured; `None` when nothing was.
    pub measured: Option<TimeSpan>,
}

/// How a measurement compares with its promise.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "verdict", rename_all = "kebab-case")]
pub enum Verdict {
    /// Kept, with so much to spare. Exactly as long as promised is kept.
    Met {
        /// Promised less measured.
        margin: TimeSpan,
    },
    /// Broken, by so much.
    Missed {
        /// Measured less promised.
        by: TimeSpan,
    },
    /// There is a promise, but no measurement to hold it against.
    NotMeasured,
    /// There is no promise; a measurement may exist.
    NotPromised,
}

impl Objective {
    /// What follows from promise and measurement.
    pub fn verdict(&self) -> Verdict {
        match (self.promised, self.measured) {
            (None, _) => Verdict::NotPromised,
            (Some(_), None) => Verdict::NotMeasured,
            (Some(promised), Some(measured)) => match promised.0.checked_sub(measured.0) {
                Some(margin) => Verdict::Met {
                    margin: TimeSpan(margin),
                },
                None => Verdict::Missed {
                    by: TimeSpan(measured.0.saturating_sub(promised.0)),
                },
            },
        }
    }
}

impl Verdict {
    /// Whether the promise is proven to be kept.
    pub const fn is_met(&self) -> bool {
        matches!(self, Self::Met { .. })
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&match self {
            Self::Met { margin } => format!("met, {margin} to spare"),
            Self::Missed { by } => format!("missed by {by}"),
            Self::NotMeasured => "not measured".to_owned(),
            Self::NotPromised => "not promised".to_owned(),
        })
    }
}

/// What would be lost if the workload were lost at `now`: the time since the newest good recovery point.
///
/// `points` are the times at which the captures of good snapshots *began*, because what changed during a capture
/// may not be in it. `None` when there is no point, or when the newest lies after `now` (a clock is wrong, and an
/// age computed from it would be a lie).
pub fn exposure(points: impl IntoIterator<Item = Timestamp>, now: Timestamp) -> Option<TimeSpan> {
    let newest = points.into_iter().max()?;
    between(newest, now)
}

/// The recovery point measured over a window: the most that could have been lost at any moment between `from` and
/// `now`.
///
/// That is the longest time without a new point, counting from the newest point at or before `from` (from `from`
/// itself when there is none) and up to `now`. Points after `now` are left out. `None` when no point lies at or
/// before `now`.
pub fn worst_exposure(
    points: impl IntoIterator<Item = Timestamp>,
    from: Timestamp,
    now: Timestamp,
) -> Option<TimeSpan> {
    let mut points: Vec<Timestamp> = points.into_iter().filter(|&point| point <= now).collect();
    if points.is_empty() {
        return None;
    }
    points.sort_unstable();
    let first_inside = points.partition_point(|&point| point <= from);
    let mut previous = first_inside
        .checked_sub(1)
        .and_then(|before| points.get(before))
        .copied()
        .unwrap_or(from);
    let mut worst = TimeSpan::default();
    for &point in points.iter().skip(first_inside).chain([&now]) {
        worst = worst.max(between(previous, point).unwrap_or_default());
        previous = point;
    }
    Some(worst)
}

/// The time from `earlier` to `later`; `None` when they are the other way round.
fn between(earlier: Timestamp, later: Timestamp) -> Option<TimeSpan> {
    later.duration_since(earlier).try_into().ok().map(TimeSpan)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Timestamp {
        format!("2026-11-22T{text}Z").parse().unwrap()
    }

    fn span(text: &str) -> TimeSpan {
        text.parse().unwrap()
    }

    fn rto(promised: Option<&str>, measured: Option<&str>) -> Verdict {
        Objective {
            kind: ObjectiveKind::Rto,
            promised: promised.map(span),
            measured: measured.map(span),
        }
        .verdict()
    }

    #[test]
    fn a_verdict_follows_from_promise_and_measurement() {
        assert_eq!(rto(Some("45m"), Some("40m")), Verdict::Met { margin: span("5m") });
        assert_eq!(rto(Some("45m"), Some("45m")), Verdict::Met { margin: span("0") });
        assert_eq!(rto(Some("45m"), Some("46m")), Verdict::Missed { by: span("1m") });
        assert_eq!(rto(Some("45m"), None), Verdict::NotMeasured);
        assert_eq!(rto(None, Some("1s")), Verdict::NotPromised);
        assert!(!rto(Some("45m"), None).is_met());
        assert_eq!(
            rto(Some("1h"), Some("3m20s")).to_string(),
            "met, 56 m 40 s to spare"
        );
        assert_eq!(rto(Some("1m"), Some("3m20s")).to_string(), "missed by 2 m 20 s");
    }

    #[test]
    fn exposure_is_the_age_of_the_newest_point() {
        assert_eq!(
            exposure([at("08:00:00"), at("09:00:00")], at("09:10:00")),
            Some(span("10m"))
        );
        assert_eq!(exposure([], at("09:10:00")), None);
        assert_eq!(exposure([at("09:11:00")], at("09:10:00")), None);
    }

    #[test]
    fn the_worst_exposure_includes_the_time_still_running() {
        let points = [at("08:00:00"), at("09:00:00"), at("11:30:00")];
        assert_eq!(
            worst_exposure(points, at("08:30:00"), at("12:00:00")),
            Some(span("2h30m"))
        );
        assert_eq!(
            worst_exposure(points, at("11:30:00"), at("12:00:00")),
            Some(span("30m"))
        );
        assert_eq!(
            worst_exposure(points, at("08:30:00"), at("20:00:00")),
            Some(span("8h30m"))
        );
        // Before the first point nothing was protected since the beginning of the window.
        assert_eq!(
            worst_exposure(points, at("04:00:00"), at("12:00:00")),
            Some(span("4h"))
        );
        assert_eq!(worst_exposure(points, at("04:00:00"), at("07:00:00")), None);
    }

    #[test]
    fn json_keeps_the_verdicts_figures() {
        let json = serde_json::to_string(&Verdict::Missed { by: span("90s") }).unwrap();
        assert_eq!(json, r#"{"verdict":"missed","by":"1m 30s"}"#);
    }
}
