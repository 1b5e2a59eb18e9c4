//! What a capture does in a tree that is being changed, was captured before, or may not be read.
#![allow(clippy::unwrap_used)]

mod fs_support;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::ops::Range;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::AtomicBool;

use fs_support::*;
use relight_pxar::exclude::Pattern;
use relight_pxar::fs::capture::{
    CaptureError, CaptureOptions, CaptureReport, Previous, ProblemKind, capture,
};
use relight_pxar::fs::compare::{CompareOptions, compare_archive};
use relight_pxar::fs::extract::ExtractOptions;
use relight_pxar::fs::progress::Progress;
use relight_pxar::fs::sink::{ArchiveSink, PayloadError};
use relight_pxar::{Decoder, Event};

/// Does something to the tree when the content of some file begins.
struct Hook<'a, F> {
    inner: MemorySink<'a>,
    /// Files begun so far.
    begun: u32,
    act: F,
}

impl<F: FnMut(u32)> ArchiveSink for Hook<'_, F> {
    fn write_metadata(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.inner.write_metadata(bytes)
    }
    fn write_stat(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.inner.write_stat(bytes)
    }
    fn payload_position(&mut self) -> io::Result<u64> {
        self.inner.payload_position()
    }
    fn start_file(&mut self, _size: u64) -> io::Result<()> {
        self.begun += 1;
        (self.act)(self.begun);
        Ok(())
    }
    fn write_payload(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.inner.write_payload(bytes)
    }
    fn read_payload_from(&mut self, file: &File, max: usize) -> Result<usize, PayloadError> {
        self.inner.read_payload_from(file, max.min(1000))
    }
    fn reuse_payload(&mut self, old: Range<u64>) -> io::Result<Option<u64>> {
        self.inner.reuse_payload(old)
    }
}

fn capture_with_hook(root: &Path, act: impl FnMut(u32)) -> (MemoryArchive, CaptureReport) {
    let mut sink = Hook {
        inner: MemorySink::default(),
        begun: 0,
        act,
    };
    let options = CaptureOptions::default();
    let report = capture(
        root,
        &options,
        None,
        &mut sink,
        &Progress::default(),
        &AtomicBool::new(false),
    )
    .unwrap();
    (sink.inner.archive, report)
}

fn problems(report: &CaptureReport) -> Vec<(String, ProblemKind)> {
    report
        .problems
        .iter()
        .map(|p| (String::from_utf8_lossy(&p.path).into_owned(), p.kind.clone()))
        .collect()
}

/// Paths of all entries but the root.
fn paths(archive: &MemoryArchive) -> Vec<String> {
    let mut decoder = Decoder::new(archive.metadata.as_slice()).unwrap();
    let mut paths = Vec::new();
    while let Some(event) = decoder.next().unwrap() {
        if let Event::Entry(entry) = event {
            paths.push(String::from_utf8_lossy(entry.path).into_owned());
        }
    }
    paths.remove(0);
    paths
}

fn scratch() -> (tempfile::TempDir, PathBuf) {
    let scratch = tempfile::tempdir().unwrap();
    let root = scratch.path().join("source");
    fs::create_dir(&root).unwrap();
    (scratch, root)
}

