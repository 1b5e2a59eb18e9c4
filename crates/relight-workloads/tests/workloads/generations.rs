//! A tree that lives: edited at random and saved again and again. Every generation comes back as it was.

use std::collections::HashMap;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{FileExt, MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::XattrFlags;

use crate::lab::{Dice, Lab, copy, settle, write_noise};
use crate::tree::set_time;

const FILES: u64 = 220;
const GENERATIONS: usize = 12;

/// Lengths as they are found: most files are small, a few are most of the bytes.
fn length(dice: &mut Dice) -> u64 {
    match dice.below(100) {
        0..5 => 0,
        5..60 => dice.below(16 << 10),
        60..93 => dice.below(200 << 10),
        _ => dice.below(3 << 20),
    }
}

/// All paths below `root` by kind.
fn walk(root: &Path) -> (Vec<PathBuf>, Vec<PathBuf>) {
    let (mut directories, mut others) = (vec![root.to_path_buf()], Vec::new());
    let mut at = 0;
    while at < directories.len() {
        let mut entries: Vec<_> = fs::read_dir(&directories[at])
            .unwrap()
            .map(|entry| entry.unwrap().path())
            .collect();
        entries.sort();
        for path in entries {
            if path.symlink_metadata().unwrap().is_dir() {
                directories.push(path);
            } else {
                others.push(path);
            }
        }
        at += 1;
    }
    (directories, others)
}

/// What a backup can know of each regular file without reading it.
fn marks(root: &Path) -> HashMap<PathBuf, (u64, i64, i64, u64)> {
    let (_, others) = walk(root);
    let mark = |path: PathBuf| {
        let meta = path.symlink_metadata().unwrap();
        let mark = (meta.ino(), meta.ctime(), meta.ctime_nsec(), meta.len());
        meta.is_file().then_some((path, mark))
    };
    others.into_iter().filter_map(mark).collect()
}

fn plant(root: &Path, dice: &mut Dice) {
    fs::create_dir(root).unwrap();
    for number in 0..12 {
        let (directories, _) = walk(root);
        let parent = &directories[dice.below(directories.len() as u64) as usize];
        fs::create_dir(parent.join(format!("directory {number}"))).unwrap();
    }
    for _ in 0..FILES {
        add(root, dice);
    }
}

/// Adds something.
fn add(root: &Path, dice: &mut Dice) {
    let (directories, others) = walk(root);
    let parent = &directories[dice.below(directories.len() as u64) as usize];
    let path = parent.join(format!("{:016x}", dice.next()));
    let some = (!others.is_empty()).then(|| &others[dice.below(others.len() as u64) as usize]);
    match (dice.below(20), some) {
        (0, Some(some)) => fs::hard_link(some, &path).unwrap(),
        (1, Some(some)) => symlink(some.file_name().unwrap(), &path).unwrap(),
        (2, _) => fs::create_dir(&path).unwrap(),
        (3, _) => {
            write_noise(&path, dice, 100);
            rustix::fs::setxattr(
                &path,
                "user.some",
                &dice.next().to_le_bytes(),
                XattrFlags::empty(),
            )
            .unwrap();
        }
        _ => {
            let length = length(dice);
            write_noise(&path, dice, length);
        }
    }
}

fn edit(root: &Path, dice: &mut Dice) {
    let (directories, others) = walk(root);
    let path = &others[dice.below(others.len() as u64) as usize];
    let directory = &directories[dice.below(directories.len() as u64) as usize];
    let is_file = path.symlink_metadata().unwrap().is_file();
    let length = if is_file {
        path.symlink_metadata().unwrap().len()
    } else {
        0
    };
    let open = || OpenOptions::new().write(true).open(path).unwrap();
    match dice.below(14) {
        0 if is_file => open().write_all_at(b"changed", dice.below(length + 1)).unwrap(),
        1 if is_file => {
            let mut file = OpenOptions::new().append(true).open(path).unwrap();
            let more = dice.below(100_000) as usize;
            file.write_all(&crate::tree::noise(dice.next(), more)).unwrap();
        }
        2 if is_file => open().set_len(dice.below(length + 1)).unwrap(),
        // A hole at the end.
        3 if is_file => open().set_len(length + dice.below(2 << 20)).unwrap(),
        4 => fs::remove_file(path).unwrap(),
        5 => fs::rename(path, directory.join(format!("renamed {:x}", dice.next()))).unwrap(),
        6 if directory != root => {
            let to = directory.with_file_name(format!("moved {:x}", dice.next()));
            fs::rename(directory, to).unwrap();
        }
        7 if is_file => {
            let mode = 0o600 | dice.below(0o200) as u32;
            fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
        }
        // Time goes backwards, too.
        8 => set_time(
            path,
            1_000_000_000 + dice.below(700_000_000) as i64,
            dice.below(1_000_000_000) as u32,
        ),
        9 if is_file => {
            // Same length, same time, other content.
            let meta = path.metadata().unwrap();
            write_noise(path, dice, length);
            set_time(path, meta.mtime(), meta.mtime_nsec() as u32);
        }
        10 => {
            fs::remove_file(path).unwrap();
            fs::create_dir(path).unwrap();
            write_noise(&path.join("was a file"), dice, 1000);
        }
        11 if directory != root && directories.len() > 8 && walk(directory).1.len() < 25 => {
            fs::remove_dir_all(directory).unwrap();
            write_noise(directory, dice, 5000);
        }
        _ => add(root, dice),
    }
}

#[test]
fn every_generation_comes_back_and_only_what_changed_is_read() {
    let mut lab = Lab::new();
    // Another seed looks elsewhere; a failure tells which.
    let seed = std::env::var("RELIGHT_TEST_SEED")
        .ok()
        .and_then(|seed| seed.parse().ok())
        .unwrap_or(0x5eed_0001);
    println!("RELIGHT_TEST_SEED={seed}");
    let mut dice = Dice(seed);
    let root = lab.path("root");
    plant(&root, &mut dice);
    let mut generations = Vec::new();
    let mut before = HashMap::new();
    let mut read = 0;
    for generation in 0..GENERATIONS {
        settle();
        let parent = generations.last();
        let (snapshot, report) = lab.save_tree(&root, parent);
        let after = marks(&root);
        let changed: u64 = after
            .iter()
            .filter(|(path, mark)| before.get(*path) != Some(*mark))
            .map(|(_, (.., length))| length)
            .sum();
        assert!(
            report.bytes_read <= changed,
            "generation {generation}: {} bytes were read, {changed} had changed",
            report.bytes_read
        );
        assert_eq!(report.previous_lost, None);
        read += report.bytes_read;
        copy(&root, &lab.path(&format!("generation {generation}")));
        generations.push(snapshot);
        before = after;
        for _ in 0..1 + dice.below(12) {
            edit(&root, &mut dice);
        }
        if generation % 3 == 2 {
            lab.reopen();
        }
    }
    let all: u64 = before.values().map(|(.., length)| length).sum();
    println!("{all} bytes in the tree, {read} read in {GENERATIONS} generations");
    assert!(lab.verify().is_clean());
    for (number, snapshot) in generations.iter().enumerate() {
        let copied = lab.path(&format!("generation {number}"));
        lab.assert_tree(snapshot, "tree", &copied);
    }
}

#[test]
fn what_is_unchanged_costs_nothing() {
    let lab = Lab::new();
    let mut dice = Dice(0x5eed_0002);
    let root = lab.path("root");
    plant(&root, &mut dice);
    settle();
    let (first, _) = lab.save_tree(&root, None);
    let (second, report) = lab.save_tree(&root, Some(&first));
    assert_eq!(report.bytes_read, 0);
    assert_eq!(report.unchanged_files, report.counts.files);
    // The end marker is written anew behind what was taken over; from then on nothing changes.
    let (third, _) = lab.save_tree(&root, Some(&second));
    let root_of = |snapshot: &relight_repo::snapshot::Snapshot| snapshot.archive("tree.ppxar").unwrap().root;
    assert_eq!(root_of(&second), root_of(&third));
    assert_eq!(
        third.archive("tree.mpxar").unwrap().root,
        second.archive("tree.mpxar").unwrap().root
    );
    assert!(third.figures.added < 64 << 10, "{:?}", third.figures);
    lab.assert_tree(&third, "tree", &root);
}

#[test]
fn what_moved_is_not_stored_again() {
    let lab = Lab::new();
    let mut dice = Dice(0x5eed_0003);
    let root = lab.path("root");
    fs::create_dir_all(root.join("a/many")).unwrap();
    for number in 0..250 {
        let length = 20_000 + dice.below(180_000);
        write_noise(&root.join(format!("a/many/{number}")), &mut dice, length);
    }
    write_noise(&root.join("a/large"), &mut dice, 20 << 20);
    write_noise(&root.join("b"), &mut dice, 1 << 20);
    settle();
    let (first, report) = lab.save_tree(&root, None);

    fs::rename(root.join("a/large"), root.join("z large")).unwrap();
    let (second, _) = lab.save_tree(&root, Some(&first));
    println!("a large file that moved added {:?}", second.figures);
    assert!(second.figures.added < 5 << 20, "{:?}", second.figures);
    lab.assert_tree(&second, "tree", &root);

    fs::rename(root.join("a/many"), root.join("y many")).unwrap();
    let (third, moved) = lab.save_tree(&root, Some(&second));
    println!("a directory that moved added {:?}", third.figures);
    assert!(
        moved.bytes_read > report.bytes / 3,
        "it has another path: all of it is read"
    );
    assert!(third.figures.added < 6 << 20, "{:?}", third.figures);
    lab.assert_tree(&third, "tree", &root);
}

#[test]
fn one_tree_under_two_names_is_stored_once() {
    let lab = Lab::new();
    let mut dice = Dice(0x5eed_0004);
    let root = lab.path("root");
    plant(&root, &mut dice);
    let other = lab.path("other");
    copy(&root, &other);
    settle();
    let (first, _) = lab.save_trees(&[("one", &root), ("two", &root), ("copied", &other)], None, None);
    println!("{:?}", first.figures);
    assert!(
        first.figures.added < first.figures.logical / 2,
        "{:?}",
        first.figures
    );
    let (second, reports) = lab.save_trees(
        &[("two", &root), ("copied", &other), ("one", &root)],
        Some(&first),
        None,
    );
    assert!(reports.iter().all(|report| report.bytes_read == 0), "{reports:?}");
    for name in ["one", "two", "copied"] {
        lab.assert_tree(&second, name, &root);
    }
}
