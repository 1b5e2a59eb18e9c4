//! The keyring: one storage object that holds all keys of a repository, sealed for every provider.
//!
//! A keyring is never changed. A change makes the next *generation*, a new object under a new name
//! ([`KeyringName`]); readers open all that are there and unite their keys ([`open_all`]), so that two
//! administrators who change at the same time lose nothing, whatever the storage can or cannot promise. What a
//! new keyring [supersedes](NewKeyring::supersedes) is deleted after the new one was written and read back.
//!
//! # Format, version 1
//!
//! Numbers little-endian:
//!
//! | bytes | what |
//! | --- | --- |
//! | 8 | `RLKEYRNG` |
//! | 1 | version, 1 |
//! | 3 | zero |
//! | 4 | length of the public part |
//! | … | public part, JSON: repository, generation, id, created, wraps |
//! | 4 | length of the body |
//! | … | body, AES-256-GCM sealed; all bytes before it are associated data |
//!
//! The body is one byte version (1), the 32-byte repository secret, the number of the current data key (u32), the
//! amount of keys (u32), and for each key its number (u32), time (i64, seconds since 1970) and 32 bytes. It is
//! sealed under HKDF-SHA256(keyring key, salt = repository id, info = "relight keyring body v1"), nonce zero; a keyring
//! key is drawn anew for each keyring and seals nothing else.
//!
//! # Wraps
//!
//! A wrap is one provider's access. From the provider's secret follow, by HKDF with repository id and wrap id, an
//! X25519 private key and a trust key. The wrap holds:
//!
//! - the **public key**. The keyring key is sealed to it: a fresh X25519 key pair, HKDF-SHA256(shared secret,
//!   salt = ephemeral public key + recipient public key, info = "relight wrap v1" + repository id + generation + keyring
//!   id + wrap id), AES-256-GCM, nonce zero. So whoever opened a keyring can make the next one for all other
//!   providers without their secrets, and a removed one is just not sealed to any more.
//! - the **trust tag**: HMAC-SHA256 under the trust key over the wrap's identity and the repository secret, made when
//!   the wrap is. Sealing to a public key proves nothing about the sealer: without the tag, whoever can write to the
//!   storage could put a keyring there with keys of his own, and clients would go on to back up under those. The
//!   tag can only be made with the provider's secret, and it names the one genuine repository secret. (Someone who was
//!   an administrator knows the repository secret and can still forge a keyring if he can write to the storage:
//!   take away his storage credentials together with his wrap.)
//!
//! # What removal and rotation do not do
//!
//! A removed provider may have kept the data keys, and can open old keyrings wherever these still lie (versioned
//! or locked buckets). Removing a wrap therefore protects new data only together with
//! [`Change::rotate`], and old data only once it was re-encrypted under the new key.

mod body;
mod change;
mod error;
#[cfg(test)]
mod forgery_tests;
mod frame;
#[cfg(fuzzing)]
pub mod fuzzing;
mod name;
mod open;
mod wrap;

pub use change::{Change, NewKeyring, create};
pub use error::KeyringError;
pub use frame::Keyring;
pub use name::{KeyringName, KeyringNameError};
pub use open::{Opened, open, open_all, unite};
pub use wrap::{WrapId, WrapInfo};

/// Bounds on what is parsed, all far above need.
mod limits {
    /// Bytes of a keyring object.
    pub(super) const OBJECT: usize = 1 << 20;
    /// Wraps of a keyring.
    pub(super) const WRAPS: usize = 64;
    /// Bytes of a label or a kind.
    pub(super) const LABEL: usize = 128;
    /// Bytes of a provider's parameters as JSON.
    pub(super) const PARAMETERS: usize = 4096;
    /// Data keys of a repository.
    pub(super) const KEYS: usize = 4096;
}
