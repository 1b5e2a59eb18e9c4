//! `relight restores cluster`: a PostgreSQL cluster to a moment, by another host's server.

use clap::Args;
use jiff::Timestamp;
use relight_model::size::ByteSize;
use relight_model::workload::Workload;
use serde::Deserialize;
use serde_json::json;

use super::{Steps, carry_out, rest, warnings};
use crate::api::ApiOptions;
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::Result;
use crate::shown;

/// Options of `restores cluster`.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    server: ApiOptions,
    /// Which, such as pg/main
    #[arg(value_name = "WORKLOAD")]
    workload: Workload,
    /// The data directory: a new or empty folder of the server, below one of [restore] roots
    #[arg(long, value_name = "DIR")]
    to: String,
    /// To a time, with its offset: 2026-11-23T08:15:00+01:00 [default: as far as the log goes]
    #[arg(long, value_name = "TIME")]
    to_time: Option<String>,
    /// Only to the end of the newest base backup
    #[arg(long, conflicts_with = "to_time")]
    immediate: bool,
    #[command(flatten)]
    steps: Steps,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Planned {
    workload: String,
    time: Timestamp,
    goal: String,
    window: Option<Window>,
    to: String,
    files: u64,
    bytes: u64,
    log_bytes: u64,
    free: Option<u64>,
    forecast_seconds: Option<f64>,
    warnings: Vec<String>,
}

#[derive(Deserialize)]
struct Window {
    from: Timestamp,
    to: Timestamp,
}

/// Does it.
pub(super) fn run(global: &Global, options: &Options) -> Result<Exit> {
    let api = options.server.required()?;
    let goal = match &options.to_time {
        Some(time) => time.as_str(),
        None if options.immediate => "immediate",
        None => "latest",
    };
    let body = json!({"workload": options.workload, "goal": goal, "to": options.to});
    carry_out(global, &api, &options.steps, "/restores/cluster", body, words)
}

fn words(planned: &Planned, out: &mut String) {
    out.push_str(&format!(
        "{} to {}, from the base backup of {}: {} files, {}, and {} of log",
        planned.workload,
        planned.to,
        shown::local(planned.time),
        planned.files,
        ByteSize(planned.bytes),
        ByteSize(planned.log_bytes)
    ));
    rest(planned.free, planned.forecast_seconds, out);
    out.push_str(&format!("Goal: {}", planned.goal));
    if let Some(Window { from, to }) = &planned.window {
        out.push_str(&format!(
            "; it can be any moment from {} to {}",
            shown::local(*from),
            shown::local(*to)
        ));
    }
    out.push_str(".\n");
    warnings(&planned.warnings, out);
}
