//! `relight postgres load`: brings databases of a logical dump into a server.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use clap::Args;
use relight_model::size::ByteSize;
use relight_postgres::Settings;
use relight_postgres::logical::{self, Loaded, Loading};
use relight_repo::read::ChunkReader;
use relight_repo::snapshot::Snapshot;
use serde::Serialize;

use super::backup::{meter, watched};
use super::name::DumpName;
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::{output, target};

/// Options of `load`.
#[derive(Debug, Args)]
pub struct Options {
    /// What the dumps are called
    #[arg(value_name = "NAME")]
    name: DumpName,
    /// The server, with a database that can be connected to: URL or connection string, without a password
    #[arg(long, value_name = "URL")]
    url: String,
    /// The dump [default: the newest]
    #[arg(long, value_name = "SNAPSHOT")]
    snapshot: Option<String>,
    /// Only this database; may be repeated
    #[arg(long, short, value_name = "DATABASE")]
    database: Vec<String>,
    /// Leave roles and tablespaces as they are
    #[arg(long)]
    no_globals: bool,
    /// Folder of the programs of the server's version, or a newer one
    #[arg(long, value_name = "DIR")]
    bin: Option<PathBuf>,
}

impl Options {
    /// What it does, in words for the evidence.
    pub fn told(&self) -> String {
        let what = match self.database.as_slice() {
            [] => "all databases".to_owned(),
            some => some.join(", "),
        };
        format!("brought back {what} of the dump {}", self.name.0)
    }
}

#[derive(Serialize)]
struct Report {
    snapshot: String,
    workload: String,
    #[serde(flatten)]
    loaded: Loaded,
    seconds: f64,
}

/// Brings them back.
pub fn run(global: &Global, options: &Options) -> Result<Exit> {
    let began = Instant::now();
    let repository = global.open_to_read()?;
    let workload = &options.name.0;
    let snapshot: Snapshot = match &options.snapshot {
        Some(given) => target::snapshot(&repository, given)?,
        None => {
            let dumps = repository
                .snapshots()?
                .0
                .into_iter()
                .filter(|snapshot| snapshot.workload == workload.as_str() && logical::is_dump(snapshot));
            let newest = dumps.max_by_key(|snapshot| (snapshot.time, snapshot.published));
            newest.ok_or_else(|| {
                Failure::Usage(format!(
                    "the repository has no dump of {workload}; `relight snapshots` lists what there is"
                ))
            })?
        }
    };
    let work = watched(global);
    let meter = meter(global, &work);
    let reader = Arc::new(ChunkReader::new(repository.clone())?);
    let inventory = logical::inventory(&reader, &snapshot)?;
    let loading = Loading {
        settings: Settings::new(&options.url)?,
        databases: options.database.clone(),
        globals: !options.no_globals,
        bin: options.bin.clone(),
    };
    let loaded = logical::load(&reader, &snapshot, &inventory, &loading, &work)?;
    drop(meter);
    let report = Report {
        snapshot: snapshot.id.to_string(),
        workload: snapshot.workload.clone(),
        loaded,
        seconds: began.elapsed().as_secs_f64(),
    };
    output::result(global, &report, |report, out| {
        for refused in &report.loaded.refused {
            out.push_str(&format!("not taken by the server: {refused}\n"));
        }
        out.push_str(&format!(
            "{} back, {} in {:.1} s\n",
            report.loaded.databases.join(", "),
            ByteSize(report.loaded.bytes),
            report.seconds
        ));
    });
    Ok(if report.loaded.refused.is_empty() {
        Exit::Done
    } else {
        Exit::Incomplete
    })
}
