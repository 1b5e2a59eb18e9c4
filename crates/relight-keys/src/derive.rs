//! HKDF-SHA256 (RFC 5869) into AES-256-GCM keys and secrets.
//!
//! `info` is a label of this crate followed by parts of fixed length (at most one part of free length, last),
//! so that no two different inputs give the same `info`.

use aws_lc_rs::{
    aead::{AES_256_GCM, LessSafeKey, UnboundKey},
    hkdf::{HKDF_SHA256, KeyType, Salt},
};

use crate::secret::Secret;

struct Length32;

impl KeyType for Length32 {
    fn len(&self) -> usize {
        32
    }
}

/// An AES-256-GCM key. Its bytes go from HKDF into the cipher's context and are never seen here.
pub(crate) fn cipher(input: &[u8], salt: &[u8], info: &[&[u8]]) -> LessSafeKey {
    let key = Salt::new(HKDF_SHA256, salt).extract(input);
    let output = key
        .expand(info, &AES_256_GCM)
        .expect("32 bytes are within HKDF's limit of 255 blocks");
    LessSafeKey::new(UnboundKey::from(output))
}

/// A 256-bit secret.
pub(crate) fn secret(input: &[u8], salt: &[u8], info: &[&[u8]]) -> Secret {
    let key = Salt::new(HKDF_SHA256, salt).extract(input);
    let output = key
        .expand(info, Length32)
        .expect("32 bytes are within HKDF's limit of 255 blocks");
    Secret::filled_by(|bytes| output.fill(bytes)).expect("the output has the length it was made with")
}
