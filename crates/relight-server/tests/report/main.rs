//! Reports of much evidence, in a real database: how long they take and how much memory.
//!
//! ```sh
//! RELIGHT_SCALE=1000x1095 cargo test -p relight-server --test report -- --ignored --nocapture
//! ```
//!
//! `RELIGHT_SCALE_DIR` keeps what was generated, with a configuration for `relight report compliance`.

use std::path::{Path, PathBuf};
use std::time::Instant;

use jiff::{SignedDuration, Timestamp};
use relight_model::objective::Verdict;
use relight_model::plan::{PickRule, Plan};
use relight_model::schedule::JobId;
use relight_model::{TimeSpan, Workload};
use relight_server::evidence::detail::{
    DrillDetail, Ended, Figures, NegativeControl, RunDetail, Step, details,
};
use relight_server::evidence::{Kind, NewEvidence, Outcome};
use relight_server::report::{Collector, ControlVerdict, Subject, html, oscal, pdf};
use relight_server::state::State;

/// Noon of a day long ago.
const BEGIN: &str = "2023-01-01T01:00:00Z";
/// So many records are added at a time.
const BATCH: usize = 10_000;

fn configuration(workloads: u64) -> String {
    let names: Vec<String> = (0..workloads).map(|n| format!("\"vm/{}\"", 100 + n)).collect();
    format!(
        r#"
[server]
state = "state"
cache = "cache"
[plan]
time-zone = "Europe/Berlin"
[[repository]]
name = "main"
location = "main"
password-file = "pw"
forget = "07:00"
collect = "09:00"
[policy.linux]
schedule = "02:00"
stagger = "4 h"
repository = "main"
retention = {{ keep-daily = 14 }}
rpo = "24 h"
rpo-tolerance = "6 h"
rto = "4 h"
verify = "sat 12:00"
drill = "quarterly"
[[workload]]
names = [{}]
policy = "linux"
"#,
        names.join(", ")
    )
}

fn run(number: u64, started: Timestamp, minutes: i64, job: JobId, ended: Ended) -> NewEvidence {
    let what = job.to_string();
    let bad = ended != Ended::Good;
    let detail = RunDetail {
        run: number,
        job,
        due: started,
        started,
        ended,
        attempt: 1,
        pushed: false,
        code: bad.then(|| "RL201".into()),
        message: bad.then(|| "the host does not answer".into()),
        repository: Some("main".into()),
        snapshot: Some(format!("{number:064x}")),
        figures: Figures {
            size: Some(20 << 30),
            read: Some(1 << 30),
            added: Some(300 << 20),
            stored: Some(200 << 20),
            ..Figures::default()
        },
    };
    NewEvidence {
        time: started + SignedDuration::from_mins(minutes),
        kind: Kind::Run,
        who: Some("scheduler".into()),
        what,
        outcome: if bad { Outcome::Failed } else { Outcome::Done },
        detail: details(&detail),
    }
}

fn drill(number: u64, requested: Timestamp, workload: &Workload) -> NewEvidence {
    let took = TimeSpan::from_secs(2400);
    let detail = DrillDetail {
        run: number,
        workload: workload.clone(),
        exercise: false,
        snapshot: None,
        point: Some(requested),
        pick: PickRule::Latest,
        repository: "main".into(),
        host: "pve2".into(),
        requested,
        size: 20 << 30,
        steps: vec![Step {
            name: "restore".into(),
            took,
        }],
        probes: Vec::new(),
        control: Some(NegativeControl {
            spoiled: "a file".into(),
            noticed: true,
        }),
        measured: Some(took),
        promised: None,
        verdict: Verdict::NotPromised,
        torn_down: true,
        remarks: Vec::new(),
        code: None,
        message: None,
    };
    NewEvidence {
        time: requested + SignedDuration::from_mins(50),
        kind: Kind::Drill,
        who: Some("scheduler".into()),
        what: format!("drill {workload}"),
        outcome: Outcome::Done,
        detail: details(&detail),
    }
}

