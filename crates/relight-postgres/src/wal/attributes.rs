//! What a snapshot says of a cluster and of the pieces of its log, as attributes.

use std::collections::BTreeMap;

use relight_repo::snapshot::{LOG, Snapshot};
use serde::{Deserialize, Serialize};

use super::history::Step;
use super::name::{SegmentSize, WalName};
use super::summary::{Cluster, Times};
use crate::lsn::Lsn;

/// Value of [`LOG`]: whose log it is a piece of.
pub const KIND: &str = "postgresql";
/// System identifier of the cluster, decimal.
pub const SYSTEM: &str = "postgres.system";
/// Major version of the server, decimal.
pub const MAJOR: &str = "postgres.major";
/// Of a base backup: the timeline it was made on, decimal.
pub const TIMELINE: &str = "postgres.timeline";
/// Of a base backup: where its replay must begin.
pub const START_LSN: &str = "postgres.start-lsn";
/// Of a base backup: where it is consistent.
pub const STOP_LSN: &str = "postgres.stop-lsn";
/// Of a base backup: when it ended, by the clock of the server (RFC 3339).
pub const STOP_TIME: &str = "postgres.stop-time";
/// Of a base backup: `true` if it holds the log from start to stop itself.
pub const LOG_INCLUDED: &str = "postgres.log-included";
/// Bytes of a segment of the log, decimal.
pub const SEGMENT_SIZE: &str = "postgres.segment-size";
/// What is known about one file of the log: followed by its name, holds a [`Note`] as JSON.
pub const NOTE: &str = "postgres.wal.";
/// A hole in the log whose cause is known: followed by a number, holds a [`super::windows::KnownGap`] as JSON.
pub const GAP: &str = "postgres.gap.";

/// What is known about one stored file of a log without reading it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Note {
    /// Where the last complete record ends.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub end: Option<Lsn>,
    /// Times of the records.
    #[serde(flatten)]
    pub times: Times,
    /// Where no good record follows although one should, and why.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub broken: Option<(Lsn, String)>,
    /// Of a history: its steps.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub steps: Vec<Step>,
}

/// Which cluster a snapshot comes from, if it says so.
pub fn cluster(snapshot: &Snapshot) -> Option<Cluster> {
    let value = |name: &str| snapshot.attributes.get(name);
    Some(Cluster {
        system: value(SYSTEM)?.parse().ok()?,
        major: value(MAJOR)?.parse().ok()?,
        segment_size: SegmentSize::try_from(value(SEGMENT_SIZE)?.parse::<u64>().ok()?).ok()?,
    })
}

/// Says which cluster a snapshot comes from.
pub fn set_cluster(attributes: &mut BTreeMap<String, String>, cluster: &Cluster) {
    attributes.insert(SYSTEM.into(), cluster.system.to_string());
    attributes.insert(MAJOR.into(), cluster.major.to_string());
    attributes.insert(SEGMENT_SIZE.into(), cluster.segment_size.bytes().to_string());
}

/// Attributes of a snapshot of a log.
pub fn of_log(cluster: Option<&Cluster>) -> BTreeMap<String, String> {
    let mut attributes = BTreeMap::from([(LOG.to_string(), KIND.to_string())]);
    if let Some(cluster) = cluster {
        set_cluster(&mut attributes, cluster);
    }
    attributes
}

/// What a snapshot says about a file of the log that it holds.
pub fn note(snapshot: &Snapshot, name: WalName) -> Note {
    let json = snapshot.attributes.get(&format!("{NOTE}{name}"));
    json.and_then(|json| serde_json::from_str(json).ok())
        .unwrap_or_default()
}

/// Says it.
pub fn set_note(attributes: &mut BTreeMap<String, String>, name: WalName, note: &Note) {
    // Times and numbers: there is nothing that JSON cannot say.
    if let Ok(json) = serde_json::to_string(note) {
        attributes.insert(format!("{NOTE}{name}"), json);
    }
}
