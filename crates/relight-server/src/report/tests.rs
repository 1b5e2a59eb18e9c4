//! What a report says of generated evidence.

use std::collections::BTreeSet;
use std::io::Read;

use jiff::SignedDuration;
use relight_model::TimeSpan;
use relight_model::objective::Verdict;
use relight_model::plan::Plan;
use relight_model::schedule::JobId;
use serde_json::Value;

use super::generated::{Log, PLAN, at, quarter, report, workload};
use super::schema::Schema;
use super::{ControlVerdict, Report, State, html, oscal, pdf};
use crate::evidence::detail::Ended;
use crate::evidence::{Broken, Kind, Outcome};

fn plan() -> Plan {
    Plan::parse(PLAN).unwrap()
}

fn of(log: &Log) -> Report {
    report(&plan(), log)
}

fn state(report: &Report, claim: &str) -> State {
    report.claim(claim).unwrap().state
}

fn verdict(report: &Report, id: &str) -> ControlVerdict {
    report
        .controls
        .iter()
        .find(|control| control.id == id)
        .unwrap()
        .verdict
}

/// A day without backups but what `day` does.
fn but(wanted: i64, mut day: impl FnMut(&mut Log, jiff::Timestamp)) -> Log {
    quarter(|n, log, start| {
        if n == wanted {
            day(log, start);
        }
        n == wanted
    })
}

#[test]
fn a_good_quarter_satisfies_every_control() {
    let report = of(&quarter(|_, _, _| false));
    for claim in &report.claims {
        assert_eq!(claim.state, State::Supported, "{}: {}", claim.id, claim.reason);
    }
    for control in &report.controls {
        assert_eq!(
            control.verdict,
            ControlVerdict::Satisfied,
            "{}: {}",
            control.id,
            control.reason
        );
    }
    let one = &report.workloads[0];
    assert_eq!(one.runs.good, 90);
    // 24 hours between the captures, and 40 minutes until the second one was there; clocks change in UTC by nothing.
    assert_eq!(
        one.rpo.objective.measured,
        Some(TimeSpan::from_secs(24 * 3600 + 40 * 60))
    );
    assert_eq!(
        one.rto.objective.measured,
        Some(TimeSpan::from_secs(45 * 60)),
        "{}",
        one.rto.reason
    );
    assert_eq!(
        (one.drills.care.occasions.due, one.drills.care.occasions.missed),
        (3, 0)
    );
}

#[test]
fn a_missed_day_is_a_gap_with_begin_end_and_cause() {
    // The host does not answer on one day: three tries fail.
    let mut failed = Vec::new();
    let log = but(40, |log, start| {
        for n in 0..3 {
            let start = start + SignedDuration::from_mins(10 * n);
            failed.push(log.run(start, 1, JobId::backup(&workload("vm/100")), Ended::Failed));
        }
        log.run(start, 40, JobId::backup(&workload("vm/101")), Ended::Good);
    });
    let report = of(&log);
    let (bad, good) = (&report.workloads[0], &report.workloads[1]);
    assert!(matches!(bad.rpo.verdict, Verdict::Missed { .. }));
    assert!(matches!(good.rpo.verdict, Verdict::Met { .. }));
    let gap = &bad.gaps[0];
    assert_eq!(gap.begin, Some(at("2026-02-08T01:00:00Z")));
    assert_eq!(gap.broken, at("2026-02-09T04:00:00Z"));
    assert_eq!(gap.end, at("2026-02-10T01:40:00Z"));
    assert_eq!(
        gap.cause,
        "3 runs gave no good snapshot, the last: backup vm/100: failed RL201: the host does not answer"
    );
    let cited: Vec<u64> = gap.records.iter().map(|one| one.sequence).collect();
    assert_eq!(&cited[1..4], &failed);
    assert_eq!((bad.runs.good, bad.runs.failed, bad.gap_count), (89, 3, 1));

    let claim = report.claim("rpo").unwrap();
    assert_eq!(
        (claim.state, claim.holds, claim.fails),
        (State::Contradicted, 1, 1)
    );
    assert_eq!(claim.contradictions[0].records, cited);
    assert_eq!(verdict(&report, "11.2"), ControlVerdict::Contradicted);
    assert_eq!(verdict(&report, "CP-10(4)"), ControlVerdict::Satisfied);
}

