//! Files that are read and written past the page cache where that pays.
//!
//! What a backup writes it does not read again soon, and what a restore writes is for others. Going through the page
//! cache costs a copy and, for every page that was not in use before, its allocation: on virtual machines, whose memory
//! the host provides when it is first touched, more processor time than compression and encryption together. Long runs
//! therefore go directly between memory and device (open(2), `O_DIRECT`), where the file system can do that; and what
//! is read back after a restore comes from the device and not from the memory it was just written from.
//!
//! Short runs, unaligned ends, and ranges that are in the page cache anyway take the usual way.

use std::cell::RefCell;
use std::fs::File;
use std::io;
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::FileExt;
use std::sync::atomic::{AtomicBool, Ordering};

use memmap2::MmapOptions;
use rustix::fs::{Mode, OFlags};

/// Alignment of offsets, lengths and memory that every device accepts.
pub const ALIGNMENT: usize = 4096;
/// Runs shorter than this are not worth it.
const WORTH: usize = 256 << 10;
/// Memory of a thread for what is not aligned.
const BOUNCE: usize = 2 << 20;

/// Memory that begins at a multiple of [`ALIGNMENT`].
pub struct Aligned {
    memory: Vec<u8>,
    start: usize,
    length: usize,
}

impl Aligned {
    /// This many zeros.
    pub fn new(length: usize) -> Self {
        let memory = vec![0u8; length + ALIGNMENT];
        let start = memory.as_ptr().align_offset(ALIGNMENT).min(ALIGNMENT);
        Self {
            memory,
            start,
            length,
        }
    }
}

impl Deref for Aligned {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.memory[self.start..self.start + self.length]
    }
}

impl DerefMut for Aligned {
    fn deref_mut(&mut self) -> &mut [u8] {
        &mut self.memory[self.start..self.start + self.length]
    }
}

thread_local! {
    static BOUNCED: RefCell<Option<Aligned>> = const { RefCell::new(None) };
}

/// Runs `work` with this thread's aligned memory.
fn bounced<T>(work: impl FnOnce(&mut [u8]) -> T) -> T {
    BOUNCED.with_borrow_mut(|bounce| work(bounce.get_or_insert_with(|| Aligned::new(BOUNCE))))
}

/// A file with a second descriptor that goes past the page cache. Can be used by many threads.
#[derive(Debug)]
pub struct DirectFile {
    file: File,
    direct: Option<File>,
    /// The device wants another alignment, or the file system has changed its mind.
    refused: AtomicBool,
}

impl DirectFile {
    /// Opens `file` a second time, with the same rights. Where that cannot be had, everything takes the usual way.
    pub fn new(file: File) -> Self {
        Self {
            direct: reopen(&file),
            file,
            refused: AtomicBool::new(false),
        }
    }

    /// The file itself.
    pub fn file(&self) -> &File {
        &self.file
    }

    /// The file itself, without the second descriptor.
    pub fn into_file(self) -> File {
        self.file
    }

    fn direct(&self, length: usize) -> Option<&File> {
        let direct = self.direct.as_ref().filter(|_| length >= WORTH)?;
        (!self.refused.load(Ordering::Relaxed)).then_some(direct)
    }

    /// Writes all of `bytes` at `offset`. They are durable only after a sync.
    pub fn write_all_at(&self, bytes: &[u8], offset: u64) -> io::Result<()> {
        let aligned = offset.is_multiple_of(ALIGNMENT as u64);
        let Some(direct) = self.direct(bytes.len()).filter(|_| aligned) else {
            return self.file.write_all_at(bytes, offset);
        };
        let (body, tail) = bytes.split_at(bytes.len() - bytes.len() % ALIGNMENT);
        let written = if body.as_ptr().addr().is_multiple_of(ALIGNMENT) {
            direct.write_all_at(body, offset)
        } else {
            bounced(|bounce| {
                body.chunks(BOUNCE).enumerate().try_for_each(|(number, part)| {
                    bounce[..part.len()].copy_from_slice(part);
                    direct.write_all_at(&bounce[..part.len()], offset + (number * BOUNCE) as u64)
                })
            })
        };
        match written {
            Ok(()) => self.file.write_all_at(tail, offset + body.len() as u64),
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                self.refused.store(true, Ordering::Relaxed);
                self.file.write_all_at(bytes, offset)
            }
            Err(error) => Err(error),
        }
    }

    /// Fills `buffer` from `offset` on; [`io::ErrorKind::UnexpectedEof`] where the file ends before.
    pub fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let Some(direct) = self.direct(buffer.len()) else {
            return self.file.read_exact_at(buffer, offset);
        };
        if is_cached(&self.file, offset, buffer.len()) {
            return self.file.read_exact_at(buffer, offset);
        }
        match bounced(|bounce| read_direct(direct, bounce, buffer, offset)) {
            Err(error) if error.kind() == io::ErrorKind::InvalidInput => {
                self.refused.store(true, Ordering::Relaxed);
                self.file.read_exact_at(buffer, offset)
            }
            other => other,
        }
    }
}

