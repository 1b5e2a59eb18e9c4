//! Connections to real servers: ways to log in, TLS, queries, replication, cancellation.

mod lab;

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use lab::Server;
use relight_postgres::protocol::{Connection, Event, Mode, literal};
use relight_postgres::{Environment, PostgresError, Settings};

/// Settings with an environment of its own, so that nothing of this process' leaks in.
fn settings(text: &str, variables: &[(&str, &str)]) -> Settings {
    let environment = Environment {
        variables: variables
            .iter()
            .map(|(name, value)| (name.to_string(), value.to_string()))
            .collect(),
        ..Environment::default()
    };
    Settings::with(text, &environment).unwrap()
}

fn rules(server: &Server, lines: &str) {
    fs::write(server.data.join("pg_hba.conf"), lines).unwrap();
    server.reload();
    // The reload is asynchronous.
    std::thread::sleep(Duration::from_millis(300));
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap()
        .port()
}

#[test]
fn queries_give_values_errors_and_stay_usable() {
    for version in [14, 15, 16, 17, 18] {
        let server = Server::start(version, "");
        let mut connection = server.connect(Mode::Queries);
        assert_eq!(connection.major_version().unwrap(), version);
        let odd = "it's \\ ünïcode \n";
        let sets = connection
            .query(&format!("SELECT {} AS a, NULL AS b; SELECT 2", literal(odd)))
            .unwrap();
        let row = sets[0].first().unwrap();
        assert_eq!((row.get("a"), row.get("b")), (Some(odd), None));
        assert_eq!(sets[1].value(), Some("2"));
        let error = connection.query("SELECT 1/0").unwrap_err();
        assert_eq!(error.sql_state(), Some("22012"), "{error}");
        assert_eq!(connection.value("SELECT 3").unwrap(), "3");

        let mut replication = server.connect(Mode::Replication);
        let identified = replication.rows("IDENTIFY_SYSTEM").unwrap();
        let row = identified.first().unwrap();
        let identifier = connection
            .value("SELECT system_identifier FROM pg_control_system()")
            .unwrap();
        assert_eq!(row.get("systemid"), Some(identifier.as_str()));
        assert!(row.text("xlogpos").parse::<relight_postgres::Lsn>().is_ok());
    }
}

#[test]
fn passwords_certificates_and_the_words_when_they_are_wrong() {
    let server = Server::start(17, "");
    let port = free_port();
    let key =
        rcgen::generate_simple_self_signed(["db.example".to_string(), "localhost".to_string()]).unwrap();
    let certificate = server.folder.path().join("server.crt");
    let secret = server.data.join("server.key");
    fs::write(&certificate, key.cert.pem()).unwrap();
    fs::write(&secret, key.signing_key.serialize_pem()).unwrap();
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    let (uid, gid) = lab::runner();
    chown(&secret, Some(uid), Some(gid)).unwrap();
    server.configure(&format!(
        "listen_addresses = '127.0.0.1'\nport = {port}\nssl = on\nssl_cert_file = '{}'\nssl_key_file = '{}'",
        certificate.display(),
        secret.display()
    ));
    server.sql(
        "SET password_encryption='scram-sha-256'; CREATE ROLE s LOGIN REPLICATION PASSWORD 'geheim ☃'; \
         SET password_encryption='md5'; CREATE ROLE m LOGIN PASSWORD 'alt'; CREATE ROLE p LOGIN PASSWORD 'klar'",
    );
    server.down("fast");
    // The lab gives the port of the socket on the command line; this test wants another for TCP.
    let log = server.folder.path().join("log");
    lab::run(
        lab::command(17, "pg_ctl")
            .arg("-D")
            .arg(&server.data)
            .args(["start", "-w", "-l"])
            .arg(&log)
            .args(["-o", &format!("-k {} -p {port}", server.socket().display())]),
    );
    rules(
        &server,
        "hostssl all,replication s 127.0.0.1/32 scram-sha-256\nhost all m 127.0.0.1/32 md5\n\
         host all p 127.0.0.1/32 password\nhostnossl all n 127.0.0.1/32 trust\nlocal all all trust\n",
    );
    let base = format!("hostaddr=127.0.0.1 port={port} dbname=postgres");
    let open = |extra: &str, password: &str, mode| {
        let variables = if password.is_empty() {
            vec![]
        } else {
            vec![("PGPASSWORD", password)]
        };
        Connection::open(&settings(&format!("{base} {extra}"), &variables), mode)
    };

    let connection = open("user=s", "geheim ☃", Mode::Queries).unwrap();
    assert!(connection.is_encrypted(), "the server offers TLS");
    assert!(open("user=s", "geheim ☃", Mode::Replication).is_ok());
    assert!(
        !open("user=m sslmode=disable", "alt", Mode::Queries)
            .unwrap()
            .is_encrypted()
    );
    assert!(open("user=p sslmode=require", "klar", Mode::Queries).is_ok());
    let error = open("user=s", "falsch", Mode::Queries).unwrap_err();
    assert_eq!(error.sql_state(), Some("28P01"), "{error}");
    assert!(!error.to_string().contains("falsch"));
    let error = open("user=s", "", Mode::Queries).unwrap_err().to_string();
    assert!(error.contains("~/.pgpass"), "{error}");

    // Bound to the connection, or not at all.
    let require = |more: &str, password| {
        open(
            &format!("channel_binding=require {more}"),
            password,
            Mode::Queries,
        )
    };
    assert!(require("user=s", "geheim ☃").unwrap().is_encrypted());
    let log = server.log();
    assert!(
        open("user=s channel_binding=disable", "geheim ☃", Mode::Queries).is_ok(),
        "{log}"
    );
    assert_eq!(
        require("user=s", "falsch").unwrap_err().sql_state(),
        Some("28P01")
    );
    for other in [
        "user=m sslmode=require",
        "user=p sslmode=require",
        "user=m sslmode=disable",
    ] {
        let error = require(other, "alt").unwrap_err().to_string();
        assert!(error.contains("channel_binding=require"), "{other}: {error}");
    }
    let trusted = format!(
        "host={} port={port} user=s dbname=postgres channel_binding=require",
        server.socket().display()
    );
    let error = Connection::open(&settings(&trusted, &[]), Mode::Queries)
        .unwrap_err()
        .to_string();
    assert!(error.contains("channel_binding=require"), "{error}");

    // Chain and name.
    let root = certificate.display();
    let full = |host: &str| format!("host={host} user=s sslmode=verify-full sslrootcert={root}");
    assert!(open(&full("db.example"), "geheim ☃", Mode::Queries).is_ok());
    let error = open(&full("other.example"), "geheim ☃", Mode::Queries)
        .unwrap_err()
        .to_string();
    assert!(
        error.contains("other.example") || error.contains("not valid for name"),
        "{error}"
    );
    let ca = format!("host=other.example user=s sslmode=verify-ca sslrootcert={root}");
    assert!(open(&ca, "geheim ☃", Mode::Queries).is_ok());
    let foreign = rcgen::generate_simple_self_signed(["db.example".to_string()]).unwrap();
    let other = server.folder.path().join("other.crt");
    fs::write(&other, foreign.cert.pem()).unwrap();
    let ca = format!(
        "host=db.example user=s sslmode=verify-ca sslrootcert={}",
        other.display()
    );
    assert!(matches!(
        open(&ca, "geheim ☃", Mode::Queries),
        Err(PostgresError::Connect { .. })
    ));

    // .pgpass, by the name of the host; replication has its own name for the database.
    let file = server.folder.path().join("pgpass");
    fs::write(&file, "*:*:postgres:s:falsch\n*:*:replication:s:geheim ☃\n").unwrap();
    fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
    let with_file = format!("user=s passfile={}", file.display());
    assert!(open(&with_file, "", Mode::Replication).is_ok());
    assert!(open(&with_file, "", Mode::Queries).is_err());

    // Several places: the one that is a primary, and one that nobody listens at.
    let several = format!(
        "host=127.0.0.1,127.0.0.1 port={},{port} user=s dbname=postgres",
        free_port()
    );
    let several = settings(&several, &[("PGPASSWORD", "geheim ☃")]);
    assert!(Connection::open(&several, Mode::Queries).is_ok());
    let standby = format!("{base} user=s target_session_attrs=standby");
    let error =
        Connection::open(&settings(&standby, &[("PGPASSWORD", "geheim ☃")]), Mode::Queries).unwrap_err();
    assert!(error.to_string().contains("not a standby"), "{error}");
}

