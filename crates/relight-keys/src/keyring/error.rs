//! What can go wrong with a keyring.

use super::{name::KeyringName, wrap::WrapId};
use crate::{entropy::EntropyError, ids::RepositoryId, key_set::KeySetError, provider::ProviderError};

/// A keyring could not be opened or changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum KeyringError {
    /// Nothing to open. Never a reason to make new keys: those would not open what is there.
    #[error(
        "no keyring found; check the repository's address and the permission to list and read {}. \
         Keys are made only when a repository is initialised",
        KeyringName::PREFIX
    )]
    None,
    /// Bytes that do not begin as a keyring does.
    #[error("not a Relight keyring")]
    NotKeyring,
    /// Written by a later version of the format.
    #[error("the keyring has format version {0}, this program reads version 1; use a newer one")]
    Version(u8),
    /// Altered or cut short.
    #[error("the keyring is damaged: {0}; restore this object from another copy of the repository")]
    Damaged(String),
    /// Contents that belong under another name.
    #[error("the object {read_as} contains the keyring {contains}: it was renamed or swapped")]
    Renamed {
        /// The name it was read as.
        read_as: KeyringName,
        /// The name that it should have.
        contains: KeyringName,
    },
    /// Keyrings of two repositories in one place.
    #[error("keyrings of two repositories, {0} and {1}, lie in one place")]
    OtherRepository(RepositoryId, RepositoryId),
    /// No wrap of the provider's kind.
    #[error("the keyring has no {kind} wrap; it can be opened with: {available}")]
    NoSuchWrap {
        /// Kind of the provider that was tried.
        kind: &'static str,
        /// The wraps there are.
        available: String,
    },
    /// The provider's secret fits none of the wraps of its kind.
    #[error(
        "the {name} does not open any of the {tried} {kind} wraps (labels: {labels}); it can also be opened with: {others}"
    )]
    WrongSecret {
        /// The provider that was tried.
        name: String,
        /// Its kind.
        kind: &'static str,
        /// How many wraps were tried.
        tried: usize,
        /// Their labels.
        labels: String,
        /// Wraps of other kinds.
        others: String,
    },
    /// The provider opens old keyrings but not the newest.
    #[error(
        "the {name} opens only keyrings of old generations: it was removed; {newest} can be opened with: {available}"
    )]
    Removed {
        /// The provider that was tried.
        name: String,
        /// The newest keyring.
        newest: KeyringName,
        /// Its wraps.
        available: String,
    },
    /// A keyring made by someone who did not know the repository's secret.
    #[error(
        "keyring {0} is not genuine: it was not made by anyone who held this repository's keys. Someone with write access \
         to the storage has put it there; do not use it"
    )]
    NotGenuine(KeyringName),
    /// A wrap that is not there.
    #[error("the keyring has no wrap {0}; `relight key list` shows them")]
    UnknownWrap(WrapId),
    /// Without its last wrap nothing could ever be read again.
    #[error(
        "wrap {0} is the last one; without it nothing in the repository could ever be read again. Add another first"
    )]
    LastWrap(WrapId),
    /// A label that is empty, too long, or has control characters.
    #[error("a label has 1 to 128 bytes and no control characters")]
    Label,
    /// More than fits in a keyring.
    #[error("a keyring holds at most {maximum} {what}")]
    TooMany {
        /// Of what.
        what: &'static str,
        /// How many fit.
        maximum: usize,
    },
    /// All generations are used up.
    #[error("generation {0} is the last that a keyring can have")]
    LastGeneration(u32),
    /// A keyring just made did not open, or opened to other keys. It was not handed out.
    #[error(
        "the new keyring failed its check ({0}) and was not used; nothing was changed. Check this machine's memory"
    )]
    SelfCheck(String),
    /// What was read back is not what was written.
    #[error(
        "keyring {0} was written but reads back differently; the old keyrings must be kept. Delete {0} and check the storage"
    )]
    ReadBack(KeyringName),
    /// Keys that contradict each other.
    #[error(transparent)]
    Keys(#[from] KeySetError),
    /// The provider failed.
    #[error(transparent)]
    Provider(#[from] ProviderError),
    /// No random bytes.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}
