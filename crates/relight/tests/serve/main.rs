//! The server as a whole: the real program, TLS, users and tokens, backups and restores through the protocol.

mod access;
mod adopt;
mod agentless;
mod backup;
mod copies;
mod keys;
mod lab;
mod monitor;
mod originals;
mod runs;
mod to_server;
