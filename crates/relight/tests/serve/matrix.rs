//! Who may do what: each operation of `/api/v1` and the calls of the protocol that matter, by each role, on what is in its scope,
//! under another policy, in another repository. An operation that is in no row fails the test.

mod api_rows;
mod protocol_rows;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::estate::{BY_PLAN, BY_RULES};
use super::lab::Lab;

const ALL: &str =
    "admin operator restorer auditor keys approver main far sees asks reads forgets nobody less more";
/// `less` is a token of the administrator that sees one repository; `more` is one with all rights, of a user that sees one workload.
const SEE_GOLD: &str = "admin operator restorer auditor keys approver main sees asks reads forgets less more";
const SEE_TIN: &str = "admin operator restorer auditor keys approver main less";
const SEE_FAR: &str = "admin operator restorer auditor keys approver far";

/// An operation, what exactly is asked for, with what status those are answered who may, who that is, and with what all others.
type Row = (&'static str, &'static str, &'static str, u16, &'static str, u16);

fn rows() -> impl Iterator<Item = &'static Row> {
    api_rows::ROWS.iter().chain(protocol_rows::ROWS)
}

/// Operations on files of recovery points, restores, the plan's text and reports, whose rows are still to be written; what they
/// refuse is tested beside them.
const ELSEWHERE: [&str; 5] = [
    "/recovery-points",
    "/api/v1/restores",
    "/api/v1/plan/check",
    "PUT /api/v1/plan",
    "/api/v1/reports/",
];

fn has(list: &str, name: &str) -> bool {
    list.split(' ').any(|one| one == name)
}

