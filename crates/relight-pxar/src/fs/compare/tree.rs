//! A tree on disk as one side of a comparison.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::path::Path;
use std::sync::Arc;

use rustix::fs::{FileType, Mode, OFlags, openat, readlinkat};

use super::links::Group;
use super::merge::{Entry, EntryKind, Found};
use super::{CompareError, CompareOptions};
use crate::format::MAX_DEPTH;
use crate::fs::dir_chain::{DirChain, open_dir, open_root};
use crate::fs::extract::{Selection, Standing};
use crate::fs::listing::{Lister, Listing};
use crate::fs::metadata::{MetadataProblem, MetadataReader};
use crate::fs::stat::FileStat;
use crate::metadata::Metadata;

/// Walks a tree in the order of archives.
pub(super) struct TreeSide {
    chain: DirChain,
    lister: Lister,
    reader: MetadataReader,
    frames: Vec<Frame>,
    /// Path of the entry handed out last.
    path: Vec<u8>,
    selection: Selection,
    one_file_system: bool,
    /// The regular file handed out last, open.
    file: Option<File>,
    started: bool,
}

struct Frame {
    listing: Listing,
    next: usize,
    path_length: usize,
    stat: FileStat,
    /// It is on the chain of open directories; else it could not be opened and counts as empty.
    open: bool,
}

impl TreeSide {
    pub fn open(path: &Path, options: &CompareOptions) -> Result<Self, CompareError> {
        let error = |source| CompareError::Root {
            path: path.to_path_buf(),
            source,
        };
        let root = open_root(path).map_err(error)?;
        Ok(Self {
            chain: DirChain::new(root).map_err(error)?,
            lister: Lister::new(),
            reader: MetadataReader::new(),
            frames: Vec::new(),
            path: Vec::new(),
            selection: options.selection.clone(),
            one_file_system: options.one_file_system,
            file: None,
            started: false,
        })
    }

    /// The regular file handed out last.
    pub fn take_file(&mut self) -> Option<File> {
        self.file.take()
    }

    /// Passes over what is left of the directory entered last, and its end.
    pub fn skip_directory(&mut self) {
        if let Some(frame) = self.frames.pop() {
            self.lister.recycle(frame.listing);
            if frame.open {
                self.chain.pop();
            }
        }
    }

    /// The next entry or end of a directory; none after the end of the root.
    pub fn next(&mut self) -> io::Result<Option<Found>> {
        self.file = None;
        if !std::mem::replace(&mut self.started, true) {
            return self.root().map(|entry| Some(Found::Entry(entry)));
        }
        loop {
            let Some(frame) = self.frames.last_mut() else {
                return Ok(None);
            };
            if frame.next >= frame.listing.len() {
                self.skip_directory();
                return Ok(Some(Found::Leave));
            }
            let index = frame.next;
            frame.next += 1;
            let (path_length, parent) = (frame.path_length, frame.stat);
            let listing = std::mem::take(&mut frame.listing);
            let level = self.frames.len() - 1;
            self.path.truncate(path_length);
            if !self.path.is_empty() {
                self.path.push(b'/');
            }
            self.path.extend_from_slice(listing.name(index).to_bytes());
            let standing = self.selection.standing(&self.path);
            let entry = match standing {
                Standing::Outside => None,
                standing => self.entry(listing.name(index), &parent, standing),
            };
            if let Some(frame) = self.frames.get_mut(level) {
                frame.listing = listing;
            }
            if let Some(entry) = entry {
                return Ok(Some(Found::Entry(entry)));
            }
        }
    }

    fn root(&mut self) -> io::Result<Entry> {
        let dir = Arc::clone(self.chain.current()?);
        let stat = FileStat::of(&dir)?;
        let mut problems = Vec::new();
        let metadata = self.reader.open_object(dir.as_fd(), &stat, &mut problems);
        // Listing moves a descriptor, and this one stays for the whole walk.
        let listing = self.lister.list(open_dir(&dir, c".")?)?;
        self.frames.push(Frame {
            listing,
            next: 0,
            path_length: 0,
            stat,
            open: false,
        });
        let standing = self.selection.standing(b"");
        Ok(Entry {
            standing,
            ..entry(b"", EntryKind::Directory, metadata, &stat, &problems)
        })
    }

