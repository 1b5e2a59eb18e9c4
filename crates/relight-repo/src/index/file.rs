//! A local index file: the entries of some segments, sorted, memory-mapped, with a filter in front.
//!
//! Layout (little endian; local only, so it may change at any time: a file of another version is thrown away):
//!
//! | part | bytes |
//! | --- | --- |
//! | header | 64: magic 8, entries u64, packs u32, segments u32, filter blocks u32, bucket bits u32, check u64 |
//! | segments | 16 each: which segments' content this is |
//! | packs | 32 each |
//! | buckets | 4 each, 2^bits + 1 of them: first entry of each bucket of leading bits |
//! | filter | 64 each: blocks of a Bloom filter, 32 bits an entry |
//! | entries | 48 each |
//!
//! A chunk that is not there costs one cache line of the filter, which is kept in memory, so no I/O.

use std::cmp::Ordering;
use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use memmap2::{Advice, Mmap, UncheckedAdvice};

use super::entry::{ENTRY, Entry, PACK, PackLine};
use crate::id::{ChunkId, SegmentId};

const MAGIC: [u8; 8] = *b"RLIDX\x02\r\n";
const HEADER: usize = 64;
const BLOCK: usize = 64;
/// Bits of the filter for each entry, and how many of them an entry sets: it is mistaken once in about 100,000 times.
const FILTER_BITS: u64 = 32;
const FILTER_HASHES: usize = 10;
/// Entries in a bucket, about.
const BUCKET: u64 = 32;

/// An open local index file.
#[derive(Debug)]
pub struct IndexFile {
    path: PathBuf,
    map: Mmap,
    filter: Box<[[u8; BLOCK]]>,
    segments: Vec<SegmentId>,
    packs: Vec<PackLine>,
    buckets_at: usize,
    bucket_bits: u32,
    entries_at: usize,
    entries: usize,
}

/// Where the parts of a file with these counts begin.
struct Layout {
    segments_at: usize,
    packs_at: usize,
    buckets_at: usize,
    filter_at: usize,
    entries_at: usize,
    total: usize,
}

impl Layout {
    fn of(entries: u64, packs: u32, segments: u32, blocks: u32, bits: u32) -> Option<Self> {
        let segments_at = HEADER;
        let packs_at = segments_at.checked_add((segments as usize).checked_mul(16)?)?;
        let buckets_at = packs_at.checked_add((packs as usize).checked_mul(PACK)?)?;
        let buckets = 1usize.checked_shl(bits)?.checked_add(1)?;
        let filter_at = buckets_at
            .checked_add(buckets.checked_mul(4)?)?
            .next_multiple_of(BLOCK);
        let entries_at = filter_at.checked_add((blocks as usize).checked_mul(BLOCK)?)?;
        let total = entries_at.checked_add(usize::try_from(entries).ok()?.checked_mul(ENTRY)?)?;
        Some(Self {
            segments_at,
            packs_at,
            buckets_at,
            filter_at,
            entries_at,
            total,
        })
    }
}

/// The leading bytes of an identity as a number that sorts as they do.
fn lead_of(id: &[u8]) -> u64 {
    id.first_chunk().map_or(0, |lead| u64::from_be_bytes(*lead))
}

fn bucket_of(id: &ChunkId, bits: u32) -> usize {
    if bits == 0 {
        0
    } else {
        (lead_of(&id.0) >> (64 - bits)) as usize
    }
}

/// The block and the bits in it that stand for a chunk. Identities are digests: their bytes are as good as hashes.
fn filter_place(id: &ChunkId, blocks: usize) -> (usize, [u16; FILTER_HASHES]) {
    let word = |at: usize| u32::from_le_bytes([id.0[at], id.0[at + 1], id.0[at + 2], id.0[at + 3]]);
    let block = (u64::from(word(8)) * blocks as u64) >> 32;
    let mut bits = [0; FILTER_HASHES];
    for (at, bit) in bits.iter_mut().enumerate() {
        *bit = u16::from_le_bytes([id.0[12 + 2 * at], id.0[13 + 2 * at]]) % (BLOCK as u16 * 8);
    }
    (block as usize, bits)
}

