//! How an operator names a snapshot, and which snapshot is meant.

use std::fmt;
use std::str::FromStr;

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

use crate::size::shortened;
use crate::workload::{Workload, WorkloadError};

/// A snapshot as named by an operator.
///
/// | written | meant |
/// | --- | --- |
/// | `3fa9c2d1` | the snapshot whose identity begins so (4 to 64 hex digits) |
/// | `latest` | the newest snapshot of all |
/// | `host/web01@latest` | the newest of the workload |
/// | `host/web01@2026-11-22T10:00:00Z` | the newest of the workload at or before that time |
/// | `host/web01@2026-11-22 10:00` | the same, in the operator's time zone; the whole minute counts |
/// | `host/web01@2026-11-22` | the last one of that day, and none when that day has none |
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SnapshotRef {
    /// The beginning of a snapshot's identity, in lower-case hex digits.
    Id(String),
    /// The newest snapshot, of one workload or of all.
    Latest(Option<Workload>),
    /// The newest snapshot of a workload at a point in time.
    At(Workload, PointInTime),
}

/// A point in time as precise as it was written.
///
/// A time copied from a table that shows minutes must find the snapshot that was taken in that minute, so a point
/// stands for the whole of its last given unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PointInTime {
    /// A time with its offset from UTC.
    Instant {
        /// The beginning of the given unit.
        at: Timestamp,
        /// The last unit that was given.
        precision: Precision,
    },
    /// A time without offset, read in the time zone passed to [`PointInTime::bounds`].
    Civil {
        /// The beginning of the given unit.
        at: DateTime,
        /// The last unit that was given.
        precision: Precision,
    },
    /// A whole day of the time zone passed to [`PointInTime::bounds`].
    Day(Date),
}

/// The last unit given in a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Precision {
    /// `2026-11-22T10`
    Hour,
    /// `2026-11-22T10:00`
    Minute,
    /// `2026-11-22T10:00:00`
    Second,
    /// With a fraction of a second.
    Exact,
}

/// The times between which the wanted snapshot lies, both inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// No older than this; `None` when any older one will do.
    pub not_before: Option<Timestamp>,
    /// No newer than this.
    pub not_after: Timestamp,
}

/// Why a text names no snapshot.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SnapshotRefError {
    /// Neither an identity, nor `latest`, nor `workload@…`.
    #[error(
        "{text:?} names no snapshot: use its id (at least {MIN_ID_DIGITS} hex digits), latest, WORKLOAD@latest or WORKLOAD@TIME"
    )]
    Unrecognised {
        /// What was given, shortened.
        text: String,
    },
    /// Too few digits to be a safe choice.
    #[error("the snapshot id {text:?} is too short: give at least {MIN_ID_DIGITS} hex digits")]
    IdTooShort {
        /// What was given.
        text: String,
    },
    /// The part before `@` is no workload.
    #[error(transparent)]
    Workload(#[from] WorkloadError),
    /// The part after `@` is no time.
    #[error(
        "{text:?} is not a time: use latest, a date (2026-11-22), or a date and time (2026-11-22T10:00 or 2026-11-22T10:00:00Z)"
    )]
    Time {
        /// What was given after `@`, shortened.
        text: String,
    },
}

/// The smallest number of digits of an identity.
pub const MIN_ID_DIGITS: usize = 4;
/// The number of digits of a whole identity (SHA-256).
pub const MAX_ID_DIGITS: usize = 64;

impl FromStr for SnapshotRef {
    type Err = SnapshotRefError;

    fn from_str(text: &str) -> Result<Self, SnapshotRefError> {
        if text == "latest" {
            return Ok(Self::Latest(None));
        }
        // The workload cannot contain an '@'.
        if let Some((workload, time)) = text.split_once('@') {
            let workload = workload.parse()?;
            if time == "latest" {
                return Ok(Self::Latest(Some(workload)));
            }
            return Ok(Self::At(workload, time.parse()?));
        }
        if text.is_empty() || text.len() > MAX_ID_DIGITS || !text.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(SnapshotRefError::Unrecognised {
                text: shortened(text),
            });
        }
        if text.len() < MIN_ID_DIGITS {
            return Err(SnapshotRefError::IdTooShort {
                text: text.to_owned(),
            });
        }
        Ok(Self::Id(text.to_ascii_lowercase()))
    }
}

impl fmt::Display for SnapshotRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Id(digits) => f.write_str(digits),
            Self::Latest(None) => f.write_str("latest"),
            Self::Latest(Some(workload)) => write!(f, "{workload}@latest"),
            Self::At(workload, time) => write!(f, "{workload}@{time}"),
        }
    }
}

