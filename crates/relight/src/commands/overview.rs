//! `relight overview`: how everything stands that a server protects.

use std::collections::BTreeMap;

use clap::Args;
use http::Method;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::Value;

use crate::api::{ApiOptions, parameter, read};
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::Result;
use crate::{output, shown};

/// Options of `overview`.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    server: ApiOptions,
    /// So many days of backups, up to 31 [default: 14]
    #[arg(long, value_name = "N")]
    days: Option<u32>,
    /// Only what stands so: unprotected, exposed, too-slow, failing, unproven, good, excluded
    #[arg(long, value_name = "HEALTH")]
    health: Option<String>,
    /// Only workloads whose name or policy contains this
    #[arg(long, value_name = "TEXT")]
    search: Option<String>,
    /// End with exit code 4 if anything is unprotected, exposed, too slow or failing
    #[arg(long)]
    strict: bool,
}

/// What is not as it was promised.
const BAD: [&str; 4] = ["unprotected", "exposed", "too-slow", "failing"];

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Overview {
    first_day: String,
    health: BTreeMap<String, u64>,
    running: u64,
    workloads: Vec<Row>,
}

#[derive(Deserialize)]
struct Row {
    health: String,
    days: String,
    standing: Standing,
}

#[derive(Deserialize)]
struct Standing {
    workload: String,
    policy: Option<String>,
    newest: Option<Point>,
    proven: Option<Timestamp>,
    next: Option<Timestamp>,
}

#[derive(Deserialize)]
struct Point {
    time: Timestamp,
}

/// Shows it.
pub fn run(global: &Global, options: &Options) -> Result<Exit> {
    let api = options.server.required()?;
    let mut query = vec![("limit", "200".to_string())];
    query.extend(parameter("days", options.days));
    query.extend(parameter("health", options.health.as_ref()));
    query.extend(parameter("search", options.search.as_ref()));
    let mut all: Option<Value> = None;
    let mut from = 0;
    loop {
        let page = [query.as_slice(), &[("from", from.to_string())]].concat();
        let mut page = api.whole(api.call(Method::GET, "/overview", &page, None)?)?;
        let next = page["next"].as_u64();
        let data = page["data"].take();
        match (&mut all, &data["workloads"]) {
            (Some(all), Value::Array(more)) => {
                if let Some(rows) = all["workloads"].as_array_mut() {
                    rows.extend(more.iter().cloned());
                }
            }
            _ => all = Some(data),
        }
        match next {
            Some(next) if next > from => from = next,
            _ => break,
        }
    }
    let all = all.unwrap_or_default();
    let overview: Overview = read(&all)?;
    output::result(global, &all, |_, out| words(&overview, out));
    let is_bad = BAD
        .iter()
        .any(|health| overview.health.get(*health).is_some_and(|count| *count > 0));
    Ok(match options.strict && is_bad {
        true => Exit::Damage,
        false => Exit::Done,
    })
}

fn words(overview: &Overview, out: &mut String) {
    let counts: Vec<String> = overview
        .health
        .iter()
        .filter(|(_, count)| **count > 0)
        .map(|(health, count)| format!("{count} {health}"))
        .collect();
    if counts.is_empty() {
        out.push_str("The plan names no workload that you may see.\n");
        return;
    }
    out.push_str(&format!("{}; {} running\n", counts.join(", "), overview.running));
    if overview.workloads.is_empty() {
        out.push_str("There is no such workload.\n");
        return;
    }
    let since = format!("SINCE {}", overview.first_day);
    let heading = [
        "HEALTH",
        "WORKLOAD",
        "POLICY",
        &since,
        "NEWEST POINT",
        "PROVEN",
        "NEXT",
    ];
    let or = |time: Option<Timestamp>, none: &str| time.map_or_else(|| none.to_string(), shown::local);
    let rows: Vec<Vec<String>> = std::iter::once(heading.map(String::from).to_vec())
        .chain(overview.workloads.iter().map(|row| {
            let standing = &row.standing;
            vec![
                row.health.clone(),
                standing.workload.clone(),
                standing.policy.clone().unwrap_or_else(|| "-".into()),
                row.days.clone(),
                or(standing.newest.as_ref().map(|point| point.time), "none"),
                or(standing.proven, "never"),
                or(standing.next, "-"),
            ]
        }))
        .collect();
    output::table(&rows, &[], out);
    out.push_str(
        "g good, m some good, i incomplete, f failed, x cancelled or interrupted, r running, - none\n",
    );
}