impl IndexFile {
    /// Opens a file; an error of kind `InvalidData` means that it is not one of this version or was cut.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        // SAFETY: the file is only ever created under a name of its own by rename and never written again, so the
        // mapped bytes do not change; a disk error while reading raises SIGBUS as for any mapped file.
        let map = unsafe { Mmap::map(&file)? };
        // A look-up wants one page; what lies around it is of no use.
        map.advise(Advice::Random)?;
        let invalid = || io::Error::from(io::ErrorKind::InvalidData);
        let header = map.first_chunk::<HEADER>().ok_or_else(invalid)?;
        if header[..8] != MAGIC {
            return Err(invalid());
        }
        let number =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let entries = u64::from(number(8)) | u64::from(number(12)) << 32;
        let (packs, segments, blocks, bucket_bits) = (number(16), number(20), number(24), number(28));
        if bucket_bits > 40 {
            return Err(invalid());
        }
        let layout = Layout::of(entries, packs, segments, blocks, bucket_bits).ok_or_else(invalid)?;
        if layout.total != map.len() || blocks == 0 {
            return Err(invalid());
        }
        // These parts are read whole, which goes faster than page by page.
        let mut front = vec![0; layout.buckets_at - layout.segments_at];
        file.read_exact_at(&mut front, layout.segments_at as u64)?;
        let (ids, lines) = front.split_at(layout.packs_at - layout.segments_at);
        let segments = ids.as_chunks::<16>().0.iter().map(|id| SegmentId(*id)).collect();
        let packs = lines
            .as_chunks::<PACK>()
            .0
            .iter()
            .map(PackLine::decode)
            .collect::<Option<_>>();
        let mut filter = vec![[0; BLOCK]; blocks as usize].into_boxed_slice();
        file.read_exact_at(filter.as_flattened_mut(), layout.filter_at as u64)?;
        Ok(Self {
            path: path.to_path_buf(),
            packs: packs.ok_or_else(invalid)?,
            segments,
            filter,
            buckets_at: layout.buckets_at,
            bucket_bits,
            entries_at: layout.entries_at,
            entries: entries as usize,
            map,
        })
    }

    /// Its bytes will be read from front to back.
    pub(super) fn will_be_read_through(&self) {
        let _ = self.map.advise(Advice::Sequential);
    }

    /// The entries before `at` have been read and are not needed soon: the memory they take is given back.
    pub(super) fn was_read_to(&self, at: usize) {
        let end = (self.entries_at + at * ENTRY).min(self.map.len()) / 4096 * 4096;
        // SAFETY: the mapping is of a file and never written to: pages that are dropped come back from the file.
        let _ = unsafe { self.map.unchecked_advise_range(UncheckedAdvice::DontNeed, 0, end) };
    }

    /// Where it lies.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Segments whose content it has.
    pub fn segments(&self) -> &[SegmentId] {
        &self.segments
    }

    /// The packs it speaks of.
    pub fn packs(&self) -> &[PackLine] {
        &self.packs
    }

    /// How many entries it has.
    pub fn len(&self) -> usize {
        self.entries
    }

    /// Whether it has none.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// An entry by its place in the order.
    pub fn entry(&self, at: usize) -> Option<Entry> {
        self.bytes(at)
            .and_then(Entry::decode)
            .filter(|entry| (entry.pack as usize) < self.packs.len())
    }

    fn bytes(&self, at: usize) -> Option<&[u8; ENTRY]> {
        let start = self.entries_at + at * ENTRY;
        self.map.get(start..)?.first_chunk()
    }

    fn id(&self, at: usize) -> Option<&[u8]> {
        self.bytes(at).map(|bytes| &bytes[..32])
    }

    fn bucket(&self, number: usize) -> usize {
        let start = self.buckets_at + number * 4;
        let bytes = self
            .map
            .get(start..start + 4)
            .and_then(|bytes| bytes.first_chunk());
        bytes
            .map_or(0, |bytes| u32::from_le_bytes(*bytes) as usize)
            .min(self.entries)
    }

    /// All places where a chunk lies.
    pub fn find<'a>(&'a self, id: &'a ChunkId) -> impl Iterator<Item = (Entry, &'a PackLine)> + 'a {
        self.positions(id)
            .map(|(_, entry)| (entry, &self.packs[entry.pack as usize]))
    }

    /// The entries of a chunk, each with its place in the order.
    pub fn positions<'a>(&'a self, id: &'a ChunkId) -> impl Iterator<Item = (usize, Entry)> + 'a {
        let from = if self.may_have(id) {
            self.lower_bound(id)
        } else {
            self.entries
        };
        (from..self.entries)
            .take_while(move |&at| self.id(at).is_some_and(|found| found == id.0))
            .filter_map(|at| self.entry(at).map(|entry| (at, entry)))
    }

    fn may_have(&self, id: &ChunkId) -> bool {
        let (block, bits) = filter_place(id, self.filter.len());
        let block = &self.filter[block];
        bits.iter()
            .all(|&bit| block[usize::from(bit / 8)] & (1 << (bit % 8)) != 0)
    }

    /// Whether the entry `at` comes before `id`.
    fn is_before(&self, at: usize, lead: u64, id: &ChunkId) -> bool {
        self.id(at).is_some_and(|found| match lead_of(found).cmp(&lead) {
            Ordering::Equal => found < &id.0[..],
            order => order == Ordering::Less,
        })
    }

    fn lower_bound(&self, id: &ChunkId) -> usize {
        let bucket = bucket_of(id, self.bucket_bits);
        let (mut low, mut high) = (self.bucket(bucket), self.bucket(bucket + 1));
        // Identities are digests, so evenly spread: begin where this one should be, and widen the steps from there. That
        // touches one or two cache lines, where halving touches five. Identities that a client made up cost halving.
        let lead = lead_of(&id.0);
        let within = u128::from(lead << self.bucket_bits);
        let mut next = low + ((high.saturating_sub(low) as u128 * within) >> 64) as usize;
        let mut step = 1;
        while low < high {
            if self.is_before(next, lead, id) {
                low = next + 1;
                next = low.saturating_add(step - 1);
            } else {
                high = next;
                next = high.wrapping_sub(step);
            }
            step *= 2;
            if step > 8 || !(low..high).contains(&next) {
                next = low + high.saturating_sub(low) / 2;
            }
        }
        low
    }

    /// Writes a file from `count` entries in order (or fewer, if `entries` drops some) and opens it.
    pub fn write(
        path: &Path,
        segments: &[SegmentId],
        packs: &[PackLine],
        count: usize,
        entries: impl Iterator<Item = Entry>,
    ) -> io::Result<Self> {
        let bits = (count as u64 / BUCKET).checked_ilog2().unwrap_or(0);
        let blocks = (count as u64 * FILTER_BITS).div_ceil(BLOCK as u64 * 8).max(1);
        let too_large = || io::Error::from(io::ErrorKind::FileTooLarge);
        let blocks = u32::try_from(blocks).map_err(|_| too_large())?;
        let layout = Layout::of(
            count as u64,
            packs.len() as u32,
            segments.len() as u32,
            blocks,
            bits,
        )
        .ok_or_else(too_large)?;
        let mut filter = vec![[0u8; BLOCK]; blocks as usize];
        let mut buckets = vec![0u32; (1 << bits) + 1];
        let temporary = path.with_extension(format!("tmp{}", std::process::id()));
        let file = File::create(&temporary)?;
        let mut out = BufWriter::with_capacity(1 << 20, &file);
        out.write_all(&vec![0; layout.entries_at])?;
        let mut written = 0u64;
        for entry in entries {
            let id = &entry.record.id;
            let (block, places) = filter_place(id, blocks as usize);
            for bit in places {
                filter[block][usize::from(bit / 8)] |= 1 << (bit % 8);
            }
            buckets[bucket_of(id, bits) + 1] += 1;
            out.write_all(&entry.encode())?;
            written += 1;
        }
        out.flush()?;
        drop(out);
        for at in 1..buckets.len() {
            buckets[at] += buckets[at - 1];
        }
        let mut front = Vec::with_capacity(layout.entries_at);
        front.extend_from_slice(&MAGIC);
        front.extend_from_slice(&written.to_le_bytes());
        for number in [packs.len() as u32, segments.len() as u32, blocks, bits] {
            front.extend_from_slice(&number.to_le_bytes());
        }
        front.resize(HEADER, 0);
        segments.iter().for_each(|id| front.extend_from_slice(&id.0));
        packs
            .iter()
            .for_each(|pack| front.extend_from_slice(&pack.encode()));
        buckets
            .iter()
            .for_each(|first| front.extend_from_slice(&first.to_le_bytes()));
        front.resize(layout.filter_at, 0);
        filter.iter().for_each(|block| front.extend_from_slice(block));
        file.write_all_at(&front, 0)?;

        file.sync_data()?;
        std::fs::rename(&temporary, path)?;
        Self::open(path)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use relight_keys::KeyId;

    use super::*;
    use crate::id::PackId;
    use crate::pack::{Codec, PackKind, Record};

    fn entry(id: ChunkId, offset: u32) -> Entry {
        let record = Record {
            id,
            offset,
            stored: 100,
            raw: 84,
            codec: Codec::Plain,
        };
        Entry { pack: 0, record }
    }

    /// Digests, and identities that somebody made up to lie close together.
    fn id() -> impl Strategy<Value = ChunkId> {
        let digest = any::<u64>().prop_map(|number| ChunkId::of(&number.to_le_bytes()));
        let close = (any::<u8>(), any::<u8>()).prop_map(|(first, last)| {
            let mut id = ChunkId([0x77; 32]);
            (id.0[7], id.0[31]) = (first, last);
            id
        });
        prop_oneof![digest, close]
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(48))]
        #[test]
        fn every_entry_is_found_and_no_other(
            mut ids in proptest::collection::vec(id(), 0..3000),
            others in proptest::collection::vec(id(), 0..200),
        ) {
            ids.sort_unstable();
            let directory = tempfile::tempdir().unwrap();
            let pack = PackLine {
                id: PackId([1; 16]),
                kind: PackKind::Data,
                key: KeyId(1),
                size: 1,
            };
            let entries = ids.iter().enumerate().map(|(at, id)| entry(*id, at as u32));
            let path = directory.path().join("file.idx");
            let file = IndexFile::write(&path, &[], &[pack], ids.len(), entries).unwrap();
            for id in ids.iter().chain(&others) {
                let wanted: Vec<u32> = (0..ids.len()).filter(|at| ids[*at] == *id).map(|at| at as u32).collect();
                let found: Vec<u32> = file.find(id).map(|(entry, _)| entry.record.offset).collect();
                prop_assert_eq!(found, wanted);
            }
        }
    }
}
