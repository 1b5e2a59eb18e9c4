//! What there is of a log, as far as windows depend on it.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use super::KnownGap;
use crate::lsn::Lsn;
use crate::wal::attributes::GAP;
use crate::wal::history::{History, Tree};
use crate::wal::name::{SegmentSize, Timeline, WalName};
use crate::wal::record::Point;
use crate::wal::store::Catalog;

/// A segment, whole or in part.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Piece {
    /// How far it goes: to its end if it is whole, or to where its last good record ends.
    pub end: Lsn,
    /// What is wrong behind `end`, if something is.
    pub damage: Option<String>,
    /// The last commit in it.
    pub last_commit: Option<Timestamp>,
    /// Named moments in it.
    pub points: Vec<Point>,
}

/// The pieces of a log.
#[derive(Debug, Clone, Default)]
pub struct Log {
    size: SegmentSize,
    whole: BTreeMap<(Timeline, u64), Piece>,
    partial: BTreeMap<(Timeline, u64), Piece>,
    /// Where timelines come from.
    pub tree: Tree,
    /// Holes whose cause is known.
    pub gaps: Vec<KnownGap>,
}

impl Log {
    /// An empty log with segments of this size.
    pub fn new(size: SegmentSize) -> Self {
        Self {
            size,
            ..Self::default()
        }
    }

    /// The log in a catalog.
    pub fn of(catalog: &Catalog) -> Self {
        let size = catalog.segment_size();
        let mut log = Self::new(size);
        for (name, kept) in &catalog.files {
            let note = &kept.note;
            let piece = |end| Piece {
                end,
                damage: None,
                last_commit: note.times.last_commit,
                points: note.times.points.clone(),
            };
            match name {
                WalName::Segment(segment) => {
                    let Some(number) = segment.number(size) else {
                        continue;
                    };
                    let mut piece = piece(size.start_of(number + 1));
                    if let Some((at, why)) = &note.broken {
                        (piece.end, piece.damage) = (*at, Some(why.clone()));
                    }
                    log.whole.insert((segment.timeline, number), piece);
                }
                WalName::Partial(segment) => {
                    if let (Some(number), Some(end)) = (segment.number(size), note.end) {
                        log.add_partial(segment.timeline, number, piece(end));
                    }
                }
                WalName::History(timeline) => log.tree.insert(History {
                    timeline: *timeline,
                    steps: note.steps.clone(),
                }),
                WalName::Backup(..) => {}
            }
        }
        for snapshot in &catalog.logs {
            let gaps = snapshot.attributes.iter().filter(|(key, _)| key.starts_with(GAP));
            log.gaps
                .extend(gaps.filter_map(|(_, json)| serde_json::from_str(json).ok()));
        }
        log
    }

    /// Adds a whole segment.
    pub fn add_whole(&mut self, timeline: Timeline, number: u64, piece: Piece) {
        self.whole.insert((timeline, number), piece);
    }

    /// Adds the beginning of a segment; the longer one stays.
    pub fn add_partial(&mut self, timeline: Timeline, number: u64, piece: Piece) {
        let there = self.partial.entry((timeline, number)).or_default();
        if there.end <= piece.end {
            *there = piece;
        }
    }

    /// Bytes of a segment.
    pub fn segment_size(&self) -> SegmentSize {
        self.size
    }

    /// A segment: the whole one, or as much as there is of it. And whether it is whole and good, so that the log may go
    /// on behind it.
    pub fn piece(&self, timeline: Timeline, number: u64) -> Option<(&Piece, bool)> {
        let key = (timeline, number);
        match self.whole.get(&key) {
            Some(piece) => Some((piece, piece.damage.is_none())),
            None => self.partial.get(&key).map(|piece| (piece, false)),
        }
    }

    /// All timelines of which there is something.
    pub fn timelines(&self) -> BTreeSet<Timeline> {
        let keys = self.whole.keys().chain(self.partial.keys());
        keys.map(|(timeline, _)| *timeline).collect()
    }

    /// The first segment of a timeline at or behind `number`, whole or not.
    pub fn next(&self, timeline: Timeline, number: u64) -> Option<u64> {
        let range = (timeline, number)..=(timeline, u64::MAX);
        let next =
            |map: &BTreeMap<(Timeline, u64), Piece>| map.range(range.clone()).next().map(|(key, _)| key.1);
        [next(&self.whole), next(&self.partial)]
            .into_iter()
            .flatten()
            .min()
    }
}
