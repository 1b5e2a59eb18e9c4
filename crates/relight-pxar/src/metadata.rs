//! What an archive keeps of a file besides its content.

/// A time as the file system keeps it: seconds since 1970 (may be negative) and nanoseconds (0 to 999,999,999).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct FileTime {
    /// Seconds since 1970-01-01T00:00:00Z.
    pub secs: i64,
    /// Nanoseconds within the second.
    pub nanos: u32,
}

/// The part of an entry's metadata that every entry has, as its ENTRY item holds it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Stat {
    /// `st_mode`: file type and permission bits.
    pub mode: u32,
    /// Portable inode flags (`chattr`) in the numbering of the pxar format.
    pub flags: u64,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Last modification of the content.
    pub mtime: FileTime,
}

impl Stat {
    /// The type bits of the mode, one of [`crate::format::mode`].
    pub fn file_type(&self) -> u32 {
        self.mode & crate::format::mode::TYPE
    }
}

/// Metadata of one file system object, of whatever kind.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Metadata {
    /// `st_mode`: file type and permission bits.
    pub mode: u32,
    /// Portable inode flags (`chattr`) in the numbering of the pxar format.
    pub flags: u64,
    /// Numeric owner.
    pub uid: u32,
    /// Numeric group.
    pub gid: u32,
    /// Last modification of the content.
    pub mtime: FileTime,
    /// Extended attributes: full name (`user.x`, `trusted.y`, …; not `security.capability`, not the ACL ones) and value,
    /// sorted by name where they were captured here (archives of others keep any order).
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// POSIX access control lists.
    pub acl: Acl,
    /// The raw value of `security.capability`.
    pub fcaps: Option<Vec<u8>>,
    /// Project id of ext4 and XFS quotas; none where it is 0.
    pub project_id: Option<u64>,
}

impl Metadata {
    /// The part every entry has.
    pub fn stat(&self) -> Stat {
        Stat {
            mode: self.mode,
            flags: self.flags,
            uid: self.uid,
            gid: self.gid,
            mtime: self.mtime,
        }
    }

    /// The type bits of the mode, one of [`crate::format::mode`].
    pub fn file_type(&self) -> u32 {
        self.mode & crate::format::mode::TYPE
    }
}

/// POSIX ACLs beyond what `mode` says. Permissions are the three bits rwx.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Acl {
    /// Access entries of named users: (uid, permissions), sorted.
    pub users: Vec<(u32, u8)>,
    /// Access entries of named groups: (gid, permissions), sorted.
    pub groups: Vec<(u32, u8)>,
    /// Permissions of the owning group where an access ACL has a mask (the mode's group bits are then the mask).
    pub group_obj: Option<u8>,
    /// The default ACL of a directory.
    pub default: Option<DefaultAcl>,
}

/// The default ACL of a directory: what new entries in it inherit.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct DefaultAcl {
    /// Permissions of the owner; none where the entry is missing.
    pub user_obj: Option<u8>,
    /// Permissions of the owning group.
    pub group_obj: Option<u8>,
    /// Permissions of others.
    pub other: Option<u8>,
    /// The mask.
    pub mask: Option<u8>,
    /// Named users: (uid, permissions), sorted.
    pub users: Vec<(u32, u8)>,
    /// Named groups: (gid, permissions), sorted.
    pub groups: Vec<(u32, u8)>,
}
