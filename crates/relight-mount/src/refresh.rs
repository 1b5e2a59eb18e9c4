//! Keeps the names up to date with the snapshots that the repository has.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, RwLock, RwLockReadGuard};
use std::time::{Duration, Instant};

use relight_repo::{RepoError, Repository, SnapshotId};

use crate::names::Names;
use crate::source::Source;

/// The list of snapshots is read again if it is older than this when somebody looks.
const EVERY: Duration = Duration::from_secs(3);
/// Manifests that are read at the same time.
const AT_ONCE: usize = 8;

/// The names, and where they come from.
pub struct Catalog {
    names: RwLock<Names>,
    /// None if what is shown never changes.
    repository: Option<Arc<Repository>>,
    refreshed: Mutex<Refreshed>,
}

#[derive(Default)]
struct Refreshed {
    at: Option<Instant>,
    /// Snapshots that cannot be read.
    broken: HashSet<SnapshotId>,
    /// Snapshots that could not be read because of the storage; it is tried again, but said once.
    late: HashSet<SnapshotId>,
    /// The last attempt failed, which was said already.
    failing: bool,
}

impl Catalog {
    /// All snapshots of a repository.
    pub fn of_repository(repository: Arc<Repository>) -> Result<Self, RepoError> {
        let mut names = Names::new(repository.now());
        names.prepare();
        let catalog = Self {
            names: RwLock::new(names),
            repository: Some(repository.clone()),
            refreshed: Mutex::default(),
        };
        let mut refreshed = catalog
            .refreshed
            .lock()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        catalog.read_list(&repository, &mut refreshed)?;
        drop(refreshed);
        Ok(catalog)
    }

    /// Names that never change.
    pub fn fixed(names: Names) -> Self {
        Self {
            names: RwLock::new(names),
            repository: None,
            refreshed: Mutex::default(),
        }
    }

    /// The names as they were when they were last read.
    pub fn names(&self) -> RwLockReadGuard<'_, Names> {
        self.names.read().unwrap_or_else(|poisoned| poisoned.into_inner())
    }

    /// The names, read again if that was long ago. While one thread does so the others go on with the old ones, and so
    /// do all if the storage cannot be reached.
    pub fn fresh_names(&self) -> RwLockReadGuard<'_, Names> {
        if let (Some(repository), Ok(mut refreshed)) = (&self.repository, self.refreshed.try_lock())
            && refreshed.at.is_none_or(|at| at.elapsed() >= EVERY)
        {
            match self.read_list(repository, &mut refreshed) {
                Ok(()) => refreshed.failing = false,
                Err(error) if !std::mem::replace(&mut refreshed.failing, true) => {
                    tracing::warn!("cannot look for new snapshots: {error}");
                }
                Err(_) => {}
            }
            refreshed.at = Some(Instant::now());
        }
        self.names()
    }

    fn read_list(&self, repository: &Repository, refreshed: &mut Refreshed) -> Result<(), RepoError> {
        let there: HashSet<SnapshotId> = repository.snapshot_ids()?.into_iter().collect();
        let (new, gone) = {
            let names = self.names();
            let new: Vec<SnapshotId> = there
                .iter()
                .copied()
                .filter(|id| !names.shows(*id) && !refreshed.broken.contains(id))
                .collect();
            let gone: Vec<SnapshotId> = names.shown().filter(|id| !there.contains(id)).collect();
            (new, gone)
        };
        refreshed.at = Some(Instant::now());
        if new.is_empty() && gone.is_empty() {
            return Ok(());
        }
        let mut sources = Vec::with_capacity(new.len());
        for (id, read) in read_manifests(repository, new) {
            match read {
                Ok(source) => sources.push(source),
                // Forgotten since it was listed.
                Err(RepoError::NoSuchSnapshot(_)) => {}
                Err(RepoError::Storage(error)) => {
                    if refreshed.late.insert(id) {
                        tracing::warn!(snapshot = %id, "cannot be read now: {error}");
                    }
                }
                Err(error) => {
                    tracing::warn!(snapshot = %id, "is not shown because it cannot be read: {error}");
                    refreshed.broken.insert(id);
                }
            }
        }
        // Of several with the same name the oldest has it, whatever the order of the list.
        sources.sort_by_key(|source| (source.time, source.id));
        let mut names = self
            .names
            .write()
            .unwrap_or_else(|poisoned| poisoned.into_inner());
        gone.into_iter().for_each(|id| names.drop_snapshot(id));
        sources.iter().for_each(|source| names.add(source));
        names.point_at_latest();
        Ok(())
    }
}

/// Reads manifests, several at once: each is a request to storage.
fn read_manifests(
    repository: &Repository,
    ids: Vec<SnapshotId>,
) -> Vec<(SnapshotId, Result<Source, RepoError>)> {
    let read = |id| (id, repository.snapshot(id).map(|snapshot| Source::of(&snapshot)));
    if ids.len() < 2 {
        return ids.into_iter().map(read).collect();
    }
    let share = ids.len().div_ceil(AT_ONCE);
    std::thread::scope(|scope| {
        let threads: Vec<_> = ids
            .chunks(share)
            .map(|ids| scope.spawn(move || ids.iter().map(|&id| read(id)).collect::<Vec<_>>()))
            .collect();
        threads
            .into_iter()
            .filter_map(|thread| thread.join().ok())
            .flatten()
            .collect()
    })
}
