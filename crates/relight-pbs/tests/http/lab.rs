//! A service with a few calls, and connections to it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use http::Method;
use relight_pbs::access::{Access, AuditEvent, AuthId, Credentials, Privileges, Unauthenticated};
use relight_pbs::service::http::{Answer, ApiError, Body, HttpService, Limits, NoParameters, Router};
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// Knows `a@pbs!t:good`, who may read the datastore "main".
#[derive(Default)]
pub struct Known {
    pub records: Mutex<Vec<String>>,
}

impl Access for Known {
    fn authenticate(&self, credentials: &Credentials<'_>) -> Result<AuthId, Unauthenticated> {
        match credentials.authorization {
            Some("PBSAPIToken a@pbs!t:good") => Ok("a@pbs!t".parse().unwrap()),
            _ => Err(Unauthenticated::new("wrong")),
        }
    }

    fn privileges(&self, _: &AuthId, path: &str) -> Privileges {
        if path == "/datastore/main" {
            Privileges::DATASTORE_READ
        } else {
            Privileges::NONE
        }
    }

    fn exists(&self, _: &AuthId) -> bool {
        true
    }

    fn has_below(&self, _: &AuthId, _: &str, _: Privileges) -> bool {
        false
    }

    fn audit(&self, event: &AuditEvent<'_>) {
        let who = event.who.map(ToString::to_string).unwrap_or_default();
        let AuditEvent {
            what,
            parameters,
            status,
            message,
            ..
        } = event;
        self.records.lock().unwrap().push(
            format!("{who} {what} [{parameters}] {status} {message}")
                .trim()
                .into(),
        );
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub struct Group {
    pub store: String,
    pub backup_id: String,
    #[serde(default)]
    pub dry_run: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Own {
    pub name: String,
}

pub fn router() -> Router {
    let mut router = Router::new();
    router
        .on(Method::POST, "/ping", |_, _: NoParameters| async {
            Answer::data("pong")
        })
        .public();
    router
        .on(Method::GET, "/ping", |_, _: NoParameters| async {
            Answer::data("pong")
        })
        .public();
    let group = |call: relight_pbs::service::http::Call, group: Group| async move {
        call.require(&format!("/datastore/{}", group.store), Privileges::DATASTORE_READ)?;
        Answer::data((group.backup_id, group.dry_run)).map(|answer| answer.with("total", 1))
    };
    router.on(Method::GET, "/admin/datastore/{store}/groups", group);
    router.on(Method::POST, "/admin/datastore/{store}/prune", group);
    router.on(Method::GET, "/fails", |_, _: NoParameters| async {
        Err::<Answer, _>(ApiError::bad_request("no such datastore 'x'"))
    });
    router
        .on_own(Method::GET, "/own/{name}", |_, own: Own| async move {
            Answer::data(own.name)
        })
        .public();
    router.on_own(Method::POST, "/own/{name}/change", |_, own: Own| async move {
        Answer::data(own.name)
    });
    router.on_blocking(Method::GET, "/panics", |_, _: NoParameters| panic!("a slip"));
    router.on(Method::GET, "/stream", |_, _: NoParameters| async {
        let (mut writer, body) = Body::written();
        tokio::task::spawn_blocking(move || {
            for _ in 0..100 {
                std::io::Write::write_all(&mut writer, &[b'x'; 10_000]).unwrap();
            }
            writer.finish().unwrap();
        });
        Ok(Answer::stream(body))
    });
    router
        .on(Method::POST, "/upload", |mut call, _: NoParameters| async move {
            Answer::data(call.body(1 << 20).await?.len())
        })
        .raw_body();
    router
        .on(Method::GET, "/echo", |call, _: NoParameters| async move {
            call.require_upgrade("echo-v1")?;
            Ok(Answer::upgrade("echo-v1", |mut io| async move {
                let (mut read, mut write) = tokio::io::split(&mut io);
                let _ = tokio::io::copy(&mut read, &mut write).await;
            }))
        })
        .changing(true);
    router
}

pub fn service(access: Arc<Known>) -> Arc<HttpService> {
    let limits = Limits {
        unauthorized_delay: Duration::from_millis(60),
        forbidden_delay: Duration::from_millis(30),
        ..Limits::default()
    };
    HttpService::new(router(), access, limits)
}

pub fn connect(service: &Arc<HttpService>) -> DuplexStream {
    let (client, server) = tokio::io::duplex(1 << 20);
    let service = service.clone();
    let peer: SocketAddr = "192.0.2.1:1234".parse().unwrap();
    tokio::spawn(async move { service.serve(server, Some(peer)).await });
    client
}

/// Sends bytes, reads until the server closes.
pub async fn talk(service: &Arc<HttpService>, request: &[u8]) -> String {
    let (mut read, mut write) = tokio::io::split(connect(service));
    let request = request.to_vec();
    // The server may answer and close before it has read everything.
    let send = tokio::spawn(async move {
        let _ = write.write_all(&request).await;
        write
    });
    let mut answer = Vec::new();
    let _ = read.read_to_end(&mut answer).await;
    drop(send.await);
    String::from_utf8_lossy(&answer).into_owned()
}

pub const AUTH: &str = "Authorization: PBSAPIToken a@pbs!t:good\r\n";

pub async fn get(service: &Arc<HttpService>, target: &str) -> String {
    talk(
        service,
        format!("GET {target} HTTP/1.1\r\nHost: x\r\n{AUTH}Connection: close\r\n\r\n").as_bytes(),
    )
    .await
}

pub async fn post(service: &Arc<HttpService>, target: &str, kind: &str, body: &str) -> String {
    let length = body.len();
    let head =
        format!("Host: x\r\n{AUTH}Content-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close");
    talk(
        service,
        format!("POST {target} HTTP/1.1\r\n{head}\r\n\r\n{body}").as_bytes(),
    )
    .await
}

pub fn status(answer: &str) -> u16 {
    answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0)
}

pub fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}
