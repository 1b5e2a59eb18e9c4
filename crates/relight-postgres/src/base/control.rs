//! What `pg_control` tells of a cluster (PostgreSQL source, `catalog/pg_control.h`, the same layout in its parts that are
//! read here from 14 to 18).

use crate::error::{PostgresError, Result};
use crate::lsn::Lsn;

/// Its path in the data directory.
pub const PATH: &str = "global/pg_control";
/// So the file marks which way round its numbers are and how floating-point numbers look.
const FLOAT_FORMAT: f64 = 1_234_567.0;
/// All that counts fits into a sector.
const MOST: usize = 512;

/// What a server is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Nothing: it was shut down in good order.
    ShutDown,
    /// Nothing: it was shut down while it recovered.
    ShutDownInRecovery,
    /// It recovers.
    Recovering,
    /// It works.
    InProduction,
    /// Something in between.
    Other,
}

impl State {
    fn of(number: u32) -> Self {
        match number {
            1 => Self::ShutDown,
            2 => Self::ShutDownInRecovery,
            4 | 5 => Self::Recovering,
            6 => Self::InProduction,
            _ => Self::Other,
        }
    }
}

/// What a cluster is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// Identity of the cluster.
    pub system: u64,
    /// Version of the catalogs.
    pub catalog: u32,
    /// What the server is doing, or was when it last wrote this.
    pub state: State,
    /// The last checkpoint.
    pub checkpoint: Lsn,
    /// Where replay after it begins.
    pub redo: Lsn,
    /// The timeline of the last checkpoint.
    pub timeline: u32,
    /// Bytes of a data page.
    pub block_size: u32,
    /// Bytes of a segment of the log.
    pub segment_size: u32,
    /// Pages of one file of a relation.
    pub relation_segment: u32,
    /// Whether data pages have checksums.
    pub checksums: bool,
}

impl Control {
    /// Reads the file.
    ///
    /// # Errors
    /// [`PostgresError::Damaged`] if its checksum is wrong: it may have been written to at the same moment.
    pub fn parse(bytes: &[u8]) -> Result<Self> {
        let damaged = |why: &str| PostgresError::damaged(PATH, why);
        if !is_whole(bytes) {
            return Err(damaged("its checksum is wrong"));
        }
        let word = |at: usize| {
            let word = bytes.get(at..)?.first_chunk::<4>()?;
            Some(u32::from_ne_bytes(*word))
        };
        let long = |at: usize| {
            let long = bytes.get(at..)?.first_chunk::<8>()?;
            Some(u64::from_ne_bytes(*long))
        };
        let format = (0..MOST - 8)
            .step_by(8)
            .find(|&at| long(at) == Some(FLOAT_FORMAT.to_bits()))
            .ok_or_else(|| damaged("it comes from a host of another architecture"))?;
        let read = || {
            Some(Self {
                system: long(0)?,
                catalog: word(12)?,
                state: State::of(word(16)?),
                checkpoint: Lsn(long(32)?),
                redo: Lsn(long(40)?),
                timeline: word(48)?,
                block_size: word(format + 8)?,
                relation_segment: word(format + 12)?,
                segment_size: word(format + 20)?,
                checksums: word(format + 44)? > 0,
            })
        };
        let control = read().ok_or_else(|| damaged("it is cut off"))?;
        let power =
            |size: u32, least: u32, most: u32| size.is_power_of_two() && (least..=most).contains(&size);
        if !power(control.block_size, 1 << 10, 32 << 10) || !power(control.segment_size, 1 << 20, 1 << 30) {
            return Err(damaged("its sizes of blocks and segments make no sense"));
        }
        Ok(control)
    }
}

/// Whether its own checksum, a CRC-32C of all before it, is right. Where it stands depends on the version.
fn is_whole(bytes: &[u8]) -> bool {
    let (mut sum, mut at) = (u32::MAX, 0);
    while at + 4 <= bytes.len().min(MOST) {
        let word = &bytes[at..at + 4];
        if at >= 200 && word == (!sum).to_ne_bytes() {
            return true;
        }
        sum = crc32c(sum, word);
        at += 4;
    }
    false
}

/// CRC-32C (RFC 3720, appendix B.4), bit by bit: it is only used on a few hundred bytes.
fn crc32c(mut sum: u32, bytes: &[u8]) -> u32 {
    for &byte in bytes {
        sum ^= u32::from(byte);
        for _ in 0..8 {
            sum = (sum >> 1) ^ (0x82F6_3B78 & (sum & 1).wrapping_neg());
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_the_checksum() {
        assert_eq!(!crc32c(u32::MAX, b"123456789"), 0xE306_9283);
    }

    #[test]
    fn garbage_is_refused() {
        for length in [0, 3, 200, 512, 8192] {
            assert!(Control::parse(&vec![0x5a; length]).is_err());
        }
    }
}
