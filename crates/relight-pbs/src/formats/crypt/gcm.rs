//! AES-256-GCM with an initialisation vector of 16 bytes and no associated data.
//!
//! The library offers GCM with vectors of 12 bytes only, and its parts. NIST SP 800-38D, section 7.1, makes the first
//! counter block of a longer vector with GHASH; the rest is counter mode and a GHASH over the ciphertext. The library's
//! GCM over nothing but associated data is that same GHASH, with the length in the other half of its last block: GHASH
//! is linear, so one multiplication corrects for that.

use aws_lc_rs::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::iv::FixedLength;

use super::{CryptError, KEY};

/// Length of an initialisation vector in bytes.
pub const IV: usize = 16;
/// Length of a tag in bytes.
pub const TAG: usize = 16;

/// Bytes of a block.
const BLOCK: usize = 16;

pub(super) struct WideIvGcm {
    counter: EncryptingKey,
    gmac: LessSafeKey,
    /// The key of GHASH: the encryption of a block of zeros.
    h: u128,
    /// What the library's tags are masked with under the vector that [`Self::ghash`] uses.
    mask: u128,
}

impl WideIvGcm {
    pub fn new(key: &[u8; KEY]) -> Result<Self, CryptError> {
        let failed = |_| CryptError::Unavailable;
        let counter = UnboundCipherKey::new(&AES_256, key)
            .and_then(EncryptingKey::ctr)
            .map_err(failed)?;
        let gmac = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key).map_err(failed)?);
        let mut new = Self {
            counter,
            gmac,
            h: 0,
            mask: 0,
        };
        let mut zeros = [0; BLOCK];
        new.count(0, &mut zeros)?;
        new.h = u128::from_be_bytes(zeros);
        // GHASH of nothing is zero.
        new.mask = new.tag_of(&[])?;
        Ok(new)
    }

    /// Counter mode from this counter block on. Only the last 32 bits count (SP 800-38D, 6.2); the library counts in all
    /// 128, so it is called again where they differ.
    fn count(&self, counter: u128, mut data: &mut [u8]) -> Result<(), CryptError> {
        let mut counter = counter;
        while !data.is_empty() {
            let blocks = (1u64 << 32) - (counter as u32 as u64);
            let now = usize::try_from(blocks.saturating_mul(BLOCK as u64))
                .unwrap_or(usize::MAX)
                .min(data.len());
            let (part, rest) = data.split_at_mut(now);
            let start = EncryptionContext::Iv128(FixedLength::from(counter.to_be_bytes()));
            self.counter
                .less_safe_encrypt(part, start)
                .map_err(|_| CryptError::Unavailable)?;
            counter &= !u128::from(u32::MAX);
            data = rest;
        }
        Ok(())
    }

    fn tag_of(&self, data: &[u8]) -> Result<u128, CryptError> {
        let nonce = Nonce::assume_unique_for_key([0; 12]);
        let tag = self
            .gmac
            .seal_in_place_separate_tag(nonce, Aad::from(data), &mut [])
            .map_err(|_| CryptError::Unavailable)?;
        let mut block = [0; TAG];
        block.copy_from_slice(tag.as_ref());
        Ok(u128::from_be_bytes(block))
    }

    /// GHASH of `data` as ciphertext without associated data.
    fn ghash(&self, data: &[u8]) -> Result<u128, CryptError> {
        let bits = (data.len() as u128) * 8;
        Ok(self.tag_of(data)? ^ self.mask ^ multiply((bits << 64) ^ bits, self.h))
    }

    fn first_counter(&self, iv: &[u8; IV]) -> u128 {
        let block = multiply(u128::from_be_bytes(*iv), self.h) ^ (IV as u128 * 8);
        multiply(block, self.h)
    }

    fn tag(&self, first: u128, ciphertext: &[u8]) -> Result<[u8; TAG], CryptError> {
        let mut mask = [0; BLOCK];
        self.count(first, &mut mask)?;
        Ok((self.ghash(ciphertext)? ^ u128::from_be_bytes(mask)).to_be_bytes())
    }

    pub fn seal(&self, iv: &[u8; IV], data: &mut [u8]) -> Result<[u8; TAG], CryptError> {
        let first = self.first_counter(iv);
        self.count(next(first), data)?;
        self.tag(first, data)
    }

    pub fn open(&self, iv: &[u8; IV], tag: &[u8; TAG], data: &mut [u8]) -> Result<(), CryptError> {
        let first = self.first_counter(iv);
        let expected = self.tag(first, data)?;
        verify_slices_are_equal(&expected, tag).map_err(|_| CryptError::Mismatch)?;
        self.count(next(first), data)
    }
}

