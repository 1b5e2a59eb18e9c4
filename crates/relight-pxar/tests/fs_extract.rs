//! What a restore does where things are in its way, go wrong or are meant to harm.
#![allow(clippy::unwrap_used)]

mod fs_support;

use std::cell::Cell;
use std::fs;
use std::io;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::process::Command;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use fs_support::acting::Acting;
use fs_support::places::*;
use fs_support::*;
use relight_pxar::Encoder;
use relight_pxar::fs::extract::{
    ArchiveSource, ArchiveStream, ConflictPolicy, ContentSource, ExtractOptions, LossKind, RestoreError,
    RestoreReport, Selection, extract,
};
use relight_pxar::fs::metadata::Part;
use relight_pxar::fs::progress::Progress;
use relight_pxar::metadata::{Acl, DefaultAcl, Metadata};
use relight_pxar::read_at::ReadAt;

fn losses(report: &RestoreReport) -> Vec<(String, LossKind)> {
    report
        .losses
        .iter()
        .map(|loss| {
            (
                String::from_utf8_lossy(&loss.path).into_owned(),
                loss.kind.clone(),
            )
        })
        .collect()
}

#[test]
fn policies_decide_about_what_exists() {
    let build = |places: &Places| {
        fs::create_dir(places.source.join("a directory")).unwrap();
        fs::write(places.source.join("a directory/new"), "new").unwrap();
        fs::write(places.source.join("b file"), "from the archive").unwrap();
        symlink("from the archive", places.source.join("c link")).unwrap();
        fs::write(places.source.join("d file"), "from the archive").unwrap();
        fs::create_dir(places.source.join("e directory")).unwrap();
        fs::write(places.source.join("e directory/inside"), "x").unwrap();
        fs::write(places.source.join("f first"), "linked").unwrap();
        fs::hard_link(places.source.join("f first"), places.source.join("g second")).unwrap();
        fs::create_dir(places.target.join("a directory")).unwrap();
        fs::write(places.target.join("a directory/old"), "old").unwrap();
        fs::write(places.target.join("b file"), "in the target").unwrap();
        fs::write(places.target.join("c link"), "in the target").unwrap();
        fs::create_dir(places.target.join("d file")).unwrap();
        fs::write(places.target.join("d file/keep"), "in the target").unwrap();
        fs::write(places.target.join("e directory"), "in the target").unwrap();
        fs::write(places.target.join("f first"), "in the target").unwrap();
        capture_clean(&places.source, None).0
    };
    let read = |places: &Places, name: &str| fs::read_to_string(places.target.join(name)).unwrap();

    let skip = places();
    let archive = build(&skip);
    let report = extract_clean(&archive, &skip.target, &with(ConflictPolicy::Skip, true));
    assert_eq!(report.skipped, 5);
    assert_eq!(names(&skip.target.join("a directory")), ["new", "old"]);
    assert_eq!(read(&skip, "b file"), "in the target");
    assert_eq!(read(&skip, "f first"), "in the target");
    // The second name of a file whose first was left out is a file of its own.
    assert_eq!(read(&skip, "g second"), "linked");

    let replace = places();
    let archive = build(&replace);
    let report = try_extract(&archive, &replace.target, &with(ConflictPolicy::Replace, true)).unwrap();
    // A directory with something in it is not removed for a file.
    assert_eq!(losses(&report), [("d file".to_string(), LossKind::Conflict)]);
    assert_eq!(report.replaced, 4);
    assert_eq!(read(&replace, "b file"), "from the archive");
    assert_eq!(read(&replace, "e directory/inside"), "x");
    assert_eq!(fs::metadata(replace.target.join("g second")).unwrap().nlink(), 2);

    let rename = places();
    let archive = build(&rename);
    let report = extract_clean(&archive, &rename.target, &with(ConflictPolicy::Rename, true));
    assert_eq!(report.renamed.len(), 5);
    assert_eq!(read(&rename, "b file"), "in the target");
    assert_eq!(read(&rename, "b file.restored"), "from the archive");
    assert_eq!(read(&rename, "e directory.restored/inside"), "x");
    let (first, second) = (
        rename.target.join("f first.restored"),
        rename.target.join("g second"),
    );
    assert_eq!(
        fs::metadata(first).unwrap().ino(),
        fs::metadata(second).unwrap().ino()
    );
    // Again: what has another name by now is known to be complete.
    let again = extract_clean(&archive, &rename.target, &with(ConflictPolicy::Rename, true));
    assert_eq!(again.files, 0, "{again:?}");

    let fail = places();
    let archive = build(&fail);
    let result = try_extract(&archive, &fail.target, &with(ConflictPolicy::Fail, true));
    assert!(
        matches!(&result, Err(RestoreError::Exists { path }) if path == b"b file"),
        "{result:?}"
    );
    no_temporaries(&fail.target);
}

