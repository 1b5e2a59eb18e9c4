//! Cuts a stream into chunks where its content says so, so that an insertion changes few chunks.
//!
//! A rolling "gear" hash over about 64 bytes (Xia et al., FastCDC, USENIX ATC 2016, sections 3.1 to 3.4), with a
//! stricter condition before the average and a looser one after it. The table comes from a secret of the
//! repository: who sees only the lengths of chunks cannot tell which public files they are.

/// How long chunks are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sizes {
    /// The shortest chunk but the last.
    pub least: usize,
    /// The length that is aimed at: a power of two.
    pub average: usize,
    /// The longest chunk.
    pub most: usize,
}

impl Sizes {
    /// For content: large enough to keep lists short, small enough to find what moved and to read one small file.
    pub const DATA: Self = Self {
        least: 256 << 10,
        average: 1 << 20,
        most: 4 << 20,
    };
    /// For the names and attributes of file trees: a change of a few files should store few others again.
    pub const METADATA: Self = Self {
        least: 32 << 10,
        average: 128 << 10,
        most: 1 << 20,
    };

    /// The conditions before and after the average length.
    fn masks(&self) -> (u64, u64) {
        let bits = self.average.ilog2();
        (mask(bits + 1), mask(bits - 2))
    }
}

/// The topmost `bits` bits: they depend on the most bytes.
const fn mask(bits: u32) -> u64 {
    !(u64::MAX >> bits)
}

/// The secret part: one random number for each byte value.
#[derive(Clone)]
pub struct GearTable(Box<[u64; 256]>);

impl GearTable {
    /// From a secret: SHA-256 of secret and counter, four numbers each.
    pub fn new(secret: &[u8; 32]) -> Self {
        let mut table = Box::new([0; 256]);
        for (round, numbers) in table.chunks_mut(4).enumerate() {
            let mut input = secret.to_vec();
            input.push(round as u8);
            let digest = crate::id::ChunkId::of(&input).0;
            for (number, bytes) in numbers.iter_mut().zip(digest.as_chunks::<8>().0) {
                *number = u64::from_le_bytes(*bytes);
            }
        }
        Self(table)
    }
}

/// Finds the next cut in bytes that arrive piece by piece.
pub struct Cutter {
    sizes: Sizes,
    hash: u64,
    /// Bytes of the current chunk that were looked at.
    seen: usize,
}

impl Cutter {
    /// At the begin of a chunk.
    pub fn new(sizes: Sizes) -> Self {
        Self {
            sizes,
            hash: 0,
            seen: 0,
        }
    }

    /// Looks at what is new in `chunk` (all bytes of the current chunk so far, and perhaps more). Returns the length
    /// at which it ends, if it does; then a new chunk begins there.
    pub fn find(&mut self, table: &GearTable, chunk: &[u8]) -> Option<usize> {
        let cut = self.scan(table, chunk);
        if cut.is_some() {
            *self = Self::new(self.sizes);
        }
        cut
    }

    fn scan(&mut self, table: &GearTable, chunk: &[u8]) -> Option<usize> {
        let table = &*table.0;
        let Sizes { least, average, most } = self.sizes;
        let (strict, loose) = self.sizes.masks();
        // The first bytes cannot end a chunk; the hash needs only the last 64 of them.
        self.seen = self.seen.max((least - 64).min(chunk.len()));
        let mut hash = self.hash;
        for (until, mask) in [(least, u64::MAX), (average, strict), (most, loose)] {
            let until = until.min(chunk.len());
            if self.seen >= until {
                continue;
            }
            for (at, &byte) in chunk[self.seen..until].iter().enumerate() {
                hash = (hash << 1).wrapping_add(table[usize::from(byte)]);
                if hash & mask == 0 {
                    return Some(self.seen + at + 1);
                }
            }
            self.seen = until;
        }
        self.hash = hash;
        (chunk.len() >= most).then_some(most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cuts(table: &GearTable, bytes: &[u8], piece: usize) -> Vec<usize> {
        let (mut cutter, mut start, mut have, mut lengths) = (Cutter::new(Sizes::DATA), 0, 0, Vec::new());
        while have < bytes.len() {
            have = (have + piece).min(bytes.len());
            while let Some(length) = cutter.find(table, &bytes[start..have]) {
                lengths.push(length);
                start += length;
            }
        }
        lengths.push(bytes.len() - start);
        lengths
    }

    fn noise(length: usize) -> Vec<u8> {
        let mut state = 88_172_645_463_325_252u64;
        let mut next = || {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state as u8
        };
        (0..length).map(|_| next()).collect()
    }

    #[test]
    fn cuts_do_not_depend_on_how_the_bytes_arrive() {
        let table = GearTable::new(&[7; 32]);
        let bytes = noise(20 << 20);
        let whole = cuts(&table, &bytes, bytes.len());
        for piece in [1000, 65_536, 1 << 20, 3_333_333] {
            assert_eq!(cuts(&table, &bytes, piece), whole);
        }
        let body = &whole[..whole.len() - 1];
        assert!(
            body.iter()
                .all(|&length| (Sizes::DATA.least..=Sizes::DATA.most).contains(&length))
        );
        let average = body.iter().sum::<usize>() / body.len();
        assert!(
            (Sizes::DATA.average / 2..Sizes::DATA.average * 2).contains(&average),
            "{average}"
        );
        assert_ne!(
            whole,
            cuts(&GearTable::new(&[8; 32]), &bytes, bytes.len()),
            "the table is secret"
        );
    }

    #[test]
    fn an_insertion_changes_few_chunks() {
        let table = GearTable::new(&[7; 32]);
        let bytes = noise(30 << 20);
        let mut longer = bytes.clone();
        longer.splice(5_000_000..5_000_000, b"inserted".iter().copied());
        let (before, after) = (cuts(&table, &bytes, 1 << 20), cuts(&table, &longer, 1 << 20));
        let same_end = before
            .iter()
            .rev()
            .zip(after.iter().rev())
            .take_while(|(a, b)| a == b)
            .count();
        assert!(same_end + 10 >= before.len(), "{same_end} of {}", before.len());
    }
}
