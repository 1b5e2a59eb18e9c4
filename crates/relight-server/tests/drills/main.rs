//! Drills of real snapshots in real sandboxes. What must fail does fail, and nothing is left behind.
#![allow(clippy::unwrap_used)]

mod exercises;
mod failures;
mod files;
mod images;
mod lab;
