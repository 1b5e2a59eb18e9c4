//! From a datastore here to another server.

mod group;
mod snapshot;
mod upload;
mod vanished;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::time::Instant;

use super::remote::Remote;
use super::summary::Direction;
use super::{
    Local, Result, Selection, SyncError, SyncFigures, blocking, mapped, shown, stopped, unless_stopped,
};
use crate::access::{AuthId, Privileges};
use crate::client::Client;
use crate::formats::ids::{Group, Namespace};
use crate::service::datastore::{GroupEntry, StoreError, acl_path};
use crate::service::tasks::Task;

/// What is copied from where to where.
pub struct PushJob {
    /// The other server and its datastore.
    pub client: Client,
    /// Where in it.
    pub remote_namespace: Namespace,
    /// Who the other server takes this one for.
    pub remote_id: AuthId,
    /// Where rules about the other datastore are, such as `/remote/NAME/STORE`.
    pub remote_path: String,
    /// The datastore here; its owner is on whose behalf it is read.
    pub local: Local,
    /// What.
    pub selection: Selection,
}

/// A push that runs.
struct Push<'a> {
    job: &'a PushJob,
    remote: Remote<'a>,
    task: &'a Task,
    figures: SyncFigures,
    /// What the namespaces have on both sides.
    listed: Vec<Listed>,
}

/// The groups of a namespace on both sides.
struct Listed {
    theirs: Namespace,
    here: Vec<Group>,
    there: HashMap<Group, Option<AuthId>>,
}

/// Copies what the job names to the other server, and removes there what it is to remove. What cannot be copied is in the
/// log, and counted; the rest goes on. The log goes to `task`, which may also be asked to stop.
///
/// # Errors
/// The other server cannot be reached or does not answer as it should, or somebody asked the task to stop. What was copied
/// until then is there; the next run goes on with the rest.
pub async fn push(job: &PushJob, task: &Task) -> Result<SyncFigures> {
    let begun = Instant::now();
    let mut push = Push {
        job,
        remote: Remote { client: &job.client },
        task,
        figures: SyncFigures::default(),
        listed: Vec::new(),
    };
    unless_stopped(task, push.run()).await?;
    let figures = push.figures;
    let removes = job.selection.remove_vanished;
    figures.summarise(task, Direction::Push, begun.elapsed(), removes);
    Ok(figures)
}

/// What is in a namespace here.
struct Ours {
    /// Groups that the owner of the job may read.
    readable: Vec<Arc<GroupEntry>>,
    /// All groups.
    all: Vec<Group>,
}

