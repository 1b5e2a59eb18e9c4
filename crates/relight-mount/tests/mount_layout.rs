//! What a mount looks like, how it follows the repository, and how it ends.
#![allow(clippy::unwrap_used)]

mod common;

use std::fs::{self, File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use common::tree::noise;
use common::{Lab, names, run};
use relight_mount::mount::End;
use relight_mount::{MountError, MountOptions};

#[track_caller]
fn wait_until(what: &str, condition: impl Fn() -> bool) {
    let until = Instant::now() + Duration::from_secs(20);
    while !condition() {
        assert!(Instant::now() < until, "{what}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn snapshots_are_found_by_workload_and_by_id_and_follow_the_repository() {
    common::require_fuse();
    let lab = Lab::new();
    let source = lab.folder("etc");
    fs::write(source.join("passwd"), "root").unwrap();
    fs::write(lab.path("disk"), noise(1, 9_000_001)).unwrap();
    let first = lab.save_tree("lab/host/web01", &source);
    let mounted = lab.mount();
    let root = mounted.path();
    assert_eq!(names(root), ["by-id", "by-workload", "latest"]);
    assert_eq!(names(&root.join("by-id")), [first.id.short()]);
    let workload = root.join("by-workload/lab/host/web01");
    let time = first.time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    assert_eq!(names(&workload), [time.clone(), "latest".into()]);
    assert_eq!(fs::read_link(workload.join("latest")).unwrap(), Path::new(&time));
    assert_eq!(names(&workload.join(&time)), ["etc"]);
    for way in [
        format!("by-workload/lab/host/web01/{time}"),
        format!("by-id/{}", first.id.short()),
        "latest".into(),
    ] {
        assert_eq!(
            fs::read_to_string(root.join(way).join("etc/passwd")).unwrap(),
            "root"
        );
    }
    let snapshot = fs::metadata(workload.join(&time)).unwrap();
    assert_eq!(snapshot.mtime(), first.time.as_second());

    // A new snapshot appears without a new mount, a forgotten one vanishes.
    let second = lab.save_images("vm/100", &[("disk", &lab.path("disk"))]);
    let shown = root.join("by-id").join(second.id.short());
    wait_until("the new snapshot appears", || shown.exists());
    assert_eq!(names(&root.join("by-workload")), ["lab", "vm"]);
    assert!(fs::read(root.join("by-workload/vm/100/latest/disk.img")).unwrap() == noise(1, 9_000_001));
    assert!(fs::read(root.join("latest/disk.img")).is_ok());
    let third = lab.save_stream("pg/dump", "dump.sql", b"select 1;");
    wait_until("the stream appears", || {
        root.join("by-workload/pg/dump/latest/dump.sql").exists()
    });
    assert_eq!(fs::read(root.join("latest/dump.sql")).unwrap(), b"select 1;");
    lab.open().forget(third.id).unwrap();
    wait_until("the forgotten snapshot vanishes", || {
        !root.join("by-workload/pg").exists()
    });
    wait_until("the link goes back", || root.join("latest/disk.img").exists());
}

#[test]
fn nothing_can_be_changed_and_whole_images_are_private() {
    common::require_fuse();
    let lab = Lab::new();
    let source = lab.folder("etc");
    fs::write(source.join("passwd"), "root").unwrap();
    fs::write(lab.path("disk"), b"x").unwrap();
    lab.save_tree("host/a", &source);
    lab.save_images("vm/100", &[("disk", &lab.path("disk"))]);
    let mounted = lab.mount();
    let read_only = |result: std::io::Result<()>| {
        assert_eq!(
            result.unwrap_err().raw_os_error(),
            Some(rustix::io::Errno::ROFS.raw_os_error())
        );
    };
    let tree = mounted.path().join("by-workload/host/a/latest/etc");
    read_only(fs::write(tree.join("new"), ""));
    read_only(fs::remove_file(tree.join("passwd")));
    read_only(fs::rename(tree.join("passwd"), tree.join("other")));
    read_only(fs::create_dir(mounted.path().join("x")));
    read_only(fs::set_permissions(
        tree.join("passwd"),
        fs::Permissions::from_mode(0o777),
    ));
    read_only(OpenOptions::new().write(true).open(tree.join("passwd")).map(drop));
    let disk = fs::metadata(mounted.path().join("by-workload/vm/100/latest/disk.img")).unwrap();
    assert_eq!(disk.mode(), 0o100_400);
    let flags = run(
        "findmnt",
        &[
            "-n",
            "-o",
            "OPTIONS,FSTYPE,SOURCE",
            mounted.path().to_str().unwrap(),
        ],
    );
    for wanted in ["ro", "nosuid", "nodev", "fuse", "repository"] {
        assert!(flags.contains(wanted), "{flags}");
    }
}

#[test]
fn other_users_see_it_only_if_they_may() {
    common::require_fuse();
    let lab = Lab::new();
    fs::set_permissions(lab.folder.path(), fs::Permissions::from_mode(0o755)).unwrap();
    let source = lab.folder("data");
    for (name, mode) in [("open", 0o644), ("closed", 0o600)] {
        fs::write(source.join(name), name).unwrap();
        fs::set_permissions(source.join(name), fs::Permissions::from_mode(mode)).unwrap();
    }
    fs::write(source.join("by acl"), "acl").unwrap();
    fs::set_permissions(source.join("by acl"), fs::Permissions::from_mode(0o600)).unwrap();
    run(
        "setfacl",
        &["-m", "u:65534:r", source.join("by acl").to_str().unwrap()],
    );
    lab.save_tree("host/a", &source);
    let as_nobody = |path: &Path| {
        let arguments = [
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "cat",
            path.to_str().unwrap(),
        ];
        common::attempt("setpriv", &arguments).status.success()
    };
    let directory = lab.folder("mount");
    let shown = directory.join("latest/data");
    for (allow_other, readable) in [(false, [false, false, false]), (true, [true, false, true])] {
        let options = MountOptions {
            allow_other,
            ..MountOptions::default()
        };
        let mut mounted = relight_mount::mount::snapshots(lab.open(), &directory, &options).unwrap();
        let found = ["open", "closed", "by acl"].map(|name| as_nobody(&shown.join(name)));
        assert_eq!(found, readable, "allow_other: {allow_other}");
        assert_eq!(
            fs::read_to_string(shown.join("closed")).unwrap(),
            "closed",
            "root reads all"
        );
        mounted.unmount().unwrap();
    }
}

#[test]
fn it_ends_when_asked_when_unmounted_and_when_still_in_use() {
    common::require_fuse();
    let lab = Lab::new();
    fs::write(lab.path("disk"), noise(1, 9_000_001)).unwrap();
    lab.save_images("vm/100", &[("disk", &lab.path("disk"))]);
    let directory = lab.folder("mount");

    let mounted = lab.mount();
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| mounted.wait(&stop));
        std::thread::sleep(Duration::from_millis(200));
        assert!(!waiting.is_finished());
        stop.store(true, Ordering::Relaxed);
        assert_eq!(waiting.join().unwrap().unwrap(), End::Stopped);
    });
    assert!(names(&directory).is_empty());

    let mounted = lab.mount();
    let never = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| mounted.wait(&never));
        run("umount", &[directory.to_str().unwrap()]);
        assert_eq!(waiting.join().unwrap().unwrap(), End::Unmounted);
    });

    // Whoever has a file open reads it to the end.
    let mounted = lab.mount();
    let mut file = File::open(directory.join("latest/disk.img")).unwrap();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| mounted.wait(&stop));
        wait_until("the folder is empty again", || names(&directory).is_empty());
        assert!(!waiting.is_finished());
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).unwrap();
        assert!(bytes == noise(1, 9_000_001));
        drop(file);
        assert_eq!(waiting.join().unwrap().unwrap(), End::Stopped);
    });
}

#[test]
fn places_that_do_not_fit_are_refused_with_the_reason() {
    common::require_fuse();
    let lab = Lab::new();
    fs::write(lab.path("file"), "x").unwrap();
    fs::write(lab.folder("full").join("x"), "x").unwrap();
    for (place, reason) in [
        ("nowhere", "does not exist"),
        ("file", "not a directory"),
        ("full", "not empty"),
    ] {
        let refused = relight_mount::mount::snapshots(lab.open(), &lab.path(place), &MountOptions::default());
        match refused {
            Err(MountError::Place { why, .. }) => assert!(why.contains(reason), "{place}: {why}"),
            other => panic!("{place}: {other:?}"),
        }
    }
    assert_eq!(fs::read_to_string(lab.path("full/x")).unwrap(), "x");
}
