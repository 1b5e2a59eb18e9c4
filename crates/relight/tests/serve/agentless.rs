//! A host with nothing but the program and a token: it saves to a server and is restored from it.

use std::fs;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;

use super::lab::Lab;
use super::originals::{Ready, client, fixtures, ready, upload};

/// The program on the host, which knows no repository.
struct Host<'l> {
    lab: &'l Lab,
    address: String,
    fingerprint: String,
}

impl Host<'_> {
    fn arguments<'a>(&'a self, arguments: &[&'a str]) -> Vec<&'a str> {
        let server = ["--server", &self.address, "--token-file", "secret"];
        let trust = ["--fingerprint", &self.fingerprint];
        [arguments, &server[..], &trust].concat()
    }

    #[track_caller]
    fn ok(&self, arguments: &[&str]) -> String {
        self.lab.ok(&self.arguments(arguments))
    }

    #[track_caller]
    fn json(&self, arguments: &[&str]) -> Value {
        self.lab.json(&self.arguments(arguments))
    }

    #[track_caller]
    fn fails(&self, arguments: &[&str]) -> String {
        self.lab.fails(&self.arguments(arguments))
    }
}

fn host<'l>(ready: &'l Ready, address: SocketAddr) -> Host<'l> {
    Host {
        lab: &ready.lab,
        address: format!("https://bkup@pbs!tok1@{address}/main"),
        fingerprint: ready.server.fingerprint.clone(),
    }
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let next = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(next).collect()
}

/// A tree whose last change is long enough ago to be trusted.
fn tree(lab: &Lab) {
    let root = lab.path("tree");
    for number in 0..200_usize {
        let folder = root.join(format!("folder{}", number % 9));
        fs::create_dir_all(&folder).unwrap();
        fs::write(
            folder.join(format!("file{number}")),
            noise(number as u64, 20_000 + number),
        )
        .unwrap();
    }
    fs::write(root.join("large"), noise(1000, 9 << 20)).unwrap();
    fs::hard_link(root.join("large"), root.join("large too")).unwrap();
    std::os::unix::fs::symlink("folder1", root.join("link")).unwrap();
    settle();
}

/// Waits until what was written last is not taken for a change under way.
fn settle() {
    std::thread::sleep(Duration::from_millis(3200));
}

#[track_caller]
fn same(lab: &Lab, one: &str, other: &str) {
    let compared = std::process::Command::new("diff")
        .args(["-r", "--no-dereference", one, other])
        .current_dir(lab.folder.path())
        .output()
        .unwrap();
    assert!(
        compared.status.success(),
        "{}",
        String::from_utf8_lossy(&compared.stdout)
    );
}

#[test]
fn a_limit_of_the_rate_is_kept() {
    let ready = ready();
    let lab = &ready.lab;
    let host = host(&ready, ready.server.address);
    fs::write(lab.path("disk.raw"), noise(11, 3 << 20)).unwrap();
    let began = std::time::Instant::now();
    host.ok(&[
        "backup",
        "--image",
        "disk.raw",
        "-w",
        "host/slow",
        "--rate",
        "1MiB",
    ]);
    // One second's worth goes at once.
    assert!(
        began.elapsed() > Duration::from_millis(1500),
        "{:?}",
        began.elapsed()
    );
    host.ok(&["restore", "host/slow", "--to", "back"]);
    assert!(fs::read(lab.path("back/disk.img")).unwrap() == noise(11, 3 << 20));
}

