//! The linter: what it finds in plans that cannot keep their promises, and that it finds nothing in one that can.

use std::time::Instant;

use jiff::Timestamp;
use relight_model::check::{Code, Facts, Finding, RepositoryFacts, Severity, WorkloadFacts, check};
use relight_model::objective::forecast::Measurement;
use relight_model::plan::Plan;
use relight_model::{ByteSize, Rate};

const LAB: &str = include_str!("../../../dist/plan.toml");

fn now() -> Timestamp {
    "2026-11-23T05:00:00Z".parse().unwrap()
}

/// What was measured in the lab.
fn facts() -> Facts {
    let mut facts = Facts::at(now());
    let measured = RepositoryFacts {
        restore_rate: Some(Rate(200 << 20)),
        backup_rate: Some(Rate(150 << 20)),
    };
    facts.repositories.insert("main".into(), measured);
    facts.storages_without_snapshots.insert("local-path".into());
    facts
}

fn findings(text: &str) -> Vec<Finding> {
    check(
        &Plan::parse(text).unwrap_or_else(|errors| panic!("{errors}")),
        &facts(),
    )
}

/// The findings with a code in a plan of the lab where `from` became `to`.
fn after(from: &str, to: &str, code: Code) -> Vec<Finding> {
    assert!(LAB.contains(from), "{from}");
    let mut found = findings(&LAB.replacen(from, to, 1));
    found.retain(|finding| finding.code == code);
    found
}

