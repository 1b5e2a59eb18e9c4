//! What is told, of a state that is filled as a server fills it.

use std::collections::BTreeMap;

use relight_model::schedule::JobId;

use super::*;
use crate::evidence::detail::Ended;
use crate::runs::Shown;
use crate::standing::tests::{House, at};

fn text(house: &House, hours: i64) -> String {
    let mut history = History::default();
    history.follow(&house.state, &house.plan).unwrap();
    let size = |day: i64| Size {
        time: at(24 * day),
        used: 100 + 10 * u64::try_from(day).unwrap(),
        available: 200,
    };
    let sizes = Sizes::new(BTreeMap::from([("main".to_string(), (0..5).map(size).collect())]));
    let metrics = Metrics {
        plan: &house.plan,
        history: &history,
        shown: &Shown::default(),
        growth: &sizes.growth(),
        sent: &BTreeMap::new(),
        started: at(0),
        now: at(hours),
    };
    metrics.text()
}

#[track_caller]
fn has(text: &str, lines: &[&str]) {
    for line in lines {
        assert!(
            text.lines().any(|found| found == *line),
            "{line} is not in\n{text}"
        );
    }
}

#[test]
fn metrics_tell_what_is_kept_and_what_is_not() {
    let house = House::new();
    let empty = text(&house, 0);
    has(
        &empty,
        &[
            "relight_workloads{coverage=\"protected\"} 1",
            "relight_workloads{coverage=\"exclusion-expired\"} 1",
            "relight_workloads_without_recovery_point 1",
            "relight_workload_rpo_met{workload=\"vm/1\",policy=\"linux\"} 0",
            "relight_workload_rto_met{workload=\"vm/1\",policy=\"linux\"} 0",
            "relight_clock_trusted 1",
        ],
    );
    house.run(JobId::backup(&house.vm), 0, Ended::Good);
    house.run(JobId::backup(&house.vm), 24, Ended::Failed);
    house.run(JobId::verify(&house.vm), 25, Ended::Failed);
    house.drill(2, Some(30));
    let label = "{workload=\"vm/1\",policy=\"linux\"}";
    let lines = |pairs: &[(&str, f64)]| -> Vec<String> {
        let line = |(name, value): &(&str, f64)| format!("relight_workload_{name}{label} {value}");
        pairs.iter().map(line).collect()
    };
    let later = text(&house, 30);
    let expected = lines(&[
        ("rpo_met", 0.0),
        ("rpo_promised_seconds", 26.0 * 3600.0),
        ("rpo_exposure_seconds", 30.0 * 3600.0),
        ("rto_met", 1.0),
        ("rto_expected_seconds", 1800.0),
        ("failures", 1.0),
        ("last_backup_good", 0.0),
        ("last_verification_good", 0.0),
        ("last_drill_good", 1.0),
        ("backup_size_bytes", (10_u64 << 30) as f64),
    ]);
    has(&later, &expected.iter().map(String::as_str).collect::<Vec<_>>());
    has(
        &later,
        &[
            "relight_objectives{objective=\"rpo\",verdict=\"missed\"} 1",
            "relight_repository_used_bytes{repository=\"main\"} 140",
            // 10 a day and 200 are left: 20 days after the fourth.
            &format!(
                "relight_repository_full_timestamp_seconds{{repository=\"main\"}} {}",
                at(24 * 24).as_second()
            ),
        ],
    );
    assert!(text(&house, 25).contains(&lines(&[("rpo_met", 1.0)])[0]));
}

#[test]
fn nothing_that_happens_makes_more_series() {
    let house = House::new();
    house.run(JobId::backup(&house.vm), 0, Ended::Good);
    let before = text(&house, 1).lines().count();
    for n in 1..40 {
        house.run(JobId::backup(&house.vm), n * 24, Ended::Good);
    }
    assert_eq!(text(&house, 1000).lines().count(), before);
}

/// Takes what is posted, and mail, and gives what came.
mod receivers {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::net::TcpListener;
    use std::sync::mpsc::{Receiver, channel};

    /// A web address; answers the status that `answers` gives for each.
    pub fn web(answers: &'static [u16]) -> (String, Receiver<(String, serde_json::Value)>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (tell, told) = channel();
        std::thread::spawn(move || {
            for (n, stream) in listener.incoming().enumerate() {
                let mut reader = BufReader::new(stream.unwrap());
                let (mut first, mut length) = (String::new(), 0);
                reader.read_line(&mut first).unwrap();
                loop {
                    let mut line = String::new();
                    reader.read_line(&mut line).unwrap();
                    if let Some(value) = line.to_lowercase().strip_prefix("content-length: ") {
                        length = value.trim().parse().unwrap();
                    }
                    if line.trim().is_empty() {
                        break;
                    }
                }
                let mut body = vec![0; length];
                reader.read_exact(&mut body).unwrap();
                let status = answers.get(n).copied().unwrap_or(200);
                let answer = format!("HTTP/1.1 {status} x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
                reader.get_mut().write_all(answer.as_bytes()).unwrap();
                if tell
                    .send((first, serde_json::from_slice(&body).unwrap()))
                    .is_err()
                {
                    return;
                }
            }
        });
        (address, told)
    }

    /// A mail server (RFC 5321) that takes everything.
    pub fn mail() -> (String, Receiver<String>) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let (tell, told) = channel();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut reader = BufReader::new(stream.unwrap());
                let (mut all, mut data) = (String::new(), false);
                reader.get_mut().write_all(b"220 x\r\n").unwrap();
                let mut line = String::new();
                while reader.read_line(&mut line).unwrap_or(0) > 0 {
                    all.push_str(&line);
                    let answer = match (data, line.trim()) {
                        (true, ".") => Some("250 taken"),
                        (true, _) => None,
                        (false, "DATA") => Some("354 go on"),
                        (false, "QUIT") => Some("221 bye"),
                        (false, _) => Some("250 x"),
                    };
                    data = (data || line.trim() == "DATA") && line.trim() != ".";
                    if let Some(answer) = answer {
                        let _ = reader.get_mut().write_all(format!("{answer}\r\n").as_bytes());
                    }
                    line.clear();
                }
                let _ = tell.send(all);
            }
        });
        (address, told)
    }
}