#[test]
fn an_unchanged_tree_is_not_read_and_comes_back_from_the_server() {
    let ready = ready();
    let lab = &ready.lab;
    let host = host(&ready, ready.server.address);
    tree(lab);
    let save = |more: &[&str]| host.json(&[&["backup", "tree", "-w", "host/web01"], more].concat());
    let first = save(&["--notes", "before the upgrade"]);
    assert_eq!(
        (&first["files"], &first["unchanged_files"]),
        (&201.into(), &0.into()),
        "{first}"
    );
    std::thread::sleep(Duration::from_millis(1100));
    let second = save(&[]);
    assert_eq!(
        (&second["unchanged_files"], &second["read_bytes"]),
        (&201.into(), &0.into()),
        "{second}"
    );
    // The stat records tell when they were made; nothing else is new.
    assert!(second["added_bytes"].as_u64().unwrap() < 20_000, "{second}");
    // A change costs what changed.
    fs::write(lab.path("tree/folder3/file3"), noise(7, 30_000)).unwrap();
    fs::write(lab.path("tree/folder3/new"), noise(8, 5_000)).unwrap();
    fs::remove_file(lab.path("tree/folder4/file4")).unwrap();
    fs::rename(lab.path("tree/folder5/file5"), lab.path("tree/folder6/moved")).unwrap();
    settle();
    let third = save(&[]);
    assert_eq!(third["read_bytes"], 30_000 + 5_000 + 20_005, "{third}");
    assert!(third["added_bytes"].as_u64().unwrap() < 400_000, "{third}");

    let listed = host.json(&["snapshots"]);
    let listed = listed["snapshots"].as_array().unwrap();
    assert_eq!(listed.len(), 3);
    assert_eq!(listed[0]["notes"], "before the upgrade");
    let files = listed[0]["files"].as_array().unwrap();
    assert!(files.contains(&"client.log.blob".into()), "{files:?}");

    let restored = host.json(&["restore", "host/web01", "--to", "back"]);
    assert_eq!(restored["problem_count"], 0, "{restored}");
    same(lab, "tree", "back/tree");
    let before = listed[0]["snapshot"].as_str().unwrap();
    host.ok(&["restore", before, "tree/folder4", "--to", "part"]);
    assert!(fs::read(lab.path("part/tree/folder4/file4")).unwrap() == noise(4, 20_004));
    assert!(!lab.path("part/tree/large").exists());
    let origin = lab.path("tree/folder4/file4");
    host.ok(&["restore", before, origin.to_str().unwrap(), "--to", "origin"]);
    assert!(lab.path("origin/tree/folder4/file4").exists());
    // The same to whoever has the repository.
    lab.ok(&["restore", "host/web01@latest", "--to", "local"]);
    same(lab, "tree", "local/tree");
    let names = lab.ok(&["ls", "host/web01@latest", "-lR"]);
    let remote = host.ok(&["ls", "host/web01", "-lR"]);
    let trees = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| line.contains(" tree"));
        lines.map(String::from).collect()
    };
    assert_eq!(trees(&names), trees(&remote));
    assert!(!names.contains("tree.stat"), "{names}");
    assert!(
        host.fails(&["restore", "host/none", "--to", "x"])
            .contains("host/none")
    );
    assert!(
        host.fails(&["restore", "host/web01", "none", "--to", "x"])
            .contains("tree")
    );
}

