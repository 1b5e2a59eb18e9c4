//! A comparison finds every kind of difference, and no other.
#![allow(clippy::unwrap_used)]

mod fs_support;

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;

use fs_support::*;
use relight_pxar::fs::compare::{CompareOptions, DifferenceKind, compare_trees};
use relight_pxar::fs::extract::ExtractOptions;
use relight_pxar::fs::metadata::Part;
use relight_pxar::fs::progress::Progress;
use relight_pxar::metadata::{Acl, Metadata};
use rustix::fs::{FileType, IFlags, XattrFlags, makedev, setxattr};

fn build(root: &Path) {
    fs::create_dir_all(root.join("directory/inner")).unwrap();
    fs::write(root.join("directory/inner/file"), "x").unwrap();
    fs::write(root.join("file"), tree::noise(1, 300_000)).unwrap();
    fs::write(root.join("linked"), "linked").unwrap();
    fs::hard_link(root.join("linked"), root.join("linked too")).unwrap();
    fs::write(root.join("other"), "linked").unwrap();
    symlink("target", root.join("symlink")).unwrap();
    tree::node(&root.join("pipe"), FileType::Fifo, 0);
    let sparse = fs::File::create(root.join("sparse")).unwrap();
    sparse.set_len(1 << 30).unwrap();
    setxattr(root.join("file"), "user.one", b"1", XattrFlags::empty()).unwrap();
    if is_root() {
        tree::node(&root.join("device"), FileType::CharacterDevice, makedev(1, 3));
    }
}

