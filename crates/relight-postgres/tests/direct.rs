//! Base backups by reading files on the server's host, while the server works; and backups of standbys.

mod lab;
mod repo;

use std::path::Path;
use std::process::{Child, Stdio};
use std::sync::atomic::Ordering;
use std::time::Duration;

use lab::Server;
use relight_postgres::base::{self, About, Options, Route};
use relight_postgres::restore::{self, Recovery, TablespaceMap};
use relight_repo::snapshot::Snapshot;
use relight_workloads::kind::Work;
use repo::{Repo, workload};

fn back_up(repo: &Repo, server: &Server, route: Route) -> Snapshot {
    let options = Options {
        route,
        ..Options::default()
    };
    repo.save(|session| base::back_up(&server.settings(), session, &workload(), &options, &Work::quiet()))
}

fn restored(version: u32, repo: &Repo, snapshot: &Snapshot) -> Server {
    let folder = lab::folder();
    let data = folder.path().join("data");
    let options = restore::Options {
        directory: data.clone(),
        tablespaces: TablespaceMap {
            others: Some(folder.path().join("spaces")),
            ..TablespaceMap::default()
        },
        owner: Some(lab::runner()),
        recovery: Recovery::immediate(),
        delta: false,
        sync: false,
    };
    restore::restore(&repo.reader(), snapshot, &options, None, &Work::quiet()).unwrap();
    let server = Server::of(version, folder, data);
    server.up();
    for _ in 0..100 {
        if server.sql("SELECT pg_is_in_recovery()") == "f" {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    server
}

/// Writes numbered rows as fast as it can.
fn load(server: &Server) -> Child {
    let script = server.folder.path().join("load.sql");
    std::fs::write(
        &script,
        "INSERT INTO numbers DEFAULT VALUES;\nUPDATE t SET text = md5(random()::text) WHERE id = (random() * 20000)::int;\n",
    )
    .unwrap();
    lab::command(server.version, "pgbench")
        .args(["-n", "-c", "2", "-T", "60", "-h"])
        .arg(server.socket())
        .args(["-U", "postgres", "-f"])
        .arg(&script)
        .arg("postgres")
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap()
}

fn whole(server: &Server, at_least: u64) {
    let version = server.version;
    let numbers: u64 = server.sql("SELECT count(*) FROM numbers").parse().unwrap();
    assert!(numbers >= at_least, "{numbers} of {at_least}");
    lab::run(
        lab::command(version, "pg_amcheck")
            .args([
                "--all",
                "--install-missing",
                "--heapallindexed",
                "-U",
                "postgres",
                "-h",
            ])
            .arg(server.socket()),
    );
    server.down("fast");
    lab::run(
        lab::command(version, "pg_checksums")
            .arg("--check")
            .arg("-D")
            .arg(&server.data),
    );
}

fn fill(server: &Server) {
    server.sql("CREATE TABLE t AS SELECT g AS id, md5(g::text) AS text FROM generate_series(1, 20000) g");
    server.sql("ALTER TABLE t ADD PRIMARY KEY (id)");
    server.sql("CREATE TABLE numbers (id serial PRIMARY KEY); CREATE UNLOGGED TABLE u AS SELECT 1 AS id");
    server.sql(
        "CREATE TABLE still AS SELECT g AS id, repeat('s', 500) AS text FROM generate_series(1, 20000) g",
    );
}

#[test]
fn a_working_server_is_saved_whole_and_what_rests_is_not_read_again() {
    for version in [14, 17] {
        let repo = Repo::new();
        let server = Server::start(version, "");
        let place = server.folder.path().join("space");
        lab::run(
            std::process::Command::new("install")
                .arg("-d")
                .arg("-o")
                .arg(lab::runner_name())
                .arg(&place),
        );
        server.sql(&format!("CREATE TABLESPACE space LOCATION '{}'", place.display()));
        server.sql("CREATE TABLE spaced TABLESPACE space AS SELECT g AS id FROM generate_series(1, 5000) g");
        fill(&server);
        server.sql("VACUUM FREEZE");
        server.sql("CHECKPOINT");
        std::thread::sleep(Duration::from_millis(2500));
        let first = back_up(&repo, &server, Route::Files);
        assert_eq!(first.incomplete, Vec::<String>::new());
        let mut load = load(&server);
        std::thread::sleep(Duration::from_millis(500));
        let numbers = server.sql("SELECT count(*) FROM numbers").parse().unwrap();
        let read = std::sync::Arc::new(std::sync::atomic::AtomicU64::new(0));
        let second = repo.save(|session| {
            let options = Options {
                route: Route::Files,
                ..Options::default()
            };
            let captured = base::back_up(&server.settings(), session, &workload(), &options, &Work::quiet())?;
            read.store(captured.read, Ordering::Relaxed);
            Ok(captured)
        });
        load.kill().unwrap();
        load.wait().unwrap();
        assert_eq!(second.incomplete, Vec::<String>::new());
        let list = base::load_list(&repo.reader(), &second).unwrap();
        let read = read.load(Ordering::Relaxed);
        assert!(read > 0 && read < list.bytes() / 2, "{read} of {}", list.bytes());
        let counted = base::load_inventory(&repo.reader(), &second).unwrap().rows;
        let rows = |table: &str| {
            let of = counted
                .iter()
                .find(|count| count.table == format!("\"public\".\"{table}\""));
            of.map(|count| count.rows)
        };
        assert_eq!(
            rows("still"),
            Some(20_000),
            "counted although others were written to"
        );
        assert_eq!((rows("numbers"), rows("t")), (None, None), "written to meanwhile");
        let unlogged = server.sql("SELECT pg_relation_filepath('u')");
        let has = |path: &str| list.entries.iter().any(|entry| entry.path == path);
        assert!(has(&format!("{unlogged}_init")) && !has(&unlogged));
        assert!(!has("postmaster.pid") && has("pg_wal/archive_status") && has("pg_notify"));

        let again = restored(version, &repo, &second);
        assert_eq!(again.sql("SELECT count(*) FROM still"), "20000");
        assert_eq!(again.sql("SELECT count(*) FROM spaced"), "5000");
        assert_eq!(again.sql("SELECT count(*) FROM u"), "0");
        whole(&again, numbers);
        whole(&restored(version, &repo, &first), 0);
    }
}

#[test]
fn another_host_is_refused_and_a_backup_that_is_given_up_leaves_the_server_clean() {
    let repo = Repo::new();
    let server = Server::start(17, "");
    fill(&server);
    let work = Work::quiet();
    let cancelled = work.cancelled.clone();
    let work = Work {
        note: std::sync::Arc::new(move |text: &str| {
            if text.contains("reading the files") || text.contains("sends its files") {
                cancelled.store(true, Ordering::Relaxed);
            }
        }),
        ..work
    };
    for route in [Route::Files, Route::Stream] {
        work.cancelled.store(false, Ordering::Relaxed);
        let options = Options {
            route,
            ..Options::default()
        };
        let given_up =
            repo.try_save(|session| base::back_up(&server.settings(), session, &workload(), &options, &work));
        assert!(given_up.unwrap_err().is_cancelled());
        let mut left = String::new();
        for _ in 0..50 {
            left = server.sql(
                "SELECT count(*) || ' ' || (SELECT count(*) FROM pg_replication_slots) || ' ' || \
                 (SELECT count(*) FROM pg_stat_progress_basebackup) FROM pg_stat_activity WHERE application_name = 'relight' \
                 AND pid <> pg_backend_pid()",
            );
            if left == "0 0 0" {
                break;
            }
            std::thread::sleep(Duration::from_millis(100));
        }
        assert_eq!(left, "0 0 0", "{route:?}");
    }
    assert_eq!(repo.repository.snapshot_ids().unwrap().len(), 0);
}

#[test]
fn a_primary_that_is_killed_in_the_middle_gives_an_error_and_no_snapshot() {
    for route in [Route::Files, Route::Stream] {
        let repo = Repo::new();
        let server = Server::start(17, "");
        fill(&server);
        let pid: i32 = std::fs::read_to_string(server.data.join("postmaster.pid"))
            .unwrap()
            .lines()
            .next()
            .unwrap()
            .parse()
            .unwrap();
        let work = Work {
            note: std::sync::Arc::new(move |text: &str| {
                if text.contains("reading the files") || text.contains("sends its files") {
                    let pid = rustix::process::Pid::from_raw(pid).unwrap();
                    rustix::process::kill_process(pid, rustix::process::Signal::QUIT).unwrap();
                    std::thread::sleep(Duration::from_millis(500));
                }
            }),
            ..Work::quiet()
        };
        let options = Options {
            route,
            ..Options::default()
        };
        let error = repo
            .try_save(|session| base::back_up(&server.settings(), session, &workload(), &options, &work))
            .unwrap_err()
            .to_string();
        assert!(
            error.contains("was lost") || error.contains("terminating connection"),
            "{route:?}: {error}"
        );
        assert_eq!(repo.repository.snapshot_ids().unwrap().len(), 0);
        server.up();
        assert_eq!(server.sql("SELECT count(*) FROM still"), "20000");
    }
}

#[test]
fn a_standby_can_be_saved_in_both_ways() {
    let primary = Server::start(17, "");
    fill(&primary);
    let folder = lab::folder();
    let data = folder.path().join("data");
    lab::run(
        lab::command(17, "pg_basebackup")
            .args(["-c", "fast", "-U", "postgres", "-h"])
            .arg(primary.socket())
            .arg("-D")
            .arg(&data),
    );
    std::fs::write(data.join("standby.signal"), "").unwrap();
    let standby = Server::of(17, folder, data);
    let socket = primary.socket().display();
    standby.configure(&format!("primary_conninfo = 'host={socket} user=postgres'"));
    standby.up();
    primary.sql("INSERT INTO numbers SELECT nextval('numbers_id_seq') FROM generate_series(1, 100)");
    let caught_up = primary.sql("SELECT pg_current_wal_lsn()");
    for _ in 0..100 {
        if standby.sql(&format!("SELECT pg_last_wal_replay_lsn() >= '{caught_up}'")) == "t" {
            break;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    for route in [Route::Stream, Route::Files] {
        let repo = Repo::new();
        let mut load = load(&primary);
        std::thread::sleep(Duration::from_millis(300));
        let snapshot = back_up(&repo, &standby, route);
        load.kill().unwrap();
        load.wait().unwrap();
        assert!(About::of(&snapshot).unwrap().from_standby);
        whole(&restored(17, &repo, &snapshot), 100);
    }
    assert!(Path::new(&standby.data).exists());
}
