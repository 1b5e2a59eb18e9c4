//! Logical dumps of real servers: what was dumped comes back, also in a later version, and drills notice what is wrong.

mod lab;
mod repo;

use std::fs;
use std::sync::Arc;

use lab::Server;
use relight_model::plan::{PickRule, Settings as Words};
use relight_postgres::logical::{self, Dumps, Loading, Options};
use relight_postgres::wal::windows::Base;
use relight_postgres::{Environment, Settings};
use relight_repo::session::Session;
use relight_repo::snapshot::{Snapshot, SnapshotSpec};
use relight_workloads::kind::{Kind, Subject, Work};
use relight_workloads::rehearse::{Rehearsal, pick};
use repo::{Repo, WORKLOAD, workload};

fn dump(repo: &Repo, settings: &Settings, options: &Options) -> relight_postgres::Result<Snapshot> {
    let session = Session::begin(repo.repository.clone(), Arc::default()).unwrap();
    let captured = logical::back_up(settings, &session, options, &Work::quiet())?;
    let spec = SnapshotSpec {
        workload: WORKLOAD.into(),
        time: captured.time,
        host: "test".into(),
        attributes: captured.attributes,
        ..SnapshotSpec::default()
    };
    Ok(session.publish(spec, captured.archives)?)
}

fn options(version: u32) -> Options {
    Options {
        bin: Some(lab::programs(version)),
        ..Options::default()
    }
}

/// A server with roles, two databases, large objects and what else there is.
fn filled(version: u32) -> Server {
    let server = Server::start(version, "password_encryption = 'scram-sha-256'");
    server.sql("CREATE ROLE clerk LOGIN PASSWORD 'of; the ''clerk'''");
    server.sql("CREATE ROLE \"odd \"\"role;\" NOLOGIN");
    server.sql("CREATE DATABASE shop OWNER clerk");
    server.sql("CREATE DATABASE \"o'dd \"\"db\\\"");
    let mut shop = relight_postgres::Connection::open(
        &server.settings().in_database("shop"),
        relight_postgres::protocol::Mode::Queries,
    )
    .unwrap();
    for sql in [
        "CREATE TABLE orders AS SELECT g AS id, md5(g::text) AS text FROM generate_series(1, 300000) g",
        "ALTER TABLE orders ADD PRIMARY KEY (id)",
        "ALTER TABLE orders OWNER TO clerk",
        "CREATE VIEW last AS SELECT max(id) FROM orders",
        "SELECT lo_from_bytea(4711, 'a large object')",
        "CREATE SEQUENCE s START 77",
    ] {
        shop.query(sql).unwrap();
    }
    server
}

#[test]
fn a_dump_brings_databases_and_roles_back_into_a_later_version() {
    let repo = Repo::new();
    let old = filled(14);
    let first = dump(&repo, &old.settings(), &options(14)).unwrap();
    assert!(logical::is_dump(&first) && Base::of(&first).is_none() && !first.is_log());
    // What did not change is stored once.
    let again = dump(&repo, &old.settings(), &options(14)).unwrap();
    assert!(
        again.figures.added * 2 < first.figures.added,
        "{} of {}",
        again.figures.added,
        first.figures.added
    );
    let script = String::from_utf8(repo.blob(&first, logical::GLOBALS)).unwrap();
    assert!(script.contains("SCRAM-SHA-256$"), "{script}");
    let new = Server::start(18, "");
    let inventory = logical::inventory(&repo.reader(), &first).unwrap();
    assert_eq!(inventory.databases.len(), 3);
    let mut loading = Loading {
        settings: new.settings(),
        databases: vec!["nowhere".into()],
        globals: true,
        bin: Some(lab::programs(18)),
    };
    let load = |loading: &Loading| logical::load(&repo.reader(), &first, &inventory, loading, &Work::quiet());
    let refused = load(&loading).unwrap_err().to_string();
    assert!(refused.contains("holds no database nowhere"), "{refused}");
    loading.databases.clear();
    let loaded = load(&loading).unwrap();
    assert_eq!(loaded.refused, Vec::<String>::new());
    assert_eq!(loaded.databases.len(), 3);
    let passwords = "SELECT rolpassword FROM pg_authid WHERE rolname = 'clerk'";
    assert_eq!(new.sql(passwords), old.sql(passwords));
    assert_eq!(
        new.sql("SELECT count(*) FROM pg_roles WHERE rolname = 'odd \"role;'"),
        "1"
    );
    let mut shop = relight_postgres::Connection::open(
        &new.settings().in_database("shop"),
        relight_postgres::protocol::Mode::Queries,
    )
    .unwrap();
    assert_eq!(
        shop.value("SELECT max || ' ' || (SELECT count(*) FROM orders) FROM last")
            .unwrap(),
        "300000 300000"
    );
    assert_eq!(
        shop.value("SELECT convert_from(lo_get(4711), 'UTF8')").unwrap(),
        "a large object"
    );
    assert_eq!(
        shop.value("SELECT tableowner FROM pg_tables WHERE tablename = 'orders'")
            .unwrap(),
        "clerk"
    );
    // Nothing is overwritten.
    let refused = load(&loading).unwrap_err().to_string();
    assert!(refused.contains("is there already"), "{refused}");
}

