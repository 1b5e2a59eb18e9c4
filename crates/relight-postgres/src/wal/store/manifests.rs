//! The manifests of one workload's snapshots, read once: they never change, so those that were seen are kept in the local
//! cache, and a look at what is new costs one listing.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use relight_model::workload::Workload;
use relight_repo::repository::Unreadable;
use relight_repo::snapshot::Snapshot;
use relight_repo::{RepoError, Repository, SnapshotId};
use serde::{Deserialize, Serialize};

use crate::wal::error::Result;

/// The version of the file that this program writes.
const VERSION: u32 = 1;

/// What was seen: none for snapshots of other workloads.
#[derive(Serialize, Deserialize)]
struct Seen {
    version: u32,
    workload: String,
    snapshots: BTreeMap<SnapshotId, Option<Snapshot>>,
}

/// All snapshots of the workload, the oldest first, and those of the repository that cannot be read.
pub(super) fn load(repository: &Repository, workload: &Workload) -> Result<(Vec<Snapshot>, Vec<Unreadable>)> {
    let path = path(repository, workload);
    let mut seen = read(&path, workload);
    let listed = repository.snapshot_ids()?;
    let (mut now, mut unreadable) = (BTreeMap::new(), Vec::new());
    let mut changed = false;
    for id in listed {
        if let Some(known) = seen.remove(&id) {
            now.insert(id, known);
            continue;
        }
        match repository.snapshot(id) {
            Ok(mut snapshot) => {
                changed = true;
                let ours = snapshot.workload == workload.as_str();
                if !snapshot.is_log() {
                    // Of backups only what they say is of interest, and they can be long.
                    snapshot.archives.clear();
                    snapshot.incomplete.clear();
                }
                now.insert(id, ours.then_some(snapshot));
            }
            // Forgotten since it was listed.
            Err(RepoError::NoSuchSnapshot(_)) => {}
            Err(error @ RepoError::Storage(_)) => return Err(error.into()),
            Err(error) => unreadable.push((id, error)),
        }
    }
    if changed || !seen.is_empty() {
        let seen = Seen {
            version: VERSION,
            workload: workload.to_string(),
            snapshots: now.clone(),
        };
        if let Err(error) = write(&path, &seen) {
            // Only the next look takes longer.
            tracing::debug!(%error, "the cache of manifests was not written");
        }
    }
    let mut ours: Vec<Snapshot> = now.into_values().flatten().collect();
    ours.sort_by_key(|snapshot| (snapshot.published, snapshot.id));
    Ok((ours, unreadable))
}

fn path(repository: &Repository, workload: &Workload) -> PathBuf {
    let folder = repository
        .options()
        .cache
        .join(repository.id().to_string())
        .join("log");
    // No part of a workload's name begins with a dot or holds a slash.
    folder.join(format!("{}.json", workload.as_str().replace('/', "+")))
}

fn read(path: &Path, workload: &Workload) -> BTreeMap<SnapshotId, Option<Snapshot>> {
    let read = || serde_json::from_slice::<Seen>(&fs::read(path).ok()?).ok();
    match read() {
        Some(seen) if seen.version == VERSION && seen.workload == workload.as_str() => seen.snapshots,
        _ => BTreeMap::new(),
    }
}

fn write(path: &Path, seen: &Seen) -> std::io::Result<()> {
    let Some(folder) = path.parent() else {
        return Ok(());
    };
    fs::create_dir_all(folder)?;
    let temporary = path.with_extension(format!("{}.tmp", std::process::id()));
    let mut options = fs::OpenOptions::new();
    let mut file = options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(&temporary)?;
    let written = file.write_all(&serde_json::to_vec(seen)?);
    written
        .and_then(|()| fs::rename(&temporary, path))
        .inspect_err(|_| {
            let _ = fs::remove_file(&temporary);
        })
}