#[test]
fn an_incomplete_run_is_no_recovery_point() {
    let log = but(40, |log, start| {
        log.run(start, 40, JobId::backup(&workload("vm/100")), Ended::Incomplete);
        log.run(start, 40, JobId::backup(&workload("vm/101")), Ended::Good);
    });
    let report = of(&log);
    assert_eq!(report.workloads[0].runs.incomplete, 1);
    assert_eq!(state(&report, "rpo"), State::Contradicted);
    assert_eq!(state(&report, "backups"), State::Supported);
}

#[test]
fn a_server_that_was_stopped_is_named_as_the_cause() {
    let log = but(40, |log, start| {
        log.add(
            start,
            Kind::Server,
            "relight",
            "the server was stopped",
            Outcome::Done,
        );
    });
    let gap = &of(&log).workloads[0].gaps[0];
    assert_eq!(gap.cause, "the server was stopped or started in this time");
    assert_eq!(gap.records[1].what, "the server was stopped");
}

#[test]
fn a_drill_that_failed_contradicts_until_one_is_good_again() {
    let one = workload("vm/100");
    // On the last day: nothing good comes after it.
    let failed = but(90, |log, start| {
        log.drill(start, &one, None);
    });
    let report = of(&failed);
    let claim = report.claim("drills").unwrap();
    assert_eq!((claim.state, claim.fails), (State::Contradicted, 1));
    assert_eq!(claim.contradictions[0].subject, "vm/100");
    // The run and the drill have a record each; it is one drill.
    assert_eq!(claim.contradicts.count, 1);
    assert_eq!(verdict(&report, "11.5"), ControlVerdict::Contradicted);

    let mended = but(90, |log, start| {
        log.drill(start, &one, None);
        log.drill(start + SignedDuration::from_hours(3), &one, Some(50));
    });
    assert_eq!(state(&of(&mended), "drills"), State::Supported);
}

#[test]
fn drills_slower_than_promised_miss_the_rto() {
    let one = workload("vm/101");
    let log = but(80, |log, start| {
        for n in 0..4 {
            log.drill(start + SignedDuration::from_hours(n), &one, Some(300));
        }
    });
    let report = of(&log);
    assert!(matches!(report.workloads[1].rto.verdict, Verdict::Missed { .. }));
    assert_eq!(verdict(&report, "CP-10(4)"), ControlVerdict::Contradicted);
    // Recovery worked: that it took too long is another claim.
    assert_eq!(state(&report, "drills"), State::Supported);
    assert!(report.claim("rto").unwrap().contradicts.count > 0);
}

#[test]
fn a_restore_that_is_wrong_and_unnoticed_contradicts_the_tests() {
    let mut log = quarter(|_, _, _| false);
    let drill = log
        .records
        .iter_mut()
        .find(|body| body.kind == Kind::Drill)
        .unwrap();
    drill.detail["control"]["noticed"] = Value::Bool(false);
    let sequence = drill.sequence;
    let report = of(&log);
    let claim = report.claim("negative-controls").unwrap();
    assert_eq!(claim.state, State::Contradicted);
    assert_eq!(claim.contradictions[0].records, [sequence]);
}

#[test]
fn nothing_is_claimed_without_evidence() {
    let mut log = Log::new();
    let start = at("2026-03-31T21:00:00Z");
    log.add(
        start,
        Kind::Server,
        "relight",
        "the server was started",
        Outcome::Done,
    );
    let report = of(&log);
    for id in [
        "rpo",
        "rto",
        "drills",
        "verification",
        "copies",
        "exercise",
        "backups",
    ] {
        let claim = report.claim(id).unwrap();
        assert_eq!(claim.state, State::NoEvidence, "{id}: {}", claim.reason);
        assert_eq!((claim.supports.count, claim.contradicts.count), (0, 0));
    }
    assert_eq!(verdict(&report, "11.5"), ControlVerdict::NoEvidence);
    assert_eq!(verdict(&report, "CP-4"), ControlVerdict::NoEvidence);
    // Even what is supported is not satisfied for a time of which there is no evidence.
    assert_eq!(verdict(&report, "3.8.9"), ControlVerdict::Partly);
    assert!(report.remarks.iter().any(|remark| remark.contains("begins")));
}

