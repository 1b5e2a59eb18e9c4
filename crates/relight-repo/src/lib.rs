//! The repository engine: packs, index, snapshots, collection, verification. Knows nothing of workloads, and of
//! networks only through its storage.

pub mod storage;
