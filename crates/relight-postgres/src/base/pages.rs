//! Checksums of data pages, as the server computes them (PostgreSQL source, `storage/checksum_impl.h` and
//! `storage/bufpage.h`; documentation, "Data Checksums" and "Database Page Layout").

use crate::lsn::Lsn;

/// Parallel sums, so that processors can compute them side by side.
const SUMS: usize = 32;
/// Prime of the FNV-1a hash.
const PRIME: u32 = 16_777_619;
/// What each sum begins with.
const BASE_OFFSETS: [u32; SUMS] = [
    0x5B1F_36E9,
    0xB852_5960,
    0x02AB_50AA,
    0x1DE6_6D2A,
    0x79FF_467A,
    0x9BB9_F8A3,
    0x217E_7CD2,
    0x83E1_3D2C,
    0xF8D4_474F,
    0xE39E_B970,
    0x42C6_AE16,
    0x9932_16FA,
    0x7B09_3B5D,
    0x98DA_FF3C,
    0xF718_902A,
    0x0B1C_9CDB,
    0xE58F_764B,
    0x1876_36BC,
    0x5D7B_3BB1,
    0xE73D_E7DE,
    0x92BE_C979,
    0xCCA6_C0B2,
    0x304A_0979,
    0x85AA_43D4,
    0x7831_25BB,
    0x6CA8_EAA2,
    0xE407_EAC6,
    0x4B5C_FC3E,
    0x9FBF_8C76,
    0x15CA_20BE,
    0xF2CA_9FD3,
    0x959B_D756,
];
/// Where the checksum stands in a page.
const CHECKSUM: std::ops::Range<usize> = 8..10;

/// What a page's checksum says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is right, or the page was never written to.
    Good,
    /// It is wrong.
    Bad {
        /// The position in the log of the page's last change, as the page tells.
        lsn: Lsn,
    },
}

/// The checksum of a page, which is block `block` of its relation (counted over all its segments). The length of a page is
/// a multiple of 128 bytes.
pub fn checksum(page: &[u8], block: u32) -> u16 {
    #[cfg(target_arch = "x86_64")]
    if std::arch::is_x86_feature_detected!("avx2") {
        // SAFETY: the processor was just asked whether it has what the function is compiled for.
        #[allow(unsafe_code, reason = "four times as fast, on each page of each backup")]
        return unsafe { checksum_wide(page, block) };
    }
    checksum_by_words(page, block)
}

/// The same, compiled for processors whose registers hold eight words.
#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2")]
fn checksum_wide(page: &[u8], block: u32) -> u16 {
    checksum_by_words(page, block)
}

#[inline(always)]
fn checksum_by_words(page: &[u8], block: u32) -> u16 {
    let mut sums = BASE_OFFSETS;
    let (rows, _) = page.as_chunks::<{ 4 * SUMS }>();
    let Some((first, rest)) = rows.split_first() else {
        return fold(sums, block);
    };
    // The checksum itself counts as zero.
    let mut head = *first;
    head[CHECKSUM].fill(0);
    mix(&mut sums, &head);
    for row in rest {
        mix(&mut sums, row);
    }
    fold(sums, block)
}

#[inline(always)]
fn mix(sums: &mut [u32; SUMS], row: &[u8; 4 * SUMS]) {
    let mut words = [0; SUMS];
    for (word, bytes) in words.iter_mut().zip(row.as_chunks::<4>().0) {
        *word = u32::from_ne_bytes(*bytes);
    }
    for (sum, word) in sums.iter_mut().zip(words) {
        let mixed = *sum ^ word;
        *sum = mixed.wrapping_mul(PRIME) ^ (mixed >> 17);
    }
}

#[inline(always)]
fn fold(mut sums: [u32; SUMS], block: u32) -> u16 {
    for _ in 0..2 {
        mix(&mut sums, &[0; 4 * SUMS]);
    }
    let mixed = sums.iter().fold(0, |all, sum| all ^ sum) ^ block;
    // Never 0.
    (mixed % 65_535 + 1) as u16
}

/// Looks at one page.
pub fn verify(page: &[u8], block: u32) -> Verdict {
    let half = |at: usize| u16::from_ne_bytes([page[at], page[at + 1]]);
    // `pd_upper` of 0: the page is new.
    if page.len() < 24 || half(14) == 0 {
        return Verdict::Good;
    }
    if half(CHECKSUM.start) == checksum(page, block) {
        return Verdict::Good;
    }
    let word = |at: usize| {
        u64::from(u32::from_ne_bytes([
            page[at],
            page[at + 1],
            page[at + 2],
            page[at + 3],
        ]))
    };
    Verdict::Bad {
        lsn: Lsn(word(0) << 32 | word(4)),
    }
}

/// The number of a relation's segment, if a file of that name holds pages of a relation: `16384`, `16384.2`,
/// `16384_vm`, `16384_fsm.1`, and of temporary relations `t3_16384`, which are not looked at.
pub fn segment_of(name: &str) -> Option<u32> {
    let (stem, segment) = match name.split_once('.') {
        Some((stem, segment)) => (stem, segment.parse().ok()?),
        None => (name, 0),
    };
    let node = stem
        .strip_suffix("_fsm")
        .or_else(|| stem.strip_suffix("_vm"))
        .or_else(|| stem.strip_suffix("_init"))
        .unwrap_or(stem);
    (!node.is_empty() && node.bytes().all(|byte| byte.is_ascii_digit())).then_some(segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_of_computing_gives_the_same() {
        let page: Vec<u8> = (0..8192_u32)
            .map(|n| (n.wrapping_mul(2_654_435_761) >> 13) as u8)
            .collect();
        for block in [0, 1, 131_071, u32::MAX] {
            assert_eq!(checksum(&page, block), checksum_by_words(&page, block));
        }
    }

    #[test]
    fn names_of_files_that_hold_pages() {
        for (name, segment) in [
            ("16384", 0),
            ("16384.2", 2),
            ("16384_vm", 0),
            ("1_fsm.1", 1),
            ("5_init", 0),
        ] {
            assert_eq!(segment_of(name), Some(segment), "{name}");
        }
        for name in [
            "PG_VERSION",
            "pg_control",
            "t3_16384",
            "pg_filenode.map",
            "1.x",
            "_vm",
            "",
            ".1",
        ] {
            assert_eq!(segment_of(name), None, "{name}");
        }
    }

    #[test]
    fn a_new_page_is_good_and_a_changed_bit_is_not() {
        let mut page = vec![0; 8192];
        assert_eq!(verify(&page, 7), Verdict::Good);
        page[14] = 0x20;
        page[3] = 2;
        page[7] = 9;
        assert!(matches!(verify(&page, 7), Verdict::Bad { .. }));
        let sum = checksum(&page, 7).to_ne_bytes();
        page[CHECKSUM].copy_from_slice(&sum);
        assert_eq!(verify(&page, 7), Verdict::Good);
        assert!(
            matches!(verify(&page, 8), Verdict::Bad { .. }),
            "a page at the wrong place"
        );
        page[8000] ^= 1;
        assert!(matches!(verify(&page, 7), Verdict::Bad { .. }));
    }
}
