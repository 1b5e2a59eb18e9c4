//! The real program on real S3 servers, which `scripts/s3-servers/run test DIR` starts. Ignored otherwise; they fail
//! rather than pass where their server is missing.
#![allow(clippy::unwrap_used)]

#[path = "cli/lab.rs"]
#[allow(dead_code)]
mod lab;

use std::fs;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use lab::{Lab, Run, files, noise};
use relight_repo::storage::s3::{Credentials, S3Config, S3Storage};
use relight_repo::storage::{Storage, StorageError};
use serde_json::Value;

fn variable(name: &str) -> String {
    let name = format!("RELIGHT_TEST_S3_{name}");
    std::env::var(&name).unwrap_or_else(|_| panic!("{name} is not set: use scripts/s3-servers/run test DIR"))
}

/// A prefix of its own in a bucket, and what is saved there.
struct Place {
    lab: Lab,
    server: &'static str,
    location: String,
}

impl Place {
    fn new(server: &'static str, bucket: &str) -> Self {
        let lab = Lab::bare();
        let unique = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
        let endpoint = variable(server);
        Self {
            lab,
            server,
            location: format!("s3://{bucket}/Lab+1/{unique}?endpoint={endpoint}"),
        }
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = self.lab.command(arguments);
        command
            .env("RELIGHT_REPOSITORY", &self.location)
            .env("AWS_ACCESS_KEY_ID", variable(&format!("{}_KEY", self.server)))
            .env(
                "AWS_SECRET_ACCESS_KEY",
                variable(&format!("{}_SECRET", self.server)),
            );
        if let Ok(authority) = std::env::var(format!("RELIGHT_TEST_S3_{}_CA", self.server)) {
            command.env("RELIGHT_S3_CA_FILE", authority);
        }
        command
    }

    /// The bucket without the program.
    fn storage(&self) -> S3Storage {
        let keys = ["KEY", "SECRET"].map(|name| variable(&format!("{}_{name}", self.server)));
        let [key, secret] = keys;
        let config = S3Config::parse(&self.location).unwrap();
        S3Storage::with_credentials(config, Credentials::new(key, secret, None)).unwrap()
    }

    fn run(&self, arguments: &[&str]) -> Run {
        Run::of(arguments, self.command(arguments).output().unwrap())
    }

    fn save(&self, more: &[&str]) -> Value {
        let src = self.lab.path("src");
        let mut arguments = vec!["backup", src.to_str().unwrap(), "-w", "host/lab", "--json"];
        arguments.extend(more);
        self.run(&arguments).ok().json()
    }

    /// The whole tree as it is now comes back from the newest snapshot.
    fn comes_back(&self, into: &str) {
        self.run(&["restore", "host/lab@latest", "--to", into]).ok();
        let (wanted, found) = (
            files(&self.lab.path("src")),
            files(&self.lab.path(into).join("src")),
        );
        assert!(wanted.values().eq(found.values()), "what comes back differs");
        assert_eq!(wanted.len(), found.len());
    }
}

