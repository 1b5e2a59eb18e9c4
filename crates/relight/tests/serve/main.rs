//! The server as a whole: the real program, TLS, users and tokens, backups and restores through the protocol.

#[path = "../../../relight-postgres/tests/lab/mod.rs"]
mod postgres_lab;

mod access;
mod adopt;
mod agentless;
mod approvals;
mod backup;
mod copies;
mod elsewhere;
mod estate;
mod forgotten;
mod keys;
mod lab;
mod matrix;
mod monitor;
mod originals;
mod over_api;
mod postgres;
mod runs;
mod sessions;
mod to_server;
