//! SHA-256 of two contents at a time (FIPS 180-4, section 6.2).
//!
//! The processor's instructions for SHA-256 (Intel SDM, `SHA256RNDS2`) wait for one another: one content keeps the unit for
//! them half idle, and a second one that has nothing to do with it takes the other half. Databases come in pages, and of
//! their backups the identities of chunks are a quarter of all work. Where the processor has no such instructions, or the
//! contents differ in length, each is hashed by itself.

use crate::id::ChunkId;

/// The identities of two contents.
pub fn identities(a: &[u8], b: &[u8]) -> [ChunkId; 2] {
    #[cfg(target_arch = "x86_64")]
    if a.len() == b.len()
        && std::arch::is_x86_feature_detected!("sha")
        && std::arch::is_x86_feature_detected!("ssse3")
        && std::arch::is_x86_feature_detected!("sse4.1")
    {
        // SAFETY: the processor was just asked whether it has what the function is compiled for.
        #[allow(unsafe_code, reason = "a fifth off base backups of little that changed")]
        return unsafe { x86::digests([a, b]) }.map(ChunkId);
    }
    [a, b].map(ChunkId::of)
}

#[cfg(target_arch = "x86_64")]
mod x86 {
    use std::arch::x86_64::{
        __m128i, _mm_add_epi32, _mm_alignr_epi8, _mm_cvtsi128_si64, _mm_set_epi32, _mm_set_epi64x,
        _mm_sha256msg1_epu32, _mm_sha256msg2_epu32, _mm_sha256rnds2_epu32, _mm_shuffle_epi8,
        _mm_shuffle_epi32, _mm_unpackhi_epi64,
    };

    const BLOCK: usize = 64;

    /// Section 5.3.3.
    const START: [u32; 8] = [
        0x6a09_e667,
        0xbb67_ae85,
        0x3c6e_f372,
        0xa54f_f53a,
        0x510e_527f,
        0x9b05_688c,
        0x1f83_d9ab,
        0x5be0_cd19,
    ];

    /// Section 4.2.2.
    #[rustfmt::skip]
    const K: [u32; 64] = [
        0x428a_2f98, 0x7137_4491, 0xb5c0_fbcf, 0xe9b5_dba5, 0x3956_c25b, 0x59f1_11f1, 0x923f_82a4, 0xab1c_5ed5,
        0xd807_aa98, 0x1283_5b01, 0x2431_85be, 0x550c_7dc3, 0x72be_5d74, 0x80de_b1fe, 0x9bdc_06a7, 0xc19b_f174,
        0xe49b_69c1, 0xefbe_4786, 0x0fc1_9dc6, 0x240c_a1cc, 0x2de9_2c6f, 0x4a74_84aa, 0x5cb0_a9dc, 0x76f9_88da,
        0x983e_5152, 0xa831_c66d, 0xb003_27c8, 0xbf59_7fc7, 0xc6e0_0bf3, 0xd5a7_9147, 0x06ca_6351, 0x1429_2967,
        0x27b7_0a85, 0x2e1b_2138, 0x4d2c_6dfc, 0x5338_0d13, 0x650a_7354, 0x766a_0abb, 0x81c2_c92e, 0x9272_2c85,
        0xa2bf_e8a1, 0xa81a_664b, 0xc24b_8b70, 0xc76c_51a3, 0xd192_e819, 0xd699_0624, 0xf40e_3585, 0x106a_a070,
        0x19a4_c116, 0x1e37_6c08, 0x2748_774c, 0x34b0_bcb5, 0x391c_0cb3, 0x4ed8_aa4a, 0x5b9c_ca4f, 0x682e_6ff3,
        0x748f_82ee, 0x78a5_636f, 0x84c8_7814, 0x8cc7_0208, 0x90be_fffa, 0xa450_6ceb, 0xbef9_a3f7, 0xc671_78f2,
    ];

    /// State of one content, as the instructions want it: A, B, E and F, then C, D, G and H.
    type State = [__m128i; 2];

    /// The digests of two contents of one length.
    #[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
    pub(super) fn digests(contents: [&[u8]; 2]) -> [[u8; 32]; 2] {
        let [a, b, c, d, e, f, g, h] = START.map(u32::cast_signed);
        let start = [_mm_set_epi32(a, b, e, f), _mm_set_epi32(c, d, g, h)];
        let mut states = [start; 2];
        let [(first, first_rest), (second, second_rest)] =
            contents.map(|content| content.as_chunks::<BLOCK>());
        for (first, second) in first.iter().zip(second) {
            compress(&mut states, [first, second]);
        }
        // Section 5.1.1: a bit, zeros, and the length in bits.
        let length = contents[0].len();
        let mut ends = [[0; 2 * BLOCK]; 2];
        let blocks = if length % BLOCK < BLOCK - 8 { 1 } else { 2 };
        for (end, rest) in ends.iter_mut().zip([first_rest, second_rest]) {
            end[..rest.len()].copy_from_slice(rest);
            end[rest.len()] = 0x80;
            end[blocks * BLOCK - 8..blocks * BLOCK].copy_from_slice(&(length as u64 * 8).to_be_bytes());
        }
        let [first, second] = &ends;
        let pairs = first
            .as_chunks::<BLOCK>()
            .0
            .iter()
            .zip(second.as_chunks::<BLOCK>().0);
        for (first, second) in pairs.take(blocks) {
            compress(&mut states, [first, second]);
        }
        let [first, second] = states;
        [bytes(first), bytes(second)]
    }

