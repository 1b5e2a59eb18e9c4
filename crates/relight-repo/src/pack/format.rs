//! The bytes of a pack that are not chunks: header, table of contents, trailer.

use relight_keys::{KeyId, RepositoryId};

use super::codec::Codec;
use crate::error::{RepoError, Result};
use crate::id::{ChunkId, PackId};

/// First bytes of every pack.
pub const MAGIC: [u8; 8] = *b"RLPACK\r\n";
/// Last bytes of every pack.
pub const END_MAGIC: [u8; 8] = *b"RLPKEND\n";
/// The version this program writes.
pub const VERSION: u16 = 1;
/// Length of the header.
pub const HEADER: usize = 64;
/// Length of the trailer.
pub const TRAILER: usize = 32;
/// Length of an entry in the table of contents.
pub const ENTRY: usize = 44;
/// Length of the tag that ends each sealed record.
pub const TAG: usize = 16;
/// The largest chunk. The Proxmox formats allow 16 MiB.
pub const MAX_CHUNK: usize = 16 << 20;
/// How much longer than its content a record may be before it is sealed: a client's own header (44 bytes) and the digest
/// it gave (32 bytes).
pub const CLIENT_EXTRA: usize = 76;
/// The largest pack that is written or read.
pub const MAX_PACK: u64 = 256 << 20;
/// Where the table of contents is sealed: no record can start there.
pub const TOC_OFFSET: u64 = u64::MAX;

/// What a pack holds. Listing, browsing and collecting read metadata packs only, so data packs may lie cold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
#[repr(u8)]
pub enum PackKind {
    /// Content.
    Data = 1,
    /// File trees, chunk lists.
    Metadata = 2,
}

impl PackKind {
    /// Both kinds.
    pub const ALL: [Self; 2] = [Self::Data, Self::Metadata];

    /// From its number in a pack or index.
    pub fn from_number(number: u8) -> Option<Self> {
        match number {
            1 => Some(Self::Data),
            2 => Some(Self::Metadata),
            _ => None,
        }
    }

    /// The folder of such packs, with the final slash.
    pub fn prefix(self) -> &'static str {
        match self {
            Self::Data => "packs/data/",
            Self::Metadata => "packs/meta/",
        }
    }

    /// The key of a pack.
    pub fn key(self, id: PackId) -> String {
        let name = id.to_string();
        format!("{}{}/{name}", self.prefix(), &name[..2])
    }

    /// The pack that a key names.
    pub fn parse_key(key: &str) -> Option<(Self, PackId)> {
        Self::ALL.into_iter().find_map(|kind| {
            let (shard, name) = key.strip_prefix(kind.prefix())?.split_once('/')?;
            let id: PackId = name.parse().ok()?;
            (name.starts_with(shard) && shard.len() == 2).then_some((kind, id))
        })
    }
}

/// One sealed chunk in a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Record {
    /// The chunk.
    pub id: ChunkId,
    /// Where the record starts in the pack.
    pub offset: u32,
    /// Length of the record with its tag.
    pub stored: u32,
    /// Length of the chunk's content.
    pub raw: u32,
    /// How the content is written.
    pub codec: Codec,
}

impl Record {
    /// What the seal binds a record to besides the pack: what kind of pack, which chunk, how written.
    pub fn associated_data(&self, kind: PackKind) -> [u8; 40] {
        let mut bytes = [0; 40];
        bytes[0] = VERSION as u8;
        bytes[1] = kind as u8;
        bytes[2] = self.codec as u8;
        bytes[4..8].copy_from_slice(&self.raw.to_le_bytes());
        bytes[8..].copy_from_slice(&self.id.0);
        bytes
    }
}

/// The header of a pack.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// What the pack holds.
    pub kind: PackKind,
    /// The data key it is sealed under.
    pub key: KeyId,
    /// Its identity.
    pub id: PackId,
    /// The repository it belongs to.
    pub repository: RepositoryId,
}

impl Header {
    /// Its bytes. They are the associated data of the table of contents.
    pub fn encode(&self) -> [u8; HEADER] {
        let mut bytes = [0; HEADER];
        bytes[..8].copy_from_slice(&MAGIC);
        bytes[8..10].copy_from_slice(&VERSION.to_le_bytes());
        bytes[10] = self.kind as u8;
        bytes[12..16].copy_from_slice(&self.key.0.to_le_bytes());
        bytes[16..32].copy_from_slice(&self.id.0);
        bytes[32..48].copy_from_slice(&self.repository.0);
        bytes
    }

