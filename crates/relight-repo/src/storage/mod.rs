//! Where a repository's objects lie. Everything above speaks to this one interface.
//!
//! An object is named by a key: lower-case path parts joined by `/` (`packs/data/3f/3f…`). Objects are small
//! (a pack is tens of MiB) and immutable but for the few that are replaced whole.
//!
//! The contract every storage keeps, checked by `tests/storage_conformance.rs`:
//!
//! - **Whole or not.** A reader sees an object complete or not at all, also while it is being written, replaced,
//!   or when the writer dies at any byte.
//! - **Durable on return.** When a write returns `Ok`, the object survives a power cut. When it returns an error,
//!   the object may exist (complete) or not. When a delete returns `Ok`, the object does not come back.
//! - **Read after write.** After a write or delete returned, every reader (also on another host) sees its effect,
//!   in reads and in lists.
//! - **Complete lists.** `list` returns every object under the prefix or fails; it never returns a part.
//!   Nothing that an interrupted write left behind is ever listed.
//! - **Honest errors.** "Not there", "not to be had now", "denied" and "lying in a cold class" are told apart,
//!   because what follows from them is very different.

pub mod claim;
mod error;
pub mod fault;
pub mod local;
pub mod memory;
pub mod s3;

pub use error::StorageError;

use std::fmt::Debug;
use std::time::Duration;

/// Result of a storage operation.
pub type Result<T> = std::result::Result<T, StorageError>;

/// Milliseconds since 1970 by the clock of the storage (not of this host), for ages of objects.
pub type Millis = i64;

/// What is known of an object without reading it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ObjectInfo {
    /// Full key of the object.
    pub key: String,
    /// Length in bytes.
    pub size: u64,
    /// When it was last written, by the clock of the storage.
    pub modified: Millis,
}

/// How an object is to be kept.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PutOptions {
    /// Storage class by the storage's own name (`STANDARD_IA`, `GLACIER`); none is its default. Ignored by storages
    /// without classes.
    pub class: Option<String>,
    /// The object must not be deletable before this time (milliseconds since 1970): object lock in compliance mode.
    /// Refused with [`StorageError::Unsupported`] by storages without object lock.
    pub retain_until: Option<Millis>,
}

/// What a storage can do beyond the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Capabilities {
    /// `put_new` is decided by the storage itself; otherwise by the tested fall-back.
    pub conditional_put: bool,
    /// Objects can be locked against deletion until a time.
    pub retention: bool,
}

/// Something about the set-up of a storage that an operator should know.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize)]
pub struct Remark {
    /// What it is, and what to do.
    pub text: String,
    /// Whether it endangers the repository, rather than costing money.
    pub danger: bool,
}

/// State of an object that may lie in a cold class.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Thaw {
    /// It can be read now.
    Ready,
    /// A copy is being made readable; ask again later.
    InProgress,
}

/// A place that keeps objects. All calls block; they may be made from many threads at once.
pub trait Storage: Send + Sync + Debug {
    /// Where this is, for messages: a path or URL without any secret.
    fn location(&self) -> String;

    /// What it can do beyond the contract.
    fn capabilities(&self) -> Capabilities;

    /// Writes an object whose content is `parts` one after the other, replacing one of that key.
    ///
    /// The engine gives new objects names that cannot collide, so that replacing is deliberate.
    fn put(&self, key: &str, parts: &[&[u8]], options: &PutOptions) -> Result<()>;

    /// Writes an object only if there is none of that key; else [`StorageError::AlreadyExists`].
    /// Of several writers at once, on any hosts, at most one succeeds.
    fn put_new(&self, key: &str, parts: &[&[u8]], options: &PutOptions) -> Result<()>;

    /// Reads a whole object.
    fn get(&self, key: &str) -> Result<Vec<u8>>;

    /// Fills `buffer` with the object's bytes from `offset`; [`StorageError::Short`] where the object ends before.
    fn get_range(&self, key: &str, offset: u64, buffer: &mut [u8]) -> Result<()>;

    /// What is known of one object.
    fn head(&self, key: &str) -> Result<ObjectInfo>;

    /// Every object whose key begins with `prefix` (which is empty or ends with `/`), in no particular order.
    /// A prefix under which nothing was ever written gives an empty list.
    fn list(&self, prefix: &str) -> Result<Vec<ObjectInfo>>;

    /// Deletes an object. One that is not there counts as deleted. [`StorageError::Locked`] if retention forbids it.
    fn delete(&self, key: &str) -> Result<()>;

    /// Extends the object's retention to at least `until` (never shortens it).
    fn retain(&self, key: &str, until: Millis) -> Result<()>;

    /// Removes what writers that died left behind and no list shows; returns how many things. Called by collections.
    fn sweep(&self) -> Result<usize> {
        Ok(0)
    }

    /// What of its set-up endangers a repository or costs money for nothing, for an operator. May be asked at any time.
    fn remarks(&self) -> Result<Vec<Remark>> {
        Ok(Vec::new())
    }

    /// Asks for a cold object to be made readable for `keep`; says whether it is. `Ready` for storages without classes.
    fn thaw(&self, key: &str, keep: Duration) -> Result<Thaw>;
}
