//! The newest piece of a log in the repository: what a receiver stores every second, until the segment that it belongs to
//! is full.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::error::{Result, WalError};
use super::name::{SegmentSize, Timeline};
use super::store::{Catalog, LogStore};
use super::summary::{Cluster, Times};
use super::windows::{Log, Piece};
use crate::lsn::Lsn;

/// The version this program writes.
const VERSION: u32 = 1;
/// No head of a piece is longer.
const MAX_HEAD: usize = 1 << 20;
/// So often it is listed anew what pieces there are, if some went away meanwhile.
const LISTINGS: usize = 3;
/// The number of the piece that holds no log, but says how far it is known to be complete.
pub const PULSE: u64 = 0;

/// What a piece says about itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    version: u32,
    /// Whose log.
    pub cluster: Cluster,
    /// The timeline.
    pub timeline: Timeline,
    /// Where it begins.
    pub start: Lsn,
    /// Where the last complete record ends; before `start` if none ends in it.
    pub end: Lsn,
    /// Times of the records that end in it.
    pub times: Times,
    /// When it was received, by the clock of the server: all that was durable there at that time is in the repository.
    pub confirmed: Option<Timestamp>,
    /// Which transactions there were then, if the server was asked (`pg_current_snapshot`): as long as it answers the same,
    /// nothing has been committed since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quiet: Option<String>,
}

impl Head {
    /// Of a piece that begins at `start`.
    pub fn new(cluster: Cluster, timeline: Timeline, start: Lsn) -> Self {
        Self {
            version: VERSION,
            cluster,
            timeline,
            start,
            end: start,
            times: Times::default(),
            confirmed: None,
            quiet: None,
        }
    }
}

/// A piece of a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TailPiece {
    /// Its number.
    pub number: u64,
    /// What it says about itself.
    pub head: Head,
    /// The log from its start on.
    pub bytes: Vec<u8>,
}

impl TailPiece {
    /// Where its bytes end.
    pub fn reach(&self) -> Lsn {
        self.head.start.plus(self.bytes.len() as u64)
    }

    fn encode(&self) -> Result<Vec<u8>> {
        let head = serde_json::to_vec(&self.head).map_err(|error| WalError::Refused(error.to_string()))?;
        let length = u32::try_from(head.len()).unwrap_or(u32::MAX);
        Ok([&length.to_le_bytes()[..], &head, &self.bytes].concat())
    }

    fn decode(number: u64, content: &[u8]) -> Option<Self> {
        let (length, rest) = content.split_first_chunk::<4>()?;
        let length = usize::try_from(u32::from_le_bytes(*length)).ok()?;
        if length > MAX_HEAD {
            return None;
        }
        let (head, bytes) = rest.split_at_checked(length)?;
        let head: Head = serde_json::from_slice(head).ok()?;
        (head.version == VERSION).then(|| Self {
            number,
            head,
            bytes: bytes.to_vec(),
        })
    }
}

/// The pieces of a log that are in no snapshot.
#[derive(Debug, Clone, Default)]
pub struct Tail {
    /// By number; later ones were written later.
    pub pieces: Vec<TailPiece>,
    /// How far the log was known to be complete at which time, if a receiver said so.
    pub pulse: Option<Head>,
}

impl Tail {
    /// Whose log it is, if there is any of it.
    pub fn cluster(&self) -> Option<Cluster> {
        self.pieces.first().map(|piece| piece.head.cluster)
    }

    /// The next number.
    pub fn next_number(&self) -> u64 {
        self.pieces.last().map_or(PULSE, |piece| piece.number) + 1
    }

