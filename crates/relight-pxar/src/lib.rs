//! The pxar archive format: file trees with all their metadata, random access. Knows nothing of repositories.
//!
//! Version 1 is one stream with contents inline. Version 2 is two: a metadata stream, which [`Encoder`] writes and
//! [`Decoder`] and [`Accessor`] read, and a payload stream, which the caller writes with the pieces of [`payload`].

pub mod accessor;
pub mod decoder;
pub mod encoder;
pub mod entry;
pub mod error;
pub mod exclude;
pub mod format;
pub mod fs;
pub mod goodbye;
pub mod metadata;
pub mod metadata_items;
pub mod payload;
pub mod read_at;
pub mod siphash;

pub use accessor::{Accessor, ChildList, Children, Directory, FileContent, Node, NodeId};
pub use decoder::{Decoder, Event};
pub use encoder::{AddedFile, Encoder};
pub use entry::{ContentPlace, Entry, EntryKind};
pub use error::{DecodeError, EncodeError};
pub use format::Version;
pub use metadata::{FileTime, Metadata, Stat};
pub use metadata_items::{EntryMetadata, RawMetadata};