/// The longest text of a time: RFC 3339 with nanoseconds, offset and a zone in brackets.
const MAX_TIME_LEN: usize = 100;

impl FromStr for PointInTime {
    type Err = SnapshotRefError;

    fn from_str(text: &str) -> Result<Self, SnapshotRefError> {
        let refused = || SnapshotRefError::Time {
            text: shortened(text),
        };
        let trimmed = text.trim();
        if trimmed.len() > MAX_TIME_LEN || !trimmed.is_ascii() {
            return Err(refused());
        }
        let Some((date, time)) = trimmed.split_once(['T', 't', ' ']) else {
            return trimmed.parse().map(Self::Day).map_err(|_| refused());
        };
        // Both halves must be there; otherwise the parser below would read a lone date as midnight.
        if date.is_empty() || time.is_empty() {
            return Err(refused());
        }
        let precision = precision_of(time);
        if let Ok(at) = trimmed.parse::<Timestamp>() {
            return Ok(Self::Instant { at, precision });
        }
        trimmed
            .parse::<DateTime>()
            .map(|at| Self::Civil { at, precision })
            .map_err(|_| refused())
    }
}

/// The last unit in the text of a time of day, which may be followed by an offset.
fn precision_of(time: &str) -> Precision {
    let clock_end = time.find(['Z', 'z', '+', '-', '[', ' ']).unwrap_or(time.len());
    let clock = &time[..clock_end];
    if clock.contains(['.', ',']) {
        return Precision::Exact;
    }
    match clock.bytes().filter(u8::is_ascii_digit).count() {
        0..=2 => Precision::Hour,
        3..=4 => Precision::Minute,
        _ => Precision::Second,
    }
}

impl Precision {
    /// From the beginning of the unit to its last nanosecond.
    fn rest(self) -> SignedDuration {
        let nanosecond = SignedDuration::from_nanos(1);
        match self {
            Self::Hour => SignedDuration::from_secs(3600) - nanosecond,
            Self::Minute => SignedDuration::from_secs(60) - nanosecond,
            Self::Second => SignedDuration::from_secs(1) - nanosecond,
            Self::Exact => SignedDuration::ZERO,
        }
    }
}

impl PointInTime {
    /// The times between which the wanted snapshot lies, with civil times read in `zone`.
    ///
    /// A civil time that occurs twice (clocks set back) means its second occurrence, so that everything of the
    /// given hour is included. Times beyond the representable range are clamped to it.
    pub fn bounds(&self, zone: &TimeZone) -> Bounds {
        match *self {
            Self::Instant { at, precision } => Bounds {
                not_before: None,
                not_after: at.checked_add(precision.rest()).unwrap_or(Timestamp::MAX),
            },
            Self::Civil { at, precision } => {
                let last = at.checked_add(precision.rest()).unwrap_or(DateTime::MAX);
                Bounds {
                    not_before: None,
                    not_after: later(zone, last).unwrap_or(Timestamp::MAX),
                }
            }
            Self::Day(date) => {
                let first = zone.to_ambiguous_timestamp(date.at(0, 0, 0, 0)).earlier();
                let next = date
                    .checked_add(1.day())
                    .ok()
                    .and_then(|next| zone.to_ambiguous_timestamp(next.at(0, 0, 0, 0)).earlier().ok());
                Bounds {
                    not_before: Some(first.unwrap_or(Timestamp::MIN)),
                    not_after: next
                        .and_then(|next| next.checked_sub(SignedDuration::from_nanos(1)).ok())
                        .unwrap_or(Timestamp::MAX),
                }
            }
        }
    }
}

fn later(zone: &TimeZone, at: DateTime) -> Option<Timestamp> {
    zone.to_ambiguous_timestamp(at).later().ok()
}

impl fmt::Display for PointInTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Instant { at, .. } => write!(f, "{at}"),
            Self::Civil { at, .. } => write!(f, "{at}"),
            Self::Day(date) => write!(f, "{date}"),
        }
    }
}

/// One snapshot to choose from.
#[derive(Clone, Debug)]
pub struct Listed<'a, T> {
    /// The identity in lower-case hex digits.
    pub id: &'a str,
    /// The workload's name.
    pub workload: &'a str,
    /// When the snapshot was taken.
    pub time: Timestamp,
    /// What to hand back when it is chosen.
    pub item: T,
}

