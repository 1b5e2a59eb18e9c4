//! Who is let in, and who is not.

use std::fs;
use std::io::Read;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use serde_json::{Value, json};

use super::lab::{Lab, plain};

#[tokio::test]
async fn users_and_tokens_are_let_in_and_nobody_else() {
    let lab = Lab::new();
    lab.user("bkup@pbs", "DatastoreAdmin", "/datastore/main");
    let token = lab.token("bkup@pbs!tok1", "DatastoreBackup", "/datastore/main");
    let server = lab.serve();
    // Nobody known: nothing, and nothing is learned.
    for path in ["version", "admin/datastore", "no/such/path"] {
        let answer = server.get(path, &[]).await;
        assert_eq!(
            (answer.status, answer.text().as_str()),
            (401, "authentication failed"),
            "{path}"
        );
    }
    assert_eq!(server.get("ping", &[]).await.data(), json!({"pong": true}));
    // By token.
    assert_eq!(server.get("version", &[&token]).await.data()["version"], "4.2");
    let stores = server.get("admin/datastore", &[&token]).await.data();
    assert_eq!(
        (&stores[0]["store"], &stores[0]["comment"]),
        (&"main".into(), &"of the test".into())
    );
    let groups = server.get("admin/datastore/main/groups", &[&token]).await;
    assert_eq!((groups.status, groups.data()), (200, json!([])));
    assert_eq!(
        server.get("admin/datastore/other/groups", &[&token]).await.status,
        403
    );
    assert_eq!(server.get("nodes/localhost/status", &[&token]).await.status, 403);
    // By password.
    let login = async |password: &str| {
        let body = json!({"username": "bkup@pbs", "password": password}).to_string();
        server.ask("POST", "access/ticket", &[], &body).await
    };
    let wrong = login("wrong").await;
    assert_eq!(
        (wrong.status, wrong.text().as_str()),
        (401, "permission check failed.")
    );
    let right = login("Secret12345").await;
    assert_eq!(right.status, 200);
    let whole: Value = serde_json::from_slice(&right.body).unwrap();
    assert_eq!((&whole["status"], &whole["success"]), (&200.into(), &true.into()));
    let cookie = format!(
        "Cookie: PBSAuthCookie={}",
        whole["data"]["ticket"].as_str().unwrap()
    );
    let csrf = format!(
        "CSRFPreventionToken: {}",
        whole["data"]["CSRFPreventionToken"].as_str().unwrap()
    );
    assert_eq!(
        server.get("admin/datastore/main/groups", &[&cookie]).await.status,
        200
    );
    let namespace = json!({"name": "ns1", "parent": ""}).to_string();
    let make = "admin/datastore/main/namespace";
    assert_eq!(server.ask("POST", make, &[&cookie], &namespace).await.status, 401);
    assert_eq!(
        server
            .ask("POST", make, &[&cookie, &csrf], &namespace)
            .await
            .data(),
        "ns1"
    );
    // A user sees itself only; it makes a token for itself, which may do nothing yet.
    let users = server.get("access/users", &[&cookie]).await.data();
    assert_eq!(
        users,
        json!([{"userid": "bkup@pbs", "enable": true, "expire": 0}])
    );
    let made = server
        .ask("POST", "access/users/bkup@pbs/token/own", &[&cookie, &csrf], "")
        .await
        .data();
    let own = format!(
        "Authorization: PBSAPIToken={}:{}",
        made["tokenid"].as_str().unwrap(),
        made["value"].as_str().unwrap()
    );
    assert_eq!(server.get("version", &[&own]).await.status, 200);
    assert_eq!(
        server.get("admin/datastore/main/groups", &[&own]).await.status,
        403
    );
    assert_eq!(
        server
            .ask("POST", "access/users/bkup@pbs/token/more", &[&own], "")
            .await
            .status,
        403
    );
    let rule = json!({"path": "/", "role": "Admin", "auth-id": "bkup@pbs"}).to_string();
    assert_eq!(
        server
            .ask("PUT", "access/acl", &[&cookie, &csrf], &rule)
            .await
            .status,
        403
    );
    // What the operator changes holds at once.
    lab.ok(&["user", "disable", "bkup@pbs"]);
    assert_eq!(server.get("version", &[&cookie]).await.status, 401);
    assert_eq!(server.get("version", &[&token]).await.status, 401);
    lab.ok(&["user", "enable", "bkup@pbs"]);
    assert_eq!(server.get("version", &[&token]).await.status, 200);
    lab.ok(&["token", "remove", "bkup@pbs!tok1"]);
    assert_eq!(server.get("version", &[&token]).await.status, 401);
    assert_eq!(server.stop().0, 0);
    // All of it has left records, and no secret is in any of them, or in the log.
    let records = lab.ok(&["audit", "-n", "1000"]);
    for says in [
        "POST //api2/json/admin/datastore/main/namespace",
        "GET //api2/json/admin/datastore/other/groups",
        "user disable bkup@pbs",
        "permission check failed.",
    ] {
        assert!(records.contains(says), "{says}: {records}");
    }
    let state = fs::read(lab.path("state/state.db")).unwrap();
    let log = fs::read(lab.path("server.log")).unwrap();
    let secret = token.rsplit(':').next().unwrap();
    for text in ["Secret12345", secret] {
        let holds = |bytes: &[u8]| bytes.windows(text.len()).any(|part| part == text.as_bytes());
        assert!(!records.contains(text) && !holds(&state) && !holds(&log));
    }
}

