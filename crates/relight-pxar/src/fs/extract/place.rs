//! Creates one object under a temporary name, completes it and gives it its own name: what bears its own name is
//! complete, whenever the restore is cut off.

use std::ffi::{CStr, CString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RenameFlags, fremovexattr, makedev, mknodat, openat, readlinkat,
    renameat, renameat_with, symlinkat, unlinkat,
};
use rustix::io::Errno;

use super::items::ItemKind;
use super::report::LossKind;
use super::shared::{Seal, Shared, Temporary, add, lock};
use super::{ConflictPolicy, RestoreError};
use crate::format::mode;
use crate::fs::apply::{self, Target};
use crate::fs::inode_flags::SEALING;
use crate::fs::posix_acl;
use crate::fs::stat::FileStat;
use crate::metadata::{FileTime, Metadata};

/// Where an object is put.
#[derive(Debug, Clone)]
pub(super) struct Place {
    /// Name it gets.
    pub name: CString,
    /// It takes the place of something that is not a directory.
    pub replace: bool,
}

/// What is to become of an entry.
#[derive(Debug)]
pub(super) enum Conflict {
    /// To be restored there.
    Put(Place),
    /// It is there already as it should be, under this name.
    Complete(CString),
    /// To be left out.
    Skip,
}

/// Whether what is on disk is what an earlier run of the same restore left complete: right kind, size or target, and
/// time. The time is set after everything else and before the object gets its name, so it speaks for all of it.
pub(super) fn is_complete(
    dir: BorrowedFd<'_>,
    name: &CStr,
    stat: &FileStat,
    kind: &ItemKind,
    metadata: &Metadata,
) -> bool {
    if stat.mode & mode::TYPE != metadata.mode & mode::TYPE || !is_same_time(stat.mtime, metadata.mtime) {
        return false;
    }
    match kind {
        ItemKind::File { size, .. } => stat.size == *size,
        ItemKind::Symlink { target } => {
            readlinkat(dir, name, Vec::new()).is_ok_and(|found| found.as_bytes() == target.as_slice())
        }
        ItemKind::Device { major, minor } => {
            u64::from(stat.rdev_major) == *major && u64::from(stat.rdev_minor) == *minor
        }
        ItemKind::Fifo | ItemKind::Socket => true,
        ItemKind::Directory | ItemKind::Hardlink { .. } => false,
    }
}

/// Whether a time found is the one that was set. File systems without fractions of a second drop them, some keep
/// even seconds only.
fn is_same_time(found: FileTime, wanted: FileTime) -> bool {
    let coarse = found.nanos == 0
        && wanted
            .secs
            .checked_sub(found.secs)
            .is_some_and(|lost| (0..=1).contains(&lost));
    found == wanted || coarse
}

/// The name something gets that finds its own taken: the `attempt`th from 1 on. Long names lose their end, so that the
/// new one is no longer than 255 bytes.
fn other_name(name: &CStr, attempt: u32) -> CString {
    let suffix = if attempt == 1 {
        ".restored".to_string()
    } else {
        format!(".restored-{attempt}")
    };
    let mut bytes = name.to_bytes().to_vec();
    bytes.truncate(255 - suffix.len());
    bytes.extend_from_slice(suffix.as_bytes());
    CString::new(bytes).unwrap_or_default()
}

/// Other names that are tried before giving up.
const MAX_ATTEMPTS: u32 = 1000;

