//! Base backups of real servers, and what comes back of them.

mod lab;
mod repo;

use std::os::unix::fs::FileExt;

use lab::Server;
use relight_postgres::base::{self, About, Options};
use relight_repo::snapshot::Snapshot;
use relight_workloads::kind::Work;
use repo::Repo;

fn back_up(repo: &Repo, server: &Server, options: &Options) -> Snapshot {
    repo.save(|session| {
        base::back_up(
            &server.settings(),
            session,
            &repo::workload(),
            options,
            &Work::quiet(),
        )
    })
}

#[test]
fn a_base_backup_tells_what_it_is() {
    for version in [14, 18] {
        let repo = Repo::new();
        let server = Server::start(version, "");
        server.sql(
            "CREATE TABLE t AS SELECT g AS id, repeat('x', 100) AS text FROM generate_series(1, 20000) g",
        );
        let snapshot = back_up(&repo, &server, &Options::default());
        assert_eq!(snapshot.incomplete, Vec::<String>::new());
        let about = About::of(&snapshot).unwrap();
        assert_eq!(about.major(), version);
        assert_eq!(
            about.system.to_string(),
            server.sql("SELECT system_identifier FROM pg_control_system()")
        );
        assert!(about.start_lsn < about.stop_lsn && about.start_time < about.stop_time);
        assert!(about.checksums && about.segment_size == 16 << 20 && about.block_size == 8192);
        let list = base::load_list(&repo.reader(), &snapshot).unwrap();
        let has = |path: &str| list.entries.iter().any(|entry| entry.path == path);
        assert!(has("global/pg_control") && has("backup_label") && has("PG_VERSION"));
        assert!(
            list.entries
                .iter()
                .any(|entry| entry.path.starts_with("pg_wal/0")),
            "the log"
        );
        assert!(!has("postmaster.pid") && !has("tablespace_map"));
        let slots = "SELECT count(*) FROM pg_replication_slots";
        assert_eq!(server.sql(slots), "0", "nothing stays behind");

        // Again, with little changed: what did not change is not stored again.
        server.sql("UPDATE t SET text = repeat('y', 100) WHERE id < 10");
        let again = back_up(&repo, &server, &Options::default());
        let wal = 16 << 20;
        assert!(
            again.figures.added < snapshot.figures.added / 2 + wal,
            "{} after {}",
            again.figures.added,
            snapshot.figures.added
        );
    }
}

#[test]
fn a_page_that_was_damaged_before_is_named_and_saved_as_it_is() {
    let repo = Repo::new();
    let server = Server::start(17, "");
    server.sql("CREATE TABLE t AS SELECT g AS id, repeat('x', 100) AS text FROM generate_series(1, 20000) g");
    server.sql("CHECKPOINT");
    let path = server.sql("SELECT pg_relation_filepath('t')");
    server.down("fast");
    let file = std::fs::OpenOptions::new()
        .write(true)
        .open(server.data.join(&path))
        .unwrap();
    file.write_all_at(b"garbage", 5 * 8192 + 4000).unwrap();
    server.up();
    let snapshot = back_up(&repo, &server, &Options::default());
    assert_eq!(snapshot.incomplete.len(), 1, "{:?}", snapshot.incomplete);
    let words = &snapshot.incomplete[0];
    assert!(words.contains(&path) && words.contains("page 5"), "{words}");
}

#[test]
fn a_server_that_knows_what_changed_sends_only_that_and_the_backup_is_whole() {
    for version in [17, 18] {
        let repo = Repo::new();
        let server = Server::start(version, "summarize_wal = on");
        server
            .sql("CREATE TABLE t AS SELECT g AS id, md5(g::text) AS text FROM generate_series(1, 200000) g");
        server.sql("CREATE TABLE gone AS SELECT 1 AS id; CREATE TABLE shrinks AS SELECT g AS id FROM generate_series(1, 100000) g");
        let first = back_up(&repo, &server, &Options::default());
        assert!(!About::of(&first).unwrap().incremental);
        for round in 0..3 {
            server.sql(&format!(
                "UPDATE t SET text = 'changed {round}' WHERE id % 10000 = {round}"
            ));
            server.sql("INSERT INTO t SELECT g, 'new' FROM generate_series(200001, 201000) g");
            server.sql("DROP TABLE IF EXISTS gone; DELETE FROM shrinks WHERE id > 50000 / 2");
            server.sql("VACUUM shrinks");
            server.sql(&format!(
                "CREATE TABLE new{round} AS SELECT g AS id FROM generate_series(1, 3000) g"
            ));
            let next = back_up(&repo, &server, &Options::default());
            let about = About::of(&next).unwrap();
            assert!(about.incremental, "round {round}");
            let list = base::load_list(&repo.reader(), &next).unwrap();
            assert!(
                !list
                    .entries
                    .iter()
                    .any(|entry| entry.path.contains("INCREMENTAL"))
            );
            let text = String::from_utf8(repo.file(&next, &list, "backup_label")).unwrap();
            assert!(!text.contains("INCREMENTAL"), "{text}");

            // What a backup of everything holds at the same moment: the server rests, so that nothing differs but time.
            let full = Options {
                full: true,
                ..Options::default()
            };
            server.sql("CHECKPOINT");
            let composed = back_up(&repo, &server, &Options::default());
            let whole = back_up(&repo, &server, &full);
            assert!(About::of(&composed).unwrap().incremental && !About::of(&whole).unwrap().incremental);
            for name in ["t", "shrinks", "new0"] {
                let path = server.sql(&format!("SELECT pg_relation_filepath('{name}')"));
                let content = |snapshot: &Snapshot| {
                    let list = base::load_list(&repo.reader(), snapshot).unwrap();
                    repo.file(snapshot, &list, &path)
                };
                assert!(content(&composed) == content(&whole), "{name} in round {round}");
            }
        }
    }
}

#[test]
fn without_what_it_needs_an_incremental_backup_becomes_one_of_everything_and_says_why() {
    let repo = Repo::new();
    let server = Server::start(17, "summarize_wal = off");
    back_up(&repo, &server, &Options::default());
    let told = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let work = Work {
        note: {
            let told = told.clone();
            std::sync::Arc::new(move |text: &str| told.lock().unwrap().push(text.to_string()))
        },
        ..Work::quiet()
    };
    let again = |reason: &str| {
        let snapshot = repo.save(|session| {
            base::back_up(
                &server.settings(),
                session,
                &repo::workload(),
                &Options::default(),
                &work,
            )
        });
        assert!(!About::of(&snapshot).unwrap().incremental);
        let told = std::mem::take(&mut *told.lock().unwrap());
        assert!(told.iter().any(|text| text.contains(reason)), "{told:?}");
    };
    again("summarize_wal is off");
    // On, but the earlier backup began before there were summaries.
    server.sql("ALTER SYSTEM SET summarize_wal = on");
    server.reload();
    std::thread::sleep(std::time::Duration::from_millis(500));
    server.sql("DO $$ BEGIN FOR i IN 1..3 LOOP PERFORM pg_switch_wal(); CREATE TABLE x AS SELECT 1; DROP TABLE x; END LOOP; END $$");
    server.sql("CHECKPOINT");
    let settled = repo.save(|session| {
        base::back_up(
            &server.settings(),
            session,
            &repo::workload(),
            &Options::default(),
            &work,
        )
    });
    let told = std::mem::take(&mut *told.lock().unwrap());
    let about = About::of(&settled).unwrap();
    assert!(
        about.incremental || told.iter().any(|text| text.contains("cannot tell what changed")),
        "{told:?}"
    );
}
