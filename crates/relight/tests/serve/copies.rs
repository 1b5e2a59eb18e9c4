//! Two real servers: one copies from the other, and to it, by jobs and by calls as clients make them.

use std::fs;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::lab::{Lab, Running};

/// A server with a snapshot that `relight backup` made, and a token that may do everything in its datastore.
pub fn source() -> (Lab, Running, String) {
    let lab = Lab::new();
    lab.user("sync@pbs", "DatastoreAdmin", "/datastore/main");
    let header = lab.token("sync@pbs!copy", "DatastoreAdmin", "/datastore/main");
    let secret = header.rsplit_once(':').unwrap().1.to_string();
    fs::create_dir(lab.path("tree")).unwrap();
    fs::write(lab.path("tree").join("letter"), "Dear reader").unwrap();
    let mut disk = vec![0; 9 << 20];
    disk[5 << 20..].fill(7);
    fs::write(lab.path("disk.raw"), &disk).unwrap();
    lab.ok(&[
        "backup",
        "tree",
        "--image",
        "disk.raw",
        "--workload",
        "host/web01",
    ]);
    let server = lab.serve();
    (lab, server, secret)
}

pub fn add_remote(lab: &Lab, server: &Running, secret: &str) {
    fs::write(lab.path("secret"), format!("{secret}\n")).unwrap();
    let host = server.address.to_string();
    lab.ok(&[
        "remote",
        "add",
        "site-a",
        "--host",
        &host,
        "--auth-id",
        "sync@pbs!copy",
        "--secret-file",
        "secret",
        "--fingerprint",
        &server.fingerprint,
    ]);
}

