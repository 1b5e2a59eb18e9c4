//! `relight find`: where a file is, over all snapshots.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::ffi::OsString;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use clap::Args;
use relight_model::size::ByteSize;
use relight_model::workload::Workload;
use relight_pxar::FileTime;
use relight_pxar::exclude::Pattern;
use relight_repo::ChunkId;
use relight_repo::snapshot::Snapshot;
use relight_workloads::files::browse::{Kind, TreeView, View};
use relight_workloads::files::compare::kind_of;
use relight_workloads::files::find::{Match, find};
use serde::Serialize;

use crate::client_key::{self, ClientKeyOptions, Clients};
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::shown::{PathText, bytes, local, local_time, time_text};
use crate::{cancel, output, target};

/// Options of `find`.
#[derive(Debug, Args)]
pub struct Options {
    /// Name or path with `*`, `?`, `[…]` and `**`; without a slash in front it is found at any depth
    pattern: OsString,
    /// Only in this snapshot: short id, `latest`, or WORKLOAD@TIME
    #[arg(long, short)]
    snapshot: Option<String>,
    /// Only in snapshots of this workload
    #[arg(long, short, conflicts_with = "snapshot")]
    workload: Option<Workload>,
    /// Of each path only the newest version
    #[arg(long)]
    newest: bool,
    #[command(flatten)]
    client_key: ClientKeyOptions,
}

/// A version of a file, and the snapshots that have it.
#[derive(Serialize)]
struct Version {
    workload: String,
    #[serde(flatten)]
    path: PathText,
    kind: Kind,
    #[serde(skip_serializing_if = "Option::is_none")]
    size: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtime: Option<String>,
    /// The newest first.
    snapshots: Vec<String>,
    #[serde(skip)]
    modified: Option<FileTime>,
    #[serde(skip)]
    newest: Option<jiff::Timestamp>,
}

#[derive(Serialize)]
struct Found {
    matches: Vec<Version>,
    snapshots_searched: usize,
    trees_read: usize,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unreadable: Vec<String>,
    /// Snapshots that need the key of the client that saved them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    sealed: Vec<String>,
}

/// What makes two trees give the same matches: names and attributes, and what the tree was called.
type TreeKey = (ChunkId, u64, String, Option<String>);

/// Finds it.
pub fn run(global: &Global, options: &Options) -> Result<Exit> {
    let pattern =
        Pattern::parse(bytes(&options.pattern)).map_err(|error| Failure::Usage(error.to_string()))?;
    if pattern.is_include() {
        return Err(Failure::Usage(
            "a pattern to find cannot begin with `!`; write `\\!` for the character".into(),
        ));
    }
    let repository = global.open_to_read()?;
    let mut unreadable = Vec::new();
    let mut snapshots = match &options.snapshot {
        Some(given) => vec![target::snapshot(&repository, given)?],
        None => {
            let (snapshots, broken) = repository.snapshots()?;
            unreadable.extend(broken.iter().map(|(id, error)| format!("snapshot {id}: {error}")));
            snapshots
        }
    };
    if let Some(workload) = &options.workload {
        snapshots.retain(|snapshot| snapshot.workload == workload.as_str());
        if snapshots.is_empty() {
            return Err(Failure::Usage(format!("there is no snapshot of {workload}")));
        }
    }
    // The newest first, as people look for it.
    snapshots.reverse();
    let key = options.client_key.key()?;
    let clients = Clients::new(repository.clone())?;
    let mut sealed = Vec::new();
    snapshots.retain(|snapshot| {
        let told = clients.may_read(snapshot, key.as_deref());
        sealed.extend(told.as_ref().err().map(ToString::to_string));
        told.is_ok()
    });
    for failure in &sealed {
        output::remark(global, failure);
    }
    let reader = client_key::reader(repository, key)?;
    let views: Vec<View> = snapshots
        .into_iter()
        .map(|snapshot| View::new(reader.clone(), snapshot))
        .collect();

    let found = search(global, &views, &pattern, &mut unreadable)?;
    let mut matches = versions(&views, &pattern, &found);
    if options.newest {
        matches.dedup_by(|older, newer| {
            (&older.workload, &older.path.path) == (&newer.workload, &newer.path.path)
                && older.path.path_hex == newer.path.path_hex
        });
    }
    let result = Found {
        matches,
        snapshots_searched: views.len(),
        trees_read: found.len(),
        unreadable,
        sealed,
    };
    output::result(global, &result, words);
    Ok(match (result.unreadable.is_empty(), result.sealed.is_empty()) {
        (false, _) => Exit::Damage,
        (true, false) => Exit::Incomplete,
        (true, true) => Exit::Done,
    })
}

fn key(tree: &TreeView) -> TreeKey {
    let root = &tree.metadata.root;
    (root.id, root.size, tree.name.clone(), tree.path.clone())
}

