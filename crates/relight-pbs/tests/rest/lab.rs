//! A server with rules for whoever calls, and calls on it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use relight_pbs::access::{Access, AuditEvent, AuthId, Credentials, Privileges, Unauthenticated};
use relight_pbs::service::datastore::{Datastore, Stores};
use relight_pbs::service::http::{HttpService, Limits, Router};
use relight_pbs::service::{rest, tasks};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{Place, Upload, content};

/// Whoever sends `WHO:secret` is that; the rules say what it may do, the deepest path that fits.
pub struct Rules(HashMap<(&'static str, &'static str), Privileges>);

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

pub const ALL: Privileges = Privileges::DATASTORE_AUDIT
    .union(Privileges::DATASTORE_MODIFY)
    .union(Privileges::DATASTORE_READ)
    .union(Privileges::DATASTORE_VERIFY)
    .union(Privileges::DATASTORE_BACKUP)
    .union(Privileges::DATASTORE_PRUNE);

pub struct Server {
    pub place: Place,
    pub store: Arc<Datastore>,
    pub http: Arc<HttpService>,
}

pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl Server {
    pub fn new() -> Self {
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
    pub async fn call(&self, who: &str, method: &str, rest: &str, body: Option<(&str, &[u8])>) -> Reply {
        self.send(
            who,
            method,
            &format!("/api2/json/admin/datastore/main/{rest}"),
            body,
        )
        .await
    }

    pub async fn send(&self, who: &str, method: &str, target: &str, body: Option<(&str, &[u8])>) -> Reply {
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
    pub async fn data(&self, who: &str, method: &str, rest: &str) -> Value {
        let reply = self.call(who, method, rest, None).await;
        assert_eq!(reply.status, 200, "{rest}: {}", reply.text());
        let value: Value = serde_json::from_slice(&reply.body).unwrap();
        value["data"].clone()
    }

    pub async fn post(&self, who: &str, rest: &str, body: Value) -> Reply {
        let body = body.to_string();
        self.call(who, "POST", rest, Some(("application/json", body.as_bytes())))
            .await
    }

    pub async fn refused(&self, who: &str, method: &str, rest: &str, status: u16) -> String {
        let reply = self.call(who, method, rest, None).await;
        assert_eq!(reply.status, status, "{who} {method} {rest}: {}", reply.text());
        reply.text()
    }

    /// Waits for a task to end; gives how, and its log.
    pub async fn wait(&self, who: &str, upid: &str) -> (String, String) {
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

pub fn unchunk(mut bytes: &[u8]) -> Vec<u8> {
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

pub const FIX: &str = "backup-type=host&backup-id=fix&backup-time=1700000001";

pub fn upload(server: &Server, namespace: &str, name: &str, owner: &str) {
    let image = content(name.len() as u64, 5 << 20);
    Upload::new(&server.place.open(), namespace, name)
        .image("disk.img.fidx", &image)
        .blob("etc.conf.blob", b"key = value\n")
        .finish(owner);
}
