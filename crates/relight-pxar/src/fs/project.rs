//! Project ids of ext4 and XFS quotas (`FS_IOC_FSGETXATTR`, `linux/fs.h`).

use std::io;
use std::os::fd::BorrowedFd;

use rustix::ioctl::{Getter, Opcode, Setter, ioctl, opcode};

/// `struct fsxattr` of `linux/fs.h`.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
struct FsXattr {
    xflags: u32,
    extent_size: u32,
    extents: u32,
    project: u32,
    cow_extent_size: u32,
    reserved: [u8; 8],
}

const GET: Opcode = opcode::read::<FsXattr>(b'X', 31);
const SET: Opcode = opcode::write::<FsXattr>(b'X', 32);

fn get(fd: BorrowedFd<'_>) -> io::Result<FsXattr> {
    // SAFETY: FS_IOC_FSGETXATTR fills a `struct fsxattr`, whose layout `FsXattr` has; every bit pattern of it is valid.
    Ok(unsafe { ioctl(fd, Getter::<GET, FsXattr>::new()) }?)
}

/// The project id of an open regular file or directory; 0 means none.
///
/// # Errors
/// `ENOTTY` or `EOPNOTSUPP` where the file system has no project ids.
pub fn project_id(fd: BorrowedFd<'_>) -> io::Result<u32> {
    Ok(get(fd)?.project)
}

/// Sets the project id of an open regular file or directory.
///
/// # Errors
/// `ENOTTY` or `EOPNOTSUPP` where the file system has no project ids, `EPERM` without privileges.
pub fn set_project_id(fd: BorrowedFd<'_>, project: u32) -> io::Result<()> {
    let mut attributes = get(fd)?;
    if attributes.project == project {
        return Ok(());
    }
    attributes.project = project;
    // SAFETY: FS_IOC_FSSETXATTR reads a `struct fsxattr`, which `FsXattr` has the layout of.
    Ok(unsafe { ioctl(fd, Setter::<SET, FsXattr>::new(attributes)) }?)
}
