//! What of a snapshot somebody means by a path.

use relight_pxar::fs::extract::Selection;
use relight_repo::snapshot::{Archive, ArchiveKind, Snapshot};

use crate::error::{Result, WorkloadError};
use crate::files::browse::printable;
use crate::files::{self, Tree};

/// Something in a snapshot.
#[derive(Debug, Clone)]
pub enum Part<'a> {
    /// A path in a tree; empty is the whole tree.
    InTree(Tree<'a>, Vec<u8>),
    /// An image or stream.
    Whole(&'a Archive),
}

/// Parts of one tree together, or a whole archive.
#[derive(Debug, Clone)]
pub enum Wanted<'a> {
    /// These paths of the tree.
    Tree(Tree<'a>, Selection),
    /// An image or stream.
    Whole(&'a Archive),
}

/// Everything in a snapshot, in its order.
pub fn everything(snapshot: &Snapshot) -> Vec<Part<'_>> {
    let trees = files::trees(snapshot);
    let whole = snapshot
        .archives
        .iter()
        .filter(|archive| is_whole(archive, &trees) && !files::is_kept_index(snapshot, archive))
        .map(Part::Whole);
    let mut all: Vec<_> = whole.collect();
    all.extend(trees.into_iter().map(|tree| Part::InTree(tree, Vec::new())));
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
///
/// # Errors
/// [`WorkloadError::Refused`]: the snapshot has nothing of that name at its root. Whether a path below a tree is there is
/// seen when it is read.
pub fn find<'a>(snapshot: &'a Snapshot, path: &[u8]) -> Result<Part<'a>> {
    let trees = files::trees(snapshot);
    if path.starts_with(b"/") {
        // The longest original path that it lies in.
        let inside = trees
            .iter()
            .filter_map(|tree| Some((tree, below(path, tree.path?.as_bytes())?)));
        if let Some((tree, rest)) = inside.max_by_key(|(tree, _)| tree.path.map_or(0, str::len)) {
            return Ok(Part::InTree(*tree, rest.to_vec()));
        }
    }
    let path = path.strip_prefix(b"/").unwrap_or(path);
    let (name, rest) = match path.iter().position(|&byte| byte == b'/') {
        Some(at) => (&path[..at], &path[at + 1..]),
        None => (path, &path[path.len()..]),
    };
    if let Some(tree) = trees.iter().find(|tree| tree.name.as_bytes() == name) {
        return Ok(Part::InTree(*tree, rest.to_vec()));
    }
    let whole = snapshot
        .archives
        .iter()
        .find(|archive| is_whole(archive, &trees) && archive.name.as_bytes() == name);
    if let Some(archive) = whole.filter(|_| rest.is_empty()) {
        return Ok(Part::Whole(archive));
    }
    let known: Vec<String> = everything(snapshot)
        .iter()
        .map(|part| part.name().to_string())
        .collect();
    Err(WorkloadError::Refused(format!(
        "snapshot {} has no {}; at its root are: {}",
        snapshot.id.short(),
        printable(path),
        known.join(", ")
    )))
}

/// What these paths mean, paths of one tree together. Without any path it is everything.
///
/// # Errors
/// As [`find`].
pub fn wanted<'a, P: AsRef<[u8]>>(snapshot: &'a Snapshot, paths: &[P]) -> Result<Vec<Wanted<'a>>> {
    let parts = if paths.is_empty() {
        everything(snapshot)
    } else {
        let found = paths.iter().map(|path| find(snapshot, path.as_ref()));
        found.collect::<Result<_>>()?
    };
    let mut trees: Vec<(Tree<'a>, Vec<Vec<u8>>)> = Vec::new();
    let mut wanted: Vec<Wanted<'a>> = Vec::new();
    for part in parts {
        match part {
            Part::Whole(archive) => {
                let is_there =
                    |one: &Wanted<'_>| matches!(one, Wanted::Whole(other) if other.name == archive.name);
                if !wanted.iter().any(is_there) {
                    wanted.push(Wanted::Whole(archive));
                }
            }
            Part::InTree(tree, path) => match trees.iter_mut().find(|(other, _)| other.name == tree.name) {
                Some((_, paths)) => paths.push(path),
                None => trees.push((tree, vec![path])),
            },
        }
    }
    let trees = trees.into_iter();
    wanted.extend(trees.map(|(tree, paths)| Wanted::Tree(tree, Selection::paths(paths))));
    Ok(wanted)
}

impl Part<'_> {
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
