//! Moves groups and namespaces within a datastore. The name of a workload stands in the manifest of each snapshot, which
//! never changes: so a snapshot is moved by publishing one with the same archives under the new name, and forgetting
//! the old one after that. Where that breaks off, both are there, and moving again finishes it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use relight_model::Workload;
use relight_repo::group::{Record, Subject};
use relight_repo::session::Session;
use relight_repo::snapshot::{Snapshot, SnapshotSpec};
use relight_repo::{RepoError, SnapshotId};

use super::entry::Entry;
use super::error::{Result, StoreError};
use super::progress::Log;
use super::{Datastore, GroupEntry};
use crate::formats::ids::{Group, Namespace};

/// What a move has come to.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Moved {
    /// Groups that are in their new place.
    pub groups: usize,
    /// Snapshots that are.
    pub snapshots: usize,
    /// Groups that stay where they were.
    pub failed: usize,
}

/// How groups are moved.
#[derive(Clone, Copy)]
pub struct MoveOptions<'a> {
    /// Put snapshots into a group that is there already, if its owner is the same.
    pub merge: bool,
    /// Takes the log.
    pub log: Log<'a>,
    /// Becomes true when somebody asks to stop.
    pub stopped: &'a AtomicBool,
}

/// Whether two snapshots have the same content.
fn same(one: &Snapshot, other: &Snapshot) -> bool {
    one.time == other.time && one.archives == other.archives && one.attributes == other.attributes
}

impl Datastore {
    /// Moves a group to another namespace, which must be there.
    ///
    /// # Errors
    /// There is no such group or namespace; there is such a group already, of another owner, or with snapshots of the same
    /// time, or it is not to be merged with; somebody is at work on one of them; or the repository fails.
    pub fn move_group(
        &self,
        from: &Namespace,
        group: &Group,
        to: &Namespace,
        options: &MoveOptions<'_>,
    ) -> Result<usize> {
        if from == to {
            return Err(StoreError::refused("the group is in that namespace already"));
        }
        self.require_namespace(to)?;
        // Fails if the names do not fit into one.
        group.workload(to)?;
        let locks = (self.locks.group(from, group)?, self.locks.group(to, group)?);
        let source = self.group(from, group)?;
        let target = self.list()?.group(to, group).cloned();
        self.check_target(&source, target.as_deref(), options.merge)?;
        let session = Session::begin(self.repository(), Arc::default())?;
        let mut moved = 0;
        for entry in source.snapshots.iter().rev() {
            if options.stopped.load(Ordering::Relaxed) {
                return Err(RepoError::Cancelled.into());
            }
            let there = target.as_ref().and_then(|target| find(target, entry));
            self.move_snapshot(&session, entry, to, there)?;
            (options.log)(&format!("moved snapshot {} to {}", entry.name, shown(to)));
            moved += 1;
        }
        drop(locks);
        self.tidy_group(from, group)?;
        Ok(moved)
    }

    fn check_target(&self, source: &GroupEntry, target: Option<&GroupEntry>, merge: bool) -> Result<()> {
        let Some(target) = target else {
            return Ok(());
        };
        let overlap = target.snapshots.iter().find(|there| {
            let here = source.snapshots.iter().find(|entry| entry.name == there.name);
            here.is_some_and(|here| !same(&here.body.snapshot, &there.body.snapshot))
        });
        if let Some(overlap) = overlap {
            return Err(StoreError::Refused(format!(
                "there is another snapshot {} in {}",
                overlap.name,
                shown(&target.namespace)
            )));
        }
        let (here, there) = (self.owner_of(source), self.owner_of(target));
        if here != there {
            return Err(StoreError::Refused(format!(
                "the group {} in {} belongs to {there}, not to {here}",
                target.group,
                shown(&target.namespace)
            )));
        }
        // What an earlier attempt moved is no group of its own.
        let all_moved = target.snapshots.iter().all(|there| {
            let here = source.snapshots.iter().find(|entry| entry.name == there.name);
            here.is_some_and(|here| same(&here.body.snapshot, &there.body.snapshot))
        });
        if merge || all_moved {
            return Ok(());
        }
        Err(StoreError::Refused(format!(
            "there is a group {} in {} already",
            target.group,
            shown(&target.namespace)
        )))
    }

    /// Moves a snapshot, and those of the same second that lists do not show.
    fn move_snapshot(
        &self,
        session: &Session,
        entry: &Entry,
        to: &Namespace,
        there: Option<Arc<Entry>>,
    ) -> Result<()> {
        let _lock = self.locks.snapshot(&entry.namespace, &entry.name, true)?;
        let _changing = self.changing();
        let repository = self.repository();
        for id in entry.hidden.iter().copied().chain([entry.id()]) {
            let snapshot = repository.snapshot(id)?;
            let new = match there
                .as_ref()
                .filter(|there| same(&there.body.snapshot, &snapshot))
            {
                Some(there) => there.id(),
                None => self.publish_again(session, &snapshot, to)?,
            };
            self.take_along(id, new)?;
            repository.forget(id)?;
        }
        Ok(())
    }

