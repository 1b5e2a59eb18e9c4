//! What a collection does and what it refuses to do.

#![allow(clippy::unwrap_used)]

#[path = "../collect_support/mod.rs"]
mod support;

mod sessions;
mod space;
mod trouble;

/// A chunk of which only some remain: packs that are half used.
fn every_third(from: u64) -> Vec<u64> {
    (0..40).map(|n| if n % 3 == 0 { n } else { from + n }).collect()
}
