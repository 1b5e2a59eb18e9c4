//! Reads everything the archive keeps of a file system object, with as few system calls as can be: an ordinary file
//! costs one list of attributes and two ioctls.

use std::ffi::CStr;
use std::io::{self, Write as _};
use std::os::fd::{AsRawFd, BorrowedFd};

use rustix::fs::{fgetxattr, flistxattr, ioctl_getflags, lgetxattr, llistxattr};
use rustix::io::Errno;

use super::stat::FileStat;
use super::{inode_flags, posix_acl, project};
use crate::metadata::Metadata;

/// Largest list of attribute names and largest value Linux hands out (`XATTR_LIST_MAX`, `XATTR_SIZE_MAX`).
const XATTR_MAX: usize = 64 * 1024;

/// The attribute that holds file capabilities.
pub const CAPABILITY: &CStr = c"security.capability";

/// Which part of an object's metadata is meant.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Part {
    /// Owner and group.
    Owner,
    /// Permission bits.
    Mode,
    /// Modification time.
    Time,
    /// The list of extended attributes, or the one of that name.
    Xattr(Vec<u8>),
    /// Access or default ACL.
    Acl,
    /// File capabilities.
    Capabilities,
    /// Inode flags.
    Flags,
    /// Quota project id.
    ProjectId,
}

impl std::fmt::Display for Part {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Owner => out.write_str("owner"),
            Self::Mode => out.write_str("permissions"),
            Self::Time => out.write_str("modification time"),
            Self::Xattr(name) if name.is_empty() => out.write_str("extended attributes"),
            Self::Xattr(name) => write!(out, "extended attribute {}", String::from_utf8_lossy(name)),
            Self::Acl => out.write_str("access control list"),
            Self::Capabilities => out.write_str("capabilities"),
            Self::Flags => out.write_str("inode flags"),
            Self::ProjectId => out.write_str("project id"),
        }
    }
}

/// A part of an object's metadata that could not be read or set.
#[derive(Debug)]
pub struct MetadataProblem {
    /// Which part.
    pub part: Part,
    /// Why.
    pub error: io::Error,
}

/// Whether an attribute is read by [`MetadataReader`] into [`Metadata::xattrs`]. Attributes under `system.` are views of
/// things kept elsewhere, except NFSv4 ACLs; `security.evm` is a signature bound to one inode and worth nothing elsewhere.
pub fn is_kept_xattr(name: &[u8]) -> bool {
    match name {
        b"security.capability" | b"security.evm" => false,
        b"system.nfs4_acl" => true,
        _ => !name.starts_with(b"system."),
    }
}

/// Whether an error says that the file system does not have the thing at all.
pub(super) fn is_unsupported(error: Errno) -> bool {
    matches!(
        error,
        Errno::OPNOTSUPP | Errno::NOTTY | Errno::NOSYS | Errno::INVAL
    )
}

/// What a device has shown not to support, so that it is not asked for each file.
#[derive(Debug, Clone, Copy)]
struct Lacks {
    device: u64,
    xattrs: bool,
    flags: bool,
    projects: bool,
}

/// How an object's attributes are reached.
enum Access<'a> {
    /// Open for reading.
    Open(BorrowedFd<'a>),
    /// By a path that is not followed at its end.
    Path(&'a CStr),
}

impl Access<'_> {
    fn list(&self, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Open(fd) => flistxattr(fd, buffer),
            Self::Path(path) => llistxattr(*path, buffer),
        }
    }

    fn get(&self, name: &CStr, buffer: &mut [u8]) -> Result<usize, Errno> {
        match self {
            Self::Open(fd) => fgetxattr(fd, name, buffer),
            Self::Path(path) => lgetxattr(*path, name, buffer),
        }
    }
}

/// Reads metadata; keeps its buffers from one object to the next.
#[derive(Debug)]
pub struct MetadataReader {
    names: Box<[u8]>,
    value: Box<[u8]>,
    path: Vec<u8>,
    lacks: Lacks,
}

impl Default for MetadataReader {
    fn default() -> Self {
        Self::new()
    }
}

impl MetadataReader {
    /// A reader; allocates 128 KiB.
    pub fn new() -> Self {
        Self {
            names: vec![0; XATTR_MAX].into_boxed_slice(),
            value: vec![0; XATTR_MAX].into_boxed_slice(),
            path: Vec::new(),
            lacks: Lacks {
                device: 0,
                xattrs: false,
                flags: false,
                projects: false,
            },
        }
    }