#[test]
fn every_change_is_found() {
    let metadata = DifferenceKind::Metadata;
    let keeping_time = |path: &Path, change: &dyn Fn()| {
        let time = tree::time_of(path);
        change();
        tree::set_time(path, time.secs, time.nanos);
    };
    type Change<'a> = (&'a str, &'a dyn Fn(&Path), DifferenceKind);
    let mut changes: Vec<Change<'_>> = vec![
        (
            "directory/inner",
            &|p| fs::remove_dir_all(p).unwrap(),
            DifferenceKind::OnlyFirst,
        ),
        (
            "directory/new",
            &|p| fs::create_dir(p).unwrap(),
            DifferenceKind::OnlySecond,
        ),
        (
            "directory/zz",
            &|p| fs::write(p, "").unwrap(),
            DifferenceKind::OnlySecond,
        ),
        (
            "symlink",
            &|p| {
                fs::remove_file(p).unwrap();
                fs::write(p, "target").unwrap();
            },
            DifferenceKind::Kind,
        ),
        (
            "directory/inner",
            &|p| {
                fs::remove_dir_all(p).unwrap();
                fs::write(p, "").unwrap();
            },
            DifferenceKind::Kind,
        ),
        (
            "file",
            &|p| {
                OpenOptions::new()
                    .append(true)
                    .open(p)
                    .unwrap()
                    .write_all(b"x")
                    .unwrap()
            },
            DifferenceKind::Size,
        ),
        (
            "file",
            &|p| {
                let mut content = fs::read(p).unwrap();
                content[299_999] ^= 0x80;
                fs::write(p, content).unwrap();
            },
            DifferenceKind::Content,
        ),
        (
            "sparse",
            &|p| {
                use std::os::unix::fs::FileExt;
                OpenOptions::new()
                    .write(true)
                    .open(p)
                    .unwrap()
                    .write_all_at(b"x", (1 << 30) - 1)
                    .unwrap();
            },
            DifferenceKind::Content,
        ),
        (
            "symlink",
            &|p| {
                let time = tree::time_of(p);
                fs::remove_file(p).unwrap();
                symlink("elsewhere", p).unwrap();
                tree::set_time(p, time.secs, time.nanos);
            },
            DifferenceKind::Target,
        ),
        (
            "linked too",
            &|p| {
                let time = tree::time_of(p);
                fs::remove_file(p).unwrap();
                fs::write(p, "linked").unwrap();
                tree::set_time(p, time.secs, time.nanos);
            },
            DifferenceKind::Links,
        ),
        (
            "other",
            &|p| {
                fs::remove_file(p).unwrap();
                fs::hard_link(p.with_file_name("linked"), p).unwrap();
            },
            DifferenceKind::Links,
        ),
        (
            "file",
            &|p| tree::set_time(p, 1_000_000_000, 1),
            metadata(Part::Time),
        ),
        (
            "directory",
            &|p| tree::set_time(p, 1_000_000_000, 1),
            metadata(Part::Time),
        ),
        (
            "symlink",
            &|p| tree::set_time(p, 1_000_000_000, 1),
            metadata(Part::Time),
        ),
        (
            "file",
            &|p| fs::set_permissions(p, fs::Permissions::from_mode(0o4755)).unwrap(),
            metadata(Part::Mode),
        ),
        (
            "file",
            &|p| setxattr(p, "user.one", b"2", XattrFlags::empty()).unwrap(),
            metadata(Part::Xattr(b"user.one".to_vec())),
        ),
        (
            "directory",
            &|p| setxattr(p, "user.two", b"2", XattrFlags::empty()).unwrap(),
            metadata(Part::Xattr(b"user.two".to_vec())),
        ),
        (
            "file",
            &|p| rustix::fs::removexattr(p, "user.one").unwrap(),
            metadata(Part::Xattr(b"user.one".to_vec())),
        ),
        (
            "directory",
            &|p| {
                use std::os::unix::fs::MetadataExt;
                let found = fs::metadata(p).unwrap();
                let acl = Acl {
                    users: vec![(9, 7)],
                    group_obj: Some(5),
                    ..Acl::default()
                };
                let time = tree::time_of(p);
                let wanted = Metadata {
                    mode: found.mode(),
                    uid: found.uid(),
                    gid: found.gid(),
                    mtime: time,
                    acl,
                    ..Metadata::default()
                };
                assert!(tree::set_metadata(p, &wanted).is_empty());
            },
            metadata(Part::Acl),
        ),
        (
            "file",
            &|p| tree::add_flags(p, IFlags::NODUMP),
            metadata(Part::Flags),
        ),
    ];
    if is_root() {
        let privileged: [Change<'_>; 4] = [
            (
                "pipe",
                &|p| std::os::unix::fs::lchown(p, Some(1), Some(2)).unwrap(),
                metadata(Part::Owner),
            ),
            (
                "symlink",
                &|p| std::os::unix::fs::lchown(p, Some(1), Some(2)).unwrap(),
                metadata(Part::Owner),
            ),
            (
                "device",
                &|p| {
                    let time = tree::time_of(p);
                    fs::remove_file(p).unwrap();
                    tree::node(p, FileType::CharacterDevice, makedev(1, 5));
                    tree::set_time(p, time.secs, time.nanos);
                },
                DifferenceKind::Device,
            ),
            (
                "file",
                &|p| {
                    let value = [1, 0, 0, 2, 0, 0x20, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
                    setxattr(p, "security.capability", &value, XattrFlags::empty()).unwrap();
                },
                metadata(Part::Capabilities),
            ),
        ];
        changes.extend(privileged);
    }
    let scratch = tempfile::tempdir().unwrap();
    let source = scratch.path().join("source");
    fs::create_dir(&source).unwrap();
    build(&source);
    let (archive, _) = capture_clean(&source, None);
    for (index, (path, change, kind)) in changes.iter().enumerate() {
        let target = scratch.path().join(format!("{index}"));
        extract_clean(
            &archive,
            &target,
            &ExtractOptions {
                sync: false,
                ..ExtractOptions::default()
            },
        );
        assert_same(&source, &target);
        let changed = target.join(path);
        let parent = changed.parent().unwrap().to_path_buf();
        keeping_time(&parent, &|| {
            if *kind == DifferenceKind::Content {
                keeping_time(&changed, &|| change(&changed));
            } else {
                change(&changed);
            }
        });
        let comparison = compare(&source, &target);
        let mut found: Vec<_> = comparison
            .differences
            .iter()
            .map(|difference| (difference.path.clone(), difference.kind.clone()))
            .collect();
        // A file that was written to has another time besides.
        if found.len() > 1 {
            found.retain(|(_, kind)| *kind != metadata(Part::Time));
        }
        assert_eq!(
            found,
            [(path.as_bytes().to_vec(), kind.clone())],
            "change {index} of {path}"
        );
        let progress = Progress::default();
        let options = CompareOptions::default();
        let by_archive = relight_pxar::fs::compare::compare_archive(
            &archive,
            &target,
            &options,
            &progress,
            &std::sync::atomic::AtomicBool::new(false),
        )
        .unwrap();
        assert_eq!(
            by_archive.total, comparison.total,
            "archive: change {index} of {path}"
        );
    }
}

#[test]
fn parts_can_be_left_out() {
    let scratch = tempfile::tempdir().unwrap();
    let [first, second] = ["first", "second"].map(|name| scratch.path().join(name));
    for root in [&first, &second] {
        fs::create_dir(root).unwrap();
        fs::write(root.join("file"), "content").unwrap();
    }
    setxattr(first.join("file"), "user.x", b"1", XattrFlags::empty()).unwrap();
    let run = |options: &CompareOptions| {
        let cancel = std::sync::atomic::AtomicBool::new(false);
        compare_trees(&first, &second, options, &Progress::default(), &cancel).unwrap()
    };
    assert!(!run(&CompareOptions::default()).is_equal());
    let ignore = vec![Part::Time, Part::Xattr(Vec::new())];
    assert!(
        run(&CompareOptions {
            ignore,
            ..CompareOptions::default()
        })
        .is_equal()
    );
}
