//! Rotation: new objects take the new key, rewriting brings the old ones after, and a key that is lost says what is
//! lost with it.

mod common;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use common::{Place, back_up, content, read_back};
use relight_keys::{KeyId, SystemEntropy};
use relight_repo::collect::{CollectOptions, collect};
use relight_repo::control::Control;
use relight_repo::repair;
use relight_repo::rewrite::{KeyUse, key_use, rewrite};
use relight_repo::storage::memory::MemoryStorage;
use relight_repo::verify::{Damage, Options, Scope, verify};
use relight_repo::{OpenOptions, RepoError, Repository, keyring};

static QUIET: AtomicBool = AtomicBool::new(false);

fn quiet() -> Control<'static> {
    Control::quiet(&QUIET)
}

fn rotate(place: &Place) -> KeyId {
    let opened = keyring::unlock(&*place.storage, &place.key).unwrap();
    let mut key = None;
    keyring::change(&*place.storage, &opened, jiff::Timestamp::now(), |change| {
        key = Some(change.rotate(0, &mut SystemEntropy)?);
        Ok(())
    })
    .unwrap();
    key.unwrap()
}

fn retire(place: &Place, key: &str) {
    let opened = keyring::unlock(&*place.storage, &place.key).unwrap();
    let change = |change: &mut relight_keys::Change<'_>| change.retire(key.parse().unwrap());
    keyring::change(&*place.storage, &opened, jiff::Timestamp::now(), change).unwrap();
}

fn at_once() -> CollectOptions {
    CollectOptions {
        grace: std::time::Duration::ZERO,
        ..CollectOptions::default()
    }
}

fn find(uses: &[KeyUse], current: bool) -> &KeyUse {
    uses.iter().find(|found| found.current == current).unwrap()
}

#[test]
fn everything_comes_under_the_new_key() {
    let world = MemoryStorage::new();
    let place = Place::new(Arc::new(world.clone()));
    let bytes = content(1, 9_000_000);
    let first = back_up(&place.open().unwrap(), "a", &[("x", &bytes)]).unwrap();
    place
        .open()
        .unwrap()
        .set_marks(first.id, &Default::default())
        .unwrap();
    verify(&place.open().unwrap(), &Options::new(Scope::Everything), quiet()).unwrap();
    rotate(&place);
    let repository = place.open().unwrap();
    let second = back_up(&repository, "a", &[("x", &bytes[1_000_000..])]).unwrap();
    let uses = key_use(&repository, quiet()).unwrap();
    assert_eq!(uses.len(), 2);
    let old = find(&uses, false).clone();
    assert_eq!(
        (old.snapshots, old.segments, old.others, old.held),
        (1, 1, 2, true)
    );
    assert!(old.data_packs > 0 && old.metadata_packs > 0);
    assert_eq!(find(&uses, true).snapshots, 1);

    // A clock that stands still would make every pack young for ever.
    world.advance(std::time::Duration::from_secs(3600));
    let report = rewrite(&repository, &at_once(), quiet()).unwrap();
    let old = find(&report.keys, false);
    assert_eq!((old.snapshots, old.segments), (0, 0), "{report:#?}");
    assert_eq!(old.data_packs + old.metadata_packs, old.condemned_packs);
    world.advance(std::time::Duration::from_secs(3600));
    let report = rewrite(&place.open().unwrap(), &at_once(), quiet()).unwrap();
    assert!(find(&report.keys, false).is_unused(), "{report:#?}");
    retire(&place, &old.key);
    std::fs::remove_dir_all(place.cache.path()).unwrap();
    let repository = place.open().unwrap();
    for (snapshot, wanted) in [(first, &bytes[..]), (second, &bytes[1_000_000..])] {
        let snapshot = repository.snapshot(snapshot.id).unwrap();
        assert!(read_back(&repository, &snapshot.archives[0]).unwrap() == wanted);
    }
    assert!(
        verify(&repository, &Options::new(Scope::Everything), quiet())
            .unwrap()
            .is_clean()
    );
    assert_eq!(key_use(&repository, quiet()).unwrap().len(), 1);
}