#[test]
fn only_what_changed_is_read() {
    let (scratch, root) = scratch();
    for directory in ["a", "b", "b/inner", "c", "gone", "gone/inner"] {
        fs::create_dir(root.join(directory)).unwrap();
        for file in 0..20 {
            fs::write(
                root.join(directory).join(format!("{file}")),
                tree::noise(file, 500 * file as usize),
            )
            .unwrap();
        }
    }
    fs::hard_link(root.join("a/5"), root.join("c/linked")).unwrap();
    fs::hard_link(root.join("b/7"), root.join("b/other")).unwrap();
    symlink("target", root.join("a/link")).unwrap();
    let (mut first, report) = capture_clean(&root, None);
    assert_eq!(report.counts.files, 120);
    age(&mut first);

    fs::write(root.join("a/3"), "new content").unwrap();
    OpenOptions::new()
        .append(true)
        .open(root.join("b/inner/4"))
        .unwrap()
        .write_all(b"more")
        .unwrap();
    // The same size and time, other content: the change time tells.
    let time = tree::time_of(&root.join("c/6"));
    fs::write(root.join("c/6"), tree::noise(99, 3000)).unwrap();
    tree::set_time(&root.join("c/6"), time.secs, time.nanos);
    fs::set_permissions(root.join("c/8"), fs::Permissions::from_mode(0o600)).unwrap();
    fs::remove_dir_all(root.join("gone")).unwrap();
    fs::remove_file(root.join("a/0")).unwrap();
    fs::remove_file(root.join("a/link")).unwrap();
    fs::create_dir(root.join("a/link")).unwrap();
    fs::write(root.join("a/link/file"), "x").unwrap();
    fs::remove_file(root.join("a/5")).unwrap();
    fs::rename(root.join("b/9"), root.join("b/renamed")).unwrap();
    fs::create_dir(root.join("aa")).unwrap();
    fs::write(root.join("aa/new"), "new").unwrap();
    fs::remove_file(root.join("b/10")).unwrap();
    symlink("11", root.join("b/10")).unwrap();

    let (second, report) = capture_clean(&root, Some(&first));
    assert_same_as_archive(&second, &root);
    // a/3, b/inner/4, c/6, c/8, a/link/file, aa/new, c/linked (its link count changed), b/renamed
    assert_eq!(report.counts.files - report.unchanged_files, 8);
    let read: u64 = 11 + 2004 + 3000 + 4000 + 1 + 3 + 2500 + 4500;
    assert_eq!(report.bytes_read, read);
    let target = scratch.path().join("target");
    extract_clean(&second, &target, &ExtractOptions::default());
    assert_same(&root, &target);
}

#[test]
fn files_of_lost_chunks_are_read_again() {
    let (_scratch, root) = scratch();
    for file in 0..50 {
        fs::write(root.join(format!("{file}")), tree::noise(file, 10_000)).unwrap();
    }
    let (mut first, _) = capture_clean(&root, None);
    age(&mut first);
    let lost = std::iter::once(100_000..110_000).collect();
    let mut sink = MemorySink {
        previous: Some(&first),
        lost,
        ..MemorySink::default()
    };
    let report = try_capture_into(&root, &CaptureOptions::default(), &mut sink).unwrap();
    assert!(
        (1..=3).contains(&(50 - report.unchanged_files)),
        "{}",
        report.unchanged_files
    );
    assert_same_as_archive(&sink.archive, &root);
}

#[test]
fn changes_close_to_the_previous_capture_are_not_trusted() {
    let (_scratch, root) = scratch();
    fs::write(root.join("file"), "content").unwrap();
    let (first, _) = capture_clean(&root, None);
    let (_, report) = capture_clean(&root, Some(&first));
    assert_eq!(report.unchanged_files, 0);
}

#[test]
fn a_damaged_previous_archive_costs_only_time() {
    let (_scratch, root) = scratch();
    for file in 0..2000 {
        fs::write(root.join(format!("{file:04}")), "content").unwrap();
    }
    let (mut whole, _) = capture_clean(&root, None);
    age(&mut whole);
    let mut truncated = whole.clone();
    truncated.metadata.truncate(100_000);
    let mut garbage = whole.clone();
    garbage.metadata[50_000..60_000].fill(0xaa);
    let mut short_stats = whole.clone();
    short_stats.stats.truncate(30_000);
    let mut no_stats = whole.clone();
    no_stats.stats.clear();
    for (previous, some) in [
        (truncated, true),
        (garbage, true),
        (short_stats, true),
        (no_stats, false),
    ] {
        let mut sink = MemorySink {
            previous: Some(&previous),
            ..MemorySink::default()
        };
        let report = try_capture_into(&root, &CaptureOptions::default(), &mut sink).unwrap();
        assert!(report.previous_lost.is_some() && report.problems.is_empty());
        assert_eq!(report.unchanged_files > 0, some);
        assert_same_as_archive(&sink.archive, &root);
    }
}

