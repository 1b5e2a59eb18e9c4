//! Brings a base backup back as a data directory that a server can start from, and tells the server how far to replay.
//!
//! The order is what makes a restore that breaks off harmless: no server starts without `pg_control`, which is written
//! last, under another name first, and only when everything else is on disk, the log too. Before anything else is made, a mark
//! says what is being restored; it goes when `pg_control` has come.

mod choose;
mod configuration;
mod content;
mod existing;
mod layout;
mod log;
mod room;
mod target;
mod unfinished;
mod whole;

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use relight_repo::read::ChunkReader;
use relight_repo::snapshot::Snapshot;
use relight_workloads::kind::Work;
use serde::Serialize;

pub use choose::{Chosen, choose, choose_with};
pub use layout::TablespaceMap;
pub use log::{LogReport, LogRequest, NeededLog};
pub use target::{Action, Goal, Recovery, Timeline, goal_time};
pub use unfinished::Unfinished;
pub use whole::{Needed, Stored, refuse_tablespaces, user_and_group};

use self::unfinished::Mark;
use crate::base::files::FileList;
use crate::base::{self, About, CONTENT, control};
use crate::error::{PostgresError, Result};

/// How a cluster is restored.
#[derive(Debug, Clone)]
pub struct Options {
    /// The data directory to make.
    pub directory: PathBuf,
    /// Where tablespaces go.
    pub tablespaces: TablespaceMap,
    /// User and group that the files belong to; none: those of this process.
    pub owner: Option<(u32, u32)>,
    /// How far the server is to replay.
    pub recovery: Recovery,
    /// Take over what is the same in an existing directory, and remove what is not in the backup.
    pub delta: bool,
    /// Wait until everything is on disk before `pg_control` is written. Only what is thrown away can do without.
    pub sync: bool,
}

/// What a restore did.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The data directory.
    pub directory: PathBuf,
    /// Files of the cluster.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes that were written; the others were there already.
    pub written: u64,
    /// What was in an existing directory and not in the backup.
    pub removed: u64,
    /// Configuration files that were not in the data directory, and where they lie now.
    pub outside: Vec<PathBuf>,
    /// The log that was put there.
    pub log: LogReport,
    /// The restore that had not come to its end, and that this one has completed.
    pub completed: Option<Unfinished>,
}

/// Restores it, with the log that its recovery needs if that is to be put there. No server is started.
///
/// # Errors
/// Why it could not be. Then the directory has no `pg_control`, and no server starts from it; if it was begun, it can be
/// completed as a delta.
pub fn restore(
    reader: &Arc<ChunkReader>,
    snapshot: &Snapshot,
    options: &Options,
    log: Option<NeededLog<'_>>,
    work: &Work,
) -> Result<Report> {
    let about = About::of(snapshot)?;
    let list = base::load_list(reader, snapshot)?;
    let places = layout::Places::new(&options.directory, &list.tablespaces, &options.tablespaces)?;
    let unfinished = Unfinished::find(&options.directory)?;
    if options.delta {
        existing::check(&places, &about, unfinished.as_ref())?;
    } else {
        if let Some(unfinished) = &unfinished {
            return Err(unfinished.refusal(&options.directory));
        }
        places.check_empty()?;
    }
    let log_bytes = log.as_ref().map_or(0, NeededLog::bytes);
    room::check(&places, &list, log_bytes)?;
    layout::directory(&options.directory, options.owner)
        .map_err(PostgresError::io("make", &options.directory))?;
    let mark = Mark::set(&places, snapshot, &about)?;
    let mut removed = 0;
    if options.delta {
        remove_control(&options.directory)?;
        removed = existing::clear(&places, &list)?;
    }
    if let Err(error) = layout::make(&places, &list, options) {
        if options.delta || !error.is_full() {
            return Err(full(error, (&places, options), &list, log_bytes));
        }
        // Nothing has its content yet: what was reserved for it would only be in the way of others.
        existing::give_back(&places)?;
        return Err(PostgresError::FullRemoved {
            source: Box::new(error),
        });
    }
    let filled = fill(reader, snapshot, &list, (&places, options), log, work);
    let mut report = filled.map_err(|error| full(error, (&places, options), &list, log_bytes))?;
    mark.clear()?;
    report.removed = removed;
    report.completed = unfinished;
    Ok(report)
}

