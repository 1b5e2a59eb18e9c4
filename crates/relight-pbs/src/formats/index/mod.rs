//! Index files: which chunks make up an image or a stream.
//!
//! Both kinds begin with a header of 4096 bytes: magic, UUID, time, checksum of the entries, and zeros. Numbers are
//! little endian.

mod dynamic;
mod fixed;

use aws_lc_rs::digest;

pub use dynamic::{DynamicEntry, DynamicIndex, DynamicSum};
pub use fixed::{FixedIndex, FixedSum};

/// Length of the header in bytes.
pub const HEADER: usize = 4096;
/// Size of the chunks of an image in bytes.
pub const FIXED_CHUNK: u64 = 4 << 20;

/// SHA-256 of a chunk.
pub type Digest = [u8; 32];

/// What a header says besides what the entries say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexHeader {
    /// Random, or derived from what the index belongs to.
    pub uuid: [u8; 16],
    /// When it was made, in seconds since 1970.
    pub ctime: i64,
}

/// Why an index cannot be read or made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IndexError {
    /// It begins with something else.
    #[error("this is not a {0} index")]
    NotAnIndex(&'static str),
    /// Its length does not fit what it says.
    #[error("the index has a wrong length or size")]
    Length,
    /// The header's checksum is not that of the entries.
    #[error("the index has a wrong checksum")]
    Checksum,
    /// An entry ends before it begins, or is longer than a chunk can be.
    #[error("an entry of the index has an impossible offset")]
    Offset,
}

const UUID: usize = 8;
const CTIME: usize = 24;
const SUM: usize = 32;
/// Where the fields of the kind begin.
const REST: usize = 64;

fn parse_header(
    bytes: &[u8],
    magic: [u8; 8],
    what: &'static str,
) -> Result<(IndexHeader, Digest), IndexError> {
    if bytes.first_chunk() != Some(&magic) {
        return Err(IndexError::NotAnIndex(what));
    }
    if bytes.len() < HEADER {
        return Err(IndexError::Length);
    }
    let (mut uuid, mut sum) = ([0; 16], [0; 32]);
    uuid.copy_from_slice(&bytes[UUID..CTIME]);
    sum.copy_from_slice(&bytes[SUM..REST]);
    let ctime = number(bytes, CTIME).cast_signed();
    Ok((IndexHeader { uuid, ctime }, sum))
}

fn write_header(magic: [u8; 8], header: &IndexHeader, sum: &Digest, entries: usize) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(HEADER + entries);
    bytes.extend_from_slice(&magic);
    bytes.extend_from_slice(&header.uuid);
    bytes.extend_from_slice(&header.ctime.to_le_bytes());
    bytes.extend_from_slice(sum);
    bytes.resize(HEADER, 0);
    bytes
}

/// The number at `at`, which the caller knows to be there.
fn number(bytes: &[u8], at: usize) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(number)
}

/// A checksum that is made while entries come in.
struct Sum(digest::Context);

impl Default for Sum {
    fn default() -> Self {
        Self(digest::Context::new(&digest::SHA256))
    }
}

impl Sum {
    fn finish(self) -> Digest {
        let mut sum = [0; 32];
        sum.copy_from_slice(self.0.finish().as_ref());
        sum
    }
}