/// Finds out whether the name of an entry is taken, and what the policy says then. `mtime` is the entry's own,
/// `is_complete` judges what is found.
pub(super) fn resolve(
    shared: &Shared<'_>,
    dir: BorrowedFd<'_>,
    name: &CStr,
    path: &[u8],
    mtime: Option<FileTime>,
    is_complete: impl Fn(&CStr, &FileStat) -> bool,
) -> io::Result<Conflict> {
    let look = |name: &CStr| match FileStat::at(dir, name) {
        Ok(stat) => Ok(Some(stat)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    };
    let free = |name: &CStr| {
        Conflict::Put(Place {
            name: name.to_owned(),
            replace: false,
        })
    };
    let Some(stat) = look(name)? else {
        return Ok(free(name));
    };
    if shared.options.resume && is_complete(name, &stat) {
        return Ok(Conflict::Complete(name.to_owned()));
    }
    match shared.options.conflict {
        ConflictPolicy::Skip => Ok(Conflict::Skip),
        // Without a time to compare, what exists is not known to be older.
        ConflictPolicy::KeepNewer if mtime.is_none_or(|mtime| stat.mtime >= mtime) => Ok(Conflict::Skip),
        ConflictPolicy::Fail => {
            shared.fail(RestoreError::Exists { path: path.to_vec() });
            Ok(Conflict::Skip)
        }
        ConflictPolicy::Replace | ConflictPolicy::KeepNewer if stat.is_dir() => {
            match unlinkat(dir, name, AtFlags::REMOVEDIR) {
                Ok(()) => {
                    add(&shared.counters.replaced, 1);
                    Ok(free(name))
                }
                Err(Errno::NOTEMPTY | Errno::EXIST) => Err(io::Error::new(
                    io::ErrorKind::DirectoryNotEmpty,
                    "a directory that is not empty has its name",
                )),
                Err(error) => Err(error.into()),
            }
        }
        ConflictPolicy::Replace | ConflictPolicy::KeepNewer => Ok(Conflict::Put(Place {
            name: name.to_owned(),
            replace: true,
        })),
        ConflictPolicy::Rename => {
            for attempt in 1..=MAX_ATTEMPTS {
                let other = other_name(name, attempt);
                match look(&other)? {
                    None => {
                        shared.report().add_renamed(path, other.to_bytes());
                        return Ok(free(&other));
                    }
                    Some(stat) if shared.options.resume && is_complete(&other, &stat) => {
                        return Ok(Conflict::Complete(other));
                    }
                    Some(_) => {}
                }
            }
            Err(io::Error::new(
                io::ErrorKind::AlreadyExists,
                "a thousand other names are taken too",
            ))
        }
    }
}

/// An entry on its way to its place.
pub(super) struct Placing<'s, 'a> {
    pub shared: &'s Shared<'a>,
    pub dir: BorrowedFd<'s>,
    pub place: &'s Place,
    /// Path in the archive.
    pub path: &'s [u8],
    /// Path of the directory below the target.
    pub directory: &'s [u8],
    pub metadata: &'s Metadata,
    /// New objects inherit ACL entries from the directory, which are not theirs.
    pub strip_acl: bool,
}

impl<'s> Placing<'s, '_> {
    /// Creates an empty regular file.
    pub fn create_file(&self) -> io::Result<(File, Temporary<'s>)> {
        let name = self.shared.temporary();
        let flags = OFlags::RDWR
            | OFlags::CREATE
            | OFlags::EXCL
            | OFlags::NOFOLLOW
            | OFlags::CLOEXEC
            | OFlags::NOCTTY;
        let file = File::from(openat(self.dir, name.as_c_str(), flags, Mode::RUSR | Mode::WUSR)?);
        let temporary = Temporary::new(self.dir, name);
        let mut problems = Vec::new();
        apply::apply_layout(file.as_fd(), self.metadata, &mut problems);
        self.shared.lose_metadata(self.path, problems);
        Ok((file, temporary))
    }

    /// Sets the metadata of a file whose content is whole and gives it its name.
    pub fn finish_file(&self, file: &File, temporary: Temporary<'_>) -> io::Result<()> {
        let mut problems = Vec::new();
        if self.strip_acl && posix_acl::access_value(self.metadata.mode, &self.metadata.acl).is_none() {
            // Not having one is what is wanted.
            let _ = fremovexattr(file, posix_acl::ACCESS);
        }
        apply::apply(Target::Open(file.as_fd()), self.metadata, &mut problems);
        self.settle(temporary)?;
        self.shared.lose_metadata(self.path, problems);
        seal_later(
            self.shared,
            self.path,
            self.directory,
            &self.place.name,
            self.metadata,
        );
        Ok(())
    }

    /// Creates a symbolic link, device, pipe or socket, completes it and gives it its name.
    pub fn put_other(&self, kind: &ItemKind) -> io::Result<()> {
        let name = self.shared.temporary();
        let node = |file_type, device| {
            mknodat(
                self.dir,
                name.as_c_str(),
                file_type,
                Mode::RUSR | Mode::WUSR,
                device,
            )
        };
        match kind {
            ItemKind::Symlink { target } => symlinkat(target.as_slice(), self.dir, name.as_c_str())?,
            ItemKind::Fifo => node(FileType::Fifo, 0)?,
            ItemKind::Socket => node(FileType::Socket, 0)?,
            ItemKind::Device { major, minor } => {
                let number = |number: u64| u32::try_from(number).map_err(|_| io::Error::from(Errno::INVAL));
                node(
                    FileType::from_raw_mode(self.metadata.mode),
                    makedev(number(*major)?, number(*minor)?),
                )?;
            }
            ItemKind::Directory | ItemKind::File { .. } | ItemKind::Hardlink { .. } => {
                return Err(io::ErrorKind::InvalidInput.into());
            }
        }
        let temporary = Temporary::new(self.dir, name);
        let flags = OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let handle = openat(self.dir, temporary.name(), flags, Mode::empty())?;
        let stat = FileStat::of(&handle)?;
        if stat.mode & mode::TYPE != self.metadata.mode & mode::TYPE || stat.nlink != 1 {
            // Somebody else put this here; it must not get an owner or permissions from us.
            return Err(io::Error::other(
                "another process changed it while it was being restored",
            ));
        }
        let mut problems = Vec::new();
        apply::apply(Target::Handle(handle.as_fd()), self.metadata, &mut problems);
        self.settle(temporary)?;
        self.shared.lose_metadata(self.path, problems);
        Ok(())
    }

    /// Gives a complete object its name.
    pub fn settle(&self, temporary: Temporary<'_>) -> io::Result<()> {
        let name = self.place.name.as_c_str();
        if self.place.replace {
            renameat(self.dir, temporary.name(), self.dir, name)?;
            add(&self.shared.counters.replaced, 1);
        } else {
            match renameat_with(self.dir, temporary.name(), self.dir, name, RenameFlags::NOREPLACE) {
                // Some network file systems do not know the flag.
                Err(Errno::INVAL | Errno::NOSYS) => {
                    if FileStat::at(self.dir, name).is_ok() {
                        return Err(Errno::EXIST.into());
                    }
                    renameat(self.dir, temporary.name(), self.dir, name)?;
                }
                result => result?,
            }
        }
        temporary.keep();
        Ok(())
    }

    /// Reports what went wrong with creating the object.
    pub fn lose(&self, error: &io::Error) {
        let kind = match Errno::from_io_error(error) {
            Some(Errno::EXIST | Errno::ISDIR | Errno::NOTEMPTY) => LossKind::Conflict,
            _ => LossKind::Object,
        };
        self.shared.lose(self.path, kind, error);
    }
}

