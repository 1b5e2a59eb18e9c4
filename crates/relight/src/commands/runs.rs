//! `relight runs`: what the server did and does, what came of it, and why.

pub mod over_api;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use relight_model::duration::TimeSpan;
use relight_model::schedule::{RunKind, State as Memory};
use relight_model::size::ByteSize;
use relight_model::workload::Workload;
use relight_server::evidence::detail::{Ended, Figures};
use relight_server::runs::Code;
use relight_server::state::{Request, Run, RunEvent, RunFilter};
use serde::Serialize;

use crate::api::ApiOptions;
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::server_state::{ConfigOptions, operator};
use crate::{output, shown};

/// Options of `runs`.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub struct Options {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    list: ListOptions,
}

/// Subcommands of `runs`.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List runs, the newest last
    List(ListOptions),
    /// Show a run with its events
    Show(NumberOptions),
    /// End a run soon; what it has done so far is used by the next one
    Cancel(NumberOptions),
    /// Show what happens in a run of another host's server until it has ended
    Follow(NumberOptions),
    /// Tell the server that its clock is right, after an alarm held back what forgets and collects
    ConfirmClock(ConfigOptions),
}

/// Options of `runs list`.
#[derive(Debug, Args)]
pub struct ListOptions {
    #[command(flatten)]
    config: ConfigOptions,
    #[command(flatten)]
    server: ApiOptions,
    /// Of this workload only
    #[arg(long, short)]
    workload: Option<Workload>,
    /// Of this kind only: backup, copy, verify, drill, forget, collect, exercise
    #[arg(long, value_name = "KIND", value_parser = kind)]
    kind: Option<RunKind>,
    /// That ended so: good, incomplete, failed, cancelled, interrupted
    #[arg(long, value_name = "OUTCOME", value_parser = outcome)]
    outcome: Option<Ended>,
    /// Only what runs now
    #[arg(long)]
    running: bool,
    /// Started from this time on, such as 2026-11-22T10:00:00Z
    #[arg(long, value_name = "TIME")]
    since: Option<Timestamp>,
    /// Started before this time
    #[arg(long, value_name = "TIME")]
    until: Option<Timestamp>,
    /// With a number below this one: the page before
    #[arg(long, value_name = "NUMBER")]
    before: Option<u64>,
    /// So many at most, the newest ones
    #[arg(long, short = 'n', value_name = "N", default_value_t = 50)]
    limit: u32,
}

/// A run by its number.
#[derive(Debug, Args)]
pub struct NumberOptions {
    #[command(flatten)]
    config: ConfigOptions,
    #[command(flatten)]
    server: ApiOptions,
    /// Its number
    #[arg(value_name = "NUMBER")]
    run: u64,
}

fn kind(text: &str) -> Result<RunKind, String> {
    let found = RunKind::ALL.into_iter().find(|kind| kind.name() == text);
    found.ok_or_else(|| format!("there are: {}", RunKind::ALL.map(RunKind::name).join(", ")))
}

fn outcome(text: &str) -> Result<Ended, String> {
    let found = Ended::ALL.into_iter().find(|ended| ended.name() == text);
    found.ok_or_else(|| format!("there are: {}", Ended::ALL.map(Ended::name).join(", ")))
}

/// Does it.
pub fn run(global: &Global, options: &Options) -> Result<Exit> {
    match &options.command {
        None => list(global, &options.list),
        Some(Command::List(options)) => list(global, options),
        Some(Command::Show(options)) => show(global, options),
        Some(Command::Follow(options)) => over_api::follow(global, options.run, &options.server.required()?),
        Some(Command::Cancel(options)) => {
            if let Some(api) = options.server.open()? {
                return over_api::cancel(global, options.run, &api);
            }
            let state = options.config.state()?;
            match state.run(options.run)? {
                Some(run) if run.outcome.is_none() => {}
                Some(run) => {
                    return Err(Failure::Usage(format!("run {} has ended already", run.number)));
                }
                None => return Err(no_run(options.run)),
            }
            state.request(&Request::Cancel(options.run), &operator(), Timestamp::now())?;
            output::remark(global, &format!("asked the server to end run {}", options.run));
            Ok(Exit::Done)
        }
        Some(Command::ConfirmClock(config)) => {
            let state = config.state()?;
            state.request(&Request::ConfirmClock, &operator(), Timestamp::now())?;
            output::remark(global, "told the server that its clock is right");
            Ok(Exit::Done)
        }
    }
}

fn no_run(number: u64) -> Failure {
    Failure::Usage(format!("there is no run {number}; `relight runs` lists them"))
}

#[derive(Serialize)]
struct Listed {
    runs: Vec<Run>,
    /// Why the clock is not trusted.
    clock_alarm: Option<String>,
}

fn list(global: &Global, options: &ListOptions) -> Result<Exit> {
    if let Some(api) = options.server.open()? {
        return over_api::list(global, options, &api);
    }
    let state = options.config.state()?;
    let filter = RunFilter {
        workload: options.workload.as_ref().map(ToString::to_string),
        kind: options.kind,
        outcome: options.outcome,
        running: options.running,
        since: options.since,
        until: options.until,
        before: options.before,
        limit: Some(options.limit),
        ..RunFilter::default()
    };
    let mut runs = state.runs(&filter)?;
    runs.reverse();
    let memory = state
        .remembered()?
        .map(|(head, rows)| Memory::from_rows(head, rows));
    let clock_alarm = memory
        .and_then(|memory| memory.clock_alarm())
        .map(|alarm| alarm.to_string());
    output::result(global, &Listed { runs, clock_alarm }, table);
    Ok(Exit::Done)
}

