//! What lies on a disk: partitions and file systems, told by what they write at fixed places. Everything here comes from
//! outside: lengths are bounded, sums checked.

mod filesystem;
mod partition;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

pub use filesystem::{Found, Name, find};
pub use partition::{Partition, Table, table};

/// A disk that can be read anywhere.
pub trait Disk {
    /// Its size in bytes.
    fn size(&self) -> u64;

    /// Fills `buffer` from byte `at` on.
    ///
    /// # Errors
    /// It ends before, or cannot be read.
    fn read(&self, at: u64, buffer: &mut [u8]) -> io::Result<()>;
}

/// An image in a file.
pub struct ImageDisk {
    file: File,
    size: u64,
}

impl ImageDisk {
    /// Of an open file.
    ///
    /// # Errors
    /// Its size cannot be found.
    pub fn new(file: File) -> io::Result<Self> {
        let size = file.metadata()?.len();
        Ok(Self { file, size })
    }
}

impl Disk for ImageDisk {
    fn size(&self) -> u64 {
        self.size
    }

    fn read(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(buffer, at)
    }
}

impl Disk for [u8] {
    fn size(&self) -> u64 {
        self.len() as u64
    }

    fn read(&self, at: u64, buffer: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(at).map_err(|_| io::ErrorKind::UnexpectedEof)?;
        let end = from
            .checked_add(buffer.len())
            .ok_or(io::ErrorKind::UnexpectedEof)?;
        let bytes = self.get(from..end).ok_or(io::ErrorKind::UnexpectedEof)?;
        buffer.copy_from_slice(bytes);
        Ok(())
    }
}

/// So many bytes from `at` on; none if the disk ends before.
fn bytes<const N: usize>(disk: &(impl Disk + ?Sized), at: u64) -> io::Result<Option<[u8; N]>> {
    let mut buffer = [0; N];
    if at.checked_add(N as u64).is_none_or(|end| end > disk.size()) {
        return Ok(None);
    }
    disk.read(at, &mut buffer)?;
    Ok(Some(buffer))
}

/// `N` bytes at a place of a block that was read; zeros behind its end.
fn part<const N: usize>(block: &[u8], at: usize) -> [u8; N] {
    let found = block.get(at..).and_then(<[u8]>::first_chunk::<N>);
    found.copied().unwrap_or([0; N])
}

fn u16_le(block: &[u8], at: usize) -> u16 {
    u16::from_le_bytes(part(block, at))
}

fn u32_le(block: &[u8], at: usize) -> u32 {
    u32::from_le_bytes(part(block, at))
}

fn u64_le(block: &[u8], at: usize) -> u64 {
    u64::from_le_bytes(part(block, at))
}