    /// None for an entry that vanished, or that is only in the way to something selected without being a directory.
    fn entry(&mut self, name: &CStr, parent: &FileStat, standing: Standing) -> Option<Entry> {
        let bytes = name.to_bytes();
        let broken = |error: io::Error| Entry::broken(bytes, standing, &error);
        let dir = match self.chain.current() {
            Ok(dir) => Arc::clone(dir),
            Err(error) => return Some(broken(error)),
        };
        let stat = match FileStat::at(dir.as_fd(), name) {
            Ok(stat) => stat,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return None,
            Err(error) => return Some(broken(error)),
        };
        if standing == Standing::Above && !stat.is_dir() {
            return None;
        }
        let mut problems = Vec::new();
        let found = match stat.file_type() {
            FileType::Directory => {
                let other_mount = self.one_file_system && !stat.same_mount(parent);
                let opened = if self.frames.len() >= MAX_DEPTH {
                    Err(io::Error::other("directories are nested deeper than 4096"))
                } else if other_mount {
                    Ok(None)
                } else {
                    open_dir(&dir, name)
                        .map_err(io::Error::from)
                        .and_then(|fd| Ok(Some((self.lister.list(&fd)?, fd))))
                };
                let path_length = self.path.len();
                match opened {
                    Ok(Some((listing, fd))) => {
                        let metadata = self.reader.open_object(fd.as_fd(), &stat, &mut problems);
                        self.chain.push(name, fd, stat.identity());
                        self.frames.push(Frame {
                            listing,
                            next: 0,
                            path_length,
                            stat,
                            open: true,
                        });
                        entry(bytes, EntryKind::Directory, metadata, &stat, &problems)
                    }
                    closed => {
                        let metadata = self.reader.object_at(dir.as_fd(), name, &stat, &mut problems);
                        self.frames.push(Frame {
                            listing: Listing::default(),
                            next: 0,
                            path_length,
                            stat,
                            open: false,
                        });
                        let mut entry = entry(bytes, EntryKind::Directory, metadata, &stat, &problems);
                        if let Err(error) = closed {
                            entry.problem = Some(error.to_string());
                        }
                        entry
                    }
                }
            }
            FileType::RegularFile => {
                let flags =
                    OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC | OFlags::NOCTTY;
                let file = match openat(&dir, name, flags, Mode::empty()) {
                    Ok(fd) => File::from(fd),
                    Err(error) => return Some(broken(error.into())),
                };
                let metadata = self.reader.open_object(file.as_fd(), &stat, &mut problems);
                self.file = Some(file);
                entry(
                    bytes,
                    EntryKind::File {
                        size: stat.size,
                        place: None,
                    },
                    metadata,
                    &stat,
                    &problems,
                )
            }
            file_type => {
                let metadata = self.reader.object_at(dir.as_fd(), name, &stat, &mut problems);
                let kind = match file_type {
                    FileType::Symlink => match readlinkat(&dir, name, Vec::new()) {
                        Ok(target) => EntryKind::Symlink(target.into_bytes()),
                        Err(error) => return Some(broken(error.into())),
                    },
                    FileType::Fifo => EntryKind::Fifo,
                    FileType::Socket => EntryKind::Socket,
                    _ => EntryKind::Device {
                        major: u64::from(stat.rdev_major),
                        minor: u64::from(stat.rdev_minor),
                    },
                };
                entry(bytes, kind, metadata, &stat, &problems)
            }
        };
        Some(Entry { standing, ..found })
    }
}

fn entry(
    name: &[u8],
    kind: EntryKind,
    metadata: Metadata,
    stat: &FileStat,
    problems: &[MetadataProblem],
) -> Entry {
    let several = stat.is_file() && stat.nlink > 1;
    Entry {
        name: name.to_vec(),
        kind,
        metadata: Some(metadata),
        group: several.then(|| Group {
            id: stat.identity(),
            several,
        }),
        standing: Standing::Inside,
        problem: problems
            .first()
            .map(|problem| format!("{}: {}", problem.part, problem.error)),
    }
}
