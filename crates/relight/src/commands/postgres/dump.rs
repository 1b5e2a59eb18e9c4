//! `relight postgres dump`: one database, tables of it, or the roles of a cluster as they were at any moment.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::time::Instant;

use clap::Args;
use relight_model::size::ByteSize;
use relight_postgres::extract::{Extraction, Format, What};
use relight_postgres::launch::Programs;
use relight_postgres::restore::Recovery;
use relight_postgres::wal::store::LogStore;
use serde::Serialize;

use super::backup::{meter, watched};
use super::name::ClusterName;
use super::restore::{GoalOptions, of_workload, owner};
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::output;

/// Options of `dump`.
#[derive(Debug, Args)]
pub struct Options {
    /// The cluster
    #[arg(value_name = "NAME")]
    name: ClusterName,
    /// The database
    #[arg(long, short, value_name = "DATABASE", required_unless_present = "globals")]
    database: Option<String>,
    /// Only these tables, as pg_dump names them (public.orders, sales.*); may be repeated
    #[arg(long, short, value_name = "TABLE")]
    table: Vec<String>,
    /// Roles and tablespaces instead of a database
    #[arg(long, conflicts_with_all = ["database", "table"])]
    globals: bool,
    /// The file to write, which must not be there yet
    #[arg(long, short, value_name = "FILE")]
    output: PathBuf,
    /// SQL instead of the format of pg_restore
    #[arg(long)]
    plain: bool,
    #[command(flatten)]
    goal: GoalOptions,
    /// Folder with room for the whole cluster, in which it is restored for as long as that takes
    #[arg(long, value_name = "DIR", default_value = "/var/tmp")]
    sandbox: PathBuf,
    /// User that the server runs as [default: this user; of root: postgres]
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Folder of the programs of the cluster's version
    #[arg(long, value_name = "DIR")]
    bin: Option<PathBuf>,
}

impl Options {
    /// What it does, in words for the evidence.
    pub fn told(&self) -> String {
        let what = self.database.as_deref().unwrap_or("roles and tablespaces");
        format!(
            "dumped {what} of the cluster {} to {}",
            self.name.0,
            self.output.display()
        )
    }
}

#[derive(Serialize)]
struct Report {
    snapshot: String,
    workload: String,
    goal: String,
    output: PathBuf,
    bytes: u64,
    seconds: f64,
}

/// Writes it.
pub fn run(global: &Global, options: &Options) -> Result<Exit> {
    let began = Instant::now();
    let repository = global.open_to_read()?;
    let newest = LogStore::new(repository.clone(), options.name.0.clone(), crate::cancel::flag()).tail()?;
    let snapshots = of_workload(&repository, &options.name)?;
    let goal = options.goal.goal()?;
    let chosen = options.goal.choose(&snapshots, &newest)?;
    let programs = Programs::find(
        chosen.about.major(),
        options.bin.as_deref(),
        owner(options.user.as_deref())?,
    )?;
    let output = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&options.output)
        .map_err(Failure::io(format!("make {}", options.output.display())))?;
    let what = match &options.database {
        Some(name) => What::Database {
            name: name.clone(),
            tables: options.table.clone(),
        },
        None => What::Globals,
    };
    let work = watched(global);
    let meter = meter(global, &work);
    let mut recovery = Recovery::immediate();
    recovery.goal = chosen.goal(&goal);
    recovery.timeline = chosen.timeline();
    recovery.inclusive = options.goal.inclusive();
    let sandbox = std::path::absolute(&options.sandbox)
        .map_err(Failure::io(format!("find {}", options.sandbox.display())))?;
    let store = LogStore::new(repository.clone(), options.name.0.clone(), work.cancelled.clone());
    let format = if options.plain {
        Format::Plain
    } else {
        Format::Custom
    };
    let dumped = Extraction::start(&store, &chosen, recovery, &programs, &sandbox, &work)
        .and_then(|extraction| extraction.dump(&what, format, output));
    drop(meter);
    if let Err(error) = dumped {
        // Half a dump would look like a whole one.
        let _ = std::fs::remove_file(&options.output);
        return Err(error.into());
    }
    let bytes = std::fs::metadata(&options.output).map_or(0, |meta| meta.len());
    let report = Report {
        snapshot: chosen.snapshot.id.to_string(),
        workload: options.name.0.to_string(),
        goal: goal.to_string(),
        output: options.output.clone(),
        bytes,
        seconds: began.elapsed().as_secs_f64(),
    };
    output::result(global, &report, |report, out| {
        out.push_str(&format!(
            "{}: {} from {} as of {}, in {:.1} s\n",
            report.output.display(),
            ByteSize(report.bytes),
            report.workload,
            report.goal,
            report.seconds
        ));
    });
    Ok(Exit::Done)
}
