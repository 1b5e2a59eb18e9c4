//! The server is lost, and brought back from its repository; its evidence tells when it is tampered with.

use std::fs;

use super::lab::Lab;

#[tokio::test(flavor = "multi_thread")]
async fn a_server_comes_back_from_repository_and_printed_key_alone() {
    let lab = Lab::new();
    lab.user("bkup@pbs", "DatastoreAdmin", "/datastore/main");
    let header = lab.token("bkup@pbs!tok1", "DatastoreAdmin", "/datastore/main");
    lab.ok(&["key", "recovery", "--output", "printed"]);
    let server = lab.serve();
    let fingerprint = server.fingerprint.clone();
    assert_eq!(server.get("version", &[&header]).await.status, 200);
    let groups = server.get("admin/datastore/main/groups", &[&header]).await.data();
    server.stop();
    assert!(groups.as_array().unwrap().is_empty());
    assert!(lab.ok(&["snapshots"]).contains("relight/lab"));
    let refused = lab.fails(&["adopt"]);
    assert!(refused.contains("there is a server here already"), "{refused}");

    // Nothing is left but the repository and the printed key.
    let password = fs::read(lab.path("password")).unwrap();
    for lost in ["state", "cache"] {
        fs::remove_dir_all(lab.path(lost)).unwrap();
    }
    for lost in ["relight.toml", "password"] {
        fs::remove_file(lab.path(lost)).unwrap();
    }
    let mut adopt = lab.command(&["adopt", "--json", "--recovery-key-file", "printed"]);
    let output = adopt.env_remove("RELIGHT_PASSWORD_FILE").output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let adopted: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (&adopted["tokens"], &adopted["evidence"]["broken"]),
        (&1.into(), &serde_json::Value::Null)
    );
    let to_do = adopted["to_do"].as_array().unwrap();
    assert!(
        to_do.len() == 1 && to_do[0].as_str().unwrap().contains("password"),
        "{to_do:?}"
    );

    fs::write(lab.path("password"), password).unwrap();
    let server = lab.serve();
    assert_eq!(server.fingerprint, fingerprint, "clients still trust it");
    assert_eq!(
        server.get("version", &[&header]).await.status,
        200,
        "tokens are good as before"
    );
    // Clients neither see nor read the server's own backup, whatever they may do otherwise.
    let snapshots = server
        .get("admin/datastore/main/snapshots", &[&header])
        .await
        .data();
    assert!(snapshots.as_array().unwrap().is_empty(), "{snapshots}");
    server.stop();
}

#[test]
fn evidence_that_was_tampered_with_is_found_at_the_very_record() {
    let lab = Lab::new();
    lab.user("bkup@pbs", "DatastoreAdmin", "/datastore/main");
    for number in 0..5 {
        lab.ok(&["user", "add", &format!("user{number}@pbs"), "--no-password"]);
    }
    let good = lab.json(&["evidence", "verify"]);
    assert!(good["records"].as_u64().unwrap() >= 7, "{good}");
    let head = &good["head"];
    let head = format!("{}:{}", head["sequence"], head["hash"].as_str().unwrap());
    let exported = lab.json(&["evidence", "export", "-o", "evidence.jsonl"]);
    let key = exported["key"].as_str().unwrap();
    lab.ok(&[
        "evidence",
        "verify",
        "--file",
        "evidence.jsonl",
        "--key",
        key,
        "--noted",
        &head,
    ]);

    let text = fs::read_to_string(lab.path("evidence.jsonl")).unwrap();
    fs::write(
        lab.path("evidence.jsonl"),
        text.replacen("user3@pbs", "user9@pbs", 1),
    )
    .unwrap();
    let line = text.lines().position(|line| line.contains("user3@pbs")).unwrap();
    let mut verify = lab.command(&[
        "evidence",
        "verify",
        "--json",
        "--file",
        "evidence.jsonl",
        "--key",
        key,
    ]);
    let output = verify.output().unwrap();
    assert_eq!(output.status.code(), Some(4));
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(found["broken"]["sequence"].as_u64(), Some(line as u64));

    // The end is cut off: the head that was noted tells.
    let cut: Vec<&str> = text.lines().collect();
    fs::write(lab.path("cut.jsonl"), cut[..cut.len() - 1].join("\n")).unwrap();
    lab.ok(&["evidence", "verify", "--file", "cut.jsonl"]);
    let mut verify = lab.command(&["evidence", "verify", "--file", "cut.jsonl", "--noted", &head]);
    assert_eq!(verify.output().unwrap().status.code(), Some(4));
}
