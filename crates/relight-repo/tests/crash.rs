//! A crash at every single storage operation of a scenario: what was visible restores, what was acknowledged is
//! visible, and everything goes on afterwards.

#![allow(clippy::unwrap_used)]

#[path = "collect_support/mod.rs"]
mod support;

use std::collections::HashSet;
use std::sync::Arc;

use relight_repo::storage::fault::{FaultStorage, Moment};
use relight_repo::{Result, SnapshotId};
use support::{DAY, World, at_once, back_up, run};

/// What the outside world knows of a run.
#[derive(Default)]
struct Known {
    published: HashSet<SnapshotId>,
    forgotten: HashSet<SnapshotId>,
}

/// Backups, a forget and collections, as one process does them.
fn scenario(world: &World, process: &FaultStorage, known: &mut Known) -> Result<()> {
    let repository = world.open_through(Arc::new(process.clone()))?;
    let first: Vec<u64> = (0..40).collect();
    let a = back_up(&repository, &first)?;
    known.published.insert(a.id);
    // Half of it changed, so that packs are half used.
    let second: Vec<u64> = (0..40).map(|n| if n % 3 == 0 { n } else { 100 + n }).collect();
    let b = back_up(&repository, &second)?;
    known.published.insert(b.id);
    known.forgotten.insert(a.id);
    repository.forget(a.id)?;
    // Condemns and rewrites.
    let report = run(&repository, &at_once())?;
    assert!(
        report.condemned.packs > 0 && report.written.packs > 0,
        "{report:?}"
    );
    // Needs again what has just been condemned.
    let third: Vec<u64> = (0..20).chain(200..210).collect();
    let c = back_up(&repository, &third)?;
    known.published.insert(c.id);
    // Deletes.
    let report = run(&repository, &at_once())?;
    assert!(report.deleted.packs > 0, "{report:?}");
    known.forgotten.insert(b.id);
    repository.forget(b.id)?;
    run(&repository, &at_once())?;
    let report = run(&repository, &at_once())?;
    assert!(report.segments_replaced > 0, "{report:?}");
    Ok(())
}

/// Crashes at this operation. False if there were fewer: threads make the number of them vary.
fn crash(number: u64, moment: Moment) -> bool {
    let world = World::new();
    let process = world.process();
    process.crash_at(number, moment);
    let mut known = Known::default();
    let ended = scenario(&world, &process, &mut known);
    if !process.is_crashed() {
        return false;
    }
    // What comes after the work, ending the lease and the announcement, may fail without anybody being told.
    drop(ended);

    // Another machine looks at what is left, at once.
    let visible = world.check();
    for id in known.published.difference(&known.forgotten) {
        assert!(visible.contains(id), "operation {number}: acknowledged and lost");
    }
    let more = visible.difference(&known.published).count();
    assert!(more <= 1, "operation {number}: at most the one under way");

    // It goes on: the dead process holds nothing up for longer than a day.
    world.storage.advance(DAY + DAY);
    let repository = world.open();
    let again: Vec<u64> = (0..30).chain(300..310).collect();
    let snapshot = back_up(&repository, &again).unwrap();
    for _ in 0..3 {
        run(&repository, &at_once()).unwrap();
        world.storage.advance(DAY);
    }
    let after = world.check();
    assert!(
        visible.is_subset(&after) && after.contains(&snapshot.id),
        "operation {number}"
    );
    world.empty_out();
    true
}

/// Every operation whose number leaves this rest when it is divided by four: four tests run side by side.
fn every_fourth(rest: u64) {
    let world = World::new();
    let process = world.process();
    scenario(&world, &process, &mut Known::default()).unwrap();
    world.check();
    world.empty_out();
    let operations = process.operations();
    assert!(operations > 100);
    let mut missed = 0;
    for number in (1..=operations).filter(|number| number % 4 == rest) {
        for moment in [Moment::Before, Moment::After] {
            missed += u64::from(!crash(number, moment));
        }
    }
    assert!(missed * 8 < operations, "{missed} of {operations}");
}

#[test]
fn at_every_operation_0() {
    every_fourth(0);
}

#[test]
fn at_every_operation_1() {
    every_fourth(1);
}

#[test]
fn at_every_operation_2() {
    every_fourth(2);
}

#[test]
fn at_every_operation_3() {
    every_fourth(3);
}