#[test]
fn without_resume_nothing_that_exists_is_trusted() {
    let Places {
        _scratch,
        source,
        target,
        ..
    } = places();
    fs::write(source.join("file"), "content").unwrap();
    let (archive, _) = capture_clean(&source, None);
    extract_clean(&archive, &target, &ExtractOptions::default());
    // Damage that leaves size and time as they were.
    let time = tree::time_of(&target.join("file"));
    fs::write(target.join("file"), "CONTENT").unwrap();
    tree::set_time(&target.join("file"), time.secs, time.nanos);
    let report = extract_clean(&archive, &target, &with(ConflictPolicy::Replace, true));
    assert_eq!((report.complete, report.replaced), (1, 0));
    let report = extract_clean(&archive, &target, &with(ConflictPolicy::Replace, false));
    assert_eq!((report.complete, report.replaced), (0, 1));
    assert_same(&source, &target);
}

#[test]
fn a_cancelled_restore_leaves_nothing_half_done_and_goes_on() {
    let Places {
        _scratch,
        source,
        target,
        ..
    } = places();
    for file in 0..200 {
        fs::write(
            source.join(format!("{file:03}")),
            tree::noise(file, if file % 10 == 0 { 400_000 } else { 300 }),
        )
        .unwrap();
    }
    let (archive, _) = capture_clean(&source, None);
    let (cancel, progress) = (AtomicBool::new(false), Progress::default());
    let acting = Acting {
        archive: &archive,
        content: &|count| {
            if count == 110 {
                cancel.store(true, Ordering::Relaxed);
            }
            Ok(())
        },
        metadata: &|_| {},
        opened: Cell::default(),
    };
    let result = extract(&acting, &target, &ExtractOptions::default(), &progress, &cancel);
    assert!(matches!(result, Err(RestoreError::Cancelled)));
    no_temporaries(&target);
    let done = names(&target);
    assert!(!done.is_empty() && done.len() <= 110);
    for name in &done {
        assert_eq!(
            fs::read(source.join(name)).unwrap(),
            fs::read(target.join(name)).unwrap()
        );
    }
    // What a killed run leaves besides.
    fs::write(target.join(".relight-restore.00000000.7"), "half").unwrap();
    let report = extract_clean(&archive, &target, &ExtractOptions::default());
    assert_eq!(
        (report.complete, report.files),
        (done.len() as u64, 200 - done.len() as u64)
    );
    assert_same(&source, &target);
}

#[test]
fn contents_that_cannot_be_had_are_told_and_the_rest_is_restored() {
    let Places {
        _scratch,
        source,
        target,
        ..
    } = places();
    fs::write(source.join("a"), "a").unwrap();
    fs::write(source.join("b"), tree::noise(1, 500_000)).unwrap();
    fs::write(source.join("c"), "c").unwrap();
    fs::hard_link(source.join("c"), source.join("c link")).unwrap();
    fs::write(source.join("d"), "d").unwrap();
    let (mut archive, _) = capture_clean(&source, None);
    let lost = Acting {
        archive: &archive,
        content: &|count| {
            if count == 1 || count == 2 {
                Err(io::Error::other("the chunk is lost"))
            } else {
                Ok(())
            }
        },
        metadata: &|_| {},
        opened: Cell::default(),
    };
    let report = extract(
        &lost,
        &target,
        &ExtractOptions::default(),
        &Progress::default(),
        &AtomicBool::new(false),
    )
    .unwrap();
    let content = |path: &str| (path.to_string(), LossKind::Content);
    assert_eq!(losses(&report), [content("b"), content("c")]);
    // The link finds no first name, and gets the content itself when it is asked for once more.
    assert_eq!(names(&target), ["a", "c link", "d"]);
    no_temporaries(&target);

    // A payload stream that holds something else is noticed by the headers before each content.
    archive.payload = {
        let mut other = Payload::default();
        other.write(&vec![0; archive.payload.size() as usize]);
        other
    };
    let elsewhere = tempfile::tempdir().unwrap();
    let report = try_extract(&archive, elsewhere.path(), &ExtractOptions::default()).unwrap();
    assert_eq!(report.files, 0);
    assert!(names(elsewhere.path()).is_empty());
}

