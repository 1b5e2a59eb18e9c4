//! The bytes of a parity object, `parity/<aa>/<pack>`. Numbers are little endian.
//!
//! | part | bytes |
//! | --- | --- |
//! | head | magic 8, version u16, 2 zero, block u32, originals u32, recoveries u32, pack length u64, pack identity 16, XXH3-128 of the pack 16, then one XXH3-64 for each block of the pack and for each recovery block, then the XXH3-64 of all this |
//! | recovery blocks | `recoveries` times `block` |
//! | head | the same again: damage at either end leaves one |
//! | end | length of the head u32, 4 zero, magic 8 |
//!
//! The sums find damage; they are not proof against forgery. That is what the tags in the pack are for, and they are
//! checked after every repair.

use xxhash_rust::xxh3::{xxh3_64, xxh3_128};

use crate::error::{RepoError, Result};
use crate::id::PackId;
use crate::pack::format::MAX_PACK;

/// Folder of the parity objects.
pub(crate) const PREFIX: &str = "parity/";
const MAGIC: [u8; 8] = *b"RLPARITY";
const END_MAGIC: [u8; 8] = *b"RLPAREND";
const VERSION: u16 = 1;
/// Length of the head without the sums of the blocks and its own.
const FIXED: usize = 64;
/// Length of the end.
const END: usize = 16;
/// A pack is cut into about this many blocks, so that scattered small damage costs little of the parity.
const BLOCKS: u64 = 1024;
/// Blocks are a multiple of a disk's sector.
const SECTOR: u64 = 4096;
/// Never more blocks than this, whatever an object claims.
const MAX_BLOCKS: usize = 1 << 15;

/// The key of a pack's parity.
pub(crate) fn key(pack: PackId) -> String {
    let name = pack.to_string();
    format!("{PREFIX}{}/{name}", &name[..2])
}

/// The pack whose parity a key names.
pub(crate) fn parse_key(key: &str) -> Option<PackId> {
    let (shard, name) = key.strip_prefix(PREFIX)?.split_once('/')?;
    (shard.len() == 2 && name.starts_with(shard))
        .then(|| name.parse().ok())
        .flatten()
}

/// How a pack is cut into blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Layout {
    /// Length of a block in bytes; the last block of a pack is filled up with zeros.
    pub block: usize,
    /// Blocks of the pack.
    pub originals: usize,
    /// Blocks of parity.
    pub recoveries: usize,
}

impl Layout {
    /// For a pack of `size` bytes (at least one) and parity of `percent` of it (at most its whole length).
    pub fn of(size: u64, percent: u8) -> Self {
        let block = if size < SECTOR {
            size.max(1).next_multiple_of(64)
        } else {
            size.div_ceil(BLOCKS).next_multiple_of(SECTOR)
        };
        let originals = size.div_ceil(block).max(1);
        let recoveries = (originals * u64::from(percent.min(100))).div_ceil(100).max(1);
        Self {
            block: block as usize,
            originals: originals as usize,
            recoveries: recoveries as usize,
        }
    }
}

/// What a parity object says of its pack.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    pub layout: Layout,
    pub pack: PackId,
    pub size: u64,
    pub digest: u128,
    /// Of the blocks of the pack, then of the recovery blocks.
    pub sums: Vec<u64>,
}

