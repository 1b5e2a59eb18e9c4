//! One group: which of its snapshots are copied, and in which order.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use super::snapshot::Wanted;
use super::{Pull, Result, SyncError, blocking, stopped};
use crate::formats::ids::{BackupTime, Group, Namespace};
use crate::service::datastore::{Entry, Lock};
use crate::sync::remote::RemoteSnapshot;

/// Why snapshots are not copied, counted for the log.
#[derive(Default)]
struct Skipped(BTreeMap<&'static str, Vec<BackupTime>>);

impl Skipped {
    fn add(&mut self, why: &'static str, snapshot: &RemoteSnapshot) {
        self.0.entry(why).or_default().push(snapshot.name().backup_time);
    }

    fn lines(&self) -> Vec<String> {
        let line = |(why, times): (&&str, &Vec<BackupTime>)| {
            let (first, last) = (times.first(), times.last());
            let range = match (first, last) {
                (Some(first), Some(last)) if first != last => format!(" ({first} .. {last})"),
                (Some(first), _) => format!(" ({first})"),
                _ => String::new(),
            };
            format!("skipped: {} snapshot(s){range} - {why}", times.len())
        };
        self.0.iter().map(line).collect()
    }
}

/// What a group has here, with its lock held.
struct Ours {
    _lock: Lock,
    snapshots: Vec<Arc<Entry>>,
}

impl Pull<'_> {
    /// Locks the group here and sees whose it is.
    async fn claim(&self, ours: &Namespace, group: &Group) -> Result<Ours> {
        let (local, namespace, group) = (self.job.local.clone(), ours.clone(), group.clone());
        blocking(move || -> Result<Ours> {
            let store = &local.store;
            // Fails if the names do not fit into one here.
            group.workload(&namespace)?;
            let lock = store.locks().group(&namespace, &group)?;
            let owner = store.claim(&namespace, &group, &local.owner)?;
            if owner != local.owner {
                return Err(SyncError::Refused(format!(
                    "owner check failed ({} != {owner})",
                    local.owner
                )));
            }
            let found = store.list()?.group(&namespace, &group).cloned();
            Ok(Ours {
                _lock: lock,
                snapshots: found.map(|found| found.snapshots.clone()).unwrap_or_default(),
            })
        })
        .await
    }

    pub(super) async fn group(&mut self, theirs: &Namespace, ours: &Namespace, group: &Group) -> Result<()> {
        self.task.log(format!("sync group {group}"));
        let here = self.claim(ours, group).await?;
        let listed = self.remote.snapshots(theirs, group).await?;
        let wanted = self.wanted(&listed, &here);
        for one in wanted {
            stopped(self.task)?;
            let name = one.listed.name();
            if let Err(error) = self.snapshot(theirs, ours, &one).await {
                // What could be copied another time must come before what is newer, which would hide that it is missing.
                if !error.is_of_snapshot() {
                    return Err(error);
                }
                self.figures
                    .failed(self.task, format!("sync of snapshot {name} failed - {error}"));
            }
        }
        if self.job.selection.remove_vanished {
            let there: HashSet<BackupTime> = listed.iter().map(|one| one.name().backup_time).collect();
            self.vanished_snapshots(&here.snapshots, &there).await?;
        }
        Ok(())
    }

    /// What is to be done, oldest first.
    fn wanted<'l>(&self, listed: &'l [RemoteSnapshot], here: &Ours) -> Vec<Wanted<'l>> {
        let selection = &self.job.selection;
        let newest = here.snapshots.first().map(|entry| entry.name.backup_time);
        let finished = listed.iter().filter(|one| one.is_finished()).count();
        let skip_before = selection
            .transfer_last
            .map_or(0, |last| finished.saturating_sub(last.get()));
        let mut skipped = Skipped::default();
        let mut wanted: Vec<Wanted<'l>> = Vec::new();
        let mut position = 0;
        for one in listed {
            if !one.is_finished() {
                skipped.add("a backup is in progress", one);
                continue;
            }
            position += 1;
            let time = one.name().backup_time;
            let existing = here
                .snapshots
                .iter()
                .find(|entry| entry.name.backup_time == time)
                .cloned();
            if let Some(existing) = existing {
                let is_corrupt = || {
                    let marks = existing.marks.as_ref();
                    let found = marks.and_then(|marks| marks.verification.as_ref());
                    found.is_some_and(|found| !found.good)
                };
                if selection.resync_corrupt && is_corrupt() {
                    self.task.log(format!(
                        "snapshot {} failed its verification here and is fetched again",
                        one.name()
                    ));
                } else if one.has_log() && !existing.has_log {
                    // The log comes after the snapshot, and so maybe after the last copy.
                } else {
                    skipped.add("already here", one);
                    continue;
                }
                let again = selection.resync_corrupt && is_corrupt();
                wanted.push(Wanted {
                    listed: one,
                    existing: Some(existing),
                    again,
                    base: None,
                });
                continue;
            }
            if newest.is_some_and(|newest| time < newest) {
                skipped.add("older than the newest snapshot here", one);
            } else if position <= skip_before {
                skipped.add("due to transfer-last", one);
            } else if selection.verified_only && !one.is_verified() {
                skipped.add("not verified", one);
            } else if selection.encrypted_only && !one.is_encrypted() {
                skipped.add("not encrypted", one);
            } else {
                wanted.push(Wanted {
                    listed: one,
                    existing: None,
                    again: false,
                    base: here.snapshots.first().cloned(),
                });
            }
        }
        skipped.lines().iter().for_each(|line| self.task.log(line));
        wanted
    }
}