/// Everything that a repository goes through, with the program.
fn a_life(server: &'static str, bucket: &str, conditions: bool) {
    let place = Place::new(server, bucket);
    let src = |name: &str| place.lab.path("src").join(name);
    fs::create_dir_all(src("docs/deep")).unwrap();
    fs::write(src("hello"), "hello\n").unwrap();
    fs::write(src("docs/big"), noise(1, 9_000_000)).unwrap();
    fs::write(src("docs/deep/note"), "note\n").unwrap();

    place.run(&["snapshots"]).fails("relight init");
    let made = place.run(&["init", "--parity", "10", "--json"]).ok().json();
    assert_eq!(made["storage"]["conditional_writes"], conditions, "{made}");
    place.run(&["init"]).fails("already");
    let first = place.save(&[]);
    place.comes_back("first");
    let unchanged = place.save(&[]);
    assert!(
        unchanged["stored_bytes"].as_u64() < first["stored_bytes"].as_u64(),
        "{unchanged}"
    );

    // Two writers at once, on the same content.
    fs::write(src("docs/new"), noise(2, 5_000_000)).unwrap();
    fs::remove_file(src("hello")).unwrap();
    let both: Vec<_> = ["one", "two"]
        .iter()
        .map(|name| {
            let workload = format!("host/{name}");
            let arguments = ["backup", "src", "-w", &workload];
            let mut command = place.command(&arguments);
            command
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap()
        })
        .collect();
    for child in both {
        Run::of(&["backup"], child.wait_with_output().unwrap()).ok();
    }
    fs::write(place.lab.path("disk"), noise(3, 6_000_001)).unwrap();
    place.run(&["backup", "--image", "disk", "-w", "vm/1"]).ok();
    place.save(&[]);
    place.comes_back("second");
    assert_eq!(
        place
            .run(&["dump", "host/one@latest", "src/docs/deep/note"])
            .ok()
            .out,
        b"note\n"
    );
    place
        .run(&["dump", "vm/1@latest", "disk.img", "-o", "dumped"])
        .ok();
    assert!(fs::read(place.lab.path("dumped")).unwrap() == fs::read(place.lab.path("disk")).unwrap());
    place.run(&["verify"]).ok();

    // What nobody needs any more goes.
    place.run(&["forget", "--keep-last", "1", "--apply"]).ok();
    let total = || {
        place.run(&["stats", "--json"]).ok().json()["total"]
            .as_u64()
            .unwrap()
    };
    let before = total();
    let mut after = before;
    until(|| {
        place.run(&["collect", "--grace", "0", "--max-waste", "0"]).ok();
        after = total();
        after < before
    });
    place.run(&["verify"]).ok();
    place.comes_back("third");

    // A new data key, and the old one goes.
    place.run(&["key", "rotate"]).ok();
    until(|| {
        place.run(&["key", "rewrite", "--grace", "0"]).ok();
        let run = place.run(&["key", "retire", "--json"]);
        run.code == 0 && run.ok().json()["retired"].as_array().unwrap().len() == 1
    });
    fs::remove_dir_all(place.lab.path("cache")).unwrap();
    place.comes_back("fourth");
    place.run(&["verify"]).ok();

    // Nothing is told to whoever lacks the key, or access to the bucket.
    place.lab.make_key("other");
    place.run(&["snapshots", "--key-file", "other"]).code(1);
    if server == "MOTO" {
        // It takes any secret.
        return;
    }
    let denied = place
        .command(&["snapshots"])
        .env("AWS_SECRET_ACCESS_KEY", "hunter2")
        .output()
        .unwrap();
    let denied = Run::of(&["snapshots"], denied).code(1);
    assert!(!denied.err.contains("hunter2"));
}

/// Tries again, with time between: the clock of a server may tell whole seconds, and packs go only after their grace.
fn until(mut done: impl FnMut() -> bool) {
    for _ in 0..8 {
        std::thread::sleep(Duration::from_millis(1100));
        if done() {
            return;
        }
    }
    panic!("it was never done");
}

#[test]
#[ignore = "needs Ceph"]
fn a_life_on_ceph() {
    a_life("CEPH", "relight", true);
}

#[test]
#[ignore = "needs Ceph"]
fn a_life_on_ceph_with_versions() {
    // Where it keeps versions, this version of it writes whatever the condition.
    a_life("CEPH", "relight-versions", false);
}

#[test]
#[ignore = "needs moto"]
fn a_life_on_moto() {
    a_life("MOTO", "relight", true);
}

#[test]
#[ignore = "needs rclone"]
fn a_life_on_rclone() {
    a_life("RCLONE", "relight", false);
}

#[test]
#[ignore = "needs rclone with TLS"]
fn a_life_over_tls() {
    a_life("TLS", "relight", false);
}

