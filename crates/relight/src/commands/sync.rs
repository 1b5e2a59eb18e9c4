//! `relight sync`: jobs of the server that copy from and to other servers.

use std::num::NonZeroUsize;
use std::time::{Duration, Instant};

use clap::{Args, Subcommand, ValueEnum};
use relight_pbs::access::{Action, AuthId};
use relight_pbs::formats::ids::Namespace;
use relight_pbs::sync::GroupFilter;
use relight_server::state::{Direction, JobRun, State, SyncJob, SyncJobFields};
use serde::Serialize;
use serde_json::Value;

use crate::approved::{Asked, Served};
use crate::cancel;
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::output;
use crate::server_state::{ConfigOptions, record};

/// How long the server may take to begin.
const BEGIN: Duration = Duration::from_secs(15);
/// How often it is looked how far it is.
const LOOK: Duration = Duration::from_millis(300);

/// What to do with jobs that copy.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the jobs, and how each ran last
    List(ListOptions),
    /// Make a job that copies from another server, or to one
    Add(Box<AddOptions>),
    /// Show a job
    Show(OneOptions),
    /// Have the running server run a job now, and wait for its end
    Run(RunOptions),
    /// Remove a job; what it copied stays
    Remove(OneOptions),
}

/// Options of `sync list`.
#[derive(Debug, Args)]
pub struct ListOptions {
    #[command(flatten)]
    config: ConfigOptions,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Way {
    /// From the other server to here
    Pull,
    /// From here to the other server
    Push,
}

/// Options of `sync add`.
#[derive(Debug, Args)]
pub struct AddOptions {
    #[command(flatten)]
    config: ConfigOptions,
    /// What it is to be called
    #[arg(value_name = "JOB")]
    id: String,
    /// The other server, as `relight remote` knows it
    #[arg(long, value_name = "NAME")]
    remote: String,
    /// The datastore there
    #[arg(long, value_name = "STORE")]
    remote_store: String,
    /// The namespace there
    #[arg(long, value_name = "NAMESPACE")]
    remote_ns: Option<Namespace>,
    /// The datastore here
    #[arg(long, value_name = "STORE")]
    store: String,
    /// The namespace here
    #[arg(long, value_name = "NAMESPACE")]
    ns: Option<Namespace>,
    /// Which way
    #[arg(long, value_enum, default_value = "pull")]
    direction: Way,
    /// Who owns what it makes here, and on whose behalf it reads [default: root@pam]
    #[arg(long, value_name = "USER[!TOKEN]")]
    owner: Option<AuthId>,
    /// When it runs: a calendar event such as "02:30" or "sat 04:00"; without it, when it is told to
    #[arg(long, value_name = "EVENT")]
    schedule: Option<String>,
    /// Which groups: type:vm, group:vm/100, regex:EXPRESSION; with exclude: before it, which not
    #[arg(long = "group-filter", value_name = "FILTER")]
    group_filter: Vec<GroupFilter>,
    /// Levels of namespaces below the first; 0 is that one only [default: all]
    #[arg(long, value_name = "LEVELS")]
    max_depth: Option<usize>,
    /// Only the newest snapshots of each group
    #[arg(long, value_name = "COUNT")]
    transfer_last: Option<NonZeroUsize>,
    /// Remove from the target what the source does not have any more
    #[arg(long)]
    remove_vanished: bool,
    /// Fetch snapshots again whose verification failed here
    #[arg(long)]
    resync_corrupt: bool,
    /// Only what was verified at the source
    #[arg(long)]
    verified_only: bool,
    /// Only what clients encrypted
    #[arg(long)]
    encrypted_only: bool,
    /// Bytes a second that come in, such as 10MiB
    #[arg(long, value_name = "RATE")]
    rate_in: Option<String>,
    /// Bytes a second that go out
    #[arg(long, value_name = "RATE")]
    rate_out: Option<String>,
    /// What lists show beside the name
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
}

/// Options of commands for one job.
#[derive(Debug, Args)]
pub struct OneOptions {
    #[command(flatten)]
    config: ConfigOptions,
    /// Which
    #[arg(value_name = "JOB")]
    id: String,
}

/// Options of `sync run`.
#[derive(Debug, Args)]
pub struct RunOptions {
    #[command(flatten)]
    one: OneOptions,
    /// Do not wait for its end
    #[arg(long)]
    no_wait: bool,
}

#[derive(Serialize)]
struct Done<'a> {
    job: &'a str,
    done: &'static str,
}

