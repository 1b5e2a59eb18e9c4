//! `relight postgres restore`: a data directory as it was at any moment of a window.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::Args;
use jiff::Timestamp;
use relight_model::Workload;
use relight_model::duration::TimeSpan;
use relight_model::size::{ByteSize, Rate};
use relight_postgres::Lsn;
use relight_postgres::launch::{self, Programs, Reached};
use relight_postgres::restore::{self, Action, Chosen, Goal, Recovery, TablespaceMap, Timeline};
use relight_postgres::wal::store::LogStore;
use relight_postgres::wal::tail::Tail;
use relight_repo::Repository;
use relight_repo::read::ChunkReader;
use relight_repo::snapshot::Snapshot;
use serde::Serialize;

use super::backup::{meter, watched};
use super::name::ClusterName;
use crate::approved::{Asked, Served, with_leave};
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::{cancel, output, target};

/// How far a recovery goes.
#[derive(Debug, Args)]
pub struct GoalOptions {
    /// To a time, with its offset: 2026-11-23T08:15:00+01:00
    #[arg(long, value_name = "TIME", group = "goal")]
    to_time: Option<String>,
    /// To a position in the log: 16/B374D848
    #[arg(long, value_name = "LSN", group = "goal")]
    to_lsn: Option<Lsn>,
    /// To the end of a transaction
    #[arg(long, value_name = "XID", group = "goal")]
    to_xid: Option<u64>,
    /// To a point that pg_create_restore_point named
    #[arg(long, value_name = "POINT", group = "goal")]
    to_name: Option<String>,
    /// Only to the end of the base backup
    #[arg(long, group = "goal")]
    immediate: bool,
    /// Leave out what the goal itself names
    #[arg(long)]
    exclusive: bool,
    /// The timeline to follow: a number, `latest`, or `current` for that of the base backup
    #[arg(long, value_name = "TIMELINE", default_value = "latest")]
    timeline: String,
    /// Begin with this base backup [default: the newest before the goal]
    #[arg(long, value_name = "SNAPSHOT")]
    base: Option<String>,
}

impl GoalOptions {
    /// The goal.
    pub fn goal(&self) -> Result<Goal> {
        Ok(match self {
            Self {
                to_time: Some(time), ..
            } => Goal::Time(restore::goal_time(time)?),
            Self {
                to_lsn: Some(lsn), ..
            } => Goal::Lsn(*lsn),
            Self {
                to_xid: Some(xid), ..
            } => Goal::Transaction(*xid),
            Self {
                to_name: Some(name), ..
            } => Goal::Name(name.clone()),
            Self { immediate: true, .. } => Goal::Immediate,
            _ => Goal::Latest,
        })
    }

    /// The timeline.
    pub fn timeline(&self) -> Result<Timeline> {
        match self.timeline.as_str() {
            "latest" => Ok(Timeline::Latest),
            "current" => Ok(Timeline::Current),
            number => number.parse().map(Timeline::Number).map_err(|_| {
                Failure::Usage(format!(
                    "--timeline {number}: it has to be a number, `latest` or `current`"
                ))
            }),
        }
    }

    /// The base backup to begin with, and the window. `tail` is the newest log, if it is replayed as well.
    pub fn choose<'a>(&self, snapshots: &'a [Snapshot], tail: &Tail) -> Result<Chosen<'a>> {
        let wanted = match &self.base {
            Some(given) => Some(target::choose(snapshots, given)?.id),
            None => None,
        };
        Ok(restore::choose_with(
            snapshots,
            tail,
            &self.goal()?,
            self.timeline()?,
            wanted,
        )?)
    }

    /// Whether what the goal names is replayed too.
    pub fn inclusive(&self) -> bool {
        !self.exclusive
    }
}

