//! Disk images: files and block devices, in chunks of 4 MiB by position. Holes are not read, and a file that has not
//! changed since the previous snapshot is not read either.

mod boot;
pub mod disk;
mod kind;
mod rehearse;
mod state;

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use relight_repo::RepoError;
use relight_repo::direct::DirectFile;
use relight_repo::read::{ChunkReader, Scan, scan};
use relight_repo::session::{IMAGE_CHUNK, Session, is_zero};
use relight_repo::snapshot::{Archive, ArchiveKind, Snapshot};
use rustix::fs::{FallocateFlags, SeekFrom};

use crate::error::{Result, WorkloadError};

pub use kind::{Images, named};

/// Ending of an image's archive.
pub const IMAGE: &str = ".img";

/// So much is read back at once.
const COMPARED: usize = 1 << 20;

/// Why an image whose end went away while it was read gives no snapshot.
const SHORTER: &str = "it became shorter while it was read; leave its size alone and try again";

/// A failed action on a file.
fn failed<'a>(action: &'static str, path: &'a Path) -> impl Fn(io::Error) -> WorkloadError + 'a {
    move |source| WorkloadError::Io {
        action,
        path: path.to_path_buf(),
        source,
    }
}

/// Size of a file or block device in bytes.
fn size_of(file: &File) -> io::Result<u64> {
    let meta = file.metadata()?;
    if meta.file_type().is_block_device() {
        rustix::fs::seek(file, SeekFrom::End(0)).map_err(io::Error::from)
    } else if meta.is_file() {
        Ok(meta.len())
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "it is neither a file nor a block device",
        ))
    }
}

/// An image that was saved.
#[derive(Debug)]
pub struct SavedImage {
    /// Its archive.
    pub archive: Archive,
    /// What the snapshot is to remember of it, so that [`back_up`] can tell whether it has changed.
    pub attributes: Vec<(String, String)>,
    /// It was taken over from the parent without being read.
    pub unchanged: bool,
}

/// Saves the image at `path` as the archive `name`. `done` counts bytes. A regular file that is what it was when
/// `parent` was made (size, times, inode) is taken over from there.
pub fn back_up(
    session: &Session,
    name: &str,
    path: &Path,
    parent: Option<&Snapshot>,
    done: &AtomicU64,
    cancelled: &AtomicBool,
) -> Result<SavedImage> {
    let file = File::open(path).map_err(failed("open", path))?;
    let size = size_of(&file).map_err(failed("find the size of", path))?;
    let mut attributes = vec![(path_attribute(name), path.display().to_string())];
    let state = state::of(&file);
    if let (Some(parent), Some(state)) = (parent, &state)
        && let Some(archive) = state::take_over(session, parent, name, path, state, cancelled)?
    {
        done.fetch_add(size, Ordering::Relaxed);
        attributes.push((state::attribute(name), state.clone()));
        return Ok(SavedImage {
            archive,
            attributes,
            unchanged: true,
        });
    }
    let _ = rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::Sequential);
    let file = Arc::new(file);
    let shown: Arc<Path> = path.into();
    let mut writer = session.archive(&format!("{name}{IMAGE}"), ArchiveKind::Image)?;
    let chunk = IMAGE_CHUNK as u64;
    while writer.position() < size {
        if cancelled.load(Ordering::Relaxed) {
            return Err(RepoError::Cancelled.into());
        }
        let at = writer.position();
        let length = chunk.min(size - at);
        // Only whole chunks of a hole are left out; the rest of it is read as zeros.
        let data = next_data(&file, at, size);
        let hole = if data >= size {
            size - at
        } else {
            (data - at) / chunk * chunk
        };
        if hole >= length {
            writer.push_zeros(hole)?;
            done.fetch_add(hole, Ordering::Relaxed);
            continue;
        }
        let file = file.clone();
        let shown = shown.clone();
        let read = move |buffer: &mut [u8]| {
            file.read_exact_at(buffer, at).map_err(|error| {
                let why = match error.kind() {
                    io::ErrorKind::UnexpectedEof => SHORTER.to_string(),
                    _ => error.to_string(),
                };
                io::Error::new(error.kind(), format!("{} at byte {at}: {why}", shown.display()))
            })
        };
        writer.push_read(length as usize, Box::new(read))?;
        done.fetch_add(length, Ordering::Relaxed);
    }
    // What is behind the end looks like a hole: zeros would stand for what was cut off.
    if size_of(&file).map_err(failed("find the size of", path))? < size {
        return Err(failed("read", path)(io::Error::new(
            io::ErrorKind::UnexpectedEof,
            SHORTER,
        )));
    }
    // What was written to while it was read is not known to be what the snapshot holds.
    if let Some(state) = state.filter(|before| state::of(&file).as_ref() == Some(before)) {
        attributes.push((state::attribute(name), state));
    }
    Ok(SavedImage {
        archive: writer.finish()?,
        attributes,
        unchanged: false,
    })
}