#[test]
fn a_lost_key_says_what_is_lost() {
    let place = Place::new(Arc::new(MemoryStorage::new()));
    let bytes = content(2, 9_000_000);
    let first = back_up(&place.open().unwrap(), "a", &[("x", &bytes)]).unwrap();
    let old = place.open().unwrap().keys().current().id().to_string();
    rotate(&place);
    let own = content(3, 5_000_000);
    let second = back_up(&place.open().unwrap(), "a", &[("x", &bytes), ("own", &own)]).unwrap();
    let third = back_up(&place.open().unwrap(), "b", &[("own", &own)]).unwrap();
    retire(&place, &old);
    std::fs::remove_dir_all(place.cache.path()).unwrap();

    assert!(matches!(place.open(), Err(RepoError::KeyMissing { key, .. }) if key == old));
    let open = || {
        let keys = keyring::unlock(&*place.storage, &place.key).unwrap().into_keys();
        let mut options = OpenOptions::new(place.cache.path());
        options.lost_keys = true;
        Arc::new(Repository::open(place.storage.clone(), keys, options).unwrap())
    };
    let repository = open();
    let uses = key_use(&repository, quiet()).unwrap();
    let lost = find(&uses, false);
    assert_eq!(
        (lost.key.as_str(), lost.held, lost.snapshots, lost.segments),
        (old.as_str(), false, 1, 1)
    );
    let report = verify(&repository, &Options::new(Scope::Everything), quiet()).unwrap();
    assert_eq!(report.manifests.len(), 1);
    assert_eq!(
        (report.manifests[0].snapshot, report.manifests[0].damage),
        (first.id, Damage::KeyMissing)
    );
    assert_eq!(report.affected.len(), 1);
    assert_eq!(report.affected[0].snapshot, second.id);
    let archives = &report.affected[0].archives;
    assert_eq!(
        (archives.len(), archives[0].name.as_str(), archives[0].bytes),
        (1, "x", 9_000_000)
    );
    assert!(
        archives[0]
            .ranges
            .iter()
            .all(|range| range.damage == Damage::KeyMissing)
    );
    let packs = report.findings.iter().filter(|found| found.pack.is_some());
    assert_eq!(
        packs.clone().count() as u64,
        lost.data_packs + lost.metadata_packs
    );
    assert!(
        report
            .findings
            .iter()
            .all(|found| found.damage == Damage::KeyMissing)
    );
    assert!(read_back(&repository, &third.archives[0]).unwrap() == own);

    // Nothing of it is cleared away, and what is saved anew relies on none of it.
    assert!(matches!(
        collect(&repository, &at_once(), quiet()),
        Err(RepoError::KeyMissing { .. })
    ));
    let keys = keyring::unlock(&*place.storage, &place.key).unwrap().into_keys();
    let mut options = OpenOptions::new(place.cache.path());
    options.lost_keys = true;
    let rebuilt = repair::index(place.storage.clone(), keys, options, quiet()).unwrap();
    assert_eq!(
        (rebuilt.bad_segments.len(), rebuilt.bad_segments[0].damage),
        (1, Damage::KeyMissing)
    );
    assert_eq!(key_use(&open(), quiet()).unwrap().len(), 2);
    let repository = open();
    let again = back_up(&repository, "a", &[("x", &bytes)]).unwrap();
    assert!(again.figures.added >= 9_000_000);
    assert!(read_back(&repository, &again.archives[0]).unwrap() == bytes);
    let second = repository.snapshot(second.id).unwrap();
    assert!(
        read_back(&repository, second.archive("x").unwrap()).unwrap() == bytes,
        "and heals what is the same"
    );
}

#[test]
fn a_segment_whose_header_is_damaged_is_not_taken_for_one_of_a_lost_key() {
    let place = Place::new(Arc::new(MemoryStorage::new()));
    let bytes = content(4, 3_000_000);
    let snapshot = back_up(&place.open().unwrap(), "a", &[("x", &bytes)]).unwrap();
    let segment = place.storage.list("index/").unwrap().remove(0);
    let mut sealed = place.storage.get(&segment.key).unwrap();
    sealed[12] ^= 1;
    place
        .storage
        .put(&segment.key, &[&sealed], &Default::default())
        .unwrap();
    std::fs::remove_dir_all(place.cache.path()).unwrap();
    assert!(matches!(place.open(), Err(RepoError::KeyMissing { .. })));
    let keys = keyring::unlock(&*place.storage, &place.key).unwrap().into_keys();
    repair::index(
        place.storage.clone(),
        keys,
        OpenOptions::new(place.cache.path()),
        quiet(),
    )
    .unwrap();
    assert!(read_back(&place.open().unwrap(), &snapshot.archives[0]).unwrap() == bytes);
}
