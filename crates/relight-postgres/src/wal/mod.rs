//! The continuous log of a cluster: its format, how it gets into the repository and back, and what can be recovered
//! with it.

pub mod archive;
pub mod attributes;
pub mod copied;
pub mod error;
mod follow;
pub mod history;
mod kept;
pub mod name;
pub mod outlook;
pub mod page;
pub mod receive;
pub mod record;
pub mod retention;
#[cfg(any(test, fuzzing))]
pub mod sample;
pub mod store;
pub mod summary;
pub mod tail;
#[cfg(test)]
mod testing;
mod unarchived;
pub mod walk;
#[cfg(test)]
mod walk_tests;
pub mod windows;

pub use error::{Result, WalError};
pub use name::{SegmentName, SegmentSize, Timeline, WalName};
