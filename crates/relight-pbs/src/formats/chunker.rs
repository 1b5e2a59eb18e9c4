//! Where clients cut streams into chunks.
//!
//! That is the client's business: a server takes any chunks of up to 16 MiB. The original's clients cut with a buzhash
//! whose table is not published as part of any format, so what this client saves shares chunks with what it saved
//! itself, under whatever name, but not with what the original's client cut from the same stream. Images are cut every
//! [`super::index::FIXED_CHUNK`] bytes by both and are shared.

use relight_repo::cdc::{Cutter, GearTable, Sizes};

use super::blob::MAX_CHUNK;

/// From which all clients derive the same table: equal streams have equal chunks wherever they are cut.
const TABLE: [u8; 32] = *b"relight protocol client chunks 1";

/// Cuts one stream.
pub struct StreamChunker {
    table: GearTable,
    cutter: Cutter,
    sizes: Sizes,
}

impl StreamChunker {
    /// Average length of the chunks of file trees, in bytes.
    pub const TREE: usize = 4 << 20;
    /// Average length of the chunks of a catalog, in bytes.
    pub const CATALOG: usize = 512 << 10;

    /// Chunks of a fourth of `average` to four times as many bytes; `average` is rounded to a power of two from 64 KiB
    /// to 4 MiB.
    pub fn new(average: usize) -> Self {
        let average = average.clamp(64 << 10, MAX_CHUNK / 4).next_power_of_two();
        let sizes = Sizes {
            least: average / 4,
            average,
            most: average * 4,
        };
        Self {
            table: GearTable::new(&TABLE),
            cutter: Cutter::new(sizes),
            sizes,
        }
    }

    /// The longest chunk in bytes.
    pub fn most(&self) -> usize {
        self.sizes.most
    }

    /// The current chunk was ended elsewhere: what comes next begins a new one.
    pub fn restart(&mut self) {
        self.cutter = Cutter::new(self.sizes);
    }

    /// Looks at all bytes of the current chunk so far, of which only new ones cost time. Gives its length if it ends
    /// within them; then the next one begins there.
    pub fn find(&mut self, chunk: &[u8]) -> Option<usize> {
        self.cutter.find(&self.table, chunk)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lengths(mut stream: &[u8], average: usize) -> Vec<usize> {
        let mut chunker = StreamChunker::new(average);
        let mut lengths = Vec::new();
        while let Some(length) = chunker.find(stream) {
            lengths.push(length);
            stream = &stream[length..];
        }
        lengths.push(stream.len());
        lengths
    }

    #[test]
    fn an_insertion_changes_few_chunks() {
        let mut stream = vec![0; 16 << 20];
        aws_lc_rs::rand::fill(&mut stream).unwrap();
        let before = lengths(&stream, StreamChunker::CATALOG);
        stream.splice(1000..1000, [1, 2, 3]);
        let after = lengths(&stream, StreamChunker::CATALOG);
        let same = before
            .iter()
            .rev()
            .zip(after.iter().rev())
            .take_while(|(a, b)| a == b)
            .count();
        assert!(
            before.len() > 12 && same + 3 >= before.len(),
            "{before:?} {after:?}"
        );
    }

    #[test]
    fn lengths_stay_in_their_limits() {
        let lengths = lengths(&vec![7; 40 << 20], StreamChunker::TREE);
        assert!(lengths.iter().all(|&length| length <= MAX_CHUNK), "{lengths:?}");
        assert_eq!(StreamChunker::new(usize::MAX).most(), MAX_CHUNK);
        assert_eq!(StreamChunker::new(0).most(), 256 << 10);
    }
}
