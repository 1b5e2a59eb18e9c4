//! What a server calls as its `archive_command` and `restore_command`: one file a call, each call its own process.
//!
//! A call opens the repository, which takes longer than to move a segment. So a push takes along what else is ready, and
//! remembers for the calls that follow; and a fetch leaves a process behind that fetches ahead.

mod ahead;
mod fetch;
mod push;
mod spool;
#[cfg(test)]
mod tests;

pub use ahead::{Ahead, fetch_ahead};
pub use fetch::{Outcome, fetch};
pub use push::{name_of, push};
pub use spool::Spool;
