//! The index of an image: a digest for each 4 MiB, the last of which may be shorter.

use super::{
    Digest, FIXED_CHUNK, HEADER, IndexError, IndexHeader, REST, Sum, number, parse_header, write_header,
};

const MAGIC: [u8; 8] = [0x2f, 0x7f, 0x41, 0xed, 0x91, 0xfd, 0x0f, 0xcd];
const CHUNK_SIZE: usize = REST + 8;
/// The largest image, in bytes: its list fits in memory.
const MAX_SIZE: u64 = 1 << 48;

/// The checksum of an image's index: SHA-256 of all digests.
#[derive(Default)]
pub struct FixedSum(Sum);

impl FixedSum {
    /// Takes the next digest.
    pub fn add(&mut self, digest: &Digest) {
        self.0.0.update(digest);
    }

    /// The checksum.
    pub fn finish(self) -> Digest {
        self.0.finish()
    }
}

/// The index of an image.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FixedIndex {
    /// What the header says.
    pub header: IndexHeader,
    size: u64,
    chunk_size: u64,
    digests: Vec<Digest>,
}

impl FixedIndex {
    /// An index of an image of `size` bytes with these digests, one for each 4 MiB.
    pub fn new(header: IndexHeader, size: u64, digests: Vec<Digest>) -> Result<Self, IndexError> {
        let index = Self {
            header,
            size,
            chunk_size: FIXED_CHUNK,
            digests,
        };
        if size == 0 || size > MAX_SIZE || index.digests.len() as u64 != size.div_ceil(FIXED_CHUNK) {
            return Err(IndexError::Length);
        }
        Ok(index)
    }

    /// Reads an index file and checks its checksum.
    pub fn parse(bytes: &[u8]) -> Result<Self, IndexError> {
        let (header, sum) = parse_header(bytes, MAGIC, "fixed")?;
        let (size, chunk_size) = (number(bytes, REST), number(bytes, CHUNK_SIZE));
        if size == 0 || size > MAX_SIZE || !chunk_size.is_power_of_two() || chunk_size < 4096 {
            return Err(IndexError::Length);
        }
        let (digests, rest) = bytes[HEADER..].as_chunks::<32>();
        if !rest.is_empty() || digests.len() as u64 != size.div_ceil(chunk_size) {
            return Err(IndexError::Length);
        }
        let index = Self {
            header,
            size,
            chunk_size,
            digests: digests.to_vec(),
        };
        if index.sum() == sum {
            Ok(index)
        } else {
            Err(IndexError::Checksum)
        }
    }

    /// The index file.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = write_header(MAGIC, &self.header, &self.sum(), self.digests.len() * 32);
        bytes[REST..CHUNK_SIZE].copy_from_slice(&self.size.to_le_bytes());
        bytes[CHUNK_SIZE..CHUNK_SIZE + 8].copy_from_slice(&self.chunk_size.to_le_bytes());
        self.digests
            .iter()
            .for_each(|digest| bytes.extend_from_slice(digest));
        bytes
    }

    /// Length of the file for an image of `size` bytes.
    pub fn file_size(size: u64) -> u64 {
        HEADER as u64 + 32 * size.div_ceil(FIXED_CHUNK)
    }

    /// Its checksum.
    pub fn sum(&self) -> Digest {
        let mut sum = FixedSum::default();
        self.digests.iter().for_each(|digest| sum.add(digest));
        sum.finish()
    }

    /// Length of the image in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Length of a chunk in bytes.
    pub fn chunk_size(&self) -> u64 {
        self.chunk_size
    }

    /// All digests in order.
    pub fn digests(&self) -> &[Digest] {
        &self.digests
    }

    /// Digest and length in bytes of each chunk in order.
    pub fn chunks(&self) -> impl Iterator<Item = (Digest, u64)> + '_ {
        let mut rest = self.size;
        self.digests.iter().map(move |digest| {
            let length = rest.min(self.chunk_size);
            rest -= length;
            (*digest, length)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEAD: IndexHeader = IndexHeader {
        uuid: [3; 16],
        ctime: 1_700_000_001,
    };

    #[test]
    fn the_last_chunk_may_be_short() {
        let index = FixedIndex::new(HEAD, FIXED_CHUNK + 5, vec![[1; 32], [2; 32]]).unwrap();
        let chunks: Vec<_> = index.chunks().collect();
        assert_eq!(chunks, [([1; 32], FIXED_CHUNK), ([2; 32], 5)]);
        let bytes = index.encode();
        assert_eq!(bytes.len() as u64, FixedIndex::file_size(FIXED_CHUNK + 5));
        assert_eq!(FixedIndex::parse(&bytes).unwrap(), index);
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(FixedIndex::new(HEAD, 0, vec![]).is_err());
        assert!(FixedIndex::new(HEAD, u64::MAX, vec![[1; 32]]).is_err());
        assert!(FixedIndex::new(HEAD, FIXED_CHUNK, vec![[1; 32]; 2]).is_err());
        let bytes = FixedIndex::new(HEAD, FIXED_CHUNK, vec![[1; 32]])
            .unwrap()
            .encode();
        assert_eq!(FixedIndex::parse(&bytes[..HEADER - 1]), Err(IndexError::Length));
        assert_eq!(FixedIndex::parse(&bytes[..HEADER + 31]), Err(IndexError::Length));
        let with = |at: usize, value: u64| {
            let mut bytes = bytes.clone();
            bytes[at..at + 8].copy_from_slice(&value.to_le_bytes());
            FixedIndex::parse(&bytes)
        };
        for (at, value) in [
            (REST, 0),
            (REST, u64::MAX),
            (CHUNK_SIZE, 0),
            (CHUNK_SIZE, 3),
            (CHUNK_SIZE, u64::MAX),
        ] {
            assert_eq!(with(at, value), Err(IndexError::Length), "{at} {value}");
        }
        assert_eq!(with(HEADER, 0), Err(IndexError::Checksum));
        assert_eq!(with(0, 0), Err(IndexError::NotAnIndex("fixed")));
    }
}