/// Reads whole aligned blocks into `bounce` and takes from them what is wanted.
fn read_direct(direct: &File, bounce: &mut [u8], buffer: &mut [u8], offset: u64) -> io::Result<()> {
    let mut done = 0;
    while done < buffer.len() {
        let at = offset + done as u64;
        let skip = (at % ALIGNMENT as u64) as usize;
        let want = (skip + buffer.len() - done)
            .next_multiple_of(ALIGNMENT)
            .min(bounce.len());
        let got = match direct.read_at(&mut bounce[..want], at - skip as u64) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            got => got?,
        };
        if got <= skip {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let count = (got - skip).min(buffer.len() - done);
        buffer[done..done + count].copy_from_slice(&bounce[skip..skip + count]);
        done += count;
        // A short read ends in the middle of a block only at the end of the file.
        if done < buffer.len() && got < want && !got.is_multiple_of(ALIGNMENT) {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
    Ok(())
}

/// Opens what is open once more, past the page cache.
fn reopen(file: &File) -> Option<File> {
    let access = rustix::fs::fcntl_getfl(file).ok()? & OFlags::RWMODE;
    let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
    let flags = access | OFlags::DIRECT | OFlags::CLOEXEC;
    rustix::fs::open(path, flags, Mode::empty()).ok().map(File::from)
}

/// Whether nearly all of the range is in the page cache, by mincore(2). Yes where the kernel does not tell.
fn is_cached(file: &File, offset: u64, length: usize) -> bool {
    let lead = (offset % ALIGNMENT as u64) as usize;
    let length = length + lead;
    // SAFETY: the memory is never looked at, only where it lies; so it does not matter if others change the file.
    let Ok(map) = (unsafe {
        MmapOptions::new()
            .offset(offset - lead as u64)
            .len(length)
            .map(file)
    }) else {
        return true;
    };
    let mut pages = vec![0u8; length.div_ceil(ALIGNMENT)];
    // SAFETY: the range is a mapping that lives to the end of this function, and the kernel writes one byte a page of
    // it (of at least 4 KiB) into `pages`, which has as many.
    let told = unsafe { libc::mincore(map.as_ptr().cast_mut().cast(), length, pages.as_mut_ptr()) };
    let there = pages.iter().filter(|page| **page & 1 == 1).count();
    told != 0 || there >= pages.len() - pages.len() / 16
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        aws_lc_rs::rand::fill(&mut bytes).unwrap();
        bytes
    }

    #[test]
    fn what_is_written_is_read_back_at_any_alignment() {
        // Not in /tmp, which may be a file system without direct reads and writes.
        let program = std::env::current_exe().unwrap();
        let place = tempfile::tempdir_in(program.parent().unwrap()).unwrap();
        let path = place.path().join("file");
        let open = || {
            File::options()
                .read(true)
                .write(true)
                .create(true)
                .truncate(false)
                .open(&path)
                .unwrap()
        };
        let content = noise(5_000_001);
        let mut memory = Aligned::new(content.len());
        memory.copy_from_slice(&content);
        for bytes in [
            &memory[..],
            &content[..],
            &content[1..],
            &content[..5_000_001 - 4097],
        ] {
            let file = DirectFile::new(open());
            file.file().set_len(0).unwrap();
            file.write_all_at(bytes, 0).unwrap();
            file.write_all_at(&bytes[..1_000_000], 8192).unwrap();
            file.file().sync_all().unwrap();
            let mut expected = bytes.to_vec();
            expected[8192..1_008_192].copy_from_slice(&bytes[..1_000_000]);
            assert!(std::fs::read(&path).unwrap() == expected);
            let _ = rustix::fs::fadvise(file.file(), 0, None, rustix::fs::Advice::DontNeed);
            for (from, length) in [
                (0, 300_000),
                (4096, 1 << 20),
                (17, 4_900_000),
                (1, bytes.len() - 1),
            ] {
                let mut back = vec![0; length];
                file.read_exact_at(&mut back, from as u64).unwrap();
                assert!(back == expected[from..from + length], "{length} from {from}");
                bounced(|bounce| {
                    read_direct(
                        file.direct.as_ref().unwrap_or(file.file()),
                        bounce,
                        &mut back,
                        from as u64,
                    )
                })
                .unwrap();
                assert!(back == expected[from..from + length], "{length} from {from}");
            }
            let mut beyond = vec![0; 300_000];
            for from in [bytes.len() - 299_999, bytes.len(), bytes.len() + 5000] {
                let short = file.read_exact_at(&mut beyond, from as u64).unwrap_err();
                assert_eq!(short.kind(), io::ErrorKind::UnexpectedEof);
            }
        }
    }

    #[test]
    fn the_page_cache_is_asked() {
        let place = tempfile::tempdir().unwrap();
        let path = place.path().join("file");
        std::fs::write(&path, noise(1 << 20)).unwrap();
        let file = File::open(&path).unwrap();
        assert!(is_cached(&file, 0, 1 << 20));
        assert!(is_cached(&file, 5000, 300_000));
    }
}
