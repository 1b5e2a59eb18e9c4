//! The storage contract against real S3 servers, which `scripts/s3-servers/run test DIR` installs, starts, and hands to
//! these tests. They are ignored otherwise, and fail rather than pass where their server is missing.
//!
//! | server | what it stands for |
//! | --- | --- |
//! | Ceph's RADOS gateway | conditions, versions, object lock |
//! | moto | classes that must be thawed |
//! | rclone | no conditions, no versions, no locks, no status 206 |
//! | rclone with TLS | an own certificate authority |

#![allow(clippy::unwrap_used, reason = "tests")]

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use relight_repo::storage::s3::{Conditions, Credentials, Finding, LockMode, S3Config, S3Storage};
use relight_repo::storage::{Capabilities, Millis, PutOptions, Storage, StorageError, Thaw};

#[path = "storage_conformance/suite.rs"]
mod suite;

fn variable(name: &str) -> String {
    let name = format!("RELIGHT_TEST_S3_{name}");
    std::env::var(&name).unwrap_or_else(|_| panic!("{name} is not set: use scripts/s3-servers/run test DIR"))
}

fn now() -> Millis {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis() as Millis
}

/// A place of its own on a server, for one test.
fn place(server: &str, bucket: &str, check: &str) -> S3Config {
    let unique = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos();
    // Characters that must be encoded, in a prefix that operators choose.
    let mut config = S3Config::new(bucket, &format!("Lab+1 (a&b)/{check}-{unique}"));
    config.endpoint = Some(variable(server));
    config.ca_file = std::env::var(format!("RELIGHT_TEST_S3_{server}_CA"))
        .ok()
        .map(Into::into);
    // Small, so that the tests come to upload in parts.
    config.multipart_above = 6 << 20;
    config.part_size = 5 << 20;
    config
}

fn keys(server: &str) -> Credentials {
    Credentials::new(
        variable(&format!("{server}_KEY")),
        variable(&format!("{server}_SECRET")),
        None,
    )
}

fn open(server: &str, config: &S3Config) -> S3Storage {
    S3Storage::with_credentials(config.clone(), keys(server)).unwrap()
}

fn opener(server: &'static str, bucket: &str, check: &str) -> impl Fn() -> Arc<dyn Storage> {
    let config = place(server, bucket, check);
    move || Arc::new(open(server, &config))
}

fn ceph(check: &str) -> impl Fn() -> Arc<dyn Storage> {
    opener("CEPH", "relight", check)
}

fn ceph_with_versions(check: &str) -> impl Fn() -> Arc<dyn Storage> {
    opener("CEPH", "relight-versions", check)
}

fn ceph_with_claims(check: &str) -> impl Fn() -> Arc<dyn Storage> {
    let mut config = place("CEPH", "relight", check);
    config.conditions = Conditions::Claims;
    move || Arc::new(open("CEPH", &config))
}

fn moto(check: &str) -> impl Fn() -> Arc<dyn Storage> {
    opener("MOTO", "relight", check)
}

fn rclone(check: &str) -> impl Fn() -> Arc<dyn Storage> {
    opener("RCLONE", "relight", check)
}

fn tls(check: &str) -> impl Fn() -> Arc<dyn Storage> {
    opener("TLS", "relight", check)
}

conformance!(
    #[ignore = "needs Ceph"]
    on_ceph,
    ceph
);
conformance!(
    #[ignore = "needs Ceph"]
    on_ceph_with_versions,
    ceph_with_versions
);
conformance!(
    #[ignore = "needs Ceph"]
    on_ceph_with_claims,
    ceph_with_claims
);
conformance!(
    #[ignore = "needs moto"]
    on_moto,
    moto
);
/// All but one: `rclone serve s3` (1.75) gives who reads an object that is being replaced a piece of the new content in
/// the length of the old. The engine checks the digest of all it reads.
macro_rules! rclone_conformance {
    ($reason:literal, $name:ident, $open:expr) => {
        conformance!(@each #[ignore = $reason] $name, $open,
            content_comes_back_as_it_was_written
            other_handles_see_writes_and_deletes_at_once
            lists_are_complete_and_exact
            ranges_are_exact
            put_new_has_one_winner
            put_new_leaves_what_is_there
            put_new_can_be_repeated_after_a_delete
            deletes_are_idempotent
            what_is_missing_is_not_found
            large_objects_are_whole
            every_allowed_key_works
            many_threads_at_once
        );
    };
}

