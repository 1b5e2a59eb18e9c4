//! `relight restores`: restores that a server does, to folders of its own host: asked for over its API, watched and listed.

mod cluster;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;

use clap::{Args, Subcommand};
use http::Method;
use jiff::Timestamp;
use relight_model::schedule::RunKind;
use relight_model::size::ByteSize;
use relight_model::workload::Workload;
use relight_server::state::{Run, RunFilter};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

use super::plan::agreed;
use super::runs;
use crate::api::{Api, ApiOptions, read, segment};
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::server_state::ConfigOptions;
use crate::{output, shown};

/// Options of `restores`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: ListOptions,
}

/// Subcommands of `restores`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List what the server restored
    List(ListOptions),
    /// Have another host's server restore something to a folder of its own: shows what would be done, and asks
    Start(StartOptions),
    /// Have another host's server bring a PostgreSQL cluster to a moment, into a new folder of its own: shows what would be done,
    /// and asks
    Cluster(cluster::Options),
}

/// Options of `restores list`.
#[derive(Debug, Args)]
pub struct ListOptions {
    #[command(flatten)]
    config: ConfigOptions,
    #[command(flatten)]
    server: ApiOptions,
    /// So many at most, the newest ones
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50)]
    limit: u32,
}

/// Options of `restores start`.
#[derive(Debug, Args)]
pub struct StartOptions {
    #[command(flatten)]
    server: ApiOptions,
    /// Of which workload, such as host/web
    #[arg(value_name = "WORKLOAD")]
    workload: Workload,
    /// What of it, as the page shows it: data/reports [default: everything]
    #[arg(value_name = "PATH")]
    paths: Vec<OsString>,
    /// The folder of the server to restore to, at or below one of [restore] roots
    #[arg(long, value_name = "DIR")]
    to: String,
    /// As of this time: the newest recovery point that is not younger [default: the newest]
    #[arg(long, value_name = "TIME")]
    at: Option<Timestamp>,
    /// This recovery point: its id
    #[arg(long, value_name = "SNAPSHOT", conflicts_with = "at")]
    snapshot: Option<String>,
    /// What becomes of files that are there: skip, keep-newer or overwrite
    #[arg(long, value_name = "RULE", default_value = "skip")]
    existing: String,
    #[command(flatten)]
    steps: Steps,
}

/// How far it goes.
#[derive(Debug, Args)]
struct Steps {
    /// Only show what would be done
    #[arg(long)]
    plan: bool,
    /// Do it without asking
    #[arg(long)]
    yes: bool,
    /// Do not wait until it has ended
    #[arg(long)]
    no_wait: bool,
}

#[derive(Deserialize)]
struct Planned {
    workload: String,
    time: Timestamp,
    to: String,
    survey: Survey,
    free: Option<u64>,
    #[serde(rename = "forecast-seconds")]
    forecast: Option<f64>,
    warnings: Vec<String>,
}

#[derive(Deserialize)]
struct Survey {
    files: u64,
    folders: u64,
    bytes: u64,
    existing: u64,
    complete: bool,
}

/// Does it.
pub fn run(global: &Global, options: &Options) -> Result<Exit> {
    match &options.command {
        None => list(global, &options.list),
        Some(Command::List(options)) => list(global, options),
        Some(Command::Start(options)) => start(global, options),
        Some(Command::Cluster(options)) => cluster::run(global, options),
    }
}

fn list(global: &Global, options: &ListOptions) -> Result<Exit> {
    let mut found: Vec<Run> = match options.server.open()? {
        Some(api) => {
            let query = [("kind", RunKind::Restore.to_string())];
            let data = api.newest("/runs", &query, None, options.limit)?;
            data.iter().map(read).collect::<Result<_>>()?
        }
        None => options.config.state()?.runs(&RunFilter {
            kind: Some(RunKind::Restore),
            limit: Some(options.limit),
            ..RunFilter::default()
        })?,
    };
    found.reverse();
    output::result(global, &found, |found, out| runs::list_words(found, out));
    Ok(Exit::Done)
}