#[test]
fn files_that_change_while_they_are_read_are_told_and_read_again() {
    let (_scratch, root) = scratch();
    for file in ["1 grows", "2 shrinks", "3 rewritten", "4 steady"] {
        fs::write(root.join(file), tree::noise(1, 5000)).unwrap();
    }
    let (mut archive, report) = capture_with_hook(&root, |begun| match begun {
        1 => OpenOptions::new()
            .append(true)
            .open(root.join("1 grows"))
            .unwrap()
            .write_all(b"more")
            .unwrap(),
        2 => OpenOptions::new()
            .write(true)
            .open(root.join("2 shrinks"))
            .unwrap()
            .set_len(1500)
            .unwrap(),
        3 => fs::write(root.join("3 rewritten"), tree::noise(2, 5000)).unwrap(),
        _ => {}
    });
    let changed = ProblemKind::ChangedWhileRead;
    assert_eq!(
        problems(&report),
        [
            ("1 grows", &changed),
            ("2 shrinks", &changed),
            ("3 rewritten", &changed)
        ]
        .map(|(path, kind)| (path.to_string(), kind.clone()))
    );
    // The archive is whole all the same, the missing part of the second being zeros.
    let target = tempfile::tempdir().unwrap();
    extract_clean(&archive, target.path(), &ExtractOptions::default());
    assert_eq!(
        fs::read(target.path().join("1 grows")).unwrap(),
        tree::noise(1, 5000)
    );
    let shrunk = fs::read(target.path().join("2 shrinks")).unwrap();
    assert!(
        shrunk.len() == 5000
            && shrunk[..1500] == tree::noise(1, 1500)
            && shrunk[1500..].iter().all(|&b| b == 0)
    );
    // However old the record grows, these are not taken for unchanged.
    age(&mut archive);
    let (archive, report) = capture_clean(&root, Some(&archive));
    assert_eq!(report.unchanged_files, 1);
    assert_same_as_archive(&archive, &root);
}

#[test]
fn what_vanishes_or_changes_its_kind_is_told() {
    let (_scratch, root) = scratch();
    fs::write(root.join("1 first"), "x").unwrap();
    fs::write(root.join("2 file"), "x").unwrap();
    fs::create_dir(root.join("3 directory")).unwrap();
    fs::write(root.join("4 becomes a link"), "x").unwrap();
    fs::create_dir(root.join("5 becomes a file")).unwrap();
    fs::write(root.join("6 becomes a pipe"), "x").unwrap();
    fs::write(root.join("7 last"), "x").unwrap();
    let (archive, report) = capture_with_hook(&root, |begun| {
        if begun == 1 {
            fs::remove_file(root.join("2 file")).unwrap();
            fs::remove_dir(root.join("3 directory")).unwrap();
            fs::remove_file(root.join("4 becomes a link")).unwrap();
            symlink("/etc/passwd", root.join("4 becomes a link")).unwrap();
            fs::remove_dir(root.join("5 becomes a file")).unwrap();
            fs::write(root.join("5 becomes a file"), "y").unwrap();
            fs::remove_file(root.join("6 becomes a pipe")).unwrap();
            tree::node(&root.join("6 becomes a pipe"), rustix::fs::FileType::Fifo, 0);
        }
    });
    let vanished = |path: &str| (path.to_string(), ProblemKind::Vanished);
    assert_eq!(problems(&report), [vanished("2 file"), vanished("3 directory")]);
    assert_eq!(
        paths(&archive),
        [
            "1 first",
            "4 becomes a link",
            "5 becomes a file",
            "6 becomes a pipe",
            "7 last"
        ]
    );
    // The root itself has got another time since.
    let options = CompareOptions {
        roots: false,
        ..CompareOptions::default()
    };
    let (progress, cancel) = (Progress::default(), AtomicBool::new(false));
    assert!(
        compare_archive(&archive, &root, &options, &progress, &cancel)
            .unwrap()
            .is_equal()
    );
}

