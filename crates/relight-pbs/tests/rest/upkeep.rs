//! Pruning, verification and collection.

use serde_json::{Value, json};

use crate::lab::*;

#[tokio::test(flavor = "multi_thread")]
async fn pruning_verifying_and_collecting() {
    let server = Server::new();
    for hour in 10..13 {
        upload(
            &server,
            "",
            &format!("host/fix/2023-11-14T{hour}:00:00Z"),
            "user@pbs!t",
        );
    }
    upload(&server, "", "vm/1/2023-11-14T10:00:00Z", "other@pbs");
    let dry = server
        .post(
            "user@pbs!t",
            "prune",
            json!({"backup-id": "fix", "backup-type": "host", "dry-run": true, "keep-last": 1}),
        )
        .await;
    let dry: Value = serde_json::from_slice(&dry.body).unwrap();
    assert_eq!(
        dry["data"][0],
        json!({
            "backup-id": "fix", "backup-time": 1_699_956_000, "backup-type": "host",
            "keep": false, "protected": false,
        })
    );
    assert_eq!(dry["data"].as_array().unwrap().len(), 3);
    let zero = json!({"backup-id": "fix", "backup-type": "host", "keep-last": 0});
    assert_eq!(server.post("user@pbs!t", "prune", zero).await.status, 400);
    let foreign = json!({"backup-id": "1", "backup-type": "vm", "keep-last": 1});
    assert_eq!(server.post("user@pbs!t", "prune", foreign).await.status, 400);
    let reply = server
        .post(
            "user@pbs!t",
            "prune",
            json!({"backup-id": "fix", "backup-type": "host", "keep-last": 2}),
        )
        .await;
    assert_eq!(reply.status, 200);
    assert_eq!(
        server
            .data("user@pbs!t", "GET", "snapshots")
            .await
            .as_array()
            .unwrap()
            .len(),
        2
    );
    // Verification of what is one's own, and of all.
    let upid = server.data("user@pbs!t", "POST", "verify").await;
    let (end, log) = server.wait("user@pbs!t", upid.as_str().unwrap()).await;
    assert_eq!(end, "OK", "{log}");
    assert!(
        log.contains("verified host/fix/") && !log.contains("vm/1"),
        "{log}"
    );
    let one = server
        .post(
            "admin@pbs",
            "verify",
            json!({"backup-type": "vm", "backup-id": "1", "ignore-verified": false}),
        )
        .await;
    let one: Value = serde_json::from_slice(&one.body).unwrap();
    let upid = one["data"].as_str().unwrap();
    assert!(upid.contains(":verify_group:main\\x3avm-1:admin@pbs:"), "{upid}");
    assert_eq!(server.wait("admin@pbs", upid).await.0, "OK");
    let snapshots = server
        .data("admin@pbs", "GET", "snapshots?backup-type=vm&backup-id=1")
        .await;
    assert_eq!(snapshots[0]["verification"], json!({"upid": upid, "state": "ok"}));
    // The task of another is nobody's business.
    let name: String = upid.bytes().map(|byte| format!("%{byte:02X}")).collect();
    let target = format!("/api2/json/nodes/localhost/tasks/{name}/log");
    assert_eq!(server.send("user@pbs!t", "GET", &target, None).await.status, 403);
    server.refused("user@pbs!t", "POST", "gc", 403).await;
    let upid = server.data("admin@pbs", "POST", "gc").await;
    let (end, log) = server.wait("admin@pbs", upid.as_str().unwrap()).await;
    assert_eq!(end, "OK", "{log}");
    assert!(log.contains("starting garbage collection on store main"));
    let status = server.data("admin@pbs", "GET", "gc").await;
    assert_eq!(
        (&status["upid"], &status["last-run-state"]),
        (&upid, &json!("OK"))
    );
    assert_eq!(status["index-file-count"], 3);
    let status = server.data("admin@pbs", "GET", "status?verbose=1").await;
    assert_eq!(status["backend-type"], "filesystem");
    assert_eq!(status["counts"]["host"], json!({"groups": 1, "snapshots": 2}));
    assert!(status["avail"].as_u64().unwrap() > 0);
    let usage = server
        .send("user@pbs", "GET", "/api2/json/status/datastore-usage", None)
        .await;
    let usage: Value = serde_json::from_slice(&usage.body).unwrap();
    assert_eq!(usage["data"][0]["store"], "main");
    let upid = server
        .post("admin@pbs", "prune-datastore", json!({"keep-last": 1}))
        .await;
    let upid: Value = serde_json::from_slice(&upid.body).unwrap();
    let (end, log) = server.wait("admin@pbs", upid["data"].as_str().unwrap()).await;
    assert_eq!(end, "OK", "{log}");
    assert!(log.contains("remove host/fix/2023-11-14T11:00:00Z"), "{log}");
    assert_eq!(server.store.list().unwrap().all_groups().count(), 2);
}
