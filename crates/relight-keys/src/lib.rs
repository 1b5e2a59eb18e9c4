//! The key hierarchy: data keys, the keyring that holds them, and the providers that unlock it.
//!
//! ```text
//! provider (passphrase, key file, recovery key)
//!    └─ unlocks ─> wrap ─> keyring key (new in every generation)
//!                             └─ unseals ─> data keys + repository secret   ([`KeySet`])
//!                                              ├─ pack keys, one a pack      ([`PackCipher`])
//!                                              └─ object keys, one an object ([`seal_object`])
//! ```
//!
//! This crate does no storage I/O: it turns bytes into keys and keys into bytes. The one exception is the key
//! file provider, which reads and creates its own small local file.
//!
//! All symmetric sealing is AES-256-GCM; derivation is HKDF-SHA256 (RFC 5869); both come from `aws-lc-rs`.

mod data_key;
mod derive;
mod entropy;
mod hex_array;
mod ids;
mod key_set;
mod keyring;
mod pack_cipher;
mod provider;
mod seal;
mod secret;

#[cfg(fuzzing)]
pub use keyring::fuzzing;

pub use data_key::DataKey;
pub use entropy::{Entropy, EntropyError, SystemEntropy};
pub use ids::{IdError, KeyId, RepositoryId};
pub use key_set::{KeySet, KeySetError};
pub use keyring::{
    Change, Keyring, KeyringError, KeyringName, KeyringNameError, NewKeyring, Opened, WrapId, WrapInfo,
    create, open, open_all, unite,
};
pub use pack_cipher::{OpenError, PackCipher, TAG_LENGTH};
pub use provider::{
    Argon2Cost, Background, KINDS, KeyFile, Kind, MINIMUM_PASSPHRASE_LENGTH, Passphrase, Provider,
    ProviderError, RecoveryCodeError, RecoveryKey, RecoveryPage,
};
pub use seal::{
    ObjectKind, SEALED_HEADER_LENGTH, SEALED_OVERHEAD, SealError, open_object, seal_object, seal_object_with,
};
pub use secret::Secret;
