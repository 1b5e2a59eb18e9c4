//! What a collection does and what it refuses to do.

#![allow(clippy::unwrap_used)]

#[path = "collect_support/mod.rs"]
mod support;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use relight_repo::RepoError;
use relight_repo::collect::{CollectOptions, collect};
use relight_repo::control::{Control, Progress, Unit};
use relight_repo::settings::Settings;
use relight_repo::storage::fault::Fault;
use relight_repo::storage::local::LocalStorage;
use relight_repo::storage::{PutOptions, Storage};
use support::*;

/// A chunk of which only some remain: packs that are half used.
fn every_third(from: u64) -> Vec<u64> {
    (0..40).map(|n| if n % 3 == 0 { n } else { from + n }).collect()
}

#[test]
fn a_pass_without_anything_to_do_changes_nothing() {
    let world = World::new();
    let repository = world.open();
    for number in 0..5 {
        back_up(&repository, &(0..30 + number).collect::<Vec<_>>()).unwrap();
    }
    world.storage.advance(30 * DAY);
    let before: Vec<_> = world.storage.list("").unwrap();
    let report = run(&repository, &CollectOptions::default()).unwrap();
    let ignoring_the_lease = |objects: Vec<relight_repo::storage::ObjectInfo>| -> Vec<_> {
        objects
            .into_iter()
            .filter(|object| !object.key.starts_with("leases/"))
            .collect()
    };
    assert_eq!(
        ignoring_the_lease(world.storage.list("").unwrap()),
        ignoring_the_lease(before)
    );
    assert_eq!(report.found.snapshots, 5);
    assert_eq!(
        report.found.damaged + report.found.incoherent + report.found.lost,
        0
    );
    assert!(report.found.live_chunks > 34);
    world.check();
}

#[test]
fn space_comes_back_after_the_grace_and_not_before() {
    let world = World::new();
    let repository = world.open();
    let first = back_up(&repository, &(0..40).collect::<Vec<_>>()).unwrap();
    back_up(&repository, &(100..140).collect::<Vec<_>>()).unwrap();
    let full = world.storage.used();
    repository.forget(first.id).unwrap();
    let options = CollectOptions::default();

    let report = run(&repository, &options).unwrap();
    assert_eq!(report.condemned.packs, 0, "the packs are younger than the grace");
    assert!(report.found.young.packs > 0);
    let useless = report.found.young_waste;
    world.storage.advance(25 * HOUR);
    let planned = look(&repository, &options).unwrap();
    let report = run(&repository, &options).unwrap();
    assert!(report.condemned.packs > 0);
    assert_eq!(planned.condemn, report.condemned, "it was planned so");
    assert_eq!(useless, report.condemned, "it was told while they were young");
    assert_eq!(report.deleted.packs, 0);
    world.storage.advance(23 * HOUR);
    let report = run(&repository, &options).unwrap();
    assert_eq!(
        (report.deleted.packs, report.found.delete.packs),
        (0, 0),
        "within the grace"
    );
    assert_eq!(report.found.waiting, planned.condemn);
    world.storage.advance(2 * HOUR);
    let report = run(&repository, &options).unwrap();
    assert_eq!(report.deleted, planned.condemn);
    assert!(
        world.storage.used() < full * 6 / 10,
        "{} of {full}",
        world.storage.used()
    );
    world.check();
    world.empty_out();
}

#[test]
fn half_used_packs_are_rewritten_once_and_small_ones_merged() {
    let world = World::new();
    let repository = world.open();
    let first = back_up(&repository, &(0..40).collect::<Vec<_>>()).unwrap();
    back_up(&repository, &every_third(100)).unwrap();
    repository.forget(first.id).unwrap();
    let report = run(&repository, &at_once()).unwrap();
    assert!(
        report.written.packs > 0 && report.written.bytes < report.condemned.bytes,
        "{report:?}"
    );
    world.check();
    let report = run(&repository, &at_once()).unwrap();
    assert!(
        report.deleted.packs > 0 && report.written.packs == 0,
        "{report:?}"
    );
    world.check();
    let waste = look(&repository, &at_once()).unwrap();
    assert!(waste.waste * 100 <= waste.live_bytes * 20, "{waste:?}");

    for number in 0..20 {
        back_up(&repository, &[1000 + number]).unwrap();
    }
    let before = world.keys("packs/").len();
    let report = run(&repository, &at_once()).unwrap();
    assert!(report.found.rewrite.packs >= 20, "{report:?}");
    run(&repository, &at_once()).unwrap();
    assert!(world.keys("packs/").len() + 15 < before);
    for _ in 0..3 {
        let report = run(&repository, &at_once()).unwrap();
        assert_eq!(report.written.packs, 0, "there is an end to it");
    }
    world.check();
    world.empty_out();
}

