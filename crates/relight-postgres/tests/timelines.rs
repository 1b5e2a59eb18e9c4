//! After a failover: the new timeline is followed, and the end of the old one can still be brought back.

mod lab;
mod repo;

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use lab::Server;
use relight_postgres::base::{self, Options};
use relight_postgres::restore::{self, Action, Goal, NeededLog, Recovery, TablespaceMap, Timeline};
use relight_postgres::wal::store::{LogStore, NewFile};
use relight_repo::snapshot::Snapshot;
use relight_workloads::kind::Work;
use repo::{Repo, workload};

/// Pushes what was archived since.
fn push(repo: &Repo, archive: &Path) {
    let store = LogStore::new(
        repo.repository.clone(),
        workload(),
        Arc::new(AtomicBool::new(false)),
    );
    let mut files: Vec<NewFile> = fs::read_dir(archive)
        .unwrap()
        .filter_map(|entry| {
            let entry = entry.unwrap();
            let name = entry.file_name().to_string_lossy().parse().ok()?;
            Some(NewFile {
                name,
                bytes: fs::read(entry.path()).unwrap(),
                system: None,
            })
        })
        .collect();
    files.sort_by_key(|file| file.name);
    store.push(files).unwrap();
}

fn wait_for(what: impl Fn() -> bool) {
    for _ in 0..200 {
        if what() {
            return;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("it did not happen in time");
}

/// Closes the segment that is written to and waits until it is archived.
fn close(server: &Server, archive: &Path) {
    let name = server.sql("SELECT pg_walfile_name(pg_current_wal_lsn())");
    server.sql("SELECT pg_switch_wal()");
    wait_for(|| archive.join(&name).exists());
}

fn rows_at(repo: &Repo, snapshots: &[Snapshot], goal: &Goal, timeline: Timeline) -> String {
    let chosen = restore::choose(snapshots, goal, timeline, None).unwrap();
    let folder = lab::folder();
    let data = folder.path().join("data");
    let mut recovery = Recovery::immediate();
    recovery.goal = chosen.goal(goal);
    recovery.timeline = chosen.timeline();
    recovery.action = Action::Promote;
    let options = restore::Options {
        directory: data.clone(),
        tablespaces: TablespaceMap::default(),
        owner: Some(lab::runner()),
        recovery,
        delta: false,
        sync: false,
    };
    let store = LogStore::new(
        repo.repository.clone(),
        workload(),
        Arc::new(AtomicBool::new(false)),
    );
    let request = restore::LogRequest {
        about: &chosen.about,
        timeline: chosen.window.as_ref().unwrap().timeline,
        goal,
    };
    let (tail, catalog) = (store.tail().unwrap(), store.catalog().unwrap());
    let log = NeededLog::find(&store, (&catalog, &tail), &request);
    let work = Work::quiet();
    restore::restore(&repo.reader(), chosen.snapshot, &options, Some(log), &work).unwrap();
    let server = Server::of(17, folder, data);
    server.up();
    wait_for(|| server.sql("SELECT pg_is_in_recovery()") == "f");
    server.sql("SELECT string_agg(id::text, ',' ORDER BY id) FROM t")
}

#[test]
fn both_timelines_can_be_brought_back() {
    let repo = Repo::new();
    let archive = lab::folder();
    let copy = lab::archive_command(archive.path());
    let primary = Server::start(17, &format!("archive_mode = on\narchive_command = '{copy}'"));
    primary.sql("CREATE TABLE t (id int)");
    repo.save(|session| {
        base::back_up(
            &primary.settings(),
            session,
            &workload(),
            &Options::default(),
            &Work::quiet(),
        )
    });
    let folder = lab::folder();
    let data = folder.path().join("data");
    lab::run(
        lab::command(17, "pg_basebackup")
            .args(["-c", "fast", "-U", "postgres", "-h"])
            .arg(primary.socket())
            .arg("-D")
            .arg(&data),
    );
    fs::write(data.join("standby.signal"), "").unwrap();
    let standby = Server::of(17, folder, data);
    let socket = primary.socket().display();
    standby.configure(&format!("primary_conninfo = 'host={socket} user=postgres'"));
    standby.up();
    primary.sql("INSERT INTO t VALUES (1)");
    wait_for(|| standby.sql("SELECT count(*) FROM t") == "1");
    standby.promote();
    // Both go on: what each writes now is on a timeline of its own.
    primary.sql("INSERT INTO t VALUES (100)");
    standby.sql("INSERT INTO t VALUES (2)");
    close(&primary, archive.path());
    primary.down("fast");
    close(&standby, archive.path());
    wait_for(|| archive.path().join("00000002.history").exists());
    push(&repo, archive.path());

    let snapshots = repo.repository.snapshots().unwrap().0;
    assert_eq!(rows_at(&repo, &snapshots, &Goal::Latest, Timeline::Latest), "1,2");
    assert_eq!(
        rows_at(&repo, &snapshots, &Goal::Latest, Timeline::Number(1)),
        "1,100"
    );
    let error = restore::choose(&snapshots, &Goal::Latest, Timeline::Number(9), None).unwrap_err();
    assert!(error.to_string().contains("on timeline 2"), "{error}");
}