/// Has append-only and immutable set when everything else is done: such a file could not be linked any more.
pub(super) fn seal_later(
    shared: &Shared<'_>,
    path: &[u8],
    directory: &[u8],
    name: &CStr,
    metadata: &Metadata,
) {
    if metadata.flags & SEALING != 0 {
        let place = join(directory, name.to_bytes());
        let metadata = Metadata {
            flags: metadata.flags,
            mode: metadata.mode,
            ..Metadata::default()
        };
        lock(&shared.seals).push(Seal {
            path: path.to_vec(),
            place,
            metadata,
        });
    }
}

/// A path one component longer.
pub(super) fn join(directory: &[u8], name: &[u8]) -> Vec<u8> {
    let mut path = Vec::with_capacity(directory.len() + 1 + name.len());
    path.extend_from_slice(directory);
    if !directory.is_empty() {
        path.push(b'/');
    }
    path.extend_from_slice(name);
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn coarse_times_are_the_same() {
        let time = |secs, nanos| FileTime { secs, nanos };
        assert!(is_same_time(time(5, 1), time(5, 1)));
        assert!(is_same_time(time(5, 0), time(5, 1)) && is_same_time(time(4, 0), time(5, 1)));
        assert!(!is_same_time(time(5, 2), time(5, 1)) && !is_same_time(time(5, 0), time(4, 999)));
    }

    #[test]
    fn other_names_fit() {
        assert_eq!(other_name(c"a", 1).as_c_str(), c"a.restored");
        assert_eq!(other_name(c"a", 12).as_c_str(), c"a.restored-12");
        let long = CString::new(vec![b'x'; 255]).unwrap();
        assert_eq!(other_name(&long, 1000).to_bytes().len(), 255);
    }
}
