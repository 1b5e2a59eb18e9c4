//! Sealing whole objects: index segments, snapshots, verification records and the like.
//!
//! Layout (numbers little-endian):
//!
//! | bytes | what |
//! | --- | --- |
//! | 0..8 | `RLSEALED` |
//! | 8 | version, 1 |
//! | 9 | [`ObjectKind`] |
//! | 10..12 | zero |
//! | 12..16 | number of the data key |
//! | 16..32 | salt, random |
//! | 32..n-16 | ciphertext, as long as the plaintext |
//! | n-16..n | AES-GCM tag |
//!
//! The key is HKDF-SHA256(data key, salt = the salt, info = "relight object v1" + repository id). It is new for
//! every object because the salt is, so it seals exactly one message and the nonce may be all zero. Two equal
//! 128-bit salts under one data key are to be expected only after 2^64 objects.
//!
//! Associated data is the 32-byte header, the repository id, and the object's name. So an object that was copied
//! under another name, taken for another kind, or brought in from another repository does not open.

use aws_lc_rs::aead::{Aad, LessSafeKey, Nonce};

use crate::{
    data_key::DataKey,
    derive,
    entropy::{Entropy, EntropyError, SystemEntropy},
    ids::{KeyId, RepositoryId},
    key_set::KeySet,
    pack_cipher::TAG_LENGTH,
};

const MAGIC: &[u8; 8] = b"RLSEALED";
const VERSION: u8 = 1;

/// Bytes in front of the ciphertext.
pub const SEALED_HEADER_LENGTH: usize = 32;

/// Bytes a sealed object is longer than its plaintext.
pub const SEALED_OVERHEAD: usize = SEALED_HEADER_LENGTH + TAG_LENGTH;

/// What a sealed object is. The number is part of the format: never reuse one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectKind(pub u8);

impl ObjectKind {
    /// A segment of the chunk index.
    pub const INDEX_SEGMENT: Self = Self(1);
    /// A snapshot's manifest.
    pub const SNAPSHOT: Self = Self(2);
    /// Kept free: the keyring has a frame of its own.
    pub const KEYRING: Self = Self(3);
    /// What was verified when.
    pub const VERIFICATION: Self = Self(4);
    /// A running session's announcement.
    pub const SESSION: Self = Self(5);
    /// The lease a collection holds.
    pub const LEASE: Self = Self(6);
    /// A pack condemned by a collection.
    pub const CONDEMNED: Self = Self(7);
    /// The settings of a repository.
    pub const SETTINGS: Self = Self(8);
    /// A pack's table of contents.
    pub const PACK_CONTENTS: Self = Self(9);
    /// What is kept about a group of snapshots or a namespace.
    pub const GROUP: Self = Self(10);
    /// The newest piece of a workload's log.
    pub const TAIL: Self = Self(11);
}

/// A sealed object could not be made or opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// The bytes do not begin as a sealed object does.
    #[error("{name}: not a sealed object of a Relight repository")]
    NotSealed {
        /// Name of the object.
        name: String,
    },
    /// Written by a later version of the format.
    #[error(
        "{name}: sealed in format version {found}, this program reads version {VERSION}; use a newer one"
    )]
    Version {
        /// Name of the object.
        name: String,
        /// The version found.
        found: u8,
    },
    /// A genuine frame, but of something else.
    #[error("{name}: is an object of kind {}, expected kind {}; objects were swapped or renamed", found.0, expected.0)]
    Kind {
        /// Name of the object.
        name: String,
        /// The kind asked for.
        expected: ObjectKind,
        /// The kind found.
        found: ObjectKind,
    },
    /// Sealed under a key that the key set lacks.
    #[error(
        "{name}: sealed under data key {key}, which this keyring does not hold; open the keyring that does"
    )]
    KeyNotAvailable {
        /// Name of the object.
        name: String,
        /// The missing key.
        key: KeyId,
    },
    /// Altered, cut short, or an object of another name or repository.
    #[error("{name}: damaged, or another object under this name (its authentication tag does not match)")]
    Damaged {
        /// Name of the object.
        name: String,
    },
    /// More than AES-GCM can seal at once (64 GiB).
    #[error("{name}: too long to be sealed as one object")]
    TooLong {
        /// Name of the object.
        name: String,
    },
    /// No salt could be drawn.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

