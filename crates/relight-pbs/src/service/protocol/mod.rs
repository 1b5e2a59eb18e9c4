//! What the backup and the reader protocol have in common: HTTP/2 on a connection that has been handed over, its calls,
//! and their answers.
//!
//! There are no credentials in these calls: who it is was found out before the connection changed its protocol.

mod answer;
mod call;
mod connection;

pub(crate) use answer::Reply;
pub(crate) use call::Call;
pub(crate) use connection::{Closed, run};

/// Most bytes of path and query of a call.
const MAX_TARGET: usize = 3072;
/// Most bytes of a JSON body.
pub(crate) const MAX_JSON: usize = 512 << 10;
