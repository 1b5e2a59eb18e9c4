//! What can be recovered: intervals, not points. Computed from what snapshots say about themselves, nothing is read.
//!
//! A base backup can be brought to any moment from its end on, as far as the log goes on without a hole, and over to
//! later timelines where these leave the log within that stretch.

mod compute;
mod log;
#[cfg(test)]
mod tests;

use jiff::Timestamp;
use relight_repo::SnapshotId;
use relight_repo::snapshot::Snapshot;
use serde::{Deserialize, Serialize};

use super::attributes;
use super::name::{SegmentName, Timeline};
use super::record::Point;
use crate::lsn::Lsn;

pub use compute::view;
pub use log::{Log, Piece};

/// A base backup, as far as recovery windows depend on it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Base {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The timeline it was made on.
    pub timeline: Timeline,
    /// Where its replay must begin.
    pub start: Lsn,
    /// Where it is consistent.
    pub stop: Lsn,
    /// When it ended.
    pub stop_time: Timestamp,
    /// It holds the log from start to stop itself.
    pub self_contained: bool,
}

impl Base {
    /// What a snapshot says of itself; none if it is no base backup, or an incomplete one.
    pub fn of(snapshot: &Snapshot) -> Option<Self> {
        if snapshot.is_log() {
            return None;
        }
        let value = |name: &str| snapshot.attributes.get(name);
        Some(Self {
            snapshot: snapshot.id,
            timeline: Timeline(value(attributes::TIMELINE)?.parse().ok()?),
            start: value(attributes::START_LSN)?.parse().ok()?,
            stop: value(attributes::STOP_LSN)?.parse().ok()?,
            stop_time: value(attributes::STOP_TIME)?.parse().ok()?,
            self_contained: value(attributes::LOG_INCLUDED).is_some_and(|value| value == "true"),
        })
    }
}

/// A hole in the log whose cause is known, as whoever saw it happen wrote it down.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KnownGap {
    /// Whose log.
    pub timeline: Timeline,
    /// Where the log was cut off.
    pub from: Lsn,
    /// Where it goes on.
    pub to: Lsn,
    /// When this was found out.
    pub found: Timestamp,
    /// Why, in words.
    pub cause: String,
}

/// One end of a window.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Edge {
    /// Where.
    pub lsn: Lsn,
    /// When: of the last commit there.
    pub time: Timestamp,
}

/// An interval any moment of which can be recovered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Window {
    /// The timeline.
    pub timeline: Timeline,
    /// The first moment.
    pub from: Edge,
    /// The last moment.
    pub to: Edge,
    /// The base backups from which it can be reached, the oldest first.
    pub bases: Vec<SnapshotId>,
}

/// Why a window ends although the log goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum Cause {
    /// Segments are not in the repository.
    Missing {
        /// The first of them.
        first: String,
        /// How many.
        count: u64,
        /// Why, if somebody saw it happen.
        told: Option<String>,
    },
    /// Records are damaged.
    Damaged {
        /// The segment.
        segment: String,
        /// What is wrong.
        why: String,
    },
}

/// A stretch of a timeline that cannot be recovered, between two that can, or behind the last one.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Gap {
    /// The timeline.
    pub timeline: Timeline,
    /// The last moment before it.
    pub from: Edge,
    /// The first moment that can be recovered behind it; none as long as there is no base backup behind it.
    pub to: Option<Edge>,
    /// Why.
    pub cause: Cause,
}

/// A base backup that cannot be restored, because the log that makes it consistent is not there.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Unusable {
    /// The snapshot.
    pub snapshot: SnapshotId,
    /// The first segment that is missing.
    pub missing: String,
}

/// All that can be recovered of a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct View {
    /// By timeline, then by time.
    pub windows: Vec<Window>,
    /// By timeline, then by time.
    pub gaps: Vec<Gap>,
    /// Named moments that lie in a window.
    pub points: Vec<(Timeline, Point)>,
    /// Base backups that are of no use.
    pub unusable: Vec<Unusable>,
    /// Timelines of which it is not known where they come from, because their history is not in the repository.
    pub rootless: Vec<Timeline>,
}

impl View {
    /// The newest moment that can be recovered: on the latest timeline that has a window.
    pub fn latest(&self) -> Option<&Window> {
        self.windows
            .iter()
            .max_by_key(|window| (window.timeline, window.to.lsn))
    }

    /// The window in which a moment of a timeline lies.
    pub fn at_time(&self, timeline: Timeline, time: Timestamp) -> Option<&Window> {
        let holds = |window: &&Window| {
            window.timeline == timeline && window.from.time <= time && time <= window.to.time
        };
        self.windows.iter().find(holds)
    }

    /// The window in which a position of a timeline lies.
    pub fn at_lsn(&self, timeline: Timeline, lsn: Lsn) -> Option<&Window> {
        let holds =
            |window: &&Window| window.timeline == timeline && window.from.lsn <= lsn && lsn <= window.to.lsn;
        self.windows.iter().find(holds)
    }
}

/// A segment's name as text.
fn name(timeline: Timeline, number: u64, log: &Log) -> String {
    SegmentName::new(timeline, number, log.segment_size()).to_string()
}