impl Head {
    /// Its bytes.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FIXED + self.sums.len() * 8 + 8);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&VERSION.to_le_bytes());
        bytes.extend_from_slice(&[0; 2]);
        for number in [self.layout.block, self.layout.originals, self.layout.recoveries] {
            bytes.extend_from_slice(&(number as u32).to_le_bytes());
        }
        bytes.extend_from_slice(&self.size.to_le_bytes());
        bytes.extend_from_slice(&self.pack.0);
        bytes.extend_from_slice(&self.digest.to_le_bytes());
        for sum in &self.sums {
            bytes.extend_from_slice(&sum.to_le_bytes());
        }
        let own = xxh3_64(&bytes);
        bytes.extend_from_slice(&own.to_le_bytes());
        bytes
    }

    /// The end of an object with this head.
    pub fn end(length: usize) -> [u8; END] {
        let mut bytes = [0; END];
        bytes[..4].copy_from_slice(&(length as u32).to_le_bytes());
        bytes[8..].copy_from_slice(&END_MAGIC);
        bytes
    }

    /// Reads the head at the front of an object, or the one at its end if that is damaged.
    pub fn read(object: &[u8], pack: PackId) -> Result<Self> {
        let front = Self::decode(object, pack);
        if matches!(front, Ok(_) | Err(RepoError::TooNew { .. })) {
            return front;
        }
        let second = || {
            let (rest, end) = object.split_last_chunk::<END>()?;
            let length = u32::from_le_bytes([end[0], end[1], end[2], end[3]]) as usize;
            let start = rest.len().checked_sub(length)?;
            (end[8..] == END_MAGIC).then(|| Self::decode(&rest[start..], pack))
        };
        second().unwrap_or(front)
    }

    fn decode(bytes: &[u8], pack: PackId) -> Result<Self> {
        let what = || format!("parity of pack {pack}");
        let damaged = |why: &str| RepoError::damaged(what(), why);
        let fixed = bytes
            .first_chunk::<FIXED>()
            .ok_or_else(|| damaged("it was cut short"))?;
        if fixed[..8] != MAGIC {
            return Err(damaged("it does not begin as parity does"));
        }
        let number = |at: usize| u32::from_le_bytes([fixed[at], fixed[at + 1], fixed[at + 2], fixed[at + 3]]);
        let (block, originals, recoveries) = (number(12) as usize, number(16) as usize, number(20) as usize);
        let counted = originals.saturating_add(recoveries);
        if counted > MAX_BLOCKS {
            return Err(damaged("it claims an impossible number of blocks"));
        }
        let end = FIXED + counted * 8;
        let (body, own) = bytes
            .get(..end + 8)
            .and_then(|bytes| bytes.split_last_chunk::<8>())
            .ok_or_else(|| damaged("it was cut short"))?;
        if xxh3_64(body) != u64::from_le_bytes(*own) {
            return Err(damaged("its head does not match its sum"));
        }
        let version = u16::from_le_bytes([fixed[8], fixed[9]]);
        if version != VERSION {
            return Err(RepoError::TooNew {
                what: what(),
                found: u32::from(version),
                known: u32::from(VERSION),
            });
        }
        let size = u64::from(number(24)) | u64::from(number(28)) << 32;
        let covered = block as u64 * originals as u64;
        if size > MAX_PACK
            || size == 0
            || block % 64 != 0
            || recoveries == 0
            || !(size..size + block as u64).contains(&covered)
        {
            return Err(damaged("its counts contradict each other"));
        }
        if fixed[32..48] != pack.0 {
            return Err(damaged("it is that of another pack"));
        }
        let mut digest = [0; 16];
        digest.copy_from_slice(&fixed[48..64]);
        let sums = body[FIXED..].as_chunks::<8>().0.iter();
        Ok(Self {
            layout: Layout {
                block,
                originals,
                recoveries,
            },
            pack,
            size,
            digest: u128::from_le_bytes(digest),
            sums: sums.map(|sum| u64::from_le_bytes(*sum)).collect(),
        })
    }

    /// Length of the encoded head.
    pub fn length(&self) -> usize {
        FIXED + self.sums.len() * 8 + 8
    }

    /// The recovery block `number` of an object with this head, if the object has it and it is whole.
    pub fn recovery<'a>(&self, object: &'a [u8], number: usize) -> Option<&'a [u8]> {
        let start = self.length() + number * self.layout.block;
        let block = object.get(start..start + self.layout.block)?;
        (xxh3_64(block) == self.sums[self.layout.originals + number]).then_some(block)
    }

    /// Whether `bytes` are the pack.
    pub fn is_pack(&self, bytes: &[u8]) -> bool {
        bytes.len() as u64 == self.size && xxh3_128(bytes) == self.digest
    }
}
