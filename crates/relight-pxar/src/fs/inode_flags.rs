//! Inode flags (`chattr`): Linux numbers (`FS_IOC_GETFLAGS`, `linux/fs.h`) to and from those of the pxar format.

use rustix::fs::IFlags;

/// Linux flag and its bit in `flags` of a pxar entry (feature flags of the format, `WITH_FLAG_*`).
const PAIRS: [(u32, u64); 10] = [
    (0x0000_0020, 0x0001_0000), // append only
    (0x0000_0080, 0x0002_0000), // no access times
    (0x0000_0004, 0x0004_0000), // compress
    (0x0080_0000, 0x0008_0000), // no copy on write
    (0x0000_0040, 0x0010_0000), // no dump
    (0x0001_0000, 0x0020_0000), // synchronous directory
    (0x0000_0010, 0x0040_0000), // immutable
    (0x0000_0008, 0x0080_0000), // synchronous
    (0x0000_0400, 0x0100_0000), // do not compress
    (0x2000_0000, 0x0200_0000), // inherit the project id
];

/// Bits of the pxar format for append-only and immutable: after they are set an object cannot be changed any more.
pub const SEALING: u64 = 0x0001_0000 | 0x0040_0000;

/// Bits of the pxar format that a file system takes only, or takes best, while a file is still empty: compression and
/// copy on write.
pub const LAYOUT: u64 = 0x0004_0000 | 0x0008_0000 | 0x0100_0000;

/// Bits of the pxar format for all flags that are kept.
pub const ALL: u64 = 0x03ff_0000;

/// The flags of the format for those of Linux; those that are no user's choice (extents, encryption, …) are dropped.
pub fn to_format(linux: IFlags) -> u64 {
    PAIRS
        .iter()
        .filter(|(native, _)| linux.bits() & native != 0)
        .fold(0, |all, (_, portable)| all | portable)
}

/// `current` with every flag that the format knows and `mask` (bits of the format) names set as in `wanted`.
pub fn merge(current: IFlags, wanted: u64, mask: u64) -> IFlags {
    let mut bits = current.bits();
    for (native, portable) in PAIRS.iter().filter(|(_, portable)| mask & portable != 0) {
        if wanted & portable != 0 {
            bits |= native;
        } else {
            bits &= !native;
        }
    }
    IFlags::from_bits_retain(bits)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_flag_survives_the_way_there_and_back() {
        let mut all = 0;
        for (native, portable) in PAIRS {
            let found = to_format(IFlags::from_bits_retain(native | 0x0008_0000));
            assert_eq!(found, portable);
            assert_eq!(
                merge(IFlags::from_bits_retain(0x0008_0000), found, ALL).bits(),
                native | 0x0008_0000
            );
            all |= portable;
        }
        assert_eq!(all, ALL);
        assert_eq!(SEALING & !ALL, 0);
    }

    #[test]
    fn flags_outside_the_mask_stay() {
        let current = IFlags::APPEND | IFlags::NODUMP;
        assert_eq!(merge(current, 0, ALL & !SEALING), IFlags::APPEND);
    }
}
