//! File systems, by their superblocks: the layout of ext4, XFS and btrfs is documented by the Linux kernel
//! (Documentation/filesystems/ext4, "XFS Algorithms & Data Structures", btrfs "On-disk Format").

use std::fmt;
use std::io;

use super::{Disk, bytes, part, u16_le, u32_le, u64_le};

/// What is known by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Name {
    /// ext2, ext3 or ext4.
    Ext,
    /// XFS.
    Xfs,
    /// btrfs.
    Btrfs,
    /// FAT, of any width.
    Fat,
    /// NTFS.
    Ntfs,
    /// Swap space of Linux.
    Swap,
    /// An encrypted volume (LUKS).
    Luks,
    /// A physical volume of LVM.
    Lvm,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ext => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
            Self::Fat => "fat",
            Self::Ntfs => "ntfs",
            Self::Swap => "swap",
            Self::Luks => "luks",
            Self::Lvm => "lvm",
        })
    }
}

/// What lies in a partition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// What it is.
    pub name: Name,
    /// What is wrong with its superblock.
    pub wrong: Option<String>,
    /// It was in use when it was saved, and has a journal to be applied.
    pub has_journal: bool,
}

/// Looks what lies in `size` bytes from `offset` on.
///
/// # Errors
/// The disk cannot be read.
pub fn find(disk: &(impl Disk + ?Sized), offset: u64, size: u64) -> io::Result<Option<Found>> {
    let at = |place: u64| offset.saturating_add(place);
    let found = |name, wrong, has_journal| {
        Ok(Some(Found {
            name,
            wrong,
            has_journal,
        }))
    };
    if let Some(block) = bytes::<1024>(disk, at(1024))?
        && u16_le(&block, 0x38) == 0xef53
    {
        let has_journal = u32_le(&block, 0x60) & 0x4 != 0;
        return found(Name::Ext, wrong_ext(&block, size), has_journal);
    }
    if let Some(block) = bytes::<4096>(disk, at(0))? {
        if block.starts_with(b"XFSB") {
            return found(Name::Xfs, wrong_xfs(&block, size), false);
        }
        if block.starts_with(b"LUKS\xba\xbe") {
            return found(Name::Luks, None, false);
        }
        if part::<10>(&block, 4086) == *b"SWAPSPACE2" {
            return found(Name::Swap, None, false);
        }
        // The label lies in one of the first four sectors.
        if (0..4).any(|sector| part::<8>(&block, sector * 512) == *b"LABELONE") {
            return found(Name::Lvm, None, false);
        }
        let is_boot_sector = part::<2>(&block, 510) == [0x55, 0xaa];
        if is_boot_sector && part::<8>(&block, 3) == *b"NTFS    " {
            return found(Name::Ntfs, None, false);
        }
        if is_boot_sector && (part::<3>(&block, 54) == *b"FAT" || part::<3>(&block, 82) == *b"FAT") {
            return found(Name::Fat, None, false);
        }
    }
    if let Some(block) = bytes::<4096>(disk, at(65536))?
        && part::<8>(&block, 64) == *b"_BHRfS_M"
    {
        return found(Name::Btrfs, wrong_btrfs(&block, size), false);
    }
    Ok(None)
}

fn too_large(has: Option<u64>, size: u64) -> Option<String> {
    match has {
        Some(has) if has <= size => None,
        Some(has) => Some(format!(
            "it says that it has {has} bytes, but there is only room for {size}"
        )),
        None => Some("it says that it has more bytes than there are numbers".into()),
    }
}

fn wrong_ext(block: &[u8; 1024], size: u64) -> Option<String> {
    let (shift, incompat, ro_compat) = (u32_le(block, 0x18), u32_le(block, 0x60), u32_le(block, 0x64));
    if shift > 6 {
        return Some(format!(
            "its blocks would have 2^{} bytes",
            shift.saturating_add(10)
        ));
    }
    // metadata_csum: CRC-32C over all but the sum itself.
    if ro_compat & 0x400 != 0 {
        let summed = block.get(..0x3fc).unwrap_or_default();
        if !crc32c(summed) != u32_le(block, 0x3fc) {
            return Some("the checksum of its superblock is wrong".into());
        }
    }
    let high = if incompat & 0x80 != 0 {
        u32_le(block, 0x150)
    } else {
        0
    };
    let blocks = u64::from(high) << 32 | u64::from(u32_le(block, 0x4));
    too_large(blocks.checked_mul(1024 << shift), size)
}

