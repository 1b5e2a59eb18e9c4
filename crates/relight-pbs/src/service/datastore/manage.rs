//! What is changed about snapshots, groups and namespaces, and their removal.

use relight_repo::group::{Record, Subject};
use relight_repo::snapshot::{Marks, Snapshot};
use relight_repo::{RepoError, SnapshotId};

use super::Datastore;
use super::entry::Entry;
use super::error::{Result, StoreError};
use super::listing::GroupEntry;
use crate::access::AuthId;
use crate::formats::blob::{Blob, MAX_ENCODED};
use crate::formats::ids::{Group, Namespace, SnapshotName};

/// Longest notes in bytes.
const MAX_NOTES: usize = 64 << 10;

/// What came of a removal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Removed {
    /// Snapshots that are protected and stay.
    pub protected_snapshots: usize,
    /// Groups that are gone.
    pub removed_groups: usize,
    /// Snapshots that are gone.
    pub removed_snapshots: usize,
}

impl Datastore {
    /// Changes what may change about a snapshot.
    pub(super) fn change_marks(
        &self,
        namespace: &Namespace,
        name: &SnapshotName,
        change: impl FnOnce(&mut Marks),
    ) -> Result<()> {
        let _changing = self.changing();
        let entry = self.snapshot(namespace, name)?;
        self.change_entry(&entry, change)
    }

    /// The same, of an entry as it is while nobody else changes marks.
    fn change_entry(&self, entry: &Entry, change: impl FnOnce(&mut Marks)) -> Result<()> {
        let mut marks = match &entry.marks {
            Some(marks) => marks.clone(),
            None => Marks {
                notes: self.notes(entry)?,
                ..Marks::default()
            },
        };
        let before = marks.clone();
        change(&mut marks);
        if marks != before || entry.marks.is_none() {
            self.repository().set_marks(entry.id(), &marks)?;
        }
        Ok(())
    }

    /// The notes of a snapshot.
    pub fn notes(&self, entry: &Entry) -> Result<String> {
        if entry.marks.is_some() || !entry.is_uploaded() {
            return Ok(entry.notes(None));
        }
        let manifest = self.manifest(entry)?;
        Ok(entry.notes(Some(&manifest)))
    }

    /// Writes notes about a snapshot.
    pub fn set_notes(&self, namespace: &Namespace, name: &SnapshotName, notes: &str) -> Result<()> {
        check_notes(notes)?;
        self.change_marks(namespace, name, |marks| marks.notes = notes.to_string())
    }

    /// Protects a snapshot from being removed, or no longer.
    pub fn set_protected(&self, namespace: &Namespace, name: &SnapshotName, protected: bool) -> Result<()> {
        self.change_marks(namespace, name, |marks| marks.protected = protected)
    }

    /// The same of exactly this snapshot, whether it is the one that clients see under its name or another of the same second.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if it is gone.
    pub fn protect_one(&self, snapshot: &Snapshot, protected: bool) -> Result<()> {
        let _changing = self.changing();
        let found = self
            .snapshots()?
            .into_iter()
            .find(|(body, _)| body.snapshot.id == snapshot.id);
        let Some((_, marks)) = found else {
            return Err(StoreError::refused(format!(
                "snapshot {} is gone",
                snapshot.id.short()
            )));
        };
        let mut entry = self.entry_of(snapshot.clone())?;
        entry.marks = marks;
        self.change_entry(&entry, |marks| marks.protected = protected)
    }

    /// Adds the log of the client that made a snapshot. There is at most one.
    pub fn add_log(&self, namespace: &Namespace, name: &SnapshotName, log: &[u8]) -> Result<()> {
        if log.len() > MAX_ENCODED {
            return Err(StoreError::refused("the log is too long"));
        }
        let checked = Blob::parse(log).and_then(|blob| blob.check_crc());
        checked.map_err(|error| StoreError::refused(error.to_string()))?;
        let entry = self.snapshot(namespace, name)?;
        if !self.repository().add_log(entry.id(), log)? {
            return Err(StoreError::refused("backup already contains a log."));
        }
        Ok(())
    }

    /// Changes what is kept about a group. Only groups with snapshots are known.
    fn change_group(
        &self,
        namespace: &Namespace,
        group: &Group,
        change: impl FnOnce(&mut Record),
    ) -> Result<()> {
        let _changing = self.changing();
        self.group(namespace, group)?;
        let name = group.workload(namespace)?;
        let known = self.repository().group(Subject::Group, name.as_str())?;
        let mut record = known.unwrap_or_else(|| Record::new(Subject::Group, name.as_str()));
        change(&mut record);
        Ok(self.repository().set_group(&record)?)
    }

    /// Writes notes about a group.
    pub fn set_group_notes(&self, namespace: &Namespace, group: &Group, notes: &str) -> Result<()> {
        check_notes(notes)?;
        self.change_group(namespace, group, |record| record.notes = notes.to_string())
    }

    /// Gives a group to somebody else.
    pub fn set_owner(&self, namespace: &Namespace, group: &Group, owner: &AuthId) -> Result<()> {
        self.change_group(namespace, group, |record| record.owner = owner.to_string())
    }

    /// Who owns the group into which somebody is about to save, with the lock of the group held: who already does, or, if
    /// there is no snapshot in it yet, who saves.
    pub fn claim(&self, namespace: &Namespace, group: &Group, who: &AuthId) -> Result<AuthId> {
        self.require_namespace(namespace)?;
        if let Some(owner) = self.owner(namespace, group)? {
            return Ok(owner);
        }
        // What is said of snapshots that are no more says nothing of those to come.
        let name = group.workload(namespace)?;
        let _changing = self.changing();
        self.repository().remove_group(Subject::Group, name.as_str())?;
        Ok(who.clone())
    }