/// The next counter block.
fn next(counter: u128) -> u128 {
    let low = u128::from(u32::MAX);
    (counter & !low) | (counter.wrapping_add(1) & low)
}

/// Multiplies in the field of GHASH (SP 800-38D, 6.3). Takes the same time whatever the factors are.
fn multiply(x: u128, y: u128) -> u128 {
    let (mut product, mut v) = (0, y);
    for bit in (0..128).rev() {
        product ^= v & (0u128.wrapping_sub((x >> bit) & 1));
        v = (v >> 1) ^ ((0xe1 << 120) & 0u128.wrapping_sub(v & 1));
    }
    product
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Test case 18 of "The Galois/Counter Mode of Operation" (McGrew, Viega) has a long vector but associated data; so
    /// here the library itself is the witness: with a vector of 12 bytes, whose first counter block is known.
    #[test]
    fn the_parts_make_the_gcm_of_the_library() {
        let key = [0x42; 32];
        let gcm = WideIvGcm::new(&key).unwrap();
        let library = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).unwrap());
        for length in [0, 1, 15, 16, 17, 1000, 100_000] {
            let content: Vec<u8> = (0..length).map(|n| (n * 7 % 251) as u8).collect();
            let mut expected = content.clone();
            let nonce = Nonce::assume_unique_for_key([9; 12]);
            let tag = library
                .seal_in_place_separate_tag(nonce, Aad::empty(), &mut expected)
                .unwrap();
            let mut first = [9; BLOCK];
            first[12..].copy_from_slice(&1u32.to_be_bytes());
            let first = u128::from_be_bytes(first);
            let mut data = content.clone();
            gcm.count(next(first), &mut data).unwrap();
            assert_eq!(data, expected);
            assert_eq!(gcm.tag(first, &data).unwrap(), tag.as_ref());
        }
    }

    #[test]
    fn the_counter_wraps_at_32_bits() {
        let gcm = WideIvGcm::new(&[1; 32]).unwrap();
        let at = |counter: u128| {
            let mut block = [0; BLOCK];
            gcm.count(counter, &mut block).unwrap();
            block
        };
        let start = (5 << 64) | u128::from(u32::MAX - 1);
        let mut data = [0; 4 * BLOCK];
        gcm.count(start, &mut data).unwrap();
        let expected = [at(start), at(start + 1), at(5 << 64), at((5 << 64) + 1)];
        assert_eq!(data.as_slice(), expected.concat());
        assert_eq!(next(start + 1), 5 << 64);
    }

    #[test]
    fn what_was_changed_does_not_open() {
        let gcm = WideIvGcm::new(&[1; 32]).unwrap();
        let mut data = b"some content".to_vec();
        let tag = gcm.seal(&[3; IV], &mut data).unwrap();
        let sealed = data.clone();
        for (iv, bit) in [([4; IV], 0), ([3; IV], 1)] {
            data[0] ^= bit;
            let before = data.clone();
            assert_eq!(gcm.open(&iv, &tag, &mut data), Err(CryptError::Mismatch));
            assert_eq!(data, before);
            data.copy_from_slice(&sealed);
        }
        gcm.open(&[3; IV], &tag, &mut data).unwrap();
        assert_eq!(data, b"some content");
    }
}