rclone_conformance!("needs rclone", on_rclone, rclone);
rclone_conformance!("needs rclone with TLS", over_tls, tls);

fn plain() -> PutOptions {
    PutOptions::default()
}

fn locked_until(until: Millis) -> PutOptions {
    PutOptions {
        retain_until: Some(until),
        ..PutOptions::default()
    }
}

fn is_locked(outcome: Result<(), StorageError>) -> bool {
    matches!(outcome, Err(StorageError::Locked { .. }))
}

#[test]
#[ignore = "needs Ceph"]
fn locks_hold_are_extended_and_end() {
    for mode in [LockMode::Compliance, LockMode::Governance] {
        let mut config = place("CEPH", "relight-lock", "locks");
        config.lock_mode = mode;
        let storage = open("CEPH", &config);
        // The gateway (16.2) heeds conditions only on buckets without versions; the probe finds out.
        assert_eq!(
            storage.capabilities(),
            Capabilities {
                conditional_put: false,
                retention: true
            }
        );
        let until = now() + 5_000;
        storage.put("a", &[b"kept"], &locked_until(until)).unwrap();
        // The same for what goes up in parts.
        let large = suite::bytes(1, 12 << 20);
        storage.put("large", &[&large], &locked_until(until)).unwrap();
        storage.put_new("new", &[b"kept"], &locked_until(until)).unwrap();
        storage.put("b", &[b"locked later"], &plain()).unwrap();
        storage.retain("b", until).unwrap();
        for key in ["a", "large", "new", "b"] {
            assert!(is_locked(storage.delete(key)), "{mode:?} {key}");
            assert!(storage.head(key).is_ok(), "{mode:?} {key}: still to be seen");
        }
        assert_eq!(storage.list("").unwrap().len(), 4);
        // Never shortened; extended.
        storage.retain("a", now() - 1000).unwrap();
        storage.retain("a", until - 2000).unwrap();
        assert!(is_locked(storage.delete("a")));
        storage.retain("a", until + 6_000).unwrap();
        std::thread::sleep(Duration::from_millis((until + 1_500 - now()).max(0) as u64));
        assert!(is_locked(storage.delete("a")), "{mode:?}: extended");
        for key in ["large", "new", "b"] {
            storage.delete(key).unwrap();
        }
        std::thread::sleep(Duration::from_millis((until + 7_500 - now()).max(0) as u64));
        storage.delete("a").unwrap();
        assert!(storage.list("").unwrap().is_empty());
        assert!(storage.get("a").unwrap_err().is_not_found());
        assert!(storage.retain("a", until).unwrap_err().is_not_found());
    }
}

#[test]
#[ignore = "needs Ceph"]
fn a_locked_version_underneath_keeps_the_object() {
    let storage = open("CEPH", &place("CEPH", "relight-lock", "underneath"));
    let until = now() + 4_000;
    storage.put("a", &[b"one"], &locked_until(until)).unwrap();
    storage.put("a", &[b"two"], &plain()).unwrap();
    assert_eq!(storage.get("a").unwrap(), b"two");
    assert!(is_locked(storage.delete("a")));
    assert_eq!(
        storage.get("a").unwrap(),
        b"two",
        "not the old one, come to light again"
    );
    std::thread::sleep(Duration::from_millis((until + 1_500 - now()).max(0) as u64));
    storage.delete("a").unwrap();
    assert!(storage.get("a").unwrap_err().is_not_found());
}

#[test]
#[ignore = "needs Ceph"]
fn deleting_on_a_bucket_with_versions_brings_nothing_back() {
    let storage = open("CEPH", &place("CEPH", "relight-versions", "back"));
    for round in 0..12u8 {
        storage.put("lease", &[&[round]], &plain()).unwrap();
        storage.put("lease-2", &[&[round]], &plain()).unwrap();
    }
    storage.delete("lease").unwrap();
    assert!(storage.get("lease").unwrap_err().is_not_found());
    assert_eq!(
        storage.get("lease-2").unwrap(),
        [11],
        "a key that begins alike is left alone"
    );
    storage.put_new("lease", &[b"anew"], &plain()).unwrap();
    storage.delete("lease").unwrap();
    assert!(storage.get("lease").unwrap_err().is_not_found());
}