/// A list of runs.
pub fn list_words(runs: &[Run], out: &mut String) {
    if runs.is_empty() {
        out.push_str("There is no such run.\n");
        return;
    }
    let heading = ["RUN", "STARTED", "WHAT", "OUTCOME", "TOOK", "RESULT"]
        .map(String::from)
        .to_vec();
    let rows: Vec<_> = std::iter::once(heading).chain(runs.iter().map(cells)).collect();
    output::table(&rows, &[0, 4], out);
}

fn table(listed: &Listed, out: &mut String) {
    list_words(&listed.runs, out);
    if let Some(alarm) = &listed.clock_alarm {
        out.push_str(&format!(
            "ALARM: {alarm}\n`relight runs confirm-clock` tells that it is right.\n"
        ));
    }
}

/// An outcome in words.
pub fn outcome_words(outcome: Ended) -> &'static str {
    match outcome {
        Ended::Good => "good",
        Ended::Incomplete => "INCOMPLETE",
        Ended::Failed => "FAILED",
        Ended::Cancelled => "cancelled",
        Ended::Interrupted => "interrupted",
    }
}

fn took(run: &Run) -> String {
    let end = run.ended.unwrap_or_else(Timestamp::now);
    let took = std::time::Duration::try_from(end.duration_since(run.started)).unwrap_or_default();
    let rounded = if took.as_secs() >= 60 {
        took.as_secs() * 1000
    } else {
        took.as_millis().div_ceil(100) as u64 * 100
    };
    TimeSpan(std::time::Duration::from_millis(rounded)).to_string()
}

fn figures(figures: &Figures) -> String {
    let bytes = |label: &str, value: Option<u64>| value.map(|value| format!("{} {label}", ByteSize(value)));
    let parts = [
        bytes("in all", figures.size),
        bytes("read", figures.read),
        bytes("new", figures.added),
        bytes("stored", figures.stored),
        figures.snapshots.map(|count| format!("{count} snapshots")),
        figures
            .damaged
            .filter(|count| *count > 0)
            .map(|count| format!("{count} damaged")),
    ];
    parts.into_iter().flatten().collect::<Vec<_>>().join(", ")
}

fn result(run: &Run) -> String {
    match (&run.code, &run.message) {
        (Some(code), Some(message)) => format!("{code} {message}"),
        _ => figures(&run.figures),
    }
}

fn cells(run: &Run) -> Vec<String> {
    let attempt = if run.attempt > 1 {
        format!(" (try {})", run.attempt)
    } else {
        String::new()
    };
    vec![
        run.number.to_string(),
        shown::local(run.started),
        format!("{}{attempt}", run.job),
        run.outcome.map_or("running", outcome_words).to_string(),
        took(run),
        result(run),
    ]
}

/// A run in words.
pub fn words(run: &Run, out: &mut String) {
    let mut line = |label: &str, value: String| {
        if !value.is_empty() {
            out.push_str(&format!("{label:<10} {value}\n"));
        }
    };
    line("run", format!("{}: {}", run.number, run.job));
    line("due", shown::local(run.due));
    line("started", shown::local(run.started));
    line("took", took(run));
    line("by", run.who.clone().unwrap_or_else(|| "the plan".into()));
    line(
        "try",
        if run.attempt > 1 {
            run.attempt.to_string()
        } else {
            String::new()
        },
    );
    line(
        "outcome",
        run.outcome.map_or("it runs", outcome_words).to_string(),
    );
    if let (Some(code), Some(message)) = (&run.code, &run.message) {
        line("why", format!("{code}: {message} (docs/errors.md)"));
    }
    line("repository", run.repository.clone().unwrap_or_default());
    line("snapshot", run.snapshot.clone().unwrap_or_default());
    line("figures", figures(&run.figures));
}

#[derive(Serialize)]
struct Detailed {
    #[serde(flatten)]
    run: Run,
    events: Vec<RunEvent>,
}

fn show(global: &Global, options: &NumberOptions) -> Result<Exit> {
    if let Some(api) = options.server.open()? {
        return over_api::show(global, options.run, &api);
    }
    let state = options.config.state()?;
    let run = state.run(options.run)?.ok_or_else(|| no_run(options.run))?;
    let events = state.run_events(run.number, 0)?;
    output::result(global, &Detailed { run, events }, detailed_words);
    Ok(Exit::Done)
}

fn detailed_words(detailed: &Detailed, out: &mut String) {
    words(&detailed.run, out);
    for event in &detailed.events {
        out.push_str(&format!("  {}  {}\n", shown::local(event.time), event.text));
    }
}

/// The exit code that says how a run ended.
pub fn exit_of(run: &Run) -> Exit {
    match run.outcome {
        Some(Ended::Good) => Exit::Done,
        Some(Ended::Incomplete) => Exit::Incomplete,
        Some(Ended::Cancelled | Ended::Interrupted) => Exit::Cancelled,
        Some(Ended::Failed) if run.code.as_deref() == Some(Code::Damage.name()) => Exit::Damage,
        Some(Ended::Failed) | None => Exit::Failed,
    }
}