    /// The metadata of a regular file or directory that is open for reading; `stat` is what [`FileStat::of`] says of it.
    /// Parts that could not be read are left out and reported in `problems`; parts the file system does not have are
    /// not problems.
    pub fn open_object(
        &mut self,
        fd: BorrowedFd<'_>,
        stat: &FileStat,
        problems: &mut Vec<MetadataProblem>,
    ) -> Metadata {
        let mut metadata = from_stat(stat);
        self.device(stat);
        self.xattrs(&Access::Open(fd), &mut metadata, problems);
        if !self.lacks.flags {
            match ioctl_getflags(fd) {
                Ok(flags) => metadata.flags = inode_flags::to_format(flags),
                Err(error) if is_unsupported(error) => self.lacks.flags = true,
                Err(error) => problems.push(MetadataProblem {
                    part: Part::Flags,
                    error: error.into(),
                }),
            }
        }
        if !self.lacks.projects {
            match project::project_id(fd) {
                Ok(0) => {}
                Ok(id) => metadata.project_id = Some(u64::from(id)),
                Err(error) if Errno::from_io_error(&error).is_some_and(is_unsupported) => {
                    self.lacks.projects = true
                }
                Err(error) => problems.push(MetadataProblem {
                    part: Part::ProjectId,
                    error,
                }),
            }
        }
        metadata
    }

    /// The metadata of an object of any kind by its name in an open directory, without following or opening it; `stat`
    /// is what [`FileStat::at`] says of it. Inode flags and project ids need an open file and are left out, so this is for
    /// what has none (links, devices, pipes, sockets) or cannot be opened.
    pub fn object_at(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        stat: &FileStat,
        problems: &mut Vec<MetadataProblem>,
    ) -> Metadata {
        let mut metadata = from_stat(stat);
        self.device(stat);
        if self.lacks.xattrs {
            return metadata;
        }
        // The link in /proc stands for the open directory itself, and `l…xattr` does not follow the last component.
        let mut path = std::mem::take(&mut self.path);
        path.clear();
        let _ = write!(path, "/proc/self/fd/{}/", dir.as_raw_fd());
        path.extend_from_slice(name.to_bytes_with_nul());
        if let Ok(path) = CStr::from_bytes_with_nul(&path) {
            self.xattrs(&Access::Path(path), &mut metadata, problems);
        }
        self.path = path;
        metadata
    }

    fn device(&mut self, stat: &FileStat) {
        if self.lacks.device != stat.dev {
            self.lacks = Lacks {
                device: stat.dev,
                xattrs: false,
                flags: false,
                projects: false,
            };
        }
    }

    fn xattrs(&mut self, access: &Access<'_>, metadata: &mut Metadata, problems: &mut Vec<MetadataProblem>) {
        if self.lacks.xattrs {
            return;
        }
        let length = match access.list(&mut self.names) {
            Ok(0) => return,
            Ok(length) => length,
            Err(error) if is_unsupported(error) => {
                // A link or device alone may lack them; a file or directory speaks for its file system.
                self.lacks.xattrs = matches!(access, Access::Open(_));
                return;
            }
            Err(error) => {
                problems.push(MetadataProblem {
                    part: Part::Xattr(Vec::new()),
                    error: error.into(),
                });
                return;
            }
        };
        for name in self.names[..length.min(XATTR_MAX)].split_inclusive(|&byte| byte == 0) {
            let Ok(name) = CStr::from_bytes_with_nul(name) else {
                continue;
            };
            let is_acl = name == posix_acl::ACCESS || name == posix_acl::DEFAULT;
            let is_capability = name == CAPABILITY;
            if !is_acl && !is_capability && !is_kept_xattr(name.to_bytes()) {
                continue;
            }
            let value = match access.get(name, &mut self.value) {
                Ok(length) => &self.value[..length.min(XATTR_MAX)],
                // Removed since it was listed, or a name of a file system that cannot read it.
                Err(Errno::NODATA) => continue,
                Err(error) if is_unsupported(error) => continue,
                Err(error) => {
                    let part = if is_acl {
                        Part::Acl
                    } else if is_capability {
                        Part::Capabilities
                    } else {
                        Part::Xattr(name.to_bytes().to_vec())
                    };
                    problems.push(MetadataProblem {
                        part,
                        error: error.into(),
                    });
                    continue;
                }
            };
            if is_acl {
                let known = if name == posix_acl::ACCESS {
                    posix_acl::read_access(value, &mut metadata.acl)
                } else {
                    posix_acl::read_default(value, &mut metadata.acl)
                };
                if !known {
                    let error = io::Error::new(io::ErrorKind::InvalidData, "ACL of an unknown version");
                    problems.push(MetadataProblem {
                        part: Part::Acl,
                        error,
                    });
                }
            } else if is_capability {
                metadata.fcaps = Some(value.to_vec());
            } else {
                metadata.xattrs.push((name.to_bytes().to_vec(), value.to_vec()));
            }
        }
        metadata.xattrs.sort_unstable();
    }
}

/// The part of the metadata that `stat` holds.
fn from_stat(stat: &FileStat) -> Metadata {
    Metadata {
        mode: stat.mode,
        uid: stat.uid,
        gid: stat.gid,
        mtime: stat.mtime,
        ..Metadata::default()
    }
}
