//! What a segment says about itself: whose it is, how far its records go, and at which times transactions ended.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::{Result, WalError};
use super::name::{SegmentName, SegmentSize, Timeline};
use super::page::{LONG, PageHeader};
use super::record::{Event, Point};
use super::walk::{Stop, Walker};
use crate::lsn::Lsn;

/// No more named points of one segment are remembered.
const MAX_POINTS: usize = 64;

/// Whose log it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cluster {
    /// The system identifier that the cluster got when it was made.
    pub system: u64,
    /// The server's major version.
    pub major: u32,
    /// Bytes of a segment.
    pub segment_size: SegmentSize,
}

/// Times that a piece of a log tells.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Times {
    /// The first commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_commit: Option<Timestamp>,
    /// The last commit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_commit: Option<Timestamp>,
    /// Moments that somebody named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub points: Vec<Point>,
}

impl Times {
    /// Takes note of what a record says that ends at `at`.
    pub fn note(&mut self, at: Lsn, event: Event) {
        match event {
            Event::Commit(time) => {
                self.first_commit.get_or_insert(time);
                self.last_commit = Some(self.last_commit.map_or(time, |last| last.max(time)));
            }
            Event::Point(time, name) if self.points.len() < MAX_POINTS => {
                self.points.push(Point { name, time, at });
            }
            Event::Abort(_) | Event::Prepare(_) | Event::Point(..) => {}
        }
    }

    /// Takes in what a later piece of the same log tells.
    pub fn extend(&mut self, later: &Self) {
        self.first_commit = self.first_commit.or(later.first_commit);
        self.last_commit = self.last_commit.max(later.last_commit);
        let room = MAX_POINTS.saturating_sub(self.points.len());
        self.points.extend(later.points.iter().take(room).cloned());
    }
}

/// What a segment says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// Whose it is.
    pub cluster: Cluster,
    /// The timeline of its name.
    pub timeline: Timeline,
    /// Where it begins.
    pub start: Lsn,
    /// Where its last complete record ends; `start` if it holds only the middle of one.
    pub end: Lsn,
    /// The same of records that begin in it, so that their checksums are known to be right.
    pub checked: Lsn,
    /// Times of its records.
    pub times: Times,
    /// What follows its last record although the segment should be full: where records end and why. A server that
    /// replays it will not get farther.
    pub broken: Option<(Lsn, String)>,
}

impl Summary {
    /// Reads a whole or partial segment of that name.
    ///
    /// # Errors
    /// [`WalError::NotWal`] if it is no segment of a log, or another than its name says.
    pub fn of(name: SegmentName, bytes: &[u8]) -> Result<Self> {
        let wrong = |why: String| WalError::NotWal {
            name: name.to_string(),
            why,
        };
        let head = bytes
            .get(..LONG)
            .ok_or_else(|| wrong(format!("it has only {} bytes", bytes.len())))?;
        let (first, long) = PageHeader::first(head).map_err(|error| wrong(error.to_string()))?;
        let cluster = Cluster {
            system: long.system,
            major: first.major,
            segment_size: long.segment_size,
        };
        if bytes.len() as u64 > long.segment_size.bytes() {
            return Err(wrong(format!(
                "it is longer than the {} bytes of a segment",
                long.segment_size.bytes()
            )));
        }
        let said = SegmentName::at(name.timeline, first.at, long.segment_size);
        if said != name {
            return Err(wrong(format!("its content is that of {said}")));
        }
        // The first page may have been written on an ancestor, if the timeline forked within this segment.
        if first.timeline > name.timeline {
            return Err(wrong(format!(
                "its content is that of timeline {}",
                first.timeline
            )));
        }
        let mut times = Times::default();
        let mut walker = Walker::new(first.at, long.segment_size);
        walker
            .feed(bytes, &mut |at, event| times.note(at, event))
            .map_err(|error| wrong(error.to_string()))?;
        let broken = walker.stop().map(|(at, stop)| {
            let why = match stop {
                Stop::Zeros => "nothing was written behind".to_string(),
                Stop::Broken(why) => why.clone(),
            };
            (*at, why)
        });
        Ok(Self {
            cluster,
            timeline: name.timeline,
            start: first.at,
            end: walker.end().unwrap_or(first.at),
            checked: walker.checked_end().unwrap_or(first.at),
            times,
            broken,
        })
    }
}
