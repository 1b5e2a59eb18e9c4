//! What of a snapshot is needed to show it, with names that are safe in a file system.

use std::collections::BTreeSet;
use std::sync::{Arc, OnceLock};

use jiff::Timestamp;
use relight_repo::SnapshotId;
use relight_repo::snapshot::{ArchiveKind, Snapshot};
use relight_repo::tree::Root;
use relight_workloads::files;

/// A snapshot that is shown.
#[derive(Debug)]
pub struct Source {
    /// Its identity.
    pub id: SnapshotId,
    /// What it is a recovery point of.
    pub workload: String,
    /// The moment it can bring back.
    pub time: Timestamp,
    /// File trees.
    pub trees: Vec<Arc<TreeSource>>,
    /// Images, streams, and whatever else is shown as a file.
    pub wholes: Vec<Arc<WholeSource>>,
}

/// A file tree of a snapshot.
#[derive(Debug)]
pub struct TreeSource {
    /// The name it is shown under.
    pub name: String,
    /// In words, for messages.
    pub of: String,
    /// Names and attributes.
    pub metadata: Root,
    /// Contents.
    pub payload: Root,
    /// Whether any file in it may have several names.
    pub may_have_links: bool,
}

/// An archive that is shown as one file.
#[derive(Debug)]
pub struct WholeSource {
    /// The name it is shown under.
    pub name: String,
    /// In words, for messages.
    pub of: String,
    /// Its content.
    pub root: Root,
    /// The moment its snapshot can bring back.
    pub time: Timestamp,
    /// Bytes that are not holes, once somebody asked.
    pub allocated: OnceLock<u64>,
}

impl Source {
    /// What is shown of a snapshot.
    pub fn of(snapshot: &Snapshot) -> Self {
        let of = format!("snapshot {} of {}", snapshot.id.short(), snapshot.workload);
        let mut taken = BTreeSet::new();
        let trees = files::trees(snapshot);
        let shown_trees = trees
            .iter()
            .map(|tree| {
                Arc::new(TreeSource {
                    name: unique(&mut taken, &file_name(tree.name)),
                    of: of.clone(),
                    metadata: tree.metadata.root,
                    payload: tree.payload.root,
                    may_have_links: files::hard_links(snapshot, tree.name) != Some(0),
                })
            })
            .collect();
        let others = snapshot.archives.iter().filter(|archive| {
            archive.kind != ArchiveKind::PxarStat
                && !trees.iter().any(|tree| tree.has(&archive.name))
                && !files::is_kept_index(snapshot, archive)
        });
        let wholes = others
            .map(|archive| {
                Arc::new(WholeSource {
                    name: unique(&mut taken, &file_name(&archive.name)),
                    of: of.clone(),
                    root: archive.root,
                    time: snapshot.time,
                    allocated: OnceLock::new(),
                })
            })
            .collect();
        Self {
            id: snapshot.id,
            workload: snapshot.workload.clone(),
            time: snapshot.time,
            trees: shown_trees,
            wholes,
        }
    }
}

/// A name as one component of a path: what cannot be in it is replaced.
pub fn file_name(name: &str) -> String {
    let mut safe: String = name
        .chars()
        .map(|char| {
            if char == '/' || char.is_control() {
                '_'
            } else {
                char
            }
        })
        .collect();
    while safe.len() > 240 {
        safe.pop();
    }
    match safe.as_str() {
        "" | "." | ".." => "_".into(),
        _ => safe,
    }
}

/// `name`, or with a number behind it if it is taken.
fn unique(taken: &mut BTreeSet<String>, name: &str) -> String {
    let numbered = (2..).map(|number: u64| format!("{name}~{number}"));
    let free = std::iter::once(name.to_string())
        .chain(numbered)
        .find(|name| !taken.contains(name));
    let free = free.unwrap_or_default();
    taken.insert(free.clone());
    free
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_safe_and_unique() {
        assert_eq!(file_name("disk.img"), "disk.img");
        assert_eq!(file_name("a/../b\0"), "a_.._b_");
        assert_eq!([file_name(""), file_name("."), file_name("..")], ["_", "_", "_"]);
        assert!(file_name(&"ö".repeat(500)).len() <= 255);
        let mut taken = BTreeSet::new();
        let names: Vec<_> = ["a", "a", "b", "a"]
            .iter()
            .map(|name| unique(&mut taken, name))
            .collect();
        assert_eq!(names, ["a", "a~2", "b", "a~3"]);
    }
}
