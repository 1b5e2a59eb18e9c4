//! Calls, their answers and their limits.

use std::sync::Arc;
use std::time::{Duration, Instant};

use relight_pbs::service::http::{is_tls, redirect};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::lab::*;

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
    let written_otherwise = get(&service, "/%61pi2/extjs/fails").await;
    assert_eq!(body(&written_otherwise), body(&answer));
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
    // What is too long is answered in the shape of the side that was asked.
    let long = "a".repeat(4_000);
    let answer = get(&service, &format!("/own/{long}")).await;
    assert_eq!(
        (status(&answer), &error(&answer)["error"]["status"]),
        (414, &414.into())
    );
    let answer = get(&service, &format!("/api2/json/{long}")).await;
    assert_eq!(
        (status(&answer), body(&answer)),
        (414, "path and query are too long")
    );
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
