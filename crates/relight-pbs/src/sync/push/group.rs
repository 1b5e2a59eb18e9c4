//! One group: which of its snapshots the other server lacks.

use std::collections::HashSet;
use std::sync::Arc;

use http::Method;

use super::{Push, Result, SyncError, blocking, stopped};
use crate::access::{AuthId, Privileges};
use crate::formats::ids::{BackupTime, Namespace, SnapshotName};
use crate::formats::manifest::{CryptMode, Manifest};
use crate::service::datastore::{Entry, GroupEntry};
use crate::sync::remote::{RemoteSnapshot, of_snapshot};

/// What the other server has of a group.
struct There {
    /// Of those that were made to the end.
    newest: Option<BackupTime>,
    /// Those that are being made, or were broken off.
    unfinished: HashSet<BackupTime>,
}

impl There {
    fn of(listed: &[RemoteSnapshot]) -> Self {
        let (made, unfinished): (Vec<_>, Vec<_>) = listed.iter().partition(|one| one.has_manifest());
        Self {
            newest: made.iter().map(|one| one.name().backup_time).max(),
            unfinished: unfinished.iter().map(|one| one.name().backup_time).collect(),
        }
    }
}

impl Push<'_> {
    /// `owner` is that of the group there, if it is there.
    pub(super) async fn group(
        &mut self,
        theirs: &Namespace,
        group: &Arc<GroupEntry>,
        owner: Option<&Option<AuthId>>,
    ) -> Result<()> {
        let name = &group.group;
        self.task.log(format!("sync group {name}"));
        if let Some(Some(owner)) = owner
            && !self.job.remote_id.owns_as(owner)
        {
            return Err(SyncError::Refused(format!(
                "the group of the other server belongs to {owner}, not to {}",
                self.job.remote_id
            )));
        }
        let listed = match owner {
            Some(_) => self.remote.snapshots(theirs, name).await?,
            None => Vec::new(),
        };
        let there = There::of(&listed);
        for entry in self.wanted(group, there.newest).await? {
            stopped(self.task)?;
            if there.unfinished.contains(&entry.name.backup_time) {
                self.clear(theirs, &entry.name).await?;
            }
            if let Err(error) = self.snapshot(theirs, &entry).await {
                // What is damaged here never comes to be there; what could be another time must come before what is newer.
                if !matches!(error, SyncError::Store(_)) {
                    return Err(error);
                }
                self.figures.failed(
                    self.task,
                    format!("sync of snapshot {} failed - {error}", entry.name),
                );
            }
        }
        if self.job.selection.remove_vanished {
            let here: HashSet<BackupTime> = group
                .snapshots
                .iter()
                .map(|entry| entry.name.backup_time)
                .collect();
            self.vanished_snapshots(theirs, &listed, &here).await?;
        }
        Ok(())
    }

    /// Removes what is in the place of a snapshot there: a server that dies while something is copied to it keeps what it
    /// has until then. One that is being made at this moment cannot be removed.
    async fn clear(&self, theirs: &Namespace, name: &SnapshotName) -> Result<()> {
        if !self.may_there(theirs, Privileges::REMOTE_DATASTORE_PRUNE) {
            return Err(SyncError::Refused(format!(
                "{name} is unfinished on the other server, and {} may not remove it there",
                self.job.local.owner
            )));
        }
        self.task
            .log(format!("remove what is left of an unfinished snapshot {name}"));
        let parameters = of_snapshot(theirs, name);
        self.remote.call(Method::DELETE, "snapshots", parameters).await?;
        Ok(())
    }

    /// What is to be copied, oldest first.
    async fn wanted(&self, group: &Arc<GroupEntry>, newest: Option<BackupTime>) -> Result<Vec<Arc<Entry>>> {
        let selection = &self.job.selection;
        let last = selection.transfer_last.map_or(usize::MAX, |last| last.get());
        let mut wanted = Vec::new();
        let (mut older, mut beyond, mut unverified, mut plain) = (0, 0, 0, 0);
        for (position, entry) in group.snapshots.iter().enumerate() {
            let is_verified = || {
                let found = entry.marks.as_ref().and_then(|marks| marks.verification.as_ref());
                found.is_some_and(|found| found.good)
            };
            if newest.is_some_and(|newest| entry.name.backup_time <= newest) {
                older += 1;
            } else if position >= last {
                beyond += 1;
            } else if selection.verified_only && !is_verified() {
                unverified += 1;
            } else if selection.encrypted_only && !self.is_encrypted(entry).await? {
                plain += 1;
            } else {
                wanted.push(entry.clone());
            }
        }
        for (count, why) in [
            (older, "not newer than the newest one there"),
            (beyond, "due to transfer-last"),
            (unverified, "not verified"),
            (plain, "not encrypted"),
        ] {
            if count > 0 {
                self.task.log(format!("skipped: {count} snapshot(s) - {why}"));
            }
        }
        wanted.reverse();
        Ok(wanted)
    }

    async fn is_encrypted(&self, entry: &Arc<Entry>) -> Result<bool> {
        let manifest = self.manifest(entry).await?;
        let mut files = manifest.files.iter().peekable();
        Ok(files.peek().is_some() && files.all(|file| file.crypt_mode == CryptMode::Encrypt))
    }

    pub(super) async fn manifest(&self, entry: &Arc<Entry>) -> Result<Manifest> {
        let (store, entry) = (self.job.local.store.clone(), entry.clone());
        blocking(move || store.manifest(&entry)).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_broken_off_there_is_not_the_newest() {
        // As an original server lists a group with a damaged manifest, after it was killed.
        let listed = serde_json::json!([
            {"backup-type": "vm", "backup-id": "200", "backup-time": 1763200000, "owner": "sync@pbs!job",
             "files": [{"filename": "disk.img.fidx", "crypt-mode": "none", "size": 37748736},
                       {"filename": "index.json.blob", "crypt-mode": "none", "size": 307}],
             "size": 37749043, "protected": false},
            {"backup-type": "vm", "backup-id": "200", "backup-time": 1763200100, "owner": "sync@pbs!job",
             "files": [{"filename": "index.json.blob"}], "protected": false},
            {"backup-type": "vm", "backup-id": "200", "backup-time": 1763200200, "owner": "sync@pbs!job",
             "files": [], "protected": false},
        ]);
        let listed: Vec<RemoteSnapshot> = serde_json::from_value(listed).unwrap();
        let there = There::of(&listed);
        let times: Vec<BackupTime> = listed.iter().map(|one| one.name().backup_time).collect();
        assert_eq!(there.newest, Some(times[1]));
        assert_eq!(there.unfinished, HashSet::from([times[2]]));
    }
}
