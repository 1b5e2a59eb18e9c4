//! Who uses which group and which snapshot of a datastore at the moment.
//!
//! One server writes to a datastore through this protocol at a time, so these locks are in memory and go with the
//! process; that nothing is damaged by others is the engine's business.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::formats::ids::{Group, Namespace, SnapshotName};

/// The locks of one datastore.
#[derive(Debug, Clone, Default)]
pub struct Locks {
    groups: Table<(Namespace, Group)>,
    snapshots: Table<(Namespace, SnapshotName)>,
}

/// Keeps a group to oneself until it is dropped.
#[derive(Debug)]
pub struct GroupLock(#[allow(dead_code, reason = "it is held")] Held<(Namespace, Group)>);

/// Keeps a snapshot as it is, or to oneself, until it is dropped.
#[derive(Debug)]
pub struct SnapshotLock(#[allow(dead_code, reason = "it is held")] Held<(Namespace, SnapshotName)>);

impl Locks {
    /// The group for oneself, to write to it; none if somebody else does.
    pub fn group(&self, namespace: &Namespace, group: &Group) -> Option<GroupLock> {
        let key = (namespace.clone(), group.clone());
        self.groups.take(key, true).map(GroupLock)
    }

    /// The snapshot together with others who want it to stay as it is; none if somebody has it for oneself.
    pub fn snapshot_shared(&self, namespace: &Namespace, name: &SnapshotName) -> Option<SnapshotLock> {
        let key = (namespace.clone(), name.clone());
        self.snapshots.take(key, false).map(SnapshotLock)
    }

    /// The snapshot for oneself, to write or to remove it; none if somebody else uses it.
    pub fn snapshot_exclusive(&self, namespace: &Namespace, name: &SnapshotName) -> Option<SnapshotLock> {
        let key = (namespace.clone(), name.clone());
        self.snapshots.take(key, true).map(SnapshotLock)
    }
}

/// How many hold a key: none of one's own, or so many together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Holders {
    One,
    Several(usize),
}

#[derive(Debug)]
struct Table<K>(Arc<Mutex<HashMap<K, Holders>>>);

impl<K> Clone for Table<K> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<K> Default for Table<K> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<K: Hash + Eq + Clone> Table<K> {
    fn lock(&self) -> MutexGuard<'_, HashMap<K, Holders>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(&self, key: K, alone: bool) -> Option<Held<K>> {
        match (self.lock().entry(key.clone()), alone) {
            (Entry::Vacant(free), true) => drop(free.insert(Holders::One)),
            (Entry::Vacant(free), false) => drop(free.insert(Holders::Several(1))),
            (Entry::Occupied(mut taken), false) => match taken.get_mut() {
                Holders::Several(count) => *count += 1,
                Holders::One => return None,
            },
            (Entry::Occupied(_), true) => return None,
        }
        Some(Held {
            table: self.clone(),
            key,
        })
    }
}

#[derive(Debug)]
struct Held<K: Hash + Eq + Clone> {
    table: Table<K>,
    key: K,
}

impl<K: Hash + Eq + Clone> Drop for Held<K> {
    fn drop(&mut self) {
        let mut table = self.table.lock();
        match table.get_mut(&self.key) {
            Some(Holders::Several(count)) if *count > 1 => *count -= 1,
            _ => {
                table.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_group_has_one_writer() {
        let (locks, group) = (Locks::default(), "vm/100".parse().unwrap());
        let held = locks.group(&Namespace::ROOT, &group).unwrap();
        assert!(locks.clone().group(&Namespace::ROOT, &group).is_none());
        assert!(locks.group(&"other".parse().unwrap(), &group).is_some());
        drop(held);
        assert!(locks.group(&Namespace::ROOT, &group).is_some());
    }

    #[test]
    fn readers_share_a_snapshot() {
        let (locks, name) = (Locks::default(), "vm/100/2023-11-14T22:13:21Z".parse().unwrap());
        let shared = |locks: &Locks| locks.snapshot_shared(&Namespace::ROOT, &name);
        let exclusive = |locks: &Locks| locks.snapshot_exclusive(&Namespace::ROOT, &name);
        let (first, second) = (shared(&locks).unwrap(), shared(&locks).unwrap());
        drop(first);
        assert!(exclusive(&locks).is_none());
        drop(second);
        let held = exclusive(&locks).unwrap();
        assert!(shared(&locks).is_none() && exclusive(&locks).is_none());
        drop(held);
        assert!(shared(&locks).is_some());
    }
}
