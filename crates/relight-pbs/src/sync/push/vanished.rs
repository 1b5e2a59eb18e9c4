//! What is here no more is removed from the other server, if that was asked for: only what belongs to whom this server is
//! there, and never what is protected.

use std::collections::{BTreeSet, HashMap, HashSet};

use http::Method;

use super::{Push, Result, shown, stopped};
use crate::access::{AuthId, Privileges};
use crate::formats::ids::{BackupTime, Group, Namespace};
use crate::sync::remote::{RemoteSnapshot, of_group, of_namespace, of_snapshot};

impl Push<'_> {
    fn may_prune(&mut self, theirs: &Namespace) -> bool {
        let may = self.may_there(theirs, Privileges::REMOTE_DATASTORE_PRUNE);
        if !may {
            self.figures.failed(
                self.task,
                format!(
                    "nothing is removed from {} of the other server - {} may not",
                    shown(theirs),
                    self.job.local.owner
                ),
            );
        }
        may
    }

    pub(super) async fn vanished_snapshots(
        &mut self,
        theirs: &Namespace,
        there: &[RemoteSnapshot],
        here: &HashSet<BackupTime>,
    ) -> Result<()> {
        let gone = |one: &&RemoteSnapshot| one.is_finished() && !here.contains(&one.name().backup_time);
        let gone: Vec<&RemoteSnapshot> = there.iter().filter(gone).collect();
        if gone.is_empty() || !self.may_prune(theirs) {
            return Ok(());
        }
        for one in gone {
            stopped(self.task)?;
            let name = one.name();
            if one.protected {
                self.task
                    .log(format!("don't delete vanished snapshot {name} (protected)"));
                continue;
            }
            self.task.log(format!("delete vanished snapshot {name}"));
            let parameters = of_snapshot(theirs, &name);
            match self.remote.call(Method::DELETE, "snapshots", parameters).await {
                Ok(_) => self.figures.removed_snapshots += 1,
                Err(error) => self
                    .figures
                    .failed(self.task, format!("vanished snapshot {name} stays - {error}")),
            }
        }
        Ok(())
    }

    pub(super) async fn vanished_groups(
        &mut self,
        theirs: &Namespace,
        here: &[Group],
        there: &HashMap<Group, Option<AuthId>>,
    ) -> Result<()> {
        let here: HashSet<&Group> = here.iter().collect();
        let is_own = |owner: &Option<AuthId>| {
            owner
                .as_ref()
                .is_some_and(|owner| self.job.remote_id.owns_as(owner))
        };
        let gone: BTreeSet<&Group> = there
            .iter()
            .filter(|(group, owner)| {
                !here.contains(group) && self.job.selection.filters.fit(group) && is_own(owner)
            })
            .map(|(group, _)| group)
            .collect();
        if gone.is_empty() || !self.may_prune(theirs) {
            return Ok(());
        }
        for group in gone {
            stopped(self.task)?;
            // One after the other, so that those that are protected, or are being made, stay for sure.
            let listed = self.remote.snapshots(theirs, group).await?;
            let before = self.figures.removed_snapshots;
            self.task.log(format!("delete vanished group {group}"));
            self.vanished_snapshots(theirs, &listed, &HashSet::new()).await?;
            if self.figures.removed_snapshots - before == listed.len() {
                self.figures.removed_groups += 1;
                // Of a server that keeps groups without snapshots.
                let _ = self
                    .remote
                    .call(Method::DELETE, "groups", of_group(theirs, group))
                    .await;
            }
        }
        Ok(())
    }

    pub(super) async fn vanished_namespaces(
        &mut self,
        there: &BTreeSet<Namespace>,
        kept: &BTreeSet<Namespace>,
    ) -> Result<()> {
        let (root, depth) = (&self.job.remote_namespace, self.job.selection.max_depth);
        let near = |one: &&Namespace| {
            let below = one.depth().saturating_sub(root.depth());
            root.contains(one) && *one != root && depth.is_none_or(|most| below <= most)
        };
        let mut gone: Vec<&Namespace> = there
            .iter()
            .filter(near)
            .filter(|one| !kept.iter().any(|kept| one.contains(kept)))
            .collect();
        gone.sort_by_key(|one| std::cmp::Reverse(one.depth()));
        for namespace in gone {
            stopped(self.task)?;
            let listed = self.remote.groups(namespace).await?;
            let owners = listed.into_iter().map(|one| (one.group(), one.owner)).collect();
            self.vanished_groups(namespace, &[], &owners).await?;
            let parent = namespace.parent().unwrap_or_default();
            if !self.may_there(&parent, Privileges::REMOTE_DATASTORE_MODIFY) {
                self.figures.failed(
                    self.task,
                    format!(
                        "vanished {} stays - {} may not remove it",
                        shown(namespace),
                        self.job.local.owner
                    ),
                );
                continue;
            }
            if !self.remote.groups(namespace).await?.is_empty() {
                self.task.log(format!(
                    "vanished {} stays - there are groups in it",
                    shown(namespace)
                ));
                continue;
            }
            match self
                .remote
                .call(Method::DELETE, "namespace", of_namespace(namespace))
                .await
            {
                Ok(_) => {
                    self.task.log(format!("deleted vanished {}", shown(namespace)));
                    self.figures.removed_namespaces += 1;
                }
                Err(error) => self.figures.failed(
                    self.task,
                    format!("vanished {} stays - {error}", shown(namespace)),
                ),
            }
        }
        Ok(())
    }
}
