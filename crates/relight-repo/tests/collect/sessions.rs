//! Collections while others write, and while others collect.

use std::sync::Arc;
use std::time::Duration;

use relight_repo::RepoError;
use relight_repo::collect::CollectOptions;

use crate::every_third;
use crate::support::*;

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