#[test]
fn writers_that_began_before_store_again_what_was_condemned() {
    let world = World::new();
    let (writer, collector) = (world.open(), world.open());
    let first = back_up(&writer, &(0..40).collect::<Vec<_>>()).unwrap();
    world.storage.advance(HOUR);
    let session = begin(&writer).unwrap();
    let archive = write(&session, &(0..40).collect::<Vec<_>>()).unwrap();
    assert_eq!(session.figures().new_chunks, 0);
    writer.forget(first.id).unwrap();
    let options = CollectOptions {
        allow_empty: true,
        ..at_once()
    };
    let report = run(&collector, &options).unwrap();
    assert!(report.condemned.packs > 0);
    // They are not deleted while a session that may read them is at work.
    world.storage.advance(HOUR);
    let report = run(&collector, &options).unwrap();
    assert_eq!(report.deleted.packs, 0);
    assert!(report.found.waiting.packs > 0);
    session
        .publish(spec(&(0..40).collect::<Vec<_>>()), vec![archive])
        .unwrap();
    assert!(session.figures().new_chunks >= 40, "{:?}", session.figures());
    drop(session);
    assert_eq!(world.check().len(), 1);
    let report = run(&collector, &options).unwrap();
    assert!(report.deleted.packs > 0);
    assert_eq!(world.check().len(), 1);
    world.empty_out();
}

#[test]
fn an_archive_of_another_session_is_checked_before_it_is_published() {
    let world = World::new();
    let repository = world.open();
    let seeds: Vec<u64> = (0..200).collect();
    let first = back_up(&repository, &seeds).unwrap();
    // Taken over whole: no chunk was looked up in this session.
    let session = begin(&repository).unwrap();
    repository.forget(first.id).unwrap();
    let options = CollectOptions {
        allow_empty: true,
        ..at_once()
    };
    world.storage.advance(HOUR);
    let other = world.open();
    run(&other, &options).unwrap();
    session.publish(spec(&seeds), first.archives.clone()).unwrap();
    drop(session);
    for _ in 0..3 {
        run(&other, &at_once()).unwrap();
    }
    assert_eq!(world.check().len(), 1);

    // What is nowhere any more is not published.
    let gone = world.open();
    for id in gone.snapshot_ids().unwrap() {
        gone.forget(id).unwrap();
    }
    for _ in 0..3 {
        run(&other, &options).unwrap();
    }
    let session = begin(&gone).unwrap();
    let refused = session.publish(spec(&seeds), first.archives.clone());
    assert!(matches!(refused, Err(RepoError::ChunkMissing(_))), "{refused:?}");
    drop(session);
    assert!(world.check().is_empty());
    world.empty_out();
}

#[test]
fn a_silent_session_is_given_up_and_does_not_publish() {
    let world = World::new();
    let (writer, collector) = (world.open(), world.open());
    let keep = back_up(&writer, &[1, 2, 3]).unwrap();
    let session = begin(&writer).unwrap();
    let archive = write(&session, &(0..40).collect::<Vec<_>>()).unwrap();
    session.keep_progress().unwrap();
    world.storage.advance(23 * HOUR);
    let report = run(&collector, &CollectOptions::default()).unwrap();
    assert_eq!((report.given_up, report.found.sessions), (0, 1));
    world.storage.advance(2 * HOUR);
    let report = run(&collector, &CollectOptions::default()).unwrap();
    assert_eq!(report.given_up, 1);
    assert!(report.condemned.packs > 0, "what it wrote is of no use");
    let refused = session.publish(spec(&(0..40).collect::<Vec<_>>()), vec![archive]);
    assert!(matches!(refused, Err(RepoError::SessionEvicted)), "{refused:?}");
    drop(session);
    assert_eq!(world.check(), [keep.id].into());
    assert_eq!(world.keys("sessions/").len(), 1, "the mark stays for a week");
    world.storage.advance(8 * DAY);
    run(&collector, &CollectOptions::default()).unwrap();
    assert!(world.keys("sessions/").is_empty());
    world.empty_out();
}