#[test]
#[ignore = "needs Ceph"]
fn a_bucket_without_locks_refuses_them() {
    let storage = open("CEPH", &place("CEPH", "relight", "no-locks"));
    assert_eq!(
        storage.capabilities(),
        Capabilities {
            conditional_put: true,
            retention: false
        }
    );
    storage.put("a", &[b"x"], &plain()).unwrap();
    for outcome in [
        storage.put("b", &[b"x"], &locked_until(now() + 10_000)),
        storage.put("large", &[&[0; 7 << 20]], &locked_until(now() + 10_000)),
        storage.put_new("c", &[b"x"], &locked_until(now() + 10_000)),
        storage.retain("a", now() + 10_000),
    ] {
        assert!(
            matches!(outcome, Err(StorageError::Unsupported { .. })),
            "{outcome:?}"
        );
    }
    assert_eq!(storage.list("").unwrap().len(), 1);
}

#[test]
#[ignore = "needs Ceph"]
fn a_bucket_that_locks_by_itself_is_found_out() {
    let storage = open("CEPH", &place("CEPH", "relight-default", "default"));
    let findings = storage.examine().unwrap();
    assert!(findings.contains(&Finding::DefaultRetention), "{findings:?}");
    assert!(findings.contains(&Finding::KeepsVersions), "{findings:?}");
    let plain_bucket = open("CEPH", &place("CEPH", "relight", "default"))
        .examine()
        .unwrap();
    assert!(
        plain_bucket.iter().all(|finding| !finding.is_danger()),
        "{plain_bucket:?}"
    );
    storage.put("a", &[b"x"], &plain()).unwrap();
    assert!(is_locked(storage.delete("a")));
}

#[test]
#[ignore = "needs Ceph"]
fn wrong_names_and_keys_are_told_apart() {
    let everything = |storage: &S3Storage| {
        [
            storage.get("a").map(drop),
            storage.head("a").map(drop),
            storage.get_range("a", 0, &mut [0]),
            storage.list("").map(drop),
            storage.put("a", &[b"x"], &plain()),
            storage.put("large", &[&[0; 7 << 20]], &plain()),
            storage.put_new("b", &[b"x"], &plain()),
            storage.delete("a"),
        ]
        .map(|outcome| outcome.unwrap_err())
    };
    let config = place("CEPH", "relight", "wrong");
    let wrong_secret = Credentials::new(variable("CEPH_KEY"), "hunter2".into(), None);
    for error in everything(&S3Storage::with_credentials(config.clone(), wrong_secret).unwrap()) {
        assert!(matches!(error, StorageError::Denied { .. }), "{error}");
        assert!(!format!("{error:?}").contains("hunter2"));
    }
    let wrong_key = Credentials::new("nobody".into(), "hunter2".into(), None);
    for error in everything(&S3Storage::with_credentials(config.clone(), wrong_key).unwrap()) {
        assert!(matches!(error, StorageError::Denied { .. }), "{error}");
    }
    let mut config = config;
    config.bucket = "no-such-bucket".into();
    for error in everything(&open("CEPH", &config)) {
        assert!(matches!(error, StorageError::Unavailable { .. }), "{error}");
        assert!(error.to_string().contains("no such bucket"), "{error}");
    }
}

#[test]
#[ignore = "needs Ceph"]
fn leftovers_are_swept_only_when_they_are_old() {
    let storage = open("CEPH", &place("CEPH", "relight", "sweep"));
    storage.put("a", &[b"x"], &plain()).unwrap();
    storage.put("claims/b/0011", &[], &plain()).unwrap();
    storage.put("probe/0011", &[], &plain()).unwrap();
    assert_eq!(storage.list("").unwrap().len(), 1);
    assert_eq!(storage.sweep_leftovers().unwrap(), 0, "others may be at it");
    assert_eq!(storage.list("claims/").unwrap().len(), 1);
}

