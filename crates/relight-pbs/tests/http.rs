//! HTTP/1.1 as clients of the protocol speak it, and as hostile ones do.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use http::Method;
use relight_pbs::access::{Access, AuditEvent, AuthId, Credentials, Privileges, Unauthenticated};
use relight_pbs::service::http::{
    Answer, ApiError, Body, HttpService, Limits, NoParameters, Router, is_tls, redirect,
};
use relight_pbs::service::tasks::Tasks;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream};

/// Knows `a@pbs!t:good`, who may read the datastore "main".
#[derive(Default)]
struct Known {
    records: Mutex<Vec<String>>,
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
struct Group {
    store: String,
    backup_id: String,
    #[serde(default)]
    dry_run: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Own {
    name: String,
}

fn router() -> Router {
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

fn service(access: Arc<Known>) -> Arc<HttpService> {
    let limits = Limits {
        unauthorized_delay: Duration::from_millis(60),
        forbidden_delay: Duration::from_millis(30),
        ..Limits::default()
    };
    HttpService::new(router(), access, limits)
}

fn connect(service: &Arc<HttpService>) -> DuplexStream {
    let (client, server) = tokio::io::duplex(1 << 20);
    let service = service.clone();
    let peer: SocketAddr = "192.0.2.1:1234".parse().unwrap();
    tokio::spawn(async move { service.serve(server, Some(peer)).await });
    client
}

/// Sends bytes, reads until the server closes.
async fn talk(service: &Arc<HttpService>, request: &[u8]) -> String {
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

const AUTH: &str = "Authorization: PBSAPIToken a@pbs!t:good\r\n";

async fn get(service: &Arc<HttpService>, target: &str) -> String {
    talk(
        service,
        format!("GET {target} HTTP/1.1\r\nHost: x\r\n{AUTH}Connection: close\r\n\r\n").as_bytes(),
    )
    .await
}

async fn post(service: &Arc<HttpService>, target: &str, kind: &str, body: &str) -> String {
    let length = body.len();
    let head =
        format!("Host: x\r\n{AUTH}Content-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close");
    talk(
        service,
        format!("POST {target} HTTP/1.1\r\n{head}\r\n\r\n{body}").as_bytes(),
    )
    .await
}

fn status(answer: &str) -> u16 {
    answer
        .split(' ')
        .nth(1)
        .and_then(|status| status.parse().ok())
        .unwrap_or(0)
}

fn body(answer: &str) -> &str {
    answer.split_once("\r\n\r\n").map_or("", |(_, body)| body)
}

#[tokio::test]
async fn answers_have_the_shapes_that_clients_expect() {
    let service = service(Arc::default());
    // Doubled slashes and an empty query are how the original client asks.
    let answer = get(
        &service,
        "//api2/json//admin/datastore/main/groups?backup-id=100&dry-run=1",
    )
    .await;
    assert_eq!(
        (status(&answer), body(&answer)),
        (200, r#"{"data":["100",true],"total":1}"#)
    );
    assert!(
        answer.contains("content-type: application/json;charset=UTF-8\r\n"),
        "{answer}"
    );
    assert_eq!(
        body(&get(&service, "/api2/json/ping?").await),
        r#"{"data":"pong"}"#
    );
    let answer = get(&service, "/api2/json/fails").await;
    assert_eq!((status(&answer), body(&answer)), (400, "no such datastore 'x'"));
    assert!(
        answer.contains("content-type: application/json;charset=UTF-8\r\n"),
        "{answer}"
    );
    let answer = get(&service, "/api2/extjs/fails").await;
    let json: serde_json::Value = serde_json::from_str(body(&answer)).unwrap();
    assert_eq!(
        (status(&answer), &json["success"], &json["message"]),
        (200, &false.into(), &"no such datastore 'x'".into())
    );
    let answer = get(&service, "/api2/json/stream").await;
    assert!(answer.matches('x').count() >= 1_000_000);
    assert_eq!(status(&get(&service, "/api2/json/panics").await), 500);
}

#[tokio::test]
async fn what_is_outside_the_protocol_has_its_own_paths_and_errors_as_json() {
    let service = service(Arc::default());
    let answer = get(&service, "/own/vm%2F100").await;
    assert_eq!((status(&answer), body(&answer)), (200, r#"{"data":"vm/100"}"#));
    assert!(answer.contains("x-content-type-options: nosniff\r\n"), "{answer}");
    let error = |answer: &str| serde_json::from_str::<serde_json::Value>(body(answer)).unwrap();
    let unknown = get(&service, "/own/a/b").await;
    assert_eq!(
        (status(&unknown), &error(&unknown)["error"]["status"]),
        (404, &404.into())
    );
    let answer = get(&service, "/own/a/change").await;
    assert_eq!(status(&answer), 405);
    assert!(answer.contains("allow: POST\r\n"), "{answer}");
    // Neither side is reached by a path of the other.
    assert_eq!(status(&get(&service, "/api2/json/own/a").await), 404);
    assert_eq!(status(&get(&service, "/ping").await), 404);
    // Strangers learn of no path but public ones.
    for path in ["/own/a/b", "/own/a/change", "/other"] {
        let request = format!("POST {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        let answer = talk(&service, request.as_bytes()).await;
        assert_eq!(status(&answer), 401, "{path}");
        assert_eq!(error(&answer)["error"]["status"], 401);
    }
}

#[tokio::test]
async fn parameters_come_as_form_or_json_and_unknown_ones_are_refused() {
    let service = service(Arc::default());
    let target = "/api2/json/admin/datastore/main/prune";
    let json = post(
        &service,
        target,
        "application/json",
        r#"{"backup-id":"a","dry-run":true}"#,
    )
    .await;
    assert_eq!(body(&json), r#"{"data":["a",true],"total":1}"#);
    let form = post(
        &service,
        target,
        "application/x-www-form-urlencoded",
        "backup-id=a+b",
    )
    .await;
    assert_eq!(body(&form), r#"{"data":["a b",false],"total":1}"#);
    for (kind, bad) in [
        ("application/json", r#"{"backup-id":"a","more":1}"#),
        ("application/json", r#"{"backup-id":"a","store":"other"}"#),
        ("application/json", "{"),
        ("application/json", "\u{0}"),
        ("text/xml", "<a/>"),
        ("application/x-www-form-urlencoded", "backup-id=%ff"),
        ("application/x-www-form-urlencoded", ""),
    ] {
        let answer = post(&service, target, kind, bad).await;
        assert_eq!(status(&answer), 400, "{bad}: {answer}");
    }
    let nested = format!(
        r#"{{"backup-id":{}1{}}}"#,
        "[".repeat(100_000),
        "]".repeat(100_000)
    );
    assert_eq!(
        status(&post(&service, target, "application/json", &nested).await),
        400
    );
}

#[tokio::test]
async fn limits_hold() {
    let service = service(Arc::default());
    let long = format!("/api2/json/ping?{}", "a".repeat(3072));
    assert_eq!(status(&get(&service, &long).await), 414);
    let headers: String = (0..200).map(|at| format!("X-{at}: y\r\n")).collect();
    let flood = format!("GET /api2/json/ping HTTP/1.1\r\nHost: x\r\n{headers}\r\n");
    assert_eq!(status(&talk(&service, flood.as_bytes()).await), 431);
    let huge = format!(
        "GET /api2/json/ping HTTP/1.1\r\nX: {}\r\n\r\n",
        "y".repeat(200_000)
    );
    assert_eq!(status(&talk(&service, huge.as_bytes()).await), 431);
    let target = "/api2/json/admin/datastore/main/prune";
    let body_too_long = format!(r#"{{"backup-id":"{}"}}"#, "a".repeat(600 * 1024));
    assert_eq!(
        status(&post(&service, target, "application/json", &body_too_long).await),
        413
    );
    // Of strangers, at the calls that are open to them, less is read.
    let long = "a".repeat(20_000);
    let login = format!(
        "POST /api2/json/ping HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: 20000\r\n\r\n{long}"
    );
    assert_eq!(status(&talk(&service, login.as_bytes()).await), 413);
    // One without an announced length that never ends.
    let mut chunked = format!(
        "POST {target} HTTP/1.1\r\nHost: x\r\n{AUTH}Content-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    );
    for _ in 0..40 {
        chunked.push_str(&format!("8000\r\n{}\r\n", "a".repeat(0x8000)));
    }
    assert_eq!(status(&talk(&service, chunked.as_bytes()).await), 413);
    assert_eq!(
        body(&post(&service, "/api2/json/upload", "application/octet-stream", "12345").await),
        r#"{"data":5}"#
    );
    for target in ["/api2/json/%ff", "/api2/json/admin/datastore/%ff/groups"] {
        assert_eq!(status(&get(&service, target).await), 400);
    }
    for target in [
        "/",
        "/api2/json/nothing",
        "/api2/json/admin/datastore/main",
        "/../../etc/passwd",
    ] {
        assert_eq!(status(&get(&service, target).await), 404, "{target}");
    }
    assert_eq!(status(&talk(&service, b"\x16\x03\x01garbage\r\n\r\n").await), 400);
    let both = "POST /api2/json/upload HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n";
    assert_eq!(status(&talk(&service, both.as_bytes()).await), 400);
}

#[tokio::test]
async fn denials_are_slow_and_recorded_and_so_are_changes() {
    let access = Arc::<Known>::default();
    let service = service(access.clone());
    let begin = Instant::now();
    // A stranger learns nothing: known and unknown paths are answered alike.
    for path in [
        "/api2/json/admin/datastore/main/groups?backup-id=1",
        "/api2/json/nothing",
    ] {
        let answer = talk(
            &service,
            format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").as_bytes(),
        )
        .await;
        assert_eq!((status(&answer), body(&answer)), (401, "authentication failed"));
    }
    assert!(begin.elapsed() >= Duration::from_millis(120));
    let answer = get(&service, "/api2/json/admin/datastore/other/groups?backup-id=1").await;
    assert_eq!(
        (status(&answer), body(&answer)),
        (403, "permission check failed.")
    );
    post(
        &service,
        "/api2/json/admin/datastore/main/prune",
        "application/json",
        r#"{"backup-id":"a"}"#,
    )
    .await;
    get(&service, "/api2/json/ping").await;
    let records = access.records.lock().unwrap().join("\n");
    assert_eq!(
        records,
        "GET /api2/json/admin/datastore/main/groups [] 401 authentication failed\n\
         GET /api2/json/nothing [] 401 authentication failed\n\
         a@pbs!t GET /api2/json/admin/datastore/other/groups [backup-id=1 store=other] 403 permission check failed.\n\
         a@pbs!t POST /api2/json/admin/datastore/main/prune [backup-id=a store=main] 200"
    );
}

#[tokio::test]
async fn a_connection_is_handed_over_to_a_session() {
    let service = service(Arc::default());
    let ask = |upgrade: &str| {
        format!(
            "GET //api2/json/echo HTTP/1.1\r\nHost: x\r\n{AUTH}Connection: upgrade\r\nUpgrade: {upgrade}\r\n\r\n"
        )
    };
    let mut client = connect(&service);
    // What follows the head at once belongs to the session.
    client
        .write_all(format!("{}early", ask("echo-v1")).as_bytes())
        .await
        .unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"early") {
        assert!(
            client.read_buf(&mut answer).await.unwrap() > 0,
            "{}",
            String::from_utf8_lossy(&answer)
        );
    }
    let head = String::from_utf8_lossy(&answer).to_lowercase();
    assert!(head.starts_with("http/1.1 101 switching protocols\r\n"), "{head}");
    assert!(
        head.contains("connection: upgrade\r\n") && head.contains("upgrade: echo-v1\r\n"),
        "{head}"
    );
    assert_eq!(service.sessions(), 1);
    assert_eq!(
        status(
            &talk(
                &service,
                ask("echo-v2")
                    .replace("upgrade\r\n", "upgrade, close\r\n")
                    .as_bytes()
            )
            .await
        ),
        400
    );
    // Told to stop, it lets the session go on, and takes no new one.
    service.stop();
    client.write_all(b"more").await.unwrap();
    let mut more = [0; 4];
    client.read_exact(&mut more).await.unwrap();
    assert_eq!(&more, b"more");
    assert_eq!(talk(&service, ask("echo-v1").as_bytes()).await, "");
    drop(client);
    tokio::time::timeout(Duration::from_secs(5), service.ended())
        .await
        .unwrap();
}

#[tokio::test]
async fn sessions_can_be_broken_off() {
    let service = service(Arc::default());
    let mut client = connect(&service);
    let ask = format!(
        "GET /api2/json/echo HTTP/1.1\r\nHost: x\r\n{AUTH}Connection: upgrade\r\nUpgrade: echo-v1\r\n\r\n!"
    );
    client.write_all(ask.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"!") {
        client.read_buf(&mut answer).await.unwrap();
    }
    service.abort();
    tokio::time::timeout(Duration::from_secs(5), service.ended())
        .await
        .unwrap();
    assert_eq!(client.read(&mut [0; 8]).await.unwrap_or(0), 0);
}

#[tokio::test]
async fn plain_http_is_sent_to_https() {
    assert!(is_tls(0x16) && !is_tls(b'G'));
    let (mut client, server) = tokio::io::duplex(4096);
    tokio::spawn(redirect(server, Duration::from_secs(5)));
    client
        .write_all(b"GET /api2/json/version HTTP/1.1\r\nHost: b:8007\r\n\r\n")
        .await
        .unwrap();
    let mut answer = String::new();
    client.read_to_string(&mut answer).await.unwrap();
    assert_eq!(status(&answer), 301);
    assert!(answer.contains("location: https://b:8007/api2/json/version\r\n"));
}

#[tokio::test]
async fn tasks_can_be_followed_to_their_end_and_are_remembered() {
    let folder = tempfile::tempdir().unwrap();
    let tasks = Tasks::open(folder.path(), "backup.example.org").unwrap();
    let (go, gate) = std::sync::mpsc::channel::<()>();
    let who: AuthId = "a@pbs!t".parse().unwrap();
    let upid = tasks
        .run("verify", Some("main:vm/100"), &who, move |task| {
            task.log("begins\nhere");
            let _ = gate.recv();
            task.log("ends");
            Ok(())
        })
        .unwrap();
    let other = tasks
        .begin("backup", Some("main:x"), &"b@pbs".parse().unwrap())
        .unwrap();
    let other_upid = other.upid().to_string();
    let mut router = Router::new();
    relight_pbs::service::tasks::rest::routes(&mut router, &tasks);
    let service = HttpService::new(router, Arc::<Known>::default(), Limits::default());
    let base = "/api2/json/nodes/localhost/tasks";
    let encoded =
        percent_encoding::utf8_percent_encode(&upid.to_string(), percent_encoding::NON_ALPHANUMERIC)
            .to_string();
    let json = |answer: String| serde_json::from_str::<serde_json::Value>(body(&answer)).unwrap();
    let log = loop {
        let log = json(
            get(
                &service,
                &format!("{base}/{encoded}/log?limit=500&start=1&test-status=true"),
            )
            .await,
        );
        if log["total"] == 1 {
            break log;
        }
    };
    assert_eq!((&log["active"], &log["success"]), (&true.into(), &1.into()));
    assert!(
        log["data"][0]["t"].as_str().unwrap().ends_with(": begins here"),
        "{log}"
    );
    let running = json(
        get(
            &service,
            &format!("{base}?running=true&store=main&limit=50&start=0"),
        )
        .await,
    );
    // The other one's task is not shown.
    assert_eq!(
        (&running["total"], &running["data"][0]["upid"]),
        (&1.into(), &upid.to_string().into())
    );
    go.send(()).unwrap();
    let status_of = async || json(get(&service, &format!("{base}/{encoded}/status")).await)["data"].clone();
    while status_of().await["status"] == "running" {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    let ended = status_of().await;
    assert_eq!(
        (&ended["exitstatus"], &ended["tokenid"], &ended["user"]),
        (&"OK".into(), &"t".into(), &"a@pbs".into())
    );
    let log = json(
        get(
            &service,
            &format!("{base}/{encoded}/log?limit=500&start=2&test-status=true"),
        )
        .await,
    );
    assert_eq!(
        (&log["active"], &log["total"], &log["data"][0]["n"]),
        (&false.into(), &3.into(), &2.into())
    );
    let others = get(&service, &format!("{base}/{}/log", other_upid)).await;
    assert_eq!(status(&others), 403);
    // Dropped without an end: it has failed. A server that was killed: unknown.
    drop(other);
    let killed = tasks.begin("prune", None, &who).unwrap();
    std::mem::forget(killed);
    drop(tasks);
    let again = Tasks::open(folder.path(), "backup").unwrap();
    let mut ends: Vec<String> = again
        .list()
        .iter()
        .map(|task| task.end.as_ref().unwrap().1.text())
        .collect();
    ends.sort();
    assert_eq!(ends, ["OK", "it was broken off", "unknown"]);
    assert!(again.info(&upid).is_some());
}

#[tokio::test]
async fn whoever_still_sends_a_body_that_is_refused_hears_the_answer() {
    let service = service(Arc::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, peer)) = listener.accept().await {
            let service = service.clone();
            tokio::spawn(async move { service.serve(stream, Some(peer)).await });
        }
    });
    // A short body that nobody wanted is out of the way of the next call.
    let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
    let refused = "POST /api2/json/nothing HTTP/1.1\r\nHost: x\r\nContent-Length: 30000\r\n\r\n";
    let ping = "GET /api2/json/ping HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    let both = format!("{refused}{}{ping}", "y".repeat(30_000));
    stream.write_all(both.as_bytes()).await.unwrap();
    let mut answers = String::new();
    stream.read_to_string(&mut answers).await.unwrap();
    let of: Vec<u16> = answers
        .split("HTTP/1.1")
        .skip(1)
        .map(|one| status(&format!("HTTP/1.1{one}")))
        .collect();
    assert_eq!(of, [401, 200], "{answers}");
    // A long one ends the connection, and the answer says so before.
    for length in [2 << 20, 3 << 20] {
        let mut stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let head = format!(
            "POST /api2/json/admin/datastore/main/prune HTTP/1.1\r\nHost: x\r\n{AUTH}Content-Length: {length}\r\n\r\n"
        );
        stream.write_all(head.as_bytes()).await.unwrap();
        tokio::time::sleep(Duration::from_millis(100)).await;
        for _ in 0..length >> 16 {
            stream.write_all(&[b'y'; 1 << 16]).await.unwrap();
        }
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert_eq!(status(&answer), 413, "{answer}");
        assert!(answer.to_lowercase().contains("connection: close"), "{answer}");
    }
}
