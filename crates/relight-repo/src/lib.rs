//! The repository engine: packs, index, snapshots, collection, verification. Knows nothing of workloads, and of
//! networks only through its storage.

pub mod cdc;
pub mod clock;
pub mod error;
pub mod id;
pub mod index;
pub mod pack;
mod sealed;
pub mod snapshot;
pub mod storage;
pub mod tree;

pub use error::{RepoError, Result};
pub use id::{ChunkId, PackId, SegmentId, SessionId, SnapshotId};
