//! `relight plan show`: what is promised for each workload.

use clap::Args;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use relight_model::plan::{PickRule, Plan};
use serde::Serialize;

use super::promise::{Care, Promise, Promised};
use super::words::{event, objective, or_dash, shown, zone_name};
use super::{load, over_api};
use crate::api::ApiOptions;
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::output;
use crate::server_state::ConfigOptions;

/// Options of `plan show`.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    config: ConfigOptions,
    #[command(flatten)]
    server: ApiOptions,
    /// A workload or a policy; shows all that is promised for it [default: a line for each workload]
    #[arg(value_name = "NAME")]
    name: Option<String>,
}

#[derive(Serialize)]
struct Shown<'p> {
    time_zone: &'p str,
    workloads: Vec<Promise<'p>>,
}

/// Shows it.
pub fn run(global: &Global, options: &Options) -> Result<Exit> {
    let plan = match options.server.open()? {
        Some(api) => over_api::plan(&api)?,
        None => load(&options.config)?,
    };
    let now = Timestamp::now();
    let meant = |promise: &Promise<'_>| {
        options.name.as_deref().is_none_or(|name| {
            let policy = promise.policy.as_ref();
            promise.workload.to_string() == name || policy.is_some_and(|policy| policy.name == name)
        })
    };
    let promises = plan.workloads.iter().map(|entry| Promise::of(&plan, entry, now));
    let workloads: Vec<_> = promises.filter(meant).collect();
    if let (Some(name), []) = (&options.name, workloads.as_slice()) {
        return Err(Failure::Usage(if plan.policies.contains_key(name) {
            format!("no workload has the policy {name}")
        } else {
            format!("the plan has neither a workload nor a policy {name:?}")
        }));
    }
    let shown = Shown {
        time_zone: zone_name(&plan.time_zone),
        workloads,
    };
    output::result(global, &shown, |shown, out| {
        if options.name.is_some() {
            for (n, promise) in shown.workloads.iter().enumerate() {
                if n > 0 {
                    out.push('\n');
                }
                card(promise, &plan.time_zone, out);
            }
        } else {
            overview(&plan, &shown.workloads, out);
        }
        out.push_str(&format!("Times are those of {}.\n", shown.time_zone));
    });
    Ok(Exit::Done)
}

