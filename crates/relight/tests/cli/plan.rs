//! The plan by command line: checked, shown, foreseen.

use std::fs;

use serde_json::Value;

use super::lab::{Lab, Run};

const LAB: &str = include_str!("../../../../dist/plan.toml");

/// A folder with this text as the server's configuration.
fn lab(text: &str) -> Lab {
    let lab = Lab::bare();
    // No test shall fail on the day on which what is excluded is to be thought about again.
    fs::write(lab.path("relight.toml"), text.replace("2027-12-31", "2199-12-31")).unwrap();
    lab
}

fn plan(lab: &Lab, arguments: &[&str]) -> Run {
    let mut all = vec!["plan"];
    all.extend(arguments);
    all.extend(["--config", "relight.toml"]);
    lab.run(&all)
}

fn strings<'v>(list: &'v Value, key: &str) -> Vec<&'v str> {
    let list = list.as_array().unwrap();
    list.iter().map(|item| item[key].as_str().unwrap()).collect()
}

#[test]
fn the_labs_plan_is_good() {
    let lab = lab(LAB);
    let checked = plan(&lab, &["check"]).ok().text();
    assert!(checked.contains("relight.toml:"), "{checked}");
    assert!(checked.contains("no measured times yet"), "{checked}");
    let report = plan(&lab, &["check", "--json"]).ok().json();
    assert_eq!(
        (&report["readable"], &report["errors"]),
        (&true.into(), &0.into())
    );
    assert_eq!((&report["policies"], &report["measured"]), (&4.into(), &0.into()));
    assert!(report["refused"].is_null());
    // By the environment too.
    let output = lab
        .command(&["plan", "check"])
        .env("RELIGHT_CONFIG", "relight.toml")
        .output()
        .unwrap();
    Run::of(&["plan", "check"], output).ok();
}

#[test]
fn a_promise_that_cannot_be_kept_is_found_at_its_place() {
    let text = LAB.replacen("rpo = \"24 h\"", "rpo = \"2 h\"", 1);
    let line = 1 + text
        .lines()
        .position(|line| line.starts_with("rpo = \"2 h\""))
        .unwrap();
    let lab = lab(&text);
    let checked = plan(&lab, &["check"]).code(4).text();
    let begins = format!("relight.toml:{line}:7: error RL101: policy linux: ");
    assert!(checked.lines().any(|line| line.starts_with(&begins)), "{checked}");
    assert!(checked.contains("    fix: "), "{checked}");
    let report = plan(&lab, &["check", "--json"]).code(4).json();
    let findings = report["findings"].as_array().unwrap();
    let found = findings.iter().find(|found| found["code"] == "RL101").unwrap();
    assert_eq!(found["severity"], "error");
    assert_eq!(found["at"]["line"], line);
    assert!(!found["reason"].as_str().unwrap().is_empty() && !found["fix"].as_str().unwrap().is_empty());
}

#[test]
fn warnings_count_when_that_is_asked_for() {
    // Nobody is told of failures.
    let lab = lab(&LAB.replace("\"failure\", ", ""));
    let checked = plan(&lab, &["check"]).ok().text();
    assert!(checked.contains("warning RL122"), "{checked}");
    plan(&lab, &["check", "--strict"]).code(4);
}

