//! The computation.

use std::collections::BTreeMap;

use jiff::Timestamp;

use super::{Base, Cause, Edge, Gap, Log, Unusable, View, Window, name};
use crate::lsn::Lsn;
use crate::wal::name::Timeline;

/// A stretch of one timeline without a hole.
struct Run {
    end: Lsn,
    time: Option<Timestamp>,
}

/// How far the log of a timeline goes without a hole from `from` on, but not beyond `limit`.
fn run(log: &Log, timeline: Timeline, from: Lsn, limit: Option<Lsn>) -> Run {
    let size = log.segment_size();
    let mut reached = Run {
        end: from,
        time: None,
    };
    for number in size.segment_of(from).. {
        let begins = size.start_of(number);
        if limit.is_some_and(|limit| begins >= limit) {
            break;
        }
        let Some((piece, goes_on)) = log.piece(timeline, number) else {
            break;
        };
        reached.end = reached.end.max(piece.end);
        // What was written behind the fork belongs to the other branch, and its times with it.
        if limit.is_none_or(|limit| limit >= piece.end) {
            reached.time = reached.time.max(piece.last_commit);
        }
        if !goes_on {
            break;
        }
    }
    reached
}

/// Where a base backup can be brought to on `timeline`; none if not there.
fn reach(log: &Log, base: &Base, timeline: Timeline) -> Option<(Edge, Edge)> {
    let size = log.segment_size();
    let path = log.tree.path(timeline);
    let mut steps = path.iter().skip_while(|(step, _)| *step != base.timeline);
    let mut from = base.stop;
    let mut time = base.stop_time;
    loop {
        let (step, leave) = *steps.next()?;
        let Some(leave) = leave else {
            let reached = run(log, step, from, None);
            let to = Edge {
                lsn: reached.end,
                time: reached.time.unwrap_or(time).max(time),
            };
            return Some((Edge { lsn: from, time }, to));
        };
        if from > leave {
            return None;
        }
        // The segment of the fork was copied to the new timeline up to the fork, and is taken from there.
        let fork = size.floor(leave);
        let reached = run(log, step, from, Some(leave));
        let child = steps.clone().next()?.0;
        log.piece(child, size.segment_of(leave))?;
        if reached.end < fork && from < fork {
            return None;
        }
        time = reached.time.unwrap_or(time).max(time);
        from = leave;
    }
}

/// The first segment that a base backup lacks to become consistent.
fn lacks(log: &Log, base: &Base) -> Option<u64> {
    if base.self_contained {
        return None;
    }
    let reached = run(log, base.timeline, base.start, None);
    (reached.end < base.stop).then(|| log.segment_size().segment_of(reached.end))
}

/// What can be recovered from these base backups and this log.
pub fn view(log: &Log, bases: &[Base]) -> View {
    let mut view = View::default();
    let mut usable: Vec<&Base> = Vec::new();
    for base in bases {
        match lacks(log, base) {
            None => usable.push(base),
            Some(number) => view.unusable.push(Unusable {
                snapshot: base.snapshot,
                missing: name(base.timeline, number, log),
            }),
        }
    }
    usable.sort_by_key(|base| (base.stop, base.stop_time));
    let mut timelines = log.timelines();
    timelines.extend(usable.iter().map(|base| base.timeline));
    view.rootless = timelines
        .iter()
        .copied()
        .filter(|timeline| !log.tree.knows(*timeline))
        .collect();
    for timeline in timelines {
        let mut windows: BTreeMap<Lsn, Window> = BTreeMap::new();
        for base in &usable {
            let Some((from, to)) = reach(log, base, timeline) else {
                continue;
            };
            let window = windows.entry(to.lsn).or_insert_with(|| Window {
                timeline,
                from,
                to,
                bases: Vec::new(),
            });
            if (from.lsn, from.time) < (window.from.lsn, window.from.time) {
                window.from = from;
            }
            window.to.time = window.to.time.max(to.time);
            window.bases.push(base.snapshot);
        }
        let windows: Vec<Window> = windows.into_values().collect();
        for (number, window) in windows.iter().enumerate() {
            view.gaps.extend(gap(log, window, windows.get(number + 1)));
        }
        view.windows.extend(windows);
    }
    view.points = points(log, &view.windows);
    view
}

/// Why a window ends, if the log goes on behind it.
fn gap(log: &Log, window: &Window, next: Option<&Window>) -> Option<Gap> {
    let size = log.segment_size();
    let (timeline, end) = (window.timeline, window.to.lsn);
    let number = size.segment_of(end);
    let gap = |cause| {
        Some(Gap {
            timeline,
            from: window.to,
            to: next.map(|next| next.from),
            cause,
        })
    };
    let at = log.piece(timeline, number).map(|(piece, _)| piece);
    if let Some(why) = at.and_then(|piece| piece.damage.clone()) {
        return gap(Cause::Damaged {
            segment: name(timeline, number, log),
            why,
        });
    }
    // The beginning of a segment is there, but not the rest.
    let first = if at.is_some() && end > size.start_of(number) {
        number + 1
    } else {
        number
    };
    let goes_on = log
        .next(timeline, first)
        .or(next.map(|next| size.segment_of(next.from.lsn)))?;
    let (from, to) = (end, size.start_of(goes_on));
    let told = log
        .gaps
        .iter()
        .find(|known| known.timeline == timeline && known.from < to && known.to > from);
    gap(Cause::Missing {
        first: name(timeline, number, log),
        count: goes_on.saturating_sub(number).max(1),
        told: told.map(|known| known.cause.clone()),
    })
}

/// Named moments that can be recovered.
fn points(log: &Log, windows: &[Window]) -> Vec<(Timeline, crate::wal::record::Point)> {
    let size = log.segment_size();
    let mut points = Vec::new();
    for window in windows {
        for number in size.segment_of(window.from.lsn)..=size.segment_of(window.to.lsn) {
            let Some((piece, _)) = log.piece(window.timeline, number) else {
                continue;
            };
            let inside = |at: Lsn| window.from.lsn <= at && at <= window.to.lsn;
            let found = piece.points.iter().filter(|point| inside(point.at));
            points.extend(found.map(|point| (window.timeline, point.clone())));
        }
    }
    points
}
