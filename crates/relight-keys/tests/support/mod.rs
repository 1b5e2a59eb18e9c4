//! What several tests need.
#![allow(dead_code, clippy::unwrap_used)]

use relight_keys::{
    Argon2Cost, Entropy, EntropyError, KeyFile, NewKeyring, Passphrase, RepositoryId, SystemEntropy, create,
};

/// 2023-11-14 22:13:20 UTC.
pub const NOW: i64 = 1_700_000_000;

/// Bytes that are the same in every run: SHA-256 of a seed and a counter.
pub struct FixedEntropy {
    seed: &'static str,
    counter: u64,
}

impl FixedEntropy {
    pub fn new(seed: &'static str) -> Self {
        Self { seed, counter: 0 }
    }
}

impl Entropy for FixedEntropy {
    fn fill(&mut self, out: &mut [u8]) -> Result<(), EntropyError> {
        for chunk in out.chunks_mut(32) {
            let input = [self.seed.as_bytes(), &self.counter.to_le_bytes()].concat();
            let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, &input);
            chunk.copy_from_slice(&digest.as_ref()[..chunk.len()]);
            self.counter += 1;
        }
        Ok(())
    }
}

/// A passphrase at the least cost that is accepted, so that tests are quick.
pub fn passphrase(text: &str) -> Passphrase {
    let cost = Argon2Cost {
        memory_kib: 19 * 1024,
        passes: 2,
        lanes: 1,
    };
    Passphrase::new(text.as_bytes()).unwrap().with_cost(cost).unwrap()
}

pub fn key_file() -> KeyFile {
    KeyFile::generate(&mut SystemEntropy).unwrap()
}

pub fn repository() -> RepositoryId {
    RepositoryId::generate(&mut SystemEntropy).unwrap()
}

/// A new keyring with one key file.
pub fn first(key_file: &KeyFile) -> NewKeyring {
    create(repository(), key_file, "office", NOW, &mut SystemEntropy).unwrap()
}

/// A new keyring as it would be read from storage.
pub fn stored(keyring: &NewKeyring) -> (String, Vec<u8>) {
    (keyring.name().to_string(), keyring.bytes().to_vec())
}