    /// Reads a header and checks that it is the one of this pack of this repository.
    pub fn decode(bytes: &[u8; HEADER], what: &str, id: PackId, repository: RepositoryId) -> Result<Self> {
        let damaged = |why: &str| RepoError::damaged(what, why);
        if bytes[..8] != MAGIC {
            return Err(damaged("it does not begin as a pack does"));
        }
        let version = u16::from_le_bytes([bytes[8], bytes[9]]);
        if version != VERSION {
            return Err(RepoError::TooNew {
                what: what.to_string(),
                found: u32::from(version),
                known: u32::from(VERSION),
            });
        }
        let mut header = Self {
            kind: PackKind::from_number(bytes[10]).ok_or_else(|| damaged("its kind is unknown"))?,
            key: KeyId(u32::from_le_bytes([bytes[12], bytes[13], bytes[14], bytes[15]])),
            id: PackId::default(),
            repository,
        };
        header.id.0.copy_from_slice(&bytes[16..32]);
        if header.id != id {
            return Err(damaged("it says that it is another pack"));
        }
        if bytes[32..48] != repository.0 {
            return Err(damaged("it belongs to another repository"));
        }
        Ok(header)
    }
}

/// Writes the table of contents (before sealing). Offsets are not written: records follow each other.
pub fn encode_toc(records: &[Record], out: &mut Vec<u8>) {
    for record in records {
        out.extend_from_slice(&record.id.0);
        out.extend_from_slice(&record.raw.to_le_bytes());
        out.extend_from_slice(&record.stored.to_le_bytes());
        out.extend_from_slice(&[record.codec as u8, 0, 0, 0]);
    }
}

/// Reads a table of contents (after opening) of a pack whose records end at `end`.
pub fn decode_toc(bytes: &[u8], end: u64, what: &str) -> Result<Vec<Record>> {
    let damaged = |why: &str| RepoError::damaged(what, why);
    let (entries, rest) = bytes.as_chunks::<ENTRY>();
    if !rest.is_empty() {
        return Err(damaged("its table of contents has half an entry"));
    }
    let mut records = Vec::with_capacity(entries.len());
    let mut offset = HEADER as u64;
    for entry in entries {
        let mut id = ChunkId::default();
        id.0.copy_from_slice(&entry[..32]);
        let number = |at: usize| u32::from_le_bytes([entry[at], entry[at + 1], entry[at + 2], entry[at + 3]]);
        let (raw, stored) = (number(32), number(36));
        let codec = Codec::from_number(entry[40]).ok_or_else(|| damaged("it uses an unknown codec"))?;
        if raw as usize > MAX_CHUNK
            || (stored as usize) < TAG
            || stored as usize > MAX_CHUNK + CLIENT_EXTRA + TAG
        {
            return Err(damaged("its table of contents has an impossible length"));
        }
        let start = u32::try_from(offset).map_err(|_| damaged("it is too large"))?;
        records.push(Record {
            id,
            offset: start,
            stored,
            raw,
            codec,
        });
        offset += u64::from(stored);
    }
    if offset != end {
        return Err(damaged("its table of contents does not cover its records"));
    }
    Ok(records)
}

/// The last bytes of a pack: where its table of contents is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Trailer {
    /// Length of the sealed table of contents, which lies right before the trailer.
    pub toc: u32,
    /// Length of the whole pack: a pack that was cut or grown is noticed at once.
    pub total: u64,
}

impl Trailer {
    /// Its bytes.
    pub fn encode(&self) -> [u8; TRAILER] {
        let mut bytes = [0; TRAILER];
        bytes[..4].copy_from_slice(&self.toc.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.total.to_le_bytes());
        bytes[24..].copy_from_slice(&END_MAGIC);
        bytes
    }

    /// Reads the trailer of a pack of `total` bytes.
    pub fn decode(bytes: &[u8; TRAILER], total: u64, what: &str) -> Result<Self> {
        let damaged = |why: &str| RepoError::damaged(what, why);
        if bytes[24..] != END_MAGIC {
            return Err(damaged("it does not end as a pack does"));
        }
        let trailer = Self {
            toc: u32::from_le_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]),
            total: u64::from_le_bytes([
                bytes[8], bytes[9], bytes[10], bytes[11], bytes[12], bytes[13], bytes[14], bytes[15],
            ]),
        };
        let fixed = (HEADER + TRAILER + TAG) as u64;
        if trailer.total != total || u64::from(trailer.toc) + fixed - TAG as u64 > total {
            return Err(damaged("its length is not what it says"));
        }
        if (trailer.toc as usize) < TAG || !(trailer.toc as usize - TAG).is_multiple_of(ENTRY) {
            return Err(damaged("its table of contents has an impossible length"));
        }
        Ok(trailer)
    }
}
