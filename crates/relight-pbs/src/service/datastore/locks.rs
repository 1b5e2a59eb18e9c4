//! Who is at work on what, within this process: one backup a group, nobody removes a snapshot that somebody reads.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::error::{Result, StoreError};
use crate::formats::ids::{Group, Namespace, SnapshotName};

/// What can be locked.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Thing {
    Group(Namespace, Group),
    Snapshot(Namespace, SnapshotName),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Held {
    Shared(usize),
    Exclusive,
}

/// The locks of one datastore.
#[derive(Debug, Default)]
pub struct Locks {
    held: Mutex<HashMap<Thing, Held>>,
}

/// A lock that is held until this is dropped.
#[derive(Debug)]
#[must_use]
pub struct Lock {
    locks: Arc<Locks>,
    thing: Thing,
}

impl Locks {
    fn held(&self) -> MutexGuard<'_, HashMap<Thing, Held>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn take(self: &Arc<Self>, thing: Thing, exclusive: bool) -> Option<Lock> {
        let mut held = self.held();
        let state = match (held.get(&thing), exclusive) {
            (None, true) => Held::Exclusive,
            (None, false) => Held::Shared(1),
            (Some(Held::Shared(count)), false) => Held::Shared(count + 1),
            (Some(_), _) => return None,
        };
        held.insert(thing.clone(), state);
        Some(Lock {
            locks: self.clone(),
            thing,
        })
    }

    /// Locks a group for a new snapshot, or for its removal.
    ///
    /// # Errors
    /// [`StoreError::Busy`]: somebody has it.
    pub fn group(self: &Arc<Self>, namespace: &Namespace, group: &Group) -> Result<Lock> {
        let lock = self.take(Thing::Group(namespace.clone(), group.clone()), true);
        lock.ok_or_else(|| StoreError::Busy(format!("backup group {}", shown(namespace, &group.to_string()))))
    }

    /// Locks a snapshot: shared by those who read it, or for one who makes or removes it.
    ///
    /// # Errors
    /// [`StoreError::Busy`]: somebody has it in a way that does not allow that.
    pub fn snapshot(
        self: &Arc<Self>,
        namespace: &Namespace,
        name: &SnapshotName,
        exclusive: bool,
    ) -> Result<Lock> {
        let lock = self.take(Thing::Snapshot(namespace.clone(), name.clone()), exclusive);
        lock.ok_or_else(|| StoreError::Busy(format!("snapshot {}", shown(namespace, &name.to_string()))))
    }

    /// How many readers and writers of snapshots are at work.
    pub fn active(&self) -> (usize, usize) {
        let held = self.held();
        let mut count = (0, 0);
        for (thing, held) in held.iter() {
            match (thing, held) {
                (Thing::Snapshot(..), Held::Shared(readers)) => count.0 += readers,
                (Thing::Snapshot(..), Held::Exclusive) => count.1 += 1,
                (Thing::Group(..), _) => {}
            }
        }
        count
    }
}

fn shown(namespace: &Namespace, name: &str) -> String {
    if namespace.is_root() {
        name.to_string()
    } else {
        format!("{name} in namespace {namespace}")
    }
}

impl Drop for Lock {
    fn drop(&mut self) {
        let mut held = self.locks.held();
        match held.get_mut(&self.thing) {
            Some(Held::Shared(count)) if *count > 1 => *count -= 1,
            _ => drop(held.remove(&self.thing)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readers_share_and_writers_do_not() {
        let locks = Arc::new(Locks::default());
        let root = Namespace::ROOT;
        let name: SnapshotName = "vm/100/2023-11-14T22:13:21Z".parse().unwrap();
        let first = locks.snapshot(&root, &name, false).unwrap();
        let second = locks.snapshot(&root, &name, false).unwrap();
        assert!(matches!(
            locks.snapshot(&root, &name, true),
            Err(StoreError::Busy(_))
        ));
        assert_eq!(locks.active(), (2, 0));
        drop(first);
        assert!(locks.snapshot(&root, &name, true).is_err());
        drop(second);
        let writer = locks.snapshot(&root, &name, true).unwrap();
        assert!(locks.snapshot(&root, &name, false).is_err());
        assert!(locks.snapshot(&"a".parse().unwrap(), &name, true).is_ok());
        drop(writer);
        assert_eq!(locks.active(), (0, 0));
        let group = locks.group(&root, &name.group).unwrap();
        assert!(locks.group(&root, &name.group).is_err());
        drop(group);
        assert!(locks.group(&root, &name.group).is_ok());
    }
}
