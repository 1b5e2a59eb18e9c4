//! Object lock and cold storage classes: what snapshots promise, and what works without thawing.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use relight_pxar::fs::extract::Selection;
use relight_repo::RepoError;
use relight_repo::collect::{CollectOptions, collect};
use relight_repo::control::Control;
use relight_repo::copy;
use relight_repo::settings::Settings;
use relight_repo::snapshot::Snapshot;
use relight_repo::storage::memory::MemoryStorage;
use relight_repo::storage::{Storage, StorageError};
use relight_repo::thaw::{self, Needed};
use relight_workloads::{WorkloadError, files};

use crate::lab::{Dice, GO_ON, Lab, settle, write_noise};

const DAY: Duration = Duration::from_secs(24 * 3600);

/// Collects without any grace.
fn collect_all(lab: &Lab) -> relight_repo::collect::Report {
    let options = CollectOptions {
        grace: Duration::ZERO,
        clock_skew: Duration::ZERO,
        ..CollectOptions::default()
    };
    collect(&lab.repository, &options, Control::quiet(&GO_ON)).unwrap()
}

fn keys(storage: &MemoryStorage, prefix: &str) -> Vec<String> {
    storage
        .list(prefix)
        .unwrap()
        .into_iter()
        .map(|object| object.key)
        .collect()
}

#[test]
fn locks_cover_all_that_a_snapshot_needs_and_outlast_it() {
    let storage = MemoryStorage::new();
    storage.set_time(Timestamp::now().as_millisecond());
    let settings = Settings {
        object_lock: true,
        ..Settings::default()
    };
    let lab = Lab::with(Arc::new(storage.clone()), settings);
    let mut dice = Dice(0x5eed_0030);
    let root = lab.path("root");
    fs::create_dir(&root).unwrap();
    write_noise(&root.join("old"), &mut dice, 5 << 20);
    settle();
    let in_days = |days: i64| Timestamp::now() + SignedDuration::from_hours(24 * days);
    let (soon, late) = (in_days(3), in_days(30));
    let (first, _) = lab.save_trees(&[("tree", &root)], None, Some(soon));
    let early = keys(&storage, "packs/");
    for key in &early {
        assert_eq!(storage.retained_until(key), Some(soon.as_millisecond()), "{key}");
    }
    write_noise(&root.join("new"), &mut dice, 5 << 20);
    let (second, reports) = lab.save_trees(&[("tree", &root)], Some(&first), Some(late));
    assert!(reports[0].unchanged_files > 0);
    // The content of the first snapshot is needed by the second: its lock is as long now.
    let data: Vec<_> = early
        .iter()
        .filter(|key| key.starts_with("packs/data/"))
        .collect();
    assert!(!data.is_empty());
    for key in data {
        assert_eq!(storage.retained_until(key), Some(late.as_millisecond()), "{key}");
    }
    let manifest = |snapshot: &Snapshot| Snapshot::key(snapshot.id);
    assert_eq!(
        storage.retained_until(&manifest(&second)),
        Some(late.as_millisecond())
    );
    // A later snapshot that promises less shortens nothing, one that promises nothing locks nothing.
    lab.save_trees(&[("tree", &root)], Some(&second), Some(soon));
    lab.save_trees(&[("tree", &root)], Some(&second), None);
    assert_eq!(
        storage.retained_until(&manifest(&second)),
        Some(late.as_millisecond())
    );

    let refused = lab.repository.forget(second.id).unwrap_err();
    assert!(
        matches!(refused, RepoError::Storage(StorageError::Locked { .. })),
        "{refused}"
    );
    lab.assert_tree(&second, "tree", &root);

    // When the lock of the manifests is over, they can be forgotten; packs that are still locked outlast them.
    storage.advance(DAY * 4);
    lab.repository.forget(first.id).unwrap();
    collect_all(&lab);
    storage.advance(Duration::from_secs(60));
    collect_all(&lab);
    lab.assert_tree(&second, "tree", &root);
    let locked: Vec<_> = keys(&storage, "packs/")
        .into_iter()
        .filter(|key| storage.retained_until(key) == Some(late.as_millisecond()))
        .collect();
    storage.advance(DAY * 30);
    for snapshot in lab.repository.snapshots().unwrap().0 {
        lab.repository.forget(snapshot.id).unwrap();
    }
    for key in &locked {
        assert!(storage.head(key).is_ok(), "{key}: it was needed and locked");
    }
}

