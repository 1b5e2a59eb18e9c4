//! The server's side of the protocol: calls over HTTP/1.1, tasks, and the two sessions over HTTP/2.

pub mod backup;
pub mod datastore;
pub mod http;
mod protocol;
pub mod reader;
pub mod rest;
pub mod tasks;
