//! Who may do what: each operation of `/api/v1` and the calls of the protocol that matter, by each role, on what is in its scope,
//! under another policy, in another repository. An operation that is in no row fails the test.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::sync::Arc;

use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::lab::{Answer, Lab, Running};

const SETTINGS: &str = r#"
[[repository]]
name = 'other'
location = 'other'
password-file = 'password'
[approvals]
required = ['delete', 'retention', 'access']
[plan]
time-zone = "UTC"
[policy.gold]
schedule = "2099-01-01 02:00"
method = "files"
repository = "main"
retention = { keep-last = 5 }
verify = "2099-01-02 02:00"
drill = "2099-01-03"
[policy.tin]
schedule = "2099-01-01 02:00"
method = "files"
repository = "main"
retention = { keep-last = 5 }
verify = "2099-01-02 02:00"
[policy.far]
schedule = "2099-01-01 02:00"
method = "files"
repository = "other"
retention = { keep-last = 5 }
[[workload]]
name = "lab/host/gold1"
policy = "gold"
source = { paths = ["DATA"] }
[[workload]]
name = "lab/host/tin1"
policy = "tin"
source = { paths = ["DATA"] }
[[workload]]
name = "lab/host/far1"
policy = "far"
source = { paths = ["DATA"] }
[role.sees]
users = ["sees@pbs"]
may = ["view"]
policies = ["gold"]
[role.asks]
users = ["asks@pbs"]
may = ["backup", "drill"]
policies = ["gold"]
[role.reads]
users = ["reads@pbs"]
may = ["restore"]
policies = ["gold"]
[role.forgets]
users = ["forgets@pbs"]
may = ["forget"]
policies = ["gold"]
"#;

/// By rules: everything, in both repositories, or in one of them.
const BY_RULES: [(&str, &str, &str); 8] = [
    ("admin", "Administrator", "/"),
    ("operator", "Operator", "/"),
    ("restorer", "RestoreOperator", "/"),
    ("auditor", "Auditor", "/"),
    ("keys", "KeyOfficer", "/"),
    ("approver", "Approver", "/"),
    ("main", "Viewer", "/datastore/main"),
    ("far", "Viewer", "/datastore/other"),
];
/// By the plan, with one policy; and by nothing.
const BY_PLAN: [&str; 5] = ["sees", "asks", "reads", "forgets", "nobody"];

const ALL: &str =
    "admin operator restorer auditor keys approver main far sees asks reads forgets nobody less more";
/// `less` is a token of the administrator that sees one repository; `more` is one with all rights, of a user that sees one workload.
const SEE_GOLD: &str = "admin operator restorer auditor keys approver main sees asks reads forgets less more";
const SEE_TIN: &str = "admin operator restorer auditor keys approver main less";
const SEE_FAR: &str = "admin operator restorer auditor keys approver far";

/// An operation, what exactly is asked for, with what status those are answered who may, who that is, and with what all others.
type Row = (&'static str, &'static str, &'static str, u16, &'static str, u16);

