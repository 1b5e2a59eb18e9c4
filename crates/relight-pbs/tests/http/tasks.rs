//! Tasks, followed to their end.

use std::sync::Arc;
use std::time::Duration;

use relight_pbs::access::AuthId;
use relight_pbs::service::http::{HttpService, Limits, Router};
use relight_pbs::service::tasks::Tasks;

use crate::lab::*;

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
