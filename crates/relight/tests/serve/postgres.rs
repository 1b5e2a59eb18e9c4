//! A cluster of a plan: its log is followed by the server, and counts.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::elsewhere::Elsewhere;
use super::lab::{Lab, Running};
use crate::postgres_lab::{self, Server};

const PLAN: &str = r#"
[policy.databases]
schedule = "2027-01-01 02:00"
method = "base-backup"
repository = "main"
retention = { keep-last = 2 }
rpo = "1 min"
rto = "1 h"
log = "10 s"
drill = "2027-01-02"
[[policy.databases.copy]]
repository = "away"
schedule = "2027-01-01 03:00"
[[workload]]
name = "pg/main"
policy = "databases"
source = { url = "URL", bin = "BIN", user = "USER"MORE }
probe = { amcheck = false, sql = [{ database = "postgres", query = "SELECT count(*) FROM one", expect = "1" }] }
"#;

/// With a second repository `away`, and a folder that is restored to.
fn lab(restored: &Path) -> Lab {
    let lab = Lab::new();
    let text = fs::read_to_string(lab.path("relight.toml")).unwrap();
    let away = format!(
        "[[repository]]\nname = 'away'\nlocation = 'away'\npassword-file = 'password'\n[restore]\nroots = [{restored:?}]\n"
    );
    fs::write(lab.path("relight.toml"), format!("{text}{away}")).unwrap();
    let made = lab
        .command(&["init"])
        .env("RELIGHT_REPOSITORY", lab.path("away"))
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    lab
}

fn set_plan(lab: &Lab, server: &Server, more: &str) {
    let text = fs::read_to_string(lab.path("relight.toml")).unwrap();
    let begin = text.split("\n[policy").next().unwrap();
    let plan = PLAN
        .replace("URL", &server.url())
        .replace("MORE", more)
        .replace("BIN", postgres_lab::programs(17).to_str().unwrap())
        .replace("USER", &postgres_lab::runner_name());
    fs::write(lab.path("relight.toml"), format!("{begin}\n{plan}")).unwrap();
}

struct Asking<'a> {
    lab: &'a Lab,
    running: &'a Running,
    header: &'a str,
}

impl Asking<'_> {
    /// All about the workload.
    async fn workload(&self) -> Value {
        let answer = self
            .running
            .ask_at("GET", "/api/v1/workloads/pg%2Fmain", &[self.header], "")
            .await;
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        assert_eq!(answer.status, 200, "{body}");
        serde_json::from_str::<Value>(&body).unwrap()["data"].take()
    }

    /// Waits until it is so.
    async fn wait(&self, what: &str, until: impl Fn(&Value) -> bool) -> Value {
        let began = Instant::now();
        loop {
            let found = self.workload().await;
            if until(&found) {
                return found;
            }
            let log = fs::read_to_string(self.lab.path("server.log")).unwrap_or_default();
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "{what}: {found:#}\n{log}"
            );
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }
}

fn said(found: &Value, words: &str) -> bool {
    found["receiver"]["doing"]
        .as_str()
        .is_some_and(|doing| doing.contains(words))
}

fn time(value: &Value) -> jiff::Timestamp {
    value.as_str().unwrap().parse().unwrap()
}