/// A monitor of a configuration, without repositories, that tells at once.
fn monitor(folder: &std::path::Path, text: &str) -> Arc<Monitor> {
    std::fs::write(folder.join("relight.toml"), text).unwrap();
    let config = Config::load(&folder.join("relight.toml")).unwrap();
    std::fs::create_dir_all(&config.server.state).unwrap();
    let state = Arc::new(State::open(&config.server.state).unwrap());
    let context = Context {
        instance: state.instance_id().unwrap(),
        state,
        datastores: BTreeMap::new(),
        tasks: relight_pbs::service::tasks::Tasks::open(folder.join("tasks"), "lab").unwrap(),
        host: "lab".into(),
        sandbox: folder.join("sandbox"),
        logs: folder.join("logs"),
        approvals: crate::config::ApprovalsConfig::default(),
    };
    let board = Board::open(&config).unwrap();
    let mut monitor = Arc::into_inner(Monitor::new(&config, board, &context)).unwrap();
    monitor.settle = Duration::ZERO;
    Arc::new(monitor)
}

const WAIT: Duration = Duration::from_secs(20);

#[test]
fn people_are_told_once_by_mail_and_web_also_after_a_restart() {
    let (web, posted) = receivers::web(&[]);
    let (slack, chatted) = receivers::web(&[500]);
    let (mail, mailed) = receivers::mail();
    let text = format!(
        "[server]\nstate = 'state'\n[mail]\nserver = '{mail}'\nfrom = 'Relight <r@lab.example>'\ntls = 'none'\n
         [[repository]]\nname = 'main'\nlocation = 'repo'\nkey-file = 'key'\n
         [policy.files]\nschedule = '02:00'\nrepository = 'main'\nmethod = 'files'\nretention = {{ keep-last = 2 }}\nrpo = '1 h'\n
         [[workload]]\nname = 'host/web'\npolicy = 'files'\nsource = {{ paths = ['/srv'] }}\n
         [[route]]\nname = 'json'\nto = 'http://{web}/secret'\nevents = ['rpo', 'success']\n
         [[route]]\nname = 'chat'\nto = 'slack+http://{slack}/secret'\nevents = ['rpo']\n
         [[route]]\nname = 'mail'\nto = 'mailto:a@lab.example,b@lab.example'\nevents = ['rpo']\n
         [[route]]\nname = 'later'\nto = 'http://{web}/later'\nevents = ['rpo']\nafter = '1 d'\n"
    );
    let folder = tempfile::tempdir().unwrap();
    let now: Timestamp = "2026-11-20T12:00:00Z".parse().unwrap();
    let first = monitor(folder.path(), &text);
    Notifier::default().tell(&first, now).unwrap();
    let (line, letter) = posted.recv_timeout(WAIT).unwrap();
    assert!(line.starts_with("POST /secret "), "{line}");
    assert_eq!(letter["server"], "lab");
    assert_eq!(letter["lines"][0]["subject"], "host/web");
    assert_eq!(letter["lines"][0]["news"], "new");
    assert!(
        letter["lines"][0]["text"]
            .as_str()
            .unwrap()
            .contains("there is no recovery point")
    );
    chatted.recv_timeout(WAIT).unwrap();
    let mail = mailed.recv_timeout(WAIT).unwrap();
    for says in [
        "RCPT TO:<a@lab.example>",
        "RCPT TO:<b@lab.example>",
        "Subject: [lab] host/web: rpo",
        "no recovery point",
    ] {
        assert!(mail.contains(says), "{says}: {mail}");
    }
    // The chat did not take it, and is told again; the others are not, even by a server that was started anew.
    drop(first);
    let second = monitor(folder.path(), &text);
    let mut notifier = Notifier::default();
    notifier
        .tell(&second, now + SignedDuration::from_mins(5))
        .unwrap();
    let (_, again) = chatted.recv_timeout(WAIT).unwrap();
    assert!(
        again["text"]
            .as_str()
            .unwrap()
            .starts_with("*lab: host/web: rpo*\n"),
        "{again}"
    );
    assert!(posted.try_recv().is_err() && mailed.try_recv().is_err());
    assert_eq!(second.sent.lock().unwrap()["chat"], Sent { good: 1, failed: 0 });
    // It is well again: whoever was told is told that, and whoever was to be told later never is.
    let job = JobId::backup(&"host/web".parse().unwrap());
    let started = now + SignedDuration::from_mins(10);
    let new = crate::state::NewRun {
        job,
        repository: None,
        due: started,
        started,
        attempt: 1,
        requested: false,
    };
    let run = second
        .state
        .begin_runs(&[new], &Default::default())
        .unwrap()
        .remove(0);
    let end = crate::state::RunEnd {
        number: run.number,
        ended: started,
        outcome: Ended::Good,
        code: None,
        message: None,
        snapshot: None,
        figures: Default::default(),
    };
    second.state.end_run(&end, &Default::default(), &[]).unwrap();
    second.follow().map(drop).unwrap();
    notifier.tell(&second, started).unwrap();
    let (_, over) = posted.recv_timeout(WAIT).unwrap();
    assert_eq!(over["lines"][0]["news"], "over");
    assert_eq!(over["lines"][1]["event"], "success");
    assert!(posted.recv_timeout(Duration::from_millis(300)).is_err());
}
