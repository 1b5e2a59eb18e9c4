//! The repository engine: packs, index, snapshots, collection, verification. Knows nothing of workloads, and of
//! networks only through its storage.

pub mod cdc;
pub mod clock;
pub mod collect;
mod condemned;
pub mod control;
pub mod copy;
pub mod direct;
pub mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
pub mod group;
pub mod id;
pub mod index;
pub mod keyring;
mod lease;
pub mod pack;
mod pair;
mod parity;
pub mod read;
pub mod repair;
pub mod repository;
mod retention;
pub mod retire;
pub mod rewrite;
mod sealed;
pub mod session;
pub mod settings;
pub mod snapshot;
pub mod stats;
pub mod storage;
mod suspects;
pub mod tail;
pub mod thaw;
pub mod throttle;
pub mod tree;
pub mod verify;

pub use error::{RepoError, Result};
pub use id::{ChunkId, PackId, SegmentId, SessionId, SnapshotId};
pub use repository::{OpenOptions, Repository};
