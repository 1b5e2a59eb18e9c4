//! `relight wal-push` and `relight wal-fetch`: what PostgreSQL calls as `archive_command` and `restore_command`.

use std::panic::AssertUnwindSafe;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use clap::Args;
use relight_postgres::wal::WalName;
use relight_postgres::wal::archive::{self, Ahead, Outcome, Spool};
use relight_postgres::wal::store::LogStore;

use super::postgres::name::ClusterName;
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::{cancel, output};

/// The name by which the restore command is known: whatever goes wrong with it, from the first argument on, has to end
/// in [`Exit::Abort`].
pub const FETCH: &str = "wal-fetch";

/// Options of both.
#[derive(Debug, Args)]
struct Common {
    /// The cluster whose log it is
    #[arg(long, short, env = "RELIGHT_WORKLOAD", value_name = "NAME")]
    workload: ClusterName,
    /// Folder for what is moved ahead of the server's asking [default: relight-spool beside the log file]
    #[arg(long, env = "RELIGHT_SPOOL", value_name = "DIR")]
    spool: Option<PathBuf>,
}

impl Common {
    fn spool(&self, global: &Global, path: &std::path::Path) -> Result<Spool> {
        let belongs = format!("{} {}", global.location()?, self.workload.0);
        Ok(Spool::beside(path, self.spool.as_deref(), &belongs))
    }

    fn open(&self, global: &Global) -> Result<LogStore> {
        Ok(LogStore::new(
            global.open()?,
            self.workload.0.clone(),
            cancel::flag(),
        ))
    }
}

/// Options of `wal-push`.
#[derive(Debug, Args)]
pub struct PushOptions {
    /// The file to store, which PostgreSQL gives as %p
    #[arg(value_name = "PATH")]
    path: PathBuf,
    #[command(flatten)]
    common: Common,
}

/// Stores a file of the log, and what else is ready beside it.
pub fn push(global: &Global, options: &PushOptions) -> Result<Exit> {
    let spool = options.common.spool(global, &options.path)?;
    archive::push::<Failure>(&options.path, &spool, || options.common.open(global))?;
    Ok(Exit::Done)
}

/// Options of `wal-fetch`.
#[derive(Debug, Args)]
pub struct FetchOptions {
    /// The file to bring back, which PostgreSQL gives as %f
    #[arg(value_name = "NAME")]
    name: String,
    /// Where to put it, which PostgreSQL gives as %p
    #[arg(value_name = "PATH")]
    target: PathBuf,
    /// At the end of the log, take the beginning of a segment that was never completed for it: only if the cluster that
    /// wrote it is gone
    #[arg(long)]
    partial: bool,
    /// How many segments are fetched ahead; 0 for none
    #[arg(long, default_value_t = 8, value_name = "N")]
    ahead: u64,
    /// Be the process that fetches ahead
    #[arg(long, hide = true)]
    be_ahead: bool,
    #[command(flatten)]
    common: Common,
}

/// Brings a file of the log back. Only what is known to be the end of the log ends in exit code 1: PostgreSQL ends its
/// recovery there and begins to write.
pub fn fetch(global: &Global, options: &FetchOptions) -> Exit {
    let run = AssertUnwindSafe(|| run_fetch(global, options));
    match std::panic::catch_unwind(run) {
        Ok(Ok(exit)) => exit,
        Ok(Err(failure)) => {
            output::failure(global, &failure);
            Exit::Abort
        }
        Err(_) => Exit::Abort,
    }
}

fn run_fetch(global: &Global, options: &FetchOptions) -> Result<Exit> {
    let name: WalName = options.name.parse()?;
    let spool = options.common.spool(global, &options.target)?;
    let open = || options.common.open(global);
    if options.be_ahead {
        let ahead = Ahead {
            segments: options.ahead,
            ..Ahead::default()
        };
        archive::fetch_ahead::<Failure>(&spool, &ahead, &cancel::flag(), open)?;
        return Ok(Exit::Done);
    }
    let outcome = archive::fetch::<Failure>(name, &options.target, &spool, options.partial, open)?;
    let is_segment = matches!(name, WalName::Segment(_));
    if outcome != Outcome::End && is_segment && options.ahead > 0 && !spool.is_locked() {
        leave_behind();
    }
    Ok(match outcome {
        Outcome::Ahead | Outcome::Found => Exit::Done,
        Outcome::End => {
            output::remark(
                global,
                &format!("{name} is not in the repository: the log ends before it"),
            );
            Exit::EndOfLog
        }
    })
}

/// Leaves a process behind that fetches ahead. Without it recovery is slower, nothing else.
fn leave_behind() {
    use std::os::unix::process::CommandExt;
    let Ok(program) = std::env::current_exe() else {
        return;
    };
    let spawned = Command::new(program)
        .args(std::env::args_os().skip(1))
        .arg("--be-ahead")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn();
    if let Err(error) = spawned {
        tracing::debug!(%error, "nothing fetches ahead");
    }
}