/// Why no snapshot was chosen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ChooseError {
    /// The repository has no snapshot at all.
    #[error("there is no snapshot in this repository")]
    Empty,
    /// No identity begins with the digits.
    #[error("no snapshot's id begins with {id}: list the snapshots with `relight snapshots`")]
    NoSuchId {
        /// The digits.
        id: String,
    },
    /// Several identities begin with the digits.
    #[error("{count} snapshots' ids begin with {id}: give more digits, for instance {} or {}", .examples[0], .examples[1])]
    Ambiguous {
        /// The digits.
        id: String,
        /// How many snapshots match.
        count: usize,
        /// Two that match, in as many digits as tell them apart.
        examples: [String; 2],
    },
    /// The workload has no snapshot.
    #[error("there is no snapshot of {workload}: list the snapshots with `relight snapshots`")]
    NoSuchWorkload {
        /// The workload.
        workload: Workload,
    },
    /// The workload has snapshots, but none at that time.
    #[error("{workload} has no snapshot {at}; its oldest is of {oldest}, its newest of {newest}")]
    NoneAt {
        /// The workload.
        workload: Workload,
        /// `at or before …` or `on …`.
        at: String,
        /// Time of the oldest snapshot there is.
        oldest: Timestamp,
        /// Time of the newest snapshot there is.
        newest: Timestamp,
    },
}

impl SnapshotRef {
    /// The one snapshot of `snapshots` that is meant; civil times are read in `zone`.
    ///
    /// Among snapshots of the same time the one with the greater identity is taken, so that the choice does not
    /// depend on the order of a listing.
    pub fn choose<'a, T>(
        &self,
        snapshots: impl IntoIterator<Item = Listed<'a, T>>,
        zone: &TimeZone,
    ) -> Result<T, ChooseError> {
        let mut snapshots = snapshots.into_iter().peekable();
        if snapshots.peek().is_none() {
            return Err(ChooseError::Empty);
        }
        match self {
            Self::Id(digits) => choose_id(digits, snapshots),
            Self::Latest(None) => newest(snapshots)
                .map(|found| found.item)
                .ok_or(ChooseError::Empty),
            Self::Latest(Some(workload)) => newest(snapshots.filter(|s| s.workload == workload.as_str()))
                .map(|found| found.item)
                .ok_or_else(|| ChooseError::NoSuchWorkload {
                    workload: workload.clone(),
                }),
            Self::At(workload, time) => {
                let own = snapshots.filter(|s| s.workload == workload.as_str());
                choose_at(workload, time, zone, own)
            }
        }
    }
}

fn newest<'a, T>(snapshots: impl Iterator<Item = Listed<'a, T>>) -> Option<Listed<'a, T>> {
    snapshots.max_by(|a, b| (a.time, a.id).cmp(&(b.time, b.id)))
}

fn choose_id<'a, T>(digits: &str, snapshots: impl Iterator<Item = Listed<'a, T>>) -> Result<T, ChooseError> {
    let mut matching = snapshots.filter(|s| s.id.starts_with(digits));
    let first = matching.next().ok_or_else(|| ChooseError::NoSuchId {
        id: digits.to_owned(),
    })?;
    let Some(second) = matching.next() else {
        return Ok(first.item);
    };
    let common = first
        .id
        .bytes()
        .zip(second.id.bytes())
        .take_while(|(a, b)| a == b)
        .count();
    let shown = |id: &str| id.chars().take(common + 1).collect::<String>();
    Err(ChooseError::Ambiguous {
        id: digits.to_owned(),
        count: 2 + matching.count(),
        examples: [shown(first.id), shown(second.id)],
    })
}

fn choose_at<'a, T>(
    workload: &Workload,
    time: &PointInTime,
    zone: &TimeZone,
    snapshots: impl Iterator<Item = Listed<'a, T>>,
) -> Result<T, ChooseError> {
    let Bounds {
        not_before,
        not_after,
    } = time.bounds(zone);
    let mut span: Option<(Timestamp, Timestamp)> = None;
    let inside = snapshots
        .inspect(|s| {
            span = Some(span.map_or((s.time, s.time), |(oldest, newest)| {
                (oldest.min(s.time), newest.max(s.time))
            }));
        })
        .filter(|s| s.time <= not_after && not_before.is_none_or(|first| s.time >= first));
    if let Some(found) = newest(inside) {
        return Ok(found.item);
    }
    let Some((oldest, newest)) = span else {
        return Err(ChooseError::NoSuchWorkload {
            workload: workload.clone(),
        });
    };
    let at = match time {
        PointInTime::Day(date) => format!("on {date}"),
        other => format!("at or before {other}"),
    };
    Err(ChooseError::NoneAt {
        workload: workload.clone(),
        at,
        oldest,
        newest,
    })
}
