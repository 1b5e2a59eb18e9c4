//! Directories of the target: making, opening and finding them.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::Path;

use rustix::fs::{
    AtFlags, CWD, Mode, fchmod, fgetxattr, fremovexattr, ioctl_getflags, ioctl_setflags, mkdirat, unlinkat,
};
use rustix::io::Errno;
use rustix::process::geteuid;

use super::place::{Conflict, resolve};
use super::shared::{Shared, TEMPORARY, add};
use crate::fs::dir_chain::open_dir;
use crate::fs::inode_flags::{SEALING, merge};
use crate::fs::listing::Lister;
use crate::fs::posix_acl;
use crate::fs::stat::FileStat;

/// A directory ready to be restored into.
pub(super) struct Made {
    pub fd: OwnedFd,
    pub stat: FileStat,
    /// Name it has, which is another where its own was taken.
    pub name: CString,
    /// It was made just now, so nothing is in it.
    pub fresh: bool,
    /// What is made in it inherits ACL entries.
    pub inherits_acl: bool,
}

/// Opens the target, made if it does not exist. The path may lead through symbolic links: it was the caller's choice.
pub(super) fn open_target(path: &Path) -> io::Result<Made> {
    let fresh = match std::fs::create_dir(path) {
        Ok(()) => true,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => false,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            std::fs::create_dir_all(path)?;
            true
        }
        Err(error) => return Err(error),
    };
    let real = path.canonicalize()?;
    let name = CString::new(real.as_os_str().as_encoded_bytes()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let fd = open_dir(CWD, &name)?;
    Ok(Made {
        fresh,
        name,
        ..opened(fd)?
    })
}

/// The target, if it is open already.
pub(super) fn opened(fd: OwnedFd) -> io::Result<Made> {
    Ok(Made {
        stat: FileStat::of(&fd)?,
        inherits_acl: inherits_acl(fd.as_fd()),
        name: CString::default(),
        fresh: false,
        fd,
    })
}

/// Whether what is made in a directory gets ACL entries from it.
fn inherits_acl(fd: BorrowedFd<'_>) -> bool {
    let mut buffer = [0; 4];
    // Too small for the value is an answer as well.
    !matches!(
        fgetxattr(fd, posix_acl::DEFAULT, &mut buffer),
        Err(Errno::NODATA | Errno::OPNOTSUPP | Errno::NOSYS)
    )
}

/// Makes the directory `name` in `parent`, or takes the one that is there. None where the policy leaves it out.
/// `own` says that it is wanted itself and not only something below it.
pub(super) fn make(
    shared: &Shared<'_>,
    parent: BorrowedFd<'_>,
    parent_inherits_acl: bool,
    name: &CStr,
    path: &[u8],
    own: bool,
) -> io::Result<Option<Made>> {
    let mut name = name.to_owned();
    let fresh = match mkdirat(parent, name.as_c_str(), Mode::RWXU) {
        Ok(()) => true,
        Err(Errno::EXIST) if FileStat::at(parent, &name)?.is_dir() => false,
        // A directory under another name that this restore would choose is one that it made.
        Err(Errno::EXIST) => match resolve(shared, parent, &name, path, None, |_, stat| stat.is_dir())? {
            Conflict::Put(place) => {
                if place.replace {
                    unlinkat(parent, name.as_c_str(), AtFlags::empty())?;
                    add(&shared.counters.replaced, 1);
                }
                name = place.name;
                mkdirat(parent, name.as_c_str(), Mode::RWXU)?;
                true
            }
            Conflict::Complete(found) => {
                name = found;
                false
            }
            Conflict::Skip => return Ok(None),
        },
        Err(error) => return Err(error.into()),
    };
    let fd = open_dir(parent, &name)?;
    let stat = FileStat::of(&fd)?;
    let mut inherits = false;
    if fresh {
        add(&shared.counters.directories, 1);
        if parent_inherits_acl {
            // What it inherited is not in the archive; that there is none to remove is fine.
            let _ = fremovexattr(&fd, posix_acl::DEFAULT);
            let _ = fremovexattr(&fd, posix_acl::ACCESS);
        }
    } else {
        if own {
            open_up(fd.as_fd(), &stat);
        }
        inherits = inherits_acl(fd.as_fd());
        if shared.options.resume {
            remove_leftovers(parent, &name);
        }
    }
    Ok(Some(Made {
        fd,
        stat,
        name,
        fresh,
        inherits_acl: inherits,
    }))
}

/// Lets an existing directory be written to until its metadata is set again. Where that fails, writing will tell.
fn open_up(fd: BorrowedFd<'_>, stat: &FileStat) {
    if let Ok(flags) = ioctl_getflags(fd) {
        let opened = merge(flags, 0, SEALING);
        if opened != flags {
            let _ = ioctl_setflags(fd, opened);
        }
    }
    if stat.mode & 0o700 != 0o700 && stat.uid == geteuid().as_raw() && stat.uid != 0 {
        let _ = fchmod(fd, Mode::from_raw_mode(stat.mode & 0o7777 | 0o700));
    }
}

/// Removes what a killed run left unfinished in a directory. Another restore into the same directory at the same time
/// loses what it is just writing, and reports it.
pub(super) fn remove_leftovers(parent: BorrowedFd<'_>, name: &CStr) {
    // A descriptor of its own: listing moves it.
    let Ok(fd) = open_dir(parent, name) else { return };
    let Ok(listing) = Lister::new().list(&fd) else {
        return;
    };
    for index in 0..listing.len() {
        let name = listing.name(index);
        if name.to_bytes().starts_with(TEMPORARY.as_bytes()) {
            // A directory of that name was made by somebody else and stays.
            let _ = unlinkat(&fd, name, AtFlags::empty());
        }
    }
}

/// Opens a directory below the target by its path there, step by step and without following links. The path may come
/// from an archive.
pub(super) fn find(root: BorrowedFd<'_>, path: &[u8]) -> io::Result<OwnedFd> {
    let mut dir = open_dir(root, c".")?;
    for name in path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
        dir = open_dir(&dir, &component(name)?)?;
    }
    Ok(dir)
}

/// One component of a path as system calls want it; `.`, `..` and anything with a slash or zero byte is refused.
pub(super) fn component(name: &[u8]) -> io::Result<CString> {
    if name.is_empty() || name == b"." || name == b".." || name.contains(&b'/') {
        return Err(io::ErrorKind::InvalidFilename.into());
    }
    CString::new(name).map_err(|_| io::ErrorKind::InvalidFilename.into())
}

/// Splits a path into its directory and its last component.
pub(super) fn split(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().rposition(|&byte| byte == b'/') {
        Some(slash) => (&path[..slash], &path[slash + 1..]),
        None => (&[], path),
    }
}
