//! What the lab was promised, written down a second time: nothing here uses the plan, the scheduler or retention.

use std::collections::{BTreeMap, BTreeSet};

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};

use crate::Seen;

/// How old the newest recovery point may become: the RPO and its tolerance.
pub const PERMITTED_HOURS: &[(&str, i64)] = &[
    ("host/dc01", 29),
    ("host/win01", 29),
    ("host/win02", 29),
    ("m365/lab", 29),
    ("vm/100", 29),
    ("vm/101", 29),
    ("vm/102", 29),
    ("vm/103", 29),
    ("vm/201", 29),
    ("vm/202", 29),
    ("pg/pg01", 6),
    ("mongo/mongo01", 6),
    ("k8s/research", 29),
    ("k8s/services", 29),
];

/// Days on which something that was put in leaves fewer points, or one more.
pub const DISTURBED: &[(&str, &str)] = &[
    ("vm/101", "2026-03-10"),
    ("vm/101", "2026-03-11"),
    ("vm/101", "2026-03-12"),
    ("*", "2026-05-03"),
    ("pg/pg01", "2026-05-04"),
    ("mongo/mongo01", "2026-05-04"),
    ("pg/pg01", "2026-06-05"),
    ("*", "2026-08-10"),
    ("*", "2026-09-07"),
    ("host/dc01", "2026-11-03"),
];

/// Which of all points that ever were in a repository are to be there now.
pub fn promised(
    policy: &str,
    place: &str,
    ever: &BTreeSet<Timestamp>,
    zone: &TimeZone,
) -> BTreeSet<Timestamp> {
    let rules: &[(&str, usize)] = match (policy, place) {
        ("linux", "main") => &[("%Y-%m-%d", 7), ("%G-%V", 4), ("%Y-%m", 6)],
        ("windows", "main") => &[("%Y-%m-%d", 14), ("%G-%V", 8), ("%Y-%m", 12)],
        ("databases" | "kubernetes", "main") => {
            let newest = ever.last().unwrap().to_zoned(zone.clone());
            let oldest = newest.checked_sub(14.days()).unwrap().timestamp();
            return ever.range(oldest..).copied().collect();
        }
        ("databases", "archive") => &[("%Y-%m", 84)],
        other => panic!("{other:?}"),
    };
    let mut kept: BTreeSet<Timestamp> = ever.last().copied().into_iter().collect();
    let mut by_earlier_rules: BTreeSet<Timestamp> = BTreeSet::new();
    for (period, count) in rules {
        let name = |time: &Timestamp| time.to_zoned(zone.clone()).strftime(period).to_string();
        let newest_of: BTreeMap<String, Timestamp> = ever.iter().map(|time| (name(time), *time)).collect();
        let covered: BTreeSet<String> = by_earlier_rules.iter().map(name).collect();
        let mut of_this_rule = BTreeSet::new();
        let mut counted = 0;
        for (period, time) in newest_of.iter().rev() {
            if counted == *count {
                break;
            }
            of_this_rule.insert(*time);
            counted += usize::from(!covered.contains(period));
        }
        by_earlier_rules.extend(&of_this_rule);
        kept.extend(of_this_rule);
    }
    kept
}

/// What a run uses, by the words of the file.
fn uses(lab: &toml::Table, job: &str) -> Vec<String> {
    let words: Vec<&str> = job.split(' ').collect();
    let text =
        |table: &toml::Table, key: &str| table.get(key).and_then(toml::Value::as_str).map(str::to_owned);
    let tables = |key: &str| {
        lab[key]
            .as_array()
            .unwrap()
            .iter()
            .map(|value| value.as_table().unwrap().clone())
    };
    let workload = |name: &str| {
        tables("workload")
            .find(|table| {
                let names = table.get("names").and_then(toml::Value::as_array);
                text(table, "name").as_deref() == Some(name)
                    || names.is_some_and(|names| names.iter().any(|one| one.as_str() == Some(name)))
            })
            .unwrap()
    };
    let mut used = BTreeSet::new();
    let repository = |name: &str, used: &mut BTreeSet<String>| {
        used.insert(format!("repository {name}"));
        let table = tables("repository")
            .find(|table| text(table, "name").as_deref() == Some(name))
            .unwrap();
        used.extend(text(&table, "network").map(|network| format!("network {network}")));
    };
    match words[..] {
        ["backup", name] => {
            let table = workload(name);
            for kind in ["host", "storage", "network"] {
                used.extend(text(&table, kind).map(|name| format!("{kind} {name}")));
            }
            repository("main", &mut used);
        }
        ["copy", _, other] => {
            repository("main", &mut used);
            repository(other, &mut used);
        }
        ["verify", _] => repository("main", &mut used),
        ["drill", name] => {
            let policy = text(&workload(name), "policy").unwrap();
            let host = lab["policy"][&policy]["drill"]["host"].as_str().unwrap();
            used.insert(format!("host {host}"));
            repository("main", &mut used);
        }
        ["forget" | "collect", name] => repository(name, &mut used),
        ["exercise"] => {}
        _ => panic!("{job}"),
    }
    used.into_iter().collect()
}

fn limit(lab: &toml::Table, resource: &str) -> i64 {
    let (kind, name) = resource.split_once(' ').unwrap();
    if kind == "repository" {
        return if name == "main" { 6 } else { 2 };
    }
    let of_kind = &lab["limit"][kind];
    let number = |name: &str| of_kind.get(name).and_then(toml::Value::as_integer);
    number(name).or_else(|| number("default")).unwrap_or(i64::MAX)
}

/// At no moment more runs share anything than may, and no job runs twice.
pub fn no_conflict(text: &str, seen: &[Seen]) {
    let lab: toml::Table = text.parse().unwrap();
    let mut changes: Vec<(Timestamp, i64, String)> = Vec::new();
    for run in seen {
        let job = run.job.to_string();
        let mut resources = uses(&lab, &job);
        resources.push("all".to_owned());
        resources.push(format!("job {job}"));
        for resource in resources {
            changes.push((run.began, 1, resource.clone()));
            changes.push((run.ended, -1, resource));
        }
    }
    // What ends at a moment makes room for what begins at it.
    changes.sort();
    let mut used: BTreeMap<String, i64> = BTreeMap::new();
    let mut busiest: BTreeMap<String, i64> = BTreeMap::new();
    for (time, change, resource) in changes {
        let limit = match resource.split(' ').next().unwrap() {
            "all" => 8,
            "job" => 1,
            _ => limit(&lab, &resource),
        };
        let now = used.entry(resource.clone()).or_default();
        *now += change;
        assert!(*now <= limit, "{resource} carries {now} at {time}");
        let most = busiest.entry(resource).or_default();
        *most = (*most).max(*now);
    }
    // The limits were of use: without contention nothing would be shown.
    assert_eq!(busiest["host pve1"], 2);
    assert_eq!(busiest["repository main"], 6);
}
