//! One file a command.

mod acl;
mod adopt;
mod api;
mod approval;
mod audit;
mod backup;
mod collect;
mod copy;
mod diff;
mod drill;
mod drills;
mod dump;
mod evidence;
mod find;
mod forget;
mod init;
pub mod key;
mod ls;
mod map;
mod mount;
mod overview;
mod plan;
mod postgres;
mod protect;
mod quickstart;
mod remote;
mod repair;
mod report;
mod restore;
mod restores;
mod role;
mod run;
mod runs;
mod serve;
mod session;
mod snapshots;
mod stats;
mod sync;
mod token;
mod user;
mod verify;
pub mod wal;

use clap::Subcommand;

use crate::context::Global;
use crate::exit::Exit;
use crate::failure::Result;

/// What to do.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// From nothing to a proven backup in one command: protect, verify, restore, compare
    Quickstart(quickstart::Options),
    /// Make a new, encrypted repository
    Init(init::Options),
    /// Save files, disk images or a stream as a new snapshot
    Backup(backup::Options),
    /// List the snapshots
    Snapshots(snapshots::Options),
    /// List what is in a snapshot
    Ls(ls::Options),
    /// Find files by name over all snapshots
    Find(find::Options),
    /// Show what changed between two snapshots
    Diff(diff::Options),
    /// Bring back a snapshot or parts of it
    Restore(restore::Options),
    /// Write a file, a folder (as tar or zip), an image or a stream to standard output
    Dump(dump::Options),
    /// Remove snapshots by rules or by name; shows what it would do unless told to do it
    Forget(forget::Options),
    /// Check that everything can be restored
    Verify(verify::Options),
    /// Free the space of what no snapshot needs
    Collect(collect::Options),
    /// Show sizes: logical, deduplicated, stored, and exclusive to each workload
    Stats(stats::Options),
    /// Copy snapshots to another repository
    Copy(copy::Options),
    /// Put a damaged index or damaged packs in order
    #[command(subcommand)]
    Repair(repair::Command),
    /// Protect snapshots from being forgotten
    Protect(protect::Options),
    /// Take the protection of snapshots away
    Unprotect(protect::Options),
    /// Show or change the notes of a snapshot
    Notes(protect::NotesOptions),
    /// Manage the keys that open the repository
    #[command(subcommand)]
    Key(key::Command),
    /// Show all snapshots as a read-only file system
    Mount(mount::Options),
    /// Show a disk image as a read-only file or network block device
    Map(map::Options),
    /// Test a recovery: restore into a sandbox, start, probe, measure, throw away
    Drill(drill::Options),
    /// List recovery tests that were done, and what they measured
    Drills(drills::Options),
    /// Have a server restore to a folder of its own host, and list what it restored
    Restores(restores::Options),
    /// Check the plan, show what it promises, and foresee what it would do
    #[command(subcommand)]
    Plan(plan::Command),
    /// Protect PostgreSQL clusters, and see what can be recovered of them
    #[command(subcommand)]
    Postgres(postgres::Command),
    /// Store a file of a PostgreSQL cluster's log: what its archive_command calls
    WalPush(wal::PushOptions),
    /// Bring back a file of a PostgreSQL cluster's log: what its restore_command calls
    WalFetch(wal::FetchOptions),
    /// Ask the server to do something of the plan now, and wait until it is done
    Run(run::Options),
    /// Show how everything stands that a server protects, the worst first
    Overview(overview::Options),
    /// Make any call of a server's API, from anywhere
    Api(api::Options),
    /// Show what the server did and does, and what came of it
    Runs(runs::Options),
    /// Be a backup server: Proxmox VE and proxmox-backup-client use it as a Proxmox Backup Server
    Serve(serve::Options),
    /// Manage who may log in to the server
    #[command(subcommand)]
    User(user::Command),
    /// Manage the API tokens by which programs log in to the server
    #[command(subcommand)]
    Token(token::Command),
    /// Manage what users and tokens may do on the server
    #[command(subcommand)]
    Acl(acl::Command),
    /// Show the roles, and make this server's own
    #[command(subcommand)]
    Role(role::Command),
    /// Decide on what others may not do alone
    #[command(subcommand)]
    Approval(approval::Command),
    /// Show where users are logged in, and log them out
    #[command(subcommand)]
    Session(session::Command),
    /// Manage the other servers that the server copies from and to
    #[command(subcommand)]
    Remote(remote::Command),
    /// Manage and run the server's jobs that copy from and to other servers
    #[command(subcommand)]
    Sync(sync::Command),
    /// Show what was denied and changed on the server, and by whom
    Audit(audit::Options),
    /// Bring a server back, on a blank machine, from a repository that it backed itself up into
    Adopt(adopt::Options),
    /// Show, verify and export the evidence of what happened on the server
    #[command(subcommand)]
    Evidence(evidence::Command),
    /// Make reports of what the evidence proves
    #[command(subcommand)]
    Report(report::Command),
}

impl Command {
    /// Does it.
    pub fn run(&self, global: &Global) -> Result<Exit> {
        match self {
            Self::Quickstart(options) => quickstart::run(global, options),
            Self::Init(options) => init::run(global, options),
            Self::Backup(options) => backup::run(global, options),
            Self::Snapshots(options) => snapshots::run(global, options),
            Self::Ls(options) => ls::run(global, options),
            Self::Find(options) => find::run(global, options),
            Self::Diff(options) => diff::run(global, options),
            Self::Restore(options) => restore::run(global, options),
            Self::Dump(options) => dump::run(global, options),
            Self::Forget(options) => forget::run(global, options),
            Self::Verify(options) => verify::run(global, options),
            Self::Collect(options) => collect::run(global, options),
            Self::Stats(options) => stats::run(global, options),
            Self::Copy(options) => copy::run(global, options),
            Self::Repair(command) => repair::run(global, command),
            Self::Protect(options) => protect::run(global, options, true),
            Self::Unprotect(options) => protect::run(global, options, false),
            Self::Notes(options) => protect::notes(global, options),
            Self::Key(command) => key::run(global, command),
            Self::Mount(options) => mount::run(global, options),
            Self::Map(options) => map::run(global, options),
            Self::Drill(options) => drill::run(global, options),
            Self::Drills(options) => drills::run(global, options),
            Self::Restores(options) => restores::run(global, options),
            Self::Plan(command) => plan::run(global, command),
            Self::Postgres(command) => postgres::run(global, command),
            Self::WalPush(options) => wal::push(global, options),
            Self::WalFetch(options) => Ok(wal::fetch(global, options)),
            Self::Run(options) => run::run(global, options),
            Self::Overview(options) => overview::run(global, options),
            Self::Api(options) => api::run(global, options),
            Self::Runs(options) => runs::run(global, options),
            Self::Serve(options) => serve::run(global, options),
            Self::User(command) => user::run(global, command),
            Self::Token(command) => token::run(global, command),
            Self::Acl(command) => acl::run(global, command),
            Self::Role(command) => role::run(global, command),
            Self::Approval(command) => approval::run(global, command),
            Self::Session(command) => session::run(global, command),
            Self::Remote(command) => remote::run(global, command),
            Self::Sync(command) => sync::run(global, command),
            Self::Audit(options) => audit::run(global, options),
            Self::Adopt(options) => adopt::run(global, options),
            Self::Evidence(command) => evidence::run(global, command),
            Self::Report(command) => report::run(global, command),
        }
    }
}
