//! Trees with everything in them, and the real ones of this machine.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use relight_pxar::fs::compare::{CompareOptions, compare_archive, compare_trees};
use relight_pxar::fs::progress::Progress;
use relight_workloads::files;

use crate::lab::{GO_ON, Lab, settle, stored};
use crate::tree::{adversarial, deep, remove_deep, unseal};

#[test]
fn everything_that_makes_backups_hard() {
    let lab = Lab::new();
    let root = lab.path("root");
    fs::create_dir(&root).unwrap();
    adversarial(&root);
    let nested = root.join("nested");
    fs::create_dir(&nested).unwrap();
    deep(&nested, 300);
    settle();
    let (first, report) = lab.save_tree(&root, None);
    assert!(report.bytes > 10_000_000_000, "the sparse file counts");
    assert!(report.bytes_read < 64 << 20, "and is not read");
    assert!(stored(&*lab.storage, "packs/") < 16 << 20, "nor stored");
    let (second, report) = lab.save_tree(&root, Some(&first));
    assert_eq!(report.bytes_read, 0);
    for snapshot in [&first, &second] {
        let target = lab.path("restored");
        let restored = lab.try_restore_tree(snapshot, "tree", &target).unwrap();
        let lost: Vec<_> = restored.losses.iter().collect();
        assert!(lost.is_empty(), "{lost:?}");
        crate::lab::assert_same(&root, &target);
        unseal(&target);
        remove_deep(&target.join("nested"));
        fs::remove_dir_all(&target).unwrap();
    }
    unseal(&root);
    remove_deep(&nested);
}

/// Saves a tree of the system, compares the snapshot with it, and if it is small restores it too.
fn system(path: &str, restore: bool) {
    let path = Path::new(path);
    if !path.is_dir() || !crate::is_root() {
        eprintln!("not tried: {} needs to be there, and root", path.display());
        return;
    }
    let lab = Lab::new();
    let (snapshot, reports) = lab.save_trees(&[("tree", path)], None, None);
    println!(
        "{}: {:?} {:?}",
        path.display(),
        reports[0].counts,
        snapshot.figures
    );
    let trees = files::trees(&snapshot);
    let options = CompareOptions {
        // Others may add and remove files in it meanwhile.
        roots: false,
        ..CompareOptions::default()
    };
    let progress = Progress::default();
    let compared = if restore {
        let target = lab.path("restored");
        let restored = lab.try_restore_tree(&snapshot, "tree", &target).unwrap();
        assert!(restored.losses.is_empty(), "{:?}", restored.losses);
        compare_trees(&target, path, &options, &progress, &GO_ON).unwrap()
    } else {
        let source = files::TreeArchive::new(&lab.reader(), &trees[0]);
        compare_archive(&source, path, &options, &progress, &GO_ON).unwrap()
    };
    let shown: Vec<_> = compared
        .differences
        .iter()
        .take(20)
        .map(ToString::to_string)
        .collect();
    assert!(compared.is_equal(), "{shown:#?}");
    let (_, reports) = lab.save_trees(&[("tree", path)], Some(&snapshot), None);
    let report = &reports[0];
    assert!(
        report.bytes_read <= report.bytes / 100,
        "{} of {}",
        report.bytes_read,
        report.bytes
    );
    // The lab goes before the reader's repository does.
    drop(Arc::clone(&lab.repository));
}

#[test]
fn etc() {
    system("/etc", true);
}

#[test]
fn the_package_database() {
    system("/var/lib/dpkg", true);
}

#[test]
fn programs() {
    system("/usr/bin", false);
}
