//! Damage in the repository is healed by the next backup of what is still there.

use std::fs;
use std::path::PathBuf;

use relight_repo::snapshot::Snapshot;

use crate::lab::{Dice, Lab, settle, write_noise};

/// A repository with one snapshot of a tree with small files, some larger than a chunk, and one larger than a pack.
fn saved() -> (Lab, PathBuf, Snapshot) {
    let lab = Lab::new();
    let mut dice = Dice(0x5eed_0010);
    let root = lab.path("root");
    for directory in ["a", "m", "z"] {
        fs::create_dir_all(root.join(directory)).unwrap();
        for number in 0..150 {
            let length = dice.below(60_000);
            write_noise(&root.join(format!("{directory}/{number}")), &mut dice, length);
        }
        write_noise(&root.join(directory).join("large"), &mut dice, 4 << 20);
    }
    write_noise(&root.join("h huge"), &mut dice, 30 << 20);
    settle();
    let (snapshot, _) = lab.save_tree(&root, None);
    (lab, root, snapshot)
}

fn packs(lab: &Lab, kind: &str) -> Vec<PathBuf> {
    let listed = lab.storage.list(&format!("packs/{kind}/")).unwrap();
    let mut keys: Vec<_> = listed.into_iter().map(|object| object.key).collect();
    keys.sort();
    assert!(!keys.is_empty());
    keys.iter().map(|key| lab.object(key)).collect()
}

/// Saves the tree again: the new snapshot is whole, and the one that was damaged is so again.
fn heal(lab: &mut Lab, root: &std::path::Path, first: &Snapshot, at_most: u64) {
    let found = lab.verify();
    assert!(!found.is_restorable(), "the damage is found");
    lab.reopen();
    let (second, report) = lab.save_tree(root, Some(first));
    println!("{} of {} bytes were read again", report.bytes_read, report.bytes);
    assert!(report.bytes_read > 0, "what is damaged is read again");
    assert!(
        report.bytes_read <= at_most,
        "{} bytes were read",
        report.bytes_read
    );
    lab.reopen();
    lab.assert_tree(&second, "tree", root);
    lab.assert_tree(first, "tree", root);
    assert!(lab.verify().is_restorable());
}

#[test]
fn a_corrupt_chunk() {
    let (mut lab, root, first) = saved();
    let pack = &packs(&lab, "data")[0];
    let mut bytes = fs::read(pack).unwrap();
    let middle = bytes.len() / 2;
    for byte in &mut bytes[middle..middle + 100] {
        *byte ^= 0x55;
    }
    fs::remove_file(pack).unwrap();
    fs::write(pack, bytes).unwrap();
    heal(&mut lab, &root, &first, 36 << 20);
}

#[test]
fn each_data_pack_that_is_lost() {
    for number in 0.. {
        let (mut lab, root, first) = saved();
        let packs = packs(&lab, "data");
        let Some(pack) = packs.get(number) else {
            assert!(number > 1, "there are several packs");
            return;
        };
        fs::remove_file(pack).unwrap();
        heal(&mut lab, &root, &first, u64::MAX);
    }
}

#[test]
fn all_metadata_packs_lost() {
    let (mut lab, root, first) = saved();
    for pack in packs(&lab, "meta") {
        fs::remove_file(pack).unwrap();
    }
    assert!(!lab.verify().is_restorable());
    lab.reopen();
    let (second, report) = lab.save_tree(&root, Some(&first));
    assert_eq!(report.bytes_read, report.bytes, "nothing is known of it any more");
    assert!(
        second.figures.added < 8 << 20,
        "its contents are: {:?}",
        second.figures
    );
    lab.reopen();
    lab.assert_tree(&second, "tree", &root);
}

#[test]
fn a_chunk_that_is_lost_unnoticed_ends_no_backup() {
    // Nobody has verified yet: the list of the payload is there, its chunks are believed to be.
    let (mut lab, root, first) = saved();
    fs::remove_file(&packs(&lab, "data")[0]).unwrap();
    lab.reopen();
    let (second, _) = lab.save_tree(&root, Some(&first));
    let found = lab.verify();
    assert!(!found.is_restorable());
    assert!(
        found
            .affected
            .iter()
            .any(|affected| affected.snapshot == second.id)
    );
    heal(&mut lab, &root, &second, u64::MAX);
}