fn overview(plan: &Plan, promises: &[Promise<'_>], out: &mut String) {
    let heading = [
        "WORKLOAD", "POLICY", "SCHEDULE", "DUE NEXT", "KEEPS", "RPO", "RTO", "COPIES", "DRILL",
    ];
    let mut rows = vec![heading.map(String::from).to_vec()];
    for promise in promises {
        let Some(policy) = &promise.policy else {
            let why = match promise.excluded {
                Some(_) => "excluded",
                None => "none",
            };
            rows.push(vec![promise.workload.to_string(), why.into()]);
            continue;
        };
        let copies: Vec<&str> = policy.copies.iter().map(|copy| copy.repository).collect();
        rows.push(vec![
            promise.workload.to_string(),
            policy.name.into(),
            event(policy.backup.schedule),
            first(&policy.backup, &plan.time_zone),
            keeps(&policy.retention.to_string()),
            or_dash(policy.rpo.map(objective)),
            or_dash(policy.rto.map(objective)),
            or_dash(Some(copies.join(", ")).filter(|copies| !copies.is_empty())),
            policy
                .drill
                .as_ref()
                .map_or_else(|| "never".into(), |drill| first(&drill.care, &plan.time_zone)),
        ]);
    }
    output::table(&rows, &[], out);
}

fn first(care: &Care<'_>, zone: &TimeZone) -> String {
    care.next
        .first()
        .map_or_else(|| "never".into(), |next| shown(*next, zone))
}

/// `keep-daily=7,keep-weekly=4`, for people: `daily 7, weekly 4`.
fn keeps(retention: &str) -> String {
    retention
        .replace("keep-", "")
        .replace('=', " ")
        .replace(',', ", ")
}

/// All of one workload, a line for each promise.
fn card(promise: &Promise<'_>, zone: &TimeZone, out: &mut String) {
    out.push_str(&format!("{}\n", promise.workload));
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |what: &str, says: String| rows.push(vec![format!("  {what}"), says]);
    let on = [
        ("host", promise.host),
        ("storage", promise.storage),
        ("network", promise.network),
    ];
    let on = on.map(|(kind, name)| name.map(|name| format!("{kind} {name}")));
    let on: Vec<String> = on.into_iter().flatten().collect();
    if !on.is_empty() {
        row("on", on.join(", "));
    }
    if let Some(size) = promise.size {
        row("size", format!("{size}, by the plan"));
    }
    if let Some(excluded) = promise.excluded {
        let until = excluded
            .until
            .map_or_else(String::new, |until| format!(", until {}", until.value));
        row("excluded", format!("{}{until}", excluded.reason.value));
    } else if promise.policy.is_none() {
        row("policy", "none: it is not protected".into());
    }
    if let Some(policy) = &promise.policy {
        policy_rows(policy, zone, &mut row);
    }
    if let Some(stage) = promise.stage {
        row("recovered", format!("in the stage {stage} of the exercise"));
    }
    output::table(&rows, &[], out);
}

fn policy_rows(policy: &Promised<'_>, zone: &TimeZone, row: &mut impl FnMut(&str, String)) {
    let method = policy
        .method
        .map_or_else(String::new, |method| format!(", {method}"));
    row(
        "policy",
        format!("{}{method}, priority {}", policy.name, policy.priority),
    );
    row(
        "RPO",
        match policy.rpo {
            Some(rpo) if policy.rpo_tolerance > Default::default() => {
                format!("{}, and {} of tolerance", objective(rpo), policy.rpo_tolerance)
            }
            rpo => promised(rpo),
        },
    );
    row("RTO", promised(policy.rto));
    let by = if policy.pushed { ", sent by its client" } else { "" };
    row("backup", format!("{}{by}", times(&policy.backup, zone)));
    if let Some(window) = &policy.window {
        let opens = event(window.opens);
        row(
            "window",
            format!("{}: opens {opens} for {}", window.name, window.length),
        );
    }
    let spread = [("stagger", policy.stagger), ("jitter", policy.jitter)];
    for (what, span) in spread.into_iter().filter(|(_, span)| *span > Default::default()) {
        row(what, span.to_string());
    }
    if let Some(log) = policy.log {
        row("log", format!("at most {log} old"));
    }
    if let Some(span) = policy.point_in_time {
        row("any point", format!("of the last {span}"));
    }
    row(
        "kept in",
        format!("{}: {}", policy.repository, keeps(&policy.retention.to_string())),
    );
    for copy in &policy.copies {
        let (to, kept) = (copy.repository, keeps(&copy.retention.to_string()));
        row("copy in", format!("{to}: {kept}; {}", times(&copy.care, zone)));
    }
    let verified = policy.verify.as_ref().map(|care| times(care, zone));
    row("verified", verified.unwrap_or_else(|| "never".into()));
    row(
        "drill",
        match &policy.drill {
            Some(drill) => {
                let host = drill.host.map_or_else(String::new, |host| format!(", on {host}"));
                let article = if drill.pick == PickRule::Random {
                    "a"
                } else {
                    "the"
                };
                let pick = format!("of {article} {} point", drill.pick);
                format!("{}; {pick}{host}", times(&drill.care, zone))
            }
            None => "never".into(),
        },
    );
}

fn promised(span: Option<relight_model::TimeSpan>) -> String {
    span.map_or_else(|| "not promised".into(), objective)
}

/// `02:00; due Tue 2026-11-24 02:00, Wed …`
fn times(care: &Care<'_>, zone: &TimeZone) -> String {
    let next: Vec<String> = care.next.iter().map(|next| shown(*next, zone)).collect();
    let next = match next.as_slice() {
        [] => "never".to_owned(),
        next => next.join(", "),
    };
    format!("{}; due {next}", event(care.schedule))
}
