//! The pxar archive format: file trees with all their metadata, random access. Knows nothing of repositories.

pub mod metadata;
pub mod read_at;
