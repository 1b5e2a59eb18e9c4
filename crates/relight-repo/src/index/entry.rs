//! One line of the index: where a chunk lies. The same 48 bytes in segments and in the local cache, so that
//! building the cache copies and never converts.

use relight_keys::KeyId;

use crate::id::{ChunkId, PackId};
use crate::pack::format::{CLIENT_EXTRA, MAX_CHUNK, TAG};
use crate::pack::{Codec, PackKind, Record};

/// Length of an entry.
pub const ENTRY: usize = 48;
/// Length of a pack's line.
pub const PACK: usize = 32;

/// Where a chunk lies: a pack by its number in the pack table beside, and its record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Entry {
    /// Number of the pack in the table.
    pub pack: u32,
    /// The record in that pack.
    pub record: Record,
}

impl Entry {
    /// Its bytes.
    pub fn encode(&self) -> [u8; ENTRY] {
        let mut bytes = [0; ENTRY];
        bytes[..32].copy_from_slice(&self.record.id.0);
        bytes[32..36].copy_from_slice(&self.pack.to_le_bytes());
        bytes[36..40].copy_from_slice(&self.record.offset.to_le_bytes());
        bytes[40..44].copy_from_slice(&self.record.stored.to_le_bytes());
        let raw = self.record.raw | (self.record.codec as u32) << 28;
        bytes[44..].copy_from_slice(&raw.to_le_bytes());
        bytes
    }

    /// Reads an entry; nothing if it uses an unknown codec, or lengths that no chunk has: they are allocated for.
    pub fn decode(bytes: &[u8; ENTRY]) -> Option<Self> {
        let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
        let mut id = ChunkId::default();
        id.0.copy_from_slice(&bytes[..32]);
        let raw = number(44);
        let codec = Codec::from_number((raw >> 28) as u8)?;
        let record = Record {
            id,
            offset: number(36),
            stored: number(40),
            raw: raw & 0x0fff_ffff,
            codec,
        };
        let possible = record.raw as usize <= MAX_CHUNK
            && (TAG..=MAX_CHUNK + CLIENT_EXTRA + TAG).contains(&(record.stored as usize));
        possible.then_some(Self {
            pack: number(32),
            record,
        })
    }
}

/// A pack as the index knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackLine {
    /// Its identity.
    pub id: PackId,
    /// What it holds.
    pub kind: PackKind,
    /// The data key it is sealed under.
    pub key: KeyId,
    /// Its length in bytes.
    pub size: u64,
}

impl PackLine {
    /// Its bytes.
    pub fn encode(&self) -> [u8; PACK] {
        let mut bytes = [0; PACK];
        bytes[..16].copy_from_slice(&self.id.0);
        bytes[16] = self.kind as u8;
        bytes[20..24].copy_from_slice(&self.key.0.to_le_bytes());
        bytes[24..].copy_from_slice(&self.size.to_le_bytes());
        bytes
    }

    /// Reads a pack's line; nothing if its kind is unknown.
    pub fn decode(bytes: &[u8; PACK]) -> Option<Self> {
        let mut id = PackId::default();
        id.0.copy_from_slice(&bytes[..16]);
        Some(Self {
            id,
            kind: PackKind::from_number(bytes[16])?,
            key: KeyId(u32::from_le_bytes([bytes[20], bytes[21], bytes[22], bytes[23]])),
            size: u64::from_le_bytes([
                bytes[24], bytes[25], bytes[26], bytes[27], bytes[28], bytes[29], bytes[30], bytes[31],
            ]),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_that_no_chunk_has_are_refused() {
        let record = |raw, stored| Record {
            id: ChunkId([5; 32]),
            offset: 64,
            stored,
            raw,
            codec: Codec::Plain,
        };
        let most = MAX_CHUNK as u32;
        let entry = |raw, stored| Entry {
            pack: 3,
            record: record(raw, stored),
        };
        for good in [entry(0, 16), entry(most, most + 16)] {
            assert_eq!(Entry::decode(&good.encode()), Some(good));
        }
        for bad in [entry(most + 1, 100), entry(100, 15), entry(100, u32::MAX)] {
            assert_eq!(Entry::decode(&bad.encode()), None);
        }
    }
}
