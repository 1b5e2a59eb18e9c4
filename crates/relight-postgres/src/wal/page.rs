//! Page headers of the log. Source: PostgreSQL's `src/include/access/xlog_internal.h`, versions 14 to 18.

use super::error::{Result, WalError};
use super::name::{SegmentSize, Timeline};
use crate::lsn::Lsn;

/// Bytes of a page (`XLOG_BLCKSZ` as everybody builds it).
pub const PAGE: u64 = 8192;
/// Bytes of the header of most pages, rounded up to where the content begins.
pub const SHORT: usize = 24;
/// Bytes of the header of the first page of a segment.
pub const LONG: usize = 40;

/// The page begins in the middle of a record.
const CONTINUES: u16 = 1;
/// The header is long.
const HAS_LONG: u16 = 2;
/// All flags there are.
const FLAGS: u16 = 0xf;
/// The record that was to be continued here was lost in a crash; another one begins.
const OVERWRITES: u16 = 8;

/// The major version that writes pages with this magic number.
fn major(magic: u16) -> Option<u32> {
    Some(match magic {
        0xd10d => 14,
        0xd110 => 15,
        0xd113 => 16,
        0xd116 => 17,
        0xd118 => 18,
        _ => return None,
    })
}

/// The header of a page.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageHeader {
    /// The major version of the server that wrote it.
    pub major: u32,
    /// The timeline it was written on (of the page; a segment at a fork has pages of two).
    pub timeline: Timeline,
    /// Its position in the log.
    pub at: Lsn,
    /// Bytes of a record that began on an earlier page and goes on here, if one does.
    pub continues: Option<u32>,
    /// A record that began on an earlier page is lost; none goes on here.
    pub overwrites: bool,
    /// What only the first page of a segment tells.
    pub long: Option<LongHeader>,
}

/// What the first page of a segment tells besides.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LongHeader {
    /// The cluster's identity.
    pub system: u64,
    /// Bytes of its segments.
    pub segment_size: SegmentSize,
}

impl PageHeader {
    /// Reads the header of the page that should lie at `at`. `bytes` are at least [`SHORT`], at the beginning of a
    /// segment [`LONG`].
    pub fn read(bytes: &[u8], at: Lsn) -> Result<Self> {
        let wrong = |why: String| WalError::BadPage { at, why };
        let short = || wrong("it ends within its header".into());
        let u16_at = |place: usize| {
            bytes
                .get(place..place + 2)?
                .try_into()
                .ok()
                .map(u16::from_le_bytes)
        };
        let u32_at = |place: usize| {
            bytes
                .get(place..place + 4)?
                .try_into()
                .ok()
                .map(u32::from_le_bytes)
        };
        let u64_at = |place: usize| {
            bytes
                .get(place..place + 8)?
                .try_into()
                .ok()
                .map(u64::from_le_bytes)
        };
        if bytes.len() < SHORT {
            return Err(short());
        }
        let magic = u16_at(0).ok_or_else(short)?;
        let major = major(magic).ok_or_else(|| {
            wrong(match magic {
                0 => "it is empty".to_string(),
                _ => format!("its magic number {magic:#06x} is that of no PostgreSQL from 14 to 18"),
            })
        })?;
        let flags = u16_at(2).ok_or_else(short)?;
        if flags & !FLAGS != 0 {
            return Err(wrong(format!("it has unknown flags {flags:#06x}")));
        }
        let found = Lsn(u64_at(8).ok_or_else(short)?);
        if found != at {
            return Err(wrong(format!("it says that it lies at {found}")));
        }
        let timeline = Timeline(u32_at(4).ok_or_else(short)?);
        let remaining = u32_at(16).ok_or_else(short)?;
        let long = match flags & HAS_LONG {
            0 => None,
            _ => {
                let size = u64::from(u32_at(32).ok_or_else(short)?);
                let page = u32_at(36).ok_or_else(short)?;
                if u64::from(page) != PAGE {
                    return Err(wrong(format!(
                        "its cluster was built with log pages of {page} bytes instead of 8192"
                    )));
                }
                Some(LongHeader {
                    system: u64_at(24).ok_or_else(short)?,
                    segment_size: SegmentSize::try_from(size).map_err(|error| wrong(error.to_string()))?,
                })
            }
        };
        Ok(Self {
            major,
            timeline,
            at,
            continues: (flags & CONTINUES != 0).then_some(remaining),
            overwrites: flags & OVERWRITES != 0,
            long,
        })
    }

    /// Reads the header of the first page of a segment, which knows where it lies.
    pub fn first(bytes: &[u8]) -> Result<(Self, LongHeader)> {
        let at = bytes
            .get(8..16)
            .and_then(|at| at.try_into().ok())
            .map_or(0, u64::from_le_bytes);
        let header = Self::read(bytes, Lsn(at))?;
        let wrong = |why: &str| WalError::BadPage {
            at: header.at,
            why: why.into(),
        };
        let long = header
            .long
            .ok_or_else(|| wrong("it is not the first page of a segment"))?;
        if long.segment_size.floor(header.at) != header.at {
            return Err(wrong("no segment begins there"));
        }
        Ok((header, long))
    }
}