#[test]
#[ignore = "needs Ceph"]
fn what_was_promised_to_be_kept_cannot_be_removed_before() {
    let place = Place::new("CEPH", "relight-lock");
    let made = place.run(&["init", "--object-lock", "--json"]).ok().json();
    assert_eq!(made["storage"]["object_lock"], true);
    fs::write(place.lab.path("src/file"), noise(4, 3_000_000)).unwrap();
    let promised = Instant::now();
    let id = place.save(&["--retain", "12s"])["short_id"]
        .as_str()
        .unwrap()
        .to_string();
    // Another, which needs nothing of it and is promised nothing.
    fs::write(place.lab.path("src/file"), noise(5, 3_000_000)).unwrap();
    place.save(&["--full"]);
    let run = place.run(&["forget", &id, "--apply", "--force"]).code(1);
    assert!(run.err.contains("promised until"), "{}", run.err);
    // Nor can anybody who does not ask Relight.
    let storage = place.storage();
    for object in storage.list("snapshots/").unwrap() {
        let deleted = storage.delete(&object.key);
        assert_eq!(
            matches!(deleted, Err(StorageError::Locked { .. })),
            object.key.contains(&id),
            "{deleted:?}"
        );
    }
    place.save(&["--full"]);
    place.run(&["collect", "--grace", "0"]).ok();
    place.run(&["verify"]).ok();
    place.run(&["restore", &id, "--to", "kept"]).ok();
    assert!(fs::read(place.lab.path("kept/src/file")).unwrap() == noise(4, 3_000_000));

    std::thread::sleep(Duration::from_secs(14).saturating_sub(promised.elapsed()));
    place.run(&["forget", &id, "--apply", "--force"]).ok();
    for _ in 0..2 {
        place.run(&["collect", "--grace", "0"]).ok();
    }
    place.run(&["verify"]).ok();
    place.comes_back("rest");
}

#[test]
#[ignore = "needs Ceph"]
fn a_bucket_that_does_not_fit_is_told_before_anything_is_written() {
    let plain = Place::new("CEPH", "relight");
    plain.run(&["init", "--object-lock"]).fails("no object lock");
    plain.run(&["snapshots"]).fails("relight init");
    let locking = Place::new("CEPH", "relight-default");
    let made = locking.run(&["init", "--json"]).ok().json();
    let remarks = made["remarks"].as_array().unwrap();
    let danger = |remark: &&Value| remark["danger"] == true;
    let told: Vec<_> = remarks.iter().filter(danger).collect();
    assert!(
        told.iter()
            .any(|remark| remark["text"].as_str().unwrap().contains("default retention")),
        "{made}"
    );
    let missing = Place::new("CEPH", "no-such-bucket");
    missing.run(&["init"]).fails("no such bucket");
}

#[test]
#[ignore = "needs moto"]
fn cold_data_is_thawed_for_restores_dumps_and_copies() {
    let place = Place::new("MOTO", "relight");
    place.run(&["init", "--data-class", "GLACIER"]).ok();
    fs::write(place.lab.path("src/file"), noise(6, 3_000_000)).unwrap();
    place.save(&[]);
    // Nothing of this reads what is cold.
    place.run(&["ls", "latest", "src"]).ok();
    place.run(&["verify"]).ok();
    place.run(&["restore", "latest", "--to", "early"]).fails("--thaw");
    place.run(&["dump", "latest", "src/file"]).fails("--thaw");
    let until_done = |arguments: &[&str]| {
        let begun = Instant::now();
        loop {
            let run = place.run(arguments);
            if run.code != 3 {
                return run.ok();
            }
            assert!(
                begun.elapsed() < Duration::from_secs(30),
                "{}{}",
                run.text(),
                run.err
            );
            std::thread::sleep(Duration::from_millis(200));
        }
    };
    let dumped = until_done(&["dump", "latest", "src/file", "--thaw", "1"]);
    assert!(dumped.out == noise(6, 3_000_000));
    until_done(&["restore", "latest", "--thaw", "1", "--to", "back"]);
    assert!(fs::read(place.lab.path("back/src/file")).unwrap() == noise(6, 3_000_000));

    // To a repository on a local disk.
    fs::write(place.lab.path("src/file"), noise(7, 3_000_000)).unwrap();
    place.save(&[]);
    place.lab.make_key("there.key");
    let made = place
        .command(&["init", "there"])
        .env("RELIGHT_REPOSITORY", "there")
        .env("RELIGHT_KEY_FILE", "there.key")
        .output()
        .unwrap();
    Run::of(&["init"], made).ok();
    until_done(&[
        "copy",
        "--to",
        "there",
        "--to-key-file",
        "there.key",
        "--thaw",
        "1",
    ]);
    let there = ["--repo", "there", "--key-file", "there.key"];
    let copied = place
        .run(&[&there[..], &["dump", "latest", "src/file"]].concat())
        .ok();
    assert!(copied.out == noise(7, 3_000_000));
}