const ROWS: &[Row] = &[
    ("GET /api/v1/session", "", "", 200, ALL, 0),
    ("GET /api/v1/overview", "", "", 200, ALL, 0),
    ("GET /api/v1/workloads", "", "", 200, ALL, 0),
    (
        "GET /api/v1/workloads/{name}",
        "/api/v1/workloads/lab%2Fhost%2Fgold1",
        "",
        200,
        SEE_GOLD,
        404,
    ),
    (
        "GET /api/v1/workloads/{name}",
        "/api/v1/workloads/lab%2Fhost%2Ftin1",
        "",
        200,
        SEE_TIN,
        404,
    ),
    (
        "GET /api/v1/workloads/{name}",
        "/api/v1/workloads/lab%2Fhost%2Ffar1",
        "",
        200,
        SEE_FAR,
        404,
    ),
    (
        "GET /api/v1/workloads/{name}",
        "/api/v1/workloads/lab%2Fhost%2Fnone",
        "",
        404,
        ALL,
        404,
    ),
    ("GET /api/v1/runs", "", "", 200, ALL, 0),
    // Run 1 is a backup of gold1, 2 of tin1, 3 of far1.
    ("GET /api/v1/runs/{run}", "/api/v1/runs/1", "", 200, SEE_GOLD, 404),
    ("GET /api/v1/runs/{run}", "/api/v1/runs/2", "", 200, SEE_TIN, 404),
    ("GET /api/v1/runs/{run}", "/api/v1/runs/3", "", 200, SEE_FAR, 404),
    ("GET /api/v1/runs/{run}", "/api/v1/runs/99999", "", 404, ALL, 404),
    (
        "POST /api/v1/runs",
        "",
        r#"{"job": "verify lab/host/gold1"}"#,
        200,
        "admin operator asks",
        403,
    ),
    (
        "POST /api/v1/runs",
        "",
        r#"{"job": "verify lab/host/tin1"}"#,
        200,
        "admin operator",
        403,
    ),
    (
        "POST /api/v1/runs",
        "",
        r#"{"job": "drill lab/host/gold1"}"#,
        200,
        "admin operator asks",
        403,
    ),
    (
        "POST /api/v1/runs",
        "",
        r#"{"job": "backup lab/host/gold1"}"#,
        200,
        "admin operator asks",
        403,
    ),
    (
        "POST /api/v1/runs",
        "",
        r#"{"job": "backup lab/host/far1"}"#,
        200,
        "admin operator",
        403,
    ),
    // Not in the plan: who may is told so.
    (
        "POST /api/v1/runs",
        "",
        r#"{"job": "forget main"}"#,
        400,
        "admin",
        403,
    ),
    // They have ended: who may cancel them is told so, who may not see them hears of none.
    (
        "POST /api/v1/runs/{run}/cancel",
        "/api/v1/runs/1/cancel",
        "{}",
        400,
        "admin operator asks",
        0,
    ),
    (
        "POST /api/v1/runs/{run}/cancel",
        "/api/v1/runs/3/cancel",
        "{}",
        400,
        "admin operator",
        0,
    ),
    ("GET /api/v1/drills", "", "", 200, ALL, 0),
    ("GET /api/v1/evidence", "", "", 200, "admin auditor", 403),
    ("GET /api/v1/repositories", "", "", 200, ALL, 0),
    ("GET /api/v1/plan", "", "", 200, "admin auditor", 403),
    (
        "POST /api/v1/plan/check",
        "",
        r#"{"text": ""}"#,
        200,
        "admin auditor",
        403,
    ),
    // It was based on another one: nothing is written.
    (
        "PUT /api/v1/plan",
        "",
        r#"{"text": "", "based-on": "0"}"#,
        409,
        "admin",
        403,
    ),
    (
        "GET /api/v1/reports/compliance",
        "",
        "",
        200,
        "admin auditor",
        403,
    ),
    (
        "GET /api/v1/reports/compliance/download",
        "/api/v1/reports/compliance/download?format=json",
        "",
        200,
        "admin auditor",
        403,
    ),
    ("GET /api/v1/keys", "", "", 200, "admin auditor keys", 403),
    // Who may is told that there is no such repository.
    (
        "POST /api/v1/keys/{repository}/recovery",
        "/api/v1/keys/none/recovery",
        r#"{"label": "safe"}"#,
        404,
        "admin keys",
        403,
    ),
    // What is in recovery points: seeing a workload is not reading it.
    (
        "GET /api/v1/workloads/{name}/recovery-points",
        "/api/v1/workloads/lab%2Fhost%2Fgold1/recovery-points",
        "",
        200,
        "admin restorer reads",
        0,
    ),
    (
        "GET /api/v1/workloads/{name}/recovery-points",
        "/api/v1/workloads/lab%2Fhost%2Ftin1/recovery-points",
        "",
        200,
        "admin restorer",
        0,
    ),
    (
        "GET /api/v1/workloads/{name}/recovery-points/{snapshot}",
        "/api/v1/workloads/lab%2Fhost%2Fgold1/recovery-points/POINT",
        "",
        200,
        "admin restorer reads",
        0,
    ),
    (
        "GET /api/v1/workloads/{name}/recovery-points/{snapshot}/files",
        "/api/v1/workloads/lab%2Fhost%2Fgold1/recovery-points/POINT/files",
        "",
        200,
        "admin restorer reads",
        0,
    ),
    // A recovery point of another workload is none of this one.
    (
        "GET /api/v1/workloads/{name}/recovery-points/{snapshot}/files",
        "/api/v1/workloads/lab%2Fhost%2Ftin1/recovery-points/POINT/files",
        "",
        404,
        "admin restorer",
        0,
    ),
    (
        "GET /api/v1/workloads/{name}/recovery-points/{snapshot}/download",
        "/api/v1/workloads/lab%2Fhost%2Fgold1/recovery-points/POINT/download?path=data",
        "",
        200,
        "admin restorer reads",
        0,
    ),
    // The configuration names no place: who may restore is told so.
    (
        "POST /api/v1/restores/plan",
        "",
        r#"{"workload": "lab/host/gold1", "snapshot": "POINT", "paths": [], "to": "/nowhere", "existing": "skip"}"#,
        400,
        "admin restorer reads",
        0,
    ),
    (
        "POST /api/v1/restores",
        "",
        r#"{"workload": "lab/host/gold1", "snapshot": "POINT", "paths": [], "to": "/nowhere", "existing": "skip", "digest": "0"}"#,
        400,
        "admin restorer reads",
        0,
    ),
    ("GET /api/v1/approvals", "", "", 200, ALL, 0),
    (
        "GET /api/v1/approvals/{number}",
        "/api/v1/approvals/1",
        "",
        200,
        "admin auditor approver",
        404,
    ),
    (
        "POST /api/v1/approvals/{number}/approve",
        "/api/v1/approvals/1/approve",
        r#"{"remark": ""}"#,
        403,
        "admin auditor",
        404,
    ),
    (
        "POST /api/v1/approvals/{number}/deny",
        "/api/v1/approvals/1/deny",
        r#"{"remark": ""}"#,
        403,
        "admin auditor",
        404,
    ),
    (
        "POST /api/v1/approvals/{number}/reason",
        "/api/v1/approvals/1/reason",
        r#"{"reason": "x"}"#,
        200,
        "admin",
        0,
    ),
    ("GET /api/v1/roles", "", "", 200, ALL, 0),
    ("GET /api/v1/users", "", "", 200, ALL, 0),
    (
        "POST /api/v1/users",
        "",
        r#"{"user": "made@pbs", "password": null, "comment": ""}"#,
        200,
        "admin",
        403,
    ),
    (
        "PUT /api/v1/users/{user}",
        "/api/v1/users/nobody@pbs",
        r#"{"enabled": true}"#,
        200,
        "admin",
        403,
    ),
    // There is no such user or role: who may is told so.
    (
        "POST /api/v1/users/{user}/tokens",
        "/api/v1/users/absent@pbs/tokens",
        r#"{"name": "made", "expires": null}"#,
        400,
        "admin",
        403,
    ),
    (
        "DELETE /api/v1/users/{user}/tokens/{token}",
        "/api/v1/users/absent@pbs/tokens/made",
        "",
        400,
        "admin",
        403,
    ),
    (
        "PUT /api/v1/rules",
        "",
        r#"{"path": "/", "who": "nobody@pbs", "role": "King", "below": true}"#,
        400,
        "admin",
        403,
    ),
    (
        "DELETE /api/v1/rules",
        "/api/v1/rules?path=/&who=nobody@pbs&role=King",
        "",
        400,
        "admin",
        403,
    ),
    ("GET /api/v1/sessions", "", "", 200, ALL, 0),
    (
        "DELETE /api/v1/sessions/{session}",
        "/api/v1/sessions/none",
        "",
        404,
        ALL,
        404,
    ),
    (
        "DELETE /api/v1/sessions/{session}",
        "SESSION OF NOBODY",
        "",
        403,
        "auditor",
        404,
    ),
    // The protocol.
    (
        "",
        "/api2/json/admin/datastore/main/snapshots?ns=lab",
        "",
        200,
        SEE_GOLD,
        403,
    ),
    (
        "",
        "/api2/json/admin/datastore/main/groups?ns=lab",
        "",
        200,
        SEE_GOLD,
        403,
    ),
    (
        "",
        "/api2/json/admin/datastore/other/groups?ns=lab",
        "",
        200,
        SEE_FAR,
        403,
    ),
    (
        "",
        "/api2/json/admin/datastore/main/group-notes?ns=lab&backup-type=host&backup-id=gold1",
        "",
        200,
        SEE_GOLD,
        403,
    ),
    (
        "",
        "/api2/json/admin/datastore/main/group-notes?ns=lab&backup-type=host&backup-id=tin1",
        "",
        200,
        SEE_TIN,
        403,
    ),
    (
        "",
        "/api2/json/admin/datastore/main/group-notes?ns=lab&backup-type=host&backup-id=none",
        "",
        400,
        SEE_TIN,
        403,
    ),
    (
        "",
        "/api2/json/admin/datastore/main/download?ns=lab&GOLD&file-name=index.json.blob",
        "",
        200,
        "admin restorer reads",
        403,
    ),
    (
        "",
        "/api2/json/admin/datastore/main/download?ns=lab&TIN&file-name=index.json.blob",
        "",
        200,
        "admin restorer",
        403,
    ),
    (
        "DELETE",
        "/api2/json/admin/datastore/main/snapshots?ns=lab&GOLD",
        "",
        409,
        "admin forgets",
        403,
    ),
    (
        "DELETE",
        "/api2/json/admin/datastore/main/snapshots?ns=lab&TIN",
        "",
        409,
        "admin",
        403,
    ),
    (
        "DELETE",
        "/api2/json/admin/datastore/main/groups?ns=lab&backup-type=host&backup-id=gold1",
        "",
        409,
        "admin forgets",
        403,
    ),
    (
        "DELETE",
        "/api2/json/admin/datastore/main/namespace?ns=lab&delete-groups=true",
        "",
        409,
        "admin",
        403,
    ),
    (
        "POST",
        "/api2/json/admin/datastore/main/prune",
        r#"{"ns": "lab", "backup-type": "host", "backup-id": "gold1", "keep-last": 1}"#,
        409,
        "admin forgets",
        403,
    ),
    (
        "POST",
        "/api2/json/admin/datastore/main/prune-datastore",
        r#"{"ns": "lab", "keep-last": 1}"#,
        409,
        "admin forgets",
        403,
    ),
    (
        "PUT",
        "/api2/json/access/acl",
        r#"{"path": "/", "role": "Admin", "auth-id": "nobody@pbs"}"#,
        409,
        "admin",
        403,
    ),
    (
        "POST",
        "/api2/json/access/users",
        r#"{"userid": "new@pbs"}"#,
        200,
        "",
        403,
    ),
    (
        "",
        "/api2/json/nodes/localhost/status",
        "",
        200,
        "admin auditor",
        403,
    ),
];

