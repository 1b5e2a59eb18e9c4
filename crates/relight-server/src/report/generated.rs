//! Evidence for tests: a quarter of a small lab, day by day.

use jiff::{SignedDuration, Timestamp};
use relight_model::objective::Verdict;
use relight_model::objective::exercise::Recovered;
use relight_model::plan::{PickRule, Plan, Stage};
use relight_model::schedule::JobId;
use relight_model::{TimeSpan, Workload};

use super::{Collector, Found, Report, RepositoryStanding, Subject};
use crate::evidence::detail::{
    DrillDetail, Ended, ExerciseDetail, Figures, NegativeControl, Probed, RunDetail, Step, details,
};
use crate::evidence::{Body, Head, Kind, Outcome, Verified};

pub(super) const PLAN: &str = r#"
[plan]
time-zone = "Europe/Berlin"
[[repository]]
name = "main"
forget = "07:00"
collect = "09:00"
[[repository]]
name = "archive"
forget = "07:00"
collect = "09:00"
[policy.linux]
schedule = "02:00"
repository = "main"
retention = { keep-daily = 14 }
rpo = "24 h"
rpo-tolerance = "3 h"
rto = "4 h"
verify = "sat 12:00"
drill = "monthly"
[[policy.linux.copy]]
repository = "archive"
schedule = "weekly"
[[workload]]
name = "vm/100"
policy = "linux"
stage = "network"
[[workload]]
name = "vm/101"
policy = "linux"
stage = "application"
[[workload]]
name = "vm/900"
exclude = "scratch disks"
exclude-until = "2027-12-31"
[exercise]
schedule = "*-2-15 08:00"
order = ["network", "application"]
rto = "12 h"
[[route]]
name = "team"
to = "mailto:backup@example.org"
events = ["failure"]
"#;

pub(super) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

/// Writes a log.
pub(super) struct Log {
    pub records: Vec<Body>,
    run: u64,
}

impl Log {
    pub fn new() -> Self {
        Self {
            records: Vec::new(),
            run: 0,
        }
    }

    pub fn add(&mut self, time: Timestamp, kind: Kind, who: &str, what: &str, outcome: Outcome) -> u64 {
        let sequence = self.records.len() as u64 + 1;
        self.records.push(Body {
            sequence,
            time,
            kind,
            who: Some(who.into()),
            what: what.into(),
            outcome,
            detail: serde_json::Map::new(),
        });
        sequence
    }

    fn detail(&mut self, detail: &impl serde::Serialize) {
        self.records.last_mut().unwrap().detail = details(detail);
    }

    /// A run that took so many minutes.
    pub fn run(&mut self, started: Timestamp, minutes: i64, job: JobId, ended: Ended) -> u64 {
        self.run += 1;
        let time = started + SignedDuration::from_mins(minutes);
        let outcome = match ended {
            Ended::Good => Outcome::Done,
            _ => Outcome::Failed,
        };
        let sequence = self.add(time, Kind::Run, "scheduler", &job.to_string(), outcome);
        let bad = ended != Ended::Good;
        self.detail(&RunDetail {
            run: self.run,
            job,
            due: started,
            started,
            ended,
            attempt: 1,
            pushed: false,
            code: bad.then(|| "RL201".into()),
            message: bad.then(|| "the host does not answer".into()),
            repository: Some("main".into()),
            snapshot: None,
            figures: Figures {
                size: Some(20 << 30),
                ..Figures::default()
            },
        });
        sequence
    }