/// Fills a state; gives the number of records. One run in 499 fails and is not made up for.
fn fill(state: &State, workloads: u64, days: u64) -> u64 {
    let begin: Timestamp = BEGIN.parse().unwrap();
    let names: Vec<Workload> = (0..workloads)
        .map(|n| format!("vm/{}", 100 + n).parse().unwrap())
        .collect();
    let (mut number, mut written) = (0, 0);
    let mut waiting = Vec::with_capacity(BATCH);
    for day in 0..days {
        let start = begin + SignedDuration::from_hours(24 * day as i64);
        for (n, name) in names.iter().enumerate() {
            number += 1;
            let started = start + SignedDuration::from_secs(n as i64 * 14);
            let ended = if number % 499 == 0 {
                Ended::Failed
            } else {
                Ended::Good
            };
            waiting.push(run(number, started, 10, JobId::backup(name), ended));
            if day % 7 == 6 {
                let noon = start + SignedDuration::from_hours(10);
                waiting.push(run(number, noon, 20, JobId::verify(name), Ended::Good));
            }
            if day % 90 == 3 {
                waiting.push(drill(number, start + SignedDuration::from_hours(12), name));
            }
        }
        if waiting.len() >= BATCH || day + 1 == days {
            written += waiting.len() as u64;
            state.add_evidence(&waiting).unwrap();
            waiting.clear();
        }
    }
    written
}

/// The most memory that this process had, in MiB.
fn most_memory() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    let kib: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kib / 1024
}

fn measure(folder: &Path, workloads: u64, days: u64) {
    let text = configuration(workloads);
    std::fs::write(folder.join("relight.toml"), &text).unwrap();
    std::fs::create_dir_all(folder.join("state")).unwrap();
    let state = State::open(&folder.join("state")).unwrap();
    let begun = Instant::now();
    let records = fill(&state, workloads, days);
    println!(
        "{records} records written in {:.1?}, {} MiB at most",
        begun.elapsed(),
        most_memory()
    );
    let plan = Plan::parse(&text).unwrap();
    let signer = state.signer().unwrap();
    let from: Timestamp = BEGIN.parse().unwrap();
    let to = from + SignedDuration::from_hours(24 * days as i64);
    let subject = Subject::new(signer.server(), signer.public_key(), &text, (from, to), to);
    let begun = Instant::now();
    let mut collector = Collector::new(&plan, subject);
    let verified = state
        .read_evidence(Vec::new(), |body| collector.take(body))
        .unwrap();
    let report = collector.finish(verified, Vec::new());
    println!(
        "verified and judged in {:.1?}, {} MiB at most",
        begun.elapsed(),
        most_memory()
    );
    assert_eq!(report.chain.verified.records, records);
    assert_eq!(report.workloads.len() as u64, workloads);
    assert_eq!(report.count(ControlVerdict::Contradicted) > 0, records > 500);
    let begun = Instant::now();
    let mut page = String::new();
    html::write(&report, &mut page).unwrap();
    println!("HTML: {} KiB in {:.1?}", page.len() >> 10, begun.elapsed());
    let begun = Instant::now();
    let bytes = pdf::write(&report).unwrap();
    println!("PDF: {} KiB in {:.1?}", bytes.len() >> 10, begun.elapsed());
    let begun = Instant::now();
    let json = serde_json::to_vec_pretty(&report).unwrap();
    println!("JSON: {} KiB in {:.1?}", json.len() >> 10, begun.elapsed());
    let begun = Instant::now();
    let json = serde_json::to_vec_pretty(&oscal::document(&report)).unwrap();
    println!("OSCAL: {} KiB in {:.1?}", json.len() >> 10, begun.elapsed());
    println!("{} MiB at most", most_memory());
}

#[test]
fn a_real_log_of_a_month() {
    let folder = tempfile::tempdir().unwrap();
    measure(folder.path(), 20, 30);
}

#[test]
#[ignore = "takes minutes; see the head of this file"]
fn years_of_many_workloads() {
    let scale = std::env::var("RELIGHT_SCALE").unwrap_or_else(|_| "1000x1095".into());
    let (workloads, days) = scale.split_once('x').unwrap();
    let (workloads, days) = (workloads.parse().unwrap(), days.parse().unwrap());
    let kept = std::env::var_os("RELIGHT_SCALE_DIR").map(PathBuf::from);
    let folder = tempfile::tempdir().unwrap();
    let folder = kept.as_deref().unwrap_or(folder.path());
    measure(folder, workloads, days);
}
