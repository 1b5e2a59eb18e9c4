//! What can be recovered of a cluster now, and up to when nothing is missing.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use relight_repo::Repository;
use relight_workloads::log::{Gap, Interval, Named, Windows};

use super::error::Result;
use super::store::{Catalog, LogStore};
use super::tail::Tail;
use super::windows::{self, Base, Cause, Edge, Log, View};

/// A server's clock may be ahead by so much without that being told.
const SKEW: SignedDuration = SignedDuration::from_mins(5);

/// All that is known of a cluster's log and base backups at one moment.
#[derive(Debug)]
pub struct Outlook {
    /// Snapshots of the log and base backups.
    pub catalog: Catalog,
    /// The newest pieces.
    pub tail: Tail,
    /// What can be recovered with both.
    pub view: View,
    /// When it was looked, by the clock of this machine.
    pub now: Timestamp,
}

impl LogStore {
    /// Looks what can be recovered.
    ///
    /// # Errors
    /// Those of the repository.
    pub fn outlook(&self) -> Result<Outlook> {
        // In this order: a piece that goes while this looks goes because a snapshot has it.
        let tail = self.tail()?;
        let catalog = self.catalog()?;
        let bases: Vec<Base> = catalog.backups.iter().filter_map(Base::of).collect();
        let mut log = Log::of(&catalog);
        tail.add_to(&mut log);
        Ok(Outlook {
            view: windows::view(&log, &bases),
            catalog,
            tail,
            now: self.repository().now(),
        })
    }
}

impl Outlook {
    /// The last moment that can be recovered, on the latest timeline.
    pub fn latest(&self) -> Option<Edge> {
        self.view.latest().map(|window| window.to)
    }

    /// Up to when, by the clock of the server, it is known that nothing is missing in the latest window: later than its
    /// last commit if there was none since. None: nobody said so, or the window does not go on to the end of the log.
    pub fn confirmed(&self) -> Option<Timestamp> {
        let window = self.view.latest()?;
        let (timeline, end) = (window.timeline, window.to.lsn);
        let ends_early = |gap: &windows::Gap| gap.timeline == timeline && gap.from.lsn >= end;
        if self.view.gaps.iter().any(ends_early) {
            return None;
        }
        let size = self.catalog.segment_size();
        let heads = self.tail.pieces.iter().map(|piece| &piece.head);
        let here = |segment| segment == size.segment_of(end);
        heads
            .chain(&self.tail.pulse)
            .filter(|head| head.timeline == timeline)
            // What was seen behind a hole that nobody can see, because nothing of the log is behind it, says nothing.
            .filter(|head| head.start <= end || here(size.segment_of(head.start)))
            .filter_map(|head| head.confirmed)
            .max()
    }

    /// Up to when nothing is missing; not later than now if the server's clock is ahead by a little.
    pub fn reaches(&self) -> Option<Timestamp> {
        let last = self.latest()?.time;
        let reaches = self.confirmed().map_or(last, |confirmed| confirmed.max(last));
        let ahead = reaches.duration_since(self.now);
        Some(if ahead > SignedDuration::ZERO && ahead <= SKEW {
            self.now
        } else {
            reaches
        })
    }

    /// The same in words that are not PostgreSQL's.
    pub fn windows(&self) -> Windows {
        let view = &self.view;
        let interval = |window: &windows::Window| Interval {
            branch: window.timeline.to_string(),
            from: window.from.time,
            to: window.to.time,
            first: window.from.lsn.to_string(),
            last: window.to.lsn.to_string(),
            snapshots: window.bases.clone(),
        };
        let gap = |gap: &windows::Gap| Gap {
            branch: gap.timeline.to_string(),
            from: gap.from.time,
            to: gap.to.map(|to| to.time),
            cause: gap.cause.to_string(),
        };
        let point = |(timeline, point): &(super::Timeline, super::record::Point)| Named {
            branch: timeline.to_string(),
            name: point.name.clone(),
            time: point.time,
        };
        Windows {
            looked: self.now,
            reaches: self.reaches(),
            intervals: view.windows.iter().map(interval).collect(),
            gaps: view.gaps.iter().map(gap).collect(),
            points: view.points.iter().map(point).collect(),
            remarks: self.remarks(),
        }
    }

    /// What else is not as it should be.
    pub fn remarks(&self) -> Vec<String> {
        let unusable = self.view.unusable.iter().map(|base| {
            format!(
                "base backup {} cannot be restored: {} is missing",
                base.snapshot.short(),
                base.missing
            )
        });
        let rootless = self.view.rootless.iter().map(|timeline| {
            format!("timeline {timeline}: its history file is missing, so nobody knows where it comes from")
        });
        let conflicts = self
            .catalog
            .conflicts
            .iter()
            .map(|name| format!("{name} is there with two contents: two clusters wrote to one workload"));
        let unreadable = self.catalog.unreadable.iter().map(|(id, error)| {
            format!("snapshot cannot be read, and may hold what is missing: {id}: {error}")
        });
        unusable
            .chain(rootless)
            .chain(conflicts)
            .chain(unreadable)
            .collect()
    }
}

impl std::fmt::Display for Cause {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Missing { first, count, told } => {
                write!(f, "{first}")?;
                if *count > 1 {
                    write!(f, " and {} more", count - 1)?;
                }
                write!(f, " missing")?;
                match told {
                    Some(told) => write!(f, ": {told}"),
                    None => Ok(()),
                }
            }
            Self::Damaged { segment, why } => write!(f, "{segment} damaged: {why}"),
        }
    }
}

/// What can be recovered of a workload; none if there is no log of it.
///
/// # Errors
/// Those of the repository.
pub fn windows(repository: &Arc<Repository>, workload: &relight_model::Workload) -> Result<Option<Windows>> {
    let outlook = LogStore::new(repository.clone(), workload.clone(), Arc::default()).outlook()?;
    let is_empty = outlook.catalog.logs.is_empty() && outlook.tail.pieces.is_empty();
    Ok((!is_empty).then(|| outlook.windows()))
}