    /// The beginning of a segment, as far as pieces hold it without a hole, what its last record tells, and the times.
    pub fn segment(&self, timeline: Timeline, number: u64, size: SegmentSize) -> Option<Segment> {
        let start = size.start_of(number);
        let mut segment = Segment {
            bytes: Vec::new(),
            end: start,
            times: Times::default(),
        };
        let ours = |piece: &&TailPiece| {
            piece.head.timeline == timeline && size.segment_of(piece.head.start) == number
        };
        let mut pieces: Vec<&TailPiece> = self.pieces.iter().filter(ours).collect();
        pieces.sort_by_key(|piece| (piece.head.start, piece.number));
        for piece in pieces {
            let have = start.plus(segment.bytes.len() as u64);
            if piece.head.start > have {
                break;
            }
            let known = usize::try_from(have.since(piece.head.start)).unwrap_or(usize::MAX);
            if let Some(new) = piece.bytes.get(known..).filter(|new| !new.is_empty()) {
                segment.bytes.extend_from_slice(new);
                segment.end = segment.end.max(piece.head.end);
                segment.times.extend(&piece.head.times);
            }
        }
        (!segment.bytes.is_empty()).then_some(segment)
    }

    /// The segments that there are beginnings of.
    pub fn segments(&self, size: SegmentSize) -> std::collections::BTreeSet<(Timeline, u64)> {
        let of = |piece: &TailPiece| (piece.head.timeline, size.segment_of(piece.head.start));
        self.pieces.iter().map(of).collect()
    }

    /// Adds what there is to a log.
    pub fn add_to(&self, log: &mut Log) {
        let size = log.segment_size();
        for (timeline, number) in self.segments(size) {
            if let Some(segment) = self.segment(timeline, number, size) {
                let piece = Piece {
                    end: segment.end,
                    damage: None,
                    last_commit: segment.times.last_commit,
                    points: segment.times.points,
                };
                log.add_partial(timeline, number, piece);
            }
        }
    }
}

/// The beginning of a segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Segment {
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Where the last complete record ends.
    pub end: Lsn,
    /// Times of its records.
    pub times: Times,
}

impl LogStore {
    /// The pieces of the log that are in no snapshot.
    ///
    /// # Errors
    /// Those of the repository, also for a piece that is damaged: it may be the newest there is.
    pub fn tail(&self) -> Result<Tail> {
        for _ in 0..LISTINGS {
            if let (tail, true) = self.listed_tail()? {
                return Ok(tail);
            }
        }
        Ok(self.listed_tail()?.0)
    }

    /// What a listing names, and whether all of that was still there.
    fn listed_tail(&self) -> Result<(Tail, bool)> {
        let workload = self.workload().as_str();
        let (mut tail, mut all) = (Tail::default(), true);
        for number in self.repository().tail_numbers(workload)? {
            // Gone since it was listed: its segment is in a snapshot, or several pieces were made one that is not listed.
            let Some(content) = self.repository().tail(workload, number)? else {
                all = false;
                continue;
            };
            let Some(piece) = TailPiece::decode(number, &content) else {
                return Err(WalError::Refused(format!(
                    "piece {number} of the newest log of {workload} is not what it should be: it was written by a newer \
                     Relight, or is damaged"
                )));
            };
            if number == PULSE {
                tail.pulse = Some(piece.head);
            } else {
                tail.pieces.push(piece);
            }
        }
        Ok((tail, all))
    }

    /// Stores a piece. When this returns, it is durable.
    pub fn put_tail(&self, piece: &TailPiece) -> Result<()> {
        Ok(self
            .repository()
            .put_tail(self.workload().as_str(), piece.number, &piece.encode()?)?)
    }

    /// Removes pieces.
    pub fn remove_tail(&self, numbers: impl IntoIterator<Item = u64>) -> Result<()> {
        for number in numbers {
            self.repository().remove_tail(self.workload().as_str(), number)?;
        }
        Ok(())
    }

    /// The log in a catalog and the pieces behind it.
    pub fn log(&self, catalog: &Catalog) -> Result<Log> {
        let mut log = Log::of(catalog);
        self.tail()?.add_to(&mut log);
        Ok(log)
    }
}