    /// A drill that took so many minutes; none: it failed.
    pub fn drill(&mut self, requested: Timestamp, workload: &Workload, minutes: Option<u64>) -> u64 {
        let ended = if minutes.is_some() {
            Ended::Good
        } else {
            Ended::Failed
        };
        self.run(requested, 60, JobId::drill(workload), ended);
        let time = requested + SignedDuration::from_mins(60);
        let sequence = self.add(
            time,
            Kind::Drill,
            "scheduler",
            &format!("drill {workload}"),
            Outcome::Done,
        );
        let measured = minutes.map(|minutes| TimeSpan::from_secs(minutes * 60));
        let took = measured.unwrap_or_default();
        self.detail(&DrillDetail {
            run: self.run,
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
                took: TimeSpan(took.0 / 2),
            }],
            probes: vec![Probed {
                name: "content".into(),
                passed: measured.is_some(),
                seen: "all files".into(),
            }],
            control: Some(NegativeControl {
                spoiled: "one file".into(),
                noticed: true,
            }),
            measured,
            promised: Some(TimeSpan::from_secs(4 * 3600)),
            verdict: Verdict::NotMeasured,
            torn_down: true,
            remarks: Vec::new(),
            code: None,
            message: None,
        });
        sequence
    }

    pub fn exercise(&mut self, requested: Timestamp, workloads: &[(Workload, Stage)], hours: i64) -> u64 {
        self.run(requested, hours * 60, JobId::exercise(), Ended::Good);
        let time = requested + SignedDuration::from_hours(hours);
        let sequence = self.add(time, Kind::Drill, "scheduler", "exercise", Outcome::Done);
        let step = SignedDuration::from_hours(hours) / workloads.len() as i32;
        let recovered = workloads
            .iter()
            .enumerate()
            .map(|(n, (workload, stage))| Recovered {
                workload: workload.clone(),
                stage: *stage,
                began: requested + step * n as i32,
                ended: requested + step * (n as i32 + 1),
                good: true,
            });
        self.detail(&ExerciseDetail {
            run: self.run,
            requested,
            recovered: recovered.collect(),
            stages: Vec::new(),
            out_of_order: Vec::new(),
            measured: Some(TimeSpan::from_secs(hours as u64 * 3600)),
            promised: None,
            verdict: Verdict::NotPromised,
        });
        sequence
    }
}

pub(super) fn workload(name: &str) -> Workload {
    name.parse().unwrap()
}

/// The first quarter of 2026 in the lab of [`PLAN`], in which everything goes well but what `change` does to a day.
pub(super) fn quarter(mut change: impl FnMut(i64, &mut Log, Timestamp) -> bool) -> Log {
    let mut log = Log::new();
    let begin = at("2025-12-31T01:00:00Z");
    log.add(
        begin,
        Kind::Server,
        "relight",
        "the server was started",
        Outcome::Done,
    );
    let both = [workload("vm/100"), workload("vm/101")];
    for day in 0..91 {
        let start = begin + SignedDuration::from_hours(24 * day);
        if change(day, &mut log, start) {
            continue;
        }
        for one in &both {
            log.run(start, 40, JobId::backup(one), Ended::Good);
        }
        let date = start.to_zoned(jiff::tz::TimeZone::UTC).date();
        for one in &both {
            if date.weekday() == jiff::civil::Weekday::Saturday {
                log.run(
                    start + SignedDuration::from_hours(10),
                    20,
                    JobId::verify(one),
                    Ended::Good,
                );
            }
            if date.weekday() == jiff::civil::Weekday::Monday {
                log.run(
                    start + SignedDuration::from_hours(1),
                    20,
                    JobId::copy(one, "archive"),
                    Ended::Good,
                );
            }
            if date.day() == 1 {
                log.drill(start + SignedDuration::from_hours(3), one, Some(45));
            }
        }
        if (date.month(), date.day()) == (2, 15) {
            let all = [
                (workload("vm/100"), Stage::Network),
                (workload("vm/101"), Stage::Application),
            ];
            log.exercise(start + SignedDuration::from_hours(6), &all, 8);
        }
    }
    log
}

pub(super) fn repositories() -> Vec<RepositoryStanding> {
    let standing = |name: &str| RepositoryStanding {
        name: name.into(),
        location: format!("/srv/{name}"),
        failure: None,
        found: Some(Found {
            id: "00".repeat(16),
            format: 1,
            created: at("2025-06-01T10:00:00Z"),
            encryption: "AES-256-GCM",
            keys: vec!["key-file".into(), "recovery".into()],
            object_lock: false,
            parity_percent: 0,
        }),
    };
    vec![standing("main"), standing("archive")]
}

/// The report of January to March.
pub(super) fn report(plan: &Plan, log: &Log) -> Report {
    let subject = Subject::new(
        [1; 16],
        [2; 32],
        PLAN,
        (at("2025-12-31T23:00:00Z"), at("2026-03-31T22:00:00Z")),
        at("2026-04-01T10:00:00Z"),
    );
    let mut collector = Collector::new(plan, subject);
    log.records.iter().for_each(|body| collector.take(body));
    let verified = Verified {
        records: log.records.len() as u64,
        first: log.records.first().map(|body| body.time),
        last: log.records.last().map(|body| body.time),
        head: Some(Head {
            sequence: log.records.len() as u64,
            hash: "ab".repeat(32),
        }),
        broken: None,
    };
    collector.finish(verified, repositories())
}
