//! Collections when storage is away or damaged.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use relight_repo::RepoError;
use relight_repo::collect::CollectOptions;
use relight_repo::settings::Settings;
use relight_repo::storage::fault::Fault;
use relight_repo::storage::local::LocalStorage;
use relight_repo::storage::{PutOptions, Storage};

use crate::every_third;
use crate::support::*;

#[test]
fn a_disk_that_is_not_mounted_is_not_an_empty_repository() {
    let directory = tempfile::tempdir().unwrap();
    let root = directory.path().join("disk");
    let storage = Arc::new(LocalStorage::create(&root).unwrap());
    let key = relight_keys::KeyFile::generate(&mut relight_keys::SystemEntropy).unwrap();
    relight_repo::keyring::initialise(&*storage, &key, "x", jiff::Timestamp::now(), Settings::default())
        .unwrap();
    let keys = relight_repo::keyring::unlock(&*storage, &key)
        .unwrap()
        .into_keys();
    let options = relight_repo::OpenOptions::new(&directory.path().join("cache"));
    let repository = Arc::new(relight_repo::Repository::open(storage.clone(), keys, options).unwrap());
    back_up(&repository, &(0..40).collect::<Vec<_>>()).unwrap();
    let away = directory.path().join("away");
    std::fs::rename(&root, &away).unwrap();
    std::fs::create_dir(&root).unwrap();
    let options = CollectOptions {
        allow_empty: true,
        ..at_once()
    };
    let refused = run(&repository, &options);
    assert!(
        matches!(refused, Err(RepoError::NotARepository { .. })),
        "{refused:?}"
    );
    // It came back: nothing happened to it.
    std::fs::remove_dir_all(&root).unwrap();
    std::fs::rename(&away, &root).unwrap();
    run(&repository, &at_once()).unwrap();
    check(&repository);
}

#[test]
fn a_disk_that_goes_away_in_the_middle_is_noticed() {
    // Lists of one kind come back empty, as from the mount point of a disk that is gone.
    let world = World::new();
    let process = world.process();
    let repository = world.open_through(Arc::new(process.clone())).unwrap();
    back_up(&repository, &(0..40).collect::<Vec<_>>()).unwrap();
    let storage = world.storage.clone();
    let aside = std::sync::Mutex::new(None);
    process.before_each(move |operation| {
        let mut aside = aside.lock().unwrap();
        if operation.key == "sessions/" && aside.is_none() {
            let objects = storage.list("").unwrap();
            *aside = Some(objects.len());
            for object in objects {
                storage.delete(&object.key).unwrap();
            }
        }
    });
    let refused = run(
        &repository,
        &CollectOptions {
            allow_empty: true,
            ..at_once()
        },
    );
    assert!(
        matches!(refused, Err(RepoError::NotARepository { .. })),
        "{refused:?}"
    );
    assert!(world.keys("condemned/").is_empty());
}

#[test]
fn what_cannot_be_read_stops_it() {
    let world = World::new();
    let repository = world.open();
    let seeds: Vec<u64> = (0..200).collect();
    let doomed = back_up(&repository, &(500..540).collect::<Vec<_>>()).unwrap();
    back_up(&repository, &seeds).unwrap();
    repository.forget(doomed.id).unwrap();
    let nothing_happened = |world: &World| {
        assert!(world.keys("condemned/").is_empty());
    };

    // A manifest.
    let manifest = &world.keys("snapshots/")[0];
    let copy = world.storage.get(manifest).unwrap();
    world.storage.tamper(manifest, |bytes| bytes[40] ^= 1);
    assert!(matches!(
        run(&repository, &at_once()),
        Err(RepoError::Damaged { .. })
    ));
    nothing_happened(&world);
    world
        .storage
        .put(manifest, &[&copy], &PutOptions::default())
        .unwrap();

    // A storage that does not answer.
    let process = world.process();
    let through = world.open_through(Arc::new(process.clone())).unwrap();
    for prefix in ["snapshots/", "sessions/", "packs/", "condemned/", "index/"] {
        process.heal();
        process.inject(Fault::Unavailable, move |operation| {
            operation.key.starts_with(prefix)
        });
        assert!(
            matches!(run(&through, &at_once()), Err(RepoError::Storage(_))),
            "{prefix}"
        );
        nothing_happened(&world);
        process.heal();
    }

    // A list node.
    let copies: Vec<(String, Vec<u8>)> = world
        .keys("packs/meta/")
        .into_iter()
        .map(|key| (key.clone(), world.storage.get(&key).unwrap()))
        .collect();
    for (key, _) in &copies {
        world.storage.tamper(key, |bytes| bytes[100] ^= 1);
    }
    let refused = run(&repository, &at_once());
    assert!(
        matches!(refused, Err(RepoError::CollectionUnsafe { .. })),
        "{refused:?}"
    );
    nothing_happened(&world);
    for (key, bytes) in &copies {
        world.storage.put(key, &[bytes], &PutOptions::default()).unwrap();
    }

    // A pack of content.
    let needed: Vec<String> = world.keys("packs/data/");
    let copies: Vec<Vec<u8>> = needed.iter().map(|key| world.storage.get(key).unwrap()).collect();
    needed.iter().for_each(|key| world.storage.delete(key).unwrap());
    let refused = run(&repository, &at_once());
    assert!(
        matches!(refused, Err(RepoError::CollectionUnsafe { .. })),
        "{refused:?}"
    );
    nothing_happened(&world);
    for (key, bytes) in needed.iter().zip(&copies) {
        world.storage.put(key, &[bytes], &PutOptions::default()).unwrap();
    }
    assert!(run(&repository, &at_once()).unwrap().condemned.packs > 0);
    world.check();
}

