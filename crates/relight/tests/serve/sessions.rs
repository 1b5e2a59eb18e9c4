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

#[tokio::test]
async fn whoever_is_removed_is_out_at_once_and_nothing_of_it_comes_back_with_its_name() {
    let lab = Lab::new();
    lab.user("jane@pbs", "Admin", "/");
    lab.user("eve@pbs", "Admin", "/");
    let token = lab.token("eve@pbs!laptop", "Admin", "/");
    let janes = lab.token("jane@pbs!script", "Admin", "/");
    let server = lab.serve();
    let jane = server.log_in("jane@pbs").await;
    let mut eve = server.log_in("eve@pbs").await;
    let sees = async |who: &[String]| server.as_one(who, "GET", "/api/v1/workloads", "").await.status;
    let by_token = vec![token];
    assert_eq!((sees(&eve).await, sees(&by_token).await), (200, 200));
    // Nobody removes itself, nor its user by a token.
    for path in ["/api/v1/users/jane@pbs", "/api2/json/access/users/jane@pbs"] {
        for who in [&jane, &vec![janes.clone()]] {
            let refused = server.as_one(who, "DELETE", path, "").await;
            assert_eq!(refused.status, 400, "{path}: {}", refused.text());
        }
    }
    let gone = "/api/v1/users/eve@pbs";
    assert_eq!(server.as_one(&jane, "DELETE", gone, "").await.status, 200);
    assert_eq!((sees(&eve).await, sees(&by_token).await), (401, 401));
    assert_eq!(server.as_one(&jane, "DELETE", gone, "").await.status, 404);
    let open = server.as_one(&jane, "GET", "/api/v1/sessions", "").await;
    assert!(!open.text().contains("eve@pbs"), "{}", open.text());
    // Somebody else gets the name: no ticket, token or role from before is any good.
    let again = json!({"user": "eve@pbs", "password": "Secret12345", "comment": ""}).to_string();
    server.as_one(&jane, "POST", "/api/v1/users", &again).await.data();
    assert_eq!((sees(&eve).await, sees(&by_token).await), (401, 401));
    eve = server.log_in("eve@pbs").await;
    let users = server.as_one(&eve, "GET", "/api/v1/users", "").await.data();
    assert_eq!(
        (&users[0]["tokens"], &users[0]["grants"]),
        (&json!([]), &json!([])),
        "{users:#}"
    );
    assert_eq!(server.stop().0, 0);
}
