//! The plan is run: by the real server, killed, cancelled, with a state that cannot be written.

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::lab::Lab;

pub const PLAN: &str = r#"
[plan]
time-zone = "UTC"
[policy.files]
schedule = "2027-01-01 02:00"
method = "files"
repository = "main"
retention = { keep-last = 2 }
rpo = "24 h"
rto = "1 h"
verify = "2027-01-02 02:00"
drill = "2027-01-03"
retry-after = "1 s"
[[workload]]
name = "host/web"
policy = "files"
source = { paths = ["DATA"] }
"#;

impl Lab {
    /// With a plan in its configuration, for a folder `data`.
    pub fn with_plan(plan: &str) -> Self {
        let lab = Self::new();
        fs::create_dir(lab.path("data")).unwrap();
        fs::write(lab.path("data/one"), "one").unwrap();
        lab.set_plan(plan);
        lab
    }

    pub fn set_plan(&self, plan: &str) {
        let text = fs::read_to_string(self.path("relight.toml")).unwrap();
        let server = text.split("\n[plan]").next().unwrap();
        let plan = plan.replace("DATA", self.path("data").to_str().unwrap());
        fs::write(self.path("relight.toml"), format!("{server}\n{plan}")).unwrap();
    }

    fn runs(&self, more: &[&str]) -> Vec<Value> {
        let listed = self.json(&[&["runs"], more].concat());
        listed["runs"].as_array().unwrap().clone()
    }