#[test]
fn damage_elsewhere_can_be_lived_with_if_told_so() {
    let world = World::new();
    let repository = world.open();
    let doomed = back_up(&repository, &(500..540).collect::<Vec<_>>()).unwrap();
    let good = back_up(&repository, &(0..40).collect::<Vec<_>>()).unwrap();
    repository.forget(doomed.id).unwrap();
    world.storage.advance(HOUR);
    let known = world.keys("packs/data/");
    let bad = back_up(&repository, &(700..710).collect::<Vec<_>>()).unwrap();
    let lost = world
        .keys("packs/data/")
        .into_iter()
        .find(|key| !known.contains(key))
        .unwrap();
    world.storage.delete(&lost).unwrap();
    assert!(matches!(
        run(&repository, &at_once()),
        Err(RepoError::CollectionUnsafe { .. })
    ));
    let options = CollectOptions {
        despite_damage: true,
        ..at_once()
    };
    let report = run(&repository, &options).unwrap();
    assert!(
        report.found.damaged > 0 && report.found.lost == 1 && report.condemned.packs > 0,
        "{report:?}"
    );
    run(&repository, &options).unwrap();
    restore(&world.open(), &good).unwrap();
    restore(&world.open(), &bad).unwrap_err();
}

#[test]
fn a_damaged_chunk_in_a_half_used_pack_keeps_the_pack() {
    let world = World::new();
    let repository = world.open();
    let first = back_up(&repository, &(0..40).collect::<Vec<_>>()).unwrap();
    let before = world.keys("packs/data/");
    // Of each half-used pack a chunk that is needed further on: one of which everything is needed is not read. Workers
    // decide which lies where; chunks are known by their lengths.
    let needed: Vec<usize> = (0..40).step_by(3).map(|seed| chunk(seed).len()).collect();
    let (mut places, mut half_used) = (HashMap::new(), HashSet::new());
    repository.index().for_each(|found, _| {
        let key = found.pack.kind.key(found.pack.id);
        if needed.contains(&(found.record.raw as usize)) {
            places.insert(key, found.record.offset as usize);
        } else {
            half_used.insert(key);
        }
    });
    places.retain(|key, _| before.contains(key) && half_used.contains(key));
    back_up(&repository, &every_third(100)).unwrap();
    repository.forget(first.id).unwrap();
    assert!(!places.is_empty());
    for (key, offset) in &places {
        assert!(world.storage.tamper(key, |bytes| bytes[offset + 20] ^= 1));
    }
    let options = CollectOptions {
        max_waste: 0,
        ..at_once()
    };
    let report = run(&repository, &options).unwrap();
    assert!(report.unreadable > 0, "{report:?}");
    for _ in 0..2 {
        run(&repository, &options).unwrap();
    }
    let after = world.keys("packs/data/");
    assert!(
        before.iter().any(|key| after.contains(key)),
        "it may be repaired yet"
    );
    // The next backup stores what is damaged again, and that heals the older one, too.
    let again = back_up(&world.open(), &every_third(100)).unwrap();
    assert!(again.figures.new_chunks > 0, "{:?}", again.figures);
    for _ in 0..3 {
        run(&world.open(), &at_once()).unwrap();
    }
    assert_eq!(world.check().len(), 2);
    world.empty_out();
}
