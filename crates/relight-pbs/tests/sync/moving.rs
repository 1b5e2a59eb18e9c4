//! Moving within a datastore.

use std::sync::atomic::{AtomicBool, Ordering};

use relight_pbs::formats::ids::{Group, Namespace};
use relight_pbs::service::datastore::MoveOptions;

use crate::sides::Side;
use crate::source::{CT, HOST, VM1, VM2, fill, upload};
use crate::support::{content, relight_backup};

fn options<'a>(log: &'a (dyn Fn(&str) + Sync), stopped: &'a AtomicBool) -> MoveOptions<'a> {
    MoveOptions {
        merge: true,
        log,
        stopped,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_the_same_in_another_place() {
    let side = Side::new().await;
    let (root, lab) = (Namespace::ROOT, "lab".parse::<Namespace>().unwrap());
    fill(&side);
    let name = VM1.parse().unwrap();
    side.store.set_notes(&root, &name, "mine").unwrap();
    side.store.set_protected(&root, &name, true).unwrap();
    let owner = "jane@pbs".parse().unwrap();
    side.store.set_owner(&root, &name.group, &owner).unwrap();
    let before = side
        .store
        .read_file(&side.entry("", VM2), &"drive-scsi0.img.fidx".parse().unwrap())
        .unwrap();
    let no = AtomicBool::new(false);
    let group: Group = "vm/100".parse().unwrap();

    // Broken off after the first: both places are whole, and again finishes it.
    let stop = AtomicBool::new(false);
    let log = |_: &str| stop.store(true, Ordering::Relaxed);
    side.store
        .move_group(&root, &group, &lab, &options(&log, &stop))
        .unwrap_err();
    assert_eq!(side.seen().len(), 5);
    // As if it had stopped after the new one was published and before the old one was forgotten.
    upload(&side, "lab", VM2, 2);
    let quiet = |_: &str| ();
    let again = side.store.move_group(&root, &group, &lab, &options(&quiet, &no));
    assert_eq!(again.unwrap(), 1);
    assert_eq!(side.seen().len(), 5, "not twice");
    // Another snapshot of the same time is not the same one.
    upload(&side, "", VM2, 7);
    let other = side.store.move_group(&root, &group, &lab, &options(&quiet, &no));
    assert!(other.unwrap_err().to_string().contains("another snapshot"));
    side.store.forget(&root, &VM2.parse().unwrap()).unwrap();

    assert!(
        !side.seen().iter().any(|name| name.starts_with(":vm/100")),
        "{:?}",
        side.seen()
    );
    let entry = side.entry("lab", VM1);
    assert!(entry.is_protected());
    assert_eq!(side.store.notes(&entry).unwrap(), "mine");
    assert_eq!(side.store.owner(&lab, &group).unwrap(), Some(owner));
    let after = side
        .store
        .read_file(&side.entry("lab", VM2), &"drive-scsi0.img.fidx".parse().unwrap())
        .unwrap();
    assert!(before[32..] == after[32..]);
    assert_eq!(side.verify(), Vec::<String>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_goes_with_what_is_in_it() {
    let side = Side::new().await;
    fill(&side);
    let image = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(image.path(), content(6, 5_000_000)).unwrap();
    relight_backup(&side.store.repository(), "lab/pg/main", None, Some(image.path()));
    let no = AtomicBool::new(false);
    let log = |_: &str| ();
    let (lab, to) = ("lab".parse().unwrap(), "old/lab".parse().unwrap());
    let inner = "lab/x".parse().unwrap();
    assert!(
        side.store
            .move_namespace(&lab, &inner, None, true, &options(&log, &no))
            .is_err()
    );
    let moved = side
        .store
        .move_namespace(&lab, &to, None, true, &options(&log, &no))
        .unwrap();
    assert_eq!((moved.groups, moved.snapshots, moved.failed), (2, 2, 0));
    let listing = side.store.list().unwrap();
    let names: Vec<&str> = listing.namespaces().map(Namespace::as_str).collect();
    assert_eq!(names, ["", "old", "old/lab", "old/lab/berlin"]);
    assert!(side.seen().contains(&format!("old/lab/berlin:{CT}")));
    assert!(side.seen().contains(&format!(":{HOST}")));
    // What `relight backup` made is found under its kind.
    let mut workloads: Vec<String> = side
        .store
        .repository()
        .snapshots()
        .unwrap()
        .0
        .into_iter()
        .map(|one| one.workload)
        .collect();
    workloads.retain(|name| name.starts_with("old"));
    workloads.sort();
    assert_eq!(workloads, ["old/lab/berlin/ct/200", "old/lab/pg/main"]);
    assert_eq!(side.verify(), Vec::<String>::new());
}