#[derive(Serialize)]
struct Ran<'a> {
    job: &'a str,
    upid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    state: Option<&'a str>,
}

/// A job and how it ran last, as lists show them.
fn entry(job: &SyncJob, run: &JobRun) -> Result<Value> {
    let mut entry = serde_json::to_value(job).map_err(|error| Failure::Usage(error.to_string()))?;
    if let Some(upid) = &run.upid {
        entry["last-run-upid"] = upid.clone().into();
    }
    if let Some((state, ended)) = run.state.clone().zip(run.ended) {
        entry["last-run-state"] = state.into();
        entry["last-run-endtime"] = ended.into();
    }
    Ok(entry)
}

/// Does it.
pub fn run(global: &Global, command: &Command) -> Result<Exit> {
    match command {
        Command::List(options) => list(global, &options.config.state()?),
        Command::Add(options) => add(global, options),
        Command::Show(OneOptions { config, id }) => {
            let (job, run) = config.state()?.sync_job(id)?;
            output::result(global, &entry(&job, &run)?, |entry, out| {
                let text = |value: &Value| value.as_str().map_or_else(|| value.to_string(), String::from);
                let rows = entry.as_object().into_iter().flatten();
                let rows: Vec<_> = rows
                    .map(|(name, value)| vec![name.clone(), text(value)])
                    .collect();
                output::table(&rows, &[], out);
            });
            Ok(Exit::Done)
        }
        Command::Run(options) => run_now(global, options),
        Command::Remove(OneOptions { config, id }) => {
            let state = config.state()?;
            state.remove_sync_job(id)?;
            record(&state, format!("sync remove {id}"))?;
            Ok(done(global, id, "removed", "is removed; what it copied stays"))
        }
    }
}

fn done(global: &Global, job: &str, done: &'static str, words: &str) -> Exit {
    output::result(global, &Done { job, done }, |_, out| {
        out.push_str(&format!("{job} {words}.\n"));
    });
    Exit::Done
}

fn list(global: &Global, state: &State) -> Result<Exit> {
    let jobs = state.sync_jobs()?;
    let entries: Result<Vec<Value>> = jobs.iter().map(|(job, run)| entry(job, run)).collect();
    output::result(global, &entries?, |_, out| {
        let heading = ["JOB", "WAY", "HERE", "THERE", "SCHEDULE", "LAST END", "RESULT"].map(String::from);
        let cells = |(job, run): &(SyncJob, JobRun)| {
            let fields = &job.fields;
            let text = |part: &Option<String>| part.clone().unwrap_or_default();
            let way = match job.direction() {
                Direction::Pull => "pull",
                Direction::Push => "push",
            };
            let ended = run.ended.and_then(|end| jiff::Timestamp::from_second(end).ok());
            vec![
                job.id.clone(),
                way.to_string(),
                text(&fields.store),
                format!("{}/{}", text(&fields.remote), text(&fields.remote_store)),
                text(&fields.schedule),
                ended.map(crate::shown::local).unwrap_or_default(),
                match (&run.upid, &run.state) {
                    (Some(_), None) => "runs, or was broken off".into(),
                    (_, state) => text(state),
                },
            ]
        };
        let rows: Vec<_> = std::iter::once(heading.to_vec())
            .chain(jobs.iter().map(cells))
            .collect();
        output::table(&rows, &[], out);
    });
    Ok(Exit::Done)
}

