//! Index segments: immutable, sealed objects that say where the chunks of some packs lie.
//!
//! A writer adds segments; a collection replaces many by few and names those it replaced, so that a local cache
//! which holds the old ones need not read the new one. The layout is in `docs/format.md`, "Index segments".

use relight_keys::{DataKey, KeySet, ObjectKind, RepositoryId};

use super::entry::{ENTRY, Entry, PACK, PackLine};
use crate::error::{RepoError, Result};
use crate::id::SegmentId;
use crate::pack::Record;

/// Folder of the segments.
pub const PREFIX: &str = "index/";
/// A segment holds at most about this many entries, so that neither writing nor reading one takes much memory.
pub const MAX_ENTRIES: usize = 256 * 1024;
/// The version this program writes.
const VERSION: u32 = 1;
/// Length of the fixed part in front.
const HEADER: usize = 24;

/// The content of a segment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Segment {
    /// Segments whose still useful content is in this one.
    pub supersedes: Vec<SegmentId>,
    /// Made from the packs by a repair: may know more than what it supersedes.
    pub rebuilt: bool,
    /// The packs it speaks of.
    pub packs: Vec<PackLine>,
    /// Entries, sorted by chunk.
    pub entries: Vec<Entry>,
}

impl Segment {
    /// Adds a pack with all its records; call [`Self::sort`] after the last.
    pub fn add_pack(&mut self, pack: PackLine, records: &[Record]) {
        let number = self.packs.len() as u32;
        self.packs.push(pack);
        self.entries
            .extend(records.iter().map(|&record| Entry { pack: number, record }));
    }

    /// Brings the entries into order.
    pub fn sort(&mut self) {
        self.entries
            .sort_unstable_by_key(|entry| (entry.record.id, entry.pack));
    }

    /// The key of a segment.
    pub fn key(id: SegmentId) -> String {
        format!("{PREFIX}{id}")
    }

    /// The segment that a key names.
    pub fn parse_key(key: &str) -> Option<SegmentId> {
        key.strip_prefix(PREFIX)?.parse().ok()
    }

    /// Seals it.
    pub fn seal(&self, key: &DataKey, repository: RepositoryId, id: SegmentId) -> Result<Vec<u8>> {
        let length =
            HEADER + self.supersedes.len() * 16 + self.packs.len() * PACK + self.entries.len() * ENTRY;
        let mut plain = Vec::with_capacity(length);
        plain.extend_from_slice(&VERSION.to_le_bytes());
        plain.extend_from_slice(&u32::from(self.rebuilt).to_le_bytes());
        plain.extend_from_slice(&(self.supersedes.len() as u32).to_le_bytes());
        plain.extend_from_slice(&(self.packs.len() as u32).to_le_bytes());
        plain.extend_from_slice(&(self.entries.len() as u64).to_le_bytes());
        for old in &self.supersedes {
            plain.extend_from_slice(&old.0);
        }
        for pack in &self.packs {
            plain.extend_from_slice(&pack.encode());
        }
        for entry in &self.entries {
            plain.extend_from_slice(&entry.encode());
        }
        crate::sealed::seal(key, repository, ObjectKind::INDEX_SEGMENT, &Self::key(id), &plain)
    }

    /// Opens and checks one.
    pub fn open(sealed: &[u8], keys: &KeySet, repository: RepositoryId, id: SegmentId) -> Result<Self> {
        let key = Self::key(id);
        let plain = crate::sealed::open(keys, repository, ObjectKind::INDEX_SEGMENT, &key, sealed)?;
        Self::decode(&plain, &key)
    }

    /// Reads the opened bytes of a segment.
    pub fn decode(plain: &[u8], what: &str) -> Result<Self> {
        let damaged = |why: &str| RepoError::damaged(what, why);
        let (header, rest) = plain
            .split_at_checked(HEADER)
            .ok_or_else(|| damaged("it was cut short"))?;
        let number =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        if number(0) != VERSION {
            return Err(RepoError::TooNew {
                what: what.to_string(),
                found: number(0),
                known: VERSION,
            });
        }
        let (supersedes, packs) = (number(8) as usize, number(12) as usize);
        let entries = usize::try_from(u64::from(number(16)) | u64::from(number(20)) << 32)
            .map_err(|_| damaged("it claims too much"))?;
        // What it claims must be exactly what is there, before anything is allocated for it.
        let claimed =
            (supersedes as u128) * 16 + (packs as u128) * PACK as u128 + (entries as u128) * ENTRY as u128;
        if claimed != rest.len() as u128 {
            return Err(damaged("it claims more or less than it holds"));
        }
        let (old, rest) = rest.split_at(supersedes * 16);
        let (lines, rest) = rest.split_at(packs * PACK);
        let mut segment = Self {
            rebuilt: number(4) & 1 != 0,
            ..Self::default()
        };
        segment.supersedes = old.as_chunks::<16>().0.iter().map(|id| SegmentId(*id)).collect();
        for line in lines.as_chunks::<PACK>().0 {
            let line = PackLine::decode(line).ok_or_else(|| damaged("it names an unknown kind of pack"))?;
            segment.packs.push(line);
        }
        segment.entries.reserve_exact(entries);
        for bytes in rest.as_chunks::<ENTRY>().0 {
            let entry = Entry::decode(bytes).ok_or_else(|| damaged("it holds an impossible entry"))?;
            let previous = segment.entries.last().map(|last| last.record.id);
            if entry.pack as usize >= packs || previous.is_some_and(|previous| previous > entry.record.id) {
                return Err(damaged("its entries are out of order"));
            }
            segment.entries.push(entry);
        }
        Ok(segment)
    }
}