#[test]
fn what_may_not_be_read_is_told_and_the_rest_is_archived() {
    let (scratch, root) = scratch();
    fs::write(root.join("open"), "x").unwrap();
    fs::write(root.join("secret"), "x").unwrap();
    fs::create_dir(root.join("closed")).unwrap();
    fs::write(root.join("closed/hidden"), "x").unwrap();
    for (path, mode) in [("secret", 0), ("closed", 0), ("", 0o755), ("../", 0o755)] {
        fs::set_permissions(root.join(path), fs::Permissions::from_mode(mode)).unwrap();
    }
    let (archive, report) = as_nobody(|| {
        let mut sink = MemorySink::default();
        let report = try_capture_into(&root, &CaptureOptions::default(), &mut sink).unwrap();
        (sink.archive, report)
    });
    let unreadable = |path: &str| (path.to_string(), ProblemKind::Unreadable);
    assert_eq!(problems(&report), [unreadable("closed"), unreadable("secret")]);
    assert_eq!(paths(&archive), ["closed", "open"]);
    fs::set_permissions(root.join("closed"), fs::Permissions::from_mode(0o700)).unwrap();
    drop(scratch);
}

#[test]
fn patterns_leave_out_and_unmatched_ones_are_told() {
    let (_scratch, root) = scratch();
    for directory in ["src/target", "cache", "home/a"] {
        fs::create_dir_all(root.join(directory)).unwrap();
    }
    for file in [
        "src/a.o",
        "src/a.c",
        "src/target/x",
        "cache/y",
        "home/a/z.tmp",
        "home/a/keep.tmp",
        "home/b.o",
    ] {
        fs::write(root.join(file), file).unwrap();
    }
    fs::write(root.join("src/.pxarexclude"), "# built\n*.o\ntarget/\n[\n").unwrap();
    let exclude = ["*.tmp", "!keep.tmp", "/cache", "never-there"];
    let options = CaptureOptions {
        exclude: exclude
            .iter()
            .map(|pattern| Pattern::parse(pattern.as_bytes()).unwrap())
            .collect(),
        ..CaptureOptions::default()
    };
    let mut sink = MemorySink::default();
    let report = try_capture_into(&root, &options, &mut sink).unwrap();
    assert_eq!(
        paths(&sink.archive),
        [
            "home",
            "home/a",
            "home/a/keep.tmp",
            "home/b.o",
            "src",
            "src/.pxarexclude",
            "src/a.c"
        ]
    );
    assert_eq!(report.unmatched_patterns, ["never-there"]);
    assert_eq!(report.excluded, 4);
    assert_eq!(problems(&report), [("src".to_string(), ProblemKind::ExcludeFile)]);

    let options = CaptureOptions {
        exclude_files: false,
        ..CaptureOptions::default()
    };
    let mut sink = MemorySink::default();
    try_capture_into(&root, &options, &mut sink).unwrap();
    assert_same_as_archive(&sink.archive, &root);
}

#[test]
fn patterns_may_change_from_one_capture_to_the_next() {
    let (_scratch, root) = scratch();
    for directory in ["a", "b", "c"] {
        fs::create_dir(root.join(directory)).unwrap();
        fs::write(root.join(directory).join("file"), directory).unwrap();
    }
    let with = |pattern: &str, previous: Option<&MemoryArchive>| {
        let exclude = vec![Pattern::parse(pattern.as_bytes()).unwrap()];
        let mut sink = MemorySink {
            previous,
            ..MemorySink::default()
        };
        let options = CaptureOptions {
            exclude,
            ..CaptureOptions::default()
        };
        let report = try_capture_into(&root, &options, &mut sink).unwrap();
        age(&mut sink.archive);
        (sink.archive, report)
    };
    let (first, _) = with("/b", None);
    let (second, report) = with("/c", Some(&first));
    assert_eq!(paths(&second), ["a", "a/file", "b", "b/file"]);
    assert_eq!(report.unchanged_files, 1);
}