/// Options of `restore`.
#[derive(Debug, Args)]
pub struct Options {
    /// The cluster
    #[arg(value_name = "NAME")]
    name: ClusterName,
    /// The data directory to make
    #[arg(long, value_name = "DIR")]
    target: PathBuf,
    #[command(flatten)]
    goal: GoalOptions,
    /// What the server does at the goal: promote, pause or shutdown
    #[arg(long, value_name = "ACTION", default_value = "promote", value_parser = action)]
    action: Action,
    /// Where a tablespace goes, named by its number or its old place; may be repeated
    #[arg(long, value_name = "OLD=NEW")]
    tablespace: Vec<String>,
    /// Folder for all other tablespaces, each under its number
    #[arg(long, value_name = "DIR")]
    tablespaces: Option<PathBuf>,
    /// Bring back into an existing data directory of the same cluster, which must be stopped: only what differs is
    /// written, and what is not in the backup is removed
    #[arg(long)]
    delta: bool,
    /// User that the files belong to and the server runs as [default: this user; of root: postgres]
    #[arg(long, value_name = "USER")]
    user: Option<String>,
    /// Put the needed log into the data directory now, so that the server needs neither the repository nor a key
    #[arg(long)]
    with_log: bool,
    /// The command by which the server fetches the log [default: relight wal-fetch with the repository of this command]
    #[arg(long, value_name = "COMMAND", conflicts_with = "with_log")]
    restore_command: Option<String>,
    /// Become a standby: go on replaying what arrives
    #[arg(long, conflicts_with = "goal")]
    standby: bool,
    /// Let the restored cluster archive its log as the original did; never while the original still runs
    #[arg(long)]
    keep_archiving: bool,
    /// Start the server and wait until the goal is reached; implies --with-log
    #[arg(long)]
    start: bool,
    /// Folder of the programs of the cluster's version
    #[arg(long, value_name = "DIR")]
    bin: Option<PathBuf>,
}

impl Options {
    /// What it does, in words for the evidence.
    pub fn told(&self) -> String {
        format!(
            "restored the cluster {} to {}",
            self.name.0,
            self.target.display()
        )
    }
}

fn action(text: &str) -> std::result::Result<Action, String> {
    match text {
        "promote" => Ok(Action::Promote),
        "pause" => Ok(Action::Pause),
        "shutdown" => Ok(Action::Shutdown),
        _ => Err("it has to be promote, pause or shutdown".into()),
    }
}

#[derive(Serialize)]
struct Report {
    snapshot: String,
    workload: String,
    goal: String,
    #[serde(flatten)]
    restored: restore::Report,
    reached: Option<&'static str>,
    fetch_seconds: f64,
    replay_seconds: f64,
    remarks: Vec<String>,
}

/// Restores it.
pub fn run(global: &Global, options: &Options) -> Result<Exit> {
    let repository = global.open_to_read()?;
    let workload = &options.name.0;
    // In this order: a piece that goes meanwhile goes because a snapshot has it.
    let newest = LogStore::new(repository.clone(), workload.clone(), cancel::flag()).tail()?;
    let snapshots = of_workload(&repository, &options.name)?;
    let goal = options.goal.goal()?;
    let chosen = options.goal.choose(&snapshots, &newest)?;
    let owner = owner(options.user.as_deref())?;
    let programs = if options.start {
        Some(Programs::find(
            chosen.about.major(),
            options.bin.as_deref(),
            owner,
        )?)
    } else {
        None
    };
    let with_log = options.with_log || options.start;
    let directory = std::path::absolute(&options.target)
        .map_err(Failure::io(format!("find {}", options.target.display())))?;
    let command = match &options.restore_command {
        _ if with_log || goal == Goal::Immediate => None,
        Some(command) => Some(command.clone()),
        None => Some(fetch_command(global, workload.as_str())?),
    };
    let how = restore::Options {
        directory: directory.clone(),
        tablespaces: tablespaces(options)?,
        owner,
        recovery: Recovery {
            goal: chosen.goal(&goal),
            inclusive: options.goal.inclusive(),
            timeline: if options.standby {
                Timeline::Latest
            } else {
                chosen.timeline()
            },
            action: options.action,
            restore_command: command,
            standby: options.standby,
            keep_archiving: options.keep_archiving,
        },
        delta: options.delta,
        sync: true,
    };
    let asked = |served: &Served| Ok(over_production(served, workload, &chosen, &goal, &how));
    let bring_back = || {
        bring_back(
            global,
            options,
            &repository,
            &chosen,
            &goal,
            &how,
            programs.as_ref(),
        )
    };
    let report = with_leave(global, relight_pbs::access::Action::Restore, asked, bring_back)?;
    output::result(global, &report, words);
    Ok(Exit::Done)
}

