//! The storage contract against what needs no server: memory, a local directory, and a storage that ignores
//! conditions under the claim fall-back.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;

use relight_repo::storage::Storage;
use relight_repo::storage::claim::{ClaimStorage, Timing};
use relight_repo::storage::fault::FaultStorage;
use relight_repo::storage::local::LocalStorage;
use relight_repo::storage::memory::{MemoryOptions, MemoryStorage};

#[path = "storage_conformance/suite.rs"]
mod suite;

fn memory(_: &str) -> impl Fn() -> Arc<dyn Storage> {
    let storage = MemoryStorage::new();
    move || Arc::new(storage.clone())
}

fn fault(_: &str) -> impl Fn() -> Arc<dyn Storage> {
    let storage = FaultStorage::new(Arc::new(MemoryStorage::new()));
    move || Arc::new(storage.another())
}

fn claims(_: &str) -> impl Fn() -> Arc<dyn Storage> {
    let options = MemoryOptions {
        conditional_put: false,
        ..MemoryOptions::default()
    };
    let storage = MemoryStorage::with_options(options);
    move || Arc::new(ClaimStorage::new(Arc::new(storage.clone()), Timing::default()))
}

fn local(_: &str) -> impl Fn() -> Arc<dyn Storage> {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("repository");
    LocalStorage::create(&root).unwrap();
    move || {
        // The closure owns the directory: it is removed when the test ends.
        let _ = &directory;
        Arc::new(LocalStorage::open(&root).unwrap())
    }
}

conformance!(in_memory, memory);
conformance!(with_faults_that_do_not_happen, fault);
conformance!(with_claims, claims);
conformance!(in_a_directory, local);
