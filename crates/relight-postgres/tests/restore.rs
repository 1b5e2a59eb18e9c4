//! Restores of real clusters: started, compared, and refused where they must be.

mod lab;
mod repo;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use lab::Server;
use relight_postgres::base::{self, Options};
use relight_postgres::launch::{self, Programs, Reached};
use relight_postgres::restore::{self, Action, Goal, Recovery, TablespaceMap};
use relight_repo::snapshot::Snapshot;
use relight_workloads::kind::Work;
use repo::Repo;

fn back_up(repo: &Repo, server: &Server) -> Snapshot {
    repo.save(|session| {
        base::back_up(
            &server.settings(),
            session,
            &repo::workload(),
            &Options::default(),
            &Work::quiet(),
        )
    })
}

fn options(directory: &Path, recovery: Recovery) -> restore::Options {
    restore::Options {
        directory: directory.to_path_buf(),
        tablespaces: TablespaceMap::default(),
        owner: Some(lab::runner()),
        recovery,
        delta: false,
        sync: false,
    }
}

/// A data directory that is to be started.
fn restored(version: u32, repo: &Repo, snapshot: &Snapshot, recovery: Recovery) -> Server {
    let folder = lab::folder();
    let data = folder.path().join("data");
    restore::restore(
        &repo.reader(),
        snapshot,
        &options(&data, recovery),
        None,
        &Work::quiet(),
    )
    .unwrap();
    Server::of(version, folder, data)
}

/// A checksum of a table's rows.
const ROWS: &str = "SELECT count(*) || ' ' || md5(string_agg(t::text, ',' ORDER BY id)) FROM t";

#[test]
fn what_comes_back_starts_and_is_what_was_saved() {
    for version in [14, 15, 16, 17, 18] {
        let repo = Repo::new();
        let server = Server::start(version, "");
        server.sql(
            "CREATE TABLE t AS SELECT g AS id, md5(g::text) AS text FROM generate_series(1, 50000) g; \
             CREATE INDEX ON t (text); CREATE UNLOGGED TABLE u AS SELECT 1",
        );
        let before = server.sql(ROWS);
        let snapshot = back_up(&repo, &server);
        server.sql("DELETE FROM t");
        let again = restored(version, &repo, &snapshot, Recovery::immediate());
        if version >= 15 {
            // The server's own list of files and checksums; the log was not asked to be looked at by it.
            let manifest = repo.blob(&snapshot, base::MANIFEST);
            let path = again.folder.path().join("manifest");
            fs::write(&path, manifest).unwrap();
            let ignored = [
                "tablespace_map",
                "postgresql.auto.conf",
                "recovery.signal",
                "pg_wal",
            ];
            lab::run(
                lab::command(version, "pg_verifybackup")
                    .arg("-n")
                    .arg("-m")
                    .arg(&path)
                    .args(ignored.map(|name| format!("--ignore={name}")))
                    .arg(&again.data),
            );
        }
        again.up();
        assert_eq!(again.sql(ROWS), before, "version {version}");
        assert_eq!(
            again.sql("SELECT count(*) FROM u"),
            "0",
            "an unlogged table is empty"
        );
        assert_eq!(again.sql("SHOW archive_mode"), "off");
        assert_eq!(again.sql("SELECT pg_is_in_recovery()"), "f");
        again.down("fast");
        lab::run(
            lab::command(version, "pg_checksums")
                .arg("--check")
                .arg("-D")
                .arg(&again.data),
        );
    }
}