/// Puts content into what was made; `pg_control` comes last.
fn fill(
    reader: &Arc<ChunkReader>,
    snapshot: &Snapshot,
    list: &FileList,
    (places, options): (&layout::Places, &Options),
    log: Option<NeededLog<'_>>,
    work: &Work,
) -> Result<Report> {
    let bytes = list.bytes() + log.as_ref().map_or(0, NeededLog::bytes);
    work.total.store(bytes, std::sync::atomic::Ordering::Relaxed);
    let archive = snapshot.archive(CONTENT)?;
    let (control_file, written) = if options.delta {
        content::write_changed(reader, archive.root, places, list, work)?
    } else {
        content::write_all(reader, archive.root, places, list, work)?
    };
    configuration::write(&options.directory, options)?;
    let outside = configuration::outside(reader, snapshot, options)?;
    let log = match log {
        Some(log) => log.put(&options.directory, options.owner, work)?,
        None => LogReport::default(),
    };
    layout::finish(places, list)?;
    if options.sync {
        sync(places)?;
    }
    write_control(&options.directory, &control_file, options.owner)?;
    let is_file = |entry: &&base::files::Entry| matches!(entry.kind, base::files::EntryKind::File { .. });
    Ok(Report {
        directory: options.directory.clone(),
        files: list.entries.iter().filter(is_file).count() as u64,
        bytes: list.bytes(),
        written,
        removed: 0,
        outside,
        log,
        completed: None,
    })
}

/// If the disk was full: with what is missing, and what to do about it.
fn full(
    error: PostgresError,
    (places, options): (&layout::Places, &Options),
    list: &FileList,
    log: u64,
) -> PostgresError {
    if !error.is_full() {
        return error;
    }
    if !options.sync {
        return PostgresError::FullRemoved {
            source: Box::new(error),
        };
    }
    let missing = match room::lack(places, list, log) {
        Ok(lack) => lack.map(|lack| lack.needed - lack.room),
        Err(error) => return error,
    };
    PostgresError::FullMidway {
        directory: places.directory().to_path_buf(),
        taken: places.roots().iter().map(|root| room::taken(root)).sum(),
        missing: missing.unwrap_or(0),
        source: Box::new(error),
    }
}

/// From here on no server starts from what is there, after a loss of power either.
fn remove_control(directory: &Path) -> Result<()> {
    remove_if_there(&directory.join(control::PATH))?;
    let folder = directory.join("global");
    match fs::File::open(&folder) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        opened => opened
            .and_then(|folder| folder.sync_all())
            .map_err(PostgresError::io("sync", &folder)),
    }
}

fn remove_if_there(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(PostgresError::io("remove", path)(error))
        }
        _ => Ok(()),
    }
}

/// Waits until everything is on disk.
fn sync(places: &layout::Places) -> Result<()> {
    for root in places.roots() {
        let synced =
            fs::File::open(&root).and_then(|directory| rustix::fs::syncfs(&directory).map_err(Into::into));
        synced.map_err(PostgresError::io("sync", &root))?;
    }
    Ok(())
}

fn write_control(directory: &Path, content: &[u8], owner: Option<(u32, u32)>) -> Result<()> {
    control::Control::parse(content)?;
    let path = directory.join(control::PATH);
    let temporary = directory.join("global/pg_control.relight");
    let write = || {
        layout::new_file(&temporary, 0o600, owner)?;
        let file = fs::OpenOptions::new().write(true).open(&temporary)?;
        std::io::Write::write_all(&mut &file, content)?;
        file.sync_all()?;
        fs::rename(&temporary, &path)?;
        fs::File::open(directory.join("global"))?.sync_all()
    };
    write().map_err(PostgresError::io("write", &path))
}

/// Makes a file for a server's user, or leaves the one that is there.
pub(crate) fn make_file(path: &Path, owner: Option<(u32, u32)>) -> Result<()> {
    if path.exists() {
        return Ok(());
    }
    layout::new_file(path, 0o600, owner).map_err(PostgresError::io("make", path))
}
