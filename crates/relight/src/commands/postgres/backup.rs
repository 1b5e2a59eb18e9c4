//! `relight postgres backup`: a base backup of a cluster.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Args;
use relight_model::duration::TimeSpan;
use relight_model::size::{ByteSize, Rate};
use relight_postgres::base::{self, About, Route};
use relight_repo::session::Session;
use relight_repo::snapshot::SnapshotSpec;
use relight_workloads::kind::Work;
use serde::Serialize;

use super::name::ClusterName;
use super::source::SourceOptions;
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::progress::Meter;
use crate::{cancel, output};

/// Options of `backup`.
#[derive(Debug, Args)]
pub struct Options {
    /// The cluster
    #[arg(value_name = "NAME")]
    name: ClusterName,
    #[command(flatten)]
    source: SourceOptions,
    /// Read the files on this host, which is that of the server, instead of having the server send them
    #[arg(long)]
    files: bool,
    /// Begin with the next checkpoint, which the server spreads over time, instead of one at once
    #[arg(long)]
    spread_checkpoint: bool,
    /// Most bytes per second that the server sends (50MiB/s)
    #[arg(long, value_name = "RATE")]
    rate: Option<Rate>,
    /// Have the server send everything, even if it could tell what changed
    #[arg(long)]
    full: bool,
    /// Promise to keep it for so long (30d, 8w)
    #[arg(long, value_name = "DURATION")]
    retain: Option<TimeSpan>,
}

#[derive(Serialize)]
struct Report {
    snapshot: String,
    short_id: String,
    workload: String,
    #[serde(flatten)]
    about: About,
    logical_bytes: u64,
    added_bytes: u64,
    stored_bytes: u64,
    read_bytes: u64,
    seconds: f64,
    problems: Vec<String>,
}

/// Takes it.
pub fn run(global: &Global, options: &Options) -> Result<Exit> {
    let began = Instant::now();
    let workload = &options.name.0;
    let source = options.source.source(workload)?;
    let mut how = source.options()?;
    if options.files {
        how.route = Route::Files;
    }
    how.fast &= !options.spread_checkpoint;
    how.full |= options.full;
    how.rate = options.rate.map(|rate| rate.0).or(how.rate);
    let repository = global.open()?;
    let retain_until = options
        .retain
        .map(|span| {
            repository
                .now()
                .checked_add(span.0)
                .map_err(|_| Failure::Usage(format!("--retain {span} is longer than any calendar")))
        })
        .transpose()?;
    let work = watched(global);
    let session = Session::begin(repository.clone(), work.cancelled.clone())?;
    let meter = meter(global, &work);
    let captured = base::back_up(&source.settings()?, &session, workload, &how, &work)?;
    let spec = SnapshotSpec {
        workload: workload.to_string(),
        time: captured.time,
        host: repository.options().host.clone(),
        attributes: captured.attributes,
        incomplete: captured.incomplete,
        retain_until,
        ..SnapshotSpec::default()
    };
    let snapshot = session.publish(spec, captured.archives)?;
    drop(meter);
    let report = Report {
        snapshot: snapshot.id.to_string(),
        short_id: snapshot.id.short(),
        workload: snapshot.workload.clone(),
        about: About::of(&snapshot)?,
        logical_bytes: snapshot.size(),
        added_bytes: snapshot.figures.added,
        stored_bytes: snapshot.figures.stored,
        read_bytes: captured.read,
        seconds: began.elapsed().as_secs_f64(),
        problems: snapshot.incomplete.clone(),
    };
    output::result(global, &report, words);
    Ok(if report.problems.is_empty() {
        Exit::Done
    } else {
        Exit::Incomplete
    })
}

/// Work that says on standard error what it does.
pub fn watched(global: &Global) -> Work {
    let global = global.clone();
    Work {
        cancelled: cancel::flag(),
        note: Arc::new(move |text| output::remark(&global, text)),
        ..Work::quiet()
    }
}

/// Shows how far it is.
pub fn meter(global: &Global, work: &Work) -> Meter {
    let (done, total) = (work.done.clone(), work.total.clone());
    let label = move || match total.load(Ordering::Relaxed) {
        0 => String::new(),
        total => format!("of {}", ByteSize(total)),
    };
    Meter::start(global, done, 0, label)
}

fn words(report: &Report, out: &mut String) {
    let elapsed = Duration::from_secs_f64(report.seconds);
    let rate = Rate::of(report.logical_bytes, elapsed).map_or(String::new(), |rate| format!(", {rate}"));
    out.push_str(&format!("Snapshot {} of {}\n", report.short_id, report.workload));
    out.push_str(&format!(
        "  {} in {}{rate}\n",
        ByteSize(report.logical_bytes),
        TimeSpan(Duration::from_millis(elapsed.as_millis() as u64)),
    ));
    out.push_str(&format!(
        "  {} read, {} new, {} stored after compression\n",
        ByteSize(report.read_bytes),
        ByteSize(report.added_bytes),
        ByteSize(report.stored_bytes)
    ));
    out.push_str(&format!(
        "  PostgreSQL {}, timeline {}, from {} to {}, consistent at {}\n",
        report.about.version,
        report.about.timeline,
        report.about.start_lsn,
        report.about.stop_lsn,
        report.about.stop_time
    ));
    for problem in &report.problems {
        out.push_str(&format!("  not as it should be: {problem}\n"));
    }
}
