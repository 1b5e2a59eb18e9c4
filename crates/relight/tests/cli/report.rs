//! Compliance reports by command line, of a server that has done nothing yet.

use std::fs;

use serde_json::Value;

use super::lab::{Lab, Run};

const PLAN: &str = r#"
[server]
state = "state"
cache = "server-cache"
[plan]
time-zone = "Europe/Berlin"
[[repository]]
name = "main"
location = "repo"
key-file = "key"
[policy.linux]
schedule = "02:00"
repository = "main"
retention = { keep-daily = 7 }
rpo = "24 h"
rpo-tolerance = "5 h"
rto = "4 h"
verify = "weekly"
drill = "quarterly"
[[workload]]
name = "vm/100"
policy = "linux"
"#;

fn lab() -> Lab {
    let lab = Lab::new();
    fs::write(lab.path("relight.toml"), PLAN).unwrap();
    lab.run(&[
        "user",
        "add",
        "jane@pbs",
        "--no-password",
        "--config",
        "relight.toml",
    ])
    .ok();
    lab
}

fn report(lab: &Lab, arguments: &[&str]) -> Run {
    let mut all = vec!["report", "compliance", "--config", "relight.toml"];
    all.extend(arguments);
    lab.run(&all)
}

fn verdict<'r>(report: &'r Value, id: &str) -> &'r str {
    let controls = report["controls"].as_array().unwrap();
    let control = controls.iter().find(|control| control["id"] == id).unwrap();
    control["verdict"].as_str().unwrap()
}

#[test]
fn a_server_that_has_done_nothing_proves_nothing() {
    let lab = lab();
    let run = report(&lab, &["--from", "2026-01-01", "--json"]);
    assert_eq!(run.code, 0, "{}", run.err);
    let report_of_now = run.json();
    assert_eq!(report_of_now["relight_report"], 1);
    assert_eq!(verdict(&report_of_now, "CP-4"), "no-evidence");
    assert_eq!(verdict(&report_of_now, "11.5"), "no-evidence");
    // The repository says that it is encrypted, but there is no evidence of the time before the log began.
    assert_eq!(verdict(&report_of_now, "CP-9(8)"), "partly");
    assert_eq!(report_of_now["activity"]["changes"]["done"]["count"], 1);
    // What is not proven is a fault for those who ask for it.
    assert_eq!(report(&lab, &["--from", "2026-01-01", "--strict"]).code, 4);
    // Whoever made a report is in the next one.
    let next = report(&lab, &["--from", "2026-01-01", "--json"]).json();
    let changes = next["activity"]["changes"]["done"]["records"].as_array().unwrap();
    assert!(
        changes
            .iter()
            .any(|one| one["what"].as_str().unwrap().contains("report compliance"))
    );
}

#[test]
fn all_formats_are_written_into_a_folder() {
    let lab = lab();
    fs::create_dir(lab.path("reports")).unwrap();
    let formats = [
        "--format", "html", "--format", "pdf", "--format", "json", "--format", "oscal",
    ];
    let mut arguments = vec![
        "--from",
        "2026-01-01",
        "--to",
        "2199-12-31",
        "-o",
        "reports",
        "--json",
    ];
    arguments.extend(formats);
    let written = report(&lab, &arguments).ok().json();
    assert_eq!(written["files"].as_array().unwrap().len(), 4);
    let name = |ending: &str| lab.path(&format!("reports/compliance-2026-01-01-2199-12-31.{ending}"));
    assert!(
        fs::read_to_string(name("html"))
            .unwrap()
            .starts_with("<!DOCTYPE html>")
    );
    assert!(fs::read(name("pdf")).unwrap().starts_with(b"%PDF-"));
    for ending in ["json", "oscal.json"] {
        serde_json::from_slice::<Value>(&fs::read(name(ending)).unwrap()).unwrap();
    }
    assert_eq!(fs::read_dir(lab.path("reports")).unwrap().count(), 4);
    // One format goes to standard output.
    let page = report(&lab, &["--from", "2026-01-01", "--format", "html"]).text();
    assert!(page.starts_with("<!DOCTYPE html>"));
}

#[test]
fn what_makes_no_sense_is_refused() {
    let lab = lab();
    for (arguments, says) in [
        (
            &["--from", "2026-02-01", "--to", "2026-01-01"][..],
            "ends before it begins",
        ),
        (&["--from", "2199-01-01"], "in the future"),
        (
            &["--from", "2026-01-01", "--format", "html", "--format", "pdf"],
            "need a folder",
        ),
    ] {
        let run = report(&lab, arguments);
        assert_eq!(run.code, 1);
        assert!(run.err.contains(says), "{}", run.err);
    }
}

#[test]
fn a_log_that_was_changed_satisfies_nothing() {
    let lab = lab();
    let noted = format!("1:{}", "ab".repeat(32));
    let run = report(&lab, &["--from", "2026-01-01", "--json", "--noted", &noted]);
    assert_eq!(run.code, 4);
    let report = run.json();
    assert_eq!(report["chain"]["broken"]["sequence"], 1);
    assert_eq!(verdict(&report, "CP-9(8)"), "contradicted");
}
