//! File trees, images and streams through the real engine and back.
#![allow(clippy::unwrap_used)]

mod cold_and_locked;
mod generations;
mod heal;
mod images;
mod lab;
mod memory;
mod padding;
mod streams;
mod systems;
#[path = "../../../relight-pxar/tests/fs_support/tree.rs"]
#[allow(dead_code)]
mod tree;

use lab::is_root;