#[test]
fn a_locked_pack_that_nobody_needs_waits_for_the_end_of_its_lock() {
    let storage = MemoryStorage::new();
    storage.set_time(Timestamp::now().as_millisecond());
    let settings = Settings {
        object_lock: true,
        ..Settings::default()
    };
    let lab = Lab::with(Arc::new(storage.clone()), settings);
    let mut dice = Dice(0x5eed_0031);
    let (root, other) = (lab.path("root"), lab.path("other"));
    for path in [&root, &other] {
        fs::create_dir(path).unwrap();
        write_noise(&path.join("file"), &mut dice, 3 << 20);
    }
    let (kept, _) = lab.save_trees(&[("tree", &other)], None, None);
    let before = keys(&storage, "packs/");
    let until = Timestamp::now() + SignedDuration::from_hours(24 * 10);
    let (first, _) = lab.save_trees(&[("tree", &root)], None, Some(until));
    let locked: Vec<_> = keys(&storage, "packs/")
        .into_iter()
        .filter(|key| !before.contains(key))
        .collect();
    assert!(!locked.is_empty());
    assert!(lab.repository.forget(first.id).is_err());
    // Whoever has the storage's own tools could take the manifest away only after its lock; say it is damaged away.
    storage.tamper(&Snapshot::key(first.id), Vec::clear);
    for _ in 0..3 {
        storage.advance(DAY * 2);
        let report = collect_all(&lab);
        assert_eq!(report.deleted.packs, 0, "{report:?}");
        for key in &locked {
            assert!(storage.head(key).is_ok(), "{key}");
        }
    }
    storage.advance(DAY * 8);
    for _ in 0..3 {
        collect_all(&lab);
        storage.advance(Duration::from_secs(60));
    }
    let left = keys(&storage, "packs/");
    assert!(locked.iter().all(|key| !left.contains(key)), "{left:?}");
    lab.assert_tree(&kept, "tree", &other);
}

#[test]
fn cold_data_is_listed_browsed_collected_and_thawed() {
    let storage = MemoryStorage::new();
    storage.set_time(Timestamp::now().as_millisecond());
    let settings = Settings {
        data_class: Some("GLACIER".into()),
        ..Settings::default()
    };
    let mut lab = Lab::with(Arc::new(storage.clone()), settings);
    let mut dice = Dice(0x5eed_0032);
    let root = lab.path("root");
    fs::create_dir_all(root.join("a")).unwrap();
    for number in 0..40 {
        write_noise(&root.join(format!("a/{number}")), &mut dice, 100_000);
    }
    write_noise(&root.join("b large"), &mut dice, 30 << 20);
    fs::hard_link(root.join("a/0"), root.join("z name of a 0")).unwrap();
    settle();
    let (first, _) = lab.save_tree(&root, None);
    for object in storage.list("").unwrap() {
        let wanted = object
            .key
            .starts_with("packs/data/")
            .then(|| "GLACIER".to_string());
        assert_eq!(storage.class_of(&object.key), wanted, "{}", object.key);
    }

    // All of this reads nothing that is cold.
    lab.reopen();
    fs::remove_file(root.join("a/7")).unwrap();
    let (second, report) = lab.save_tree(&root, Some(&first));
    assert_eq!(report.bytes_read, 0);
    assert_eq!(lab.repository.snapshots().unwrap().0.len(), 2);
    let reader = lab.reader();
    let trees = files::trees(&second);
    let view = files::browse::View::new(reader.clone(), second.clone());
    assert!(view.find(b"tree/a/3").unwrap().is_some());
    assert!(view.find(b"tree/a/7").unwrap().is_none());
    lab.repository.forget(first.id).unwrap();
    collect_all(&lab);
    let found = lab.verify();
    assert!(found.is_restorable(), "{found:?}");
    assert!(found.figures.cold > 0, "what is cold was not read");

    // Restoring says what is the matter.
    let target = lab.path("restored");
    let refused = lab.try_restore_tree(&second, "tree", &target).unwrap_err();
    assert!(
        matches!(
            &refused,
            WorkloadError::Repo(RepoError::Storage(StorageError::Cold { .. }))
        ),
        "{refused}"
    );
    assert!(refused.to_string().contains("--thaw"), "{refused}");

    // One small file, by its further name, needs a pack, or two where two workers had its chunks; everything needs more.
    let selection = Selection::paths(["z name of a 0"]);
    let ranges = files::payload_ranges(&reader, &trees[0], &selection).unwrap();
    assert_eq!(ranges.len(), 1);
    assert_eq!(ranges[0].end - ranges[0].start, 100_016);
    let some = Needed {
        root: trees[0].payload.root,
        ranges,
    };
    let all = Needed::whole(trees[0].payload.root);
    let quiet = Control::quiet(&GO_ON);
    let few = thaw::request(&reader, &[some], DAY, quiet).unwrap();
    assert!((1..=2).contains(&few.packs), "{few:?}");
    assert_eq!((few.ready, few.in_progress), (0, few.packs));
    assert!(!few.is_ready());
    let all = [all];
    let asked = thaw::request(&reader, &all, DAY, quiet).unwrap();
    assert!(asked.packs > few.packs, "{asked:?}");
    assert_eq!(
        (asked.ready, asked.in_progress, asked.missing),
        (0, asked.packs, 0)
    );
    storage.advance(Duration::from_secs(6 * 3600));
    let ready = thaw::request(&reader, &all, DAY, quiet).unwrap();
    assert_eq!((ready.ready, ready.in_progress), (asked.packs, 0));
    assert!(ready.is_ready());
    // What was begun goes on.
    let restored = lab.try_restore_tree(&second, "tree", &target).unwrap();
    assert!(restored.losses.is_empty(), "{:?}", restored.losses);
    crate::lab::assert_same(&root, &target);
}

