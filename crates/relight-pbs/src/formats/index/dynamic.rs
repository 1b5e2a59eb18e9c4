//! The index of a stream: where each chunk ends, and its digest.

use super::{Digest, HEADER, IndexError, IndexHeader, Sum, number, parse_header, write_header};
use crate::formats::blob::MAX_CHUNK;

const MAGIC: [u8; 8] = [0x1c, 0x91, 0x4e, 0xa5, 0x19, 0xba, 0xb3, 0xcd];
/// Length of an entry in bytes: its end and its digest.
const ENTRY: usize = 40;

/// A chunk of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DynamicEntry {
    /// Where it ends in the stream, exclusive; the next begins there.
    pub end: u64,
    /// Its digest.
    pub digest: Digest,
}

/// The checksum of a stream's index: SHA-256 of all ends and digests.
#[derive(Default)]
pub struct DynamicSum(Sum);

impl DynamicSum {
    /// Takes the next entry.
    pub fn add(&mut self, end: u64, digest: &Digest) {
        self.0.0.update(&end.to_le_bytes());
        self.0.0.update(digest);
    }

    /// The checksum.
    pub fn finish(self) -> Digest {
        self.0.finish()
    }
}

/// The index of a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DynamicIndex {
    /// What the header says.
    pub header: IndexHeader,
    entries: Vec<DynamicEntry>,
}

impl DynamicIndex {
    /// An index of these chunks. None of them may be empty or longer than 16 MiB.
    pub fn new(header: IndexHeader, entries: Vec<DynamicEntry>) -> Result<Self, IndexError> {
        let mut start = 0;
        for entry in &entries {
            let length = entry.end.checked_sub(start).ok_or(IndexError::Offset)?;
            if length == 0 || length > MAX_CHUNK as u64 {
                return Err(IndexError::Offset);
            }
            start = entry.end;
        }
        Ok(Self { header, entries })
    }

    /// Reads an index file and checks its checksum.
    pub fn parse(bytes: &[u8]) -> Result<Self, IndexError> {
        let (header, sum) = parse_header(bytes, MAGIC, "dynamic")?;
        let (entries, rest) = bytes[HEADER..].as_chunks::<ENTRY>();
        if !rest.is_empty() {
            return Err(IndexError::Length);
        }
        let entries = entries.iter().map(|entry| {
            let mut digest = [0; 32];
            digest.copy_from_slice(&entry[8..]);
            DynamicEntry {
                end: number(entry, 0),
                digest,
            }
        });
        let index = Self::new(header, entries.collect())?;
        if index.sum() == sum {
            Ok(index)
        } else {
            Err(IndexError::Checksum)
        }
    }

    /// The index file.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = write_header(MAGIC, &self.header, &self.sum(), self.entries.len() * ENTRY);
        for entry in &self.entries {
            bytes.extend_from_slice(&entry.end.to_le_bytes());
            bytes.extend_from_slice(&entry.digest);
        }
        bytes
    }

    /// Length of the file for so many chunks.
    pub fn file_size(chunks: u64) -> u64 {
        HEADER as u64 + ENTRY as u64 * chunks
    }

    /// Its checksum.
    pub fn sum(&self) -> Digest {
        let mut sum = DynamicSum::default();
        self.entries
            .iter()
            .for_each(|entry| sum.add(entry.end, &entry.digest));
        sum.finish()
    }

    /// Length of the stream in bytes.
    pub fn size(&self) -> u64 {
        self.entries.last().map_or(0, |entry| entry.end)
    }

    /// All entries in order.
    pub fn entries(&self) -> &[DynamicEntry] {
        &self.entries
    }

    /// Digest and length in bytes of each chunk in order.
    pub fn chunks(&self) -> impl Iterator<Item = (Digest, u64)> + '_ {
        let mut start = 0;
        self.entries.iter().map(move |entry| {
            let length = entry.end - start;
            start = entry.end;
            (entry.digest, length)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: IndexHeader = IndexHeader {
        uuid: [3; 16],
        ctime: -1,
    };

    fn entry(end: u64) -> DynamicEntry {
        DynamicEntry {
            end,
            digest: [end as u8; 32],
        }
    }

    #[test]
    fn ends_make_lengths() {
        let index = DynamicIndex::new(HEAD, vec![entry(10), entry(11), entry(20)]).unwrap();
        let lengths: Vec<u64> = index.chunks().map(|(_, length)| length).collect();
        assert_eq!((lengths, index.size()), (vec![10, 1, 9], 20));
        let bytes = index.encode();
        assert_eq!(bytes.len() as u64, DynamicIndex::file_size(3));
        assert_eq!(DynamicIndex::parse(&bytes).unwrap(), index);
        let empty = DynamicIndex::new(HEAD, vec![]).unwrap();
        assert_eq!(DynamicIndex::parse(&empty.encode()).unwrap().size(), 0);
    }

    #[test]
    fn impossible_offsets_are_refused() {
        for ends in [
            vec![0],
            vec![10, 10],
            vec![10, 9],
            vec![MAX_CHUNK as u64 + 1],
            vec![u64::MAX],
        ] {
            let entries = ends.into_iter().map(entry).collect();
            assert_eq!(DynamicIndex::new(HEAD, entries), Err(IndexError::Offset));
        }
        let mut bytes = DynamicIndex::new(HEAD, vec![entry(10)]).unwrap().encode();
        assert_eq!(
            DynamicIndex::parse(&bytes[..bytes.len() - 1]),
            Err(IndexError::Length)
        );
        bytes[HEADER + 20] ^= 1;
        assert_eq!(DynamicIndex::parse(&bytes), Err(IndexError::Checksum));
    }
}
