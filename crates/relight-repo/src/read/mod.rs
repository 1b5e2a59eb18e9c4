//! Reading: single chunks, whole archives in order with read-ahead, or all pieces of an archive in parallel.

mod cache;
mod chunk;
mod plan;
mod random;
mod runs;
mod scan;
mod spare;
mod stored;
mod stream;
mod unseal;

pub use cache::ChunkCache;
pub use chunk::ChunkReader;
pub use random::ArchiveReader;
pub use runs::scan_runs;
pub use scan::{Scan, scan};
pub use stored::{Form, Stored};
pub use stream::{Content, PieceStream};
pub use unseal::Unseal;