/// Operations on files of recovery points, restores, the plan's text and reports, whose rows are still to be written; what they
/// refuse is tested beside them.
const ELSEWHERE: [&str; 5] = [
    "/recovery-points",
    "/api/v1/restores",
    "/api/v1/plan/check",
    "PUT /api/v1/plan",
    "/api/v1/reports/",
];

impl Lab {
    fn of_matrix() -> Self {
        let lab = Self::new();
        fs::create_dir(lab.path("data")).unwrap();
        fs::write(lab.path("data/one"), "one").unwrap();
        let text = fs::read_to_string(lab.path("relight.toml")).unwrap();
        let settings = SETTINGS.replace("DATA", lab.path("data").to_str().unwrap());
        fs::write(lab.path("relight.toml"), format!("{text}{settings}")).unwrap();
        let made = lab
            .command(&["init"])
            .env("RELIGHT_REPOSITORY", lab.path("other"))
            .output();
        assert!(made.unwrap().status.success());
        for (name, role, path) in BY_RULES {
            lab.user(&format!("{name}@pbs"), role, path);
        }
        for name in BY_PLAN {
            let name = format!("{name}@pbs");
            lab.ok(&["user", "add", &name, "--new-password-file", "user-password"]);
        }
        lab
    }
}

impl Running {
    /// The headers by which a user is known after logging in.
    async fn log_in(&self, user: &str) -> Vec<String> {
        let body = json!({"username": user, "password": "Secret12345"}).to_string();
        let data = self.ask("POST", "access/ticket", &[], &body).await.data();
        vec![
            format!("Cookie: PBSAuthCookie={}", data["ticket"].as_str().unwrap()),
            format!(
                "CSRFPreventionToken: {}",
                data["CSRFPreventionToken"].as_str().unwrap()
            ),
        ]
    }

