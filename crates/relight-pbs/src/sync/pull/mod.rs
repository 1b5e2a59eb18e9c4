//! From another server into a datastore here.

mod chunks;
mod group;
mod snapshot;
mod vanished;

use std::collections::HashSet;
use std::time::Instant;

use super::remote::Remote;
use super::summary::Direction;
use super::{
    Local, Result, Selection, SyncError, SyncFigures, blocking, mapped, shown, stopped, unless_stopped,
};
use crate::access::Privileges;
use crate::client::Client;
use crate::formats::ids::{Group, Namespace};
use crate::service::tasks::Task;

/// What is copied from where to where.
pub struct PullJob {
    /// The other server and its datastore.
    pub client: Client,
    /// Where in it.
    pub remote_namespace: Namespace,
    /// The datastore here.
    pub local: Local,
    /// What.
    pub selection: Selection,
}

/// A pull that runs.
struct Pull<'a> {
    job: &'a PullJob,
    remote: Remote<'a>,
    task: &'a Task,
    figures: SyncFigures,
    /// The groups that the other server has, by the namespaces that they have here.
    listed: Vec<(Namespace, Vec<Group>)>,
}

/// Copies what the job names, and removes what it is to remove. What cannot be copied is in the log, and counted; the
/// rest goes on. The log goes to `task`, which may also be asked to stop.
///
/// # Errors
/// The other server cannot be reached or does not answer as it should, or somebody asked the task to stop. What was copied
/// until then is there; the next run goes on with the rest.
pub async fn pull(job: &PullJob, task: &Task) -> Result<SyncFigures> {
    let begun = Instant::now();
    let mut pull = Pull {
        job,
        remote: Remote { client: &job.client },
        task,
        figures: SyncFigures::default(),
        listed: Vec::new(),
    };
    unless_stopped(task, pull.run()).await?;
    let figures = pull.figures;
    let removes = job.selection.remove_vanished;
    figures.summarise(task, Direction::Pull, begun.elapsed(), removes);
    Ok(figures)
}

impl Pull<'_> {
    async fn run(&mut self) -> Result<()> {
        let PullJob {
            remote_namespace,
            local,
            selection,
            ..
        } = self.job;
        let namespaces = self
            .remote
            .namespaces(remote_namespace, selection.max_depth)
            .await?;
        let mut kept = HashSet::new();
        let mut complete = true;
        for theirs in &namespaces {
            stopped(self.task)?;
            let ours = mapped(theirs, remote_namespace, &local.namespace)?;
            kept.insert(ours.clone());
            if let Err(error) = self.namespace(theirs, &ours).await {
                if error.is_fatal() {
                    return Err(error);
                }
                complete = false;
                self.figures.failed(
                    self.task,
                    format!("cannot sync {} into {} - {error}", shown(theirs), shown(&ours)),
                );
            }
        }
        if !selection.remove_vanished {
            return Ok(());
        }
        let listed = std::mem::take(&mut self.listed);
        if listed.iter().all(|(_, groups)| groups.is_empty()) {
            // It is more likely that somebody took the right to see them than that there is nothing any more.
            self.task
                .warn("the other server lists no groups at all; nothing is removed here because of that");
            return Ok(());
        }
        for (ours, groups) in &listed {
            self.vanished_groups(ours, groups).await?;
        }
        match complete {
            true => self.vanished_namespaces(&kept).await,
            false => Ok(()),
        }
    }

    /// Makes the namespace here, if it is not there.
    async fn prepare(&self, ours: &Namespace) -> Result<bool> {
        let local = self.job.local.clone();
        let ours = ours.clone();
        blocking(move || -> Result<bool> {
            if local.store.list()?.has_namespace(&ours) {
                return Ok(false);
            }
            let (Some(parent), Some(name)) = (ours.parent(), ours.parts().last()) else {
                return Ok(false);
            };
            if !local.may(&parent, Privileges::DATASTORE_MODIFY) {
                return Err(SyncError::Refused(format!(
                    "{} may not make namespaces in {}",
                    local.owner,
                    shown(&parent)
                )));
            }
            local.store.create_namespace(&parent, name)?;
            Ok(true)
        })
        .await
    }

    async fn namespace(&mut self, theirs: &Namespace, ours: &Namespace) -> Result<()> {
        let store = self.job.local.store.name();
        self.task.log("----");
        self.task.log(format!(
            "syncing {} of datastore '{}' into {} of datastore '{store}'",
            shown(theirs),
            self.job.client.datastore(),
            shown(ours)
        ));
        if self.prepare(ours).await? {
            self.task.log(format!("created {}", shown(ours)));
        }
        if !self.job.local.may(ours, Privileges::DATASTORE_BACKUP) {
            return Err(SyncError::Refused(format!(
                "{} may not make backups there",
                self.job.local.owner
            )));
        }
        let all: Vec<Group> = self
            .remote
            .groups(theirs)
            .await?
            .iter()
            .map(|one| one.group())
            .collect();
        let groups: Vec<&Group> = all
            .iter()
            .filter(|group| self.job.selection.filters.fit(group))
            .collect();
        self.task.log(format!(
            "found {} groups to sync (out of {} total)",
            groups.len(),
            all.len()
        ));
        for (number, group) in groups.iter().enumerate() {
            stopped(self.task)?;
            self.figures.groups += 1;
            if let Err(error) = self.group(theirs, ours, group).await {
                if error.is_fatal() {
                    return Err(error);
                }
                self.figures
                    .failed(self.task, format!("sync of group {group} failed - {error}"));
            }
            let percent = 100.0 * (number + 1) as f64 / groups.len() as f64;
            self.task.log(format!(
                "percentage done: {percent:.2}% ({}/{} groups)",
                number + 1,
                groups.len()
            ));
        }
        self.task.log(format!("finished syncing {}", shown(theirs)));
        self.listed.push((ours.clone(), all));
        Ok(())
    }
}
