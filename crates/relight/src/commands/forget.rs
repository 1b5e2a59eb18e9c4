//! `relight forget`: removes snapshots by rules or by name. It plans first, and does only what the plan says.

mod plan;
mod rules;

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use clap::Args;
use jiff::Timestamp;
use relight_pbs::access::Action;
use relight_repo::{RepoError, Repository, SnapshotId};
use relight_server::runs;
use serde::Serialize;

use crate::approved::{Asked, Served, with_leave};
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::{cancel, output};

use plan::{Plan, Planned};
use rules::{Request, RuleOptions};

/// Options of `forget`.
#[derive(Debug, Args)]
pub struct Options {
    /// Snapshots to forget: short ids, `latest`, or WORKLOAD@TIME. Without any, rules say which are kept
    #[arg(value_name = "SNAPSHOT")]
    snapshots: Vec<String>,
    #[command(flatten)]
    rules: RuleOptions,
    /// Do it. Without this, the plan is shown and nothing is changed
    #[arg(long)]
    apply: bool,
    /// Do it although it removes the last good snapshot of a workload, or snapshots that cannot be read
    #[arg(long)]
    force: bool,
    /// Do it although the plan raises an alarm: a clock that jumped, or unusually many removals
    #[arg(long)]
    accept_alarms: bool,
    /// A plan as `forget --json` printed it: do it only if it would be the same today
    #[arg(long, value_name = "FILE", conflicts_with_all = ["snapshots", "force", "workload", "keep_last", "keep_within",
        "keep_hourly", "keep_daily", "keep_weekly", "keep_monthly", "keep_yearly"])]
    plan: Option<PathBuf>,
}

impl Options {
    /// Whether anything is changed.
    pub fn applies(&self) -> bool {
        self.apply
    }
}

#[derive(Serialize)]
struct Report {
    #[serde(flatten)]
    plan: Plan,
    /// Whether the plan was executed.
    applied: bool,
    /// What is gone now.
    forgotten: Vec<SnapshotId>,
}

/// Plans, and forgets if that was asked for.
pub fn run(global: &Global, options: &Options) -> Result<Exit> {
    let earlier = options.plan.as_ref().map(plan::Earlier::read).transpose()?;
    let request = match &earlier {
        Some(earlier) => earlier.request.clone(),
        None => Request::new(&options.rules, &options.snapshots, options.force)?,
    };
    let repository = global.open_to_read()?;
    let plan = rules::plan(&repository, request)?;
    if let Some(earlier) = &earlier {
        earlier.check(&plan)?;
    }
    let mut report = Report {
        plan,
        applied: options.apply,
        forgotten: Vec::new(),
    };
    if options.apply {
        report.plan.check_alarms(options.accept_alarms)?;
        let asked = |served: &Served| early(served, &repository, &report.plan);
        let work = || execute(&repository, &report.plan);
        report.forgotten = with_leave(global, Action::Delete, asked, work)?;
    }
    output::result(global, &report, words);
    Ok(Exit::Done)
}

/// What one person alone may not be enough for: everything that the plan of the server would not forget by itself.
fn early(served: &Served, repository: &Arc<Repository>, plan: &Plan) -> Result<Option<Asked>> {
    let due = runs::due(&served.config, &served.repository, repository)?;
    let early: BTreeSet<SnapshotId> = plan
        .forget
        .iter()
        .copied()
        .filter(|id| !due.contains(id))
        .collect();
    if early.is_empty() {
        return Ok(None);
    }
    let mut known: BTreeMap<&str, Vec<Timestamp>> = BTreeMap::new();
    for group in &plan.workloads {
        let of = group.snapshots.iter();
        let of = of.filter(|planned| early.contains(&planned.id));
        let times = known.entry(group.workload.as_str()).or_default();
        times.extend(of.map(|planned| planned.time));
        times.sort();
    }
    known.retain(|_, times| !times.is_empty());
    // Those that cannot be read are of no workload that is known.
    let unreadable = early.len().saturating_sub(known.values().map(Vec::len).sum());
    let mut named: Vec<String> = known
        .iter()
        .map(|(workload, times)| format!("{workload} {}", times_in_words(times)))
        .collect();
    if unreadable > 0 {
        named.push(format!("{unreadable} that cannot be read"));
    }
    let place = match unreadable {
        0 => served.place(known.keys().copied()),
        _ => served.place([]),
    };
    Ok(Some(Asked {
        path: place,
        subject: format!(
            "forget {} recovery points of {} that the plan keeps: {}",
            early.len(),
            served.repository,
            named.join(", ")
        ),
        exact: early
            .iter()
            .map(SnapshotId::to_string)
            .collect::<Vec<_>>()
            .join("\n"),
    }))
}

/// When they were made, in order: each, or of many the first and the last.
fn times_in_words(times: &[Timestamp]) -> String {
    match times {
        [first, .., last] if times.len() > 5 => format!("of {first} to {last} ({})", times.len()),
        _ => {
            let times: Vec<String> = times.iter().map(Timestamp::to_string).collect();
            format!("of {}", times.join(" and "))
        }
    }
}

/// Forgets what the plan says, the oldest first, so that an interrupted execution has removed what was needed least.
fn execute(repository: &Repository, plan: &Plan) -> Result<Vec<SnapshotId>> {
    let cancelled = cancel::flag();
    let mut forgotten = Vec::new();
    for id in plan.forget.iter().copied() {
        if cancelled.load(Ordering::Relaxed) {
            return Err(RepoError::Cancelled.into());
        }
        let done = repository.forget(id).map_err(|error| {
            let (count, of) = (forgotten.len(), plan.forget.len());
            Failure::Usage(format!(
                "{count} of {of} snapshots were forgotten, then {}: {error}",
                id.short()
            ))
        });
        done?;
        forgotten.push(id);
    }
    Ok(forgotten)
}

fn words(report: &Report, out: &mut String) {
    let plan = &report.plan;
    if plan.workloads.is_empty() {
        out.push_str("There is no snapshot that this could be about.\n");
    }
    for workload in &plan.workloads {
        out.push_str(&format!("{}\n", workload.workload));
        let row = |planned: &Planned| {
            let word = match (planned.keep, report.applied) {
                (true, _) => "keep",
                (false, true) => "forgotten",
                (false, false) => "forget",
            };
            vec![
                format!("  {word}"),
                planned.id.short(),
                crate::shown::local(planned.time),
                planned.why.join(", "),
            ]
        };
        let rows: Vec<_> = workload.snapshots.iter().map(row).collect();
        output::table(&rows, &[], out);
    }
    for alarm in &plan.alarms {
        out.push_str(&format!("alarm: {alarm}\n"));
    }
    let kept: usize = plan
        .workloads
        .iter()
        .flat_map(|group| &group.snapshots)
        .filter(|planned| planned.keep)
        .count();
    let count = plan.forget.len();
    out.push_str(&match (report.applied, count) {
        (true, 0) => "Nothing was to be forgotten.\n".to_string(),
        (true, _) => format!("{count} forgotten, {kept} kept. `relight collect` frees the space.\n"),
        (false, 0) => format!("Nothing is to be forgotten, {kept} would be kept.\n"),
        (false, _) => {
            format!("{count} would be forgotten, {kept} kept. Nothing was changed; --apply does it.\n")
        }
    });
}
