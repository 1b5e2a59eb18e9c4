//! What was received and is not in the repository yet: segments in a folder on the disk of this machine, written from
//! front to back.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::FlockOperation;

use crate::lsn::Lsn;
use crate::wal::error::{Result, WalError};
use crate::wal::name::{SegmentName, SegmentSize, Timeline};

/// The folder. One receiver uses it at a time.
#[derive(Debug)]
pub struct Spool {
    folder: PathBuf,
    _lock: File,
}

impl Spool {
    /// Opens it for this process alone.
    pub fn open(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder).map_err(WalError::io("make the folder", folder))?;
        let path = folder.join("lock");
        let opened = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path);
        let lock = opened.map_err(WalError::io("open", &path))?;
        match rustix::fs::flock(&lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => Ok(Self {
                folder: folder.to_path_buf(),
                _lock: lock,
            }),
            Err(rustix::io::Errno::WOULDBLOCK) => Err(WalError::Refused(format!(
                "another receiver uses {}: there is one for each cluster",
                folder.display()
            ))),
            Err(error) => Err(WalError::io("lock", &path)(error.into())),
        }
    }

    /// Where a segment lies.
    pub fn path(&self, name: SegmentName) -> PathBuf {
        self.folder.join(name.to_string())
    }

    /// The segments in it, by name.
    pub fn segments(&self) -> Result<Vec<SegmentName>> {
        let entries = fs::read_dir(&self.folder).map_err(WalError::io("read", &self.folder))?;
        let mut names: Vec<SegmentName> = entries
            .flatten()
            .filter_map(|entry| match entry.file_name().to_str()?.parse() {
                Ok(crate::wal::WalName::Segment(segment)) => Some(segment),
                _ => None,
            })
            .collect();
        names.sort();
        Ok(names)
    }

    /// All bytes of a segment that are there.
    pub fn read(&self, name: SegmentName) -> Result<Vec<u8>> {
        let path = self.path(name);
        fs::read(&path).map_err(WalError::io("read", &path))
    }

    /// Bytes of a segment from `from` up to `to`, counted in it.
    pub fn read_part(&self, name: SegmentName, from: u64, to: u64) -> Result<Vec<u8>> {
        let path = self.path(name);
        let mut bytes = vec![0; usize::try_from(to.saturating_sub(from)).unwrap_or(0)];
        let read = File::open(&path).and_then(|file| file.read_exact_at(&mut bytes, from));
        read.map_err(WalError::io("read", &path))?;
        Ok(bytes)
    }

    /// Removes a segment.
    pub fn remove(&self, name: SegmentName) -> Result<()> {
        let path = self.path(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(WalError::io("remove", &path)(error))
            }
            _ => Ok(()),
        }
    }
}

/// Writes what is received.
pub struct Writer<'a> {
    spool: &'a Spool,
    size: SegmentSize,
    open: Option<(SegmentName, File)>,
    unsynced: Vec<File>,
}

impl<'a> Writer<'a> {
    /// Writes into this spool.
    pub fn new(spool: &'a Spool, size: SegmentSize) -> Self {
        Self {
            spool,
            size,
            open: None,
            unsynced: Vec::new(),
        }
    }

    /// Writes bytes at a position. If it fails, it can be repeated as it is.
    pub fn write(&mut self, timeline: Timeline, at: Lsn, mut bytes: &[u8]) -> Result<()> {
        let mut at = at;
        while !bytes.is_empty() {
            let name = SegmentName::at(timeline, at, self.size);
            let within = at.since(self.size.floor(at));
            let room = usize::try_from(self.size.bytes() - within)
                .unwrap_or(usize::MAX)
                .min(bytes.len());
            let path = self.spool.path(name);
            let file = self.file(name)?;
            file.write_all_at(&bytes[..room], within)
                .map_err(WalError::io("write", &path))?;
            bytes = &bytes[room..];
            at = at.plus(room as u64);
        }
        Ok(())
    }

    fn file(&mut self, name: SegmentName) -> Result<&File> {
        let open = match self.open.take() {
            Some((there, file)) if there == name => (there, file),
            other => {
                let path = self.spool.path(name);
                let mut options = OpenOptions::new();
                let opened = options
                    .write(true)
                    .create(true)
                    .truncate(false)
                    .mode(0o600)
                    .open(&path);
                let file = match opened {
                    Ok(file) => file,
                    Err(error) => {
                        self.open = other;
                        return Err(WalError::io("write", &path)(error));
                    }
                };
                self.unsynced.extend(other.map(|(_, file)| file));
                (name, file)
            }
        };
        Ok(&self.open.insert(open).1)
    }

    /// Sees to it that what was written survives a crash of this machine.
    pub fn sync(&mut self) -> Result<()> {
        let open = self.open.as_ref().map(|(_, file)| file);
        for file in self.unsynced.iter().chain(open) {
            file.sync_data()
                .map_err(WalError::io("write", &self.spool.folder))?;
        }
        if !self.unsynced.is_empty() {
            let folder = File::open(&self.spool.folder).and_then(|folder| folder.sync_all());
            folder.map_err(WalError::io("write", &self.spool.folder))?;
        }
        self.unsynced.clear();
        Ok(())
    }
}
