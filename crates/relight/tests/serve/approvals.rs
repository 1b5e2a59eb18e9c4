//! What needs a second person, by the real server.

mod host;

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::lab::{Lab, Running};
use super::runs::PLAN;

#[tokio::test]
async fn what_needs_a_second_person_is_done_once_when_another_one_has_approved_it() {
    let lab = Lab::of_matrix();
    let server = lab.serve();
    let admin = server.log_in("admin@pbs").await;
    let approver = server.log_in("approver@pbs").await;
    for _ in 0..2 {
        server.run_of(&admin, "backup lab/host/gold1").await;
    }
    let snapshots = "/api2/json/admin/datastore/main/snapshots?ns=lab";
    let known = server.as_one(&admin, "GET", snapshots, "").await.data();
    let first = format!(
        "{snapshots}&backup-type=host&backup-id=gold1&backup-time={}",
        known[0]["backup-time"]
    );
    let asked = server.as_one(&admin, "DELETE", &first, "").await;
    assert_eq!(asked.status, 409);
    assert!(asked.text().contains("with request 1;"), "{}", asked.text());
    let decide = "/api/v1/approvals/1/approve";
    let own = server.as_one(&admin, "POST", decide, r#"{"remark": ""}"#).await;
    assert_eq!(own.status, 403);
    assert!(own.text().contains("your own"), "{}", own.text());
    let shown = server
        .as_one(&approver, "GET", "/api/v1/approvals?waiting=true", "")
        .await
        .data();
    assert_eq!(
        (&shown[0]["number"], &shown[0]["may-decide"]),
        (&1.into(), &true.into())
    );
    let subject = shown[0]["subject"].as_str().unwrap();
    assert!(
        subject.starts_with("delete the recovery point lab/host/gold1/"),
        "{subject}"
    );
    let done = server
        .as_one(&approver, "POST", decide, r#"{"remark": "seen"}"#)
        .await
        .data();
    assert_eq!(done["standing"], "approved");
    assert_eq!(server.as_one(&admin, "DELETE", &first, "").await.status, 200);
    let left = server.as_one(&admin, "GET", snapshots, "").await.data();
    assert_eq!(left.as_array().unwrap().len(), 1);
    assert_ne!(server.as_one(&admin, "DELETE", &first, "").await.status, 200);
    // An approver that the administrator makes for itself is of no use: that needs a second person, too.
    for (method, path, body) in [
        (
            "PUT",
            "/api2/json/access/acl",
            r#"{"path": "/", "role": "Approver", "auth-id": "nobody@pbs"}"#,
        ),
        (
            "PUT",
            "/api2/json/access/password",
            r#"{"userid": "approver@pbs", "password": "Another12345"}"#,
        ),
    ] {
        assert_eq!(
            server.as_one(&admin, method, path, body).await.status,
            409,
            "{path}"
        );
    }
    // On the host one decides as oneself, by password, too.
    let number = "2";
    let refused = lab.fails(&[
        "approval",
        "deny",
        number,
        "--as",
        "admin@pbs",
        "--user-password-file",
        "user-password",
    ]);
    assert!(refused.contains("your own"), "{refused}");
    fs::write(lab.path("wrong"), "not the password\n").unwrap();
    let refused = lab.fails(&[
        "approval",
        "approve",
        number,
        "--as",
        "approver@pbs",
        "--user-password-file",
        "wrong",
    ]);
    assert!(refused.contains("do not fit together"), "{refused}");
    lab.ok(&[
        "approval",
        "deny",
        number,
        "--as",
        "approver@pbs",
        "--user-password-file",
        "user-password",
    ]);
    let rule = r#"{"path": "/", "role": "Approver", "auth-id": "nobody@pbs"}"#;
    assert_eq!(
        server
            .as_one(&admin, "PUT", "/api2/json/access/acl", rule)
            .await
            .status,
        403
    );
    // In need it goes without, for a time, and is written down.
    lab.ok(&[
        "approval",
        "break-glass",
        "--reason",
        "nobody is here",
        "--for",
        "10 min",
    ]);
    assert_eq!(
        server
            .as_one(&admin, "PUT", "/api2/json/access/acl", rule)
            .await
            .status,
        200
    );
    lab.ok(&["approval", "mend-glass"]);
    let again = r#"{"path": "/", "role": "Audit", "auth-id": "nobody@pbs"}"#;
    assert_eq!(
        server
            .as_one(&admin, "PUT", "/api2/json/access/acl", again)
            .await
            .status,
        409
    );
    let told = lab.ok(&["evidence", "list", "--kind", "approval"]);
    for says in [
        "broke the glass",
        "went without approval",
        "denied: request 2",
        "an approval was used: request 1",
    ] {
        assert!(told.contains(says), "{says}: {told}");
    }
    assert_eq!(server.stop().0, 0);
}

impl Lab {
    fn decide(&self, word: &str, number: &str) -> String {
        let by = ["--as", "anna@pbs", "--user-password-file", "user-password"];
        self.ok(&[&["approval", word, number], &by[..]].concat())
    }

    fn change(&self, from: &str, to: &str) {
        let text = fs::read_to_string(self.path("relight.toml")).unwrap();
        assert!(text.contains(from));
        fs::write(self.path("relight.toml"), text.replacen(from, to, 1)).unwrap();
    }
}

/// Waits until a word is in what a command says.
#[track_caller]
fn wait_for(lab: &Lab, arguments: &[&str], says: &str) {
    let began = Instant::now();
    loop {
        let output = lab.command(arguments).output().unwrap();
        let told = String::from_utf8_lossy(&output.stdout).into_owned();
        if told.contains(says) {
            return;
        }
        let log = fs::read_to_string(lab.path("server.log")).unwrap();
        assert!(began.elapsed() < Duration::from_secs(30), "{told}\n{log}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn by_a_plan_that_was_changed_on_the_host_to_keep_less_nothing_is_forgotten_before_somebody_agrees() {
    let lab = Lab::with_plan(&PLAN.replace("keep-last = 2", "keep-last = 3"));
    lab.change(
        "name = 'main'",
        "name = 'main'\nforget = '2027-01-01'\ncollect = '2027-01-01'",
    );
    lab.change(
        "[[repository]]",
        "[approvals]\nrequired = ['retention']\n[[repository]]",
    );
    lab.user("anna@pbs", "Approver", "/");
    let server = lab.serve();
    for number in 0..4 {
        fs::write(lab.path("data/one"), format!("{number}")).unwrap();
        lab.ok(&["run", "host/web"]);
    }
    let forget = |lab: &Lab| {
        let output = lab
            .command(&["run", "forget", "main", "--json"])
            .output()
            .unwrap();
        serde_json::from_slice::<Value>(&output.stdout).unwrap()
    };
    assert_eq!(forget(&lab)["figures"]["snapshots"], 1, "as it was agreed on");
    // Shortened in the file, which nobody can forbid.
    lab.change("keep-last = 3", "keep-last = 1");
    wait_for(&lab, &["approval", "list"], "keeps or promises less");
    let held = forget(&lab);
    assert_eq!(
        (&held["outcome"], &held["code"]),
        (&"failed".into(), &"RL222".into()),
        "{held:#}"
    );
    let why = held["message"].as_str().unwrap();
    assert!(
        why.contains("host/web: it is kept by keep-last=1 instead of keep-last=3")
            && why.contains("request 1"),
        "{why}"
    );
    assert_eq!(lab.points("host/web"), 3);
    // Denied, it stays so; a change back needs nobody, and a new one is asked for anew.
    lab.decide("deny", "1");
    assert!(
        forget(&lab)["message"]
            .as_str()
            .unwrap()
            .contains("request 1 was denied")
    );
    lab.change("keep-last = 1", "keep-last = 2");
    wait_for(
        &lab,
        &["approval", "list", "--waiting"],
        "keep-last=2 instead of keep-last=3",
    );
    let asked = lab.json(&["approval", "list", "--waiting"]);
    assert_eq!(
        (&asked["requests"][0]["number"], &asked["requests"][0]["who"]),
        (&2.into(), &"root@host".into())
    );
    assert_eq!(forget(&lab)["code"], "RL222");
    lab.decide("approve", "2");
    let done = forget(&lab);
    assert_eq!(
        (&done["outcome"], &done["figures"]["snapshots"]),
        (&"good".into(), &1.into()),
        "{done:#}"
    );
    assert_eq!(lab.points("host/web"), 2);
    let told = lab.ok(&["evidence", "list", "--kind", "approval"]);
    for says in [
        "asked for approval: request 1",
        "denied: request 1",
        "an approval was used: request 2",
    ] {
        assert!(told.contains(says), "{says}: {told}");
    }
    server.stop();
}

/// What a call does once a second person has approved it, and not before.
async fn asks_first(
    lab: &Lab,
    server: &Running,
    who: &str,
    call: (&str, &str, &str),
    subject: &str,
) -> Value {
    let (method, path, body) = call;
    let asked = server.ask(method, path, &[who], body).await;
    assert_eq!(asked.status, 409, "{method} {path}: {}", asked.text());
    let number = asked.text();
    let number = number.split("request ").nth(1).unwrap();
    let number: String = number.chars().take_while(char::is_ascii_digit).collect();
    let waits = server.ask(method, path, &[who], body).await.text();
    assert!(
        waits.contains(&format!("request {number};")),
        "the same request: {waits}"
    );
    let told = lab.decide("approve", &number);
    assert!(told.contains(subject), "{told}");
    server.ask(method, path, &[who], body).await.data()
}

#[tokio::test(flavor = "multi_thread")]
async fn pruning_and_removing_namespaces_over_the_protocol_wait_for_a_second_person() {
    let lab = Lab::new();
    lab.change(
        "[[repository]]",
        "[approvals]\nrequired = ['delete']\n[[repository]]",
    );
    lab.user("anna@pbs", "Approver", "/");
    lab.user("ops@pbs", "DatastoreAdmin", "/datastore/main");
    let ops = lab.token("ops@pbs!t", "DatastoreAdmin", "/datastore/main");
    fs::write(lab.path("disk.raw"), vec![7; 1 << 20]).unwrap();
    for workload in ["host/web", "host/web", "lab/host/db"] {
        lab.ok(&["backup", "--workload", workload, "--image", "disk.raw"]);
        std::thread::sleep(Duration::from_millis(1100));
    }
    let server = lab.serve();
    let count = async |query: &str| {
        let path = format!("admin/datastore/main/snapshots{query}");
        server.get(&path, &[&ops]).await.data().as_array().unwrap().len()
    };
    // What only looks needs nobody.
    let prune = "admin/datastore/main/prune";
    let dry = json!({"backup-type": "host", "backup-id": "web", "keep-last": 1, "dry-run": true});
    server.ask("POST", prune, &[&ops], &dry.to_string()).await.data();
    let wet = json!({"backup-type": "host", "backup-id": "web", "keep-last": 1}).to_string();
    asks_first(&lab, &server, &ops, ("POST", prune, &wet), "host/web").await;
    assert_eq!(count("").await, 1);
    assert_eq!(count("?ns=lab").await, 1);
    let namespace = "admin/datastore/main/namespace?ns=lab&delete-groups=true";
    asks_first(&lab, &server, &ops, ("DELETE", namespace, ""), "lab").await;
    assert_eq!(
        server
            .get("admin/datastore/main/snapshots?ns=lab", &[&ops])
            .await
            .status,
        404
    );
    let again = server.ask("DELETE", namespace, &[&ops], "").await;
    assert_ne!(again.status, 200, "an approval is used once");
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pull_that_removes_what_vanished_waits_for_a_second_person() {
    let (_theirs, source, secret) = super::copies::source();
    let lab = Lab::new();
    lab.change(
        "[[repository]]",
        "[approvals]\nrequired = ['delete']\n[[repository]]",
    );
    lab.user("anna@pbs", "Approver", "/");
    lab.user("ops@pbs", "Admin", "/");
    let ops = lab.token("ops@pbs!t", "Admin", "/");
    fs::write(lab.path("disk.raw"), vec![7; 1 << 20]).unwrap();
    lab.ok(&["backup", "--workload", "host/gone", "--image", "disk.raw"]);
    super::copies::add_remote(&lab, &source, &secret);
    let server = lab.serve();
    let group = async |id: &str| {
        let groups = server.get("admin/datastore/main/groups", &[&ops]).await.data();
        groups
            .as_array()
            .unwrap()
            .iter()
            .any(|group| group["backup-id"] == id)
    };
    let mut pull = json!({"store": "main", "remote": "site-a", "remote-store": "main"});
    // A pull that removes nothing needs nobody.
    let upid = server
        .ask("POST", "pull", &[&ops], &pull.to_string())
        .await
        .data();
    super::copies::wait(&server, &ops, upid.as_str().unwrap()).await;
    assert!(group("web01").await && group("gone").await);
    pull["remove-vanished"] = true.into();
    let body = pull.to_string();
    let upid = asks_first(
        &lab,
        &server,
        &ops,
        ("POST", "pull", &body),
        "deletes recovery points in main",
    )
    .await;
    super::copies::wait(&server, &ops, upid.as_str().unwrap()).await;
    let job = json!({
        "id": "s-1", "store": "main", "remote": "site-a", "remote-store": "main", "remove-vanished": true,
    });
    asks_first(
        &lab,
        &server,
        &ops,
        ("POST", "config/sync", &job.to_string()),
        "deletes recovery points",
    )
    .await;
    assert_eq!(server.get("config/sync", &[&ops]).await.data()[0]["id"], "s-1");
    server.stop();
}
