//! The calls about datastores, as clients send them, over a connection.

mod support;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use relight_pbs::access::{Access, AuditEvent, AuthId, Credentials, Privileges, Unauthenticated};
use relight_pbs::formats::blob;
use relight_pbs::service::datastore::{Datastore, Stores};
use relight_pbs::service::http::{HttpService, Limits, Router};
use relight_pbs::service::{rest, tasks};
use serde_json::{Value, json};
use support::{Place, Upload, content, relight_backup};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// Whoever sends `WHO:secret` is that; the rules say what it may do, the deepest path that fits.
struct Rules(HashMap<(&'static str, &'static str), Privileges>);

impl Access for Rules {
    fn authenticate(&self, credentials: &Credentials<'_>) -> Result<AuthId, Unauthenticated> {
        let given = credentials.authorization.unwrap_or_default();
        let token = given
            .strip_prefix("PBSAPIToken ")
            .and_then(|rest| rest.strip_suffix(":secret"));
        token
            .and_then(|token| token.parse().ok())
            .ok_or_else(|| Unauthenticated::new("unknown"))
    }

    fn privileges(&self, who: &AuthId, path: &str) -> Privileges {
        let mut path = path.to_string();
        loop {
            let rule = self
                .0
                .iter()
                .find(|((name, at), _)| *name == who.to_string() && *at == path);
            if let Some((_, privileges)) = rule {
                return *privileges;
            }
            match path.rfind('/') {
                Some(0) | None => return Privileges::NONE,
                Some(end) => path.truncate(end),
            }
        }
    }

    fn exists(&self, who: &AuthId) -> bool {
        who.user().as_str() != "nobody@pbs"
    }

    fn has_below(&self, who: &AuthId, path: &str, some: Privileges) -> bool {
        let below = format!("{path}/");
        let name = who.to_string();
        self.privileges(who, path).intersects(some)
            || self
                .0
                .iter()
                .any(|((rule, at), has)| *rule == name && at.starts_with(&below) && has.intersects(some))
    }

