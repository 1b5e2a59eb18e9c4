//! Sealing the records of one pack.

use std::fmt;

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce};

/// Bytes that sealing adds to a record: the AES-GCM tag.
pub const TAG_LENGTH: usize = 16;

/// A record did not open: it was altered, or is not the record of this pack, place and identity.
///
/// AES-GCM cannot say which; the caller knows pack and offset and says so.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("sealed record is damaged or not the one expected here (its authentication tag does not match)")]
pub struct OpenError;

/// The cipher of one pack, made by [`DataKey::pack_cipher`](crate::DataKey::pack_cipher). `Send` and `Sync`;
/// sealing needs no lock.
///
/// # Nonces
///
/// AES-GCM breaks when one key sees one nonce twice, and random 96-bit nonces may be drawn only about 2^32
/// times a key (NIST SP 800-38D, section 8.3), which a busy repository with one data key would reach. Here
/// neither matters: every pack has a random 128-bit identity and, derived from it, a key of its own. Under that
/// key the nonce of a record is its byte offset within the pack, and two records of one pack cannot begin at
/// the same byte. So nonces are unique by construction, need no counter that survives a crash, and take no
/// room in the pack.
///
/// What the caller owes for this: a pack id is drawn from a cryptographic random source for **every** attempt to
/// write a pack (a pack that failed half way is abandoned with its id, never continued or begun anew under
/// it), and an offset is sealed once. Writing the very same sealed bytes again, as an upload's retry does, is fine.
pub struct PackCipher {
    key: LessSafeKey,
}

impl PackCipher {
    pub(crate) fn new(key: LessSafeKey) -> Self {
        Self { key }
    }

    /// Seals `buffer` in place and returns the tag, which the caller stores right behind it. `aad` is what the
    /// record must be recognised by, such as its kind and digest; it is authenticated, not stored.
    ///
    /// # Panics
    /// When `buffer` is longer than AES-GCM can seal under one nonce (64 GiB).
    #[must_use = "without its tag the record can never be opened"]
    pub fn seal(&self, offset: u64, aad: &[u8], buffer: &mut [u8]) -> [u8; TAG_LENGTH] {
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce(offset), Aad::from(aad), buffer)
            .expect("a record is shorter than 64 GiB");
        let mut bytes = [0; TAG_LENGTH];
        bytes.copy_from_slice(tag.as_ref());
        bytes
    }

    /// Opens a record in place. `buffer` is the ciphertext with the tag behind it; the plaintext returned is
    /// its front part.
    ///
    /// # Errors
    /// When anything of record, offset, `aad`, pack or key differs. `buffer` then holds nothing of use.
    pub fn open<'a>(&self, offset: u64, aad: &[u8], buffer: &'a mut [u8]) -> Result<&'a mut [u8], OpenError> {
        let (ciphertext, tag) = buffer.split_last_chunk_mut::<TAG_LENGTH>().ok_or(OpenError)?;
        self.key
            .open_in_place_separate_tag(nonce(offset), Aad::from(aad), tag, ciphertext)
            .map_err(|_| OpenError)
    }

    /// Opens a record from where it lies (a mapped file, a shared read buffer) into `plaintext`, whose length
    /// must be that of `sealed` less [`TAG_LENGTH`].
    ///
    /// # Errors
    /// As [`open`](Self::open), and when the lengths do not fit. `plaintext` then holds nothing of use.
    pub fn open_to(
        &self,
        offset: u64,
        aad: &[u8],
        sealed: &[u8],
        plaintext: &mut [u8],
    ) -> Result<(), OpenError> {
        let (ciphertext, tag) = sealed.split_last_chunk::<TAG_LENGTH>().ok_or(OpenError)?;
        self.key
            .open_separate_gather(nonce(offset), Aad::from(aad), ciphertext, tag, plaintext)
            .map_err(|_| OpenError)
    }
}

/// The offset as 64 bits big-endian behind 32 zero bits.
fn nonce(offset: u64) -> Nonce {
    let mut bytes = [0; 12];
    bytes[4..].copy_from_slice(&offset.to_be_bytes());
    Nonce::assume_unique_for_key(bytes)
}

impl fmt::Debug for PackCipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PackCipher(…)")
    }
}