#[test]
fn all_errors_are_told_at_once_with_their_places() {
    let text = LAB
        .replacen("schedule = \"02:00\"", "shedule = \"02:00\"", 1)
        .replacen("keep-daily = 14", "keep-daily = 0", 1)
        .replacen("policy = \"databases\"", "policy = \"database\"", 1);
    let lab = lab(&text);
    let line = |begins: &str| 1 + text.lines().position(|line| line.starts_with(begins)).unwrap();
    let checked = plan(&lab, &["check"]).code(1).text();
    let places = [
        (line("shedule"), "do you mean \"schedule\"?"),
        (line("retention = { keep-daily = 0"), "keep-daily"),
        (line("policy = \"database\""), "do you mean \"databases\"?"),
    ];
    for (line, says) in places {
        let begins = format!("relight.toml:{line}:");
        let told = |told: &str| told.starts_with(&begins) && told.contains(says);
        assert!(checked.lines().any(told), "{begins} {says}\n{checked}");
    }
    let report = plan(&lab, &["check", "--json"]).code(1).json();
    assert_eq!(report["readable"], false);
    assert!(report["problems"].as_array().unwrap().len() >= 3, "{report}");
    // The others tell the same, and show nothing.
    for command in ["show", "next"] {
        let run = plan(&lab, &[command]).fails(&format!("relight.toml:{}:", line("shedule")));
        assert!(run.out.is_empty());
        let run = plan(&lab, &[command, "--json"]).code(1);
        let error: Value = serde_json::from_str(run.err.trim()).unwrap();
        assert!(
            error["error"].as_str().unwrap().contains("do you mean"),
            "{error}"
        );
    }
}

#[test]
fn what_cannot_be_read_at_all_is_named() {
    let lab = lab("[plan\n");
    let checked = plan(&lab, &["check"]).code(1).text();
    assert!(checked.starts_with("relight.toml:1:"), "{checked}");
    let none = self::lab("[server]\n");
    let checked = plan(&none, &["check"]).ok().text();
    assert!(checked.contains("There is no plan in this file"), "{checked}");
    lab.run(&["plan", "check", "--config", "none.toml"])
        .fails("there is no configuration of the server in none.toml");
    fs::write(lab.path("relight.toml"), [0xff, 0xfe, 0]).unwrap();
    plan(&lab, &["show"]).fails("relight.toml");
    // Good as a plan, but nothing that the server takes.
    let other = self::lab(&LAB.replace("key-file = \"/etc/relight/main.key\"\n", ""));
    let checked = plan(&other, &["check"]).code(1).text();
    assert!(
        checked.contains("The server refuses this file: ") && checked.contains("needs a key"),
        "{checked}"
    );
}

#[test]
fn show_tells_what_is_promised() {
    let lab = lab(LAB);
    let all = plan(&lab, &["show"]).ok().text();
    let of = |name: &str| {
        let found = all.lines().find(|line| line.starts_with(name));
        found.unwrap_or_else(|| panic!("{name} in {all}"))
    };
    assert!(of("vm/100").contains("linux") && of("vm/100").contains("daily 7, weekly 4, monthly 6"));
    assert!(of("pg/pg01").contains("archive") && of("vm/900").contains("excluded"));
    assert!(all.ends_with("Times are those of Europe/Berlin.\n"), "{all}");

    let one = plan(&lab, &["show", "pg/pg01"]).ok().text();
    for says in [
        "at most 5 m old",
        "of the last 14 d",
        "archive: monthly 84; *-*-01 04:30; due ",
        "of the latest point, on pve2",
        "in the stage database",
        "RPO        6 h\n",
    ] {
        assert!(one.contains(says), "{says}: {one}");
    }
    assert!(!one.contains("vm/100"));
    let json = plan(&lab, &["show", "windows", "--json"]).ok().json();
    assert_eq!(json["time_zone"], "Europe/Berlin");
    assert_eq!(
        strings(&json["workloads"], "workload"),
        ["host/dc01", "host/win01", "host/win02", "m365/lab"]
    );
    let dc = &json["workloads"][0];
    assert_eq!(dc["stage"], "identity");
    let policy = &dc["policy"];
    assert_eq!((&policy["rpo"], &policy["rto"]), (&"1d".into(), &"2h".into()));
    assert_eq!(
        (&policy["priority"], &policy["window"]["name"]),
        (&90.into(), &"night".into())
    );
    assert_eq!(policy["retention"]["keep-monthly"], 12);
    assert_eq!(policy["backup"]["next"].as_array().unwrap().len(), 3);
    plan(&lab, &["show", "vm/101x"]).fails("neither a workload nor a policy \"vm/101x\"");
}

