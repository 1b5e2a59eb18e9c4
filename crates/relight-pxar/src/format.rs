//! The items a pxar archive is made of: their types, header, and size limits.
//!
//! An archive is a sequence of items. Each begins with a header of 16 bytes: the type and the size of the item with
//! its header, both `u64`, little endian as every number of the format.

use crate::error::DecodeError;

/// Version of the format: item holding `2` as `u64`, first in a metadata stream; version 1 has none.
pub const FORMAT_VERSION: u64 = 0x730f_6c75_df16_a40d;
/// Free-form bytes after the version of a metadata stream; the original keeps its exclude patterns there as JSON.
pub const PRELUDE: u64 = 0xe309_d79d_9f7b_771b;
/// `stat` of an entry, see [`crate::metadata::Stat`].
pub const ENTRY: u64 = 0xd595_6474_e588_acef;
/// `stat` of an entry as early archives keep it: the time is one `u64` of nanoseconds.
pub const ENTRY_V1: u64 = 0x11da_850a_1c1c_ceff;
/// Name of a directory's child, zero terminated; begins the child.
pub const FILENAME: u64 = 0x1670_1121_0639_17b3;
/// Target of a symbolic link, zero terminated.
pub const SYMLINK: u64 = 0x27f9_71e7_dbf5_dc5f;
/// Device number: major and minor, `u64` each.
pub const DEVICE: u64 = 0x9fc9_e906_586d_5ce9;
/// One extended attribute: name, zero byte, value.
pub const XATTR: u64 = 0x0dab_0229_b57d_cd03;
/// Access ACL entry of a named user: uid and permissions, `u64` each.
pub const ACL_USER: u64 = 0x2ce8_540a_457d_55b8;
/// Access ACL entry of a named group: gid and permissions, `u64` each.
pub const ACL_GROUP: u64 = 0x136e_3ece_b04c_03ab;
/// Permissions of the owning group under a mask, `u64`.
pub const ACL_GROUP_OBJ: u64 = 0x1086_8031_e958_2876;
/// Default ACL: permissions of owner, owning group, others, and the mask, `u64` each.
pub const ACL_DEFAULT: u64 = 0xbbbb_1341_5a68_96f5;
/// Default ACL entry of a named user.
pub const ACL_DEFAULT_USER: u64 = 0xc893_57b4_0532_cd1f;
/// Default ACL entry of a named group.
pub const ACL_DEFAULT_GROUP: u64 = 0xf90a_8a58_1603_8ffe;
/// Raw value of `security.capability`.
pub const FCAPS: u64 = 0x2da9_dd9d_b5f7_fb67;
/// Quota project id, `u64`.
pub const QUOTA_PROJID: u64 = 0xe075_40e8_2f7d_1cbb;
/// Hard link: distance back to the target's FILENAME item as `u64`, then the target's path, zero terminated.
pub const HARDLINK: u64 = 0x5126_9c84_22bd_7275;
/// Content of a regular file.
pub const PAYLOAD: u64 = 0x2814_7a1b_0b7c_1a25;
/// Where a regular file's content lies in the payload stream: position of its PAYLOAD header and size, `u64` each.
pub const PAYLOAD_REF: u64 = 0x419d_3d6b_c4ba_977e;
/// Look-up table at the end of a directory.
pub const GOODBYE: u64 = 0x2fec_4fa6_42d5_731d;
/// Marks the last record of a look-up table.
pub const GOODBYE_TAIL_MARKER: u64 = 0xef5e_ed5b_753e_1555;
/// Begins a payload stream; no content.
pub const PAYLOAD_START_MARKER: u64 = 0x834c_68c2_194a_4ed2;
/// Ends a payload stream; no content.
pub const PAYLOAD_TAIL_MARKER: u64 = 0x6c72_b78b_984c_81b5;

/// Bytes of an item's header.
pub const HEADER_SIZE: u64 = 16;
/// Bytes of one record of a look-up table.
pub const GOODBYE_ITEM_SIZE: u64 = 24;
/// Bytes of an ENTRY item's content.
pub const ENTRY_SIZE: u64 = 40;
/// Bytes of an ENTRY_V1 item's content.
pub const ENTRY_V1_SIZE: u64 = 32;

/// Longest name of one entry in bytes, without the terminating zero (Linux allows 255).
pub const MAX_NAME: usize = 4096;
/// Longest target of a symbolic or hard link in bytes, without the terminating zero.
pub const MAX_PATH: usize = 4096;
/// Longest content of an XATTR or FCAPS item: a name of 255 bytes, the separator taken from it, and 64 KiB of value.
pub const MAX_XATTR: usize = 255 + 64 * 1024;
/// Longest name of an extended attribute in bytes.
pub const MAX_XATTR_NAME: usize = 255;
/// Largest metadata of one entry: all items from ENTRY up to its content. The format has no such limit; this one
/// bounds memory and is far above what Linux file systems can hold in practice.
pub const MAX_METADATA: usize = 64 * 1024 * 1024;
/// Largest prelude accepted. The format has no limit; the original keeps a list of patterns there.
pub const MAX_PRELUDE: usize = 16 * 1024 * 1024;
/// Deepest nesting of directories accepted, the root being depth 1.
pub const MAX_DEPTH: usize = 4096;

