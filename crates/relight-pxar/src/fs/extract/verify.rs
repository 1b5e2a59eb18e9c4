//! Reads back what was written and compares: each file right after it was written, or all of them in the end, then from
//! the disk where the kernel lets go of what it keeps in memory.

use std::ffi::CStr;
use std::fs::File;
use std::io::{self, Read};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::fs::FileExt;

use rustix::fs::{Advice, Mode, OFlags, SeekFrom, fadvise, openat, seek};
use rustix::io::Errno;
use xxhash_rust::xxh3::Xxh3Default;

use super::RestoreError;
use super::items::{ItemKind, Step};
use super::jobs::c_name;
use super::report::LossKind;
use super::restore::open_items;
use super::shared::{Shared, add, lock};
use super::source::ArchiveSource;
use super::sparse::hash_zeros;
use super::target::{find, split};
use crate::fs::dir_chain::{DirChain, open_dir};
use crate::fs::stat::FileStat;

/// Bytes read at a time.
const BUFFER: usize = 256 * 1024;

/// Compares every file written by this restore with the hash taken while writing. The archive is gone through once more
/// for the names: only a hash is kept of each file.
pub(super) fn run(shared: &Shared<'_>, source: &dyn ArchiveSource) -> Result<(), RestoreError> {
    let root_error = |source| RestoreError::Target {
        path: Vec::new(),
        source,
    };
    let mut hashes = std::mem::take(&mut *lock(&shared.hashes));
    hashes.sort_unstable();
    let mut items = open_items(source, shared.options)?;
    let root = shared.root.try_clone().map_err(root_error)?;
    let mut chain: DirChain = DirChain::new(root).map_err(root_error)?;
    // Path length of each directory of the archive on the way, and whether it is one of the chain.
    let mut levels: Vec<(usize, bool)> = Vec::new();
    let mut path: Vec<u8> = Vec::new();
    while !shared.stopped() {
        let (item, _) = match items.next(&shared.options.selection)? {
            None => break,
            Some(Step::Leave) => {
                if let Some((_, true)) = levels.pop() {
                    chain.pop();
                }
                continue;
            }
            Some(Step::Entry(item, standing)) => (item, standing),
        };
        path.truncate(levels.last().map_or(0, |(length, _)| *length));
        if !path.is_empty() {
            path.push(b'/');
        }
        path.extend_from_slice(&item.name);
        let name = match shared.misplaced(item.position) {
            Some(Some(name)) => name,
            _ => c_name(&item.name),
        };
        let reachable = levels.last().is_none_or(|(_, reachable)| *reachable);
        match item.kind {
            ItemKind::Directory => {
                let reachable = reachable && (levels.is_empty() || descend(&mut chain, &name).is_ok());
                levels.push((path.len(), reachable));
            }
            ItemKind::File { .. } => {
                let Ok(index) = hashes.binary_search_by_key(&item.position, |(position, _)| *position) else {
                    continue;
                };
                let result = if reachable {
                    chain
                        .current()
                        .and_then(|dir| compare(shared, dir.as_fd(), &name, hashes[index].1))
                } else {
                    Err(io::ErrorKind::NotFound.into())
                };
                tell(shared, &path, result);
            }
            _ => {}
        }
    }
    for (place, hash) in std::mem::take(&mut *lock(&shared.late_hashes)) {
        let (directory, name) = split(&place);
        let result = find(shared.root.as_fd(), directory)
            .and_then(|dir| compare(shared, dir.as_fd(), &c_name(name), hash));
        tell(shared, &place, result);
    }
    Ok(())
}

fn descend(chain: &mut DirChain, name: &CStr) -> io::Result<()> {
    let fd = open_dir(chain.current()?.as_ref(), name)?;
    let identity = FileStat::of(&fd)?.identity();
    chain.push(name, fd, identity);
    Ok(())
}

pub(super) fn tell(shared: &Shared<'_>, path: &[u8], result: io::Result<bool>) {
    match result {
        Ok(true) => add(&shared.counters.verified, 1),
        Ok(false) => {
            let error = io::Error::new(io::ErrorKind::InvalidData, "its content is another");
            shared.lose(path, LossKind::Verification, &error);
        }
        Err(error) => shared.lose(path, LossKind::Verification, &error),
    }
}

/// Whether a file's content has that hash.
fn compare(shared: &Shared<'_>, dir: BorrowedFd<'_>, name: &CStr, expected: u64) -> io::Result<bool> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
    let file = File::from(openat(dir, name, flags, Mode::empty())?);
    let size = FileStat::of(&file)?.size;
    // It was synced before, so nothing hinders the kernel; where it keeps the pages, they are what is compared.
    let _ = fadvise(&file, 0, None, Advice::DontNeed);
    let _ = fadvise(&file, 0, None, Advice::Sequential);
    holds(shared, &file, size, expected)
}

/// Whether the first `size` bytes of a file have that hash, and are all of it.
pub(super) fn holds(shared: &Shared<'_>, mut file: &File, size: u64, expected: u64) -> io::Result<bool> {
    seek(file, SeekFrom::Start(0))?;
    let mut hasher = Xxh3Default::new();
    let mut buffer = vec![0; BUFFER.min(usize::try_from(size).unwrap_or(BUFFER))];
    let mut position = 0;
    while position < size {
        if shared.stopped() {
            return Ok(true);
        }
        let data = match seek(file, SeekFrom::Data(position)) {
            Ok(data) => data.min(size),
            Err(Errno::NXIO) => size,
            Err(_) => {
                seek(file, SeekFrom::Start(position))?;
                position
            }
        };
        if data > position {
            hash_zeros(&mut hasher, data - position);
            position = data;
            continue;
        }
        let count = file.read(&mut buffer)?;
        if count == 0 {
            return Ok(false);
        }
        hasher.update(&buffer[..count]);
        position += count as u64;
    }
    Ok(hasher.digest() == expected)
}

/// Whether a file holds just this content.
pub(super) fn reads_back(file: &File, content: &[u8]) -> io::Result<bool> {
    let mut buffer = [0; 16 * 1024];
    let mut rest = content;
    loop {
        match file.read_at(&mut buffer, (content.len() - rest.len()) as u64)? {
            0 => return Ok(rest.is_empty()),
            count if rest.get(..count) == Some(&buffer[..count]) => rest = &rest[count..],
            _ => return Ok(false),
        }
    }
}
