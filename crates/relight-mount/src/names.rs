//! The part of the file system that the mount makes up: folders by workload and by snapshot, links to the latest.

mod snapshots;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use relight_repo::SnapshotId;

use crate::inode::{Inode, MAX_TREES};
use crate::source::{TreeSource, WholeSource};

/// The folder in which snapshots are found by their workload.
pub const BY_WORKLOAD: &str = "by-workload";
/// The folder in which snapshots are found by their short id.
pub const BY_ID: &str = "by-id";
/// The link to the newest snapshot.
pub const LATEST: &str = "latest";

/// A name in a made-up folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Child {
    /// Another made-up thing, by its inode number.
    Made(u64),
    /// The root of the tree of that number.
    Tree(u32),
}

/// A made-up thing.
#[derive(Debug)]
pub struct Made {
    /// The folder it is in; of the root itself.
    pub parent: u64,
    /// What it is.
    pub kind: Kind,
    /// Its time.
    pub time: Timestamp,
}

/// What a made-up thing is.
#[derive(Debug)]
pub enum Kind {
    /// A folder.
    Folder(BTreeMap<String, Child>),
    /// A symbolic link.
    Link(String),
    /// A whole archive.
    Whole(Arc<WholeSource>),
}

/// A tree and the folder it is in.
#[derive(Debug, Clone)]
pub struct Place {
    /// The folder.
    pub parent: u64,
    /// The tree.
    pub tree: Arc<TreeSource>,
    /// The snapshot, and the number of the tree in it: equal for all places where the same tree is shown.
    pub key: (SnapshotId, usize),
}

/// All names that the mount makes up. Numbers are never given again.
#[derive(Debug)]
pub struct Names {
    made: HashMap<u64, Made>,
    trees: HashMap<u32, Place>,
    next_made: u64,
    next_tree: u32,
    shown: HashMap<SnapshotId, snapshots::Shown>,
    began: Timestamp,
}

impl Names {
    /// An empty root; `now` is its time.
    pub fn new(now: Timestamp) -> Self {
        let root = Made {
            parent: Inode::ROOT,
            kind: Kind::Folder(BTreeMap::new()),
            time: now,
        };
        Self {
            made: HashMap::from([(Inode::ROOT, root)]),
            trees: HashMap::new(),
            next_made: Inode::ROOT + 1,
            next_tree: 1,
            shown: HashMap::new(),
            began: now,
        }
    }

    /// A root with nothing but one file.
    pub fn of_file(whole: Arc<WholeSource>, now: Timestamp) -> Self {
        let mut names = Self::new(now);
        let (name, time) = (whole.name.clone(), whole.time);
        names.make(Inode::ROOT, &name, Kind::Whole(whole), time);
        names
    }

    /// A made-up thing; none if it is gone.
    pub fn made(&self, number: u64) -> Option<&Made> {
        self.made.get(&number)
    }

    /// A tree; none if its snapshot is gone.
    pub fn tree(&self, number: u32) -> Option<&Place> {
        self.trees.get(&number)
    }

    /// What is in a folder; none for anything else.
    pub fn children(&self, folder: u64) -> Option<&BTreeMap<String, Child>> {
        match &self.made.get(&folder)?.kind {
            Kind::Folder(children) => Some(children),
            _ => None,
        }
    }

    fn children_mut(&mut self, folder: u64) -> Option<&mut BTreeMap<String, Child>> {
        match &mut self.made.get_mut(&folder)?.kind {
            Kind::Folder(children) => Some(children),
            _ => None,
        }
    }

    /// Adds something to a folder under a name that is free there, and gives its number.
    fn make(&mut self, parent: u64, name: &str, kind: Kind, time: Timestamp) -> u64 {
        let number = self.next_made;
        self.next_made += 1;
        self.made.insert(number, Made { parent, kind, time });
        if let Some(children) = self.children_mut(parent) {
            children.insert(name.to_string(), Child::Made(number));
        }
        number
    }

    /// Adds a tree to a folder. After four million of them none is shown any more until the next mount.
    fn plant(&mut self, parent: u64, tree: &Arc<TreeSource>, key: (SnapshotId, usize)) {
        if self.next_tree > MAX_TREES {
            return;
        }
        let number = self.next_tree;
        self.next_tree += 1;
        self.trees.insert(
            number,
            Place {
                parent,
                tree: tree.clone(),
                key,
            },
        );
        if let Some(children) = self.children_mut(parent) {
            children.insert(tree.name.clone(), Child::Tree(number));
        }
    }

    /// Removes a name and all under it.
    fn remove(&mut self, folder: u64, name: &str) {
        let Some(child) = self
            .children_mut(folder)
            .and_then(|children| children.remove(name))
        else {
            return;
        };
        let mut gone = vec![child];
        while let Some(child) = gone.pop() {
            match child {
                Child::Tree(number) => {
                    self.trees.remove(&number);
                }
                Child::Made(number) => {
                    if let Some(Made {
                        kind: Kind::Folder(children),
                        ..
                    }) = self.made.remove(&number)
                    {
                        gone.extend(children.into_values());
                    }
                }
            }
        }
    }
}