    /// The same snapshot under its name in another namespace. The owner of the group goes with it.
    fn publish_again(&self, session: &Session, snapshot: &Snapshot, to: &Namespace) -> Result<SnapshotId> {
        let unfit = |error: relight_model::workload::WorkloadError| StoreError::refused(error.to_string());
        let name: Workload = snapshot.workload.parse().map_err(unfit)?;
        let local = format!("{}/{}", name.kind(), name.name());
        let new: Workload = match to.is_root() {
            true => local.parse().map_err(unfit)?,
            false => format!("{to}/{local}").parse().map_err(unfit)?,
        };
        self.take_record(name.as_str(), new.as_str())?;
        let spec = SnapshotSpec {
            workload: new.into(),
            time: Some(snapshot.time),
            host: snapshot.host.clone(),
            parent: None,
            attributes: snapshot.attributes.clone(),
            incomplete: snapshot.incomplete.clone(),
            retain_until: snapshot.retain_until,
        };
        Ok(session.publish(spec, snapshot.archives.clone())?.id)
    }

    /// What is kept about a group, unless something is about that in the new place.
    fn take_record(&self, from: &str, to: &str) -> Result<()> {
        let repository = self.repository();
        if repository.group(Subject::Group, to)?.is_some() {
            return Ok(());
        }
        if let Some(before) = repository.group(Subject::Group, from)? {
            let mut record = Record::new(Subject::Group, to);
            record.owner = before.owner;
            record.notes = before.notes;
            record.attributes = before.attributes;
            repository.set_group(&record)?;
        }
        Ok(())
    }

    /// Notes, verification, protection and log; the old snapshot is not protected any more, because the new one is.
    fn take_along(&self, old: SnapshotId, new: SnapshotId) -> Result<()> {
        let repository = self.repository();
        let mut marks = repository.marks(old)?;
        if marks != relight_repo::snapshot::Marks::default() {
            repository.set_marks(new, &marks)?;
        }
        if let Some(log) = repository.log(old)? {
            repository.add_log(new, &log)?;
        }
        if marks.protected {
            marks.protected = false;
            repository.set_marks(old, &marks)?;
        }
        Ok(())
    }

    /// Moves what is in a namespace, and in those in it up to so many levels down, to another one, which is made if it is
    /// not there; with `delete_source`, the namespaces that are empty then are removed.
    ///
    /// # Errors
    /// The namespaces are none, or one is within the other, or somebody asks to stop. What cannot be moved is logged and
    /// counted.
    pub fn move_namespace(
        &self,
        from: &Namespace,
        to: &Namespace,
        max_depth: Option<usize>,
        delete_source: bool,
        options: &MoveOptions<'_>,
    ) -> Result<Moved> {
        if from.is_root() {
            return Err(StoreError::refused("the root namespace cannot be moved"));
        }
        if from.contains(to) {
            return Err(StoreError::refused("a namespace cannot be moved into itself"));
        }
        let listing = self.list()?;
        if !listing.has_namespace(from) {
            return Err(StoreError::NoNamespace(from.clone()));
        }
        let near = |one: &&Namespace| {
            let below = one.depth().saturating_sub(from.depth());
            from.contains(one) && max_depth.is_none_or(|most| below <= most)
        };
        let mut inside: Vec<Namespace> = listing.namespaces().filter(near).cloned().collect();
        inside.sort_by_key(Namespace::depth);
        let mut moved = Moved::default();
        for namespace in &inside {
            let mut place = to.clone();
            for part in namespace.parts().skip(from.depth()) {
                place = place.child(part)?;
            }
            self.ensure_namespace(&place)?;
            for group in listing.groups(namespace) {
                match self.move_group(namespace, &group.group, &place, options) {
                    Ok(snapshots) => {
                        moved.groups += 1;
                        moved.snapshots += snapshots;
                    }
                    Err(StoreError::Repository(RepoError::Cancelled)) => {
                        return Err(RepoError::Cancelled.into());
                    }
                    Err(error) => {
                        moved.failed += 1;
                        (options.log)(&format!(
                            "group {} stays in {} - {error}",
                            group.group,
                            shown(namespace)
                        ));
                    }
                }
            }
        }
        for namespace in inside.iter().rev().filter(|_| delete_source) {
            // Of those that go deeper than what was moved something stays.
            if self
                .list()?
                .namespaces()
                .filter(|one| namespace.contains(one))
                .count()
                == 1
            {
                self.remove_namespace(namespace, false)?;
            }
        }
        Ok(moved)
    }

    fn ensure_namespace(&self, namespace: &Namespace) -> Result<()> {
        if self.list()?.has_namespace(namespace) {
            return Ok(());
        }
        let (Some(parent), Some(name)) = (namespace.parent(), namespace.parts().last()) else {
            return Ok(());
        };
        self.ensure_namespace(&parent)?;
        self.create_namespace(&parent, name).map(drop)
    }
}

fn find(target: &GroupEntry, entry: &Entry) -> Option<Arc<Entry>> {
    let found = target.snapshots.iter().find(|there| there.name == entry.name);
    found.cloned()
}

fn shown(namespace: &Namespace) -> String {
    match namespace.is_root() {
        true => "the root namespace".into(),
        false => format!("namespace '{namespace}'"),
    }
}