    fn audit(&self, _: &AuditEvent<'_>) {}
}

const ALL: Privileges = Privileges::DATASTORE_AUDIT
    .union(Privileges::DATASTORE_MODIFY)
    .union(Privileges::DATASTORE_READ)
    .union(Privileges::DATASTORE_VERIFY)
    .union(Privileges::DATASTORE_BACKUP)
    .union(Privileges::DATASTORE_PRUNE);

struct Server {
    place: Place,
    store: Arc<Datastore>,
    http: Arc<HttpService>,
}

struct Reply {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Reply {
    fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Server {
    fn new() -> Self {
        let place = Place::new();
        let store = place.datastore();
        let stores = Arc::new(Stores::new());
        stores.add(store.clone());
        let folder = place.folder.path().join("tasks");
        let all_tasks = tasks::Tasks::open(folder, "relay").unwrap();
        let mut router = Router::new();
        rest::routes(&mut router, &stores, &all_tasks);
        tasks::rest::routes(&mut router, &all_tasks);
        let own = Privileges::DATASTORE_BACKUP | Privileges::DATASTORE_PRUNE;
        let rules = Rules(HashMap::from([
            (("admin@pbs", "/datastore/main"), ALL),
            (("user@pbs", "/datastore/main"), own),
            (("user@pbs!t", "/datastore/main"), own),
            (("lab@pbs", "/datastore/main/lab"), ALL),
        ]));
        let limits = Limits {
            unauthorized_delay: Duration::ZERO,
            forbidden_delay: Duration::ZERO,
            ..Limits::default()
        };
        let http = HttpService::new(router, Arc::new(rules), limits);
        Self { place, store, http }
    }

    /// Sends a call about the datastore `main`.
    async fn call(&self, who: &str, method: &str, rest: &str, body: Option<(&str, &[u8])>) -> Reply {
        self.send(
            who,
            method,
            &format!("/api2/json/admin/datastore/main/{rest}"),
            body,
        )
        .await
    }

    async fn send(&self, who: &str, method: &str, target: &str, body: Option<(&str, &[u8])>) -> Reply {
        let (client, server) = tokio::io::duplex(1 << 16);
        let http = self.http.clone();
        tokio::spawn(async move { http.serve(server, None).await });
        let (mut read, mut write) = tokio::io::split(client);
        let mut request = format!(
            "{method} {target} HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: PBSAPIToken {who}:secret\r\n"
        )
        .into_bytes();
        if let Some((kind, bytes)) = body {
            let head = format!("content-type: {kind}\r\ncontent-length: {}\r\n", bytes.len());
            request.extend_from_slice(head.as_bytes());
        }
        request.extend_from_slice(b"\r\n");
        request.extend_from_slice(body.map_or(&[], |(_, bytes)| bytes));
        let send = tokio::spawn(async move {
            let _ = write.write_all(&request).await;
            write
        });
        let mut reply = Vec::new();
        read.read_to_end(&mut reply).await.unwrap();
        drop(send.await);
        let end = reply.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(reply[..end].to_vec()).unwrap();
        let mut rest = reply.split_off(end + 4);
        if head.to_lowercase().contains("transfer-encoding: chunked") {
            rest = unchunk(&rest);
        }
        Reply {
            status: head[9..12].parse().unwrap(),
            head,
            body: rest,
        }
    }

    /// The data of an answer that must be one.
    async fn data(&self, who: &str, method: &str, rest: &str) -> Value {
        let reply = self.call(who, method, rest, None).await;
        assert_eq!(reply.status, 200, "{rest}: {}", reply.text());
        let value: Value = serde_json::from_slice(&reply.body).unwrap();
        value["data"].clone()
    }

    async fn post(&self, who: &str, rest: &str, body: Value) -> Reply {
        let body = body.to_string();
        self.call(who, "POST", rest, Some(("application/json", body.as_bytes())))
            .await
    }

    async fn refused(&self, who: &str, method: &str, rest: &str, status: u16) -> String {
        let reply = self.call(who, method, rest, None).await;
        assert_eq!(reply.status, status, "{who} {method} {rest}: {}", reply.text());
        reply.text()
    }

    /// Waits for a task to end; gives how, and its log.
    async fn wait(&self, who: &str, upid: &str) -> (String, String) {
        let name: String = upid.bytes().map(|byte| format!("%{byte:02X}")).collect();
        for _ in 0..600 {
            let target = format!("/api2/json/nodes/localhost/tasks/{name}/status");
            let reply = self.send(who, "GET", &target, None).await;
            let status: Value = serde_json::from_slice(&reply.body).unwrap();
            if status["data"]["status"] == "stopped" {
                let target = format!("/api2/json/nodes/localhost/tasks/{name}/log?limit=500");
                let log = self.send(who, "GET", &target, None).await;
                return (
                    status["data"]["exitstatus"].as_str().unwrap().to_string(),
                    log.text(),
                );
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        panic!("{upid} does not end");
    }
}

fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    loop {
        let end = bytes
            .windows(2)
            .position(|two| two == b"\r\n")
            .expect("a whole chunk");
        let size = usize::from_str_radix(std::str::from_utf8(&bytes[..end]).unwrap(), 16).unwrap();
        if size == 0 {
            return whole;
        }
        whole.extend_from_slice(&bytes[end + 2..end + 2 + size]);
        bytes = &bytes[end + 2 + size + 2..];
    }
}

const FIX: &str = "backup-type=host&backup-id=fix&backup-time=1700000001";

fn upload(server: &Server, namespace: &str, name: &str, owner: &str) {
    let image = content(name.len() as u64, 5 << 20);
    Upload::new(&server.place.open(), namespace, name)
        .image("disk.img.fidx", &image)
        .blob("etc.conf.blob", b"key = value\n")
        .finish(owner);
}

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

#[tokio::test(flavor = "multi_thread")]
async fn files_and_folders_are_downloaded() {
    let server = Server::new();
    let folder = server.place.folder.path().join("data");
    std::fs::create_dir_all(folder.join("sub/deep")).unwrap();
    std::fs::write(folder.join("sub/hello"), b"hello world").unwrap();
    std::fs::write(folder.join("sub/deep/large"), content(3, 3_000_000)).unwrap();
    std::os::unix::fs::symlink("hello", folder.join("sub/link")).unwrap();
    std::os::unix::ffi::OsStrExt::as_bytes(folder.as_os_str());
    let disk = server.place.folder.path().join("disk.raw");
    std::fs::write(&disk, content(9, 9 << 20)).unwrap();
    let snapshot = relight_backup(&server.place.open(), "host/web", Some(&folder), Some(&disk));
    let time = snapshot.time.as_second();
    let of = format!("backup-type=host&backup-id=web&backup-time={time}");
    let who = "admin@pbs";
    let root = server
        .data(who, "GET", &format!("catalog?{of}&filepath=root"))
        .await;
    let archive = STANDARD.encode("/tree.mpxar.didx");
    assert_eq!(
        root,
        json!([{"filepath": archive, "text": "tree.mpxar.didx", "type": "d", "leaf": false}])
    );
    let escape = |path: &[u8]| -> String {
        STANDARD
            .encode(path)
            .bytes()
            .map(|byte| format!("%{byte:02X}"))
            .collect()
    };
    let top = server
        .data(
            who,
            "GET",
            &format!("catalog?{of}&filepath={}", escape(b"/tree.mpxar.didx")),
        )
        .await;
    assert_eq!((&top[0]["text"], &top[0]["type"]), (&json!("sub"), &json!("d")));
    assert_eq!(
        top[0]["filepath"].as_str().unwrap(),
        STANDARD.encode("/tree.mpxar.didx/sub")
    );
    let sub = server
        .data(
            who,
            "GET",
            &format!("catalog?{of}&filepath={}", escape(b"/tree.mpxar.didx/sub")),
        )
        .await;
    let types: Vec<(&str, &str)> = sub
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (entry["text"].as_str().unwrap(), entry["type"].as_str().unwrap()))
        .collect();
    assert_eq!(types, [("deep", "d"), ("hello", "f"), ("link", "l")]);
    assert_eq!((&sub[1]["size"], &sub[1]["leaf"]), (&json!(11), &json!(true)));
    let get = |path: &'static [u8], more: &'static str| {
        let target = format!("pxar-file-download?{of}&filepath={}{more}", escape(path));
        let server = &server;
        async move { server.call(who, "GET", &target, None).await }
    };
    let file = get(b"tree.mpxar.didx/sub/hello", "").await;
    assert_eq!((file.status, file.text().as_str()), (200, "hello world"));
    assert!(file.head.contains("filename=\"hello\""), "{}", file.head);
    let large = get(b"/tree.mpxar.didx/sub/deep/large", "").await;
    assert!(large.body == content(3, 3_000_000));
    let zip = get(b"tree.mpxar.didx/sub", "").await;
    assert!(zip.body.starts_with(b"PK\x03\x04") && zip.head.contains("sub.zip"));
    let tar = get(b"tree.mpxar.didx/sub", "&tar=true").await;
    let tar = zstd::stream::decode_all(tar.body.as_slice()).unwrap();
    assert_eq!(&tar[257..262], b"ustar");
    assert!(tar.windows(11).any(|part| part == b"hello world"));
    for (path, status) in [
        (&b"tree.mpxar.didx/none"[..], 404),
        (b"other.pxar.didx/x", 404),
        (b"tree.mpxar.didx/../../etc/passwd", 400),
        (b"tree.mpxar.didx/sub/link", 400),
    ] {
        let reply = get(path, "").await;
        assert_eq!(reply.status, status, "{}", reply.text());
    }
    // The image as it was, and the files as clients of the other protocol get them.
    let image = server
        .call(
            who,
            "GET",
            &format!("download-decoded?{of}&file-name=disk.img.fidx"),
            None,
        )
        .await;
    assert!(image.body == content(9, 9 << 20));
    assert!(image.head.contains("filename=\"disk.img\""), "{}", image.head);
    let index = server
        .call(
            who,
            "GET",
            &format!("download?{of}&file-name=disk.img.fidx"),
            None,
        )
        .await;
    assert_eq!(index.body.len(), 4096 + 3 * 32);
    let manifest = server
        .call(
            who,
            "GET",
            &format!("download-decoded?{of}&file-name=index.json.blob"),
            None,
        )
        .await;
    let manifest: Value = serde_json::from_slice(&manifest.body).unwrap();
    assert_eq!(manifest["backup-time"], time);
    for bad in ["nope.blob", "../../etc/shadow", "disk.img"] {
        let target = format!("download?{of}&file-name={bad}");
        let reply = server.call(who, "GET", &target, None).await;
        assert!(matches!(reply.status, 400 | 404), "{}", reply.text());
    }
    // What belongs to nobody belongs to the administrator.
    server
        .refused(
            "user@pbs",
            "GET",
            &format!("download?{of}&file-name=index.json.blob"),
            400,
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_of_older_clients_are_browsed_too() {
    use relight_pbs::formats::blob::Blob;
    use relight_pbs::formats::index::DynamicIndex;

    // An archive that the original client wrote, in one stream.
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/datastore");
    let folder = golden.join("host/fix/2023-11-14T22:13:21Z");
    let Ok(index) = std::fs::read(folder.join("tree.pxar.didx")) else {
        panic!("the fixture is not there");
    };
    let index = DynamicIndex::parse(&index).unwrap();
    let chunks: Vec<Vec<u8>> = index
        .entries()
        .iter()
        .map(|entry| {
            let name = hex::encode(entry.digest);
            let path = golden.join(format!(".chunks/{}/{name}", &name[..4]));
            let bytes = std::fs::read(path).unwrap();
            Blob::parse(&bytes).unwrap().decode(16 << 20).unwrap()
        })
        .collect();
    let server = Server::new();
    Upload::new(&server.place.open(), "", "host/fix/2023-11-14T22:13:21Z")
        .stream("tree.pxar.didx", chunks.iter().map(Vec::as_slice))
        .finish("user@pbs!t");
    let root = server
        .data("user@pbs!t", "GET", &format!("catalog?{FIX}&filepath=/"))
        .await;
    let path = root[0]["filepath"].as_str().unwrap().replace('=', "%3D");
    let list = server
        .data("user@pbs!t", "GET", &format!("catalog?{FIX}&filepath={path}"))
        .await;
    assert!(list.as_array().unwrap().len() > 3, "{list}");
    let mut files = 0;
    for entry in list.as_array().unwrap() {
        if entry["type"] == "f" {
            let path = entry["filepath"].as_str().unwrap();
            let path = path.replace('+', "%2B").replace('=', "%3D");
            let target = format!("pxar-file-download?{FIX}&filepath={path}");
            let reply = server.call("user@pbs!t", "GET", &target, None).await;
            assert_eq!(reply.status, 200);
            assert_eq!(reply.body.len() as u64, entry["size"].as_u64().unwrap());
            files += 1;
        }
    }
    assert!(files > 0, "{list}");
    let path = root[0]["filepath"].as_str().unwrap().replace('=', "%3D");
    let target = format!("pxar-file-download?{FIX}&filepath={path}&tar=1");
    let reply = server.call("user@pbs!t", "GET", &target, None).await;
    assert!(zstd::stream::decode_all(reply.body.as_slice()).unwrap().len() > 100_000);
}
