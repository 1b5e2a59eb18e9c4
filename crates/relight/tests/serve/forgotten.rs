//! Recovery points that are forgotten early over the API: how a workload stands goes by what is left.

use std::fs;

use serde_json::{Value, json};

use super::lab::{Answer, Lab, Running};
use super::runs::PLAN;

async fn forget(server: &Running, who: &str, snapshots: &[&str], last_good: bool) -> Answer {
    let mut wanted = json!({"workload": "host/web", "repository": "main", "snapshots": snapshots});
    let plan = server
        .ask_at("POST", "/api/v1/forgets/plan", &[who], &wanted.to_string())
        .await
        .data();
    wanted["digest"] = plan["digest"].clone();
    wanted["last-good"] = last_good.into();
    server
        .ask_at("POST", "/api/v1/forgets", &[who], &wanted.to_string())
        .await
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_be_lost_now_goes_by_the_recovery_points_that_are_left() {
    let lab = Lab::with_plan(PLAN);
    lab.user("jane@pbs", "Admin", "/");
    let jane = lab.token("jane@pbs!script", "Admin", "/");
    let server = lab.serve();
    for number in 0..3 {
        fs::write(lab.path("data/one"), format!("{number}")).unwrap();
        lab.ok(&["run", "host/web"]);
    }
    let about = async || {
        server
            .ask_at("GET", "/api/v1/workloads/host%2Fweb", &[&jane], "")
            .await
            .data()
    };
    let newest = |about: &Value| about["standing"]["newest"]["snapshot"].clone();
    let before = about().await;
    let ids: Vec<&str> = before["points"]
        .as_array()
        .unwrap()
        .iter()
        .map(|point| point["snapshot"].as_str().unwrap())
        .collect();
    assert_eq!(newest(&before), ids[0]);
    // What is protected stays, however it is asked for.
    let path = format!(
        "/api/v1/workloads/host%2Fweb/recovery-points/{}/protection",
        ids[1]
    );
    let protect = async |protected: bool| {
        let body = json!({"repository": "main", "protected": protected}).to_string();
        assert_eq!(server.ask_at("PUT", &path, &[&jane], &body).await.status, 200);
    };
    protect(true).await;
    let done = forget(&server, &jane, &ids[..2], false).await.data();
    assert_eq!(done["forgotten"], 1);
    assert_eq!(newest(&about().await), ids[1]);
    // It is told by whom it was done.
    let told = lab.ok(&["evidence", "list", "--kind", "change"]);
    assert!(
        told.contains("jane@pbs!script") && told.contains("forgot 1 recovery point of host/web in main"),
        "{told}"
    );
    protect(false).await;
    assert_eq!(forget(&server, &jane, &ids[1..], false).await.status, 400);
    assert_eq!(lab.points("host/web"), 2);
    assert_eq!(
        forget(&server, &jane, &ids[1..], true).await.data()["forgotten"],
        2
    );
    let empty = about().await;
    assert_eq!(
        (&empty["standing"]["newest"], &empty["health"]),
        (&Value::Null, &"exposed".into()),
        "{empty:#}"
    );
    lab.ok(&["run", "host/web"]);
    let again = about().await;
    assert_eq!(newest(&again), again["points"][0]["snapshot"]);
    server.stop();
}
