//! The calls about datastores, as clients send them, over a connection.

#[path = "../support/mod.rs"]
mod support;

mod download;
mod lab;
mod lists;
mod upkeep;
