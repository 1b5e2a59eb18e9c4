//! The requests of the kernel.

use std::cell::RefCell;
use std::ffi::OsStr;

use fuser::{
    Errno, FileAttr, FileHandle, FileType, Filesystem, FopenFlags, Generation, INodeNo, InitFlags,
    IoctlFlags, KernelConfig, LockOwner, OpenAccMode, OpenFlags, ReplyAttr, ReplyData, ReplyDirectory,
    ReplyDirectoryPlus, ReplyEmpty, ReplyEntry, ReplyIoctl, ReplyLseek, ReplyOpen, ReplyStatfs, ReplyXattr,
    Request,
};
use relight_pxar::EntryKind;
use relight_pxar::fs::inode_flags;
use rustix::fs::IFlags;

use super::open_file::Seek;
use super::{FOR_LONG, Fault, Found, Snapshots};
use crate::xattrs::Xattrs;

/// `FS_IOC_GETFLAGS` and `FS_IOC_FSGETXATTR` of `linux/fs.h`.
const GET_FLAGS: u32 = 0x8008_6601;
const GET_FSXATTR: u32 = 0x801c_581f;
/// Bytes of `struct fsxattr`, and where the project id lies in it.
const FSXATTR: usize = 28;
const FSXATTR_PROJECT: usize = 12;
/// `SEEK_DATA` and `SEEK_HOLE`.
const SEEK_DATA: i32 = 3;
const SEEK_HOLE: i32 = 4;
/// Requests for read-ahead that the kernel may have under way.
const BACKGROUND: u16 = 64;

const GENERATION: Generation = Generation(0);

thread_local! {
    /// What is read for the kernel, before it takes it.
    static BUFFER: RefCell<Vec<u8>> = const { RefCell::new(Vec::new()) };
}

impl Snapshots {
    fn xattrs(&self, number: u64) -> Result<Xattrs, Fault> {
        match self.find(number)? {
            Found::Entry(_, node) => Ok(Xattrs::of(&node)?),
            _ => Ok(Xattrs::default()),
        }
    }

    fn read_link(&self, number: u64) -> Result<Vec<u8>, Fault> {
        match self.find(number)? {
            Found::Link(target) => Ok(target.into_bytes()),
            Found::Entry(_, node) => match node.kind() {
                EntryKind::Symlink { target } => Ok(target.to_vec()),
                _ => Err(Errno::EINVAL.into()),
            },
            _ => Err(Errno::EINVAL.into()),
        }
    }

    /// What programs like `lsattr` ask for.
    fn flags(&self, number: u64, command: u32) -> Result<Vec<u8>, Fault> {
        let metadata = match self.find(number)? {
            Found::Entry(_, node) => node.metadata()?,
            _ => Default::default(),
        };
        match command {
            GET_FLAGS => {
                let flags = inode_flags::merge(IFlags::empty(), metadata.flags, inode_flags::ALL);
                Ok(flags.bits().to_ne_bytes().to_vec())
            }
            GET_FSXATTR => {
                let mut answer = vec![0; FSXATTR];
                let project = metadata.project_id.unwrap_or(0) as u32;
                answer[FSXATTR_PROJECT..FSXATTR_PROJECT + 4].copy_from_slice(&project.to_ne_bytes());
                Ok(answer)
            }
            _ => Err(Errno::ENOTTY.into()),
        }
    }
}

fn give_xattr(reply: ReplyXattr, size: u32, value: &[u8]) {
    match u32::try_from(value.len()) {
        Ok(length) if size == 0 => reply.size(length),
        Ok(length) if length <= size => reply.data(value),
        _ => reply.error(Errno::ERANGE),
    }
}

impl Filesystem for Snapshots {
    fn init(&mut self, _: &Request, config: &mut KernelConfig) -> std::io::Result<()> {
        let mut wanted = InitFlags::FUSE_ASYNC_READ
            | InitFlags::FUSE_PARALLEL_DIROPS
            | InitFlags::FUSE_DO_READDIRPLUS
            | InitFlags::FUSE_READDIRPLUS_AUTO
            | InitFlags::FUSE_ASYNC_DIO
            | InitFlags::FUSE_HAS_IOCTL_DIR;
        if self.guarded {
            wanted |= InitFlags::FUSE_POSIX_ACL;
        }
        // What an old kernel lacks makes it slower, but not wrong.
        let _ = config.add_capabilities(wanted & config.capabilities());
        let _ = config.set_max_background(BACKGROUND);
        Ok(())
    }

    fn lookup(&self, _: &Request, parent: INodeNo, name: &OsStr, reply: ReplyEntry) {
        match self.lookup(parent.0, name) {
            Ok(Some((attributes, name_ttl, attribute_ttl))) => {
                reply.entry_with_ttls(&attribute_ttl, &name_ttl, &attributes, GENERATION);
            }
            // Number 0: there is nothing of that name, and the kernel may remember it.
            Ok(None) => reply.entry(&FOR_LONG, &nothing(), GENERATION),
            Err(fault) => reply.error(self.errno(parent.0, fault)),
        }
    }

    fn getattr(&self, _: &Request, number: INodeNo, _: Option<FileHandle>, reply: ReplyAttr) {
        match self.attributes(number.0) {
            Ok((attributes, ttl)) => reply.attr(&ttl, &attributes),
            Err(fault) => reply.error(self.errno(number.0, fault)),
        }
    }

    fn readlink(&self, _: &Request, number: INodeNo, reply: ReplyData) {
        match self.read_link(number.0) {
            Ok(target) => reply.data(&target),
            Err(fault) => reply.error(self.errno(number.0, fault)),
        }
    }

