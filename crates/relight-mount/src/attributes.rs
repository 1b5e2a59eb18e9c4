//! Attributes of what is shown, as the kernel wants them.

use std::time::{Duration, SystemTime};

use fuser::{FileAttr, FileType, INodeNo};
use jiff::Timestamp;
use relight_pxar::format::mode;
use relight_pxar::{EntryKind, FileTime, Stat};

/// Who owns what the mount makes up: whoever mounts.
#[derive(Debug, Clone, Copy)]
pub struct Owner {
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
}

impl Owner {
    /// The user of this process.
    pub fn me() -> Self {
        Self {
            uid: rustix::process::geteuid().as_raw(),
            gid: rustix::process::getegid().as_raw(),
        }
    }
}

/// A time as the interface to the kernel takes it; beyond what it can hold, the nearest it can.
fn system_time(time: FileTime) -> SystemTime {
    let seconds = Duration::from_secs(time.secs.unsigned_abs());
    let whole = if time.secs < 0 {
        SystemTime::UNIX_EPOCH.checked_sub(seconds)
    } else {
        SystemTime::UNIX_EPOCH.checked_add(seconds)
    };
    let nanos = Duration::from_nanos(u64::from(time.nanos.min(999_999_999)));
    whole
        .and_then(|whole| whole.checked_add(nanos))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

/// Attributes of something that the mount makes up.
pub fn of_made(
    number: u64,
    owner: Owner,
    kind: FileType,
    size: u64,
    allocated: u64,
    time: Timestamp,
) -> FileAttr {
    let time = system_time(FileTime {
        secs: time.as_second(),
        nanos: time.subsec_nanosecond().unsigned_abs(),
    });
    let perm = match kind {
        FileType::Directory => 0o555,
        FileType::Symlink => 0o777,
        // A whole disk or dump is nobody else's business.
        _ => 0o400,
    };
    FileAttr {
        ino: INodeNo(number),
        size,
        blocks: allocated.div_ceil(512),
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind,
        perm,
        nlink: 1,
        uid: owner.uid,
        gid: owner.gid,
        rdev: 0,
        blksize: if kind == FileType::RegularFile {
            1 << 20
        } else {
            4096
        },
        flags: 0,
    }
}

/// Attributes of an entry of a tree; none if its mode says nothing the kernel knows.
pub fn of_entry(number: u64, stat: &Stat, kind: &EntryKind<'_>, links: u32) -> Option<FileAttr> {
    let time = system_time(stat.mtime);
    let size = match kind {
        EntryKind::File { size, .. } => *size,
        EntryKind::Symlink { target } => target.len() as u64,
        _ => 0,
    };
    let rdev = match *kind {
        EntryKind::Device { major, minor } => device(major, minor),
        _ => 0,
    };
    Some(FileAttr {
        ino: INodeNo(number),
        size,
        blocks: size.div_ceil(512),
        atime: time,
        mtime: time,
        ctime: time,
        crtime: time,
        kind: file_type(stat)?,
        perm: (stat.mode & 0o7777) as u16,
        nlink: links,
        uid: stat.uid,
        gid: stat.gid,
        rdev,
        blksize: 4096,
        flags: 0,
    })
}

/// The type of an entry; none if its mode says nothing the kernel knows.
pub fn file_type(stat: &Stat) -> Option<FileType> {
    Some(match stat.file_type() {
        mode::DIRECTORY => FileType::Directory,
        mode::FILE => FileType::RegularFile,
        mode::SYMLINK => FileType::Symlink,
        mode::BLOCK => FileType::BlockDevice,
        mode::CHARACTER => FileType::CharDevice,
        mode::FIFO => FileType::NamedPipe,
        mode::SOCKET => FileType::Socket,
        _ => return None,
    })
}

/// A device number in 32 bits as the kernel packs them: 12 bits of the major, 20 of the minor number (`new_encode_dev`
/// of `linux/kdev_t.h`).
fn device(major: u64, minor: u64) -> u32 {
    let (major, minor) = ((major & 0xfff) as u32, (minor & 0xf_ffff) as u32);
    (minor & 0xff) | major << 8 | (minor & !0xff) << 12
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_before_1970_and_beyond_reason_are_taken() {
        let early = system_time(FileTime {
            secs: -2,
            nanos: 500_000_000,
        });
        assert_eq!(
            SystemTime::UNIX_EPOCH.duration_since(early).unwrap(),
            Duration::from_millis(1500)
        );
        for secs in [i64::MIN, i64::MAX] {
            system_time(FileTime {
                secs,
                nanos: u32::MAX,
            });
        }
    }

    #[test]
    fn device_numbers_are_packed_as_the_kernel_does() {
        assert_eq!(device(8, 1), 0x801);
        assert_eq!(device(259, 0x12345), 0x1231_0345);
    }
}
