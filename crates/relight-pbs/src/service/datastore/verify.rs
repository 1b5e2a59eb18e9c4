//! Verification of snapshots as a job: what it finds is kept with each of them.

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use jiff::{SignedDuration, Timestamp};
use relight_repo::control::Control;
use relight_repo::snapshot::Verification;
use relight_repo::verify::{Options, Scope, verify};
use relight_repo::{RepoError, SnapshotId};

use super::Datastore;
use super::entry::Entry;
use super::error::{Result, StoreError};
use super::progress::{Lines, Log};
use crate::formats::ids::{Group, Namespace, SnapshotName};

/// Which snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Selection {
    /// One.
    Snapshot(Namespace, SnapshotName),
    /// All of a group.
    Group(Namespace, Group),
    /// These; those that are gone by then are left out.
    These(Vec<(Namespace, SnapshotName)>),
    /// All of a namespace, and of those in it up to so many levels down (none: all of them).
    Namespace(Namespace, Option<usize>),
}

impl Datastore {
    /// The snapshots of a selection, oldest first within a group.
    pub fn select(&self, selection: &Selection) -> Result<Vec<Arc<Entry>>> {
        let listing = self.list()?;
        let of_group =
            |group: &Arc<super::GroupEntry>| group.snapshots.iter().rev().cloned().collect::<Vec<_>>();
        match selection {
            Selection::Snapshot(namespace, name) => Ok(vec![self.snapshot(namespace, name)?]),
            Selection::These(names) => {
                let entries = names
                    .iter()
                    .filter_map(|(namespace, name)| listing.snapshot(namespace, name));
                Ok(entries.cloned().collect())
            }
            Selection::Group(namespace, group) => Ok(of_group(&self.group(namespace, group)?)),
            Selection::Namespace(namespace, depth) => {
                self.require_namespace(namespace)?;
                let is_in = |other: &Namespace| {
                    let below = other.depth().saturating_sub(namespace.depth());
                    namespace.contains(other) && depth.is_none_or(|depth| below <= depth)
                };
                let groups = listing.all_groups().filter(|group| is_in(&group.namespace));
                Ok(groups.flat_map(of_group).collect())
            }
        }
    }

    /// Whether a snapshot needs no verification: the last one was good, and is not older than `outdated_after`.
    fn is_verified(&self, entry: &Entry, outdated_after: Option<SignedDuration>) -> bool {
        let last = entry.marks.as_ref().and_then(|marks| marks.verification.as_ref());
        let Some(last) = last.filter(|last| last.good) else {
            return false;
        };
        outdated_after.is_none_or(|most| self.repository().now().duration_since(last.time) < most)
    }

    /// Verifies snapshots and keeps the result with each. `ignore_verified` leaves those out that were found good, unless
    /// that was longer ago than `outdated_after`. `task` is the name of the job, kept with the result. Gives the
    /// snapshots that are not good.
    pub fn verify(
        &self,
        selection: &Selection,
        ignore_verified: bool,
        outdated_after: Option<SignedDuration>,
        task: &str,
        log: Log<'_>,
        cancelled: &AtomicBool,
    ) -> Result<Vec<String>> {
        let mut entries = self.select(selection)?;
        let all = entries.len();
        entries.retain(|entry| !(ignore_verified && self.is_verified(entry, outdated_after)));
        if entries.len() < all {
            log(&format!(
                "{} of {all} snapshots were verified lately and are left out",
                all - entries.len()
            ));
        }
        if entries.is_empty() {
            log("nothing to verify");
            return Ok(Vec::new());
        }
        log(&format!("verifying {} snapshots of {}", entries.len(), self.name));
        let lines = Lines::new(log);
        let control = Control {
            cancelled,
            progress: &lines,
        };
        let ids: Vec<SnapshotId> = entries.iter().map(|entry| entry.id()).collect();
        let report = verify(&self.repository(), &Options::new(Scope::Snapshots(ids)), control)?;
        log(&format!(
            "read {} packs, {} chunks, {} MiB",
            report.figures.packs,
            report.figures.chunks,
            report.figures.bytes >> 20
        ));
        if report.cancelled {
            return Err(RepoError::Cancelled.into());
        }
        for finding in &report.findings {
            let pack = finding
                .pack
                .map(|pack| format!("pack {pack}: "))
                .unwrap_or_default();
            log(&format!("{pack}{}: {}", finding.damage.word(), finding.detail));
        }
        let bad: HashSet<SnapshotId> = report
            .affected
            .iter()
            .map(|affected| affected.snapshot)
            .chain(report.manifests.iter().map(|bad| bad.snapshot))
            .collect();
        let now = self.repository().now();
        let mut failed = Vec::new();
        for entry in &entries {
            control.check()?;
            let result = if bad.contains(&entry.id()) {
                Err("parts of it are missing or damaged".to_string())
            } else {
                self.check_manifest(entry).map_err(|error| error.to_string())
            };
            let shown = shown(entry);
            match &result {
                Ok(()) => log(&format!("verified {shown}")),
                Err(why) => {
                    log(&format!("verification of {shown} failed: {why}"));
                    failed.push(shown);
                }
            }
            self.keep_verdict(entry, now, result.is_ok(), task)?;
        }
        Ok(failed)
    }

    fn keep_verdict(&self, entry: &Entry, time: Timestamp, good: bool, task: &str) -> Result<()> {
        let verification = Verification {
            time,
            good,
            task: task.to_string(),
        };
        match self.change_marks(&entry.namespace, &entry.name, |marks| {
            marks.verification = Some(verification);
        }) {
            // Removed meanwhile.
            Err(StoreError::NoSnapshot(_) | StoreError::Repository(RepoError::NoSuchSnapshot(_))) => Ok(()),
            other => other,
        }
    }
}

fn shown(entry: &Entry) -> String {
    if entry.namespace.is_root() {
        entry.name.to_string()
    } else {
        format!("{} in {}", entry.name, entry.namespace)
    }
}
