//! The backup protocol as clients speak it, on a real repository.

#[path = "../support/mod.rs"]
mod support;
#[path = "../wire/mod.rs"]
mod wire;

mod content;
mod course;
mod lab;
