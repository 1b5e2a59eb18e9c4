//! An estate for tests of who may do what: two repositories, three policies, users with each role.

use std::fs;

use serde_json::{Value, json};

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
pub const BY_RULES: [(&str, &str, &str); 8] = [
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
pub const BY_PLAN: [&str; 5] = ["sees", "asks", "reads", "forgets", "nobody"];

impl Lab {
    pub fn of_matrix() -> Self {
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
    pub async fn log_in(&self, user: &str) -> Vec<String> {
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

    pub async fn as_one(&self, headers: &[String], method: &str, target: &str, body: &str) -> Answer {
        let headers: Vec<&str> = headers.iter().map(String::as_str).collect();
        self.ask_at(method, target, &headers, body).await
    }

    /// Asks for a run and waits for it.
    pub async fn run_of(&self, who: &[String], job: &str) {
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
