//! `relight postgres dump-backup`: a logical dump of a server's databases.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;
use relight_model::duration::TimeSpan;
use relight_model::plan::Plan;
use relight_model::size::ByteSize;
use relight_model::workload::Workload;
use relight_postgres::Settings;
use relight_postgres::logical::{self, Source};
use relight_repo::session::Session;
use relight_repo::snapshot::SnapshotSpec;
use relight_workloads::kind::Subject;
use serde::Serialize;

use super::backup::{meter, watched};
use super::name::DumpName;
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::output;
use crate::server_state::ConfigOptions;

/// Options of `dump-backup`.
#[derive(Debug, Args)]
pub struct Options {
    /// What the dumps are called: `main` is the workload `pg-dump/main`
    #[arg(value_name = "NAME")]
    name: DumpName,
    /// URL or connection string, without a password [default: what the plan says of the workload]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// Only this database; may be repeated
    #[arg(long, short, value_name = "DATABASE")]
    database: Vec<String>,
    /// Folder of the programs of the server's version, or a newer one
    #[arg(long, value_name = "DIR")]
    bin: Option<PathBuf>,
    #[command(flatten)]
    config: ConfigOptions,
}

#[derive(Serialize)]
struct Report {
    snapshot: String,
    short_id: String,
    workload: String,
    logical_bytes: u64,
    added_bytes: u64,
    stored_bytes: u64,
    seconds: f64,
}

/// Takes it.
pub fn run(global: &Global, options: &Options) -> Result<Exit> {
    let began = Instant::now();
    let workload = &options.name.0;
    let planned = match options.url {
        Some(_) => None,
        None => planned(&options.config, workload)?,
    };
    let settings = match (&options.url, &planned) {
        (Some(url), _) => Settings::new(url)?,
        (None, Some(source)) => source.settings()?,
        (None, None) => {
            return Err(Failure::Usage(format!(
                "the plan in {} does not say how {workload} is reached: give --url",
                options.config.path().display()
            )));
        }
    };
    let planned_databases = planned.as_ref().map(|source| source.databases.clone());
    let how = logical::Options {
        databases: match options.database.is_empty() {
            true => planned_databases.unwrap_or_default(),
            false => options.database.clone(),
        },
        bin: options
            .bin
            .clone()
            .or_else(|| planned.as_ref().and_then(|source| source.bin.clone())),
    };
    let repository = global.open()?;
    let work = watched(global);
    let session = Session::begin(repository.clone(), work.cancelled.clone())?;
    let meter = meter(global, &work);
    let captured = logical::back_up(&settings, &session, &how, &work)?;
    let spec = SnapshotSpec {
        workload: workload.to_string(),
        time: captured.time,
        host: repository.options().host.clone(),
        attributes: captured.attributes,
        ..SnapshotSpec::default()
    };
    let snapshot = session.publish(spec, captured.archives)?;
    drop(meter);
    let report = Report {
        snapshot: snapshot.id.to_string(),
        short_id: snapshot.id.short(),
        workload: snapshot.workload.clone(),
        logical_bytes: snapshot.size(),
        added_bytes: snapshot.figures.added,
        stored_bytes: snapshot.figures.stored,
        seconds: began.elapsed().as_secs_f64(),
    };
    output::result(global, &report, |report, out| {
        out.push_str(&format!(
            "Snapshot {} of {}\n  {} in {}, {} new, {} stored after compression\n",
            report.short_id,
            report.workload,
            ByteSize(report.logical_bytes),
            TimeSpan(Duration::from_millis((report.seconds * 1000.0) as u64)),
            ByteSize(report.added_bytes),
            ByteSize(report.stored_bytes)
        ));
    });
    Ok(Exit::Done)
}

/// What the plan says of it; none if there is no configuration or it says nothing.
fn planned(config: &ConfigOptions, workload: &Workload) -> Result<Option<Source>> {
    let path = config.path();
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Failure::Io(format!("read {}", path.display()), error)),
    };
    let plan = Plan::parse(&text)
        .map_err(|error| Failure::Usage(format!("the plan in {}: {error}", path.display())))?;
    let entry = plan.workload(workload).filter(|entry| entry.source.is_some());
    Ok(entry.map(|entry| Source::of(&Subject::of(entry))).transpose()?)
}