/// Goes through each distinct tree once, several at a time. One that cannot be read hides no other.
fn search(
    global: &Global,
    views: &[View],
    pattern: &Pattern,
    unreadable: &mut Vec<String>,
) -> Result<HashMap<TreeKey, Vec<Match>>> {
    let (mut trees, mut seen) = (Vec::new(), HashSet::new());
    for view in views {
        trees.extend(
            view.trees()
                .iter()
                .filter(|tree| seen.insert(key(tree)))
                .map(|tree| (view.snapshot(), tree)),
        );
    }
    let (cancelled, next) = (cancel::flag(), AtomicUsize::new(0));
    let found = Mutex::new((HashMap::new(), Vec::new()));
    let work = || {
        while let Some((snapshot, tree)) = trees.get(next.fetch_add(1, Ordering::Relaxed)) {
            let result = find(tree, pattern, &cancelled);
            let mut found = found.lock().unwrap_or_else(PoisonError::into_inner);
            match result {
                Ok(matches) => {
                    found.0.insert(key(tree), matches);
                }
                Err(error) if error.is_cancelled() => return Err(Failure::from(error)),
                Err(error) => found
                    .1
                    .push(format!("{} in snapshot {}: {error}", tree.name, snapshot.id)),
            }
        }
        Ok(())
    };
    let count = std::thread::available_parallelism().map_or(2, usize::from).min(4);
    std::thread::scope(|scope| {
        let workers: Vec<_> = (0..count).map(|_| scope.spawn(work)).collect();
        let panicked = |_| Err(Failure::Usage("a thread of the search ended unexpectedly".into()));
        workers
            .into_iter()
            .try_for_each(|worker| worker.join().unwrap_or_else(panicked))
    })?;
    let (found, failed) = found.into_inner().unwrap_or_else(PoisonError::into_inner);
    for failure in failed {
        output::remark(global, &failure);
        unreadable.push(failure);
    }
    Ok(found)
}

/// The matches of all snapshots, sorted by workload and path, of each the newest version first.
fn versions(views: &[View], pattern: &Pattern, found: &HashMap<TreeKey, Vec<Match>>) -> Vec<Version> {
    type Same = (Kind, Option<u64>, Option<FileTime>);
    type Versions<'a> = Vec<(Same, Vec<&'a Snapshot>)>;
    let mut all: BTreeMap<(&str, Vec<u8>), Versions<'_>> = BTreeMap::new();
    for view in views {
        let snapshot = view.snapshot();
        let mut add = |path: &[u8], same: Same| {
            let versions = all
                .entry((snapshot.workload.as_str(), path.to_vec()))
                .or_default();
            match versions.iter_mut().find(|(other, _)| *other == same) {
                Some((_, snapshots)) => snapshots.push(snapshot),
                None => versions.push((same, vec![snapshot])),
            }
        };
        for tree in view.trees() {
            for entry in found.get(&key(tree)).into_iter().flatten() {
                add(&entry.path, (entry.kind, entry.size, Some(entry.mtime)));
            }
        }
        for archive in view
            .archives()
            .filter(|archive| pattern.matches(archive.name.as_bytes(), false))
        {
            add(
                archive.name.as_bytes(),
                (kind_of(archive), Some(archive.root.size), None),
            );
        }
    }
    let mut sorted = Vec::new();
    for ((workload, path), versions) in all {
        for ((kind, size, modified), snapshots) in versions {
            sorted.push(Version {
                workload: workload.to_string(),
                path: PathText::new(path.clone()),
                kind,
                size,
                mtime: modified.map(time_text),
                newest: snapshots.first().map(|snapshot| snapshot.time),
                snapshots: snapshots.iter().map(|snapshot| snapshot.id.to_string()).collect(),
                modified,
            });
        }
    }
    sorted
}

fn words(found: &Found, out: &mut String) {
    if found.matches.is_empty() {
        out.push_str(&format!(
            "Nothing matches in {} snapshots.\n",
            found.snapshots_searched
        ));
    } else {
        let heading = ["SNAPSHOT", "TAKEN", "IN", "WORKLOAD", "SIZE", "MODIFIED", "PATH"]
            .map(String::from)
            .to_vec();
        let row = |version: &Version| {
            vec![
                version
                    .snapshots
                    .first()
                    .map(|id| id.chars().take(8).collect())
                    .unwrap_or_default(),
                version.newest.map(local).unwrap_or_default(),
                version.snapshots.len().to_string(),
                version.workload.clone(),
                version
                    .size
                    .map_or_else(|| "-".into(), |size| ByteSize(size).to_string()),
                version.modified.map_or_else(|| "-".into(), local_time),
                version.path.printable(),
            ]
        };
        let rows: Vec<_> = std::iter::once(heading)
            .chain(found.matches.iter().map(row))
            .collect();
        output::table(&rows, &[2, 4], out);
    }
    for line in found.unreadable.iter().chain(&found.sealed) {
        out.push_str(&format!("not searched: {line}\n"));
    }
}
