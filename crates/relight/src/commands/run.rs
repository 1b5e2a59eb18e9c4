//! `relight run`: asks the server to do something of the plan now.

pub mod over_api;

use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use clap::Args;
use jiff::Timestamp;
use relight_model::schedule::{Decision, JobId, Schedule, State as Memory};
use relight_model::workload::Workload;
use relight_server::runs;
use relight_server::state::{Request, Run, RunFilter, State};

use super::runs::{exit_of, words};
use crate::api::ApiOptions;
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::server_state::{ConfigOptions, operator};
use crate::{cancel, output};

/// Options of `run`.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    config: ConfigOptions,
    #[command(flatten)]
    server: ApiOptions,
    /// A workload to back up, such as vm/100; or what to do with what: `verify vm/100`, `copy vm/100 archive`, `drill vm/100`,
    /// `forget main`, `collect main`, `exercise`
    #[arg(value_name = "WHAT", required = true, num_args = 1..=3)]
    what: Vec<String>,
    /// Do not wait until it has ended
    #[arg(long)]
    no_wait: bool,
}

/// How often it is looked how far the server is.
const LOOK: Duration = Duration::from_millis(300);
/// After this time it is told what the server waits for.
const PATIENCE: Duration = Duration::from_secs(4);

fn job(what: &[String]) -> Result<JobId> {
    let text = what.join(" ");
    if let [name] = what
        && let Ok(workload) = name.parse::<Workload>()
    {
        return Ok(JobId::backup(&workload));
    }
    text.parse()
        .map_err(|error: relight_model::schedule::BadJobId| Failure::Usage(error.to_string()))
}

/// Asks for it, and waits.
pub fn run(global: &Global, options: &Options) -> Result<Exit> {
    let job = job(&options.what)?;
    if let Some(api) = options.server.open()? {
        return over_api::run(global, &job, !options.no_wait, &api);
    }
    let plan = super::plan::load(&options.config)?;
    let schedule = Schedule::new(&plan);
    if !schedule.jobs().any(|known| *known == job) {
        return Err(Failure::Usage(runs::not_planned(&plan, &schedule, &job)));
    }
    let state = options.config.state()?;
    let before = RunFilter {
        limit: Some(1),
        ..RunFilter::default()
    };
    let before = state.runs(&before)?.first().map_or(0, |run| run.number);
    state.request(&Request::Run(job.clone()), &operator(), Timestamp::now())?;
    if options.no_wait {
        output::remark(
            global,
            &format!("asked for {job}; `relight runs` shows what becomes of it"),
        );
        return Ok(Exit::Done);
    }
    let Some(run) = begun(global, &state, &schedule, &job, before)? else {
        output::remark(
            global,
            "the request stays; `relight runs` shows what becomes of it",
        );
        return Ok(Exit::Cancelled);
    };
    let Some(run) = follow(global, &state, run)? else {
        output::remark(global, "it goes on; `relight runs cancel` ends it");
        return Ok(Exit::Cancelled);
    };
    output::result(global, &run, words);
    Ok(exit_of(&run))
}

/// Waits until the server has begun it. None: somebody lost patience.
fn begun(
    global: &Global,
    state: &State,
    schedule: &Schedule,
    job: &JobId,
    before: u64,
) -> Result<Option<Run>> {
    let (cancelled, asked, mut told) = (cancel::flag(), Instant::now(), String::new());
    loop {
        let filter = RunFilter {
            job: Some(job.clone()),
            after: Some(before),
            ..RunFilter::default()
        };
        if let Some(run) = state.runs(&filter)?.pop() {
            return Ok(Some(run));
        }
        if cancelled.load(Ordering::Relaxed) {
            return Ok(None);
        }
        if asked.elapsed() >= PATIENCE {
            let why = waits_for(state, schedule, job)?;
            if why != told {
                output::remark(global, &format!("{job} waits: {why}"));
                told = why;
            }
        }
        std::thread::sleep(LOOK);
    }
}

/// What the scheduler would say of a job now. Nothing is changed.
fn waits_for(state: &State, schedule: &Schedule, job: &JobId) -> Result<String> {
    let is_taken = !state
        .requests()?
        .iter()
        .any(|(_, request, _)| *request == Request::Run(job.clone()));
    if !is_taken {
        return Ok("the server does not run, or is busy; it is begun when the server is there".into());
    }
    let Some((head, rows)) = state.remembered()? else {
        return Ok("the server has never run".into());
    };
    let mut memory = Memory::from_rows(head, rows);
    let tick = schedule.tick(&mut memory, runs::clock());
    let of_job = tick.decisions.iter().find_map(|decision| match decision {
        Decision::Wait { job: of, reason, .. } if of == job => Some(reason.to_string()),
        _ => None,
    });
    Ok(of_job.unwrap_or_else(|| "it is begun in a moment".into()))
}

/// Shows what happens until it has ended. None: somebody lost patience.
fn follow(global: &Global, state: &State, run: Run) -> Result<Option<Run>> {
    let (cancelled, mut shown) = (cancel::flag(), 0);
    output::remark(global, &format!("run {}: {}", run.number, run.job));
    loop {
        // In this order: nothing happens in a run after its end.
        let now = state.run(run.number)?;
        for event in state.run_events(run.number, shown)? {
            output::remark(global, &event.text);
            shown += 1;
        }
        match now {
            Some(run) if run.outcome.is_some() => return Ok(Some(run)),
            Some(_) => {}
            None => {
                return Err(Failure::Damaged(format!(
                    "run {} is not in the state any more",
                    run.number
                )));
            }
        }
        if cancelled.load(Ordering::Relaxed) {
            return Ok(None);
        }
        std::thread::sleep(LOOK);
    }
}
