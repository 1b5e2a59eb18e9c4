//! Digests of chunks of nothing but zeros, which the repository does not store.

use std::collections::HashMap;
use std::sync::{Mutex, OnceLock, PoisonError};

use aws_lc_rs::digest;

use crate::formats::index::{Digest, FIXED_CHUNK};

/// Digests that are remembered: images end anywhere.
const KEPT: usize = 1024;

/// The SHA-256 of `length` zeros.
pub fn zero_digest(length: u64) -> Digest {
    static FULL: OnceLock<Digest> = OnceLock::new();
    static OTHERS: Mutex<Option<HashMap<u64, Digest>>> = Mutex::new(None);
    if length == FIXED_CHUNK {
        return *FULL.get_or_init(|| calculate(FIXED_CHUNK));
    }
    let lock = || OTHERS.lock().unwrap_or_else(PoisonError::into_inner);
    if let Some(known) = lock().get_or_insert_default().get(&length) {
        return *known;
    }
    let digest = calculate(length);
    let mut others = lock();
    let others = others.get_or_insert_default();
    if others.len() >= KEPT {
        others.clear();
    }
    others.insert(length, digest);
    digest
}

fn calculate(mut length: u64) -> Digest {
    const PART: &[u8] = &[0; 64 << 10];
    let mut context = digest::Context::new(&digest::SHA256);
    while length > 0 {
        let part = length.min(PART.len() as u64);
        context.update(&PART[..part as usize]);
        length -= part;
    }
    let mut digest = [0; 32];
    digest.copy_from_slice(context.finish().as_ref());
    digest
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_those_of_zeros() {
        let full = "bb9f8df61474d25e71fa00722318cd387396ca1736605e1248821cc0de3d3af8";
        assert_eq!(hex::encode(zero_digest(FIXED_CHUNK)), full);
        for length in [0, 1, 777, 70_000, 70_000] {
            let digest = digest::digest(&digest::SHA256, &vec![0; length]);
            assert_eq!(zero_digest(length as u64), digest.as_ref());
        }
    }
}