#[test]
fn a_log_without_any_backup_for_longer_than_permitted_says_so() {
    let mut log = Log::new();
    let start = at("2026-03-01T00:00:00Z");
    log.add(
        start,
        Kind::Server,
        "relight",
        "the server was started",
        Outcome::Done,
    );
    let report = of(&log);
    assert_eq!(state(&report, "rpo"), State::Contradicted);
    assert!(report.workloads[0].gaps[0].open);
}

#[test]
fn a_broken_chain_satisfies_nothing() {
    let log = quarter(|_, _, _| false);
    let plan = plan();
    let mut report = report(&plan, &log);
    report.chain.verified.broken = Some(Broken {
        sequence: 17,
        why: "its content was changed".into(),
    });
    for control in super::controls::all(&report) {
        assert_eq!(control.verdict, ControlVerdict::Contradicted);
        assert!(control.reason.contains("record 17"));
    }
}

#[test]
fn details_of_another_version_count_for_nothing_and_are_told() {
    let mut log = quarter(|_, _, _| false);
    let sequence = {
        let body = log.records.iter_mut().rev().find(|body| body.kind == Kind::Run);
        let body = body.unwrap();
        body.detail["ended"] = Value::String("splendid".into());
        body.sequence
    };
    let report = of(&log);
    assert_eq!(report.chain.unreadable.count, 1);
    assert_eq!(report.chain.unreadable.records[0].sequence, sequence);
}