#[test]
fn a_copy_of_cold_data_asks_for_what_the_other_one_lacks() {
    let storage = MemoryStorage::new();
    storage.set_time(Timestamp::now().as_millisecond());
    let settings = Settings {
        data_class: Some("GLACIER".into()),
        ..Settings::default()
    };
    let lab = Lab::with(Arc::new(storage.clone()), settings);
    let other = Lab::new();
    let mut dice = Dice(0x5eed_0033);
    let root = lab.path("root");
    fs::create_dir(&root).unwrap();
    write_noise(&root.join("old"), &mut dice, 30 << 20);
    settle();
    let (first, _) = lab.save_tree(&root, None);
    write_noise(&root.join("new"), &mut dice, 5 << 20);
    settle();
    let (second, _) = lab.save_tree(&root, Some(&first));

    let quiet = Control::quiet(&GO_ON);
    let reader = lab.reader();
    let ask = |snapshots: &[Snapshot]| {
        let needed = copy::needed(&reader, &other.repository, snapshots, quiet).unwrap();
        thaw::request(&reader, &needed, DAY, quiet).unwrap()
    };
    let refused = copy::copy(
        &lab.repository,
        &other.repository,
        std::slice::from_ref(&first),
        quiet,
    )
    .unwrap();
    assert_eq!(refused.failed.len(), 1);
    assert!(refused.failed[0].1.contains("--thaw"), "{:?}", refused.failed);
    let asked = ask(std::slice::from_ref(&first));
    assert!(asked.in_progress > 1 && !asked.is_ready(), "{asked:?}");
    storage.advance(Duration::from_secs(6 * 3600));
    assert!(ask(std::slice::from_ref(&first)).is_ready());
    let copied = copy::copy(
        &lab.repository,
        &other.repository,
        std::slice::from_ref(&first),
        quiet,
    )
    .unwrap();
    assert_eq!(copied.copied.len(), 1, "{:?}", copied.failed);
    // What is there is not asked for again, and nothing of what it shares with the next one.
    assert_eq!(ask(std::slice::from_ref(&first)).packs, 0);
    let rest = ask(&[first, second]);
    assert!(rest.packs > 0 && rest.in_progress == rest.packs, "{rest:?}");
    assert!(rest.bytes < 12 << 20, "{rest:?}");
}