#[test]
fn next_foresees_a_day() {
    let lab = lab(LAB);
    let day = ["--from", "2026-11-24", "--until", "2026-11-25T00:00"];
    let json = plan(&lab, &["next", "--json", day[0], day[1], day[2], day[3]])
        .ok()
        .json();
    assert_eq!((&json["forecast"], &json["cut"]), (&true.into(), &false.into()));
    assert_eq!(
        (&json["from"], &json["until"]),
        (&"2026-11-23T23:00:00Z".into(), &"2026-11-24T23:00:00Z".into())
    );
    let runs = json["runs"].as_array().unwrap();
    let of = |job: &str| -> Vec<&Value> { runs.iter().filter(|run| run["job"] == job).collect() };
    // Every workload with a policy once, databases every six hours, and at midnight again.
    assert_eq!(of("backup pg/pg01").len(), 5);
    for name in ["vm/100", "host/dc01", "m365/lab", "k8s/research"] {
        assert_eq!(of(&format!("backup {name}")).len(), 1, "{name}");
    }
    assert!(of("backup vm/900").is_empty());
    assert_eq!(of("forget main").len(), 1);
    // The stagger of the policy spreads its six.
    let second = of("backup vm/101")[0];
    assert_eq!(
        (&second["due"], &second["starts"]),
        (&"2026-11-24T01:00:00Z".into(), &"2026-11-24T01:07:30Z".into())
    );
    assert_eq!(strings(&second["waits"], "reason"), ["staggered"]);
    for run in runs.iter().filter(|run| run["fate"] == "runs") {
        assert!(run["starts"].as_str() >= run["due"].as_str(), "{run}");
    }
    let text = plan(&lab, &["next", day[0], day[1], day[2], day[3]]).ok().text();
    assert!(text.starts_with("STARTS"), "{text}");
    for says in [
        "A forecast from Tue 2026-11-24 00:00 until Wed 2026-11-25 00:00, in times of Europe/Berlin",
        "its place in the stagger",
        "the slowest of its last ten",
        "is not foreseen",
    ] {
        assert!(text.contains(says), "{says}: {text}");
    }
    // Slower, and something has to wait for its host.
    let slow = plan(
        &lab,
        &["next", "--rate", "5MiB/s", day[0], day[1], day[2], day[3]],
    )
    .ok();
    assert!(
        slow.text().contains("host k8s1 carries 1 at a time"),
        "{}",
        slow.text()
    );
    plan(&lab, &["next", "--from", "2026-11-24", "--until", "2026-11-23"]).fails("lies before");
    plan(&lab, &["next", "--from", "tomorrow"]).code(2);
}

#[test]
fn what_clients_send_is_expected_and_not_started() {
    let text = "[[repository]]\nname = \"main\"\nlocation = \"/srv/backup\"\nkey-file = \"/k\"\n\n\
                [policy.pve]\nschedule = \"21:00\"\npushed = true\nrepository = \"main\"\n\
                retention = { keep-daily = 7 }\n\n[[workload]]\nname = \"vm/100\"\npolicy = \"pve\"\n";
    let lab = lab(text);
    let arguments = ["next", "--from", "2026-11-24", "--until", "2026-11-26"];
    let text = plan(&lab, &arguments).ok().text();
    assert_eq!(text.matches("sent by its client").count(), 2, "{text}");
    let json = plan(&lab, &[&arguments[..], &["--json"]].concat()).ok().json();
    assert!(json["runs"].as_array().unwrap().is_empty());
    assert_eq!(json["expected"][0]["due"], "2026-11-24T21:00:00Z");
    let show = plan(&lab, &["show", "vm/100"]).ok().text();
    assert!(show.contains("sent by its client"), "{show}");
}