#[test]
fn what_is_read_back_is_compared() {
    let Places {
        _scratch,
        source,
        target,
        ..
    } = places();
    fs::create_dir(source.join("directory")).unwrap();
    for file in ["a", "b", "directory/c", "directory/d"] {
        fs::write(source.join(file), tree::noise(file.len() as u64, 70_000)).unwrap();
    }
    fs::write(source.join("large"), tree::noise(3, 2_000_000)).unwrap();
    let (archive, _) = capture_clean(&source, None);
    let damaged = target.join("directory/c");
    let acting = Acting {
        archive: &archive,
        content: &|_| Ok(()),
        // The second time, all is written and about to be verified.
        metadata: &|count| {
            if count == 1 {
                let mut content = fs::read(&damaged).unwrap();
                content[50_000] ^= 1;
                fs::write(&damaged, content).unwrap();
            }
        },
        opened: Cell::default(),
    };
    let options = ExtractOptions {
        verify: true,
        ..ExtractOptions::default()
    };
    let report = extract(
        &acting,
        &target,
        &options,
        &Progress::default(),
        &AtomicBool::new(false),
    )
    .unwrap();
    assert_eq!(
        losses(&report),
        [("directory/c".to_string(), LossKind::Verification)]
    );
    assert_eq!(report.verified, 4);
}

#[test]
fn selected_paths_are_restored_by_either_reader() {
    let Places { _scratch, source, .. } = places();
    for directory in ["etc/ssh/keys", "etc/other", "home/user", "var"] {
        fs::create_dir_all(source.join(directory)).unwrap();
        fs::write(source.join(directory).join("file"), directory).unwrap();
    }
    fs::write(source.join("etc/first"), tree::noise(1, 300_000)).unwrap();
    fs::hard_link(source.join("etc/first"), source.join("home/user/second")).unwrap();
    fs::hard_link(source.join("etc/first"), source.join("home/user/third")).unwrap();
    fs::set_permissions(source.join("etc"), fs::Permissions::from_mode(0o711)).unwrap();
    tree::set_time(&source.join("etc"), 1_000_000_000, 5);
    let (mut archive, _) = capture_clean(&source, None);
    for random in [false, true] {
        archive.random = random;
        let target = tempfile::tempdir().unwrap();
        let target = target.path();
        let options = ExtractOptions {
            selection: Selection::paths(["etc/ssh/", "/home/user", "var/missing", "nowhere/at/all"]),
            verify: true,
            ..ExtractOptions::default()
        };
        let report = extract_clean(&archive, target, &options);
        assert_eq!(report.not_found, [&b"nowhere/at/all"[..], b"var/missing"]);
        assert_eq!(names(target), ["etc", "home"]);
        assert_eq!(names(&target.join("etc")), ["ssh"]);
        // Directories on the way look like the original.
        assert_eq!(fs::metadata(target.join("etc")).unwrap().mode() & 0o7777, 0o711);
        assert_eq!(tree::time_of(&target.join("etc")).secs, 1_000_000_000);
        assert_same(&source.join("etc/ssh"), &target.join("etc/ssh"));
        // The first name of the links is not among the wanted; they are linked to each other.
        let [second, third] = ["second", "third"].map(|name| target.join("home/user").join(name));
        assert_eq!(fs::read(&second).unwrap(), tree::noise(1, 300_000));
        assert_eq!(
            fs::metadata(second).unwrap().ino(),
            fs::metadata(third).unwrap().ino()
        );
        assert_eq!(
            tree::time_of(&target.join("home/user")),
            tree::time_of(&source.join("home/user"))
        );
        assert_eq!(report.verified, report.files);

        let one = tempfile::tempdir().unwrap();
        let options = ExtractOptions {
            selection: Selection::paths(["etc/ssh/keys/file"]),
            ..ExtractOptions::default()
        };
        let report = extract_clean(&archive, one.path(), &options);
        assert_eq!((report.files, report.directories), (1, 3));
        assert_eq!(
            fs::read(one.path().join("etc/ssh/keys/file")).unwrap(),
            b"etc/ssh/keys"
        );
    }
}

