//! `relight postgres receive`: takes a cluster's log from its server as it is written.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use relight_model::duration::TimeSpan;
use relight_model::size::ByteSize;
use relight_postgres::wal::receive;
use relight_postgres::wal::store::LogStore;

use super::name::ClusterName;
use super::source::SourceOptions;
use crate::cancel;
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};

/// Options of `receive`.
#[derive(Debug, Args)]
pub struct Options {
    /// The cluster
    #[arg(value_name = "NAME")]
    name: ClusterName,
    #[command(flatten)]
    source: SourceOptions,
    /// The slot that makes the server keep what is not durable in the repository yet [default: relight_NAME]
    #[arg(long, value_name = "SLOT")]
    slot: Option<String>,
    /// Do not make the slot if it is missing or lost
    #[arg(long)]
    no_create_slot: bool,
    /// Folder on this machine for what is not in the repository yet [default: below the folder for caches]
    #[arg(long, value_name = "DIR")]
    spool: Option<PathBuf>,
    /// How much may wait there while the repository does not answer; beyond it the server waits
    #[arg(long, default_value = "1GiB", value_name = "SIZE")]
    spool_limit: ByteSize,
    /// How often the newest log is stored, at least
    #[arg(long, default_value = "500ms", value_name = "DURATION")]
    every: TimeSpan,
    /// Raise an alarm when the server keeps more log than this for the slot
    #[arg(long, default_value = "1GiB", value_name = "SIZE")]
    alarm: ByteSize,
}

/// Receives until it is told to stop.
pub fn run(global: &Global, options: &Options) -> Result<Exit> {
    let workload = &options.name.0;
    let every = options.every.duration();
    if !(Duration::from_millis(50)..=Duration::from_secs(60)).contains(&every) {
        return Err(Failure::Usage(
            "--every is between 50 milliseconds and a minute".into(),
        ));
    }
    let settings = options.source.settings(workload)?;
    let repository = global.open()?;
    let spool = match &options.spool {
        Some(spool) => spool.clone(),
        None => {
            let folder = repository.options().cache.join(repository.id().to_string());
            folder.join("receive").join(workload.as_str().replace('/', "+"))
        }
    };
    let store = LogStore::new(repository, workload.clone(), cancel::flag());
    let how = receive::Options {
        settings,
        slot: options
            .slot
            .clone()
            .unwrap_or_else(|| receive::slot_name(workload)),
        create_slot: !options.no_create_slot,
        spool,
        limit: options.spool_limit.0.max(1 << 20),
        every,
        alarm: options.alarm.0,
        following: None,
    };
    receive::receive(&store, &how, &cancel::flag())?;
    Ok(Exit::Done)
}