    /// Removes a snapshot. Its chunks stay until a collection finds that nobody needs them.
    ///
    /// # Errors
    /// [`StoreError::Refused`] if it is protected, [`StoreError::Busy`] if somebody reads it.
    pub fn forget(&self, namespace: &Namespace, name: &SnapshotName) -> Result<()> {
        let entry = self.snapshot(namespace, name)?;
        self.forget_entry(&entry)?;
        self.tidy_group(namespace, &name.group)
    }

    pub(super) fn forget_entry(&self, entry: &Entry) -> Result<()> {
        let protected = || StoreError::refused("cannot remove protected snapshot");
        if entry.is_protected() {
            return Err(protected());
        }
        // Others of the same second have the same name; those first that lists do not show.
        let ids = entry.hidden.iter().copied().chain([entry.id()]);
        match self.forget_ids(entry, ids) {
            Err(StoreError::Repository(RepoError::Protected(_))) => Err(protected()),
            other => other,
        }
    }

    fn forget_ids(&self, entry: &Entry, ids: impl IntoIterator<Item = SnapshotId>) -> Result<()> {
        let _lock = self.locks.snapshot(&entry.namespace, &entry.name, true)?;
        let _changing = self.changing();
        for id in ids {
            self.repository().forget(id)?;
        }
        Ok(())
    }

    /// Removes exactly this snapshot, whether it is the one that clients see under its name or another of the same second.
    ///
    /// # Errors
    /// As [`forget`](Self::forget).
    pub fn forget_one(&self, snapshot: &Snapshot) -> Result<()> {
        let entry = self.entry_of(snapshot.clone())?;
        self.forget_ids(&entry, [snapshot.id])?;
        self.tidy_group(&entry.namespace, &entry.name.group)
    }

    /// Forgets what is kept about a group that has no snapshots any more.
    pub(super) fn tidy_group(&self, namespace: &Namespace, group: &Group) -> Result<()> {
        // Whoever has it is making a snapshot.
        let Ok(_lock) = self.locks.group(namespace, group) else {
            return Ok(());
        };
        let _changing = self.changing();
        if self.list()?.group(namespace, group).is_none() {
            let name = group.workload(namespace)?;
            self.repository().remove_group(Subject::Group, name.as_str())?;
        }
        Ok(())
    }

    /// Removes all snapshots of a group that are not protected.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if somebody reads one of them, or makes one.
    pub fn forget_group(&self, namespace: &Namespace, group: &Group) -> Result<Removed> {
        let found = self.group(namespace, group)?;
        let lock = self.locks.group(namespace, group)?;
        let removed = self.empty_group(&found)?;
        drop(lock);
        self.tidy_group(namespace, group)?;
        Ok(removed)
    }

    fn empty_group(&self, group: &GroupEntry) -> Result<Removed> {
        let mut removed = Removed::default();
        for entry in group.snapshots.iter().rev() {
            if entry.is_protected() {
                removed.protected_snapshots += 1;
                continue;
            }
            self.forget_entry(entry)?;
            removed.removed_snapshots += 1;
        }
        removed.removed_groups = usize::from(removed.protected_snapshots == 0);
        Ok(removed)
    }

    /// Makes a namespace in one that is there.
    pub fn create_namespace(&self, parent: &Namespace, name: &str) -> Result<Namespace> {
        let namespace = parent.child(name)?;
        let _changing = self.changing();
        let listing = self.list()?;
        if !listing.has_namespace(parent) {
            return Err(StoreError::NoNamespace(parent.clone()));
        }
        if listing.has_namespace(&namespace) {
            return Err(StoreError::Refused(format!(
                "namespace {namespace} already exists"
            )));
        }
        let record = Record::new(Subject::Namespace, namespace.as_str());
        self.repository().set_group(&record)?;
        Ok(namespace)
    }

    /// Removes a namespace with those in it; with `groups` also the groups in them, else only namespaces without any.
    /// False if something of it stays: protected snapshots, or groups that were not to be removed.
    pub fn remove_namespace(&self, namespace: &Namespace, groups: bool) -> Result<(Removed, bool)> {
        if namespace.is_root() {
            return Err(StoreError::refused("the root namespace cannot be removed"));
        }
        let listing = self.list()?;
        if !listing.has_namespace(namespace) {
            return Err(StoreError::NoNamespace(namespace.clone()));
        }
        let mut removed = Removed::default();
        let inside = listing.namespaces().filter(|other| namespace.contains(other));
        for inside in inside.clone() {
            for group in listing.groups(inside).filter(|_| groups) {
                let of_group = self.forget_group(inside, &group.group)?;
                removed.protected_snapshots += of_group.protected_snapshots;
                removed.removed_groups += of_group.removed_groups;
                removed.removed_snapshots += of_group.removed_snapshots;
            }
        }
        let _changing = self.changing();
        let now = self.list()?;
        let mut gone = true;
        for inside in inside {
            let is_empty = !now.all_groups().any(|group| inside.contains(&group.namespace));
            gone &= is_empty;
            if is_empty {
                self.repository()
                    .remove_group(Subject::Namespace, inside.as_str())?;
            } else {
                // It was there by its own right, and stays so when its groups are gone.
                let record = Record::new(Subject::Namespace, inside.as_str());
                if self
                    .repository()
                    .group(Subject::Namespace, inside.as_str())?
                    .is_none()
                {
                    self.repository().set_group(&record)?;
                }
            }
        }
        Ok((removed, gone))
    }
}

fn check_notes(notes: &str) -> Result<()> {
    if notes.len() > MAX_NOTES {
        return Err(StoreError::Refused(format!(
            "the notes are longer than {MAX_NOTES} bytes"
        )));
    }
    Ok(())
}
