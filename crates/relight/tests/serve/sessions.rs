//! Sessions end when they are told to.

use serde_json::json;

use super::lab::Lab;

#[tokio::test]
async fn a_session_that_was_ended_is_over_at_once_with_all_that_came_of_it() {
    let lab = Lab::of_matrix();
    let server = lab.serve();
    let admin = server.log_in("admin@pbs").await;
    let one = server.log_in("main@pbs").await;
    let ticket = one[0].split_once('=').unwrap().1.to_owned();
    let renew = json!({"username": "main@pbs", "password": ticket}).to_string();
    let renewed = server.ask("POST", "access/ticket", &[], &renew).await.data();
    let renewed = vec![format!(
        "Cookie: PBSAuthCookie={}",
        renewed["ticket"].as_str().unwrap()
    )];
    let other = server.log_in("main@pbs").await;
    let sees = async |who: &[String]| server.as_one(who, "GET", "/api/v1/workloads", "").await.status;
    assert_eq!(
        (sees(&one).await, sees(&renewed).await, sees(&other).await),
        (200, 200, 200)
    );
    let mine = server.as_one(&one, "GET", "/api/v1/sessions", "").await.data();
    let this = mine
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["this"] == true)
        .unwrap();
    let path = format!("/api/v1/sessions/{}", this["id"].as_str().unwrap());
    assert_eq!(server.as_one(&admin, "DELETE", &path, "").await.status, 200);
    assert_eq!(
        (sees(&one).await, sees(&renewed).await, sees(&other).await),
        (401, 401, 200)
    );
    assert_eq!(server.ask("POST", "access/ticket", &[], &renew).await.status, 401);
    // Logging out ends it on the server, too.
    assert_eq!(
        server
            .as_one(&other, "DELETE", "/api/v1/session", "")
            .await
            .status,
        200
    );
    assert_eq!(sees(&other).await, 401);
    let third = server.log_in("main@pbs").await;
    lab.ok(&["session", "revoke", "--all", "main@pbs"]);
    assert_eq!(sees(&third).await, 401);
    // What is taken away from a role is gone at once.
    let fourth = server.log_in("main@pbs").await;
    assert_eq!(
        server
            .as_one(&fourth, "GET", "/api/v1/workloads/lab%2Fhost%2Fgold1", "")
            .await
            .status,
        200
    );
    lab.ok(&["acl", "remove", "/datastore/main", "main@pbs"]);
    assert_eq!(
        server
            .as_one(&fourth, "GET", "/api/v1/workloads/lab%2Fhost%2Fgold1", "")
            .await
            .status,
        404
    );
    assert_eq!(server.stop().0, 0);
}
