//! Puts metadata on a restored object, in the order in which one part does not undo another.
//!
//! Owner comes before permissions and capabilities, because a change of owner takes set-user-id bits and capabilities
//! away; the ACL before the permissions, whose group bits are its mask; the time after everything that writes; flags
//! that seal the object after even that. What cannot be set is reported and the rest goes on.

use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{
    AtFlags, CWD, Gid, Mode, Timespec, Timestamps, UTIME_OMIT, Uid, XattrFlags, chmod, chownat, fchmod,
    fchown, fremovexattr, fsetxattr, futimens, ioctl_getflags, ioctl_setflags, setxattr, utimensat,
};
use rustix::io::Errno;

use super::metadata::{CAPABILITY, MetadataProblem, Part, is_unsupported};
use super::stat::FileStat;
use super::{inode_flags, posix_acl, project};
use crate::format::mode;
use crate::metadata::{FileTime, Metadata};

/// An object that metadata is put on.
#[derive(Debug, Clone, Copy)]
pub enum Target<'a> {
    /// A regular file or directory that is open (not with `O_PATH`).
    Open(BorrowedFd<'a>),
    /// An object of another kind, opened with `O_PATH | O_NOFOLLOW`; reached through `/proc/self/fd`, which leads to just
    /// that object and nowhere else.
    Handle(BorrowedFd<'a>),
}

/// The path that leads to an `O_PATH` descriptor's object.
fn proc_path(fd: BorrowedFd<'_>) -> CString {
    // A number holds no zero byte.
    CString::new(format!("/proc/self/fd/{}", fd.as_raw_fd())).unwrap_or_default()
}

/// The access half is left alone; seconds outside of what the kernel's interface holds do not exist in [`FileTime`].
fn times(mtime: FileTime) -> Timestamps {
    Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: Timespec {
            tv_sec: mtime.secs,
            tv_nsec: i64::from(mtime.nanos.min(999_999_999)),
        },
    }
}

impl Target<'_> {
    fn set_xattr(&self, name: &CStr, value: &[u8]) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => fsetxattr(fd, name, value, XattrFlags::empty()),
            Self::Handle(fd) => setxattr(proc_path(*fd).as_c_str(), name, value, XattrFlags::empty()),
        }
    }

    fn set_owner(&self, uid: u32, gid: u32) -> Result<(), Errno> {
        // The two numbers that mean "leave it" cannot be owners.
        if uid == u32::MAX || gid == u32::MAX {
            return Err(Errno::INVAL);
        }
        let (uid, gid) = (Some(Uid::from_raw(uid)), Some(Gid::from_raw(gid)));
        match self {
            Self::Open(fd) => fchown(fd, uid, gid),
            Self::Handle(fd) => chownat(fd, c"", uid, gid, AtFlags::EMPTY_PATH),
        }
    }

    fn set_mode(&self, mode: u32) -> Result<(), Errno> {
        let mode = Mode::from_raw_mode(mode & 0o7777);
        match self {
            Self::Open(fd) => fchmod(fd, mode),
            Self::Handle(fd) => chmod(proc_path(*fd).as_c_str(), mode),
        }
    }

    fn set_time(&self, mtime: FileTime) -> Result<(), Errno> {
        match self {
            Self::Open(fd) => futimens(fd, &times(mtime)),
            Self::Handle(fd) => utimensat(CWD, proc_path(*fd).as_c_str(), &times(mtime), AtFlags::empty()),
        }
    }

    fn stat(&self) -> io::Result<FileStat> {
        match self {
            Self::Open(fd) | Self::Handle(fd) => FileStat::of(fd),
        }
    }
}

/// Sets the flags that take effect only while a file is empty. To be called right after creating it.
pub fn apply_layout(fd: BorrowedFd<'_>, metadata: &Metadata, problems: &mut Vec<MetadataProblem>) {
    if metadata.flags & inode_flags::LAYOUT != 0 {
        set_flags(fd, metadata.flags, inode_flags::LAYOUT, problems);
    }
}