#[test]
fn a_wait_can_be_ended_and_leaves_nothing_running() {
    let server = Server::start(17, "");
    let mut connection = server.connect(Mode::Queries);
    let cancelled = Arc::new(AtomicBool::new(false));
    connection.set_cancelled(cancelled.clone());
    let began = Instant::now();
    let waiter = std::thread::spawn(move || connection.query("SELECT pg_sleep(60)").unwrap_err());
    std::thread::sleep(Duration::from_millis(300));
    cancelled.store(true, Ordering::Relaxed);
    assert!(waiter.join().unwrap().is_cancelled());
    assert!(began.elapsed() < Duration::from_secs(30));
    let running =
        "SELECT count(*) FROM pg_stat_activity WHERE query LIKE 'SELECT pg_sleep%' AND state = 'active'";
    while server.sql(running) != "0" {
        assert!(began.elapsed() < Duration::from_secs(30), "it goes on running");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn the_log_streams_and_waits_have_an_end() {
    let server = Server::start(17, "");
    let mut connection = server.connect(Mode::Replication);
    let start = server.sql("SELECT pg_current_wal_lsn()");
    connection
        .send_query(&format!("START_REPLICATION PHYSICAL {start} TIMELINE 1"))
        .unwrap();
    assert!(matches!(connection.event().unwrap(), Event::CopyBoth));
    server.sql("CREATE TABLE t AS SELECT generate_series(1, 1000) AS n; SELECT pg_switch_wal()");
    let mut received = 0;
    let deadline = Instant::now() + Duration::from_secs(60);
    while let Some(event) = connection.event_until(deadline).unwrap() {
        if let Event::Data(data) = event
            && data.first() == Some(&b'w')
        {
            received += data.len() - 25;
        }
        if received > 16 << 19 {
            break;
        }
    }
    assert!(received > 50_000, "{received}");
    let began = Instant::now();
    while connection
        .event_until(began + Duration::from_millis(50))
        .unwrap()
        .is_some()
    {}
    assert!(began.elapsed() < Duration::from_secs(30), "it waits without end");
    connection.put_copy_done().unwrap();
    let mut results = Vec::new();
    connection.gather(&mut results).unwrap();
    assert!(connection.rows("IDENTIFY_SYSTEM").unwrap().first().is_some());
}
