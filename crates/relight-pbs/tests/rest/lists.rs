//! Lists, notes, owners and namespaces.

use relight_pbs::formats::blob;
use serde_json::{Value, json};

use crate::lab::*;

#[tokio::test(flavor = "multi_thread")]
async fn lists_have_the_shape_of_the_original() {
    let server = Server::new();
    assert_eq!(server.data("admin@pbs", "GET", "groups").await, json!([]));
    upload(&server, "", "host/fix/2023-11-14T22:13:21Z", "user@pbs!t");
    upload(&server, "", "host/fix/2023-11-14T23:13:21Z", "user@pbs!t");
    upload(&server, "", "vm/100/2023-11-14T23:13:21Z", "other@pbs");
    let groups = server.data("admin@pbs", "GET", "groups").await;
    let fix = groups
        .as_array()
        .unwrap()
        .iter()
        .find(|group| group["backup-id"] == "fix")
        .unwrap();
    let expected = json!({
        "backup-count": 2, "backup-id": "fix", "backup-type": "host", "last-backup": 1_700_003_601,
        "files": ["disk.img.fidx", "etc.conf.blob", "index.json.blob"], "owner": "user@pbs!t",
    });
    assert_eq!(*fix, expected);
    let snapshots = server
        .data("admin@pbs", "GET", "snapshots?backup-id=fix&backup-type=host")
        .await;
    let [newest, first] = snapshots.as_array().unwrap().as_slice() else {
        panic!("{snapshots}")
    };
    assert_eq!(newest["backup-time"], 1_700_003_601);
    assert_eq!(first["owner"], "user@pbs!t");
    assert_eq!(first["protected"], false);
    let files = first["files"].as_array().unwrap();
    assert_eq!(
        files[0],
        json!({"filename": "disk.img.fidx", "crypt-mode": "none", "size": 5 << 20})
    );
    let sum: u64 = files.iter().map(|file| file["size"].as_u64().unwrap()).sum();
    assert_eq!(first["size"], sum);
    let listed = server.data("admin@pbs", "GET", &format!("files?{FIX}")).await;
    assert_eq!(listed, first["files"]);
    assert_eq!(
        server
            .data("admin@pbs", "GET", "snapshots?backup-id=nope&backup-type=host")
            .await,
        json!([])
    );
    // Everybody sees what is theirs.
    let own = server.data("user@pbs!t", "GET", "groups").await;
    assert_eq!(own, json!([expected]));
    let of_user = server.data("user@pbs", "GET", "snapshots").await;
    assert_eq!(of_user.as_array().unwrap().len(), 2);
    server.refused("stranger@pbs", "GET", "groups", 403).await;
    let text = server.refused("user@pbs!t", "GET", "groups?what=1", 400).await;
    assert!(text.contains("what"), "{text}");
    let reply = server
        .send(
            "admin@pbs",
            "GET",
            "/api2/json/admin/datastore/other/groups",
            None,
        )
        .await;
    assert_eq!(reply.status, 403, "no more is told than to a stranger");
    let stores = server
        .send("admin@pbs", "GET", "/api2/json/admin/datastore", None)
        .await;
    let stores: Value = serde_json::from_slice(&stores.body).unwrap();
    assert_eq!(stores["data"][0]["store"], "main");
    let none = server
        .send("stranger@pbs", "GET", "/api2/json/admin/datastore", None)
        .await;
    assert_eq!(none.text(), r#"{"data":[]}"#);
}

#[tokio::test(flavor = "multi_thread")]
async fn notes_protection_logs_and_removal() {
    let server = Server::new();
    upload(&server, "", "host/fix/2023-11-14T22:13:21Z", "user@pbs!t");
    upload(&server, "", "host/other/2023-11-14T22:13:21Z", "other@pbs");
    let own = "user@pbs!t";
    assert_eq!(server.data(own, "GET", &format!("notes?{FIX}")).await, "");
    server
        .data(own, "PUT", &format!("notes?{FIX}&notes=first+note%0Amore"))
        .await;
    assert_eq!(
        server.data(own, "GET", &format!("notes?{FIX}")).await,
        "first note\nmore"
    );
    let snapshots = server.data(own, "GET", "snapshots").await;
    assert_eq!(snapshots[0]["comment"], "first note");
    server
        .data(own, "PUT", &format!("protected?{FIX}&protected=true"))
        .await;
    assert_eq!(server.data(own, "GET", &format!("protected?{FIX}")).await, true);
    let text = server
        .refused(own, "DELETE", &format!("snapshots?{FIX}"), 400)
        .await;
    assert_eq!(
        text,
        "failed to delete snapshot - cannot remove protected snapshot"
    );
    let group = "backup-type=host&backup-id=fix";
    server
        .data(own, "PUT", &format!("group-notes?{group}&notes=group+note"))
        .await;
    assert_eq!(
        server.data(own, "GET", &format!("group-notes?{group}")).await,
        "group note"
    );
    assert_eq!(
        server.data(own, "GET", "groups").await[0]["comment"],
        "group note"
    );
    let log = blob::encode(b"it went well", true).unwrap();
    let path = format!("upload-backup-log?{FIX}");
    let octets = "application/octet-stream";
    let reply = server.call(own, "POST", &path, Some((octets, &log))).await;
    assert_eq!((reply.status, reply.text().as_str()), (200, r#"{"data":null}"#));
    let reply = server.call(own, "POST", &path, Some((octets, &log))).await;
    assert_eq!(reply.status, 400);
    let listed = server.data(own, "GET", &format!("files?{FIX}")).await;
    assert!(
        listed
            .as_array()
            .unwrap()
            .contains(&json!({"filename": "client.log.blob"}))
    );
    // Not even with the privileges of its owner's tokens.
    let other = FIX.replace("fix", "other");
    for (method, call) in [
        ("GET", "notes"),
        ("DELETE", "snapshots"),
        ("GET", "files"),
        ("GET", "protected"),
    ] {
        let text = server.refused(own, method, &format!("{call}?{other}"), 400).await;
        assert!(text.starts_with("backup owner check failed"), "{text}");
    }
    let reply = server
        .call(
            own,
            "POST",
            &format!("upload-backup-log?{other}"),
            Some((octets, &log)),
        )
        .await;
    assert_eq!(reply.status, 400);
    let text = server
        .refused("admin@pbs", "DELETE", &format!("groups?{group}"), 400)
        .await;
    assert!(text.contains("protected"), "{text}");
    server
        .data(own, "PUT", &format!("protected?{FIX}&protected=0"))
        .await;
    assert_eq!(
        server.data(own, "DELETE", &format!("snapshots?{FIX}")).await,
        Value::Null
    );
    server
        .refused(own, "DELETE", &format!("snapshots?{FIX}"), 400)
        .await;
    assert_eq!(server.data(own, "GET", "groups").await, json!([]));
}

#[tokio::test(flavor = "multi_thread")]
async fn owners_change_within_limits() {
    let server = Server::new();
    upload(&server, "", "host/fix/2023-11-14T22:13:21Z", "user@pbs!t");
    let change = |who: &'static str, owner: &'static str| {
        server.post(
            who,
            "change-owner",
            json!({"backup-type": "host", "backup-id": "fix", "new-owner": owner}),
        )
    };
    assert_eq!(change("user@pbs!t", "user@pbs").await.status, 403);
    assert_eq!(change("user@pbs", "other@pbs").await.status, 403);
    assert_eq!(change("user@pbs", "user@pbs").await.status, 200);
    // A token has no part in what is its user's.
    assert_eq!(server.data("user@pbs!t", "GET", "groups").await, json!([]));
    assert_eq!(change("admin@pbs", "nobody@pbs").await.status, 400);
    assert_eq!(change("admin@pbs", "not an id").await.status, 400);
    assert_eq!(change("admin@pbs", "other@pbs").await.status, 200);
    assert_eq!(change("user@pbs", "user@pbs").await.status, 403);
}

#[tokio::test(flavor = "multi_thread")]
async fn namespaces_as_the_client_makes_them() {
    let server = Server::new();
    let make = |name: &'static str, parent: &'static str| {
        server.post("admin@pbs", "namespace", json!({"name": name, "parent": parent}))
    };
    assert_eq!(make("lab", "").await.text(), r#"{"data":"lab"}"#);
    assert_eq!(make("sub", "lab").await.text(), r#"{"data":"lab/sub"}"#);
    assert_eq!(make("x", "nope").await.status, 404);
    assert_eq!(make("..", "").await.status, 400);
    upload(&server, "lab/sub", "host/fix/2023-11-14T22:13:21Z", "user@pbs!t");
    assert_eq!(
        server.data("admin@pbs", "GET", "namespace?").await,
        json!([{"ns": ""}, {"ns": "lab"}, {"ns": "lab/sub"}])
    );
    assert_eq!(
        server
            .data("admin@pbs", "GET", "namespace?parent=lab&max-depth=0")
            .await,
        json!([{"ns": "lab"}])
    );
    // Whoever has rights below sees the way there.
    assert_eq!(
        server.data("lab@pbs", "GET", "namespace").await,
        json!([{"ns": ""}, {"ns": "lab"}, {"ns": "lab/sub"}])
    );
    server.refused("lab@pbs", "GET", "groups", 403).await;
    assert_eq!(
        server
            .data("lab@pbs", "GET", "groups?ns=lab/sub")
            .await
            .as_array()
            .unwrap()
            .len(),
        1
    );
    server.refused("admin@pbs", "GET", "groups?ns=nope", 404).await;
    server.refused("lab@pbs", "DELETE", "namespace?ns=lab", 403).await;
    server
        .refused("admin@pbs", "DELETE", "namespace?ns=lab", 400)
        .await;
    server
        .data("admin@pbs", "DELETE", "namespace?ns=lab&delete-groups=true")
        .await;
    assert_eq!(
        server.data("admin@pbs", "GET", "namespace").await,
        json!([{"ns": ""}])
    );
}
