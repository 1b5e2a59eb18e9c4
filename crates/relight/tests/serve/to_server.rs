//! `relight backup --server` against the real server, and back from its repository.

use std::fs;

use relight_pbs::formats::crypt::{CryptKey, KeyFile};

use super::lab::Lab;

#[test]
fn what_is_saved_to_a_server_is_restored_from_its_repository() {
    let lab = Lab::new();
    lab.user("bkup@pbs", "DatastoreAdmin", "/datastore/main");
    let header = lab.token("bkup@pbs!tok1", "DatastorePowerUser", "/datastore/main");
    let secret = header.rsplit_once(':').unwrap().1;
    fs::write(lab.path("secret"), format!("{secret}\n")).unwrap();
    let server = lab.serve();
    let address = format!("https://bkup@pbs!tok1@{}/main", server.address);
    let mut disk = vec![0; 9 << 20];
    disk[5 << 20..].fill(7);
    fs::write(lab.path("disk.raw"), &disk).unwrap();
    fs::create_dir(lab.path("tree")).unwrap();
    for number in 0..50_u8 {
        fs::write(
            lab.path("tree").join(format!("file{number}")),
            vec![number; 10_000],
        )
        .unwrap();
    }
    // What was written last must not be taken for a change under way.
    std::thread::sleep(std::time::Duration::from_millis(3200));
    let to = ["--server", &address, "--token-file", "secret", "--workload"];
    let what = ["tree", "--image", "disk.raw"];
    let trust = ["--fingerprint", &server.fingerprint];
    let save = |workload: &str, more: &[&str]| {
        lab.json(&[&["backup"], &to[..], &[workload], &what, &trust, more].concat())
    };
    let first = save("host/web01", &[]);
    assert_eq!(
        (&first["files"], &first["problem_count"]),
        (&50.into(), &0.into())
    );
    assert!(first["stored_bytes"].as_u64().unwrap() > 0, "{first}");
    std::thread::sleep(std::time::Duration::from_millis(1100));
    let second = save("host/web01", &[]);
    // Only the stat records, which tell when they were made.
    assert_eq!(second["unchanged_files"], 50, "{second}");
    assert!(second["added_bytes"].as_u64().unwrap() < 5_000, "{second}");

    // What the server holds is a snapshot as any other.
    lab.ok(&["restore", "latest", "--to", "back"]);
    let (tree, image) = (find(&lab, "file7"), find(&lab, "disk.img"));
    assert!(fs::read(tree).unwrap() == vec![7; 10_000]);
    assert!(fs::read(image).unwrap() == disk);

    // With a key of the client the server cannot read it, and without trust nothing is sent.
    let key = CryptKey::generate().unwrap();
    let file = KeyFile::new(&key, None, None, "2026-01-01T00:00:00Z").unwrap();
    fs::write(lab.path("key.json"), &*file.encode()).unwrap();
    let sealed = save("host/sealed", &["--client-key", "key.json"]);
    assert!(sealed["added_bytes"].as_u64().unwrap() > 0, "{sealed}");
    let other = ["00"; 32].join(":");
    let refused = lab.fails(
        &[
            &["backup"],
            &to[..],
            &["host/x"],
            &what,
            &["--fingerprint", &other],
        ]
        .concat(),
    );
    assert!(refused.contains(&server.fingerprint), "{refused}");
    fs::write(lab.path("secret"), "wrong").unwrap();
    let refused = lab.fails(&[&["backup"], &to[..], &["host/x"], &what, &trust[..]].concat());
    assert!(
        refused.contains("authentication failed") && !refused.contains("wrong"),
        "{refused}"
    );
    server.stop();
}

/// The file of that name, wherever it was restored.
fn find(lab: &Lab, name: &str) -> std::path::PathBuf {
    let mut folders = vec![lab.path("back")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let entry = entry.unwrap();
            if entry.file_name() == name {
                return entry.path();
            }
            if entry.file_type().unwrap().is_dir() {
                folders.push(entry.path());
            }
        }
    }
    panic!("{name} was not restored");
}