    /// Waits until the runs are so.
    #[track_caller]
    fn wait(&self, what: &str, mut until: impl FnMut(&[Value]) -> bool) -> Vec<Value> {
        let began = Instant::now();
        loop {
            let runs = self.runs(&[]);
            if until(&runs) {
                return runs;
            }
            let log = fs::read_to_string(self.path("server.log")).unwrap_or_default();
            assert!(
                began.elapsed() < Duration::from_secs(60),
                "{what}: {runs:#?}\n{log}"
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// The snapshots of a workload that the repository has.
    pub fn points(&self, workload: &str) -> usize {
        let listed = self.json(&["snapshots", "--workload", workload]);
        listed["snapshots"]
            .as_array()
            .or(listed.as_array())
            .unwrap()
            .len()
    }

    /// A file that takes its time to be saved.
    fn slow_data(&self) {
        let mut file = fs::File::create(self.path("data/large")).unwrap();
        let mut block = vec![0_u8; 1 << 20];
        let mut state = 1_u64;
        for _ in 0..192 {
            for word in block.chunks_mut(8) {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                word.copy_from_slice(&(state ^ (state >> 31)).to_le_bytes());
            }
            file.write_all(&block).unwrap();
        }
    }
}

fn outcome(run: &Value) -> &str {
    run["outcome"].as_str().unwrap_or("running")
}

#[test]
fn everything_in_the_plan_is_run_and_is_evidence() {
    let lab = Lab::with_plan(PLAN);
    let server = lab.serve();
    for what in [&["host/web"][..], &["verify", "host/web"], &["drill", "host/web"]] {
        let run = lab.json(&[&["run"], what].concat());
        assert_eq!(outcome(&run), "good", "{run:#}");
    }
    let refused = lab.fails(&["run", "backup", "host/other"]);
    assert!(refused.contains("not in the plan"), "{refused}");
    let refused = lab.fails(&["run", "forget", "main"]);
    assert!(
        refused.contains("not in the plan"),
        "the repository says no time for it: {refused}"
    );

    // The plan is followed while the server runs; an error in it changes nothing.
    lab.set_plan("[plan]\ntime-zone = 'Nowhere'\n");
    let log = lab.path("server.log");
    let told = || fs::read_to_string(&log).unwrap().contains("the plan from before");
    let deadline = Instant::now() + Duration::from_secs(20);
    while !told() {
        assert!(Instant::now() < deadline, "nothing is told of the plan's error");
        std::thread::sleep(Duration::from_millis(100));
    }
    lab.set_plan(&PLAN.replace("keep-last = 2", "keep-last = 1"));
    fs::write(lab.path("data/two"), "two").unwrap();
    let run = lab.json(&["run", "host/web"]);
    // The file that was there may be read again: it was made within the same tick of the clock.
    let read = run["figures"]["read"].as_u64().unwrap();
    assert!((3..=6).contains(&read), "{run:#}");

    // What was not saved as it is makes a run incomplete, and no recovery point.
    let events = lab.json(&["runs", "show", "1"]);
    assert!(events["events"].as_array().unwrap().len() >= 2, "{events:#}");
    server.stop();

    let evidence = lab.json(&["evidence", "list", "--kind", "run"]);
    let evidence = evidence.as_array().unwrap();
    assert_eq!(evidence.len(), 4);
    assert_eq!(evidence[0]["detail"]["snapshot"], lab.runs(&[])[0]["snapshot"]);
    let drills = lab.json(&["evidence", "list", "--kind", "drill"]);
    assert_eq!(drills[0]["detail"]["verdict"]["verdict"], "met", "{drills:#}");
    assert_eq!(
        drills[0]["detail"]["control"]["noticed"], true,
        "the first of a quarter has a negative control"
    );
    assert!(lab.json(&["evidence", "verify"])["broken"].is_null());

    // What operators do beside the server is evidence, too.
    let snapshot = run["snapshot"].as_str().unwrap();
    lab.ok(&["restore", snapshot, "--to", "restored"]);
    lab.ok(&["key", "recovery", "--output", "printed"]);
    let who = |kind: &str| {
        let records = lab.json(&["evidence", "list", "--kind", kind]);
        let last = records.as_array().unwrap().last().cloned().unwrap();
        (
            last["who"].to_string(),
            last["what"].as_str().unwrap().to_string(),
        )
    };
    let (by, what) = who("restore");
    assert!(
        by.contains("command line") && what.starts_with("restored "),
        "{by} {what}"
    );
    let (by, what) = who("key");
    assert!(
        by.contains("command line") && what.contains("recovery key"),
        "{by} {what}"
    );
    let check = lab.json(&["plan", "check"]);
    assert_eq!(check["measured"], 1, "{check:#}");
}

#[test]
fn what_was_forgotten_is_told_and_what_is_promised_stays() {
    let lab = Lab::with_plan(PLAN);
    let text = fs::read_to_string(lab.path("relight.toml")).unwrap();
    let text = text.replace(
        "name = 'main'",
        "name = 'main'\nforget = '2027-01-01'\ncollect = '2027-01-01'",
    );
    fs::write(lab.path("relight.toml"), text).unwrap();
    let server = lab.serve();
    for number in 0..4 {
        fs::write(lab.path("data/one"), format!("{number}")).unwrap();
        lab.ok(&["run", "host/web"]);
    }
    assert_eq!(lab.points("host/web"), 4);
    let forget = lab.json(&["run", "forget", "main"]);
    assert_eq!(
        (outcome(&forget), &forget["figures"]["snapshots"]),
        ("good", &2.into()),
        "{forget:#}"
    );
    assert_eq!(lab.points("host/web"), 2);
    assert_eq!(outcome(&lab.json(&["run", "collect", "main"])), "good");
    let change = lab.json(&["evidence", "list", "--kind", "change"]);
    let told = change
        .as_array()
        .unwrap()
        .iter()
        .find(|record| record["detail"]["forgotten"].is_object());
    assert_eq!(
        told.unwrap()["detail"]["forgotten"]["host/web"]
            .as_array()
            .unwrap()
            .len(),
        2
    );
    server.stop();
}

#[test]
fn no_run_is_lost_or_doubled_when_the_server_is_killed() {
    let lab = Lab::with_plan(PLAN);
    lab.slow_data();
    // At points that are spread over the life of a run: asked for, begun, at work, published, written down.
    for (kill, wait) in [0, 15, 60, 150, 400, 900].into_iter().enumerate() {
        fs::write(lab.path("data/one"), format!("{kill}")).unwrap();
        if kill % 2 == 0 {
            fs::rename(lab.path("data/large"), lab.path("data/large-too")).unwrap();
            fs::rename(lab.path("data/large-too"), lab.path("data/large")).unwrap();
        }
        let mut server = lab.serve();
        lab.ok(&["run", "host/web", "--no-wait"]);
        std::thread::sleep(Duration::from_millis(wait));
        server.signal("-KILL");
        server.child.wait().unwrap();
        let before = lab.points("host/web");
        let server = lab.serve();
        let good = |runs: &[Value]| runs.iter().filter(|run| outcome(run) == "good").count();
        let runs = lab.wait("the run that was killed is done", |runs| {
            good(runs) == kill + 1 && runs.iter().all(|run| outcome(run) != "running")
        });
        // A run whose snapshot was there already is not done again.
        assert_eq!(lab.points("host/web"), kill + 1, "{before} before; {runs:#?}");
        let made: Vec<&Value> = runs.iter().filter(|run| outcome(run) == "good").collect();
        assert!(made.iter().all(|run| run["snapshot"].is_string()));
        assert!(
            runs.iter()
                .all(|run| ["good", "interrupted"].contains(&outcome(run))),
            "{runs:#?}"
        );
        server.stop();
    }
    assert!(lab.json(&["evidence", "verify"])["broken"].is_null());
}

#[test]
fn no_run_is_lost_or_doubled_when_the_server_is_killed_under_load() {
    const WORKLOADS: usize = 5;
    let mut plan = format!(
        "{}\n[limit]\nruns = 4\n[limit.host]\ndefault = 4\n",
        PLAN.split("[[workload]]").next().unwrap()
    );
    for number in 0..WORKLOADS {
        plan.push_str(&format!(
            "[[workload]]\nname = 'host/web{number}'\npolicy = 'files'\nsource = {{ paths = ['DATA/{number}'] }}\n"
        ));
    }
    let lab = Lab::with_plan(&plan);
    lab.slow_data();
    let large = fs::read(lab.path("data/large")).unwrap();
    fs::remove_file(lab.path("data/large")).unwrap();
    for number in 0..WORKLOADS {
        fs::create_dir(lab.path(&format!("data/{number}"))).unwrap();
    }
    for round in 1..=3_usize {
        for number in 0..WORKLOADS {
            // Each its own, and new each time.
            let at = number * (8 << 20) + round * 4096;
            fs::write(
                lab.path(&format!("data/{number}/large")),
                &large[at..at + (24 << 20)],
            )
            .unwrap();
        }
        let mut server = lab.serve();
        for number in 0..WORKLOADS {
            lab.ok(&["run", &format!("host/web{number}"), "--no-wait"]);
        }
        lab.wait("some are at work", |runs| {
            runs.iter().filter(|run| outcome(run) == "running").count() >= 2
        });
        let chance = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap()
            .subsec_nanos();
        std::thread::sleep(Duration::from_millis(u64::from(chance % 700)));
        server.signal("-KILL");
        server.child.wait().unwrap();
        let server = lab.serve();
        let good = |runs: &[Value]| runs.iter().filter(|run| outcome(run) == "good").count();
        lab.wait("all are done", |runs| {
            good(runs) >= WORKLOADS * round && runs.iter().all(|run| outcome(run) != "running")
        });
        for number in 0..WORKLOADS {
            let workload = format!("host/web{number}");
            assert_eq!(lab.points(&workload), round, "{workload}");
            let runs = lab.runs(&["--workload", &workload, "--outcome", "good"]);
            assert_eq!(runs.len(), round, "{runs:#?}");
        }
        server.stop();
    }
    lab.ok(&["verify"]);
    assert!(lab.json(&["evidence", "verify"])["broken"].is_null());
}

#[test]
fn runs_are_cancelled_and_retried() {
    let lab = Lab::with_plan(PLAN);
    lab.slow_data();
    let server = lab.serve();
    lab.ok(&["run", "host/web", "--no-wait"]);
    let runs = lab.wait("it runs", |runs| runs.iter().any(|run| outcome(run) == "running"));
    lab.ok(&["runs", "cancel", &runs[0]["number"].to_string()]);
    let runs = lab.wait("it has ended", |runs| outcome(&runs[0]) != "running");
    // It may have been quicker.
    if outcome(&runs[0]) != "good" {
        assert_eq!(
            (outcome(&runs[0]), &runs[0]["code"]),
            ("cancelled", &"RL209".into())
        );
        assert_eq!(lab.points("host/web"), 0);
    }
    let refused = lab.fails(&["runs", "cancel", "1"]);
    assert!(refused.contains("ended already"), "{refused}");

    // What fails is tried again by itself.
    let count = lab.runs(&[]).len();
    fs::rename(lab.path("data"), lab.path("gone")).unwrap();
    lab.fails(&["run", "host/web"]);
    let failed = lab.runs(&["--outcome", "failed"]);
    assert_eq!(failed[0]["code"], "RL204", "{failed:#?}");
    fs::rename(lab.path("gone"), lab.path("data")).unwrap();
    let runs = lab.wait("it was tried again", |runs| {
        runs.len() >= count + 2 && runs.iter().all(|run| outcome(run) != "running")
    });
    let last = runs.last().unwrap();
    assert_eq!(
        (outcome(last), last["attempt"].as_u64().unwrap() > 1),
        ("good", true),
        "{runs:#?}"
    );
    server.stop();
}

#[test]
fn what_runs_when_the_server_is_stopped_is_begun_again() {
    let lab = Lab::with_plan(&format!("{PLAN}[[bandwidth]]\nrate = '4 MiB/s'\n"));
    lab.slow_data();
    let server = lab.serve();
    lab.ok(&["run", "host/web", "--no-wait"]);
    lab.wait("it runs", |runs| runs.iter().any(|run| outcome(run) == "running"));
    // The limit of bandwidth keeps it from ending in the grace time.
    std::thread::sleep(Duration::from_millis(300));
    let (code, took) = server.stop();
    assert!(code == 0 && took < Duration::from_secs(20), "{code} {took:?}");
    let runs = lab.runs(&[]);
    assert_eq!(
        (outcome(&runs[0]), &runs[0]["code"]),
        ("interrupted", &"RL210".into()),
        "{runs:#?}"
    );
    lab.set_plan(PLAN);
    let server = lab.serve();
    let runs = lab.wait("it was begun again", |runs| {
        runs.len() == 2 && outcome(&runs[1]) == "good"
    });
    assert_eq!(runs[1]["attempt"], 1, "an interruption is no failure: {runs:#?}");
    server.stop();
}

#[test]
fn backups_that_were_made_elsewhere_are_runs_too() {
    let lab = Lab::with_plan(&PLAN.replace("method = \"files\"", "pushed = true"));
    let server = lab.serve();
    let refused = lab.fails(&["run", "host/web"]);
    assert!(refused.contains("pushed by a client"), "{refused}");
    // What is there when the server looks for the first time is no news; the next one is.
    lab.ok(&["backup", "--workload", "host/web", "data"]);
    let mut saved = Instant::now();
    let runs = lab.wait("it is noticed", |runs| {
        if runs.is_empty() && saved.elapsed() > Duration::from_secs(15) {
            lab.ok(&["backup", "--workload", "host/web", "data"]);
            saved = Instant::now();
        }
        !runs.is_empty()
    });
    for run in &runs {
        assert_eq!((outcome(run), &run["job"]), ("good", &"backup host/web".into()));
    }
    let evidence = lab.json(&["evidence", "list", "--kind", "run"]);
    assert_eq!(evidence[0]["detail"]["pushed"], true, "{evidence:#}");
    // What needs a snapshot can work on it.
    assert_eq!(outcome(&lab.json(&["run", "verify", "host/web"])), "good");
    server.stop();
}

#[test]
fn a_server_that_was_brought_back_knows_what_was_made_after_its_state_was_saved() {
    let lab = Lab::with_plan(PLAN);
    lab.ok(&["key", "recovery", "--output", "printed"]);
    let server = lab.serve();
    lab.ok(&["run", "host/web"]);
    server.stop();
    // It is lost before its state is saved again.
    let mut server = lab.serve();
    fs::write(lab.path("data/one"), "after").unwrap();
    let lost = lab.json(&["run", "host/web"]);
    server.signal("-KILL");
    server.child.wait().unwrap();
    for gone in ["state", "cache"] {
        fs::remove_dir_all(lab.path(gone)).unwrap();
    }
    fs::remove_file(lab.path("relight.toml")).unwrap();
    let mut adopt = lab.command(&["adopt", "--recovery-key-file", "printed"]);
    let output = adopt.env_remove("RELIGHT_PASSWORD_FILE").output().unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let server = lab.serve();
    let runs = lab.wait("the backup that nobody knew of is found", |runs| runs.len() == 2);
    assert_eq!(runs[1]["snapshot"], lost["snapshot"], "{runs:#?}");
    let run = lab.json(&["run", "host/web"]);
    assert_eq!(outcome(&run), "good");
    assert_eq!(lab.points("host/web"), 3);
    assert!(lab.json(&["evidence", "verify"])["broken"].is_null());
    server.stop();
}

#[test]
fn a_state_that_is_damaged_is_refused_and_left_as_it_is() {
    let lab = Lab::with_plan(PLAN);
    let server = lab.serve();
    lab.ok(&["run", "host/web"]);
    server.stop();
    let path = lab.path("state/state.db");
    let good = fs::read(&path).unwrap();
    let mut bad = good.clone();
    bad[..100].fill(0x5a);
    fs::write(&path, &bad).unwrap();
    let said = lab.fails(&["serve"]);
    assert!(
        said.contains("state.db") && said.contains("relight adopt"),
        "{said}"
    );
    assert_eq!(
        fs::read(&path).unwrap(),
        bad,
        "it is not made anew over what may be mended"
    );
    fs::write(&path, &good).unwrap();
    lab.serve().stop();
}

#[test]
fn a_state_that_cannot_be_written_begins_nothing_and_gives_backups_back() {
    let lab = Lab::with_plan(PLAN);
    // A file system of its own, which is full later.
    let state = lab.path("state");
    fs::create_dir(&state).unwrap();
    let Some(_mounted) = Mounted::tmpfs(&state, "4m") else {
        panic!("a tmpfs is needed for this test: run it as root");
    };
    let server = lab.serve();
    lab.ok(&["run", "host/web"]);
    let filler = state.join("filler");
    let mut file = fs::File::create(&filler).unwrap();
    while file.write_all(&[1; 4096]).is_ok() {}
    drop(file);
    // Nothing can be asked for, and what is due is not begun; restores work.
    let said = lab.fails(&["run", "host/web", "--no-wait"]);
    assert!(said.contains("state"), "{said}");
    lab.ok(&["restore", "latest", "--to", "restored"]);
    assert!(fs::read_dir(lab.path("restored")).unwrap().next().is_some());
    fs::remove_file(&filler).unwrap();
    assert_eq!(outcome(&lab.json(&["run", "host/web"])), "good");
    server.stop();
}

fn files_below(folder: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.push(path);
        }
    }
    files
}

/// A file system that is unmounted in the end.
struct Mounted(std::path::PathBuf);

impl Mounted {
    fn tmpfs(path: &Path, size: &str) -> Option<Self> {
        let mut mount = std::process::Command::new("mount");
        mount
            .args(["-t", "tmpfs", "-o", &format!("size={size},mode=700"), "tmpfs"])
            .arg(path);
        let done = mount.stderr(Stdio::null()).status().ok()?.success();
        done.then(|| Self(path.to_path_buf()))
    }
}

impl Drop for Mounted {
    fn drop(&mut self) {
        let _ = std::process::Command::new("umount")
            .arg("-l")
            .arg(&self.0)
            .status();
    }
}

#[test]
fn everything_is_recovered_in_order_and_stands_in_the_report() {
    let exercise = r#"
[[workload]]
name = "host/directory"
policy = "files"
source = { paths = ["DATA"] }
stage = "identity"
[exercise]
schedule = "2027-06-01"
order = ["identity", "application"]
rto = "1 h"
"#;
    let plan = PLAN.replace("source =", "stage = \"application\"\nsource =");
    let lab = Lab::with_plan(&format!("{plan}{exercise}"));
    let server = lab.serve();
    for name in ["host/web", "host/directory"] {
        lab.ok(&["run", name]);
    }
    let run = lab.json(&["run", "exercise"]);
    assert_eq!(
        (outcome(&run), &run["figures"]["snapshots"]),
        ("good", &2.into()),
        "{run:#}"
    );
    let drills = lab.json(&["evidence", "list", "--kind", "drill"]);
    let records = drills.as_array().unwrap();
    let whole = &records.last().unwrap()["detail"];
    assert_eq!(whole["verdict"]["verdict"], "met", "{drills:#}");
    let order: Vec<&str> = whole["recovered"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["workload"].as_str().unwrap())
        .collect();
    assert_eq!(order, ["host/directory", "host/web"]);
    let day = jiff::Timestamp::now().strftime("%Y-%m-%d").to_string();
    let report = |lab: &Lab| {
        let mut command = lab.command(&["report", "compliance", "--from", &day, "--json"]);
        let output = command.output().unwrap();
        let report: Value = serde_json::from_slice(&output.stdout).unwrap();
        (output.status.code(), report.to_string())
    };
    let (_, text) = report(&lab);
    assert!(text.contains("host/directory") && text.contains("11.5"), "{text}");

    // One does not come back: it is said, and the other is recovered none the less.
    for pack in files_below(&lab.path("repo/packs")) {
        let mut bytes = fs::read(&pack).unwrap();
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        fs::write(&pack, bytes).unwrap();
    }
    let mut command = lab.command(&["run", "exercise", "--json"]);
    let output = command.output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let run: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(run["code"], "RL221", "{run:#}");
    let (code, text) = report(&lab);
    assert_eq!(code, Some(4), "a drill that failed contradicts: {text}");
    server.stop();
}