    async fn as_one(&self, headers: &[String], method: &str, target: &str, body: &str) -> Answer {
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        self.ask_at(method, target, &headers, body).await
    }

    /// Asks for a run and waits for it.
    async fn run_of(&self, who: &[String], job: &str) {
        let body = json!({"job": job}).to_string();
        let after = self.as_one(who, "POST", "/api/v1/runs", &body).await.data()["after"].clone();
        for _ in 0..600 {
            let runs = self.as_one(who, "GET", "/api/v1/runs?limit=20", "").await.data();
            let done = |run: &&Value| {
                run["job"] == job && run["number"].as_u64() > after.as_u64() && !run["ended"].is_null()
            };
            if let Some(run) = runs.as_array().unwrap().iter().find(done) {
                assert_eq!(run["outcome"], "good", "{run:#}");
                return;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        panic!("{job} does not end");
    }
}

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
    let rows: BTreeSet<&str> = ROWS.iter().map(|(operation, ..)| *operation).collect();
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
            if !rows.contains(operation.as_str()) && !own && !elsewhere && !is_public {
                missing.push(operation);
            }
        }
    }
    assert!(missing.is_empty(), "operations without a row: {missing:#?}");

    let (mut wrong, mut strangers) = (Vec::new(), JoinSet::new());
    for (operation, target, body, good, may, refused) in ROWS {
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

#[tokio::test]
async fn what_needs_a_second_person_is_done_once_when_another_one_has_approved_it() {
    let lab = Lab::of_matrix();
    let server = lab.serve();
    let admin = server.log_in("admin@pbs").await;
    let approver = server.log_in("approver@pbs").await;
    for _ in 0..2 {
        server.run_of(&admin, "backup lab/host/gold1").await;
    }
    let snapshots = "/api2/json/admin/datastore/main/snapshots?ns=lab";
    let known = server.as_one(&admin, "GET", snapshots, "").await.data();
    let first = format!(
        "{snapshots}&backup-type=host&backup-id=gold1&backup-time={}",
        known[0]["backup-time"]
    );
    let asked = server.as_one(&admin, "DELETE", &first, "").await;
    assert_eq!(asked.status, 409);
    assert!(asked.text().contains("with request 1;"), "{}", asked.text());
    let decide = "/api/v1/approvals/1/approve";
    let own = server.as_one(&admin, "POST", decide, r#"{"remark": ""}"#).await;
    assert_eq!(own.status, 403);
    assert!(own.text().contains("your own"), "{}", own.text());
    let shown = server
        .as_one(&approver, "GET", "/api/v1/approvals?waiting=true", "")
        .await
        .data();
    assert_eq!(
        (&shown[0]["number"], &shown[0]["may-decide"]),
        (&1.into(), &true.into())
    );
    let subject = shown[0]["subject"].as_str().unwrap();
    assert!(
        subject.starts_with("delete the recovery point lab/host/gold1/"),
        "{subject}"
    );
    let done = server
        .as_one(&approver, "POST", decide, r#"{"remark": "seen"}"#)
        .await
        .data();
    assert_eq!(done["standing"], "approved");
    assert_eq!(server.as_one(&admin, "DELETE", &first, "").await.status, 200);
    let left = server.as_one(&admin, "GET", snapshots, "").await.data();
    assert_eq!(left.as_array().unwrap().len(), 1);
    assert_ne!(server.as_one(&admin, "DELETE", &first, "").await.status, 200);
    // An approver that the administrator makes for itself is of no use: that needs a second person, too.
    for (method, path, body) in [
        (
            "PUT",
            "/api2/json/access/acl",
            r#"{"path": "/", "role": "Approver", "auth-id": "nobody@pbs"}"#,
        ),
        (
            "PUT",
            "/api2/json/access/password",
            r#"{"userid": "approver@pbs", "password": "Another12345"}"#,
        ),
    ] {
        assert_eq!(
            server.as_one(&admin, method, path, body).await.status,
            409,
            "{path}"
        );
    }
    // On the host one decides as oneself, by password, too.
    let number = "2";
    let refused = lab.fails(&[
        "approval",
        "deny",
        number,
        "--as",
        "admin@pbs",
        "--user-password-file",
        "user-password",
    ]);
    assert!(refused.contains("your own"), "{refused}");
    fs::write(lab.path("wrong"), "not the password\n").unwrap();
    let refused = lab.fails(&[
        "approval",
        "approve",
        number,
        "--as",
        "approver@pbs",
        "--user-password-file",
        "wrong",
    ]);
    assert!(refused.contains("do not fit together"), "{refused}");
    lab.ok(&[
        "approval",
        "deny",
        number,
        "--as",
        "approver@pbs",
        "--user-password-file",
        "user-password",
    ]);
    let rule = r#"{"path": "/", "role": "Approver", "auth-id": "nobody@pbs"}"#;
    assert_eq!(
        server
            .as_one(&admin, "PUT", "/api2/json/access/acl", rule)
            .await
            .status,
        403
    );
    // In need it goes without, for a time, and is written down.
    lab.ok(&[
        "approval",
        "break-glass",
        "--reason",
        "nobody is here",
        "--for",
        "10 min",
    ]);
    assert_eq!(
        server
            .as_one(&admin, "PUT", "/api2/json/access/acl", rule)
            .await
            .status,
        200
    );
    lab.ok(&["approval", "mend-glass"]);
    let again = r#"{"path": "/", "role": "Audit", "auth-id": "nobody@pbs"}"#;
    assert_eq!(
        server
            .as_one(&admin, "PUT", "/api2/json/access/acl", again)
            .await
            .status,
        409
    );
    let told = lab.ok(&["evidence", "list", "--kind", "approval"]);
    for says in [
        "broke the glass",
        "went without approval",
        "denied: request 2",
        "an approval was used: request 1",
    ] {
        assert!(told.contains(says), "{says}: {told}");
    }
    assert_eq!(server.stop().0, 0);
}

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
