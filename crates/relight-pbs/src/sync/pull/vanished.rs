//! What the other server has no more is removed here, if that was asked for: only what belongs to the owner of the job, and
//! never what is protected.

use std::collections::HashSet;
use std::sync::Arc;

use super::{Pull, Result, blocking, shown, stopped};
use crate::access::Privileges;
use crate::formats::ids::{BackupTime, Group, Namespace};
use crate::service::datastore::{Entry, StoreError};

impl Pull<'_> {
    /// Snapshots of a group whose lock is held.
    pub(super) async fn vanished_snapshots(
        &mut self,
        here: &[Arc<Entry>],
        there: &HashSet<BackupTime>,
    ) -> Result<()> {
        for entry in here
            .iter()
            .filter(|entry| !there.contains(&entry.name.backup_time))
        {
            stopped(self.task)?;
            let name = &entry.name;
            if entry.is_protected() {
                self.task
                    .log(format!("don't delete vanished snapshot {name} (protected)"));
                continue;
            }
            self.task.log(format!("delete vanished snapshot {name}"));
            let (store, entry) = (self.job.local.store.clone(), entry.clone());
            match blocking(move || store.forget(&entry.namespace, &entry.name)).await {
                Ok(()) => self.figures.removed_snapshots += 1,
                Err(error) => self
                    .figures
                    .failed(self.task, format!("vanished snapshot {name} stays - {error}")),
            }
        }
        Ok(())
    }

    /// Groups of a namespace.
    pub(super) async fn vanished_groups(&mut self, ours: &Namespace, there: &[Group]) -> Result<()> {
        let there: HashSet<&Group> = there.iter().collect();
        let local = self.job.local.clone();
        let namespace = ours.clone();
        let here = blocking(move || -> Result<Vec<Group>> {
            let listing = local.store.list()?;
            let mine = listing
                .groups(&namespace)
                .filter(|group| local.store.owner_of(group) == local.owner);
            Ok(mine.map(|group| group.group.clone()).collect())
        });
        for group in here.await? {
            if there.contains(&group) || !self.job.selection.filters.fit(&group) {
                continue;
            }
            stopped(self.task)?;
            self.vanished_group(ours, &group).await;
        }
        Ok(())
    }

    async fn vanished_group(&mut self, ours: &Namespace, group: &Group) {
        self.task.log(format!("delete vanished group {group}"));
        let (store, namespace, which) = (self.job.local.store.clone(), ours.clone(), group.clone());
        match blocking(move || store.forget_group(&namespace, &which)).await {
            Ok(removed) => {
                self.figures.removed_snapshots += removed.removed_snapshots;
                self.figures.removed_groups += removed.removed_groups;
                if removed.protected_snapshots > 0 {
                    self.task.log(format!(
                        "kept {} protected snapshot(s) of vanished group {group}",
                        removed.protected_snapshots
                    ));
                }
            }
            Err(error) => self
                .figures
                .failed(self.task, format!("vanished group {group} stays - {error}")),
        }
    }

    /// Namespaces below the first one.
    pub(super) async fn vanished_namespaces(&mut self, kept: &HashSet<Namespace>) -> Result<()> {
        let (root, depth) = (self.job.local.namespace.clone(), self.job.selection.max_depth);
        let store = self.job.local.store.clone();
        let found = blocking(move || -> Result<Vec<Namespace>, StoreError> {
            let listing = store.list()?;
            let near = |one: &&Namespace| {
                let below = one.depth().saturating_sub(root.depth());
                root.contains(one) && **one != root && depth.is_none_or(|most| below <= most)
            };
            let mut found: Vec<Namespace> = listing.namespaces().filter(near).cloned().collect();
            // Those within others first.
            found.sort_by_key(|one| std::cmp::Reverse(one.depth()));
            Ok(found)
        });
        for namespace in found.await? {
            if kept.iter().any(|kept| namespace.contains(kept)) {
                continue;
            }
            stopped(self.task)?;
            self.vanished_groups(&namespace, &[]).await?;
            let parent = namespace.parent().unwrap_or_default();
            if !self.job.local.may(&parent, Privileges::DATASTORE_MODIFY) {
                self.figures.failed(
                    self.task,
                    format!(
                        "vanished {} stays - {} may not remove it",
                        shown(&namespace),
                        self.job.local.owner
                    ),
                );
                continue;
            }
            let (store, gone) = (self.job.local.store.clone(), namespace.clone());
            match blocking(move || store.remove_namespace(&gone, false)).await {
                Ok((_, true)) => {
                    self.task.log(format!("deleted vanished {}", shown(&namespace)));
                    self.figures.removed_namespaces += 1;
                }
                Ok((_, false)) => {
                    self.task.log(format!(
                        "vanished {} stays - there are groups in it",
                        shown(&namespace)
                    ));
                }
                Err(error) => self.figures.failed(
                    self.task,
                    format!("vanished {} stays - {error}", shown(&namespace)),
                ),
            }
        }
        Ok(())
    }
}