/// In default ACLs: this permission is not given.
pub const NO_PERMISSIONS: u64 = u64::MAX;

/// File type bits of a mode, fixed by the format to the numbers of Linux.
pub mod mode {
    /// Mask of the type.
    pub const TYPE: u32 = 0o170_000;
    /// Socket.
    pub const SOCKET: u32 = 0o140_000;
    /// Symbolic link.
    pub const SYMLINK: u32 = 0o120_000;
    /// Regular file.
    pub const FILE: u32 = 0o100_000;
    /// Block device.
    pub const BLOCK: u32 = 0o060_000;
    /// Directory.
    pub const DIRECTORY: u32 = 0o040_000;
    /// Character device.
    pub const CHARACTER: u32 = 0o020_000;
    /// Named pipe.
    pub const FIFO: u32 = 0o010_000;
}

/// Version of an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// One stream, contents inline.
    V1,
    /// Metadata stream and payload stream.
    V2,
}

/// Header of an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ItemHeader {
    /// Type, one of the constants of this module.
    pub kind: u64,
    /// Size of the item in bytes with this header.
    pub size: u64,
}

impl ItemHeader {
    /// Header of an item with that much content.
    pub const fn new(kind: u64, content: u64) -> Self {
        Self {
            kind,
            size: content.saturating_add(HEADER_SIZE),
        }
    }

    /// The bytes of the header.
    pub const fn to_bytes(self) -> [u8; 16] {
        let (kind, size) = (self.kind.to_le_bytes(), self.size.to_le_bytes());
        let mut bytes = [0; 16];
        let mut index = 0;
        while index < 8 {
            bytes[index] = kind[index];
            bytes[index + 8] = size[index];
            index += 1;
        }
        bytes
    }

    /// Reads a header; `position` is where it lies, for the error of a size that is less than the header itself, or
    /// more than an item of this type may have.
    pub fn parse(bytes: &[u8; 16], position: u64) -> Result<Self, DecodeError> {
        let header = Self {
            kind: u64_at(bytes, 0),
            size: u64_at(bytes, 8),
        };
        if header.size < HEADER_SIZE {
            return Err(DecodeError::damaged(
                position,
                "an item is smaller than its header",
            ));
        }
        if header.content() > max_content(header.kind) {
            return Err(DecodeError::damaged(
                position,
                "an item is larger than its type allows",
            ));
        }
        Ok(header)
    }

    /// Bytes after the header.
    pub const fn content(self) -> u64 {
        self.size.saturating_sub(HEADER_SIZE)
    }
}

/// Largest content of an item by its type.
const fn max_content(kind: u64) -> u64 {
    match kind {
        FORMAT_VERSION | ACL_GROUP_OBJ | QUOTA_PROJID => 8,
        PRELUDE => MAX_PRELUDE as u64,
        ENTRY => ENTRY_SIZE,
        ENTRY_V1 => ENTRY_V1_SIZE,
        FILENAME => MAX_NAME as u64 + 1,
        SYMLINK => MAX_PATH as u64 + 1,
        HARDLINK => MAX_PATH as u64 + 1 + 8,
        DEVICE | ACL_USER | ACL_GROUP | ACL_DEFAULT_USER | ACL_DEFAULT_GROUP | PAYLOAD_REF => 16,
        ACL_DEFAULT => 32,
        XATTR | FCAPS => MAX_XATTR as u64,
        PAYLOAD_START_MARKER | PAYLOAD_TAIL_MARKER => 0,
        _ => u64::MAX - HEADER_SIZE,
    }
}

/// Little endian `u64` at an offset; zero where the bytes end before (callers check lengths first).
pub(crate) fn u64_at(bytes: &[u8], offset: usize) -> u64 {
    match bytes.get(offset..).and_then(|rest| rest.first_chunk::<8>()) {
        Some(part) => u64::from_le_bytes(*part),
        None => 0,
    }
}

/// Little endian `u32` at an offset; zero where the bytes end before (callers check lengths first).
pub(crate) fn u32_at(bytes: &[u8], offset: usize) -> u32 {
    match bytes.get(offset..).and_then(|rest| rest.first_chunk::<4>()) {
        Some(part) => u32::from_le_bytes(*part),
        None => 0,
    }
}

/// Why a name cannot be that of an entry; `None` where it can.
pub(crate) fn name_problem(name: &[u8]) -> Option<&'static str> {
    if name.is_empty() || name == b"." || name == b".." {
        Some("a name is empty, `.` or `..`")
    } else if name.len() > MAX_NAME {
        Some("a name is too long")
    } else if name.iter().any(|&byte| byte == b'/' || byte == 0) {
        Some("a name holds a slash or a zero byte")
    } else {
        None
    }
}