/// The recovery point that is meant.
fn point(api: &Api, options: &StartOptions) -> Result<String> {
    if let Some(snapshot) = &options.snapshot {
        return Ok(snapshot.clone());
    }
    let mut query = vec![("limit", "1".to_string())];
    query.extend(options.at.map(|at| ("until", at.to_string())));
    let path = format!("/workloads/{}/recovery-points", segment(&options.workload));
    let found = api.get(&path, &query)?;
    let newest = found[0]["snapshot"].as_str();
    newest.map(str::to_owned).ok_or_else(|| {
        let workload = &options.workload;
        Failure::Usage(match options.at {
            Some(at) => format!("there is no recovery point of {workload} from {at} or before"),
            None => format!("there is no recovery point of {workload}"),
        })
    })
}

/// A path as the API writes it: what is not plain text is percent-encoded, and so is the percent sign.
fn spelled(path: &OsString) -> String {
    let mut out = String::new();
    for chunk in path.as_bytes().utf8_chunks() {
        out.push_str(&chunk.valid().replace('%', "%25"));
        for byte in chunk.invalid() {
            out.push_str(&format!("%{byte:02X}"));
        }
    }
    out
}

fn start(global: &Global, options: &StartOptions) -> Result<Exit> {
    let api = options.server.required()?;
    let body = json!({
        "workload": options.workload,
        "snapshot": point(&api, options)?,
        "paths": options.paths.iter().map(spelled).collect::<Vec<_>>(),
        "to": options.to,
        "existing": options.existing,
    });
    carry_out(global, &api, &options.steps, "/restores", body, words)
}

/// Has a restore planned, shows that, and does it if somebody agrees.
fn carry_out<P: DeserializeOwned>(
    global: &Global,
    api: &Api,
    steps: &Steps,
    path: &str,
    mut body: Value,
    words: fn(&P, &mut String),
) -> Result<Exit> {
    let data = api.ask(Method::POST, &format!("{path}/plan"), Some(&body))?;
    let planned: P = read(&data)?;
    if steps.plan {
        output::result(global, &data, |_, out| words(&planned, out));
        return Ok(Exit::Done);
    }
    let mut told = String::new();
    words(&planned, &mut told);
    eprint!("{told}");
    if !steps.yes && !agreed("Restore it?")? {
        output::remark(global, "nothing was restored");
        return Ok(Exit::Cancelled);
    }
    body["digest"] = data["digest"].clone();
    let begun = api.ask(Method::POST, path, Some(&body))?;
    let number = begun["run"].as_u64().unwrap_or(0);
    let workload = data["workload"].as_str().unwrap_or_default();
    output::remark(global, &format!("run {number}: restore {workload}"));
    if steps.no_wait {
        output::result(global, &begun, |_: &Value, _| ());
        return Ok(Exit::Done);
    }
    runs::over_api::follow(global, number, api)
}

fn words(planned: &Planned, out: &mut String) {
    let Survey {
        files,
        folders,
        bytes,
        existing,
        complete,
    } = &planned.survey;
    let least = if *complete { "" } else { "at least " };
    out.push_str(&format!(
        "{} as of {} to {}: {least}{files} files in {folders} folders, {}",
        planned.workload,
        shown::local(planned.time),
        planned.to,
        ByteSize(*bytes)
    ));
    rest(planned.free, planned.forecast, out);
    if *existing > 0 {
        out.push_str(&format!("{existing} of the names are there already.\n"));
    }
    warnings(&planned.warnings, out);
}

/// What room there is, and how long it will take.
fn rest(free: Option<u64>, forecast: Option<f64>, out: &mut String) {
    if let Some(free) = free {
        out.push_str(&format!(" ({} are free)", ByteSize(free)));
    }
    if let Some(seconds) = forecast {
        out.push_str(&format!(", about {} s", seconds.ceil()));
    }
    out.push_str(".\n");
}

fn warnings(warnings: &[String], out: &mut String) {
    for warning in warnings {
        out.push_str(&format!("WARNING: {warning}\n"));
    }
}
