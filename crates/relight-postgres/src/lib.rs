//! PostgreSQL clusters: base backups, the continuous log, recovery windows, restores and drills.

pub mod attach;
pub mod base;
pub mod connect;
mod drill;
pub mod error;
pub mod extract;
pub mod kind;
pub mod launch;
pub mod logical;
pub mod lsn;
pub mod protocol;
pub mod restore;
pub mod wal;

pub use connect::{Environment, Settings};
pub use error::{PostgresError, Result};
pub use lsn::Lsn;
pub use protocol::Connection;
