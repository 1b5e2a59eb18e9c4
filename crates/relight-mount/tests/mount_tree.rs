//! File trees through a mount: every byte and every attribute as in the source.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, MetadataExt};

use common::tree::{adversarial, noise, unseal};
use common::{Lab, assert_same, assert_same_but, names, run};
use relight_pxar::fs::metadata::Part;

#[test]
fn a_tree_with_everything_that_makes_backups_hard_is_the_same_through_a_mount() {
    common::require_fuse();
    let lab = Lab::new();
    let source = lab.folder("source");
    adversarial(&source);
    lab.save_tree("host/lab", &source);
    let mut mounted = lab.mount();
    let shown = mounted.path().join("by-workload/host/lab/latest/source");
    assert_same(&source, &shown);

    // What the comparison does not look at.
    let links: Vec<_> = [
        "links/m",
        "links/a/first in order",
        "links/z/last",
        "links/beside",
    ]
    .map(|name| fs::symlink_metadata(shown.join(name)).unwrap())
    .into_iter()
    .map(|meta| (meta.ino(), meta.nlink()))
    .collect();
    assert!(links.iter().all(|link| *link == links[0]), "{links:?}");
    assert_eq!(links[0].1, 4);
    assert_eq!(fs::metadata(shown.join("files/text")).unwrap().nlink(), 1);
    let device = fs::symlink_metadata(shown.join("special/block")).unwrap().rdev();
    assert_eq!(device, rustix::fs::makedev(259, 1_000_000));

    // A program that copies trees finds in the mount what it needs: links, holes, ACLs, attributes.
    let copy = lab.folder("copy");
    let pack =
        "tar --create --sparse --acls --xattrs --xattrs-include='*' --format=pax links xattrs acls modes";
    let unpack =
        "tar --extract --acls --xattrs --xattrs-include='*' --same-owner --same-permissions --numeric-owner";
    let (from, to) = (shown.display(), copy.display());
    run(
        "sh",
        &["-c", &format!("(cd {from} && {pack}) | (cd {to} && {unpack})")],
    );
    for folder in ["links", "xattrs", "acls", "modes"] {
        assert_same_but(&source.join(folder), &copy.join(folder), vec![Part::Flags]);
    }
    mounted.unmount().unwrap();
    assert!(names(&lab.path("mount")).is_empty());
    unseal(&source);
}

#[test]
fn holes_are_found_and_cost_nothing() {
    common::require_fuse();
    let lab = Lab::new();
    let source = lab.folder("source");
    let sparse = File::create(source.join("sparse")).unwrap();
    sparse.set_len(1 << 40).unwrap();
    sparse.write_all_at(&noise(1, 100_000), 1 << 39).unwrap();
    lab.save_tree("host/lab", &source);
    let mounted = lab.mount();
    let mut file = File::open(mounted.path().join("latest/source/sparse")).unwrap();
    assert_eq!(file.metadata().unwrap().len(), 1 << 40);
    let data = rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(0)).unwrap();
    assert!(data <= 1 << 39 && data > (1 << 39) - (8 << 20), "{data}");
    let hole = rustix::fs::seek(&file, rustix::fs::SeekFrom::Hole(1 << 39)).unwrap();
    assert!(
        ((1 << 39) + 100_000..(1 << 39) + (8 << 20)).contains(&hole),
        "{hole}"
    );
    assert_eq!(
        rustix::fs::seek(&file, rustix::fs::SeekFrom::Data(hole)),
        Err(rustix::io::Errno::NXIO)
    );
    let mut bytes = vec![1; 200_000];
    file.seek(SeekFrom::Start((1 << 39) - 50_000)).unwrap();
    file.read_exact(&mut bytes).unwrap();
    assert!(
        bytes[..50_000]
            .iter()
            .chain(&bytes[150_000..])
            .all(|&byte| byte == 0)
    );
    assert!(bytes[50_000..150_000] == noise(1, 100_000));
}

#[test]
fn a_folder_of_many_files_is_listed_whole_and_each_is_found() {
    common::require_fuse();
    let lab = Lab::new();
    let source = lab.folder("source");
    for number in 0..20_000 {
        fs::write(
            source.join(format!("file {number} {}", "x".repeat(number % 200))),
            number.to_string(),
        )
        .unwrap();
    }
    lab.save_tree("host/lab", &source);
    let mounted = lab.mount();
    let shown = mounted.path().join("latest/source");
    assert_eq!(names(&shown), names(&source));
    assert_eq!(
        fs::read_to_string(shown.join("file 17 xxxxxxxxxxxxxxxxx")).unwrap(),
        "17"
    );
    assert!(!shown.join("file 20000").exists());
    assert_same(&source, &shown);
}

#[test]
fn many_threads_read_many_files_at_once() {
    common::require_fuse();
    let lab = Lab::new();
    let source = lab.folder("source");
    for number in 0..40 {
        fs::write(
            source.join(number.to_string()),
            noise(number, 1_000_000 + number as usize * 7777),
        )
        .unwrap();
    }
    lab.save_tree("host/lab", &source);
    let mounted = lab.mount();
    let shown = mounted.path().join("latest/source");
    std::thread::scope(|scope| {
        for thread in 0..16u64 {
            let shown = &shown;
            scope.spawn(move || {
                for round in 0..20 {
                    let number = (thread * 7 + round * 3) % 40;
                    let wanted = noise(number, 1_000_000 + number as usize * 7777);
                    let file = File::open(shown.join(number.to_string())).unwrap();
                    let from = (round as usize * 50_021) % wanted.len();
                    let mut part = vec![0; (wanted.len() - from).min(300_000)];
                    file.read_exact_at(&mut part, from as u64).unwrap();
                    assert!(
                        part == wanted[from..from + part.len()],
                        "file {number} from {from}"
                    );
                }
            });
        }
    });
}
