//! Drills by hand: of a repository alone, and by the plan of a server.

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::lab::Lab;

/// Processes that were started in sandboxes below `folder`.
fn running(folder: &Path) -> usize {
    let marker = format!("RELIGHT_SANDBOX={}", folder.display());
    let processes = fs::read_dir("/proc").unwrap().flatten();
    let ours = |entry: &fs::DirEntry| {
        let environment = fs::read(entry.path().join("environ")).unwrap_or_default();
        String::from_utf8_lossy(&environment).contains(&marker)
    };
    processes.filter(ours).count()
}

fn sandboxes(lab: &Lab) -> Vec<String> {
    let entries = fs::read_dir(lab.path("cache/sandbox"))
        .into_iter()
        .flatten()
        .flatten();
    let names = entries.map(|entry| entry.file_name().into_string().unwrap());
    names.filter(|name| name != ".lock").collect()
}

#[test]
fn a_drill_of_a_repository_alone() {
    let lab = Lab::saved();
    let said = lab.run(&["drill", "host/lab", "--control"]).ok().text();
    assert!(said.contains("Drill of host/lab: passed"), "{said}");
    assert!(said.contains("good negative control: byte "), "{said}");
    let probe = "paths-exist = ['src/docs/deep/note']";
    let json = lab.run(&["drill", "host/lab", "--probe", probe, "--json"]).json();
    assert_eq!(json["probes"][1]["name"], "paths-exist");
    assert_eq!(
        (&json["torn-down"], &json["code"]),
        (&true.into(), &serde_json::Value::Null)
    );
    assert_eq!(json["verdict"]["verdict"], "not-promised");
    assert_eq!(sandboxes(&lab), Vec::<String>::new());

    let failed = lab.run(&["drill", "host/lab", "--probe", "paths-exist = ['src/absent']"]);
    assert_eq!(failed.code, 4);
    let failed = failed.text();
    assert!(failed.contains("FAILED") && failed.contains("RL309"), "{failed}");
    let failed = lab.run(&["drill", "host/lab", "--probe", "paths = 1"]);
    assert_eq!(failed.code, 1);
    assert!(
        lab.run(&["drill", "host/other"])
            .err
            .contains("no snapshot of host/other")
    );
    assert_eq!(lab.run(&["drill", "host/lab", "--pick", "newest"]).code, 2);
}

#[test]
fn a_killed_drill_leaves_nothing_running_and_the_next_one_sweeps() {
    let lab = Lab::saved();
    let probe = "command = ['/bin/sh', '-c', 'sleep 300 & sleep 300']";
    let mut drill = lab
        .command(&["drill", "host/lab", "--probe", probe])
        .spawn()
        .unwrap();
    let folder = lab.path("cache/sandbox");
    let began = Instant::now();
    // The commands of the probe, beside what isolates them.
    while running(&folder) < 3 {
        assert!(began.elapsed() < Duration::from_secs(60), "{}", running(&folder));
        std::thread::sleep(Duration::from_millis(50));
    }
    drill.kill().unwrap();
    drill.wait().unwrap();
    let began = Instant::now();
    while running(&folder) > 0 {
        assert!(began.elapsed() < Duration::from_secs(20));
        std::thread::sleep(Duration::from_millis(50));
    }
    assert_eq!(sandboxes(&lab).len(), 1);
    let next = lab.run(&["drill", "host/lab"]);
    assert_eq!(next.code, 0, "{}", next.err);
    assert!(next.err.contains("which a killed drill had left"), "{}", next.err);
    assert_eq!(sandboxes(&lab), Vec::<String>::new());
}

#[test]
fn a_drill_by_the_plan_is_evidence() {
    let lab = Lab::saved();
    let text = format!(
        "[server]\nstate = 'state'\ncache = 'cache'\n[[repository]]\nname = 'main'\nlocation = 'repo'\nkey-file = 'key'\n\
         [policy.linux]\nschedule = '02:00'\nrepository = 'main'\nmethod = 'files'\nretention = {{ keep-daily = 7 }}\n\
         rto = '4 h'\ndrill = {{ schedule = 'quarterly', pick = 'oldest', host = 'elsewhere' }}\n\
         [[workload]]\nname = 'host/lab'\npolicy = 'linux'\nsource = {{ paths = [{:?}] }}\n\
         probe = {{ compare-source = true }}\n",
        lab.path("src")
    );
    fs::write(lab.path("relight.toml"), text).unwrap();
    let json = lab
        .run(&["drill", "host/lab", "--config", "relight.toml", "--json"])
        .json();
    assert_eq!(
        (&json["pick"], &json["repository"]),
        (&"oldest".into(), &"main".into()),
        "{json:#}"
    );
    assert_eq!(json["verdict"]["verdict"], "met");
    assert_eq!(json["probes"][1]["name"], "source");
    assert!(json["remarks"][0].as_str().unwrap().contains("elsewhere"));
    let absent = lab.run(&["drill", "host/other", "--config", "relight.toml"]);
    assert!(absent.err.contains("not in the plan"), "{}", absent.err);
    let evidence = lab
        .run(&[
            "evidence",
            "list",
            "--kind",
            "drill",
            "--config",
            "relight.toml",
            "--json",
        ])
        .json();
    assert_eq!(evidence[0]["detail"]["workload"], "host/lab", "{evidence:#}");
    assert_eq!(evidence[0]["outcome"], "done");
}