#[test]
fn with_a_key_only_its_owner_reads_it() {
    let ready = ready();
    let lab = &ready.lab;
    let host = host(&ready, ready.server.address);
    tree(lab);
    let mut disk = vec![0; 13 << 20];
    disk[4 << 20..9 << 20].copy_from_slice(&noise(3, 5 << 20));
    fs::write(lab.path("disk.raw"), &disk).unwrap();
    fs::write(lab.path("key-password"), "a password of the key\n").unwrap();
    let made = lab.json(&[
        "key",
        "client",
        "create",
        "key.json",
        "--new-password-file",
        "key-password",
    ]);
    let short = &made["fingerprint"].as_str().unwrap()[..23];
    let key = [
        "--client-key",
        "key.json",
        "--client-key-password-file",
        "key-password",
    ];
    let save = || {
        let what = ["backup", "tree", "--image", "disk.raw", "-w", "host/sealed"];
        host.json(&[&what[..], &key].concat())
    };
    save();
    std::thread::sleep(Duration::from_millis(1100));
    let second = save();
    // Images are read, trees are not.
    assert_eq!(
        (&second["unchanged_files"], &second["read_bytes"]),
        (&201.into(), &(13 << 20).into()),
        "{second}"
    );
    let said = host.fails(&["restore", "host/sealed", "--to", "x"]);
    assert!(said.contains(short), "{said}");
    host.ok(&[&["restore", "host/sealed", "--to", "back"][..], &key].concat());
    same(lab, "tree", "back/tree");
    assert!(fs::read(lab.path("back/disk.img")).unwrap() == disk);
    let blocks = |name: &str| std::os::unix::fs::MetadataExt::blocks(&fs::metadata(lab.path(name)).unwrap());
    assert!(blocks("back/disk.img") * 512 < 9 << 20);
    lab.ok(&[&["restore", "host/sealed@latest", "--to", "local"][..], &key].concat());
    same(lab, "back/tree", "local/tree");
    assert!(fs::read(lab.path("local/disk.img")).unwrap() == disk);
    assert!(blocks("local/disk.img") * 512 < 9 << 20);
    // Another password, the same key; a copy that can be read without one.
    fs::write(lab.path("other-password"), "another password of the key\n").unwrap();
    let change = [
        "key",
        "client",
        "change-password",
        "key.json",
        "--client-key-password-file",
        "key-password",
    ];
    lab.ok(&[&change[..], &["--new-password-file", "other-password"]].concat());
    assert!(
        lab.fails(&[&["ls", "host/sealed@latest"][..], &key].concat())
            .contains("password")
    );
    // Whoever keeps the master key gets the key back from a snapshot.
    for name in ["master-private.pem", "master-public.pem"] {
        fs::copy(fixtures().join("keys").join(name), lab.path(name)).unwrap();
    }
    let key = [
        "--client-key",
        "key.json",
        "--client-key-password-file",
        "other-password",
    ];
    let master = ["--master-public-key", "master-public.pem"];
    host.ok(&[&["backup", "tree/folder1", "-w", "host/kept"][..], &key, &master].concat());
    lab.ok(&["key", "client", "create", "unrelated.json", "--no-password"]);
    host.ok(&["restore", "host/kept", "rsa-encrypted.key", "--to", "sealed"]);
    let dumped = lab
        .command(&["dump", "host/kept@latest", "rsa-encrypted.key.blob"])
        .output();
    assert!(dumped.unwrap().stdout == fs::read(lab.path("sealed/rsa-encrypted.key")).unwrap());
    let recover = [
        "key",
        "client",
        "recover",
        "back.json",
        "--no-password",
        "--sealed",
        "sealed/rsa-encrypted.key",
    ];
    let recovered = lab.json(&[&recover[..], &["--master-key", "master-private.pem"]].concat());
    assert_eq!(recovered["fingerprint"], made["fingerprint"]);
    let shown = lab.json(&["key", "client", "show", "key.json"]);
    assert_eq!(shown["fingerprint"], made["fingerprint"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_original_client_saved_is_restored_from_the_server() {
    let ready = ready();
    let name = "host/fix/2023-11-14T22:13:21Z";
    upload(&client(&ready.server, &ready.header, ""), name, name, None).await;
    let (lab, host) = (&ready.lab, host(&ready, ready.server.address));
    host.ok(&["restore", name, "--to", "whole"]);
    lab.ok(&["restore", "host/fix@latest", "--to", "local"]);
    assert!(lab.path("whole/etc.conf").exists() && lab.path("whole/disk.img").exists());
    let conf = fs::read(fixtures().join("etc.conf")).unwrap();
    assert!(fs::read(lab.path("whole/etc.conf")).unwrap() == conf);
    let list = |folder: &str| {
        let mut all = Vec::new();
        walk(&lab.path(folder), &mut all);
        all
    };
    assert_eq!(list("whole/tree"), list("local/tree"));
    assert!(list("whole/tree").len() > 20);
}

fn walk(folder: &Path, all: &mut Vec<(String, u32, u64)>) {
    use std::os::unix::fs::MetadataExt;
    let mut entries: Vec<_> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap())
        .collect();
    entries.sort_by_key(|entry| entry.file_name());
    for entry in entries {
        let about = entry.metadata().unwrap();
        all.push((
            entry.file_name().to_string_lossy().into_owned(),
            about.mode(),
            about.nlink(),
        ));
        if about.is_dir() {
            walk(&entry.path(), all);
        }
    }
}

/// Hands connections on to the server, and breaks those of `broken` off when they have sent much.
fn proxy(to: SocketAddr, broken: usize) -> (SocketAddr, Arc<AtomicUsize>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let cut = Arc::new(AtomicUsize::new(0));
    let counter = cut.clone();
    std::thread::spawn(move || {
        for connection in listener.incoming() {
            let (mut from, mut server) = (connection.unwrap(), TcpStream::connect(to).unwrap());
            let (mut back, mut source) = (from.try_clone().unwrap(), server.try_clone().unwrap());
            std::thread::spawn(move || std::io::copy(&mut source, &mut back).map(drop));
            let cut = counter.clone();
            std::thread::spawn(move || {
                let (mut sent, mut part) = (0, vec![0; 64 << 10]);
                while let Ok(count @ 1..) = from.read(&mut part) {
                    sent += count;
                    let breaks = |cut: usize| (cut < broken).then_some(cut + 1);
                    if sent > 3 << 20
                        && cut
                            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, breaks)
                            .is_ok()
                    {
                        break;
                    }
                    if server.write_all(&part[..count]).is_err() {
                        break;
                    }
                }
                let _ = from.shutdown(std::net::Shutdown::Both);
                let _ = server.shutdown(std::net::Shutdown::Both);
            });
        }
    });
    (address, cut)
}

#[test]
fn a_backup_outlives_a_connection_that_breaks_off() {
    let ready = ready();
    let lab = &ready.lab;
    tree(lab);
    let (address, cut) = proxy(ready.server.address, 1);
    let host = host(&ready, address);
    let saved = host.json(&["backup", "tree", "-w", "host/web01"]);
    assert_eq!(
        (cut.load(Ordering::SeqCst), &saved["problem_count"]),
        (1, &0.into())
    );
    assert_eq!(
        host.json(&["snapshots"])["snapshots"].as_array().unwrap().len(),
        1
    );
    host.ok(&["restore", "host/web01", "--to", "back"]);
    same(lab, "tree", "back/tree");
}
