//! What a collection gives back, and when.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use relight_repo::RepoError;
use relight_repo::collect::{CollectOptions, collect};
use relight_repo::control::{Control, Progress, Unit};
use relight_repo::storage::Storage;

use crate::every_third;
use crate::support::*;

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