#[test]
fn a_session_given_up_between_its_intent_and_its_publication_loses_nothing() {
    // At each storage operation of the publication: the session is given up and everything that can be is collected.
    let mut outcomes = [0, 0];
    for at in 1.. {
        let world = World::new();
        let collector = world.open();
        let process = world.process();
        let writer = world.open_through(Arc::new(process.clone())).unwrap();
        back_up(&collector, &[1, 2, 3]).unwrap();
        let seeds: Vec<u64> = (0..30).collect();
        let session = begin(&writer).unwrap();
        let archive = write(&session, &seeds).unwrap();
        session.keep_progress().unwrap();
        let first = process.operations();
        let (storage, other) = (world.storage.clone(), collector.clone());
        process.before_each(move |operation| {
            if operation.number == first + at {
                for _ in 0..3 {
                    storage.advance(25 * HOUR);
                    run(&other, &CollectOptions::default()).unwrap();
                }
            }
        });
        let published = session.publish(spec(&seeds), vec![archive]);
        let operations = process.operations() - first;
        drop(session);
        match published {
            Ok(_) => outcomes[0] += 1,
            Err(RepoError::SessionEvicted | RepoError::ChunkMissing(_)) => outcomes[1] += 1,
            Err(error) => panic!("operation {at}: {error}"),
        }
        for _ in 0..3 {
            world.storage.advance(8 * DAY);
            run(&collector, &CollectOptions::default()).unwrap();
            world.check();
        }
        world.empty_out();
        if at > operations {
            break;
        }
    }
    assert!(outcomes[0] > 0 && outcomes[1] > 0, "{outcomes:?}");
}

#[test]
fn a_writer_that_wakes_up_after_its_intent_was_cleared_cannot_publish() {
    let world = World::new();
    let collector = world.open();
    let process = world.process();
    let writer = world.open_through(Arc::new(process.clone())).unwrap();
    back_up(&collector, &[1, 2, 3]).unwrap();
    let session = begin(&writer).unwrap();
    let archive = write(&session, &(0..30).collect::<Vec<_>>()).unwrap();
    let (storage, other) = (world.storage.clone(), collector.clone());
    process.before_each(move |operation| {
        // All its checks are behind it; it sleeps with the manifest in its hand.
        if operation.key.starts_with("snapshots/") {
            for _ in 0..4 {
                storage.advance(4 * DAY);
                run(&other, &CollectOptions::default()).unwrap();
            }
        }
    });
    let refused = session.publish(spec(&(0..30).collect::<Vec<_>>()), vec![archive]);
    assert!(matches!(refused, Err(RepoError::SessionEvicted)), "{refused:?}");
    drop(session);
    assert_eq!(world.check().len(), 1);
    world.empty_out();
}

#[test]
fn of_two_collections_one_works_and_a_dead_one_is_replaced() {
    let world = World::new();
    let (one, two) = (world.open(), world.open());
    back_up(&one, &(0..40).collect::<Vec<_>>()).unwrap();
    // The second comes while the first is at work.
    let process = world.process();
    let first = world.open_through(Arc::new(process.clone())).unwrap();
    let other = two.clone();
    process.before_each(move |operation| {
        if operation.key == "packs/data/" {
            let refused = run(&other, &at_once());
            assert!(
                matches!(refused, Err(RepoError::CollectionRunning { .. })),
                "{refused:?}"
            );
        }
    });
    run(&first, &at_once()).unwrap();

    // The first dies; the second waits for it to be stale, then goes on.
    let process = world.process();
    let first = world.open_through(Arc::new(process.clone())).unwrap();
    let dying = process.clone();
    process.before_each(move |operation| {
        if operation.key == "packs/data/" {
            dying.restart();
        }
    });
    run(&first, &at_once()).unwrap_err();
    let refused = run(&two, &at_once());
    assert!(
        matches!(refused, Err(RepoError::CollectionRunning { .. })),
        "{refused:?}"
    );
    world.storage.advance(Duration::from_secs(31 * 60));
    run(&two, &at_once()).unwrap();
    assert_eq!(world.keys("leases/collect/").len(), 1);
    world.check();
}

