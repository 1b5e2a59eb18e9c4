//! Names of the files of a log. All numbers in them are hexadecimal, timelines included.
//! Source: PostgreSQL's `src/include/access/xlog_internal.h` and the manual, "WAL Internals".

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::error::{Result, WalError};
use crate::lsn::Lsn;

/// Number of a timeline: 1 when a cluster is made, a higher one after each recovery that ended in writing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Timeline(pub u32);

impl fmt::Display for Timeline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// Bytes of a segment: a power of two from 1 MiB to 1 GiB, chosen when the cluster is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "u64", into = "u64")]
pub struct SegmentSize(u64);

impl Default for SegmentSize {
    /// That of nearly all clusters.
    fn default() -> Self {
        Self(16 << 20)
    }
}

impl TryFrom<u64> for SegmentSize {
    type Error = WalError;

    fn try_from(bytes: u64) -> Result<Self> {
        if bytes.is_power_of_two() && (1 << 20..=1 << 30).contains(&bytes) {
            Ok(Self(bytes))
        } else {
            Err(WalError::SegmentSize(bytes))
        }
    }
}

impl From<SegmentSize> for u64 {
    fn from(size: SegmentSize) -> Self {
        size.0
    }
}

impl SegmentSize {
    /// In bytes.
    pub fn bytes(self) -> u64 {
        self.0
    }

    /// The number of the segment that holds the byte at `lsn`.
    pub fn segment_of(self, lsn: Lsn) -> u64 {
        lsn.0 / self.0
    }

    /// Where a segment begins.
    pub fn start_of(self, segment: u64) -> Lsn {
        Lsn(segment.saturating_mul(self.0))
    }

    /// Where the segment that holds `lsn` begins.
    pub fn floor(self, lsn: Lsn) -> Lsn {
        Lsn(lsn.0 & !(self.0 - 1))
    }

    /// Segments that share the middle part of their name.
    fn per_group(self) -> u64 {
        (1 << 32) / self.0
    }
}

/// A segment of a log, as its name says: the number counts within the segments of its size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SegmentName {
    /// The timeline.
    pub timeline: Timeline,
    group: u32,
    within: u32,
}

impl SegmentName {
    /// The name of the segment of that number.
    pub fn new(timeline: Timeline, segment: u64, size: SegmentSize) -> Self {
        // At most 2^44 segments of 1 MiB: the group fits.
        let group = u32::try_from(segment / size.per_group()).unwrap_or(u32::MAX);
        let within = u32::try_from(segment % size.per_group()).unwrap_or(u32::MAX);
        Self {
            timeline,
            group,
            within,
        }
    }

    /// The name of the segment that holds the byte at `lsn`.
    pub fn at(timeline: Timeline, lsn: Lsn, size: SegmentSize) -> Self {
        Self::new(timeline, size.segment_of(lsn), size)
    }

    /// Its number; none if there is no such segment of this size.
    pub fn number(self, size: SegmentSize) -> Option<u64> {
        let within = u64::from(self.within);
        (within < size.per_group()).then(|| u64::from(self.group) * size.per_group() + within)
    }

    fn parse(text: &str) -> Option<Self> {
        Some(Self {
            timeline: Timeline(hex32(text.get(..8)?)?),
            group: hex32(text.get(8..16)?)?,
            within: hex32(text.get(16..)?)?,
        })
    }
}

impl fmt::Display for SegmentName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:08X}{:08X}{:08X}", self.timeline.0, self.group, self.within)
    }
}

/// A file of a log, as its name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum WalName {
    /// A whole segment.
    Segment(SegmentName),
    /// The last segment of a timeline that was left before it was full. Never to be taken for a whole one.
    Partial(SegmentName),
    /// Where a timeline comes from.
    History(Timeline),
    /// A remark that a base backup began in this segment, at this offset.
    Backup(SegmentName, u32),
}

impl WalName {
    /// The timeline that the file belongs to.
    pub fn timeline(self) -> Timeline {
        match self {
            Self::Segment(segment) | Self::Partial(segment) | Self::Backup(segment, _) => segment.timeline,
            Self::History(timeline) => timeline,
        }
    }
}

impl fmt::Display for WalName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment(segment) => segment.fmt(f),
            Self::Partial(segment) => write!(f, "{segment}.partial"),
            Self::History(timeline) => write!(f, "{:08X}.history", timeline.0),
            Self::Backup(segment, offset) => write!(f, "{segment}.{offset:08X}.backup"),
        }
    }
}

impl FromStr for WalName {
    type Err = WalError;

    fn from_str(text: &str) -> Result<Self> {
        let parse = || {
            let (stem, ending) = match text.split_once('.') {
                Some((stem, ending)) => (stem, Some(ending)),
                None => (text, None),
            };
            match ending {
                None => SegmentName::parse(stem).map(Self::Segment),
                Some("partial") => SegmentName::parse(stem).map(Self::Partial),
                Some("history") => hex32(stem).map(|timeline| Self::History(Timeline(timeline))),
                Some(other) => {
                    let offset = hex32(other.strip_suffix(".backup")?)?;
                    Some(Self::Backup(SegmentName::parse(stem)?, offset))
                }
            }
        };
        parse().ok_or_else(|| WalError::NoName(text.chars().take(60).collect()))
    }
}

impl TryFrom<String> for WalName {
    type Error = WalError;

    fn try_from(text: String) -> Result<Self> {
        text.parse()
    }
}

impl From<WalName> for String {
    fn from(name: WalName) -> Self {
        name.to_string()
    }
}

/// Exactly eight digits, the letters in upper case as PostgreSQL writes them.
fn hex32(text: &str) -> Option<u32> {
    let digit = |byte: u8| byte.is_ascii_digit() || (b'A'..=b'F').contains(&byte);
    (text.len() == 8 && text.bytes().all(digit))
        .then(|| u32::from_str_radix(text, 16).ok())
        .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_names_are_hexadecimal_timelines_too() {
        let name: WalName = "0000000A00000001000000FF".parse().unwrap();
        let WalName::Segment(segment) = name else {
            panic!("{name} is a segment")
        };
        assert_eq!(segment.timeline, Timeline(10));
        let size = SegmentSize::default();
        assert_eq!(segment.number(size), Some(0x1ff));
        assert_eq!(SegmentName::new(Timeline(10), 0x1ff, size), segment);
        assert_eq!(SegmentName::at(Timeline(10), Lsn(0x1_ff00_0001), size), segment);
        // With segments of 1 GiB there are four of them to a group.
        assert_eq!(segment.number(SegmentSize::try_from(1 << 30).unwrap()), None);
        assert_eq!(
            "00000010.history".parse::<WalName>().unwrap(),
            WalName::History(Timeline(16))
        );
    }

    #[test]
    fn every_kind_of_name_comes_back_and_others_are_refused() {
        for text in [
            "000000010000000000000001",
            "000000010000000000000001.partial",
            "00000002.history",
            "000000010000000000000003.00000028.backup",
        ] {
            assert_eq!(text.parse::<WalName>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "00000001000000000000000",
            "00000001000000000000000g",
            "00000001000000000000000a",
            "000000010000000000000001.Partial",
            "000000010000000000000001.backup",
            "2.history",
            "../000000010000000000000001",
            "RECOVERYXLOG",
            "0000000100000000000000é",
        ] {
            assert!(text.parse::<WalName>().is_err(), "{text}");
        }
    }
}