pub async fn wait(server: &Running, header: &str, upid: &str) -> String {
    let begun = Instant::now();
    let upid = upid
        .replace(':', "%3A")
        .replace('!', "%21")
        .replace('@', "%40")
        .replace('\\', "%5C");
    loop {
        let path = format!("nodes/localhost/tasks/{upid}/status");
        let answer = server.get(&path, &[header]).await;
        let status: Value = serde_json::from_slice(&answer.body).unwrap();
        if status["data"]["status"] == "stopped" {
            return status["data"]["exitstatus"].as_str().unwrap().to_string();
        }
        assert!(begun.elapsed() < Duration::from_secs(60));
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

fn data(answer: &super::lab::Answer) -> Value {
    let text = String::from_utf8_lossy(&answer.body);
    assert_eq!(answer.status, 200, "{text}");
    serde_json::from_slice::<Value>(&answer.body).unwrap()["data"].clone()
}

#[test]
fn a_job_copies_what_can_be_restored_here() {
    let (theirs, server, secret) = source();
    let lab = Lab::new();
    add_remote(&lab, &server, &secret);
    let shown = lab.json(&["remote", "show", "site-a"]);
    assert_eq!(shown["auth-id"], "sync@pbs!copy");
    assert!(!lab.ok(&["remote", "list"]).contains(&secret) && !shown.to_string().contains(&secret));
    let job = ["--remote", "site-a", "--remote-store", "main", "--store", "main"];
    lab.ok(&[&["sync", "add", "nightly"], &job[..], &["--schedule", "02:30"]].concat());
    let refused = lab.fails(&[&["sync", "add", "other"], &job[..], &["--schedule", "whenever"]].concat());
    assert!(refused.contains("schedule"), "{refused}");
    assert!(lab.fails(&["remote", "remove", "site-a"]).contains("nightly"));
    // Nobody is there to run it.
    assert!(
        lab.fails(&["sync", "run", "nightly"])
            .contains("no server took up the job")
    );

    let here = lab.serve();
    let ran = lab.json(&["sync", "run", "nightly"]);
    assert_eq!(ran["state"], "OK", "{ran}");
    let listed = lab.json(&["sync", "list"]);
    assert_eq!(listed[0]["last-run-state"], "OK", "{listed}");
    let snapshots = lab.json(&["snapshots"]);
    assert_eq!(
        snapshots["snapshots"].as_array().map(Vec::len),
        Some(1),
        "{snapshots}"
    );
    lab.ok(&["verify"]);
    lab.ok(&["restore", "latest", "--to", "back"]);
    let found = walk(&lab.path("back"));
    assert!(
        found
            .iter()
            .any(|file| fs::read(file).is_ok_and(|text| text == b"Dear reader")),
        "{found:?}"
    );

    // A server that is gone: the job fails, and says why; what is here stays.
    drop(server);
    let output = lab
        .command(&["sync", "run", "nightly", "--json"])
        .output()
        .unwrap();
    let ran: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(ran["state"].as_str().unwrap().contains("cannot connect"), "{ran}");
    assert_eq!(here.stop().0, 0);
    drop(theirs);
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        match entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            true => found.extend(walk(&entry.path())),
            false => found.push(entry.path()),
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn jobs_are_made_and_run_by_calls_of_the_original() {
    let (theirs, server, secret) = source();
    let lab = Lab::new();
    lab.user("admin@pbs", "Admin", "/");
    lab.user("weak@pbs", "DatastoreBackup", "/datastore/main");
    let admin = lab.token("admin@pbs!all", "Admin", "/");
    let weak = lab.token("weak@pbs!tok", "DatastoreBackup", "/datastore/main");
    let here = lab.serve();
    let remote = json!({
        "name": "site-a", "host": "127.0.0.1", "port": server.address.port(), "auth-id": "sync@pbs!copy",
        "password": secret, "fingerprint": server.fingerprint, "comment": "the other one",
    });
    let refused = here
        .ask("POST", "config/remote", &[&weak], &remote.to_string())
        .await;
    assert_eq!(refused.status, 403);
    data(
        &here
            .ask("POST", "config/remote", &[&admin], &remote.to_string())
            .await,
    );
    let listed = here.get("config/remote", &[&admin]).await;
    assert!(!String::from_utf8_lossy(&listed.body).contains(&secret));
    assert_eq!(data(&listed)[0]["comment"], "the other one");
    assert_eq!(data(&here.get("config/remote", &[&weak]).await), json!([]));
    let stores = data(&here.get("config/remote/site-a/scan", &[&admin]).await);
    assert_eq!(stores[0]["store"], "main", "{stores}");
    let groups = data(&here.get("config/remote/site-a/scan/main/groups", &[&admin]).await);
    assert_eq!(groups[0]["backup-id"], "web01", "{groups}");
    // A changed digest means that somebody else was faster.
    let late = json!({"comment": "x", "digest": "00".repeat(32)});
    let refused = here
        .ask("PUT", "config/remote/site-a", &[&admin], &late.to_string())
        .await;
    assert_eq!(refused.status, 400);
    data(
        &here
            .ask(
                "PUT",
                "config/remote/site-a",
                &[&admin],
                r#"{"delete":["comment"]}"#,
            )
            .await,
    );
    assert!(data(&here.get("config/remote/site-a", &[&admin]).await)["comment"].is_null());

    let job = json!({
        "id": "s-1", "store": "main", "ns": "copies", "remote": "site-a", "remote-store": "main",
        "group-filter": ["type:host"], "schedule": "hourly", "rate-in": "50 MiB", "owner": "admin@pbs!all",
    });
    data(&here.ask("POST", "config/sync", &[&admin], &job.to_string()).await);
    assert_eq!(
        here.ask("POST", "config/sync", &[&weak], &job.to_string())
            .await
            .status,
        403
    );
    let listed = data(&here.get("config/sync", &[&admin]).await);
    assert_eq!(
        (&listed[0]["id"], &listed[0]["group-filter"]),
        (&json!("s-1"), &json!(["type:host"]))
    );
    assert_eq!(
        data(&here.get("config/sync?sync-direction=push", &[&admin]).await),
        json!([])
    );
    let state = data(&here.get("admin/sync?store=main", &[&admin]).await);
    assert!(state[0]["next-run"].as_i64().unwrap() > 0, "{state}");
    // The namespace is not there yet; whoever owns the job may make it.
    let upid = data(&here.ask("POST", "admin/sync/s-1/run", &[&admin], "").await);
    assert_eq!(wait(&here, &admin, upid.as_str().unwrap()).await, "OK");
    let copied = data(
        &here
            .get("admin/datastore/main/snapshots?ns=copies", &[&admin])
            .await,
    );
    assert_eq!(
        (&copied[0]["backup-id"], &copied[0]["owner"]),
        (&json!("web01"), &json!("admin@pbs!all"))
    );
    let state = data(&here.get("admin/sync", &[&admin]).await);
    assert_eq!(state[0]["last-run-state"], "OK", "{state}");
    data(&here.ask("DELETE", "config/sync/s-1", &[&admin], "").await);

    // At once, and back into a namespace of the other.
    let pull = json!({"store": "main", "remote": "site-a", "remote-store": "main"});
    assert_eq!(
        here.ask("POST", "pull", &[&weak], &pull.to_string()).await.status,
        403
    );
    let upid = data(&here.ask("POST", "pull", &[&admin], &pull.to_string()).await);
    assert_eq!(wait(&here, &admin, upid.as_str().unwrap()).await, "OK");
    let push = json!({"store": "main", "remote": "site-a", "remote-store": "main", "remote-ns": "back"});
    let upid = data(&here.ask("POST", "push", &[&admin], &push.to_string()).await);
    assert_eq!(wait(&here, &admin, upid.as_str().unwrap()).await, "OK");
    let header = format!("Authorization: PBSAPIToken sync@pbs!copy:{secret}");
    let back = data(
        &server
            .get("admin/datastore/main/snapshots?ns=back", &[&header])
            .await,
    );
    assert_eq!(back[0]["backup-id"], "web01", "{back}");
    for list in [
        "admin/gc",
        "admin/verify",
        "config/verify",
        "config/prune",
        "admin/prune",
    ] {
        assert!(data(&here.get(list, &[&admin]).await).is_array(), "{list}");
    }
    assert_eq!((here.stop().0, server.stop().0), (0, 0));
    drop(theirs);
}
