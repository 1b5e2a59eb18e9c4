//! `relight postgres windows`: which moments of a cluster can be recovered.

use clap::Args;
use jiff::Timestamp;
use relight_model::duration::TimeSpan;
use relight_postgres::wal::windows::{Edge, Gap, View, Window};
use serde::Serialize;

use super::name::ClusterName;
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::{cancel, output};

/// Options of `windows`.
#[derive(Debug, Args)]
pub struct Options {
    /// The cluster
    #[arg(value_name = "NAME")]
    name: ClusterName,
}

/// What can be recovered, and how old the newest of it is.
#[derive(Serialize)]
struct Report {
    workload: String,
    /// System identifier, as text because it does not fit what many programs take for a number.
    system: Option<String>,
    major: Option<u32>,
    #[serde(flatten)]
    view: View,
    /// Names under which the repository holds two contents.
    conflicts: Vec<String>,
    /// Snapshots that cannot be read: they may hold what looks like a gap.
    unreadable: Vec<String>,
    /// The newest moment that can be recovered.
    latest: Option<Edge>,
    /// Up to when a receiver knows that nothing is missing: later than the last commit if there was none since.
    confirmed: Option<Timestamp>,
    /// Seconds from the later of both to now: what would be lost.
    behind_seconds: Option<i64>,
    now: Timestamp,
}

/// Shows them. There are gaps: exit code 4.
pub fn run(global: &Global, options: &Options) -> Result<Exit> {
    let repository = global.open_to_read()?;
    let store =
        relight_postgres::wal::store::LogStore::new(repository, options.name.0.clone(), cancel::flag());
    let outlook = store.outlook()?;
    let catalog = &outlook.catalog;
    if catalog.is_empty() && catalog.unreadable.is_empty() {
        return Err(Failure::Usage(format!(
            "the repository has nothing of {}; `relight snapshots` lists what there is",
            options.name.0
        )));
    }
    let (now, latest, confirmed) = (outlook.now, outlook.latest(), outlook.confirmed());
    let newest = outlook.reaches();
    let report = Report {
        workload: options.name.0.to_string(),
        system: catalog.cluster.map(|cluster| cluster.system.to_string()),
        major: catalog.cluster.map(|cluster| cluster.major),
        view: outlook.view.clone(),
        conflicts: catalog.conflicts.iter().map(ToString::to_string).collect(),
        unreadable: catalog
            .unreadable
            .iter()
            .map(|(id, error)| format!("{id}: {error}"))
            .collect(),
        latest,
        confirmed,
        behind_seconds: newest.map(|newest| now.duration_since(newest).as_secs()),
        now,
    };
    output::result(global, &report, words);
    let good = report.view.gaps.is_empty() && report.conflicts.is_empty() && report.unreadable.is_empty();
    Ok(if good { Exit::Done } else { Exit::Damage })
}

fn words(report: &Report, out: &mut String) {
    let heading = ["TIMELINE", "FROM", "TO", "LSN", "BASES", ""]
        .map(String::from)
        .to_vec();
    let mut rows = vec![heading];
    for window in &report.view.windows {
        rows.push(window_row(window));
        let gaps = report.view.gaps.iter();
        let behind = gaps.filter(|gap| gap.timeline == window.timeline && gap.from.lsn == window.to.lsn);
        rows.extend(behind.map(gap_row));
    }
    if report.view.windows.is_empty() {
        out.push_str(&format!(
            "Nothing of {} can be recovered: there is no base backup with the log that belongs to it.\n",
            report.workload
        ));
    } else {
        output::table(&rows, &[0, 4], out);
    }
    for (timeline, point) in &report.view.points {
        out.push_str(&format!(
            "named moment: {} at {} ({}, timeline {timeline})\n",
            point.name,
            time(point.time),
            point.at
        ));
    }
    for base in &report.view.unusable {
        out.push_str(&format!(
            "base backup {} cannot be restored: {} is missing\n",
            base.snapshot.short(),
            base.missing
        ));
    }
    for timeline in &report.view.rootless {
        out.push_str(&format!(
            "timeline {timeline}: its history file is missing, so nobody knows where it comes from\n"
        ));
    }
    for name in &report.conflicts {
        out.push_str(&format!(
            "{name} is there with two contents: two clusters wrote to {}\n",
            report.workload
        ));
    }
    for broken in &report.unreadable {
        out.push_str(&format!(
            "snapshot cannot be read, and may hold what is missing: {broken}\n"
        ));
    }
    if let (Some(latest), Some(behind)) = (report.latest, report.behind_seconds) {
        let behind = TimeSpan::from_secs(u64::try_from(behind).unwrap_or(0));
        out.push_str(
            &match report.confirmed.filter(|confirmed| *confirmed > latest.time) {
                Some(_) => format!(
                    "Last commit that can be recovered: {}; nothing was missing {behind} ago.\n",
                    time(latest.time)
                ),
                None => format!(
                    "Last commit that can be recovered: {}, {behind} ago.\n",
                    time(latest.time)
                ),
            },
        );
    }
}

fn window_row(window: &Window) -> Vec<String> {
    vec![
        window.timeline.to_string(),
        time(window.from.time),
        time(window.to.time),
        format!("{} to {}", window.from.lsn, window.to.lsn),
        window.bases.len().to_string(),
        String::new(),
    ]
}

fn gap_row(gap: &Gap) -> Vec<String> {
    let why = &gap.cause;
    let to = gap
        .to
        .map_or("no base backup since".to_string(), |to| time(to.time));
    vec![
        gap.timeline.to_string(),
        time(gap.from.time),
        to,
        gap.to.map_or(format!("behind {}", gap.from.lsn), |to| {
            format!("{} to {}", gap.from.lsn, to.lsn)
        }),
        String::new(),
        format!("GAP: {why}"),
    ]
}

fn time(time: Timestamp) -> String {
    crate::shown::local(time)
}