/// Something mounted for the time of a test.
struct Mount(PathBuf);

impl Mount {
    fn new(arguments: &[&str], place: &Path) -> Option<Self> {
        let done = Command::new("mount")
            .args(arguments)
            .arg(place)
            .status()
            .is_ok_and(|status| status.success());
        done.then(|| Self(place.to_path_buf()))
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg("-l").arg(&self.0).status();
    }
}

#[test]
fn mounts_are_crossed_only_on_request() {
    let (_scratch, root) = scratch();
    for directory in ["bind", "own", "proc", "tmpfs"] {
        fs::create_dir(root.join(directory)).unwrap();
    }
    fs::write(root.join("own/file"), "x").unwrap();
    let own = root.join("own");
    let mounts = [
        Mount::new(&["-t", "tmpfs", "tmpfs"], &root.join("tmpfs")),
        Mount::new(&["--bind", own.to_str().unwrap()], &root.join("bind")),
        Mount::new(&["-t", "proc", "proc"], &root.join("proc")),
    ];
    if mounts.iter().any(Option::is_none) {
        eprintln!("mounting is not permitted here: not tested");
        return;
    }
    fs::write(root.join("tmpfs/file"), "y").unwrap();
    let (archive, report) = capture_clean(&root, None);
    assert_eq!(paths(&archive), ["bind", "own", "own/file", "proc", "tmpfs"]);
    assert_eq!(report.mount_points, [&b"bind"[..], b"proc", b"tmpfs"]);

    let options = CaptureOptions {
        one_file_system: false,
        ..CaptureOptions::default()
    };
    let mut sink = MemorySink::default();
    let report = try_capture_into(&root, &options, &mut sink).unwrap();
    assert_eq!(
        paths(&sink.archive),
        [
            "bind",
            "bind/file",
            "own",
            "own/file",
            "proc",
            "tmpfs",
            "tmpfs/file"
        ]
    );
    assert_eq!(report.mount_points, [b"proc"]);
    assert!(report.problems.is_empty());
}

#[test]
fn a_single_file_is_an_archive_of_one_entry() {
    let (scratch, root) = scratch();
    fs::write(root.join("file"), "content").unwrap();
    fs::write(root.join("other"), "content").unwrap();
    symlink("source/file", scratch.path().join("link")).unwrap();
    for path in [root.join("file"), scratch.path().join("link")] {
        let (archive, report) = capture_clean(&path, None);
        assert_eq!(paths(&archive), ["file"]);
        assert_eq!(report.bytes, 7);
    }
    let missing = try_capture_into(
        &root.join("missing"),
        &CaptureOptions::default(),
        &mut MemorySink::default(),
    );
    assert!(matches!(missing, Err(CaptureError::Root { .. })), "{missing:?}");
}

#[test]
fn a_capture_can_be_cancelled_and_shows_how_far_it_is() {
    let (_scratch, root) = scratch();
    for file in 0..10 {
        fs::write(root.join(format!("{file}")), tree::noise(file, 5000)).unwrap();
    }
    let (cancel, progress) = (AtomicBool::new(false), Progress::default());
    let act = |begun| cancel.store(begun == 5, std::sync::atomic::Ordering::Relaxed);
    let mut sink = Hook {
        inner: MemorySink::default(),
        begun: 0,
        act,
    };
    let result = capture(
        &root,
        &CaptureOptions::default(),
        None::<Previous>,
        &mut sink,
        &progress,
        &cancel,
    );
    assert!(matches!(result, Err(CaptureError::Cancelled)));
    assert_eq!(progress.files.into_inner(), 4);
    assert_eq!(progress.bytes.load(std::sync::atomic::Ordering::Relaxed), 20_000);
}
