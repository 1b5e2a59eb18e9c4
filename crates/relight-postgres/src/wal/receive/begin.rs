//! Where receiving begins: what is in the repository, what the slot keeps and what the server's history says decide.

use jiff::Timestamp;

use crate::lsn::Lsn;
use crate::wal::error::{Result, WalError};
use crate::wal::history::Tree;
use crate::wal::name::{SegmentSize, Timeline};
use crate::wal::store::Catalog;
use crate::wal::tail::Tail;
use crate::wal::windows::KnownGap;

/// What a server says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// System identifier of its cluster.
    pub system: u64,
    /// Its timeline.
    pub timeline: Timeline,
    /// How far it has written.
    pub position: Lsn,
}

/// Where to begin.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Begin {
    /// On this timeline.
    pub timeline: Timeline,
    /// Here, where a segment begins.
    pub start: Lsn,
}

/// Ends of the log on a timeline.
fn end(catalog: &Catalog, tail: &Tail, timeline: Timeline, size: SegmentSize) -> Option<Lsn> {
    let whole = catalog
        .segments(timeline)
        .map(|(number, _)| size.start_of(number + 1))
        .max();
    let pieces = tail.pieces.iter().filter(|piece| piece.head.timeline == timeline);
    whole.max(pieces.map(|piece| piece.reach()).max())
}

/// The timeline of a server's history on which a position lies.
fn timeline_at(tree: &Tree, server: Timeline, at: Lsn) -> Timeline {
    let path = tree.path(server);
    let on = path
        .iter()
        .find(|(_, leave)| leave.is_none_or(|leave| at < leave));
    on.map_or(server, |(timeline, _)| *timeline)
}

/// Where to begin when nothing earlier is to be had: at the oldest log that the slot keeps.
pub fn at_slot(server: &Identity, tree: &Tree, kept: Lsn, size: SegmentSize) -> Begin {
    let start = size.floor(kept);
    Begin {
        timeline: timeline_at(tree, server.timeline, kept),
        start,
    }
}

/// Where to begin: behind the log in the repository, or in a hole that the slot still keeps the log for. `kept` is the
/// oldest log that the slot keeps, `tree` knows the server's history.
///
/// # Errors
/// [`WalError::Refused`] if the log in the repository has a timeline that the server cannot know of.
pub fn begin(
    catalog: &Catalog,
    tail: &Tail,
    server: &Identity,
    tree: &Tree,
    kept: Lsn,
    size: SegmentSize,
) -> Result<Begin> {
    let segments = catalog.files.keys().filter_map(|name| match name {
        crate::wal::WalName::Segment(segment) => Some(segment.timeline),
        _ => None,
    });
    let ours = segments
        .chain(tail.pieces.iter().map(|piece| piece.head.timeline))
        .max();
    let Some((ours, end)) = ours.and_then(|ours| Some((ours, end(catalog, tail, ours, size)?))) else {
        return Ok(at_slot(server, tree, kept, size));
    };
    if ours > server.timeline {
        return Err(WalError::Refused(format!(
            "the log in the repository is on timeline {ours}, but the server on {}: it is an old primary, or was restored \
             from a backup. Receive from the new primary, or give this server a workload of its own",
            server.timeline
        )));
    }
    let path = tree.path(server.timeline);
    let Some(at) = path.iter().position(|(timeline, _)| *timeline == ours) else {
        return Ok(at_slot(server, tree, kept, size));
    };
    match (path[at].1, path.get(at + 1)) {
        // What was received behind the fork stays where it is, on the old timeline.
        (Some(leave), Some((child, _))) if end >= leave => Ok(Begin {
            timeline: *child,
            start: size.floor(leave),
        }),
        _ => {
            let first = size.segment_of(kept);
            let last = size.segment_of(end);
            let there: std::collections::BTreeSet<u64> =
                catalog.segments(ours).map(|(number, _)| number).collect();
            let on_this = timeline_at(tree, server.timeline, kept) == ours;
            let hole = (first..last)
                .find(|number| !there.contains(number))
                .filter(|_| on_this);
            Ok(Begin {
                timeline: ours,
                start: size.start_of(hole.unwrap_or(last)),
            })
        }
    }
}

/// The hole between what is in the repository and where receiving can begin, if there is one.
pub fn gap(
    catalog: &Catalog,
    tail: &Tail,
    begin: &Begin,
    size: SegmentSize,
    now: Timestamp,
    cause: &str,
) -> Option<KnownGap> {
    let from = end(catalog, tail, begin.timeline, size)?;
    (from < begin.start).then(|| KnownGap {
        timeline: begin.timeline,
        from,
        to: begin.start,
        found: now,
        cause: cause.to_string(),
    })
}
