//! Drills of real clusters: what came back works, and what was made wrong is noticed. They need root, as the drills do.

mod lab;
mod repo;

use std::fs;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use jiff::Timestamp;
use lab::Server;
use relight_model::plan::{PickRule, Settings};
use relight_postgres::base::{self, Options};
use relight_postgres::kind::Clusters;
use relight_postgres::wal::store::{LogStore, NewFile};
use relight_repo::snapshot::Snapshot;
use relight_workloads::kind::{Kind, Subject, Work};
use relight_workloads::rehearse::{Point, Probed, Rehearsal, pick};
use repo::{Repo, workload};

fn subject(version: u32, probe: &str) -> Subject {
    let settings = |text: &str| {
        let table: toml::Table = toml::from_str(text).unwrap();
        Settings::new(table)
    };
    Subject {
        workload: workload(),
        source: settings(&format!(
            "url = 'host=nowhere.example user=x'\nbin = '{}'\nuser = '{}'",
            lab::programs(version).display(),
            lab::runner_name()
        )),
        probe: settings(probe),
    }
}

fn snapshots(repo: &Repo) -> Vec<Snapshot> {
    repo.repository.refresh().unwrap();
    repo.repository.snapshots().unwrap().0
}

/// Runs a drill to a moment; with `spoil`, makes what came back wrong and looks again.
fn drill(repo: &Repo, subject: &Subject, point: Point, spoil: bool) -> Vec<Probed> {
    let snapshots = snapshots(repo);
    // As the server's own folders are: nobody but root gets through.
    let closed = tempfile::tempdir_in("/tmp").unwrap();
    let sandbox = closed.path().join("sandbox");
    fs::create_dir(&sandbox).unwrap();
    let reader = repo.reader();
    let rehearsal = Rehearsal {
        subject,
        reader: &reader,
        snapshots: &snapshots,
        snapshot: snapshots
            .iter()
            .find(|snapshot| snapshot.id == point.snapshot)
            .unwrap(),
        point,
        sandbox: &sandbox,
    };
    let kind = Clusters.rehearse().unwrap();
    assert!(kind.room(&rehearsal).unwrap() > 20 << 20);
    let work = Work::quiet();
    let mut restored = kind.restore(&rehearsal, &work).unwrap();
    restored.start(&work).unwrap();
    if spoil {
        let first = restored.probe(&work).unwrap();
        assert!(first.iter().all(|probed| probed.passed), "{first:?}");
        let words = restored.spoil(&work).unwrap();
        assert!(words.contains("overwritten"), "{words}");
    }
    let probes = restored.probe(&work).unwrap();
    restored.stop().unwrap();
    probes
}

fn seen<'p>(probes: &'p [Probed], name: &str) -> &'p Probed {
    let found = probes.iter().find(|probed| probed.name.starts_with(name));
    found.unwrap_or_else(|| panic!("no {name} in {probes:?}"))
}

#[test]
fn a_drill_passes_for_what_is_good_and_notices_what_is_not() {
    for version in [14, 17] {
        let repo = Repo::new();
        let server = Server::start(version, "");
        server.sql("CREATE DATABASE app");
        server.sql("CREATE TABLE t AS SELECT g AS id, md5(g::text) AS text FROM generate_series(1, 30000) g");
        server.sql("ALTER TABLE t ADD PRIMARY KEY (id)");
        let space = server.folder.path().join("space");
        fs::create_dir(&space).unwrap();
        let (uid, gid) = lab::runner();
        std::os::unix::fs::chown(&space, Some(uid), Some(gid)).unwrap();
        server.sql(&format!("CREATE TABLESPACE space LOCATION '{}'", space.display()));
        server.sql("CREATE TABLE elsewhere TABLESPACE space AS SELECT generate_series(1, 777)");
        std::thread::sleep(std::time::Duration::from_millis(1200));
        let snapshot = repo.save(|session| {
            base::back_up(
                &server.settings(),
                session,
                &workload(),
                &Options::default(),
                &Work::quiet(),
            )
        });
        let inventory = base::load_inventory(&repo.reader(), &snapshot).unwrap();
        assert!(
            inventory.rows.iter().any(|count| count.rows == 30_000),
            "{inventory:?}"
        );
        let subject = subject(
            version,
            "sql = [{ database = 'postgres', query = 'SELECT count(*) FROM t', expect = '30000' }, \
             { database = 'postgres', query = 'SELECT count(*) FROM elsewhere', expect = '777' }, \
             { database = 'app', query = 'SELECT 1 WHERE false' }]",
        );
        let reach = Clusters
            .rehearse()
            .unwrap()
            .reach(&subject, &repo.repository, &snapshots(&repo));
        let point = pick(PickRule::Latest, &reach, 0).unwrap();
        let probes = drill(&repo, &subject, point, false);
        for name in [
            "recovery",
            "databases",
            "pg_amcheck",
            "rows",
            "checksums",
            "sql: SELECT count(*) FROM t",
            "sql: SELECT count(*) FROM elsewhere",
        ] {
            assert!(seen(&probes, name).passed, "{probes:?}");
        }
        assert!(!seen(&probes, "sql: SELECT 1 WHERE").passed, "{probes:?}");
        let mut subject = subject;
        subject.probe = Settings::default();
        let probes = drill(&repo, &subject, point, true);
        assert!(!seen(&probes, "checksums").passed, "{probes:?}");
    }
}

#[test]
fn any_moment_of_the_window_can_be_drilled() {
    let repo = Repo::new();
    let archive = lab::folder();
    let copy = lab::archive_command(archive.path());
    let server = Server::start(17, &format!("archive_mode = on\narchive_command = '{copy}'"));
    server.sql("CREATE TABLE t (id int)");
    let snapshot = repo.save(|session| {
        base::back_up(
            &server.settings(),
            session,
            &workload(),
            &Options::default(),
            &Work::quiet(),
        )
    });
    let mut times: Vec<Timestamp> = Vec::new();
    for id in 0..4 {
        server.sql(&format!("INSERT INTO t VALUES ({id})"));
        std::thread::sleep(std::time::Duration::from_millis(50));
        times.push(Timestamp::now());
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let last = server.sql("SELECT pg_walfile_name(pg_switch_wal())");
    for _ in 0..200 {
        if archive.path().join(&last).exists() {
            break;
        }
        std::thread::sleep(std::time::Duration::from_millis(50));
    }
    let store = LogStore::new(
        repo.repository.clone(),
        workload(),
        Arc::new(AtomicBool::new(false)),
    );
    let mut files = Vec::new();
    for entry in fs::read_dir(archive.path()).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().to_string_lossy().into_owned();
        if let Ok(name) = name.parse() {
            files.push(NewFile {
                name,
                bytes: fs::read(entry.path()).unwrap(),
                system: None,
            });
        }
    }
    store.push(files).unwrap();

    let subject = subject(
        17,
        "sql = [{ database = 'postgres', query = 'SELECT count(*) FROM t' }]",
    );
    let kind = Clusters.rehearse().unwrap();
    let reach = kind.reach(&subject, &repo.repository, &snapshots(&repo));
    assert_eq!(reach.len(), 1);
    assert!(reach[0].first < times[0] && reach[0].last > times[2], "{reach:?}");
    let moments = [(times[1], "2"), (reach[0].last, "4"), (reach[0].first, "0")];
    for (time, expected) in moments {
        let point = Point {
            time,
            snapshot: snapshot.id,
        };
        let probes = drill(&repo, &subject, point, false);
        assert!(probes.iter().all(|probed| probed.passed), "{probes:?}");
        assert_eq!(seen(&probes, "sql").seen, expected, "at {time}");
    }
}
