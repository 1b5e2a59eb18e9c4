//! What a capture remembers of each entry so that the next one can tell whether it changed: the pxar format keeps
//! neither inode numbers nor change times.
//!
//! The stream is a header of 32 bytes and one record of 40 bytes for every entry of the archive in its order, the root
//! first. All numbers are little endian.
//!
//! | header | |
//! | --- | --- |
//! | 0 | `RLSTATS` and a zero byte |
//! | 8 | version, `u32`: 1 |
//! | 12 | bytes of a record, `u32`: 40 |
//! | 16 | when the capture began: seconds `i64`, nanoseconds `u32`, by the clock that stamps files |
//! | 28 | zero |
//!
//! | record | |
//! | --- | --- |
//! | 0 | inode number, `u64`; 0 in a record that says nothing |
//! | 8 | change time: seconds `i64`, nanoseconds `u32` |
//! | 20 | number of links, `u32` |
//! | 24 | device: minor number in the lower, major in the upper half of a `u64` |
//! | 32 | bytes allocated, `u64` |

use std::io::{self, Read};

use super::stat::FileStat;
use crate::format::{u32_at, u64_at};
use crate::metadata::FileTime;

/// Bytes of the header.
pub const HEADER_SIZE: usize = 32;
/// Bytes of a record.
pub const RECORD_SIZE: usize = 40;

const MAGIC: &[u8; 8] = b"RLSTATS\0";
const VERSION: u32 = 1;

/// The header of a stream whose capture began at `start`.
pub fn header(start: FileTime) -> [u8; HEADER_SIZE] {
    let mut bytes = [0; HEADER_SIZE];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_le_bytes());
    bytes[12..16].copy_from_slice(&(RECORD_SIZE as u32).to_le_bytes());
    bytes[16..24].copy_from_slice(&start.secs.to_le_bytes());
    bytes[24..28].copy_from_slice(&start.nanos.to_le_bytes());
    bytes
}

/// One record.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct StatRecord {
    /// Inode number.
    pub ino: u64,
    /// Last change of content or metadata.
    pub ctime: FileTime,
    /// Number of hard links.
    pub nlink: u32,
    /// Device the object lay on. Not compared: numbers of devices change when a machine starts anew.
    pub dev: u64,
    /// Bytes allocated on disk.
    pub allocated: u64,
}

impl StatRecord {
    /// The record of an object.
    pub fn of(stat: &FileStat) -> Self {
        Self {
            ino: stat.ino,
            ctime: stat.ctime,
            nlink: stat.nlink,
            dev: stat.dev,
            allocated: stat.blocks.saturating_mul(512),
        }
    }

    /// The bytes of the record.
    pub fn to_bytes(self) -> [u8; RECORD_SIZE] {
        let mut bytes = [0; RECORD_SIZE];
        bytes[..8].copy_from_slice(&self.ino.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.ctime.secs.to_le_bytes());
        bytes[16..20].copy_from_slice(&self.ctime.nanos.to_le_bytes());
        bytes[20..24].copy_from_slice(&self.nlink.to_le_bytes());
        bytes[24..32].copy_from_slice(&self.dev.to_le_bytes());
        bytes[32..].copy_from_slice(&self.allocated.to_le_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8; RECORD_SIZE]) -> Self {
        Self {
            ino: u64_at(bytes, 0),
            ctime: FileTime {
                secs: u64_at(bytes, 8).cast_signed(),
                nanos: u32_at(bytes, 16),
            },
            nlink: u32_at(bytes, 20),
            dev: u64_at(bytes, 24),
            allocated: u64_at(bytes, 32),
        }
    }

    /// Whether the record says that `stat` is still the same object with the same change time.
    pub fn matches(&self, stat: &FileStat) -> bool {
        self.ino != 0 && self.ino == stat.ino && self.ctime == stat.ctime
    }
}

/// Reads a stream of records.
#[derive(Debug)]
pub struct StatReader<R> {
    source: io::BufReader<R>,
    start: FileTime,
}

impl<R: Read> StatReader<R> {
    /// Begins to read.
    ///
    /// # Errors
    /// [`io::ErrorKind::InvalidData`] where it is no such stream, or one of another version.
    pub fn new(source: R) -> io::Result<Self> {
        let mut source = io::BufReader::with_capacity(64 * 1024, source);
        let mut bytes = [0; HEADER_SIZE];
        source.read_exact(&mut bytes)?;
        let known = bytes[..8] == MAGIC[..]
            && u32_at(&bytes, 8) == VERSION
            && u32_at(&bytes, 12) == RECORD_SIZE as u32
            && u32_at(&bytes, 24) < 1_000_000_000;
        if !known {
            return Err(io::Error::new(
                io::ErrorKind::InvalidData,
                "the record of file states is of an unknown version",
            ));
        }
        let start = FileTime {
            secs: u64_at(&bytes, 16).cast_signed(),
            nanos: u32_at(&bytes, 24),
        };
        Ok(Self { source, start })
    }

    /// When the capture began that wrote the stream.
    pub fn start(&self) -> FileTime {
        self.start
    }

    /// The next record.
    // Not an iterator: the end is an error, since the archive says how many there must be.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> io::Result<StatRecord> {
        let mut bytes = [0; RECORD_SIZE];
        self.source.read_exact(&mut bytes)?;
        Ok(StatRecord::from_bytes(&bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_come_back() {
        let record = StatRecord {
            ino: u64::MAX - 1,
            ctime: FileTime {
                secs: -5,
                nanos: 999_999_999,
            },
            nlink: 7,
            dev: 8 << 32 | 1,
            allocated: 4096,
        };
        let start = FileTime {
            secs: 1_700_000_000,
            nanos: 5,
        };
        let mut bytes = header(start).to_vec();
        bytes.extend_from_slice(&record.to_bytes());
        let mut reader = StatReader::new(&bytes[..]).unwrap();
        assert_eq!(reader.start(), start);
        assert_eq!(reader.next().unwrap(), record);
        assert_eq!(reader.next().unwrap_err().kind(), io::ErrorKind::UnexpectedEof);
    }

    #[test]
    fn other_streams_are_refused() {
        let mut bytes = header(FileTime::default());
        bytes[8] = 2;
        assert_eq!(
            StatReader::new(&bytes[..]).unwrap_err().kind(),
            io::ErrorKind::InvalidData
        );
        assert!(StatReader::new(&b"RLSTATS"[..]).is_err());
    }

    #[test]
    fn an_empty_record_matches_nothing() {
        let mut stat = FileStat::at(rustix::fs::CWD, c".").unwrap();
        assert!(StatRecord::of(&stat).matches(&stat));
        stat.ino = 0;
        assert!(!StatRecord::of(&stat).matches(&stat));
    }
}