/// Attribute of a snapshot that tells where the image `name` was.
fn path_attribute(name: &str) -> String {
    format!("image.{name}.path")
}

/// Where the next data begins at or after `from`; `size` if there is none. A file system that cannot tell has no holes.
fn next_data(file: &File, from: u64, size: u64) -> u64 {
    match rustix::fs::seek(file, SeekFrom::Data(from)) {
        Ok(at) => at.clamp(from, size),
        Err(rustix::io::Errno::NXIO) => size,
        Err(_) => from,
    }
}

/// How an image is restored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Target {
    /// A new file: zeros stay holes.
    NewFile,
    /// A block device or an existing file: every byte is written, zeros too, because what was there is not known.
    Overwrite,
}

/// What is done with what was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct After {
    /// Read it back and compare.
    pub check: bool,
    /// Wait until it is on disk.
    pub sync: bool,
}

/// Restores an image to `path`. `done` counts bytes.
pub fn restore(
    reader: &Arc<ChunkReader>,
    archive: &Archive,
    path: &Path,
    target: Target,
    after: After,
    done: &AtomicU64,
    cancelled: &AtomicBool,
) -> Result<()> {
    let file = ImageFile::open(path, archive.root.size, target, after)?;
    let write = |piece: relight_repo::tree::Piece, content: Scan<'_>| {
        let content = match content {
            Scan::Data(bytes) => Some(bytes),
            Scan::Zeros => None,
        };
        let written = file.put(piece.offset, piece.length, content);
        done.fetch_add(piece.length, Ordering::Relaxed);
        written.map_err(|source| {
            RepoError::Source(io::Error::new(
                source.kind(),
                format!("write {}: {source}", path.display()),
            ))
        })
    };
    let restored = scan(reader, archive.root, cancelled, &write);
    if let Err(error) = restored {
        if target == Target::NewFile {
            // Half an image under its final name would look like a whole one.
            let _ = std::fs::remove_file(path);
        }
        return Err(error.into());
    }
    file.finish()
}

/// An image that is being restored, in any order and by several threads.
pub struct ImageFile {
    file: DirectFile,
    path: PathBuf,
    target: Target,
    after: After,
}

impl ImageFile {
    /// Makes or opens the file or device, which must have room for `size` bytes.
    pub fn open(path: &Path, size: u64, target: Target, after: After) -> Result<Self> {
        let mut options = OpenOptions::new();
        options.write(true).read(true).mode(0o600);
        if target == Target::NewFile {
            options.create_new(true);
        }
        let file = DirectFile::new(options.open(path).map_err(failed("open", path))?);
        if target == Target::NewFile {
            file.file().set_len(size).map_err(failed("make room in", path))?;
        } else {
            let there = size_of(file.file()).map_err(failed("find the size of", path))?;
            if there < size {
                return Err(WorkloadError::Refused(format!(
                    "{} has {there} bytes, but the image needs {size}: enlarge it or choose another",
                    path.display()
                )));
            }
        }
        Ok(Self {
            file,
            path: path.to_path_buf(),
            target,
            after,
        })
    }

    /// Writes `length` bytes at `offset`; without content they are zeros.
    pub fn put(&self, offset: u64, length: u64, content: Option<&[u8]>) -> io::Result<()> {
        let is_new = self.target == Target::NewFile;
        match content {
            // What a client encrypted has zeros that the repository does not know.
            Some(bytes) if is_new && is_zero(bytes) => Ok(()),
            Some(bytes) => {
                self.file.write_all_at(bytes, offset)?;
                if self.after.check {
                    compare(&self.file, bytes, offset)?;
                }
                Ok(())
            }
            None if is_new => Ok(()),
            None => zero(self.file.file(), offset, length),
        }
    }

    /// Ends it; with [`After::sync`] it is on disk then.
    pub fn finish(self) -> Result<()> {
        if self.after.sync {
            self.file.file().sync_all().map_err(failed("write", &self.path))?;
        }
        Ok(())
    }
}

/// Reads back what was written.
fn compare(file: &DirectFile, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut back = vec![0; bytes.len().min(COMPARED)];
    let mut at = offset;
    for part in bytes.chunks(COMPARED) {
        let back = &mut back[..part.len()];
        file.read_exact_at(back, at)?;
        if back != part {
            return Err(io::Error::other(format!(
                "what was written at byte {at} reads back different"
            )));
        }
        at += part.len() as u64;
    }
    Ok(())
}

/// Overwrites a range with zeros, by the cheapest means that is certain to.
fn zero(file: &File, offset: u64, length: u64) -> io::Result<()> {
    if rustix::fs::fallocate(file, FallocateFlags::ZERO_RANGE, offset, length).is_ok() {
        return Ok(());
    }
    let zeros = vec![0; 1 << 20];
    let mut at = offset;
    while at < offset + length {
        let count = zeros.len().min((offset + length - at) as usize);
        file.write_all_at(&zeros[..count], at)?;
        at += count as u64;
    }
    Ok(())
}
