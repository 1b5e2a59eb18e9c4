//! A cluster with all the log up to a moment, so that its server needs neither the repository nor a key to get there.

use std::path::Path;
use std::sync::Arc;

use jiff::Timestamp;
use relight_model::workload::Workload;
use relight_repo::read::ChunkReader;
use relight_repo::snapshot::Snapshot;
use relight_repo::{Repository, SnapshotId};
use relight_workloads::kind::Work;

use super::{Goal, LogRequest, NeededLog, Options, Recovery, Report, TablespaceMap, Timeline};
use super::{choose_with, restore};
use crate::base;
use crate::error::{PostgresError, Result};
use crate::wal::store::LogStore;
use crate::wal::tail::Tail;

/// All that a repository has of a cluster.
pub struct Stored {
    store: LogStore,
    tail: Tail,
    snapshots: Vec<Snapshot>,
}

/// What a restore would take.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Needed {
    /// The base backup that it begins with.
    pub snapshot: SnapshotId,
    /// When that was consistent.
    pub consistent: Timestamp,
    /// The window that the goal lies in: its first and last moment. None: the base backup alone is restored.
    pub window: Option<(Timestamp, Timestamp)>,
    /// Files of the base backup.
    pub files: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of the log that are replayed, at most.
    pub log: u64,
    /// Where its tablespaces were.
    pub tablespaces: Vec<String>,
}

impl Stored {
    /// Looks what there is. `work` ends what is done with it.
    ///
    /// # Errors
    /// The repository's.
    pub fn of(repository: &Arc<Repository>, workload: &Workload, work: &Work) -> Result<Self> {
        let store = LogStore::new(repository.clone(), workload.clone(), work.cancelled.clone());
        // In this order: a piece that goes meanwhile goes because a snapshot has it.
        let tail = store.tail()?;
        let (mut snapshots, unreadable) = repository.snapshots()?;
        for (id, error) in unreadable {
            tracing::warn!(snapshot = %id, %error, "a snapshot cannot be read");
        }
        snapshots.retain(|snapshot| snapshot.workload == workload.as_str());
        Ok(Self {
            store,
            tail,
            snapshots,
        })
    }

    /// What it takes to get to a goal.
    ///
    /// # Errors
    /// The goal cannot be reached: says what can.
    pub fn needed(&self, goal: &Goal) -> Result<Needed> {
        let chosen = choose_with(&self.snapshots, &self.tail, goal, Timeline::Latest, None)?;
        let reader = Arc::new(ChunkReader::new(self.store.repository().clone())?);
        let list = base::load_list(&reader, chosen.snapshot)?;
        let log = chosen.window.as_ref().map_or(0, |window| {
            window.to.lsn.0.saturating_sub(chosen.about.start_lsn.0)
        });
        let is_file = |entry: &&base::files::Entry| matches!(entry.kind, base::files::EntryKind::File { .. });
        Ok(Needed {
            snapshot: chosen.snapshot.id,
            consistent: chosen.about.stop_time,
            window: chosen.window.map(|window| (window.from.time, window.to.time)),
            files: list.entries.iter().filter(is_file).count() as u64,
            bytes: list.bytes(),
            log,
            tablespaces: list
                .tablespaces
                .iter()
                .filter(|space| space.location.starts_with('/'))
                .map(|space| space.location.clone())
                .collect(),
        })
    }

    /// Restores into an empty directory, beginning with the base backup that was planned. No server is started, and the cluster's
    /// archiving is off. Tablespaces are refused: they would go where the original's are.
    ///
    /// # Errors
    /// Why it could not be; then no server starts from the directory.
    pub fn bring(
        &self,
        goal: &Goal,
        snapshot: SnapshotId,
        directory: &Path,
        owner: Option<(u32, u32)>,
        work: &Work,
    ) -> Result<Report> {
        let chosen = choose_with(
            &self.snapshots,
            &self.tail,
            goal,
            Timeline::Latest,
            Some(snapshot),
        )?;
        let reader = Arc::new(ChunkReader::new(self.store.repository().clone())?);
        refuse_tablespaces(&self.needed(goal)?.tablespaces)?;
        let how = Options {
            directory: directory.to_path_buf(),
            tablespaces: TablespaceMap::default(),
            owner,
            recovery: Recovery {
                goal: chosen.goal(goal),
                timeline: chosen.timeline(),
                ..Recovery::immediate()
            },
            delta: false,
            sync: true,
        };
        let tail = self.store.tail()?;
        let catalog = self.store.catalog()?;
        let log = chosen.window.as_ref().map(|window| {
            let request = LogRequest {
                about: &chosen.about,
                timeline: window.timeline,
                goal,
            };
            NeededLog::find(&self.store, (&catalog, &tail), &request)
        });
        restore(&reader, chosen.snapshot, &how, log, work)
    }
}

/// Goes on only if there are none.
///
/// # Errors
/// There are some.
pub fn refuse_tablespaces(found: &[String]) -> Result<()> {
    if found.is_empty() {
        return Ok(());
    }
    Err(PostgresError::Refused(format!(
        "the cluster has tablespaces ({}), which have to go somewhere, too: restore it with `relight postgres restore --tablespaces DIR`",
        found.join(", ")
    )))
}

/// User and group of a name on this host.
///
/// # Errors
/// The users of this host cannot be read.
pub fn user_and_group(name: &str) -> Result<Option<(u32, u32)>> {
    let path = Path::new("/etc/passwd");
    let users = std::fs::read_to_string(path).map_err(PostgresError::io("read", path))?;
    Ok(users.lines().find_map(|line| {
        let fields: Vec<&str> = line.split(':').collect();
        (fields.first() == Some(&name))
            .then(|| Some((fields.get(2)?.parse().ok()?, fields.get(3)?.parse().ok()?)))
            .flatten()
    }))
}
