//! The log of real PostgreSQL servers: received and archived, with everything killed that can be, and recovered from.
//! And restores with it.

#[path = "../../../relight-postgres/tests/lab/mod.rs"]
mod lab;
mod log_lab;

mod archive;
mod receive;
mod restore;