    fn open(&self, _: &Request, number: INodeNo, flags: OpenFlags, reply: ReplyOpen) {
        if flags.acc_mode() != OpenAccMode::O_RDONLY {
            return reply.error(Errno::EROFS);
        }
        match self.open_file(number.0) {
            // What the kernel has read of it stays right for ever.
            Ok(file) => {
                reply.opened(
                    self.files.add(file),
                    FopenFlags::FOPEN_KEEP_CACHE | FopenFlags::FOPEN_NOFLUSH,
                );
            }
            Err(fault) => reply.error(self.errno(number.0, fault)),
        }
    }

    fn read(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        size: u32,
        _: OpenFlags,
        _: Option<LockOwner>,
        reply: ReplyData,
    ) {
        let Some(file) = self.files.get(handle) else {
            return reply.error(Errno::EBADF);
        };
        BUFFER.with_borrow_mut(|buffer| match file.read(buffer, offset, size) {
            Ok(bytes) => reply.data(bytes),
            Err(error) => reply.error(self.errno(file.number(), error.into())),
        });
    }

    fn release(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        _: OpenFlags,
        _: Option<LockOwner>,
        _: bool,
        reply: ReplyEmpty,
    ) {
        self.files.remove(handle);
        reply.ok();
    }

    fn lseek(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: i64,
        whence: i32,
        reply: ReplyLseek,
    ) {
        let Some(file) = self.files.get(handle) else {
            return reply.error(Errno::EBADF);
        };
        let wanted = match whence {
            SEEK_DATA => Seek::Data,
            SEEK_HOLE => Seek::Hole,
            _ => return reply.error(Errno::EINVAL),
        };
        let Ok(offset) = u64::try_from(offset) else {
            return reply.error(Errno::ENXIO);
        };
        match file.seek(offset, wanted) {
            Ok(Some(found)) => reply.offset(i64::try_from(found).unwrap_or(i64::MAX)),
            Ok(None) => reply.error(Errno::ENXIO),
            Err(error) => reply.error(self.errno(file.number(), error.into())),
        }
    }

    fn opendir(&self, _: &Request, number: INodeNo, _: OpenFlags, reply: ReplyOpen) {
        match self.open_folder(number.0) {
            Ok(folder) => reply.opened(self.folders.add(folder), FopenFlags::empty()),
            Err(fault) => reply.error(self.errno(number.0, fault)),
        }
    }

    fn readdir(&self, _: &Request, _: INodeNo, handle: FileHandle, offset: u64, mut reply: ReplyDirectory) {
        let Some(folder) = self.folders.get(handle) else {
            return reply.error(Errno::EBADF);
        };
        let listed = self.list(&folder, offset, false, &mut |item| {
            reply.add(item.attributes.ino, item.next, item.attributes.kind, item.name)
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(fault) => reply.error(self.errno(folder.number(), fault)),
        }
    }

    fn readdirplus(
        &self,
        _: &Request,
        _: INodeNo,
        handle: FileHandle,
        offset: u64,
        mut reply: ReplyDirectoryPlus,
    ) {
        let Some(folder) = self.folders.get(handle) else {
            return reply.error(Errno::EBADF);
        };
        let listed = self.list(&folder, offset, true, &mut |item| {
            reply.add(
                item.attributes.ino,
                item.next,
                item.name,
                &item.ttl,
                &item.attributes,
                GENERATION,
            )
        });
        match listed {
            Ok(()) => reply.ok(),
            Err(fault) => reply.error(self.errno(folder.number(), fault)),
        }
    }

    fn releasedir(&self, _: &Request, _: INodeNo, handle: FileHandle, _: OpenFlags, reply: ReplyEmpty) {
        self.folders.remove(handle);
        reply.ok();
    }

    fn getxattr(&self, _: &Request, number: INodeNo, name: &OsStr, size: u32, reply: ReplyXattr) {
        match self.xattrs(number.0) {
            Ok(all) => match all.get(name.as_encoded_bytes()) {
                Some(value) => give_xattr(reply, size, value),
                None => reply.error(Errno::ENODATA),
            },
            Err(fault) => reply.error(self.errno(number.0, fault)),
        }
    }

    fn listxattr(&self, _: &Request, number: INodeNo, size: u32, reply: ReplyXattr) {
        match self.xattrs(number.0) {
            Ok(all) => give_xattr(reply, size, &all.names()),
            Err(fault) => reply.error(self.errno(number.0, fault)),
        }
    }

    fn ioctl(
        &self,
        _: &Request,
        number: INodeNo,
        _: FileHandle,
        _: IoctlFlags,
        command: u32,
        _: &[u8],
        room: u32,
        reply: ReplyIoctl,
    ) {
        match self.flags(number.0, command) {
            Ok(answer) => reply.ioctl(0, answer.get(..room as usize).unwrap_or(&answer)),
            Err(fault) => reply.error(self.errno(number.0, fault)),
        }
    }

    fn statfs(&self, _: &Request, _: INodeNo, reply: ReplyStatfs) {
        reply.statfs(0, 0, 0, 0, 0, 4096, 255, 4096);
    }
}

/// Attributes of what is not there.
fn nothing() -> FileAttr {
    let owner = crate::attributes::Owner { uid: 0, gid: 0 };
    crate::attributes::of_made(0, owner, FileType::RegularFile, 0, 0, jiff::Timestamp::UNIX_EPOCH)
}