#[test]
fn a_collection_that_slept_changes_nothing_after_it_was_replaced() {
    // It sleeps before each of its operations in turn; meanwhile another collects twice and a writer needs again what
    // was condemned.
    let mut fenced = 0;
    for at in 1.. {
        let world = World::new();
        let (other, writer) = (world.open(), world.open());
        let first = back_up(&writer, &(0..40).collect::<Vec<_>>()).unwrap();
        back_up(&writer, &every_third(100)).unwrap();
        writer.forget(first.id).unwrap();
        let process = world.process();
        let sleeper = world.open_through(Arc::new(process.clone())).unwrap();
        let begun = process.operations();
        let (storage, again) = (world.storage.clone(), other.clone());
        process.before_each(move |operation| {
            if operation.number == begun + at {
                storage.advance(25 * HOUR);
                run(&again, &at_once()).unwrap();
                back_up(&writer, &(0..20).collect::<Vec<_>>()).unwrap();
                storage.advance(25 * HOUR);
                run(&again, &at_once()).unwrap();
            }
        });
        match run(&sleeper, &at_once()) {
            Ok(_) => {}
            Err(RepoError::LeaseLost | RepoError::SessionEvicted) => fenced += 1,
            // What it had listed is no more.
            Err(RepoError::CollectionUnsafe { .. } | RepoError::ChunkMissing(_)) => fenced += 1,
            Err(RepoError::CollectionRunning { .. }) => {}
            Err(error) => panic!("operation {at}: {error:?}"),
        }
        world.check();
        for _ in 0..3 {
            world.storage.advance(2 * DAY);
            run(&other, &at_once()).unwrap();
        }
        let slept = process.operations() - begun >= at;
        assert_eq!(world.check().len(), if slept { 2 } else { 1 });
        world.empty_out();
        if !slept {
            break;
        }
    }
    assert!(fenced > 10, "{fenced}");
}

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
fn no_snapshot_at_all_needs_a_word() {
    let world = World::new();
    let repository = world.open();
    let snapshot = back_up(&repository, &(0..40).collect::<Vec<_>>()).unwrap();
    repository.forget(snapshot.id).unwrap();
    let refused = run(&repository, &at_once());
    assert!(
        matches!(refused, Err(RepoError::CollectionWouldEmpty { .. })),
        "{refused:?}"
    );
    assert!(matches!(
        look(&repository, &at_once()),
        Err(RepoError::CollectionWouldEmpty { .. })
    ));
    assert!(world.keys("condemned/").is_empty());
    world.empty_out();
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

#[test]
fn what_the_storage_protects_stays_until_it_does_not() {
    let world = World::new();
    let repository = world.open();
    let first = back_up(&repository, &(0..40).collect::<Vec<_>>()).unwrap();
    back_up(&repository, &(100..140).collect::<Vec<_>>()).unwrap();
    repository.forget(first.id).unwrap();
    let report = run(&repository, &at_once()).unwrap();
    let condemned = report.condemned.packs;
    let until = world.storage.now() + 10 * 24 * 3_600_000;
    let locked = world.keys("packs/data/")[0].clone();
    for key in world.keys("packs/data/") {
        world.storage.retain(&key, until).unwrap();
    }
    let report = run(&repository, &at_once()).unwrap();
    assert!(report.kept_by_lock.packs > 0, "{report:?}");
    assert_eq!(report.kept_by_lock.packs + report.deleted.packs, condemned);
    assert!(!world.keys("condemned/").is_empty());
    assert!(world.storage.head(&locked).is_ok());
    // A new writer does not use what is condemned, locked or not.
    back_up(&world.open(), &(0..40).collect::<Vec<_>>()).unwrap();
    world.storage.advance(11 * DAY);
    let report = run(&repository, &at_once()).unwrap();
    assert!(
        report.deleted.packs > 0 && report.kept_by_lock.packs == 0,
        "{report:?}"
    );
    world.check();
    world.empty_out();
}

#[test]
fn packs_that_no_index_knows_are_taken_in_and_used_again() {
    let world = World::new();
    let repository = world.open();
    back_up(&repository, &[1, 2, 3]).unwrap();
    // A writer dies before it writes its segment.
    let process = world.process();
    let writer = world.open_through(Arc::new(process.clone())).unwrap();
    let dying = process.clone();
    process.before_each(move |operation| {
        if operation.kind.is_write() && operation.key.starts_with("index/") {
            dying.restart();
        }
    });
    back_up(&writer, &(0..40).collect::<Vec<_>>()).unwrap_err();
    let plan = look(&repository, &CollectOptions::default()).unwrap();
    assert!(plan.orphans.packs > 0);
    let options = CollectOptions {
        grace: 30 * DAY,
        ..CollectOptions::default()
    };
    world.storage.advance(2 * DAY);
    let report = run(&repository, &options).unwrap();
    assert_eq!(
        (report.adopted, report.given_up),
        (0, 1),
        "younger than the grace"
    );
    let report = run(
        &repository,
        &CollectOptions {
            max_waste: 100,
            ..CollectOptions::default()
        },
    )
    .unwrap();
    assert_eq!(report.adopted, plan.orphans.packs);
    // They were taken in, and condemned at once, since nobody needs them and they are old enough.
    assert!(report.condemned.packs > 0);
    world.check();
    world.empty_out();
}

#[test]
fn an_interrupted_first_backup_is_there_for_the_next_attempt() {
    let world = World::new();
    let repository = world.open();
    back_up(&repository, &[5000]).unwrap();
    let session = begin(&repository).unwrap();
    write(&session, &(0..40).collect::<Vec<_>>()).unwrap();
    drop(session);
    world.storage.advance(20 * HOUR);
    run(&repository, &CollectOptions::default()).unwrap();
    let snapshot = back_up(&world.open(), &(0..40).collect::<Vec<_>>()).unwrap();
    assert!(snapshot.figures.new_chunks <= 1, "{:?}", snapshot.figures);
    world.check();
}

#[test]
fn the_index_stays_small_and_records_do_not_pile_up() {
    let world = World::new();
    let (repository, collector) = (world.open(), world.open());
    let mut last = None;
    for round in 0..60u64 {
        let seeds: Vec<u64> = (round * 5..round * 5 + 30).collect();
        let snapshot = back_up(&repository, &seeds).unwrap();
        if let Some(last) = last.replace(snapshot.id) {
            repository.forget(last).unwrap();
        }
        world.storage.advance(HOUR);
        run(&collector, &at_once()).unwrap();
        if round % 10 == 0 {
            world.check();
        }
    }
    assert!(world.keys("index/").len() <= 34, "{}", world.keys("index/").len());
    assert!(
        world.keys("condemned/").len() <= 12,
        "{:?}",
        world.keys("condemned/")
    );
    assert!(world.keys("packs/").len() <= 40, "{}", world.keys("packs/").len());
    world.check();
    world.empty_out();
}

#[test]
fn it_can_be_stopped_and_says_how_far_it_is() {
    struct StopAt<'a>(&'static str, &'a AtomicBool, AtomicBool);
    impl Progress for StopAt<'_> {
        fn begin(&self, step: &'static str, _: Unit, _: u64) {
            if step == self.0 {
                self.1.store(true, Ordering::Relaxed);
                self.2.store(true, Ordering::Relaxed);
            }
        }
        fn advance(&self, _: u64) {}
    }
    for step in [
        "read manifests",
        "read chunk lists",
        "rewrite packs",
        "delete packs",
    ] {
        let world = World::new();
        let repository = world.open();
        let first = back_up(&repository, &(0..40).collect::<Vec<_>>()).unwrap();
        back_up(&repository, &every_third(100)).unwrap();
        repository.forget(first.id).unwrap();
        if step == "delete packs" {
            run(&repository, &at_once()).unwrap();
        }
        let cancelled = AtomicBool::new(false);
        let progress = StopAt(step, &cancelled, AtomicBool::new(false));
        let control = Control {
            cancelled: &cancelled,
            progress: &progress,
        };
        let stopped = collect(&repository, &at_once(), control);
        assert!(
            matches!(stopped, Err(RepoError::Cancelled)),
            "{step}: {stopped:?}"
        );
        assert!(progress.2.load(Ordering::Relaxed));
        world.check();
        // The next one is not held up by it.
        for _ in 0..2 {
            run(&repository, &at_once()).unwrap();
        }
        world.check();
        world.empty_out();
    }
}
