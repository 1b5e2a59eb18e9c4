//! The sealed part of a keyring. Written by hand rather than by `serde`, so that no copies of keys are left in
//! buffers that grew.

use std::collections::BTreeMap;

use aws_lc_rs::aead::{Aad, Nonce};
use zeroize::Zeroizing;

use super::{error::KeyringError, limits};
use crate::{
    data_key::DataKey,
    derive,
    ids::{KeyId, RepositoryId},
    key_set::{Entry, KeySet},
    secret::Secret,
};

const VERSION: u8 = 1;
const HEAD: usize = 1 + 32 + 4 + 4;
const ENTRY: usize = 4 + 8 + 32;
const TAG: usize = 16;

/// Length of the sealed body of a key set.
pub(super) fn sealed_length(keys: &KeySet) -> usize {
    HEAD + ENTRY * keys.entries().len() + TAG
}

/// Seals the body; `front` is everything in front of it.
pub(super) fn seal(keys: &KeySet, keyring_key: &Secret, front: &[u8]) -> Vec<u8> {
    let mut body = Zeroizing::new(Vec::with_capacity(sealed_length(keys)));
    body.push(VERSION);
    body.extend_from_slice(keys.repository_secret().expose());
    body.extend_from_slice(&keys.current().id().0.to_le_bytes());
    body.extend_from_slice(&(keys.entries().len() as u32).to_le_bytes());
    for (id, entry) in keys.entries() {
        body.extend_from_slice(&id.0.to_le_bytes());
        body.extend_from_slice(&entry.created.to_le_bytes());
        body.extend_from_slice(entry.key.secret().expose());
    }
    let tag = cipher(keyring_key, keys.repository())
        .seal_in_place_separate_tag(zero_nonce(), Aad::from(front), &mut body)
        .expect("a keyring is shorter than 64 GiB");
    body.extend_from_slice(tag.as_ref());
    std::mem::take(&mut *body)
}

/// Opens and reads the body.
pub(super) fn open(
    repository: RepositoryId,
    keyring_key: &Secret,
    front: &[u8],
    sealed: &[u8],
) -> Result<KeySet, KeyringError> {
    let damaged = |why: &str| KeyringError::Damaged(why.to_owned());
    let (ciphertext, tag) = sealed
        .split_last_chunk::<TAG>()
        .ok_or_else(|| damaged("the body is cut short"))?;
    let mut body = Zeroizing::new(vec![0; ciphertext.len()]);
    cipher(keyring_key, repository)
        .open_separate_gather(zero_nonce(), Aad::from(front), ciphertext, tag, &mut body)
        .map_err(|_| damaged("the authentication tag of its body does not match"))?;
    read(repository, &body)
}

/// Reads an opened body.
pub(super) fn read(repository: RepositoryId, body: &[u8]) -> Result<KeySet, KeyringError> {
    let damaged = |why: &str| KeyringError::Damaged(why.to_owned());
    let rest = body;
    let (&[version], rest) = rest.split_first_chunk().ok_or_else(|| damaged("no version"))?;
    if version != VERSION {
        return Err(KeyringError::Version(version));
    }
    let short = || damaged("the body is too short");
    let (secret, rest) = rest.split_first_chunk::<32>().ok_or_else(short)?;
    let (current, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
    let (amount, rest) = rest.split_first_chunk::<4>().ok_or_else(short)?;
    let amount = u32::from_le_bytes(*amount) as usize;
    if amount > limits::KEYS || rest.len() != amount * ENTRY {
        return Err(damaged("the amount of keys does not fit the length of the body"));
    }
    let mut entries = BTreeMap::new();
    for entry in rest.chunks_exact(ENTRY) {
        let (id, entry) = entry.split_first_chunk::<4>().ok_or_else(short)?;
        let (created, key) = entry.split_first_chunk::<8>().ok_or_else(short)?;
        let key = key.first_chunk::<32>().ok_or_else(short)?;
        let id = KeyId(u32::from_le_bytes(*id));
        let entry = Entry {
            key: DataKey::from_parts(id, Secret::new(key)),
            created: i64::from_le_bytes(*created),
        };
        if entries.insert(id, entry).is_some() {
            return Err(damaged("one key number comes twice"));
        }
    }
    let current = KeyId(u32::from_le_bytes(*current));
    Ok(KeySet::from_parts(
        repository,
        Secret::new(secret),
        entries,
        current,
    )?)
}

fn cipher(keyring_key: &Secret, repository: RepositoryId) -> aws_lc_rs::aead::LessSafeKey {
    derive::cipher(keyring_key.expose(), &repository.0, &[b"relight keyring body v1"])
}

/// Safe because a keyring key is drawn for one keyring and seals its body once.
fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}
