//! The recovery drill of a file tree: restore it into a sandbox, compare it with its source, time it.

use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use relight_pxar::exclude::{Matcher, Pattern};
use relight_pxar::fs::compare::{CompareOptions, Difference, DifferenceKind, compare_trees};
use relight_pxar::fs::extract::{ConflictPolicy, ExtractOptions, RestoreReport};
use relight_pxar::fs::metadata::Part;
use relight_pxar::fs::progress::Progress;
use relight_repo::RepoError;
use relight_repo::read::ChunkReader;

use super::Tree;
use super::restore::restore;
use crate::error::{Result, WorkloadError};

/// What a drill of one tree found.
#[derive(Debug, Clone)]
pub struct DrillReport {
    /// From the request until everything was restored, read back and on disk: what a recovery takes.
    pub restored_in: Duration,
    /// What the restore tells.
    pub restore: RestoreReport,
    /// Entries that were compared with the source.
    pub compared: u64,
    /// Bytes of content that were compared.
    pub compared_bytes: u64,
    /// Where what came back is not what was saved.
    pub differences: Vec<Difference>,
    /// Entries of the source that changed after the snapshot began: they prove nothing for or against it.
    pub changed_since: u64,
}

impl DrillReport {
    /// Whether everything came back as it was saved.
    pub fn passed(&self) -> bool {
        self.differences.is_empty() && self.restore.losses.is_empty() && self.restore.not_found.is_empty()
    }
}

/// Restores `tree` into the empty directory `sandbox` and compares it with `source`, where it came from. `taken` is
/// when the snapshot began, `exclude` what was left out of it. The sandbox stays for the caller to throw away.
pub fn drill(
    reader: &Arc<ChunkReader>,
    tree: &Tree<'_>,
    source: &Path,
    sandbox: &Path,
    taken: Timestamp,
    exclude: &[Pattern],
    cancelled: &AtomicBool,
) -> Result<DrillReport> {
    let began = Instant::now();
    let progress = Progress::default();
    let options = ExtractOptions {
        conflict: ConflictPolicy::Fail,
        verify: true,
        sync: true,
        ..ExtractOptions::default()
    };
    let restored = restore(reader, tree, sandbox, &options, &progress, cancelled)?;
    let restored_in = began.elapsed();

    // Only root can give files to others: without, the owner is known to differ.
    let ignore = if rustix::process::geteuid().is_root() {
        Vec::new()
    } else {
        vec![Part::Owner]
    };
    let options = CompareOptions {
        ignore,
        ..CompareOptions::default()
    };
    let compared = compare_trees(sandbox, source, &options, &progress, cancelled).map_err(|error| {
        use relight_pxar::fs::compare::CompareError;
        match error {
            CompareError::Cancelled => WorkloadError::Repo(RepoError::Cancelled),
            error => WorkloadError::Refused(error.to_string()),
        }
    })?;
    let matcher = Matcher::new(exclude.iter().cloned());
    let (mut differences, mut changed_since) = (Vec::new(), 0);
    for difference in compared.differences {
        let in_source = source.join(std::ffi::OsStr::from_bytes(&difference.path));
        if is_excluded(&matcher, &difference, &in_source) {
            continue;
        }
        if changed_after(&in_source, source, taken) {
            changed_since += 1;
        } else {
            differences.push(difference);
        }
    }
    Ok(DrillReport {
        restored_in,
        restore: restored,
        compared: compared.entries,
        compared_bytes: compared.bytes,
        differences,
        changed_since,
    })
}

pub(super) fn is_excluded(matcher: &Matcher, difference: &Difference, in_source: &Path) -> bool {
    let is_directory = in_source.symlink_metadata().is_ok_and(|meta| meta.is_dir());
    difference.kind == DifferenceKind::OnlySecond && matcher.excludes(&difference.path, is_directory)
}

/// Whether the entry, or the nearest directory above it that is still there, changed after `taken`.
pub(super) fn changed_after(path: &Path, root: &Path, taken: Timestamp) -> bool {
    let mut path = path;
    loop {
        if let Ok(meta) = path.symlink_metadata() {
            let changed = Timestamp::new(meta.ctime(), meta.ctime_nsec() as i32).unwrap_or(Timestamp::MAX);
            return changed >= taken;
        }
        match path.parent() {
            Some(parent) if path != root => path = parent,
            _ => return true,
        }
    }
}