fn wrong_xfs(block: &[u8; 4096], size: u64) -> Option<String> {
    let big32 = |at| u32::from_be_bytes(part(block, at));
    let sector = usize::from(u16::from_be_bytes(part(block, 102)));
    let version = u16::from_be_bytes(part(block, 100)) & 0xf;
    if version == 5 {
        let Some(summed) = block.get(..sector).filter(|_| sector >= 512) else {
            return Some(format!("its sectors would have {sector} bytes"));
        };
        let mut summed = summed.to_vec();
        if let Some(sum) = summed.get_mut(224..228) {
            sum.fill(0);
        }
        if crc32c(&summed) != u32_le(block, 224) {
            return Some("the checksum of its superblock is wrong".into());
        }
    }
    too_large(
        u64::from_be_bytes(part(block, 8)).checked_mul(u64::from(big32(4))),
        size,
    )
}

fn wrong_btrfs(block: &[u8; 4096], size: u64) -> Option<String> {
    // Other sums than CRC-32C are rare, and not looked at.
    if u16_le(block, 0xc4) == 0 && crc32c(block.get(0x20..).unwrap_or_default()) != u32_le(block, 0) {
        return Some("the checksum of its superblock is wrong".into());
    }
    // Bytes on this device: the file system may have others.
    too_large(Some(u64_le(block, 0xc9 + 8)), size)
}

/// CRC-32C (Castagnoli), bit by bit: superblocks are short.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut sum = u32::MAX;
    for &byte in bytes {
        sum ^= u32::from(byte);
        for _ in 0..8 {
            sum = if sum & 1 == 0 {
                sum >> 1
            } else {
                (sum >> 1) ^ 0x82f6_3b78
            };
        }
    }
    !sum
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_those_of_the_standard() {
        // RFC 3720, B.4.
        assert_eq!(crc32c(&[0; 32]), 0x8a91_36aa);
        assert_eq!(crc32c(b"123456789"), 0xe306_9283);
    }

    /// What the tools of each file system make, at an odd place of a disk.
    fn made(program: &str, arguments: &[&str], mib: u64) -> Vec<u8> {
        let folder = tempfile::tempdir().unwrap();
        let image = folder.path().join("image");
        std::fs::File::create(&image).unwrap().set_len(mib << 20).unwrap();
        let status = std::process::Command::new(program)
            .args(arguments)
            .arg(&image)
            .output();
        let output = status.unwrap_or_else(|error| panic!("{program}: {error}; scripts/test installs it"));
        assert!(output.status.success(), "{program}: {output:?}");
        let mut disk = vec![0; 1 << 20];
        disk.extend(std::fs::read(image).unwrap());
        disk
    }

    #[test]
    fn file_systems_are_known_by_what_their_tools_write() {
        for (program, arguments, mib, name, superblock) in [
            ("mkfs.ext4", &["-q"][..], 16, Name::Ext, 1024 + 0x10),
            (
                "mkfs.ext4",
                &["-q", "-b", "1024", "-O", "64bit"][..],
                16,
                Name::Ext,
                1024 + 0x10,
            ),
            ("mkfs.xfs", &["-q"][..], 320, Name::Xfs, 0x10),
            ("mkfs.btrfs", &["-q"][..], 120, Name::Btrfs, 65536 + 0x50),
        ] {
            let mut disk = made(program, arguments, mib);
            let (start, size) = (1 << 20, mib << 20);
            let found = find(&*disk, start, size).unwrap().unwrap();
            assert_eq!((found.name, found.wrong), (name, None), "{program}");
            let short = find(&*disk, start, size / 2).unwrap().unwrap();
            assert!(
                short.wrong.is_some_and(|why| why.contains("only room for")),
                "{program}"
            );
            disk[(start + superblock) as usize] ^= 1;
            let found = find(&*disk, start, size).unwrap().unwrap();
            assert!(
                found.wrong.is_some_and(|why| why.contains("checksum")),
                "{program}"
            );
            assert_eq!(find(&*disk, 0, size).unwrap(), None);
        }
        let swap = made("mkswap", &[], 1);
        assert_eq!(find(&*swap, 1 << 20, 1 << 20).unwrap().unwrap().name, Name::Swap);
        assert_eq!(find(&[0u8; 100][..], 0, 100).unwrap(), None);
    }
}