#[test]
#[ignore = "needs moto"]
fn cold_objects_are_told_and_thawed() {
    let storage = open("MOTO", &place("MOTO", "relight", "cold"));
    for class in ["GLACIER", "DEEP_ARCHIVE"] {
        let options = PutOptions {
            class: Some(class.into()),
            ..plain()
        };
        let large = suite::bytes(1, 12 << 20);
        storage.put("small", &[b"cold"], &options).unwrap();
        storage.put("large", &[&large], &options).unwrap();
        storage.put("warm", &[b"warm"], &plain()).unwrap();
        let day = Duration::from_secs(24 * 3600);
        assert_eq!(storage.thaw("warm", day).unwrap(), Thaw::Ready);
        for (key, content) in [("small", b"cold".as_slice()), ("large", &large)] {
            assert_eq!(storage.class_of(key).unwrap(), class);
            assert_eq!(
                storage.head(key).unwrap().size,
                content.len() as u64,
                "known without thawing"
            );
            let cold = storage.get(key).unwrap_err();
            assert!(matches!(cold, StorageError::Cold { .. }), "{cold}");
            let cold = storage.get_range(key, 0, &mut [0]).unwrap_err();
            assert!(matches!(cold, StorageError::Cold { .. }), "{cold}");
            let mut waited = 0;
            while storage.thaw(key, 2 * day).unwrap() == Thaw::InProgress {
                waited += 1;
                assert!(waited < 100);
                std::thread::sleep(Duration::from_millis(100));
            }
            assert!(storage.get(key).unwrap() == content);
            assert_eq!(storage.thaw(key, day).unwrap(), Thaw::Ready);
            assert_eq!(storage.thaw(key, 20 * day).unwrap(), Thaw::Ready, "kept longer");
        }
        assert_eq!(storage.class_of("warm").unwrap(), "STANDARD");
        assert!(storage.thaw("none", day).unwrap_err().is_not_found());
    }
}

#[test]
#[ignore = "needs Ceph"]
fn classes_that_need_no_thawing_are_ready() {
    let storage = open("CEPH", &place("CEPH", "relight", "thaw"));
    storage.put("a", &[b"x"], &plain()).unwrap();
    assert_eq!(storage.thaw("a", Duration::from_secs(1)).unwrap(), Thaw::Ready);
    assert!(
        storage
            .thaw("b", Duration::from_secs(1))
            .unwrap_err()
            .is_not_found()
    );
}

#[test]
#[ignore = "needs rclone"]
fn a_store_that_lacks_everything_is_found_out() {
    let storage = open("RCLONE", &place("RCLONE", "relight", "lacks"));
    assert_eq!(
        storage.capabilities(),
        Capabilities {
            conditional_put: false,
            retention: false
        }
    );
    assert!(
        storage.list("").unwrap().is_empty(),
        "nothing of the probe is left"
    );
    assert!(storage.list("probe/").unwrap().is_empty());
    storage.put_new("a", &[b"x"], &plain()).unwrap();
    assert!(
        storage
            .put_new("a", &[b"y"], &plain())
            .unwrap_err()
            .is_already_exists()
    );
    let left: Vec<_> = storage.list("claims/").unwrap();
    assert!(
        left.iter().all(|object| object.key == "claims/keeper"),
        "{left:?}"
    );
    let refused = storage.put("b", &[b"x"], &locked_until(now() + 10_000));
    assert!(
        matches!(refused, Err(StorageError::Unsupported { .. })),
        "{refused:?}"
    );
    storage.examine().unwrap();
    storage.sweep_leftovers().unwrap();
}

#[test]
#[ignore = "needs rclone with TLS"]
fn authorities_are_checked() {
    let config = place("TLS", "relight", "authority");
    open("TLS", &config).put("a", &[b"x"], &plain()).unwrap();
    let mut unknown = config.clone();
    unknown.ca_file = None;
    let error = open("TLS", &unknown).get("a").unwrap_err();
    assert!(matches!(error, StorageError::Unavailable { .. }), "{error}");
    assert!(
        error.to_string().contains("certificate") && error.to_string().contains("AWS_CA_BUNDLE"),
        "{error}"
    );
    let mut plain_text = config.clone();
    plain_text.endpoint = config.endpoint.map(|url| url.replace("https://", "http://"));
    assert!(open("TLS", &plain_text).get("a").is_err());
    let mut no_file = unknown;
    no_file.ca_file = Some("/none/such.pem".into());
    let error = S3Storage::with_credentials(no_file, keys("TLS")).unwrap_err();
    assert!(error.to_string().contains("/none/such.pem"), "{error}");
}
