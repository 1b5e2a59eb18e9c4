//! Figures add up, whatever is shared.

mod common;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use common::{Place, back_up, content};
use relight_repo::control::Control;
use relight_repo::settings::Settings;
use relight_repo::stats::{Stats, stats};
use relight_repo::storage::memory::MemoryStorage;

fn count(place: &Place) -> Stats {
    stats(&place.open().unwrap(), Control::quiet(&AtomicBool::new(false))).unwrap()
}

#[test]
fn figures_say_who_needs_what() {
    let settings = Settings {
        parity_percent: 10,
        ..Settings::default()
    };
    let place = Place::with(Arc::new(MemoryStorage::new()), settings);
    assert_eq!(count(&place).needed.chunks, 0);
    let repository = place.open().unwrap();
    let (shared, own_a, own_b) = (
        content(1, 9_000_000),
        content(2, 5_000_000),
        content(3, 7_000_000),
    );
    back_up(&repository, "a", &[("shared", &shared), ("own", &own_a)]).unwrap();
    back_up(&repository, "a", &[("shared", &shared)]).unwrap();
    back_up(
        &repository,
        "b",
        &[("shared", &shared), ("own", &own_b), ("twice", &own_b)],
    )
    .unwrap();
    back_up(
        &repository,
        "c",
        &[
            ("shared", &shared),
            ("zeros", &vec![0; 10_000_000]),
            ("none", &[]),
        ],
    )
    .unwrap();
    let stats = count(&place);
    assert_eq!(
        (
            stats.snapshots,
            stats.missing,
            stats.unreadable,
            stats.approximate
        ),
        (4, 0, 0, false)
    );
    assert_eq!(stats.logical, 14_000_000 + 9_000_000 + 23_000_000 + 19_000_000);
    let names: Vec<_> = stats
        .workloads
        .iter()
        .map(|figures| figures.workload.as_str())
        .collect();
    assert_eq!(names, ["a", "b", "c"]);
    let [a, b, c] = &stats.workloads[..] else { panic!() };
    assert_eq!((a.snapshots, a.logical, a.newest), (2, 23_000_000, 9_000_000));
    // List nodes are a little more than the content.
    let about =
        |found: u64, wanted: u64| assert!((wanted..wanted + 30_000).contains(&found), "{found} {wanted}");
    about(a.exclusive.content, 5_000_000);
    about(b.exclusive.content, 7_000_000);
    assert_eq!(c.exclusive.content, 0);
    about(stats.shared.content, 9_000_000);
    about(a.needed.content, 14_000_000);
    about(c.needed.content, 9_000_000);
    about(stats.needed.content, 21_000_000);
    let sum = a.exclusive.stored + b.exclusive.stored + c.exclusive.stored + stats.shared.stored;
    assert_eq!(stats.needed.stored, sum);
    assert!(stats.needed.stored < stats.needed.content, "it compresses");

    let packs = stats.data_packs + stats.metadata_packs;
    assert!(packs > stats.needed.stored && packs < stats.needed.stored + 20_000);
    assert!(stats.parity > packs / 10 && stats.index > 0);
    let all: u64 = place
        .storage
        .list("")
        .unwrap()
        .iter()
        .map(|object| object.size)
        .sum();
    assert_eq!(stats.total, all);

    // What is forgotten is needed no more, and what became exclusive thereby is said to be.
    for snapshot in repository.snapshots().unwrap().0 {
        if snapshot.workload != "b" {
            repository.forget(snapshot.id).unwrap();
        }
    }
    let stats = count(&place);
    about(stats.workloads[0].exclusive.content, 16_000_000);
    assert_eq!((stats.workloads.len(), stats.shared.chunks), (1, 0));
}

#[test]
fn what_is_lost_is_counted_as_lost() {
    let place = Place::new(Arc::new(MemoryStorage::new()));
    back_up(&place.open().unwrap(), "a", &[("x", &content(1, 9_000_000))]).unwrap();
    for segment in place.storage.list("index/").unwrap() {
        place.storage.delete(&segment.key).unwrap();
    }
    let stats = count(&place);
    assert_eq!((stats.missing, stats.unreadable, stats.needed.chunks), (1, 1, 0));
}