#[tokio::test]
async fn each_role_may_do_what_it_is_for_in_its_scope_and_nothing_else() {
    let lab = Lab::of_matrix();
    let less = lab.token("admin@pbs!less", "Viewer", "/datastore/main");
    let more = lab.token("sees@pbs!more", "Administrator", "/");
    // The plan grants its roles to users: a token of one needs it by name, and has at most what its user has.
    let server = Arc::new(lab.serve());
    let mut callers: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
    for name in BY_RULES.iter().map(|(name, ..)| *name).chain(BY_PLAN) {
        callers.insert(name, server.log_in(&format!("{name}@pbs")).await);
    }
    callers.insert("less", vec![less]);
    callers.insert("more", vec![more]);
    let admin = callers["admin"].clone();
    for workload in ["gold1", "tin1", "far1", "gold1"] {
        server
            .run_of(&admin, &format!("backup lab/host/{workload}"))
            .await;
    }
    server.run_of(&admin, "drill lab/host/gold1").await;
    let points = |ns: Value, id: &str| {
        let all = ns.as_array().unwrap();
        let of = all.iter().find(|one| one["backup-id"] == id).unwrap();
        format!(
            "backup-type=host&backup-id={id}&backup-time={}",
            of["backup-time"]
        )
    };
    let snapshots = "/api2/json/admin/datastore/main/snapshots?ns=lab";
    let known = server.as_one(&admin, "GET", snapshots, "").await.data();
    let (gold, tin) = (points(known.clone(), "gold1"), points(known, "tin1"));
    let request = format!("{snapshots}&{gold}");
    assert_eq!(server.as_one(&admin, "DELETE", &request, "").await.status, 409);
    let all = server.as_one(&admin, "GET", "/api/v1/sessions", "").await.data();
    let of_nobody = all
        .as_array()
        .unwrap()
        .iter()
        .find(|one| one["user"] == "nobody@pbs");
    let of_nobody = of_nobody.unwrap()["id"].as_str().unwrap().to_owned();

    let points = "/api/v1/workloads/lab%2Fhost%2Fgold1/recovery-points";
    let points = server.as_one(&admin, "GET", points, "").await.data();
    let point = points[0]["snapshot"].as_str().unwrap().to_owned();

    // Everything there is has a row.
    let document = server.as_one(&admin, "GET", "/api/v1/openapi.json", "").await;
    let document: Value = serde_json::from_slice(&document.body).unwrap();
    let known: BTreeSet<&str> = rows().map(|(operation, ..)| *operation).collect();
    let mut missing = Vec::new();
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, described) in methods.as_object().unwrap() {
            let operation = format!("{} {path}", method.to_uppercase());
            let is_public = described["security"] == json!([{}]);
            // Logging in and out, and what one does with one's own account, is tested with signing in.
            let own = path == "/api/v1/session"
                || path.starts_with("/api/v1/session/")
                || path.starts_with("/api/v1/account");
            let elsewhere = ELSEWHERE.iter().any(|part| operation.contains(part));
            if !known.contains(operation.as_str()) && !own && !elsewhere && !is_public {
                missing.push(operation);
            }
        }
    }
    assert!(missing.is_empty(), "operations without a row: {missing:#?}");

    let (mut wrong, mut strangers) = (Vec::new(), JoinSet::new());
    for (operation, target, body, good, may, refused) in rows() {
        let method = operation
            .split(' ')
            .next()
            .filter(|method| !method.is_empty())
            .unwrap_or("GET");
        let target = match *target {
            "" => operation.split(' ').nth(1).unwrap().to_owned(),
            "SESSION OF NOBODY" => format!("/api/v1/sessions/{of_nobody}"),
            other => other
                .replace("GOLD", &gold)
                .replace("TIN", &tin)
                .replace("POINT", &point),
        };
        let body = &body.replace("POINT", &point);
        let is_public = *operation == "GET /api/v1/session";
        let (to, by, at, with) = (server.clone(), method.to_owned(), target.clone(), body.clone());
        strangers.spawn(async move {
            let status = to.ask_at(&by, &at, &[], &with).await.status;
            let right = if is_public { 200 } else { 401 };
            (status != right).then(|| format!("{by} {at} by a stranger: {status}"))
        });
        let mut asked = JoinSet::new();
        for (name, headers) in callers.iter().map(|(name, headers)| (*name, headers.clone())) {
            // Whoever may really do this does not: it would change what the others see.
            let destroys = (*operation == "DELETE /api/v1/sessions/{session}"
                && target.ends_with(&of_nobody)
                && has("admin nobody", name))
                || (target == "/api2/json/access/users" && name == "admin")
                || (operation.ends_with("/approve") || operation.ends_with("/deny")) && name == "approver";
            if destroys {
                continue;
            }
            let (server, method, target, body) = (
                server.clone(),
                method.to_owned(),
                target.clone(),
                (*body).to_owned(),
            );
            // Side by side: whoever is refused waits for the answer.
            asked.spawn(async move { (name, server.as_one(&headers, &method, &target, &body).await) });
        }
        while let Some(answered) = asked.join_next().await {
            let (name, answer) = answered.unwrap();
            let fits = match has(may, name) {
                true => answer.status == *good,
                false if *refused == 0 => matches!(answer.status, 400 | 403 | 404),
                false => answer.status == *refused,
            };
            if !fits {
                wrong.push(format!(
                    "{method} {target} {body} by {name}: {} {}",
                    answer.status,
                    answer.text()
                ));
            }
            // Names of what it may not see are in no answer to it, unless it asked by that name, or may read what everybody did.
            if has("admin auditor", name) {
                continue;
            }
            for (workload, who) in [("gold1", SEE_GOLD), ("tin1", SEE_TIN), ("far1", SEE_FAR)] {
                let asked = target.contains(workload) || body.contains(workload);
                if !asked && !has(who, name) && answer.text().contains(workload) {
                    wrong.push(format!(
                        "{method} {target} tells {name} of {workload}: {}",
                        answer.text()
                    ));
                }
            }
        }
    }
    wrong.extend(strangers.join_all().await.into_iter().flatten());
    assert!(
        wrong.is_empty(),
        "{} cells are wrong:\n{}",
        wrong.len(),
        wrong.join("\n")
    );

    // Lists have what may be seen, all of it, and count nothing else.
    for (name, headers) in &callers {
        let seen: Vec<&str> = [
            ("lab/host/far1", SEE_FAR),
            ("lab/host/gold1", SEE_GOLD),
            ("lab/host/tin1", SEE_TIN),
        ]
        .iter()
        .filter(|(_, who)| has(who, name))
        .map(|(workload, _)| *workload)
        .collect();
        let list = server
            .as_one(headers, "GET", "/api/v1/workloads?limit=2", "")
            .await;
        let whole: Value = serde_json::from_slice(&list.body).unwrap();
        let mut names: Vec<String> = workloads(&whole["data"]);
        if let Some(next) = whole["next"].as_u64() {
            let rest = format!("/api/v1/workloads?limit=2&from={next}");
            names.extend(workloads(&server.as_one(headers, "GET", &rest, "").await.data()));
        }
        assert_eq!(names, seen, "{name}");
        assert_eq!(whole["next"].is_null(), seen.len() <= 2, "{name}");
        let overview = server.as_one(headers, "GET", "/api/v1/overview", "").await.data();
        let counts: u64 = overview["counts"]
            .as_object()
            .map_or(0, |counts| counts.values().filter_map(Value::as_u64).sum());
        if overview["counts"].is_object() {
            assert_eq!(counts, seen.len() as u64, "{name}: {}", overview["counts"]);
        }
        let runs = server
            .as_one(headers, "GET", "/api/v1/runs?limit=200", "")
            .await
            .data();
        for run in runs.as_array().unwrap() {
            let of = run["job"].as_str().unwrap();
            assert!(seen.iter().any(|workload| of.contains(workload)), "{name}: {of}");
        }
        let drills = server.as_one(headers, "GET", "/api/v1/drills", "").await.data();
        assert_eq!(
            !drills.as_array().unwrap().is_empty(),
            has(SEE_GOLD, name),
            "{name}"
        );
        let repositories = server
            .as_one(headers, "GET", "/api/v1/repositories", "")
            .await
            .data();
        let repositories: Vec<&str> = repositories
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one["name"].as_str().unwrap())
            .collect();
        let expected = [("main", SEE_TIN), ("other", SEE_FAR)];
        let expected: Vec<&str> = expected
            .iter()
            .filter(|(_, who)| has(who, name))
            .map(|(one, _)| *one)
            .collect();
        assert_eq!(repositories, expected, "{name}");
        for (path, all) in [("/api/v1/users", 13), ("/api/v1/sessions", 13)] {
            let found = server.as_one(headers, "GET", path, "").await.data();
            let count = found.as_array().unwrap().len();
            match has("admin auditor", name) {
                true => assert!(count >= all, "{path} {name}: {count}"),
                false => assert_eq!(count, 1, "{path} {name}: {found:#}"),
            }
        }
        let groups = "/api2/json/admin/datastore/main/groups?ns=lab";
        if has(SEE_GOLD, name) {
            let found = server.as_one(headers, "GET", groups, "").await.data();
            let found = found.as_array().unwrap().len();
            assert_eq!(found, if has(SEE_TIN, name) { 2 } else { 1 }, "{name}");
        }
    }
    assert_eq!(Arc::into_inner(server).unwrap().stop().0, 0);
}

fn workloads(data: &Value) -> Vec<String> {
    let all = data.as_array().unwrap().iter();
    all.map(|one| one["workload"].as_str().unwrap().to_owned())
        .collect()
}
