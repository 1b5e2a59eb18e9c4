//! Runs the real program against temporary repositories.
#![allow(clippy::unwrap_used)]

mod bad_input;
mod browse;
mod drill;
mod dump;
mod engine;
mod forget;
mod keys;
mod lab;
mod plan;
mod report;
