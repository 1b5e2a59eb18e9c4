//! The frontend/backend protocol, version 3.0 (documentation of PostgreSQL, part "Frontend/Backend Protocol"): startup,
//! authentication, simple queries, the three kinds of COPY, and the replication mode that goes over them.

mod authenticate;
mod connection;
mod inbox;
mod query;
mod scram;
mod server_message;

pub use connection::{Connection, Mode};
pub use query::{Event, ResultSet, Row, identifier, literal};
pub use server_message::ServerMessage;
