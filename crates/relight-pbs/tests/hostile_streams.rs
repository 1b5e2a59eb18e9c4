//! Clients that do not stop: bodies without an end, and floods of headers, inside a session.

mod support;
mod wire;

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request};
use relight_pbs::formats::blob;
use relight_pbs::service::backup::Ended;
use wire::*;

const NAME: &str = "vm/100/2023-11-14T22:13:20Z";

fn head(method: Method, target: &str) -> http::request::Builder {
    Request::builder()
        .method(method)
        .uri(format!("https://localhost:8007{target}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_without_an_end_is_refused_and_others_go_on() {
    let place = Place::new();
    let store = place.datastore();
    let mut session = BackupSession::begin(&store, NAME).await.unwrap();
    let wid = session
        .wire
        .post("/dynamic_index?archive-name=b.didx")
        .await
        .data();
    let good = blob::encode(&content(5, 5000), false).unwrap();
    let chunk = chunk_target(
        "dynamic",
        wid.as_u64().unwrap(),
        &sha256(&content(5, 5000)),
        5000,
        good.len(),
    );
    let blob = format!("/blob?file-name=a.blob&encoded-size={}", good.len());
    for (method, target) in [
        (Method::POST, chunk.as_str()),
        (Method::POST, blob.as_str()),
        (Method::PUT, "/dynamic_index"),
    ] {
        let request = head(method, target).body(()).unwrap();
        let (response, mut stream) = session.wire.open(request).await;
        let endless = async {
            // As much as the other side takes, for ever.
            loop {
                stream.reserve_capacity(64 << 10);
                let room = std::future::poll_fn(|context| stream.poll_capacity(context)).await;
                let Some(Ok(room)) = room else {
                    return;
                };
                if stream.send_data(Bytes::from(vec![b'['; room]), false).is_err() {
                    return;
                }
            }
        };
        let refused = tokio::time::timeout(Duration::from_secs(30), async {
            tokio::select! {
                // Either an answer, or the stream is reset.
                answer = answered(response) => answer.map(|answer| answer.status.as_u16()).unwrap_or(400),
                () = endless => 400,
            }
        });
        let status = refused
            .await
            .unwrap_or_else(|_| panic!("{target}: it was listened to for ever"));
        assert!([400, 413].contains(&status), "{target}: {status}");
    }
    // The session is as good as before.
    session.stream("whole.didx", &content(7, 9000), &[9000]).await;
    session.wire.post("/previous_backup_time").await.refused(404);
    assert_eq!(
        session.wire.get("/previous_backup_time").await.data(),
        serde_json::Value::Null
    );
    assert!(matches!(session.cut().await, Ended::Aborted(_)));
    assert_eq!(store.list().unwrap().all_groups().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_headers_ends_only_its_own_session() {
    let place = Place::new();
    let store = place.datastore();
    let hostile = BackupSession::begin(&store, NAME).await.unwrap();
    let mut other = BackupSession::begin(&store, "vm/101/2023-11-14T22:13:20Z")
        .await
        .unwrap();
    let mut request = head(Method::GET, "/previous_backup_time");
    for number in 0..2000 {
        request = request.header(format!("x-{number}"), "y".repeat(100));
    }
    let (response, _stream) = hostile.wire.open(request.body(()).unwrap()).await;
    let answer = tokio::time::timeout(Duration::from_secs(30), answered(response)).await;
    // Otherwise the stream, or all of the connection, was reset.
    if let Ok(answer) = answer.expect("it is answered or broken off") {
        assert!(answer.status.is_client_error(), "{}", answer.status);
    }
    other.stream("whole.didx", &content(7, 9000), &[9000]).await;
    assert_eq!(other.finish().await, Ended::Finished);
    assert!(matches!(hostile.cut().await, Ended::Aborted(_)));
    assert_eq!(store.list().unwrap().all_groups().count(), 1);
}