#[test]
fn passwords_are_no_arguments_and_a_plain_role_can_dump() {
    let repo = Repo::new();
    let server = filled(17);
    server.sql("CREATE ROLE reader LOGIN PASSWORD 'secret of the reader'; GRANT pg_read_all_data TO reader");
    let rules = server.data.join("pg_hba.conf");
    let text = fs::read_to_string(&rules).unwrap();
    fs::write(&rules, format!("local all reader scram-sha-256\n{text}")).unwrap();
    server.reload();
    let passfile = server.folder.path().join("passfile");
    fs::write(
        &passfile,
        format!("{}:*:*:reader:secret of the reader\n", server.socket().display()),
    )
    .unwrap();
    std::os::unix::fs::chown(&passfile, Some(0), Some(0)).ok();
    fs::set_permissions(&passfile, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    let url = format!(
        "host={} port={} user=reader dbname=postgres passfile={}",
        server.socket().display(),
        lab::PORT,
        passfile.display()
    );
    let settings = Settings::with(&url, &Environment::default()).unwrap();
    // A program that is only looked at: its arguments, and that the password reaches it otherwise.
    let fake = server.folder.path().join("bin");
    fs::create_dir(&fake).unwrap();
    for program in ["pg_dump", "pg_dumpall"] {
        let real = lab::programs(17).join(program);
        let seen = server.folder.path().join("seen");
        let script = format!(
            "#!/bin/sh\necho \"$@\" >> {}\nexec {} \"$@\"\n",
            seen.display(),
            real.display()
        );
        let path = fake.join(program);
        fs::write(&path, script).unwrap();
        fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    }
    let how = Options {
        databases: vec!["shop".into()],
        bin: Some(fake),
    };
    // Large objects belong to who made them, whatever else a role may read.
    let refused = dump(&repo, &settings, &how).unwrap_err().to_string();
    assert!(
        refused.contains("pg_dump") && refused.contains("permission denied"),
        "{refused}"
    );
    let mut shop = relight_postgres::Connection::open(
        &server.settings().in_database("shop"),
        relight_postgres::protocol::Mode::Queries,
    )
    .unwrap();
    shop.query("GRANT SELECT ON LARGE OBJECT 4711 TO reader").unwrap();
    let snapshot = dump(&repo, &settings, &how).unwrap();
    let inventory = logical::inventory(&repo.reader(), &snapshot).unwrap();
    assert!(!inventory.passwords);
    assert_eq!(inventory.databases.len(), 1);
    assert_eq!(
        inventory.databases[0].rows,
        [("\"public\".\"orders\"".to_string(), 300_000)]
    );
    let seen = fs::read_to_string(server.folder.path().join("seen")).unwrap();
    assert!(
        seen.contains("--snapshot=") && !seen.contains("secret of"),
        "{seen}"
    );
    let script = String::from_utf8(repo.blob(&snapshot, logical::GLOBALS)).unwrap();
    assert!(!script.contains("PASSWORD"), "{script}");
}

#[test]
fn a_drill_of_a_dump_notices_what_is_wrong() {
    let repo = Repo::new();
    let server = filled(17);
    let snapshot = dump(&repo, &server.settings(), &options(17)).unwrap();
    let words = |text: &str| Words::new(toml::from_str::<toml::Table>(text).unwrap());
    let subject = Subject {
        workload: workload(),
        source: words(&format!(
            "url = 'host=nowhere.example user=x'\nbin = '{}'\nuser = '{}'",
            lab::programs(17).display(),
            lab::runner_name()
        )),
        probe: words(
            "sql = [{ database = 'shop', query = 'SELECT count(*) FROM orders', expect = '300000' }]",
        ),
    };
    let snapshots = [snapshot];
    let rehearse = Dumps.rehearse().unwrap();
    let reach = rehearse.reach(&subject, &repo.repository, &snapshots);
    let closed = tempfile::tempdir_in("/tmp").unwrap();
    let sandbox = closed.path().join("sandbox");
    fs::create_dir(&sandbox).unwrap();
    let reader = repo.reader();
    let rehearsal = Rehearsal {
        subject: &subject,
        reader: &reader,
        snapshots: &snapshots,
        snapshot: &snapshots[0],
        point: pick(PickRule::Latest, &reach, 0).unwrap(),
        sandbox: &sandbox,
    };
    let work = Work::quiet();
    let mut restored = rehearse.restore(&rehearsal, &work).unwrap();
    restored.start(&work).unwrap();
    let probes = restored.probe(&work).unwrap();
    assert!(probes.iter().all(|probed| probed.passed), "{probes:?}");
    for name in ["roles", "databases", "pg_amcheck", "rows", "sql"] {
        assert!(
            probes.iter().any(|probed| probed.name.starts_with(name)),
            "{name}: {probes:?}"
        );
    }
    let words = restored.spoil(&work).unwrap();
    assert!(words.contains("orders"), "{words}");
    let probes = restored.probe(&work).unwrap();
    let wrong: Vec<&str> = probes
        .iter()
        .filter(|probed| !probed.passed)
        .map(|probed| probed.name.as_str())
        .collect();
    assert!(wrong.contains(&"rows") && wrong.len() == 2, "{probes:?}");
    restored.stop().unwrap();
}
