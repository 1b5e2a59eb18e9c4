//! Writes a content with its long runs of zeros as holes.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use xxhash_rust::xxh3::Xxh3Default;

use super::source::Piece;

/// Shortest run of zeros that becomes a hole, in bytes.
pub const MIN_HOLE: u64 = 64 * 1024;
/// Zeros are looked for in blocks of this many bytes, as file systems keep them.
const BLOCK: usize = 4096;

static ZEROS: [u8; MIN_HOLE as usize] = [0; MIN_HOLE as usize];

/// Writes to a new file, front to back.
pub(super) struct SparseWriter<'f> {
    file: &'f File,
    /// Length of what was taken.
    position: u64,
    /// Zeros at the end of it that are not written yet.
    zeros: u64,
    hasher: Option<Xxh3Default>,
}

/// Whether all bytes are zero. The loop compiles to vector instructions.
pub(in crate::fs) fn is_zero(bytes: &[u8]) -> bool {
    bytes
        .chunks(64)
        .all(|chunk| chunk.iter().fold(0, |all, &byte| all | byte) == 0)
}

/// Feeds a run of zeros to a hash.
pub(super) fn hash_zeros(hasher: &mut Xxh3Default, mut length: u64) {
    while length > 0 {
        let part = length.min(MIN_HOLE);
        hasher.update(&ZEROS[..part as usize]);
        length -= part;
    }
}

impl<'f> SparseWriter<'f> {
    pub fn new(file: &'f File, hash: bool) -> Self {
        Self {
            file,
            position: 0,
            zeros: 0,
            hasher: hash.then(Xxh3Default::new),
        }
    }

    pub fn write(&mut self, piece: Piece<'_>) -> io::Result<()> {
        match piece {
            Piece::Zeros(length) => {
                if let Some(hasher) = &mut self.hasher {
                    hash_zeros(hasher, length);
                }
                self.zeros += length;
                self.position = self
                    .position
                    .checked_add(length)
                    .ok_or(io::ErrorKind::FileTooLarge)?;
                Ok(())
            }
            Piece::Bytes(bytes) => {
                if let Some(hasher) = &mut self.hasher {
                    hasher.update(bytes);
                }
                self.bytes(bytes)
            }
        }
    }

    fn bytes(&mut self, mut bytes: &[u8]) -> io::Result<()> {
        while !bytes.is_empty() {
            // A run of blocks that all hold something, or that are all zero; blocks as they lie in the file.
            let mut end = 0;
            let mut zero = None;
            while end < bytes.len() {
                let in_block = (self.position as usize + end) % BLOCK;
                let length = (BLOCK - in_block).min(bytes.len() - end);
                let is_zero = is_zero(&bytes[end..end + length]);
                if *zero.get_or_insert(is_zero) != is_zero {
                    break;
                }
                end += length;
            }
            let (run, rest) = bytes.split_at(end);
            if zero == Some(true) {
                self.zeros += run.len() as u64;
            } else {
                self.write_zeros()?;
                self.file.write_all_at(run, self.position)?;
            }
            self.position += run.len() as u64;
            bytes = rest;
        }
        Ok(())
    }

    /// Writes the zeros gathered, or leaves a hole where they are many.
    fn write_zeros(&mut self) -> io::Result<()> {
        let length = std::mem::take(&mut self.zeros);
        if length < MIN_HOLE {
            self.file
                .write_all_at(&ZEROS[..length as usize], self.position - length)?;
        }
        Ok(())
    }

    /// Ends the file; hands out its length and the hash of its content where one was asked for.
    pub fn finish(mut self) -> io::Result<(u64, Option<u64>)> {
        if self.zeros >= MIN_HOLE {
            self.file.set_len(self.position)?;
        } else {
            self.write_zeros()?;
        }
        Ok((self.position, self.hasher.map(|hasher| hasher.digest())))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::MetadataExt;
    use xxhash_rust::xxh3::xxh3_64;

    fn write(pieces: &[Piece<'_>]) -> (Vec<u8>, u64, Option<u64>) {
        let mut file = tempfile::tempfile().unwrap();
        let mut writer = SparseWriter::new(&file, true);
        for piece in pieces {
            writer.write(*piece).unwrap();
        }
        let (length, hash) = writer.finish().unwrap();
        let mut content = Vec::new();
        io::Read::read_to_end(&mut file, &mut content).unwrap();
        assert_eq!(content.len() as u64, length);
        (content, file.metadata().unwrap().blocks() * 512, hash)
    }

    #[test]
    fn content_and_hash_are_the_same_with_and_without_holes() {
        let mut content = vec![1; 5000];
        content.resize(5000 + 200_000, 0);
        content.extend_from_slice(&[2; 100]);
        content.resize(content.len() + 10_000, 0);
        content.push(3);
        content.resize(content.len() + 70_000, 0);
        for size in [1000, 4096, 65_536, content.len()] {
            let pieces: Vec<_> = content.chunks(size).map(Piece::Bytes).collect();
            let (written, allocated, hash) = write(&pieces);
            assert!(written == content, "pieces of {size}");
            assert!(allocated < 60_000, "{allocated} bytes allocated");
            assert_eq!(hash, Some(xxh3_64(&content)));
        }
    }

    #[test]
    fn announced_zeros_cost_nothing() {
        let (content, allocated, hash) = write(&[Piece::Zeros(1 << 20), Piece::Bytes(b"x"), Piece::Zeros(5)]);
        let mut expected = vec![0; 1 << 20];
        expected.extend_from_slice(b"x\0\0\0\0\0");
        assert!(content == expected && allocated <= 8192);
        assert_eq!(hash, Some(xxh3_64(&expected)));
        assert_eq!(write(&[]).0, b"");
    }
}
