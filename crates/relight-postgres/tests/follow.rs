//! A cluster that archives its log by itself is watched over: one where nothing happens loses nothing.

mod lab;
mod repo;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use lab::Server;
use relight_model::plan::Settings as Words;
use relight_postgres::base::{self, Options};
use relight_postgres::kind::Clusters;
use relight_postgres::wal::outlook;
use relight_postgres::wal::store::{LogStore, NewFile};
use relight_workloads::kind::{Kind, Subject, Work};
use relight_workloads::log::Following;
use repo::{Repo, workload};

/// Closes the segment and stores what was archived.
fn push(repo: &Repo, server: &Server, archive: &Path) {
    let last = server.sql("SELECT pg_walfile_name(pg_switch_wal())");
    let began = Instant::now();
    while !archive.join(&last).exists() {
        assert!(began.elapsed() < Duration::from_secs(60), "{}", server.log());
        std::thread::sleep(Duration::from_millis(50));
    }
    let store = LogStore::new(repo.repository.clone(), workload(), Arc::default());
    let there: BTreeSet<_> = store.catalog().unwrap().files.keys().copied().collect();
    let mut files = Vec::new();
    for entry in fs::read_dir(archive).unwrap() {
        let path = entry.unwrap().path();
        if let Ok(name) = path.file_name().unwrap().to_str().unwrap().parse()
            && !there.contains(&name)
        {
            files.push(NewFile {
                name,
                bytes: fs::read(&path).unwrap(),
                system: None,
            });
        }
    }
    store.push(files).unwrap();
}

/// Ends it when it goes, so that what failed meanwhile is told and nobody waits for ever.
struct Until<'f>(&'f Following);

impl Drop for Until<'_> {
    fn drop(&mut self) {
        self.0.cancelled.store(true, Ordering::Relaxed);
    }
}

/// Follows for as long as `during` takes.
fn followed(repo: &Repo, subject: &Subject, during: impl FnOnce(&Following)) {
    let folder = tempfile::tempdir().unwrap();
    let following = Following::new(folder.path().to_path_buf());
    std::thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let log = Clusters.log().unwrap();
            log.follow(subject, &repo.repository, &following).unwrap();
        });
        let until = Until(&following);
        during(&following);
        drop(until);
        thread.join().unwrap();
    });
}

fn reaches(repo: &Repo) -> Timestamp {
    let windows = outlook::windows(&repo.repository, &workload()).unwrap();
    windows.unwrap().reaches.unwrap()
}

/// Waits until the server was looked at once more.
fn wait_look(following: &Following) {
    let began = Instant::now();
    let now = Timestamp::now() + SignedDuration::from_millis(200);
    while following.seen().well.is_none_or(|well| well < now) {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "{:?}",
            following.seen()
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

/// Waits until everything until now is known to be there.
fn wait_quiet(repo: &Repo) {
    let now = Timestamp::now();
    let began = Instant::now();
    while reaches(repo) < now {
        assert!(began.elapsed() < Duration::from_secs(60), "{}", reaches(repo));
        std::thread::sleep(Duration::from_millis(200));
    }
}

/// A cluster with a base backup, and its place in a plan.
fn archiving(repo: &Repo, archive: &Path) -> (Server, Subject) {
    let copy = lab::archive_command(archive);
    let server = Server::start(
        17,
        &format!("archive_mode = on\narchive_command = '{copy}'\nautovacuum = off"),
    );
    server.sql("CREATE TABLE t (id int)");
    repo.save(|session| {
        let (settings, how) = (server.settings(), Options::default());
        base::back_up(&settings, session, &workload(), &how, &Work::quiet())
    });
    let source = format!("url = '{}'\nlog = 'archive'", server.url());
    let subject = Subject {
        workload: workload(),
        source: Words::new(toml::from_str::<toml::Table>(&source).unwrap()),
        probe: Words::default(),
    };
    (server, subject)
}

#[test]
fn a_server_where_nothing_happens_loses_nothing_without_a_receiver() {
    let repo = Repo::new();
    let archive = lab::folder();
    let (server, subject) = archiving(&repo, archive.path());
    followed(&repo, &subject, |following| {
        server.sql("INSERT INTO t VALUES (1)");
        wait_look(following);
        push(&repo, &server, archive.path());
        // What a checkpoint writes is in no segment that is archived, and nobody misses it.
        server.sql("CHECKPOINT");
        wait_quiet(&repo);
        assert!(following.seen().alarms.is_empty(), "{:?}", following.seen());
    });
    // Also by another program, later.
    followed(&repo, &subject, |_| wait_quiet(&repo));
    followed(&repo, &subject, |following| {
        // What was committed is missed until it is there.
        wait_quiet(&repo);
        server.sql("INSERT INTO t VALUES (2)");
        let committed = Timestamp::now();
        wait_look(following);
        assert!(reaches(&repo) < committed + SignedDuration::from_millis(1));
        push(&repo, &server, archive.path());
        wait_quiet(&repo);
        // Archiving that fails is told.
        server.sql("ALTER SYSTEM SET archive_command = 'false'");
        server.reload();
        server.sql("INSERT INTO t VALUES (3); SELECT pg_switch_wal()");
        let began = Instant::now();
        while following.seen().alarms.is_empty() {
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "{:?}",
                following.seen()
            );
            std::thread::sleep(Duration::from_millis(200));
        }
        let words = following.seen().alarms["archiving"].clone();
        assert!(words.contains("archive_command fails"), "{words}");
    });
}

#[test]
fn what_was_archived_before_the_first_look_is_not_missed_and_what_was_not_is() {
    let repo = Repo::new();
    let archive = lab::folder();
    let (server, subject) = archiving(&repo, archive.path());
    // Nobody looks while it commits, closes its segment and goes on in the next one.
    server.sql("INSERT INTO t VALUES (1)");
    push(&repo, &server, archive.path());
    server.sql("CHECKPOINT");
    followed(&repo, &subject, |_| wait_quiet(&repo));

    // It commits there too: that is in no archive.
    server.sql("INSERT INTO t VALUES (2)");
    push(&repo, &server, archive.path());
    server.sql("INSERT INTO t VALUES (3)");
    server.sql("CHECKPOINT");
    let missed = Timestamp::now();
    followed(&repo, &subject, |following| {
        wait_look(following);
        wait_look(following);
    });
    assert!(reaches(&repo) < missed, "{} {missed}", reaches(&repo));
    push(&repo, &server, archive.path());
    followed(&repo, &subject, |_| wait_quiet(&repo));

    // A transaction that was given up is missed by nobody.
    server.sql("INSERT INTO t VALUES (4)");
    push(&repo, &server, archive.path());
    server.sql("BEGIN; INSERT INTO t VALUES (5); ROLLBACK");
    server.sql("CHECKPOINT");
    followed(&repo, &subject, |_| wait_quiet(&repo));

    // What cannot be looked at is taken for missing: a role that may not have the log sent.
    server.sql("CREATE ROLE reader LOGIN IN ROLE pg_monitor");
    push(&repo, &server, archive.path());
    server.sql("CHECKPOINT");
    let reader = server.url().replace("user=postgres", "user=reader");
    let source = format!("url = '{reader}'\nlog = 'archive'");
    let reading = Subject {
        source: Words::new(toml::from_str::<toml::Table>(&source).unwrap()),
        ..subject.clone()
    };
    followed(&repo, &reading, |following| {
        wait_look(following);
        wait_look(following);
    });
    assert!(reaches(&repo) < Timestamp::now() - SignedDuration::from_secs(1));
    followed(&repo, &subject, |_| wait_quiet(&repo));
}
