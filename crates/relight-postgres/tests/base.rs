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
