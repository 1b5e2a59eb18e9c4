//! What one `statx` call says about a file system object.

use std::ffi::CStr;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, FileType, Statx, StatxAttributes, StatxFlags, statx};

use crate::metadata::FileTime;

/// Attributes of an object, read without following symbolic links.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileStat {
    /// File type and permission bits (`st_mode`).
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Number of hard links.
    pub nlink: u32,
    /// Inode number, unique within `dev`.
    pub ino: u64,
    /// Device the object lies on: major number in the upper, minor in the lower 32 bits.
    pub dev: u64,
    /// The mount it was reached through; 0 where the kernel does not say (before Linux 5.8).
    pub mount: u64,
    /// Whether it is the root of a mount.
    pub mount_root: bool,
    /// Major number of a device node.
    pub rdev_major: u32,
    /// Minor number of a device node.
    pub rdev_minor: u32,
    /// Length of the content in bytes.
    pub size: u64,
    /// Blocks of 512 bytes that are allocated.
    pub blocks: u64,
    /// Last modification of the content.
    pub mtime: FileTime,
    /// Last change of content or metadata.
    pub ctime: FileTime,
}

impl FileStat {
    /// Reads the attributes of `name` in `dir`.
    pub fn at(dir: BorrowedFd<'_>, name: &CStr) -> io::Result<Self> {
        let flags = AtFlags::SYMLINK_NOFOLLOW | AtFlags::NO_AUTOMOUNT;
        let found = statx(dir, name, flags, StatxFlags::BASIC_STATS | StatxFlags::MNT_ID)?;
        Ok(Self::from_statx(&found))
    }

    /// Reads the attributes of an open object.
    pub fn of(fd: impl AsFd) -> io::Result<Self> {
        let found = statx(
            fd,
            c"",
            AtFlags::EMPTY_PATH,
            StatxFlags::BASIC_STATS | StatxFlags::MNT_ID,
        )?;
        Ok(Self::from_statx(&found))
    }

    fn from_statx(found: &Statx) -> Self {
        let mount = if found.stx_mask & StatxFlags::MNT_ID.bits() != 0 {
            found.stx_mnt_id
        } else {
            0
        };
        Self {
            mode: u32::from(found.stx_mode),
            uid: found.stx_uid,
            gid: found.stx_gid,
            nlink: found.stx_nlink,
            ino: found.stx_ino,
            dev: u64::from(found.stx_dev_major) << 32 | u64::from(found.stx_dev_minor),
            mount,
            mount_root: found.stx_attributes.contains(StatxAttributes::MOUNT_ROOT),
            rdev_major: found.stx_rdev_major,
            rdev_minor: found.stx_rdev_minor,
            size: found.stx_size,
            blocks: found.stx_blocks,
            mtime: FileTime {
                secs: found.stx_mtime.tv_sec,
                nanos: found.stx_mtime.tv_nsec,
            },
            ctime: FileTime {
                secs: found.stx_ctime.tv_sec,
                nanos: found.stx_ctime.tv_nsec,
            },
        }
    }

    /// The file type.
    pub fn file_type(&self) -> FileType {
        FileType::from_raw_mode(self.mode)
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.file_type() == FileType::Directory
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.file_type() == FileType::RegularFile
    }

    /// What tells one object from every other on this machine at one moment.
    pub fn identity(&self) -> (u64, u64) {
        (self.dev, self.ino)
    }

    /// Whether `self` and `other` are on the same mounted file system. Kernels that do not number mounts are asked for
    /// the device instead.
    pub fn same_mount(&self, other: &Self) -> bool {
        if self.mount != 0 && other.mount != 0 {
            self.mount == other.mount
        } else {
            self.dev == other.dev
        }
    }
}