fn add(global: &Global, options: &AddOptions) -> Result<Exit> {
    let served = Served {
        config: options.config.load()?,
        repository: options.store.clone(),
    };
    let state = State::open(&served.config.server.state)?;
    let yes = |is: bool| is.then_some(true);
    let job = SyncJob {
        id: options.id.clone(),
        fields: SyncJobFields {
            store: Some(options.store.clone()),
            ns: options.ns.clone(),
            owner: options.owner.clone(),
            remote: Some(options.remote.clone()),
            remote_store: Some(options.remote_store.clone()),
            remote_ns: options.remote_ns.clone(),
            remove_vanished: yes(options.remove_vanished),
            max_depth: options.max_depth,
            comment: options.comment.clone(),
            schedule: options.schedule.clone(),
            group_filter: Some(options.group_filter.clone()).filter(|list| !list.is_empty()),
            rate_in: options.rate_in.clone(),
            rate_out: options.rate_out.clone(),
            transfer_last: options.transfer_last,
            resync_corrupt: yes(options.resync_corrupt),
            encrypted_only: yes(options.encrypted_only),
            verified_only: yes(options.verified_only),
            sync_direction: Some(match options.direction {
                Way::Pull => Direction::Pull,
                Way::Push => Direction::Push,
            }),
            ..SyncJobFields::default()
        },
    };
    let asked = |served: &Served| removes(served, &job);
    served.with_leave(Action::Delete, asked, || Ok(state.add_sync_job(&job)?))?;
    record(&state, format!("sync add {}", job.id))?;
    let words = match &job.fields.schedule {
        Some(schedule) => format!("is added, and runs at {schedule} while the server does"),
        None => format!("is added. To run it: relight sync run {}", job.id),
    };
    Ok(done(global, &job.id, "added", &words))
}

/// What one person alone may not be enough for: a job that removes recovery points here because they are gone elsewhere.
fn removes(served: &Served, job: &SyncJob) -> Result<Option<Asked>> {
    if job.direction() != Direction::Pull || !job.fields.remove_vanished.unwrap_or_default() {
        return Ok(None);
    }
    let text = |part: &Option<String>| part.clone().unwrap_or_default();
    let exact = serde_json::to_string(job).map_err(|error| Failure::Usage(error.to_string()))?;
    Ok(Some(Asked {
        path: served.place([]),
        subject: format!(
            "make the job {}, which deletes recovery points in {} that are gone in {} of {}",
            job.id,
            served.repository,
            text(&job.fields.remote_store),
            text(&job.fields.remote)
        ),
        exact,
    }))
}

fn run_now(global: &Global, options: &RunOptions) -> Result<Exit> {
    let OneOptions { config, id } = &options.one;
    let state = config.state()?;
    state.sync_job(id)?;
    let user = rustix::process::getuid().as_raw();
    state.request_sync_job(id, &format!("command line, uid {user}"))?;
    record(&state, format!("sync run {id}"))?;
    let asked = Instant::now();
    let stop = cancel::flag();
    loop {
        let (_, now) = state.sync_job(id)?;
        // Whoever takes it up notes its task at the same time.
        if now.requested.is_none() {
            if options.no_wait || now.state.is_some() {
                let upid = now.upid.as_deref().unwrap_or_default();
                return Ok(ran(global, id, upid, now.state.as_deref()));
            }
        } else if asked.elapsed() > BEGIN && state.withdraw_sync_job(id)? {
            return Err(Failure::Usage(format!(
                "no server took up the job within {} seconds: it does not run, or an earlier run of the job does not end",
                BEGIN.as_secs()
            )));
        }
        if stop.load(std::sync::atomic::Ordering::Relaxed) {
            // The server goes on with what it has begun.
            state.withdraw_sync_job(id)?;
            return Ok(Exit::Cancelled);
        }
        std::thread::sleep(LOOK);
    }
}

fn ran(global: &Global, job: &str, upid: &str, state: Option<&str>) -> Exit {
    output::result(global, &Ran { job, upid, state }, |ran, out| {
        let state = ran.state.unwrap_or("it runs");
        out.push_str(&format!("{job}: {state}\ntask {upid}\n"));
    });
    match state {
        None | Some("OK") => Exit::Done,
        Some(state) if state.starts_with("WARNINGS") => Exit::Incomplete,
        Some(_) => Exit::Failed,
    }
}
