//! Packs: immutable objects of tens of MiB that hold sealed chunks and end with their own table of contents.
//! The layout is in `docs/format.md`, "Packs".

pub mod builder;
pub mod codec;
pub mod format;
pub mod reader;
pub(crate) mod store;

pub use builder::{FinishedPack, PackBuffer, PackBuilder};
pub use codec::Codec;
pub use format::{PackKind, Record};