#[test]
fn the_labs_plan_can_keep_its_promises() {
    let found = findings(LAB);
    let bad: Vec<String> = found
        .iter()
        .filter(|finding| finding.severity > Severity::Advice)
        .map(ToString::to_string)
        .collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

#[test]
fn each_contradiction_is_found_with_its_place_and_a_fix() {
    let mut wrong = Vec::new();
    for (from, to, code, at, reason, fix) in [
        (
            "stagger = \"10 m\"",
            "stagger = \"4 h\"",
            Code::SpreadTooLong,
            "schedule = \"0/6:00\"",
            "are 4 h together, but two runs may be 6 h apart",
            "stagger = \"90m\"",
        ),
        (
            "rpo-tolerance = \"5 h\"            # a",
            "# a",
            Code::RpoSchedule,
            "rpo = \"24 h\"",
            "up to 1 d 1 h lie between two runs, and a run takes 28 m 27 s: 1 d 1 h in all, but 1 d are permitted",
            "rpo-tolerance = \"1h 30m\", or a shorter schedule",
        ),
        (
            "schedule = \"02:00\"",
            "schedule = \"mon..fri 02:00\"",
            Code::RpoSchedule,
            "rpo = \"24 h\"",
            "up to 3 d 1 h lie between two runs",
            "schedule = \"0/12:00\"",
        ),
        (
            "log = \"5 m\"",
            "log = \"7 h\"",
            Code::RpoSchedule,
            "rpo = \"6 h\"",
            "the log may be 7 h old",
            "rpo = \"7h\"",
        ),
        (
            "rto = \"1 h\"",
            "rto = \"10 m\"",
            Code::RtoSpeed,
            "rto = \"10 m\"",
            "pg/pg01",
            "rto = \"15m\"",
        ),
        (
            "repository = \"main\"\nretention = { keep-within = \"14d\" }\nrpo = \"24 h\"",
            "repository = \"archive\"\nretention = { keep-within = \"14d\" }\nrpo = \"24 h\"",
            Code::RtoTier,
            "rto = \"2 h\"",
            "can be read after 12 h only",
            "another repository, or rto = \"12h\"",
        ),
        (
            "method = \"base-backup\"",
            "method = \"dump\"",
            Code::NoPointInTime,
            "point-in-time = \"14 d\"",
            "mongo/mongo01 and 1 more: no log can be applied to what the method dump makes"
                .trim_start_matches("mongo/mongo01 and 1 more: "),
            "method = \"base-backup\"",
        ),
        (
            "log = \"5 m\"\n",
            "",
            Code::NoPointInTime,
            "point-in-time",
            "need the log",
            "log = \"5m\"",
        ),
        (
            "point-in-time = \"14 d\"",
            "point-in-time = \"90 d\"",
            Code::PointInTimeRetention,
            "point-in-time",
            "promised for 90 d",
            "keep-within = \"90d\"",
        ),
        (
            "collect = \"09:00\"",
            "collect = \"09:00\"\nlock = \"30 d\"",
            Code::LockLongerThanRetention,
            "retention",
            "locks what it stores for 30 d",
            "keep-within = \"30d\", or lock = \"",
        ),
        (
            "retention = { keep-monthly = 84 }",
            "retention = { keep-daily = 60 }",
            Code::CopyTooRare,
            "schedule = \"*-*-1 04:30\"",
            "promises keep-daily",
            "daily",
        ),
        (
            "length = \"11 h\"",
            "length = \"6 h 20 m\"",
            Code::WindowTooSmall,
            "length = \"6 h 20 m\"",
            "the window is open for 20 m only",
            "length = \"",
        ),
        (
            "schedule = \"02:00\"",
            "schedule = \"12:00\"",
            Code::ScheduleOutsideWindow,
            "schedule = \"12:00\"",
            "is due at Mon 12:00, when the window \"night\" is closed, and opens 8 h later",
            "schedule = \"20:00\"",
        ),
        (
            "name = \"vm/100\"\npolicy = \"linux\"",
            "name = \"vm/100\"",
            Code::NoPolicy,
            "name = \"vm/100\"",
            "not backed up",
            "policy = \"linux\"",
        ),
        (
            "2027-12-31",
            "2026-11-22",
            Code::ExclusionExpired,
            "exclude-until",
            "scratch disks",
            "decide again",
        ),
        (
            "drill = { schedule = \"monthly\", pick = \"latest\", host = \"pve2\" }",
            "",
            Code::NoDrill,
            "databases",
            "never tested",
            "quarterly",
        ),
        (
            "verify = \"sun 12:00\"",
            "",
            Code::NoVerify,
            "databases",
            "never read",
            "weekly",
        ),
        (
            "method = \"system-state\"",
            "method = \"replication\"",
            Code::ReplicationIsNoBackup,
            "method = \"replication\"",
            "follows its original",
            "image",
        ),
        (
            "rpo = \"6 h\"",
            "",
            Code::NothingPromised,
            "databases",
            "no RPO",
            "rpo = \"24h\"",
        ),
        (
            "host = \"k8s1\"\nsize",
            "host = \"k8s1\"\nstorage = \"local-path\"\nsize",
            Code::StorageWithoutSnapshots,
            "method = \"volume-snapshot\"",
            "cannot make snapshots",
            "files",
        ),
        (
            "collect = \"09:00\"",
            "#",
            Code::NeverForgotten,
            "[[repository]]",
            "space is never collected",
            "collect",
        ),
        (
            "size = \"32 GiB\"\nstage = \"network\"",
            "size = \"32 GiB\"",
            Code::StageMissing,
            "name = \"vm/100\"",
            "does not know when",
            "stage =",
        ),
        (
            "order = [\"identity\", ",
            "order = [",
            Code::StageMissing,
            "name = \"host/dc01\"",
            "not in the order",
            "add \"identity\"",
        ),
    ] {
        let found = after(from, to, code);
        let Some(first) = found.first() else {
            wrong.push(format!("{code}: nothing found"));
            continue;
        };
        // The place is on the line that is to be changed.
        let changed = LAB.replacen(from, to, 1);
        let line = changed.lines().nth(first.at.line as usize - 1).unwrap();
        let word = at.split(" = ").next().unwrap();
        if !(first.reason.contains(reason) && first.fix.contains(fix) && line.contains(word)) {
            wrong.push(format!("{first}\n  wanted {word} in {line}: {reason}: {fix}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn a_fix_that_is_proposed_settles_the_finding() {
    let without = LAB.replacen("rpo-tolerance = \"5 h\" ", "#", 1);
    assert!(
        findings(&without)
            .iter()
            .any(|finding| finding.code == Code::RpoSchedule)
    );
    for fix in ["rpo-tolerance = \"1h 30m\" ", "schedule = \"0/12:00\" # "] {
        let fixed = if fix.starts_with("schedule") {
            without.replacen("schedule = \"02:00\"", fix, 1)
        } else {
            LAB.replacen("rpo-tolerance = \"5 h\" ", fix, 1)
        };
        let still: Vec<Finding> = findings(&fixed)
            .into_iter()
            .filter(|finding| finding.code == Code::RpoSchedule)
            .collect();
        assert!(still.is_empty(), "{fix}: {still:#?}");
    }
}

#[test]
fn what_was_measured_prevails_over_what_was_estimated() {
    let plan = Plan::parse(LAB).unwrap();
    let mut facts = facts();
    let slow = Measurement {
        at: now(),
        size: ByteSize::gib(15),
        restore: "5m".parse().unwrap(),
        rest: "15m".parse().unwrap(),
    };
    let known = WorkloadFacts {
        size: Some(ByteSize::gib(150)),
        drills: vec![slow],
        log_lag: Some("8h".parse().unwrap()),
        ..WorkloadFacts::default()
    };
    facts.workloads.insert("pg/pg01".parse().unwrap(), known);
    let found = check(&plan, &facts);
    let rto = found
        .iter()
        .find(|finding| finding.code == Code::RtoSpeed)
        .unwrap();
    assert!(rto.reason.contains("1 h 5 m are expected for 150 GiB"), "{rto}");
    let rpo = found
        .iter()
        .find(|finding| finding.code == Code::RpoSchedule)
        .unwrap();
    assert!(rpo.reason.contains("pg/pg01: the log may be 8 h old"), "{rpo}");
}

#[test]
fn what_the_plan_does_not_mention_is_found() {
    let plan = Plan::parse(LAB).unwrap();
    let mut facts = facts();
    facts.discovered = vec![
        "vm/100".parse().unwrap(),
        "vm/555".parse().unwrap(),
        "vm/900".parse().unwrap(),
    ];
    let found = check(&plan, &facts);
    let found: Vec<&Finding> = found
        .iter()
        .filter(|finding| finding.code == Code::Unprotected)
        .collect();
    assert_eq!(found.len(), 1);
    assert_eq!(found[0].fix, "[[workload]] name = \"vm/555\", policy = \"linux\"");
}

#[test]
fn codes_are_distinct_and_documented() {
    let page = include_str!("../../../docs/plan.md");
    let mut names: Vec<&str> = Code::ALL.iter().map(|code| code.name()).collect();
    names.dedup();
    assert_eq!(names.len(), Code::ALL.len());
    for name in names {
        assert!(
            page.contains(&format!("| {name} |")),
            "{name} is not in docs/plan.md"
        );
    }
}

#[test]
fn a_thousand_workloads_are_checked_in_a_moment() {
    let mut text = LAB.to_owned();
    for n in 0..1_000 {
        text += &format!(
            "[[workload]]\nname = \"vm/{}\"\npolicy = \"linux\"\nhost = \"h{}\"\nsize = \"5 GiB\"\nstage = \"application\"\n",
            10_000 + n,
            n % 100
        );
    }
    let began = Instant::now();
    let plan = Plan::parse(&text).unwrap();
    let parsed = began.elapsed();
    let found = check(&plan, &facts());
    println!(
        "parse {parsed:?}, check {:?}, {} findings",
        began.elapsed() - parsed,
        found.len()
    );
    assert_eq!(plan.workloads.len(), 1_015);
}