/// All numbers of records in a value of JSON.
fn cited(value: &Value, found: &mut BTreeSet<u64>) {
    match value {
        Value::Object(map) => {
            for (name, value) in map {
                match (name.as_str(), value) {
                    ("sequence", Value::Number(number)) => found.extend(number.as_u64()),
                    ("records", Value::Array(list)) => {
                        found.extend(list.iter().filter_map(Value::as_u64));
                        list.iter().for_each(|value| cited(value, found));
                    }
                    _ => cited(value, found),
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| cited(value, found)),
        _ => {}
    }
}

#[test]
fn every_claim_cites_records_that_are_there_and_of_the_period() {
    let log = but(40, |log, start| {
        log.run(start, 1, JobId::backup(&workload("vm/100")), Ended::Failed);
        log.drill(start, &workload("vm/101"), None);
    });
    let report = of(&log);
    let mut numbers = BTreeSet::new();
    cited(&serde_json::to_value(&report).unwrap(), &mut numbers);
    assert!(numbers.len() > 20);
    for number in &numbers {
        let body = &log.records[*number as usize - 1];
        assert_eq!(body.sequence, *number);
    }
    for claim in &report.claims {
        let of_plan = ["coverage", "promises", "plan-check", "encryption"].contains(&claim.id);
        if claim.holds > 0 && !of_plan {
            assert!(claim.supports.count > 0, "{} rests on nothing", claim.id);
        }
        // What was not done left no record.
        let absent = |why: &str| why.contains("were not done");
        for one in claim.contradictions.iter().filter(|_| !of_plan) {
            assert!(
                absent(&one.why) || !one.records.is_empty(),
                "{}: {}",
                claim.id,
                one.why
            );
        }
    }
    // Each control rests on claims that are in the report.
    for control in &report.controls {
        assert!(!control.claims.is_empty());
        assert!(control.claims.iter().all(|id| report.claim(id).is_some()));
    }
}

#[test]
fn hostile_names_are_no_markup() {
    let mut log = quarter(|_, _, _| false);
    let hostile = "</td><script>alert('1')</script>\u{202e}\u{0}& \"";
    log.add(
        at("2026-03-30T00:00:00Z"),
        Kind::Denial,
        hostile,
        hostile,
        Outcome::Denied,
    );
    log.add(
        at("2026-03-30T00:00:00Z"),
        Kind::Change,
        hostile,
        "x",
        Outcome::Done,
    );
    let mut page = String::new();
    html::write(&of(&log), &mut page).unwrap();
    assert!(!page.contains("<script"));
    assert!(!page.contains('\u{202e}') && !page.contains('\u{0}'));
    let escaped = "&lt;/td&gt;&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;\\u{202e}\\u{0}&amp; &quot;";
    assert!(page.contains(escaped));
    // Whatever names say, tags stay as the writer made them.
    for tag in ["table", "tr", "td", "th", "p", "section", "dl", "dd"] {
        let opened = page.matches(&format!("<{tag}>")).count() + page.matches(&format!("<{tag} ")).count();
        assert_eq!(opened, page.matches(&format!("</{tag}>")).count(), "{tag}");
    }
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("src="));
}

fn oscal_problems(document: &Value) -> Vec<String> {
    let text = include_str!("../../fixtures/oscal/oscal_assessment-results_schema-1.1.3.json");
    Schema::new(serde_json::from_str(text).unwrap()).check(document)
}

#[test]
fn oscal_is_as_the_published_schema_wants_it() {
    let hostile = " <b>\u{202e}\n*x*\u{0} ";
    let bad = but(40, |log, start| {
        log.run(start, 1, JobId::backup(&workload("vm/100")), Ended::Failed);
        let body = log.records.last_mut().unwrap();
        body.detail.insert("message".into(), hostile.into());
    });
    for log in [quarter(|_, _, _| false), bad, Log::new()] {
        let report = of(&log);
        let document = oscal::document(&report);
        assert_eq!(oscal_problems(&document), [""; 0]);
        let results = document["assessment-results"]["results"].as_array().unwrap();
        let findings = results
            .iter()
            .map(|result| result["findings"].as_array().unwrap().len());
        assert_eq!(findings.sum::<usize>(), report.controls.len());
        // What findings refer to is in the same result.
        for result in results {
            let known: Vec<&Value> = result["observations"]
                .as_array()
                .unwrap()
                .iter()
                .map(|one| &one["uuid"])
                .collect();
            for finding in result["findings"].as_array().unwrap() {
                for related in finding["related-observations"].as_array().unwrap() {
                    assert!(known.contains(&&related["observation-uuid"]));
                }
            }
        }
    }
}

#[test]
fn the_check_of_oscal_notices_what_is_wrong() {
    let good = oscal::document(&of(&quarter(|_, _, _| false)));
    let spoil = |path: &str, value: Value| {
        let mut bad = good.clone();
        *bad.pointer_mut(path).unwrap() = value;
        assert!(!oscal_problems(&bad).is_empty(), "{path}");
    };
    spoil("/assessment-results/uuid", "1".into());
    spoil("/assessment-results/metadata", Value::Object(Default::default()));
    spoil("/assessment-results/results", Value::Array(Vec::new()));
    spoil("/assessment-results/results/0/start", "yesterday".into());
    spoil(
        "/assessment-results/results/0/observations/0/props/0/value",
        " x".into(),
    );
    spoil(
        "/assessment-results/results/0/findings/0/target/status/state",
        "fine".into(),
    );
    spoil("/assessment-results/results/0/observations/0/methods/0", 1.into());
}

#[test]
fn a_pdf_has_all_pages_and_the_report_attached() {
    let mut log = quarter(|_, _, _| false);
    let name = "Zoë \u{4e2d}";
    log.add(at("2026-03-30T00:00:00Z"), Kind::Change, name, "x", Outcome::Done);
    let bytes = pdf::write(&of(&log)).unwrap();
    assert!(bytes.starts_with(b"%PDF-1.7"));
    let streams = streams(&bytes);
    let text = |wanted: &str| streams.iter().any(|stream| contains(stream, wanted.as_bytes()));
    assert!(text("(Backup and recovery: compliance report)"));
    assert!(text("(1 of "));
    // The fonts lack the second character; the attached JSON has it as it is.
    let shown = hex::encode_upper(b"Zo\xeb \\u{4e2d}");
    assert!(text(&shown));
    assert!(text(name));
    let pages = bytes.windows(10).filter(|part| part == b"/Type /Pag").count();
    assert!(pages > 3, "{pages}");
}

fn contains(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|here| here == part)
}