#[test]
fn tablespaces_go_where_they_are_told_and_nowhere_else() {
    let repo = Repo::new();
    let server = Server::start(17, "");
    let place = server.folder.path().join("space");
    lab::run(
        std::process::Command::new("install")
            .arg("-d")
            .arg("-o")
            .arg(lab::runner_name())
            .arg(&place),
    );
    server.sql(&format!("CREATE TABLESPACE space LOCATION '{}'", place.display()));
    server.sql("CREATE TABLE t TABLESPACE space AS SELECT g AS id FROM generate_series(1, 5000) g");
    let before = server.sql(ROWS);
    let snapshot = back_up(&repo, &server);
    let folder = lab::folder();
    let data = folder.path().join("data");
    let restore_to = |map: TablespaceMap| {
        let mut options = options(&data, Recovery::immediate());
        options.tablespaces = map;
        restore::restore(&repo.reader(), &snapshot, &options, None, &Work::quiet())
    };
    let error = restore_to(TablespaceMap::default()).unwrap_err().to_string();
    assert!(error.contains("not empty") && error.contains("space"), "{error}");
    let single = |from: &str, to: &Path| TablespaceMap {
        single: BTreeMap::from([(from.to_string(), to.to_path_buf())]),
        others: None,
    };
    let error = restore_to(single("99", &place)).unwrap_err().to_string();
    assert!(error.contains("no tablespace 99"), "{error}");
    let error = restore_to(single(&place.display().to_string(), &data.join("x")))
        .unwrap_err()
        .to_string();
    assert!(error.contains("lie in each other"), "{error}");
    assert!(!data.join("PG_VERSION").exists(), "nothing was begun");
    restore_to(single(
        &place.display().to_string(),
        &folder.path().join("elsewhere"),
    ))
    .unwrap();
    let again = Server::of(17, folder, data.clone());
    again.up();
    assert_eq!(again.sql(ROWS), before);
    again.down("fast");

    // What is there may be brought back with its tablespace, but not over somebody else's.
    let delta = |map: TablespaceMap| {
        let mut options = options(&data, Recovery::immediate());
        (options.tablespaces, options.delta) = (map, true);
        restore::restore(&repo.reader(), &snapshot, &options, None, &Work::quiet())
    };
    let error = delta(TablespaceMap::default()).unwrap_err().to_string();
    assert!(
        error.contains("space is left as it is")
            && error.contains("no tablespace of the cluster that is there"),
        "{error}"
    );
    delta(single(
        &place.display().to_string(),
        &again.folder.path().join("elsewhere"),
    ))
    .unwrap();
    again.up();
    assert_eq!(again.sql(ROWS), before);
    assert!(
        again
            .sql("SELECT pg_tablespace_location(oid) FROM pg_tablespace WHERE spcname = 'space'")
            .ends_with("elsewhere")
    );
    assert_eq!(server.sql(ROWS), before, "the original's tablespace is untouched");
}

#[test]
fn a_restore_into_what_is_there_brings_back_only_what_differs() {
    let repo = Repo::new();
    let server = Server::start(17, "");
    server.sql("CREATE TABLE t AS SELECT g AS id, md5(g::text) AS text FROM generate_series(1, 100000) g");
    let before = server.sql(ROWS);
    let snapshot = back_up(&repo, &server);
    server.sql("DELETE FROM t WHERE id % 1000 = 0; CREATE TABLE later AS SELECT 1 AS id");
    let mut options = options(&server.data, Recovery::immediate());
    options.delta = true;
    let restore = |options: &restore::Options| {
        restore::restore(&repo.reader(), &snapshot, options, None, &Work::quiet())
    };
    let error = restore(&options).unwrap_err().to_string();
    assert!(error.contains("postmaster.pid"), "{error}");
    assert_eq!(
        server.sql("SELECT count(*) FROM t"),
        "99900",
        "the running server was left alone"
    );
    server.down("fast");
    fs::write(server.data.join("stray"), "x").unwrap();
    let report = restore(&options).unwrap();
    assert!(report.removed >= 2, "{report:?}");
    assert!(report.written < report.bytes / 2, "{report:?}");
    assert!(!server.data.join("stray").exists());
    server.up();
    assert_eq!(server.sql(ROWS), before);
    server.down("fast");

    // Another cluster, and a folder that is none.
    let other = Server::start(17, "");
    other.down("fast");
    options.directory = other.data.clone();
    let error = restore(&options).unwrap_err().to_string();
    assert!(error.contains("and the backup is one of cluster"), "{error}");
    other.up();
    options.directory = other.folder.path().join("x");
    fs::create_dir(&options.directory).unwrap();
    fs::write(options.directory.join("precious"), "x").unwrap();
    let error = restore(&options).unwrap_err().to_string();
    assert!(error.contains("no PG_VERSION"), "{error}");
    assert!(options.directory.join("precious").exists());
}

