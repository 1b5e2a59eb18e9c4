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
    config.ca_file = std::env::var(format!("RELIGHT_TEST_S3_{server}_CA")).ok().map(Into::into);
    // Small, so that the tests come to upload in parts.
    config.multipart_above = 6 << 20;
    config.part_size = 5 << 20;
    config
}

fn keys(server: &str) -> Credentials {
    Credentials::new(variable(&format!("{server}_KEY")), variable(&format!("{server}_SECRET")), None)
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

conformance!(#[ignore = "needs Ceph"] on_ceph, ceph);
conformance!(#[ignore = "needs Ceph"] on_ceph_with_versions, ceph_with_versions);
conformance!(#[ignore = "needs Ceph"] on_ceph_with_claims, ceph_with_claims);
conformance!(#[ignore = "needs moto"] on_moto, moto);
conformance!(#[ignore = "needs rclone"] on_rclone, rclone);
conformance!(#[ignore = "needs rclone with TLS"] over_tls, tls);
