//! The streaming receiver: takes the log from a server as it is written, as a standby would, and has it in the repository
//! within about a second. Its slot makes the server keep what is not durable there yet.
//!
//! Two threads. One receives into a spool on this machine's disk, and goes on doing so while the repository does not
//! answer, as far as the spool may grow. The other stores from the spool. The server is told "written" for what is on
//! this machine's disk, and "flushed" only for what is durable in the repository: so a receiver that dies anywhere, with
//! or without its disk, begins again without a gap, and a server that has it among its `synchronous_standby_names`
//! acknowledges no transaction before it is in the repository.

mod begin;
mod link;
mod message;
mod options;
mod run;
mod shared;
mod slot;
mod spool;
mod stream;
#[cfg(test)]
mod tests;
mod upload;
mod watch;

pub(super) use link::start_sending;
pub(super) use message::Message;
pub use options::{ALARM, Options, slot_name};
pub use run::receive;
pub use slot::SlotState;
