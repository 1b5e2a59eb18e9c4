//! The names in a directory, sorted by bytes as the archive wants them.

use std::ffi::CStr;
use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsFd;

use rustix::fs::{FileType, RawDir};

/// Bytes of directory entries asked of the kernel at a time.
const BLOCK: usize = 64 * 1024;

/// One name in a [`Listing`].
#[derive(Debug, Clone, Copy)]
struct Name {
    /// Where it begins in the arena.
    start: usize,
    /// Its length without the zero byte; Linux allows 255, other limits belong to the file system.
    length: u32,
    kind: FileType,
}

/// The entries of one directory in one allocation, without `.` and `..`.
#[derive(Debug, Default)]
pub struct Listing {
    arena: Vec<u8>,
    names: Vec<Name>,
}

/// Reads listings; keeps its buffer from one directory to the next.
#[derive(Debug)]
pub struct Lister {
    buffer: Vec<MaybeUninit<u8>>,
    spare: Vec<Listing>,
}

impl Default for Lister {
    fn default() -> Self {
        Self::new()
    }
}

impl Lister {
    /// A reader of listings; allocates 64 KiB.
    pub fn new() -> Self {
        Self {
            buffer: vec![MaybeUninit::uninit(); BLOCK],
            spare: Vec::new(),
        }
    }

    /// Lists an open directory from its beginning (the descriptor must not have been listed before).
    pub fn list(&mut self, dir: impl AsFd) -> io::Result<Listing> {
        let mut listing = self.spare.pop().unwrap_or_default();
        listing.arena.clear();
        listing.names.clear();
        let mut entries = RawDir::new(dir, &mut self.buffer);
        while let Some(entry) = entries.next() {
            let entry = entry?;
            let name = entry.file_name().to_bytes_with_nul();
            if name == b".\0" || name == b"..\0" {
                continue;
            }
            let length = u32::try_from(name.len() - 1).map_err(|_| io::ErrorKind::InvalidFilename)?;
            listing.names.push(Name {
                start: listing.arena.len(),
                length,
                kind: entry.file_type(),
            });
            listing.arena.extend_from_slice(name);
        }
        let Listing { arena, names } = &mut listing;
        let bytes = |name: &Name| arena.get(name.start..name.start + name.length as usize);
        names.sort_unstable_by(|a, b| bytes(a).cmp(&bytes(b)));
        // A directory that changes while it is listed may hand out a name twice.
        names.dedup_by(|a, b| bytes(a) == bytes(b));
        Ok(listing)
    }

    /// Takes back a listing whose memory can serve the next.
    pub fn recycle(&mut self, listing: Listing) {
        if self.spare.len() < 16 && listing.arena.capacity() <= 1 << 20 {
            self.spare.push(listing);
        }
    }
}

impl Listing {
    /// Drops every name but one.
    pub fn retain(&mut self, only: &[u8]) {
        let Self { arena, names } = self;
        names.retain(|name| arena.get(name.start..name.start + name.length as usize) == Some(only));
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.names.len()
    }

    /// Whether the directory is empty.
    pub fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The name at `index`, empty beyond the end.
    pub fn name(&self, index: usize) -> &CStr {
        self.names
            .get(index)
            .and_then(|name| self.arena.get(name.start..=name.start + name.length as usize))
            .and_then(|bytes| CStr::from_bytes_with_nul(bytes).ok())
            .unwrap_or(c"")
    }

    /// The file type at `index` as the directory tells it; [`FileType::Unknown`] where it does not.
    pub fn kind(&self, index: usize) -> FileType {
        self.names.get(index).map_or(FileType::Unknown, |name| name.kind)
    }

    /// Whether there is an entry of that name.
    pub fn contains(&self, name: &[u8]) -> bool {
        self.names
            .binary_search_by(|probe| {
                self.arena
                    .get(probe.start..probe.start + probe.length as usize)
                    .cmp(&Some(name))
            })
            .is_ok()
    }
}
