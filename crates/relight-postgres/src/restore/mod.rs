//! Brings a base backup back as a data directory that a server can start from, and tells the server how far to replay.
//!
//! The order is what makes a restore that breaks off harmless: no server starts without `pg_control`, which is written
//! last, under another name first, and only when everything else is on disk.

mod choose;
mod configuration;
mod content;
mod existing;
mod layout;
mod log;
mod target;
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
pub use log::{LogReport, LogRequest, put_log};
pub use target::{Action, Goal, Recovery, Timeline, goal_time};
pub use whole::{Needed, Stored, refuse_tablespaces, user_and_group};

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
}

/// Restores it. No server is started.
///
/// # Errors
/// Why it could not be; then the directory has no `pg_control`, and no server starts from it.
pub fn restore(
    reader: &Arc<ChunkReader>,
    snapshot: &Snapshot,
    options: &Options,
    work: &Work,
) -> Result<Report> {
    About::of(snapshot)?;
    let list = base::load_list(reader, snapshot)?;
    let about = About::of(snapshot)?;
    let places = layout::Places::new(&options.directory, &list.tablespaces, &options.tablespaces)?;
    if options.delta {
        existing::check(&options.directory, &about)?;
        // From here on no server starts from what is there.
        remove_if_there(&options.directory.join(control::PATH))?;
    } else {
        places.check_empty()?;
    }
    let removed = if options.delta {
        existing::clear(&places, &list)?
    } else {
        0
    };
    layout::make(&places, &list, options)?;
    work.total
        .store(list.bytes(), std::sync::atomic::Ordering::Relaxed);
    let archive = snapshot.archive(CONTENT)?;
    let (control_file, written) = if options.delta {
        content::write_changed(reader, archive.root, &places, &list, work)?
    } else {
        content::write_all(reader, archive.root, &places, &list, work)?
    };
    configuration::write(&options.directory, options)?;
    let outside = configuration::outside(reader, snapshot, options)?;
    layout::finish(&places, &list)?;
    if options.sync {
        sync(&places)?;
    }
    write_control(&options.directory, &control_file, options.owner)?;
    Ok(Report {
        directory: options.directory.clone(),
        files: list
            .entries
            .iter()
            .filter(|entry| matches!(entry.kind, base::files::EntryKind::File { .. }))
            .count() as u64,
        bytes: list.bytes(),
        written,
        removed,
        outside,
    })
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