/// What one person alone may not be enough for: writing over a data directory that is there.
fn over_production(
    served: &Served,
    workload: &Workload,
    chosen: &Chosen<'_>,
    goal: &Goal,
    how: &restore::Options,
) -> Option<Asked> {
    // Base backups come and go while somebody decides; to a goal in the log all of them lead.
    let base = match goal {
        Goal::Immediate => format!(" of {}", chosen.snapshot.time),
        _ => String::new(),
    };
    how.delta.then(|| Asked {
        path: served.place([workload.as_str()]),
        subject: format!(
            "restore the cluster {workload} ({goal}{base}) over the data directory {}",
            how.directory.display()
        ),
        exact: format!(
            "{goal:?} {} {:?} {:?} {} {}",
            how.recovery.inclusive,
            how.recovery.timeline,
            how.recovery.action,
            how.recovery.standby,
            how.recovery.keep_archiving
        ),
    })
}

fn bring_back(
    global: &Global,
    options: &Options,
    repository: &Arc<Repository>,
    chosen: &Chosen<'_>,
    goal: &Goal,
    how: &restore::Options,
    programs: Option<&Programs>,
) -> Result<Report> {
    let (workload, directory) = (&options.name.0, &how.directory);
    let began = Instant::now();
    let work = watched(global);
    let meter = meter(global, &work);
    let reader = Arc::new(ChunkReader::new(repository.clone())?);
    let store = LogStore::new(repository.clone(), workload.clone(), work.cancelled.clone());
    let needed;
    let log = match chosen
        .window
        .as_ref()
        .filter(|_| options.with_log || options.start)
    {
        Some(window) => {
            // In this order, too.
            let tail = store.tail()?;
            needed = (store.catalog()?, tail);
            let request = restore::LogRequest {
                about: &chosen.about,
                timeline: window.timeline,
                goal,
            };
            Some(restore::NeededLog::find(&store, (&needed.0, &needed.1), &request))
        }
        None => None,
    };
    let restored = restore::restore(&reader, chosen.snapshot, how, log, &work)?;
    drop(meter);
    let fetch_seconds = began.elapsed().as_secs_f64();
    let replay = Instant::now();
    let reached = match programs {
        Some(programs) => {
            let log = directory.join("relight-start.log");
            Some(launch::start(programs, directory, &log, &work)?)
        }
        None => None,
    };
    Ok(Report {
        snapshot: chosen.snapshot.id.to_string(),
        workload: workload.to_string(),
        goal: goal.to_string(),
        restored,
        reached: reached.map(|reached| match reached {
            Reached::InProduction => "in production",
            Reached::Standby => "standby",
            Reached::Paused => "paused at the goal",
            Reached::ShutDown => "shut down at the goal",
        }),
        fetch_seconds,
        replay_seconds: replay.elapsed().as_secs_f64(),
        remarks: remarks(options, chosen.about.stop_time),
    })
}

/// All snapshots of a cluster, the oldest first.
pub fn of_workload(repository: &Arc<Repository>, name: &ClusterName) -> Result<Vec<Snapshot>> {
    let (mut snapshots, unreadable) = repository.snapshots()?;
    for (id, error) in unreadable {
        tracing::warn!(snapshot = %id, %error, "a snapshot cannot be read");
    }
    snapshots.retain(|snapshot| snapshot.workload == name.0.as_str());
    if snapshots.is_empty() {
        return Err(Failure::Usage(format!(
            "the repository has nothing of {}; `relight snapshots` lists what there is",
            name.0
        )));
    }
    Ok(snapshots)
}

/// User and group of a name; for root, PostgreSQL's own if none is given.
pub fn owner(name: Option<&str>) -> Result<Option<(u32, u32)>> {
    let root = rustix::process::geteuid().is_root();
    let (name, given) = match name {
        Some(name) => (name, true),
        None if root => ("postgres", false),
        None => return Ok(None),
    };
    let found = restore::user_and_group(name)?;
    match found {
        Some(owner) => Ok(Some(owner)),
        None if given => Err(Failure::Usage(format!("there is no user {name} on this host"))),
        None => Err(Failure::Usage(
            "there is no user postgres on this host: name the user that the files shall belong to with --user".into(),
        )),
    }
}

