//! What an operator does besides: new data keys, sealing again, copies, a new index, repair of what has rotted.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use relight_keys::SystemEntropy;
use relight_repo::collect::CollectOptions;
use relight_repo::control::Control;
use relight_repo::copy::copy;
use relight_repo::index::PackState;
use relight_repo::repair::{self, PackOptions};
use relight_repo::retire;
use relight_repo::rewrite::rewrite;
use relight_repo::storage::Storage;
use relight_repo::verify::{Options, Scope, verify};
use relight_repo::{OpenOptions, Repository, Result, keyring};

use super::World;

static QUIET: AtomicBool = AtomicBool::new(false);

/// A new data key; whoever has opened the repository goes on under the old one.
pub fn rotate(world: &World) {
    let opened = keyring::unlock(&world.storage, &world.key).unwrap();
    keyring::change(&world.storage, &opened, jiff::Timestamp::now(), |change| {
        change.rotate(0, &mut SystemEntropy).map(drop)
    })
    .unwrap();
}

/// Seals everything under the current key.
pub fn reseal(world: &World, options: &CollectOptions) -> Result<()> {
    rewrite(&world.open(), options, Control::quiet(&QUIET)).map(drop)
}

/// Drops the old data keys that nothing needs.
pub fn retire(world: &World) -> Result<()> {
    let opened = keyring::unlock(&world.storage, &world.key)?;
    retire::retire(&world.open(), &opened, &[], Control::quiet(&QUIET)).map(drop)
}

/// Brings `to` up to date with all snapshots of `from`.
pub fn copy_all(from: &Arc<Repository>, to: &Arc<Repository>) -> Result<()> {
    let (snapshots, _) = from.snapshots()?;
    copy(from, to, &snapshots, Control::quiet(&QUIET)).map(drop)
}

/// Makes the index anew from the packs.
pub fn rebuild_index(world: &World) -> Result<()> {
    let keys = keyring::unlock(&world.storage, &world.key)?.into_keys();
    let cache = tempfile::tempdir().unwrap();
    let storage: Arc<dyn Storage> = Arc::new(world.storage.clone());
    repair::index(
        storage,
        keys,
        OpenOptions::new(cache.path()),
        Control::quiet(&QUIET),
    )
    .map(drop)
}

/// Flips a bit in one of the packs that are in use (nobody looks after those that are about to be deleted), finds it by verification, and makes it good by parity.
pub fn rot_and_repair(world: &World, which: u8, at: u16) {
    let repository = world.open();
    let known = repository.index().packs().into_values();
    let mut packs: Vec<_> = known
        .filter(|(_, state)| *state == PackState::Live)
        .map(|(line, _)| line)
        .collect();
    packs.retain(|line| world.storage.head(&line.kind.key(line.id)).is_ok());
    packs.sort_by_key(|line| line.id);
    let Some(line) = packs.get(usize::from(which) % packs.len().max(1)) else {
        return;
    };
    assert!(world.storage.tamper(&line.kind.key(line.id), |bytes| {
        let place = usize::from(at) * 37 % bytes.len();
        bytes[place] ^= 1 << (at % 8);
    }));
    let found = verify(
        &repository,
        &Options::new(Scope::Everything),
        Control::quiet(&QUIET),
    )
    .unwrap();
    let is_found = found.findings.iter().any(|finding| finding.pack == Some(line.id));
    let repaired = repair::packs(&world.open(), &PackOptions::default(), Control::quiet(&QUIET)).unwrap();
    assert!(repaired.rest.is_restorable(), "{:?}", repaired.rest);
    assert!(
        !is_found || repaired.rebuilt.contains(&line.id),
        "found and not repaired: {repaired:?}"
    );
}
