//! Which snapshot and what in it a command means.

use std::sync::Arc;

use jiff::tz::TimeZone;
use relight_model::snapshot_ref::{Listed, SnapshotRef};
use relight_repo::Repository;
use relight_repo::snapshot::{Archive, ArchiveKind, Snapshot};
use relight_workloads::files::{self, Tree};

use crate::failure::{Failure, Result};

/// The snapshot that `given` names: a short id, `latest`, or `workload@time`.
pub fn snapshot(repository: &Arc<Repository>, given: &str) -> Result<Snapshot> {
    let _: SnapshotRef = given.parse().map_err(usage)?;
    let (snapshots, broken) = repository.snapshots()?;
    for (id, error) in &broken {
        tracing::warn!(snapshot = %id, %error, "a snapshot cannot be read");
    }
    choose(&snapshots, given).cloned()
}

/// The one of `snapshots` that `given` names.
pub fn choose<'a>(snapshots: &'a [Snapshot], given: &str) -> Result<&'a Snapshot> {
    let wanted: SnapshotRef = given.parse().map_err(usage)?;
    let named: Vec<(String, &Snapshot)> = snapshots
        .iter()
        .map(|snapshot| (snapshot.id.to_string(), snapshot))
        .collect();
    let listed = named.iter().map(|(id, snapshot)| Listed {
        id,
        workload: &snapshot.workload,
        time: snapshot.time,
        item: *snapshot,
    });
    wanted.choose(listed, &TimeZone::system()).map_err(usage)
}

/// Something in a snapshot.
#[derive(Debug, Clone)]
pub enum Target<'a> {
    /// A path in a tree; empty is the whole tree.
    InTree(Tree<'a>, Vec<u8>),
    /// An image or stream.
    Whole(&'a Archive),
}

/// Everything in a snapshot, in its order.
pub fn everything(snapshot: &Snapshot) -> Vec<Target<'_>> {
    let trees = files::trees(snapshot);
    let whole = snapshot
        .archives
        .iter()
        .filter(|archive| is_whole(archive, &trees) && !files::is_kept_index(snapshot, archive))
        .map(Target::Whole);
    let mut all: Vec<_> = whole.collect();
    all.extend(trees.into_iter().map(|tree| Target::InTree(tree, Vec::new())));
    all
}

fn is_whole(archive: &Archive, trees: &[Tree<'_>]) -> bool {
    matches!(
        archive.kind,
        ArchiveKind::Image | ArchiveKind::Stream | ArchiveKind::Blob
    ) && !trees.iter().any(|tree| tree.has(&archive.name))
}

/// What `path` means in a snapshot: a name at its root and a path below it (`etc/passwd`), or the path that it had
/// where it was saved (`/etc/passwd`).
pub fn find<'a>(snapshot: &'a Snapshot, path: &[u8]) -> Result<Target<'a>> {
    let trees = files::trees(snapshot);
    if path.starts_with(b"/") {
        // The longest original path that it lies in.
        let inside = trees
            .iter()
            .filter_map(|tree| Some((tree, below(path, tree.path?.as_bytes())?)));
        if let Some((tree, rest)) = inside.max_by_key(|(tree, _)| tree.path.map_or(0, str::len)) {
            return Ok(Target::InTree(*tree, rest.to_vec()));
        }
    }
    let path = path.strip_prefix(b"/").unwrap_or(path);
    let (name, rest) = match path.iter().position(|&byte| byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (path, &path[path.len()..]),
    };
    if let Some(tree) = trees.iter().find(|tree| tree.name.as_bytes() == name) {
        return Ok(Target::InTree(*tree, rest.to_vec()));
    }
    let whole = snapshot
        .archives
        .iter()
        .find(|archive| is_whole(archive, &trees) && archive.name.as_bytes() == name);
    if let Some(archive) = whole.filter(|_| rest.is_empty()) {
        return Ok(Target::Whole(archive));
    }
    let known: Vec<String> = everything(snapshot)
        .iter()
        .map(|target| target.name().to_string())
        .collect();
    Err(Failure::Usage(format!(
        "snapshot {} has no {}; at its root are: {}",
        snapshot.id.short(),
        String::from_utf8_lossy(path),
        known.join(", ")
    )))
}

impl Target<'_> {
    /// Its name at the root of the snapshot.
    pub fn name(&self) -> &str {
        match self {
            Self::InTree(tree, _) => tree.name,
            Self::Whole(archive) => &archive.name,
        }
    }
}

/// The part of `path` below `outer`, both absolute; none if it is not below.
fn below<'a>(path: &'a [u8], outer: &[u8]) -> Option<&'a [u8]> {
    let outer = outer.strip_suffix(b"/").unwrap_or(outer);
    let rest = path.strip_prefix(outer)?;
    match rest.first() {
        None => Some(rest),
        Some(b'/') => Some(&rest[1..]),
        Some(_) => None,
    }
}

fn usage(error: impl std::fmt::Display) -> Failure {
    Failure::Usage(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::below;

    #[test]
    fn a_path_lies_below_another_only_at_a_slash() {
        assert_eq!(below(b"/etc/passwd", b"/etc"), Some(&b"passwd"[..]));
        assert_eq!(below(b"/etc", b"/etc"), Some(&b""[..]));
        assert_eq!(below(b"/etcetera", b"/etc"), None);
        assert_eq!(below(b"/etc/passwd", b"/"), Some(&b"etc/passwd"[..]));
        assert_eq!(below(b"/home", b"/etc"), None);
    }
}