fn tablespaces(options: &Options) -> Result<TablespaceMap> {
    let mut single = BTreeMap::new();
    for text in &options.tablespace {
        let Some((old, new)) = text.rsplit_once('=') else {
            return Err(Failure::Usage(format!("--tablespace {text}: write OLD=NEW")));
        };
        single.insert(old.to_string(), PathBuf::from(new));
    }
    Ok(TablespaceMap {
        single,
        others: options.tablespaces.clone(),
    })
}

/// The command that the server of the restored cluster fetches its log with. Secrets are not in it: files that hold them are
/// named.
fn fetch_command(global: &Global, workload: &str) -> Result<String> {
    let program = std::env::current_exe().map_err(Failure::io("find this program".to_string()))?;
    let mut words = vec![
        program.display().to_string(),
        "wal-fetch".into(),
        "--quiet".into(),
        // What is restored goes its own way: it may take the newest log for what it is.
        "--partial".into(),
    ];
    let location = global.location()?;
    let location = if location.contains("://") {
        location.to_string()
    } else {
        std::path::absolute(location)
            .map_err(Failure::io(format!("find {location}")))?
            .display()
            .to_string()
    };
    words.extend(["--repo".into(), location]);
    let files = [
        ("--password-file", &global.keys.password_file),
        ("--key-file", &global.keys.key_file),
        ("--cache-dir", &global.cache_dir),
    ];
    for (option, path) in files {
        if let Some(path) = path {
            let path = std::path::absolute(path).map_err(Failure::io(format!("find {}", path.display())))?;
            words.extend([option.into(), path.display().to_string()]);
        }
    }
    words.extend(["--workload".into(), workload.into()]);
    let quoted: Vec<String> = words.iter().map(|word| shell(word)).collect();
    // The server puts the file's name and place in; a percent sign of a path must not look like one of these.
    Ok(format!("{} %f %p", quoted.join(" ").replace('%', "%%")))
}

fn shell(word: &str) -> String {
    let plain = |char: char| char.is_ascii_alphanumeric() || "/._-:=@".contains(char);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_string()
    } else {
        format!("'{}'", word.replace('\'', "'\\''"))
    }
}

fn remarks(options: &Options, stop: Timestamp) -> Vec<String> {
    let mut remarks = Vec::new();
    if !options.keep_archiving {
        remarks.push(
            "archiving is off in it: before you turn it on, attach it under a name of its own, because two clusters must \
             not write one log"
                .to_string(),
        );
    }
    if !options.start {
        remarks.push(format!(
            "no server was started: it was consistent at {stop}, and replays the rest when it starts"
        ));
    }
    remarks
}

fn words(report: &Report, out: &mut String) {
    let elapsed = Duration::from_secs_f64(report.fetch_seconds);
    let rate = Rate::of(report.restored.written + report.restored.log.bytes, elapsed)
        .map_or(String::new(), |rate| format!(", {rate}"));
    out.push_str(&format!(
        "{} of {} restored to {}\n",
        report.snapshot.get(..8).unwrap_or(&report.snapshot),
        report.workload,
        report.restored.directory.display()
    ));
    if let Some(unfinished) = &report.restored.completed {
        out.push_str(&format!(
            "  completes a restore of {} that began at {} and did not come to its end\n",
            unfinished.short(),
            unfinished.began.strftime("%Y-%m-%d %H:%M:%SZ"),
        ));
    }
    out.push_str(&format!(
        "  {} files, {}, of which {} written, in {}{rate}\n",
        report.restored.files,
        ByteSize(report.restored.bytes),
        ByteSize(report.restored.written),
        TimeSpan(Duration::from_millis(elapsed.as_millis() as u64)),
    ));
    if report.restored.log.segments > 0 {
        out.push_str(&format!(
            "  {} segments of the log, {}\n",
            report.restored.log.segments,
            ByteSize(report.restored.log.bytes)
        ));
    }
    out.push_str(&format!("  goal: {}\n", report.goal));
    if let Some(reached) = report.reached {
        out.push_str(&format!(
            "  the server is {reached}, after {}\n",
            TimeSpan(Duration::from_millis((report.replay_seconds * 1000.0) as u64))
        ));
    }
    for path in &report.restored.outside {
        out.push_str(&format!("  configuration: {}\n", path.display()));
    }
    for remark in &report.remarks {
        out.push_str(&format!("  {remark}\n"));
    }
}