impl Push<'_> {
    /// Whether the owner of the job may do this in a namespace of the other server.
    fn may_there(&self, theirs: &Namespace, all: Privileges) -> bool {
        let local = &self.job.local;
        let mut path = self.job.remote_path.clone();
        if !theirs.is_root() {
            path.push_str(&format!("/{theirs}"));
        }
        local.is_default() || local.access.privileges(&local.owner, &path).contains(all)
    }

    /// The namespaces here, each before those in it.
    async fn namespaces(&self) -> Result<Vec<Namespace>> {
        let (root, depth) = (self.job.local.namespace.clone(), self.job.selection.max_depth);
        let store = self.job.local.store.clone();
        blocking(move || -> Result<Vec<Namespace>, StoreError> {
            store.require_namespace(&root)?;
            let listing = store.list()?;
            let near = |one: &&Namespace| {
                let below = one.depth().saturating_sub(root.depth());
                root.contains(one) && depth.is_none_or(|most| below <= most)
            };
            let mut found: Vec<Namespace> = listing.namespaces().filter(near).cloned().collect();
            found.sort_by_key(|one| (one.depth(), one.clone()));
            Ok(found)
        })
        .await
    }

    async fn ours(&self, namespace: &Namespace) -> Result<Ours> {
        let (local, namespace) = (self.job.local.clone(), namespace.clone());
        blocking(move || -> Result<Ours> {
            let listing = local.store.list()?;
            let reads_all = local.may(&namespace, Privileges::DATASTORE_READ);
            let path = acl_path(local.store.name(), &namespace);
            let has = local.access.privileges(&local.owner, &path);
            let reads_own = has.intersects(Privileges::DATASTORE_BACKUP);
            let reads = |group: &Arc<GroupEntry>| {
                reads_all || (reads_own && local.owner.owns_as(&local.store.owner_of(group)))
            };
            let groups: Vec<Arc<GroupEntry>> = listing.groups(&namespace).cloned().collect();
            Ok(Ours {
                all: groups.iter().map(|group| group.group.clone()).collect(),
                readable: groups.into_iter().filter(reads).collect(),
            })
        })
        .await
    }

    async fn run(&mut self) -> Result<()> {
        let PushJob {
            remote_namespace,
            local,
            selection,
            ..
        } = self.job;
        let here = self.namespaces().await?;
        let mut there: BTreeSet<Namespace> = self
            .remote
            .namespaces(&Namespace::ROOT, None)
            .await?
            .into_iter()
            .collect();
        let mut kept = BTreeSet::new();
        let mut complete = true;
        for ours in &here {
            stopped(self.task)?;
            let theirs = mapped(ours, &local.namespace, remote_namespace)?;
            kept.insert(theirs.clone());
            if let Err(error) = self.namespace(ours, &theirs, &mut there).await {
                if error.is_fatal() {
                    return Err(error);
                }
                complete = false;
                self.figures.failed(
                    self.task,
                    format!("cannot sync {} into {} - {error}", shown(ours), shown(&theirs)),
                );
            }
        }
        if !selection.remove_vanished {
            return Ok(());
        }
        let listed = std::mem::take(&mut self.listed);
        if listed.iter().all(|one| one.here.is_empty()) {
            self.task.warn(
                "there are no groups here at all; nothing is removed from the other server because of that",
            );
            return Ok(());
        }
        for one in &listed {
            self.vanished_groups(&one.theirs, &one.here, &one.there).await?;
        }
        match complete {
            true => self.vanished_namespaces(&there, &kept).await,
            false => Ok(()),
        }
    }

    /// Makes a namespace there, and those around it, if they are not there.
    async fn prepare(&self, theirs: &Namespace, there: &mut BTreeSet<Namespace>) -> Result<()> {
        let mut missing = Vec::new();
        let mut next = Some(theirs.clone());
        while let Some(namespace) = next.filter(|one| !one.is_root() && !there.contains(one)) {
            next = namespace.parent();
            missing.push(namespace);
        }
        for namespace in missing.into_iter().rev() {
            let parent = namespace.parent().unwrap_or_default();
            if !self.may_there(&parent, Privileges::REMOTE_DATASTORE_MODIFY) {
                return Err(SyncError::Refused(format!(
                    "{} may not make namespaces in {} of the other server",
                    self.job.local.owner,
                    shown(&parent)
                )));
            }
            self.remote.create_namespace(&namespace).await?;
            self.task
                .log(format!("created {} on the other server", shown(&namespace)));
            there.insert(namespace);
        }
        Ok(())
    }

    async fn namespace(
        &mut self,
        ours: &Namespace,
        theirs: &Namespace,
        there: &mut BTreeSet<Namespace>,
    ) -> Result<()> {
        self.task.log("----");
        self.task.log(format!(
            "syncing {} of datastore '{}' into {} of datastore '{}'",
            shown(ours),
            self.job.local.store.name(),
            shown(theirs),
            self.job.client.datastore()
        ));
        if !self.may_there(theirs, Privileges::REMOTE_DATASTORE_BACKUP) {
            return Err(SyncError::Refused(format!(
                "{} may not copy to {} of the other server",
                self.job.local.owner,
                shown(theirs)
            )));
        }
        self.prepare(theirs, there).await?;
        let here = self.ours(ours).await?;
        let listed = self.remote.groups(theirs).await?;
        let owners: HashMap<Group, Option<AuthId>> =
            listed.into_iter().map(|one| (one.group(), one.owner)).collect();
        let groups: Vec<&Arc<GroupEntry>> = here
            .readable
            .iter()
            .filter(|group| self.job.selection.filters.fit(&group.group))
            .collect();
        self.task.log(format!(
            "found {} groups to sync (out of {} total)",
            groups.len(),
            here.all.len()
        ));
        for (number, group) in groups.iter().enumerate() {
            stopped(self.task)?;
            self.figures.groups += 1;
            if let Err(error) = self.group(theirs, group, owners.get(&group.group)).await {
                if error.is_fatal() {
                    return Err(error);
                }
                self.figures.failed(
                    self.task,
                    format!("sync of group {} failed - {error}", group.group),
                );
            }
            let percent = 100.0 * (number + 1) as f64 / groups.len() as f64;
            self.task.log(format!(
                "percentage done: {percent:.2}% ({}/{} groups)",
                number + 1,
                groups.len()
            ));
        }
        self.task.log(format!("finished syncing {}", shown(ours)));
        self.listed.push(Listed {
            theirs: theirs.clone(),
            here: here.all,
            there: owners,
        });
        Ok(())
    }
}