/// The streams of a PDF, inflated.
fn streams(bytes: &[u8]) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut rest = bytes;
    let mark = b">>\nstream\n";
    while let Some(at) = rest.windows(mark.len()).position(|here| here == mark) {
        rest = &rest[at + mark.len()..];
        let mut inflated = Vec::new();
        flate2::read::ZlibDecoder::new(rest)
            .read_to_end(&mut inflated)
            .unwrap();
        found.push(inflated);
    }
    found
}

#[test]
fn a_small_report_is_as_it_was() {
    let log = but(40, |log, start| {
        log.run(start, 1, JobId::backup(&workload("vm/100")), Ended::Failed);
        log.drill(start, &workload("vm/101"), None);
        log.add(
            start,
            Kind::Denial,
            "jane@pbs",
            "GET /datastore/main",
            Outcome::Denied,
        );
    });
    let mut page = String::new();
    html::write(&of(&log), &mut page).unwrap();
    let page = page.replace(env!("CARGO_PKG_VERSION"), "VERSION");
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/report.html");
    // RELIGHT_BLESS=1 writes it anew; look at the difference before it is committed.
    if std::env::var_os("RELIGHT_BLESS").is_some() {
        std::fs::write(path, &page).unwrap();
    }
    assert!(
        std::fs::read_to_string(path).unwrap() == page,
        "fixtures/report.html is another one"
    );
}

#[test]
fn whatever_happens_claims_cite_what_is_there_and_controls_follow_from_claims() {
    let ends = [
        Ended::Good,
        Ended::Good,
        Ended::Incomplete,
        Ended::Failed,
        Ended::Interrupted,
    ];
    for seed in 1..60_u64 {
        let mut lot = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let mut chance = |of: u64| {
            lot = lot
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (lot >> 33) % of
        };
        let log = quarter(|_, log, start| {
            if chance(4) > 0 {
                return false;
            }
            let one = workload(["vm/100", "vm/101", "vm/900", "vm/7"][chance(4) as usize]);
            let ended = ends[chance(5) as usize];
            match chance(5) {
                0 => log.run(start, 5, JobId::backup(&one), ended),
                1 => log.run(start, 5, JobId::verify(&one), ended),
                2 => log.run(start, 5, JobId::copy(&one, "archive"), ended),
                3 => log.drill(start, &one, (ended == Ended::Good).then_some(30)),
                _ => log.add(
                    start,
                    Kind::Server,
                    "relight",
                    "the server was stopped",
                    Outcome::Done,
                ),
            };
            true
        });
        let report = of(&log);
        let mut numbers = BTreeSet::new();
        cited(&serde_json::to_value(&report).unwrap(), &mut numbers);
        assert!(
            numbers
                .iter()
                .all(|number| (1..=log.records.len() as u64).contains(number))
        );
        for claim in &report.claims {
            assert_eq!(
                claim.state == State::Contradicted,
                claim.fails > 0,
                "{}",
                claim.id
            );
            assert_eq!(claim.contradictions.len(), claim.fails, "{}", claim.id);
            assert_eq!(claim.unproven.len(), claim.unknown, "{}", claim.id);
        }
        for control in &report.controls {
            let states: Vec<State> = control.claims.iter().map(|id| state(&report, id)).collect();
            let all = |wanted: State| states.iter().all(|state| *state == wanted);
            assert_eq!(
                control.verdict == ControlVerdict::Contradicted,
                states.contains(&State::Contradicted)
            );
            assert_eq!(
                control.verdict == ControlVerdict::Satisfied,
                all(State::Supported)
            );
            assert_eq!(
                control.verdict == ControlVerdict::NoEvidence,
                all(State::NoEvidence)
            );
        }
        for one in &report.workloads {
            // A promise that was kept has no gaps, one that was not has some.
            let met = matches!(one.rpo.verdict, Verdict::Met { .. });
            assert_eq!(met, one.gap_count == 0, "{}: {}", one.workload, one.rpo.reason);
        }
        assert_eq!(oscal_problems(&oscal::document(&report)), [""; 0]);
    }
}