    #[target_feature(enable = "sse2")]
    fn bytes([abef, cdgh]: State) -> [u8; 32] {
        let mut digest = [0; 32];
        let halves = [
            _mm_cvtsi128_si64(_mm_unpackhi_epi64(abef, abef)),
            _mm_cvtsi128_si64(_mm_unpackhi_epi64(cdgh, cdgh)),
            _mm_cvtsi128_si64(abef),
            _mm_cvtsi128_si64(cdgh),
        ];
        for (place, half) in digest.as_chunks_mut::<8>().0.iter_mut().zip(halves) {
            *place = half.to_be_bytes();
        }
        digest
    }

    /// Sixteen bytes as four words, of which each begins with its highest byte.
    #[target_feature(enable = "sse2,ssse3")]
    fn words(block: &[u8; BLOCK], number: usize) -> __m128i {
        let half = |at: usize| {
            let mut half = [0; 8];
            half.copy_from_slice(&block[at..at + 8]);
            i64::from_le_bytes(half)
        };
        let order = _mm_set_epi64x(0x0c0d_0e0f_0809_0a0b, 0x0405_0607_0001_0203);
        _mm_shuffle_epi8(_mm_set_epi64x(half(16 * number + 8), half(16 * number)), order)
    }

    /// Takes a block of each content into its state.
    #[inline]
    #[target_feature(enable = "sha,sse2,ssse3,sse4.1")]
    fn compress(states: &mut [State; 2], blocks: [&[u8; BLOCK]; 2]) {
        let mut now = *states;
        let mut w = [[_mm_set_epi64x(0, 0); 4]; 2];
        for (w, block) in w.iter_mut().zip(blocks) {
            for (number, w) in w.iter_mut().enumerate() {
                *w = words(block, number);
            }
        }
        // Four rounds of both at a time, and the words that later rounds need (Intel, "SHA Extensions", section on
        // message scheduling).
        macro_rules! rounds {
            ($($four:literal)*) => { $(
                let k = K[4 * $four..4 * $four + 4].first_chunk::<4>().copied().unwrap_or_default();
                let [k0, k1, k2, k3] = k.map(u32::cast_signed);
                let k = _mm_set_epi32(k3, k2, k1, k0);
                let (this, next, last) = ($four % 4, ($four + 1) % 4, ($four + 3) % 4);
                let message = [_mm_add_epi32(w[0][this], k), _mm_add_epi32(w[1][this], k)];
                for (now, message) in now.iter_mut().zip(message) {
                    now[1] = _mm_sha256rnds2_epu32(now[1], now[0], message);
                }
                if $four >= 3 && $four < 15 {
                    for w in &mut w {
                        let over = _mm_alignr_epi8::<4>(w[this], w[last]);
                        w[next] = _mm_sha256msg2_epu32(_mm_add_epi32(w[next], over), w[this]);
                    }
                }
                for (now, message) in now.iter_mut().zip(message) {
                    now[0] = _mm_sha256rnds2_epu32(now[0], now[1], _mm_shuffle_epi32::<0x0e>(message));
                }
                if $four >= 1 && $four < 13 {
                    for w in &mut w {
                        w[last] = _mm_sha256msg1_epu32(w[last], w[this]);
                    }
                }
            )* };
        }
        rounds!(0 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15);
        for (state, now) in states.iter_mut().zip(now) {
            for (half, now) in state.iter_mut().zip(now) {
                *half = _mm_add_epi32(*half, now);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_are_what_each_is_alone() {
        let mut bytes = vec![0; 40_000];
        aws_lc_rs::rand::fill(&mut bytes).unwrap();
        let lengths = (0..300).chain([4096, 8191, 8192, 8193, 16_384, 19_999]);
        for length in lengths {
            let (a, b) = (&bytes[..length], &bytes[20_000..20_000 + length]);
            assert_eq!(identities(a, b), [ChunkId::of(a), ChunkId::of(b)], "{length}");
            assert_eq!(identities(a, &bytes), [ChunkId::of(a), ChunkId::of(&bytes)]);
        }
        // FIPS 180-4's example.
        let [abc, _] = identities(b"abc", b"xyz");
        assert_eq!(
            hex::encode(abc.0),
            "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
        );
    }
}