#[tokio::test]
async fn the_certificate_stays_and_can_be_exchanged() {
    let lab = Lab::new();
    let server = lab.serve();
    let first = server.fingerprint.clone();
    // The client of this test would not connect to another one.
    assert_eq!(server.get("ping", &[]).await.status, 200);
    let mode = |name: &str| fs::metadata(lab.path(name)).unwrap().permissions().mode() & 0o777;
    assert_eq!(
        (mode("state"), mode("state/server.key"), mode("state/state.db")),
        (0o700, 0o600, 0o600)
    );
    assert!(plain(server.address, b"GET /x HTTP/1.1\r\nHost: a:1\r\n\r\n").starts_with("HTTP/1.1 301 "));
    // What is no hello gets an alert of TLS, and the connection ends.
    assert!(plain(server.address, b"\x16\x03\x01\x00\x02hi rubbish that is no hello").starts_with('\u{15}'));
    assert_eq!(server.stop().0, 0);
    let mut server = lab.serve();
    assert_eq!(server.fingerprint, first);
    // A new one, without a restart.
    let other = Lab::new();
    server.fingerprint = other.serve().fingerprint.clone();
    for name in ["state/server.key", "state/server.pem"] {
        fs::copy(other.path(name), lab.path(name)).unwrap();
    }
    server.signal("-HUP");
    let begin = std::time::Instant::now();
    while !fs::read_to_string(lab.path("server.log"))
        .unwrap()
        .contains("read again")
    {
        assert!(begin.elapsed().as_secs() < 20);
        tokio::time::sleep(std::time::Duration::from_millis(10)).await;
    }
    assert_eq!(server.get("ping", &[]).await.status, 200);
}

#[tokio::test]
async fn hostile_connections_hold_nobody_else_up() {
    let lab = Lab::new();
    let config = fs::read_to_string(lab.path("relight.toml")).unwrap();
    let config = config.replace("[server]\n", "[server]\nmax-connections-per-address = 8\n");
    fs::write(lab.path("relight.toml"), config).unwrap();
    lab.user("a@pbs", "Audit", "/");
    let server = lab.serve();
    // Connections that say nothing take their share and no more; what is beyond it is closed at once.
    let mut silent: Vec<_> = (0..8)
        .map(|_| TcpStream::connect(server.address).unwrap())
        .collect();
    let mut refused = TcpStream::connect(server.address).unwrap();
    refused.set_read_timeout(Some(Duration::from_secs(20))).unwrap();
    assert_eq!(refused.read(&mut [0]).unwrap_or(0), 0);
    // They are closed after a while, and make room.
    silent[0].set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    assert_eq!(silent[0].read(&mut [0]).unwrap(), 0);
    assert_eq!(server.get("ping", &[]).await.status, 200);
    // Guessing from one address ends soon, whether there is such a user or not; a token still gets in.
    let guess = async |user: &str| {
        let body = json!({"username": user, "password": "guessed it"}).to_string();
        let answer = server.ask("POST", "access/ticket", &[], &body).await;
        (answer.status, answer.text())
    };
    let wrong = (401, "permission check failed.".to_string());
    for _ in 0..5 {
        let four = tokio::join!(
            guess("a@pbs"),
            guess("nobody@pbs"),
            guess("a@pbs"),
            guess("nobody@pbs")
        );
        assert!(
            [four.0, four.1, four.2, four.3]
                .iter()
                .all(|answer| *answer == wrong)
        );
    }
    for user in ["a@pbs", "nobody@pbs"] {
        let (status, text) = guess(user).await;
        assert!(
            status == 429 && text.starts_with("too many wrong passwords"),
            "{status} {text}"
        );
    }
    let token = lab.token("a@pbs!t", "Audit", "/");
    assert_eq!(server.get("version", &[&token]).await.status, 200);
    assert_eq!(server.stop().0, 0);
    assert!(lab.ok(&["audit", "--denied"]).contains("429"));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let lab = Lab::new();
    lab.user("a@pbs", "Audit", "/");
    for (arguments, says) in [
        (
            &["user", "add", "a@pbs", "--new-password-file", "user-password"][..],
            "there is a user a@pbs already",
        ),
        (&["user", "add", "nobody", "--no-password"], "name@realm"),
        (&["user", "add", "b@pbs"], "--new-password-file"),
        (&["user", "remove", "b@pbs"], "there is no user b@pbs"),
        (&["token", "add", "b@pbs!t"], "there is no user b@pbs"),
        (&["token", "add", "a@pbs"], "is no token"),
        (
            &["acl", "set", "/datastore/main", "Boss", "a@pbs"],
            "there is no role \"Boss\"",
        ),
        (&["acl", "set", "/nowhere", "Admin", "a@pbs"], "is no path"),
        (
            &["acl", "set", "/", "Admin", "b@pbs"],
            "there is no user or token b@pbs",
        ),
        (
            &["acl", "remove", "/", "a@pbs", "Admin"],
            "no rule gives a@pbs the role Admin at /",
        ),
        (&["serve", "--config", "none.toml"], "docs/serve.md"),
    ] {
        let said = lab.fails(arguments);
        assert!(said.contains(says), "{arguments:?}: {said}");
    }
    fs::write(lab.path("short"), "1234567\n").unwrap();
    assert!(
        lab.fails(&["user", "password", "a@pbs", "--new-password-file", "short"])
            .contains("8 to 1024 bytes")
    );
    fs::write(lab.path("relight.toml"), "[server]\nlissten = 'x'\n").unwrap();
    assert!(lab.fails(&["serve"]).contains("line 2: unknown field `lissten`"));
    fs::write(
        lab.path("relight.toml"),
        "[[repository]]\nname = 'gone'\nlocation = 'gone'\nkey-file = 'x'\n[server]\nstate = 'state'\n",
    )
    .unwrap();
    assert!(lab.fails(&["serve", "--check"]).contains("repository gone: "));
}