#[tokio::test]
async fn the_server_receives_the_log_of_its_plan_and_the_rpo_counts_it() {
    let cluster = Server::start(17, "");
    let site = postgres_lab::folder();
    let lab = lab(site.path());
    set_plan(&lab, &cluster, "");
    lab.user("jane@pbs", "Admin", "/");
    let header = lab.token("jane@pbs!t", "Admin", "/");
    let slot = || cluster.sql("SELECT active FROM pg_replication_slots WHERE slot_name = 'relight_main'");
    let running = lab.serve();
    let asking = Asking {
        lab: &lab,
        running: &running,
        header: &header,
    };
    asking
        .wait("the receiver", |found| said(found, "receives from"))
        .await;
    lab.ok(&["run", "backup", "pg/main"]);
    asking
        .wait("the backup", |found| !found["standing"]["newest"].is_null())
        .await;
    cluster.sql("CREATE TABLE one (n int); INSERT INTO one VALUES (1)");
    let committed = jiff::Timestamp::now();
    let found = asking
        .wait("what was committed", |found| {
            let reaches = found["windows"]["reaches"].as_str();
            reaches.is_some_and(|reaches| reaches.parse::<jiff::Timestamp>().unwrap() >= committed)
        })
        .await;
    let standing = &found["standing"];
    assert!(
        standing["rpo"]["reason"]
            .as_str()
            .unwrap()
            .contains("the log reaches"),
        "{found:#}"
    );
    assert_eq!(found["windows"]["intervals"].as_array().unwrap().len(), 1);
    assert_eq!(found["windows"]["gaps"].as_array().unwrap().len(), 0);
    assert_eq!(found["receiver"]["alarms"], serde_json::json!({}));

    // From elsewhere it is asked to bring the cluster back.
    let far = Elsewhere::new(&lab, &running, &header, "jane@pbs!t");
    let to = site.path().join("data");
    let restore = ["restores", "cluster", "pg/main", "--to", to.to_str().unwrap()];
    let planned = far.ok(&[&restore[..], &["--plan"]].concat());
    assert!(
        planned.contains("from the base backup of") && planned.contains("Goal: "),
        "{planned}"
    );
    let early = ["--to-time", "2001-01-01T00:00:00Z", "--yes"];
    far.ends(1, &[&restore[..], &early].concat());
    assert!(!to.exists());
    let done = far.ok(&[&restore[..], &["--yes"]].concat());
    assert!(done.contains("outcome    good"), "{done}");
    assert_eq!(far.ok(&["restores"]), lab.ok(&["restores"]));
    let restored = Server::of(17, site, to.clone());
    restored.up();
    while restored.sql("SELECT pg_is_in_recovery()") == "t" {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    assert_eq!(restored.sql("SELECT n FROM one"), "1");
    restored.down("fast");

    // What is in no segment that was completed is drilled, and copied.
    lab.ok(&["run", "drill", "pg/main"]);
    let found = asking
        .wait("the drill", |found| !found["standing"]["last-drill"].is_null())
        .await;
    assert_eq!(found["standing"]["last-drill"]["good"], true, "{found:#}");
    lab.ok(&["run", "copy", "pg/main", "away"]);
    let away = lab
        .command(&["postgres", "windows", "main", "--json"])
        .env("RELIGHT_REPOSITORY", lab.path("away"))
        .output()
        .unwrap();
    let away: Value = serde_json::from_slice(&away.stdout).unwrap();
    let last = found["windows"]["intervals"][0]["to"].clone();
    assert!(time(&away["latest"]["time"]) >= time(&last), "{away:#}: {last}");
    assert_eq!(away["gaps"], serde_json::json!([]), "{away:#}");

    // Nothing happens on the server: nothing is lost, either.
    let quiet = time(&found["windows"]["reaches"]) + jiff::SignedDuration::from_secs(11);
    let found = asking
        .wait("a sign of life of an idle server", |found| {
            time(&found["windows"]["reaches"]) > quiet
        })
        .await;
    assert_eq!(found["standing"]["log"]["alarms"], serde_json::json!({}));
    let metrics = running.ask_at("GET", "/metrics", &[&header], "").await;
    let metrics = String::from_utf8(metrics.body).unwrap();
    assert!(
        metrics.contains("relight_workload_log_reaches_timestamp_seconds{workload=\"pg/main\""),
        "{metrics}"
    );

    // The plan says that the cluster archives by itself: the receiver goes, and it is told that nobody does it.
    set_plan(&lab, &cluster, ", log = \"archive\"");
    let found = asking
        .wait("the plan to be followed", |found| {
            said(found, "archives") && !found["receiver"]["alarms"]["archiving"].is_null()
        })
        .await;
    let alarm = &found["standing"]["log"]["alarms"]["archiving"];
    assert!(
        alarm.as_str().unwrap().contains("archive_mode is off"),
        "{found:#}"
    );
    assert_eq!(slot(), "f");

    // Back again, and stopped: everything that was received is stored, and the slot is free.
    set_plan(&lab, &cluster, "");
    asking
        .wait("the receiver again", |found| said(found, "receives from"))
        .await;
    // A second base backup, some segments later.
    cluster.sql("CREATE TABLE two (n int)");
    for _ in 0..3 {
        cluster.sql("INSERT INTO two VALUES (1)");
        cluster.sql("SELECT pg_switch_wal()");
    }
    lab.ok(&["run", "backup", "pg/main"]);
    cluster.sql("INSERT INTO one VALUES (2)");
    let committed = jiff::Timestamp::now();
    assert_eq!(running.stop().0, 0);
    assert_eq!(slot(), "f");

    // Over a data directory that is there it is restored by two.
    let text = fs::read_to_string(lab.path("relight.toml")).unwrap();
    let guarded = format!("[approvals]\nrequired = ['restore', 'delete']\n{text}");
    fs::write(lab.path("relight.toml"), guarded).unwrap();
    let user = postgres_lab::runner_name();
    let over = [
        "postgres",
        "restore",
        "main",
        "--delta",
        "--with-log",
        "--user",
        &user,
        "--target",
    ];
    let over = [&over[..], &[to.to_str().unwrap()]].concat();
    let refused = lab.fails(&over);
    assert!(refused.contains("approval of a second person"), "{refused}");
    // So is log let go of that the plan keeps, as soon as the second base backup is older than what is asked for.
    let expire = ["postgres", "expire", "main", "--point-in-time", "1s"];
    let began = Instant::now();
    while lab.json(&expire)["files"].as_array().unwrap().is_empty() {
        assert!(
            began.elapsed() < Duration::from_secs(60),
            "all of the log is needed"
        );
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let expire = [&expire[..], &["--apply"]].concat();
    let refused = lab.fails(&expire);
    assert!(refused.contains("approval of a second person"), "{refused}");
    lab.ok(&["postgres", "expire", "main", "--apply"]);
    let files = || lab.json(&expire[..5])["files"].as_array().unwrap().len();
    assert!(files() > 0, "nothing went");
    lab.ok(&["approval", "break-glass", "--reason", "nobody is here"]);
    lab.ok(&over);
    let windows = lab.json(&["postgres", "windows", "main"]);
    let lag = committed.duration_since(time(&windows["latest"]["time"]));
    assert!(lag.as_millis() < 1000, "{windows:#}");
    lab.ok(&expire);
    assert_eq!(files(), 0);
    let told = lab.ok(&["evidence", "list", "--kind", "approval"]);
    assert!(
        told.contains("over the data directory") && told.contains("files of the log of pg/main"),
        "{told}"
    );
}

#[tokio::test]
async fn a_receiver_elsewhere_is_left_alone_and_a_cluster_that_goes_away_is_told() {
    let cluster = Server::start(17, "");
    let site = postgres_lab::folder();
    let lab = lab(site.path());
    set_plan(&lab, &cluster, "");
    lab.user("jane@pbs", "Admin", "/");
    let header = lab.token("jane@pbs!t", "Admin", "/");
    let mut elsewhere = lab
        .command(&["postgres", "receive", "main", "--url", &cluster.url()])
        .spawn()
        .unwrap();
    let active = "SELECT count(*) FROM pg_replication_slots WHERE active";
    while cluster.sql(active) != "1" {
        std::thread::sleep(Duration::from_millis(50));
    }
    let running = lab.serve();
    let asking = Asking {
        lab: &lab,
        running: &running,
        header: &header,
    };
    let found = asking
        .wait("the other receiver to be seen", |found| {
            said(found, "another receiver")
        })
        .await;
    assert!(!found["receiver"]["kept"].is_null(), "{found:#}");
    elsewhere.kill().unwrap();
    elsewhere.wait().unwrap();
    asking
        .wait("the receiver to take over", |found| said(found, "receives from"))
        .await;
    cluster.down("immediate");
    let found = asking
        .wait("the loss of the cluster to be told", |found| {
            !found["receiver"]["alarms"]["connection"].is_null() || !found["receiver"]["failed"].is_null()
        })
        .await;
    assert_ne!(
        found["standing"]["log"]["alarms"],
        serde_json::json!({}),
        "{found:#}"
    );
    cluster.up();
    asking
        .wait("it to be received from again", |found| {
            found["standing"]["log"]["alarms"] == serde_json::json!({})
        })
        .await;
    assert_eq!(running.stop().0, 0);
}
