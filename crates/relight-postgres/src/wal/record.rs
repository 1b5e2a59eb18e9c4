//! Records of the log, as far as the log's times need them read: who ended a transaction when, and named points.
//! Source: PostgreSQL's `src/include/access/xlogrecord.h`, `xact.h`, `rmgrlist.h` and `xlog_internal.h`.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::lsn::Lsn;

/// Bytes of a record's header.
pub const HEADER: usize = 24;
/// No record is longer (`XLogRecordMaxSize`).
pub const MAX_RECORD: u32 = 1020 << 20;
/// How much of a record's body is looked at. What is looked for lies at its beginning.
pub const KEPT: usize = 256;

/// Seconds from 1970 to 2000, from where PostgreSQL counts.
const EPOCH: i64 = 946_684_800;

/// A record's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RecordHeader {
    /// Bytes of the record, with this header.
    pub length: u32,
    /// The transaction it belongs to.
    pub xid: u32,
    /// Where the record before it begins.
    pub previous: Lsn,
    /// What it is, for its resource manager.
    pub info: u8,
    /// The resource manager.
    pub manager: u8,
    /// CRC-32C of the body, then of the header up to here.
    pub crc: u32,
}

impl RecordHeader {
    /// Reads it.
    pub fn read(bytes: &[u8; HEADER]) -> Self {
        let u32_at = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        Self {
            length: u32_at(0),
            xid: u32_at(4),
            previous: Lsn(u64::from(u32_at(12)) << 32 | u64::from(u32_at(8))),
            info: bytes[16],
            manager: bytes[17],
            crc: u32_at(20),
        }
    }

    /// Whether the rest of its segment is empty.
    pub fn is_switch(&self) -> bool {
        self.manager == MANAGER_XLOG && self.info & 0xf0 == XLOG_SWITCH
    }
}

const MANAGER_XLOG: u8 = 0;
const MANAGER_TRANSACTION: u8 = 1;
const XLOG_SWITCH: u8 = 0x40;
const XLOG_RESTORE_POINT: u8 = 0x70;
/// Length of a restore point's name in its record.
const POINT_NAME: usize = 64;

/// What a record tells about time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// A transaction was committed, also one that had been prepared.
    Commit(Timestamp),
    /// A transaction was given up, also one that had been prepared.
    Abort(Timestamp),
    /// A transaction was prepared.
    Prepare(Timestamp),
    /// Somebody named this moment.
    Point(Timestamp, String),
}

/// A moment that somebody named with `pg_create_restore_point`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// Its name.
    pub name: String,
    /// When.
    pub time: Timestamp,
    /// Where its record ends.
    pub at: Lsn,
}

/// What a record tells, from its header and the first [`KEPT`] bytes of its body.
pub fn event(header: &RecordHeader, body: &[u8]) -> Option<Event> {
    match header.manager {
        MANAGER_TRANSACTION => {
            let data = main_data(body)?;
            match header.info & 0x70 {
                0x00 | 0x30 => Some(Event::Commit(time(data, 0)?)),
                0x20 | 0x40 => Some(Event::Abort(time(data, 0)?)),
                0x10 => Some(Event::Prepare(time(data, 16)?)),
                _ => None,
            }
        }
        MANAGER_XLOG if header.info & 0xf0 == XLOG_RESTORE_POINT => {
            let data = main_data(body)?;
            let name = data.get(8..8 + POINT_NAME)?;
            let end = name.iter().position(|&byte| byte == 0).unwrap_or(POINT_NAME);
            Some(Event::Point(
                time(data, 0)?,
                String::from_utf8_lossy(&name[..end]).into_owned(),
            ))
        }
        _ => None,
    }
}

/// The main data of a record that refers to no block: behind the few headers that come first.
fn main_data(mut body: &[u8]) -> Option<&[u8]> {
    loop {
        let (&id, rest) = body.split_first()?;
        body = match id {
            // Short and long length of the main data.
            255 => return rest.get(1..),
            254 => return rest.get(4..),
            // Where a replicated transaction comes from.
            253 => rest.get(2..)?,
            // The transaction that this one is part of.
            252 => rest.get(4..)?,
            _ => return None,
        };
    }
}

fn time(data: &[u8], at: usize) -> Option<Timestamp> {
    let bytes = data.get(at..at + 8)?.try_into().ok()?;
    // Microseconds since 2000.
    let micros = i64::from_le_bytes(bytes).checked_add(EPOCH * 1_000_000)?;
    Timestamp::from_microsecond(micros).ok()
}
