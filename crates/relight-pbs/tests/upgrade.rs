//! From HTTP/1.1 to both protocols on one connection, as clients do it.

mod support;
mod wire;

use std::sync::Arc;

use http::Method;
use relight_pbs::access::{Access, AuditEvent, AuthId, Credentials, Privileges, Unauthenticated};
use relight_pbs::service::datastore::Stores;
use relight_pbs::service::http::{HttpService, Limits, Router};
use relight_pbs::service::tasks::Tasks;
use relight_pbs::service::{backup, reader};
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};
use wire::*;

/// Whoever gives a name is taken at their word.
struct Trusting;

impl Access for Trusting {
    fn authenticate(&self, credentials: &Credentials<'_>) -> Result<AuthId, Unauthenticated> {
        let who = credentials.authorization.and_then(|text| text.parse().ok());
        who.ok_or_else(|| Unauthenticated::new("no name"))
    }

    fn privileges(&self, who: &AuthId, path: &str) -> Privileges {
        match (who.to_string().as_str(), path) {
            ("bkup@pbs!tok1", "/datastore/main") => Privileges::DATASTORE_BACKUP,
            ("reader@pbs", "/datastore/main") => Privileges::DATASTORE_READ,
            _ => Privileges::NONE,
        }
    }

    fn exists(&self, _: &AuthId) -> bool {
        true
    }

    fn has_below(&self, _: &AuthId, _: &str, _: Privileges) -> bool {
        false
    }

    fn audit(&self, _: &AuditEvent<'_>) {}
}

struct Server {
    place: Place,
    service: Arc<HttpService>,
    tasks: Arc<Tasks>,
}

impl Server {
    fn new() -> Self {
        let place = Place::new();
        let stores = Arc::new(Stores::new());
        stores.add(place.datastore());
        let tasks = Tasks::open(place.folder.path().join("tasks"), "node").unwrap();
        let mut router = Router::new();
        backup::routes(&mut router, &stores, &tasks);
        reader::routes(&mut router, &stores, &tasks);
        let service = HttpService::new(router, Arc::new(Trusting), Limits::default());
        Self {
            place,
            service,
            tasks,
        }
    }

    /// Sends a request head. Gives the head of the answer, its body, and the connection.
    async fn upgrade(&self, target: &str, who: &str, protocol: &str) -> (String, DuplexStream) {
        let (mut here, there) = tokio::io::duplex(256 << 10);
        let service = self.service.clone();
        tokio::spawn(async move { service.serve(there, None).await });
        let upgrade = match protocol {
            "" => String::new(),
            protocol => format!("Connection: upgrade\r\nUpgrade: {protocol}\r\n"),
        };
        let request = format!("GET {target} HTTP/1.1\r\nHost: x\r\nAuthorization: {who}\r\n{upgrade}\r\n");
        here.write_all(request.as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(here.read_u8().await.unwrap());
        }
        (String::from_utf8(head).unwrap(), here)
    }
}

const BACKUP: &str = "//api2/json/backup?backup-id=fix&backup-time=1700000001&backup-type=host&benchmark=false&debug=true&store=main";
const READER: &str =
    "//api2/json/reader?backup-id=fix&backup-time=1700000001&backup-type=host&debug=true&store=main";

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_becomes_a_session() {
    let server = Server::new();
    let (head, io) = server.upgrade(BACKUP, "bkup@pbs!tok1", backup::PROTOCOL).await;
    let head = head.to_ascii_lowercase();
    assert!(head.starts_with("http/1.1 101 switching protocols\r\n"), "{head}");
    assert!(
        head.contains("connection: upgrade\r\n") && head.contains("upgrade: proxmox-backup-protocol-v1\r\n")
    );
    let wire = Wire::new(io).await;
    assert_eq!(
        wire.get("/previous_backup_time").await.data(),
        serde_json::Value::Null
    );
    let speed = wire
        .try_call(Method::POST, "/speedtest", Some(vec![1; 20 << 20].into()))
        .await
        .unwrap();
    speed.data();
    let blob = relight_pbs::formats::blob::encode(b"x", true).unwrap();
    let target = format!("/blob?file-name=a.blob&encoded-size={}", blob.len());
    let csum = sha256(&blob);
    wire.post_bytes(&target, blob.clone()).await.data();
    let name: relight_pbs::formats::ids::SnapshotName = "host/fix/2023-11-14T22:13:21Z".parse().unwrap();
    let file = relight_pbs::formats::manifest::ManifestFile {
        filename: "a.blob".parse().unwrap(),
        crypt_mode: Default::default(),
        size: blob.len() as u64,
        csum,
        other: serde_json::Map::new(),
    };
    let manifest = relight_pbs::formats::manifest::Manifest::new(name, vec![file])
        .to_blob()
        .unwrap();
    let target = format!("/blob?file-name=index.json.blob&encoded-size={}", manifest.len());
    wire.post_bytes(&target, manifest).await.data();
    wire.post("/finish").await.data();
    wire.cut();

    let (head, io) = server.upgrade(READER, "reader@pbs", reader::PROTOCOL).await;
    assert!(head.starts_with("HTTP/1.1 101 "), "{head}");
    let wire = Wire::new(io).await;
    assert_eq!(wire.get("/download?file-name=a.blob").await.bytes(), blob);
    wire.cut();
    server.service.stop();
    server.service.ended().await;
    let tasks = server.tasks.list();
    assert_eq!(tasks.len(), 2);
    assert!(
        tasks
            .iter()
            .all(|task| task.end.as_ref().is_some_and(|(_, end)| !end.is_error())),
        "{tasks:?}"
    );
    drop(server.place);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_become_a_session_stays_http() {
    let server = Server::new();
    let (both, none) = (format!("{BACKUP}&no-cache=true"), "");
    let bad_name = BACKUP.replace("=fix", "=..%2Ffix");
    let cases = [
        (BACKUP, "bkup@pbs!tok1", none, "400"),
        (BACKUP, "bkup@pbs!tok1", reader::PROTOCOL, "400"),
        (BACKUP, "reader@pbs", backup::PROTOCOL, "403"),
        (READER, "nobody@pbs", reader::PROTOCOL, "403"),
        (READER, "reader@pbs", reader::PROTOCOL, "400"),
        (BACKUP, "", backup::PROTOCOL, "401"),
        (&bad_name, "bkup@pbs!tok1", backup::PROTOCOL, "400"),
        (&both, "bkup@pbs!tok1", backup::PROTOCOL, "101"),
    ];
    for (target, who, protocol, status) in cases {
        let (head, _io) = server.upgrade(target, who, protocol).await;
        assert!(
            head.starts_with(&format!("HTTP/1.1 {status} ")),
            "{target} {who} {protocol}: {head}"
        );
    }
    let broken = server
        .upgrade(&format!("{BACKUP}&what=1"), "bkup@pbs!tok1", backup::PROTOCOL)
        .await;
    assert!(broken.0.starts_with("HTTP/1.1 400 "), "{}", broken.0);
}