/// Sets everything but the flags of [`seal`].
pub fn apply(target: Target<'_>, metadata: &Metadata, problems: &mut Vec<MetadataProblem>) {
    let mut report = |part, result: Result<(), Errno>| {
        let failed = result.is_err();
        if let Err(error) = result {
            problems.push(MetadataProblem {
                part,
                error: error.into(),
            });
        }
        failed
    };
    let is_link = metadata.mode & mode::TYPE == mode::SYMLINK;
    for (name, value) in &metadata.xattrs {
        let result = match CString::new(name.as_slice()) {
            Ok(name) => target.set_xattr(&name, value),
            Err(_) => Err(Errno::INVAL),
        };
        report(Part::Xattr(name.clone()), result);
    }
    if !is_link {
        if let Some(value) = posix_acl::access_value(metadata.mode, &metadata.acl) {
            report(Part::Acl, target.set_xattr(posix_acl::ACCESS, &value));
        }
        if let Some(default) = &metadata.acl.default {
            report(
                Part::Acl,
                target.set_xattr(posix_acl::DEFAULT, &posix_acl::default_value(default)),
            );
        }
    }
    let foreign = report(Part::Owner, target.set_owner(metadata.uid, metadata.gid));
    if !is_link {
        let set_id = metadata.mode & 0o6000;
        if foreign && set_id != 0 {
            // A set-user-id bit means the owner it was given by; on another owner's file it would be a new privilege.
            report(
                Part::Mode,
                target.set_mode(metadata.mode & !0o6000).and(Err(Errno::PERM)),
            );
        } else {
            report(Part::Mode, target.set_mode(metadata.mode));
        }
    }
    if let Some(value) = &metadata.fcaps {
        report(Part::Capabilities, target.set_xattr(CAPABILITY, value));
    }
    if let Target::Open(fd) = target {
        let plain = inode_flags::ALL & !inode_flags::SEALING;
        if metadata.flags & plain != 0 {
            set_flags(fd, metadata.flags, plain, problems);
        }
        if let Some(id) = metadata.project_id {
            let result = u32::try_from(id)
                .map_err(|_| io::Error::from(Errno::INVAL))
                .and_then(|id| project::set_project_id(fd, id));
            if let Err(error) = result {
                problems.push(MetadataProblem {
                    part: Part::ProjectId,
                    error,
                });
            }
        }
    }
    apply_time(target, metadata.mtime, problems);
}

/// Sets the modification time. Every file system holds the years 1970 to 2038; outside of them it is read back, because
/// the kernel moves a time that does not fit to the nearest one that does, without an error.
pub fn apply_time(target: Target<'_>, mtime: FileTime, problems: &mut Vec<MetadataProblem>) {
    let mut result = target.set_time(mtime).map_err(io::Error::from);
    if result.is_ok() && !(0..=i64::from(i32::MAX)).contains(&mtime.secs) {
        result = target.stat().and_then(|stat| {
            if stat.mtime == mtime {
                Ok(())
            } else {
                Err(io::Error::new(
                    io::ErrorKind::Unsupported,
                    "the file system cannot hold this time",
                ))
            }
        });
    }
    if let Err(error) = result {
        problems.push(MetadataProblem {
            part: Part::Time,
            error,
        });
    }
}

/// Sets append-only and immutable, after which the object cannot be changed any more.
pub fn seal(fd: BorrowedFd<'_>, metadata: &Metadata, problems: &mut Vec<MetadataProblem>) {
    if metadata.flags & inode_flags::SEALING != 0 {
        set_flags(fd, metadata.flags, inode_flags::SEALING, problems);
    }
}

fn set_flags(fd: BorrowedFd<'_>, wanted: u64, mask: u64, problems: &mut Vec<MetadataProblem>) {
    let result = ioctl_getflags(fd).and_then(|current| {
        let merged = inode_flags::merge(current, wanted, mask);
        if merged == current {
            Ok(())
        } else {
            ioctl_setflags(fd, merged)
        }
    });
    if let Err(error) = result {
        problems.push(MetadataProblem {
            part: Part::Flags,
            error: error.into(),
        });
    }
}

/// Takes off what an existing directory has beyond the metadata it is to get: extended attributes, ACLs and flags.
pub fn clear_extras(
    fd: BorrowedFd<'_>,
    current: &Metadata,
    wanted: &Metadata,
    problems: &mut Vec<MetadataProblem>,
) {
    let mut remove = |part, name: &CStr| match fremovexattr(fd, name) {
        Ok(()) | Err(Errno::NODATA) => {}
        Err(error) if is_unsupported(error) => {}
        Err(error) => problems.push(MetadataProblem {
            part,
            error: error.into(),
        }),
    };
    for (name, _) in &current.xattrs {
        let kept = wanted.xattrs.iter().any(|(other, _)| other == name);
        // Labels belong to the policy of the machine, not to the object.
        if kept || name.starts_with(b"security.") {
            continue;
        }
        if let Ok(c_name) = CString::new(name.as_slice()) {
            remove(Part::Xattr(name.clone()), &c_name);
        }
    }
    if posix_acl::access_value(current.mode, &current.acl).is_some()
        && posix_acl::access_value(wanted.mode, &wanted.acl).is_none()
    {
        remove(Part::Acl, posix_acl::ACCESS);
    }
    if current.acl.default.is_some() && wanted.acl.default.is_none() {
        remove(Part::Acl, posix_acl::DEFAULT);
    }
    if current.flags & !wanted.flags & inode_flags::ALL != 0 {
        set_flags(
            fd,
            wanted.flags,
            inode_flags::ALL & !inode_flags::SEALING,
            problems,
        );
    }
}