/// Seals `plaintext` as the object `name` of a kind. See the layout at the head of this file; the result is
/// [`SEALED_OVERHEAD`] longer.
///
/// `name` is the name it will have in storage, or whatever else the reader will know it by.
///
/// # Errors
/// When the random generator fails or the plaintext is beyond 64 GiB.
pub fn seal_object(
    key: &DataKey,
    repository: RepositoryId,
    kind: ObjectKind,
    name: &str,
    plaintext: &[u8],
) -> Result<Vec<u8>, SealError> {
    seal_object_with(&mut SystemEntropy, key, repository, kind, name, plaintext)
}

/// [`seal_object`] with a salt from a source of the caller's. A salt must never come twice under one key, so
/// anything but [`SystemEntropy`] is for golden files only.
///
/// # Errors
/// As [`seal_object`].
pub fn seal_object_with(
    entropy: &mut dyn Entropy,
    key: &DataKey,
    repository: RepositoryId,
    kind: ObjectKind,
    name: &str,
    plaintext: &[u8],
) -> Result<Vec<u8>, SealError> {
    let mut header = [0; SEALED_HEADER_LENGTH];
    header[..8].copy_from_slice(MAGIC);
    header[8] = VERSION;
    header[9] = kind.0;
    header[12..16].copy_from_slice(&key.id().0.to_le_bytes());
    entropy.fill(&mut header[16..])?;

    let mut sealed = Vec::with_capacity(plaintext.len() + SEALED_OVERHEAD);
    sealed.extend_from_slice(&header);
    sealed.extend_from_slice(plaintext);
    let tag = cipher(key, repository, &header)
        .seal_in_place_separate_tag(
            zero_nonce(),
            Aad::from(associated(&header, repository, name)),
            &mut sealed[SEALED_HEADER_LENGTH..],
        )
        .map_err(|_| SealError::TooLong {
            name: name.to_owned(),
        })?;
    sealed.extend_from_slice(tag.as_ref());
    Ok(sealed)
}

/// Opens a sealed object that was read as `name` and is expected to be of a kind.
///
/// # Errors
/// Tells apart what is no sealed object, one of another version or kind, one whose key is not held, and a
/// damaged or misplaced one.
pub fn open_object(
    keys: &KeySet,
    repository: RepositoryId,
    kind: ObjectKind,
    name: &str,
    sealed: &[u8],
) -> Result<Vec<u8>, SealError> {
    let damaged = || SealError::Damaged {
        name: name.to_owned(),
    };
    if sealed.get(..8).is_none_or(|magic| magic != MAGIC) {
        return Err(SealError::NotSealed {
            name: name.to_owned(),
        });
    }
    match sealed.get(8) {
        Some(&VERSION) => {}
        Some(&found) => {
            return Err(SealError::Version {
                name: name.to_owned(),
                found,
            });
        }
        None => return Err(damaged()),
    }
    let (header, body) = sealed
        .split_first_chunk::<SEALED_HEADER_LENGTH>()
        .ok_or_else(damaged)?;
    let (ciphertext, tag) = body.split_last_chunk::<TAG_LENGTH>().ok_or_else(damaged)?;
    if header[9] != kind.0 {
        return Err(SealError::Kind {
            name: name.to_owned(),
            expected: kind,
            found: ObjectKind(header[9]),
        });
    }
    let id = KeyId(u32::from_le_bytes([
        header[12], header[13], header[14], header[15],
    ]));
    let key = keys.get(id).ok_or_else(|| SealError::KeyNotAvailable {
        name: name.to_owned(),
        key: id,
    })?;

    let mut plaintext = vec![0; ciphertext.len()];
    cipher(key, repository, header)
        .open_separate_gather(
            zero_nonce(),
            Aad::from(associated(header, repository, name)),
            ciphertext,
            tag,
            &mut plaintext,
        )
        .map_err(|_| damaged())?;
    Ok(plaintext)
}

fn cipher(key: &DataKey, repository: RepositoryId, header: &[u8; SEALED_HEADER_LENGTH]) -> LessSafeKey {
    derive::cipher(
        key.secret().expose(),
        &header[16..],
        &[b"relight object v1", &repository.0],
    )
}

/// Header, repository and name: fixed lengths first, the one of free length last.
fn associated(header: &[u8; SEALED_HEADER_LENGTH], repository: RepositoryId, name: &str) -> Vec<u8> {
    [header.as_slice(), &repository.0, name.as_bytes()].concat()
}

/// Safe because each key of this module seals one message; see the head of the file.
fn zero_nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; 12])
}