#[test]
fn without_privileges_what_belongs_to_others_is_told() {
    if !is_root() {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    fs::set_permissions(scratch.path(), fs::Permissions::from_mode(0o777)).unwrap();
    let source = scratch.path().join("source");
    fs::create_dir(&source).unwrap();
    fs::write(source.join("roots"), "x").unwrap();
    fs::write(source.join("own"), "x").unwrap();
    fs::write(source.join("setuid"), "x").unwrap();
    fs::set_permissions(source.join("setuid"), fs::Permissions::from_mode(0o4755)).unwrap();
    tree::node(
        &source.join("device"),
        rustix::fs::FileType::CharacterDevice,
        rustix::fs::makedev(1, 3),
    );
    std::os::unix::fs::chown(source.join("own"), Some(65534), Some(65534)).unwrap();
    std::os::unix::fs::chown(&source, Some(65534), Some(65534)).unwrap();
    fs::create_dir(source.join("closed")).unwrap();
    fs::write(source.join("closed/file"), "x").unwrap();
    for path in ["closed/file", "closed"] {
        std::os::unix::fs::chown(source.join(path), Some(65534), Some(65534)).unwrap();
    }
    fs::set_permissions(source.join("closed"), fs::Permissions::from_mode(0o500)).unwrap();
    let (archive, _) = capture_clean(&source, None);
    let target = scratch.path().join("target");
    let run = || as_nobody(|| try_extract(&archive, &target, &ExtractOptions::default()).unwrap());
    let report = run();
    let owner = |path: &str| (path.to_string(), LossKind::Metadata(Part::Owner));
    assert_eq!(
        losses(&report),
        [
            ("device".to_string(), LossKind::Object),
            owner("roots"),
            owner("setuid"),
            ("setuid".to_string(), LossKind::Metadata(Part::Mode)),
        ]
    );
    // A program of root's does not become one of the user who restored it.
    assert_eq!(
        fs::metadata(target.join("setuid")).unwrap().mode() & 0o7777,
        0o755
    );
    assert_eq!(fs::metadata(target.join("own")).unwrap().uid(), 65534);
    // Again, into a directory that may not even be written to by now.
    fs::remove_file(target.join("closed/file")).unwrap();
    let report = run();
    assert_eq!((report.files, report.complete), (1, 3));
    assert_eq!(
        fs::metadata(target.join("closed")).unwrap().mode() & 0o7777,
        0o500
    );
}

#[test]
fn nothing_is_inherited_from_the_target() {
    let Places {
        _scratch,
        source,
        target,
        ..
    } = places();
    fs::create_dir_all(source.join("directory/inner")).unwrap();
    fs::write(source.join("directory/inner/file"), "x").unwrap();
    fs::write(source.join("file"), "x").unwrap();
    let (archive, _) = capture_clean(&source, None);
    let default = DefaultAcl {
        user_obj: Some(7),
        group_obj: Some(7),
        other: Some(7),
        mask: Some(7),
        users: vec![(4711, 7)],
        groups: Vec::new(),
    };
    let acl = Acl {
        default: Some(default),
        ..Acl::default()
    };
    fs::create_dir(target.join("directory")).unwrap();
    for path in [&target, &target.join("directory")] {
        assert!(
            tree::set_metadata(
                path,
                &Metadata {
                    mode: 0o042_777,
                    acl: acl.clone(),
                    ..Metadata::default()
                }
            )
            .is_empty()
        );
        rustix::fs::setxattr(path, "user.extra", b"1", rustix::fs::XattrFlags::empty()).unwrap();
    }
    extract_clean(&archive, &target, &ExtractOptions::default());
    assert_same(&source, &target);
}

#[test]
fn a_full_target_ends_the_restore() {
    let Places {
        _scratch,
        source,
        target,
        ..
    } = places();
    for file in 0..40 {
        fs::write(source.join(format!("{file}")), tree::noise(file, 100_000)).unwrap();
    }
    let (archive, _) = capture_clean(&source, None);
    let mounted = Command::new("mount")
        .args(["-t", "tmpfs", "-o", "size=1m", "tmpfs"])
        .arg(&target)
        .status();
    if !mounted.is_ok_and(|status| status.success()) {
        eprintln!("mounting is not permitted here: not tested");
        return;
    }
    let result = try_extract(&archive, &target, &ExtractOptions::default());
    let left = names(&target).len();
    no_temporaries(&target);
    Command::new("umount").arg("-l").arg(&target).status().unwrap();
    assert!(matches!(result, Err(RestoreError::Target { .. })), "{result:?}");
    assert!((1..40).contains(&left));
}

#[test]
fn archives_of_version_1_are_restored() {
    let Places { _scratch, target, .. } = places();
    let mut encoder = Encoder::new_v1(Vec::new(), &of_mode(DIRECTORY)).unwrap();
    let large = tree::noise(1, 1_000_000);
    encoder
        .add_file(b"large", &of_mode(FILE), large.len() as u64, &mut &large[..])
        .unwrap();
    let small = encoder
        .add_file(b"small", &of_mode(FILE), 5, &mut &b"small"[..])
        .unwrap();
    encoder
        .add_hardlink(b"the same", b"small", small.position)
        .unwrap();
    let archive = MemoryArchive {
        metadata: encoder.finish().unwrap(),
        ..MemoryArchive::default()
    };
    extract_clean(
        &archive,
        &target,
        &ExtractOptions {
            verify: true,
            ..ExtractOptions::default()
        },
    );
    assert_eq!(fs::read(target.join("large")).unwrap(), large);
    assert_eq!(fs::read(target.join("the same")).unwrap(), b"small");
    assert_same_as_archive(&archive, &target);
    let only = tempfile::tempdir().unwrap();
    let options = ExtractOptions {
        selection: Selection::paths(["the same"]),
        ..ExtractOptions::default()
    };
    let archive = Counted {
        bytes: archive.metadata,
        read: AtomicU64::new(0),
    };
    let progress = Progress::default();
    let report = extract(
        &archive,
        only.path(),
        &options,
        &progress,
        &AtomicBool::new(false),
    )
    .unwrap();
    assert!(report.losses.is_empty() && report.not_found.is_empty());
    assert_eq!(
        (report.files, names(only.path())),
        (1, vec!["the same".to_string()])
    );
    assert_eq!(fs::read(only.path().join("the same")).unwrap(), b"small");
    // The large file before it was passed over.
    assert!(archive.read.load(Ordering::Relaxed) < 10_000);
}

/// Version 1 with random access only, which is counted.
struct Counted {
    bytes: Vec<u8>,
    read: AtomicU64,
}

impl ReadAt for Counted {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> std::io::Result<()> {
        self.read.fetch_add(buffer.len() as u64, Ordering::Relaxed);
        self.bytes.read_exact_at(buffer, offset)
    }

    fn size(&self) -> u64 {
        self.bytes.size()
    }
}

impl ArchiveSource for Counted {
    fn metadata(&self) -> std::io::Result<Box<dyn ArchiveStream + '_>> {
        panic!("the archive is read from its beginning");
    }

    fn content(&self) -> std::io::Result<Box<dyn ContentSource + '_>> {
        Err(std::io::ErrorKind::Unsupported.into())
    }

    fn random_access(&self) -> Option<&dyn ReadAt> {
        Some(self)
    }
}

#[test]
fn archives_of_the_original_are_restored() {
    if !is_root() {
        return;
    }
    let target = tempfile::tempdir().unwrap();
    let archive = MemoryArchive {
        metadata: include_bytes!("fixtures/tree.pxar").to_vec(),
        ..MemoryArchive::default()
    };
    extract_clean(
        &archive,
        target.path(),
        &ExtractOptions {
            verify: true,
            ..ExtractOptions::default()
        },
    );
    assert_same_as_archive(&archive, target.path());
}