#[test]
fn recovery_stops_where_it_is_told_and_a_goal_that_is_not_reached_is_an_error() {
    let repo = Repo::new();
    let archive = lab::folder();
    let copy = lab::archive_command(archive.path());
    let server = Server::start(17, &format!("archive_mode = on\narchive_command = '{copy}'"));
    server.sql("CREATE TABLE t (id int)");
    let snapshot = back_up(&repo, &server);
    let mut marks = Vec::new();
    for id in 0..5 {
        server.sql(&format!("INSERT INTO t VALUES ({id})"));
        let xid = server.sql(&format!(
            "BEGIN; INSERT INTO t VALUES ({id}); SELECT pg_current_xact_id(); COMMIT"
        ));
        std::thread::sleep(std::time::Duration::from_millis(20));
        let lsn = server.sql(&format!("SELECT pg_create_restore_point('point {id}')"));
        let time = server
            .sql("SELECT to_char(clock_timestamp() AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')");
        marks.push((xid, lsn, time));
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    server.sql("SELECT pg_switch_wal()");
    for _ in 0..100 {
        if server.sql("SELECT last_archived_wal >= '000000010000000000000003' FROM pg_stat_archiver") == "t" {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let fetch = format!("cp {}/%f %p", archive.path().display());
    let programs = Programs::find(17, Some(&lab::programs(17)), Some(lab::runner())).unwrap();
    let run = |goal: Goal, action: Action| {
        let folder = lab::folder();
        let data = folder.path().join("data");
        let mut recovery = Recovery::to(goal, fetch.clone());
        recovery.action = action;
        restore::restore(
            &repo.reader(),
            &snapshot,
            &options(&data, recovery),
            None,
            &Work::quiet(),
        )
        .unwrap();
        let server = Server::of(17, folder, data);
        server.configure(&format!(
            "unix_socket_directories = '{}'",
            server.socket().display()
        ));
        let reached = launch::start(
            &programs,
            &server.data,
            &server.socket().join("log"),
            &Work::quiet(),
        );
        (server, reached)
    };
    let rows = "SELECT count(*) FROM t";
    let (xid, lsn, time) = &marks[2];
    for (goal, expected) in [
        (Goal::Latest, "10"),
        (Goal::Transaction(xid.parse().unwrap()), "6"),
        (Goal::Lsn(lsn.parse().unwrap()), "6"),
        (Goal::Time(restore::goal_time(time).unwrap()), "6"),
        (Goal::Name("point 2".into()), "6"),
        (Goal::Immediate, "0"),
    ] {
        let (server, reached) = run(goal.clone(), Action::Promote);
        assert_eq!(reached.unwrap(), Reached::InProduction, "{goal}");
        assert_eq!(server.sql(rows), expected, "{goal}");
    }
    let (server, reached) = run(Goal::Lsn(lsn.parse().unwrap()), Action::Pause);
    assert_eq!(reached.unwrap(), Reached::Paused, "{}", server.log());
    assert_eq!(server.sql("SELECT pg_is_in_recovery()"), "t");
    assert_eq!(
        run(Goal::Lsn(lsn.parse().unwrap()), Action::Shutdown).1.unwrap(),
        Reached::ShutDown
    );

    let (server, reached) = run(Goal::Name("never".into()), Action::Promote);
    let error = reached.unwrap_err().to_string();
    assert!(error.contains("goal was not reached"), "{error}");
    assert!(!server.data.join("postmaster.pid").exists());
}

#[test]
fn a_restore_that_breaks_off_leaves_nothing_that_starts() {
    let repo = Repo::new();
    let server = Server::start(17, "");
    let snapshot = back_up(&repo, &server);
    let work = Work::quiet();
    work.cancelled.store(true, std::sync::atomic::Ordering::Relaxed);
    let folder = lab::folder();
    let data = folder.path().join("data");
    let error = restore::restore(
        &repo.reader(),
        &snapshot,
        &options(&data, Recovery::immediate()),
        None,
        &work,
    )
    .unwrap_err();
    assert!(error.is_cancelled());
    assert!(data.join("PG_VERSION").exists() && !data.join("global/pg_control").exists());
    let output = lab::command(17, "postgres")
        .arg("-D")
        .arg(&data)
        .output()
        .unwrap();
    assert!(!output.status.success());

    // The next one says what it found, and completes it if it is told to.
    let mut options = options(&data, Recovery::immediate());
    let again = |options: &restore::Options| {
        restore::restore(&repo.reader(), &snapshot, options, None, &Work::quiet())
    };
    let error = again(&options).unwrap_err().to_string();
    assert!(
        error.contains(&snapshot.id.short().to_string()) && error.contains("did not come to its end"),
        "{error}"
    );
    options.delta = true;
    let report = again(&options).unwrap();
    assert_eq!(report.completed.unwrap().snapshot, snapshot.id.to_string());
    assert_eq!(again(&options).unwrap().completed, None);

    // Killed before anything was made: there is nothing to be completed.
    options.directory = folder.path().join("other");
    options.delta = false;
    fs::create_dir(&options.directory).unwrap();
    fs::write(options.directory.join("relight-restore.unfinished"), "{\"snaps").unwrap();
    assert_eq!(again(&options).unwrap().completed, None);
    let again = Server::of(17, folder, options.directory);
    assert!(!again.data.join("relight-restore.unfinished").exists());
    again.up();
}
