//! Which snapshots stay by rules, and the removal of the others.

use std::num::NonZeroU32;
use std::sync::Arc;

use relight_model::retention::{Candidate, Guards, Policy, plan};
use serde::{Deserialize, Serialize};

use super::Datastore;
use super::entry::Entry;
use super::error::Result;
use crate::formats::ids::{Group, Namespace};

/// How many snapshots are kept, by kind of period. Without any all are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct Keep {
    /// The last ones.
    pub keep_last: Option<NonZeroU32>,
    /// One an hour.
    pub keep_hourly: Option<NonZeroU32>,
    /// One a day.
    pub keep_daily: Option<NonZeroU32>,
    /// One a week of ISO 8601.
    pub keep_weekly: Option<NonZeroU32>,
    /// One a month.
    pub keep_monthly: Option<NonZeroU32>,
    /// One a year.
    pub keep_yearly: Option<NonZeroU32>,
}

impl Keep {
    /// Whether there is no rule.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    fn policy(&self) -> Policy {
        Policy {
            keep_last: self.keep_last,
            keep_hourly: self.keep_hourly,
            keep_daily: self.keep_daily,
            keep_weekly: self.keep_weekly,
            keep_monthly: self.keep_monthly,
            keep_yearly: self.keep_yearly,
            ..Policy::default()
        }
    }
}

/// A snapshot and what the rules say of it.
#[derive(Clone)]
pub struct Pruned {
    /// The snapshot.
    pub entry: Arc<Entry>,
    /// Whether it stays.
    pub keep: bool,
    /// Why it could not be removed though it does not stay.
    pub failure: Option<String>,
}

impl Datastore {
    /// Prunes one group. Gives its snapshots, oldest first; with `dry_run` nothing is removed. What cannot be removed
    /// (somebody reads it) keeps no other from it.
    pub fn prune(
        &self,
        namespace: &Namespace,
        group: &Group,
        keep: &Keep,
        dry_run: bool,
    ) -> Result<Vec<Pruned>> {
        let found = self.group(namespace, group)?;
        let mut judged = self.judge(&found.snapshots, keep);
        if dry_run {
            return Ok(judged);
        }
        let mut removed = false;
        for one in judged.iter_mut().filter(|one| !one.keep) {
            // It may have been protected since.
            match self
                .snapshot(namespace, &one.entry.name)
                .and_then(|entry| self.forget_entry(&entry))
            {
                Ok(()) => removed = true,
                Err(error) => one.failure = Some(error.to_string()),
            }
        }
        if removed {
            self.tidy_group(namespace, group)?;
        }
        Ok(judged)
    }

    fn judge(&self, snapshots: &[Arc<Entry>], keep: &Keep) -> Vec<Pruned> {
        let candidate = |(number, entry): (usize, &Arc<Entry>)| {
            let verification = entry.marks.as_ref().and_then(|marks| marks.verification.as_ref());
            Candidate {
                id: number,
                group: entry.name.group.to_string(),
                // Snapshots that were brought here from elsewhere keep their times, which is what rules are about.
                time: entry.name.backup_time.timestamp(),
                sequence: 0,
                protected: entry.is_protected(),
                good: verification.is_none_or(|found| found.good),
            }
        };
        let mut guards = Guards::new(self.repository().now(), None);
        guards.permitted_removals_percent = 100;
        let plan = plan(
            &keep.policy(),
            &self.options.zone,
            &guards,
            snapshots.iter().enumerate().map(candidate),
        );
        let mut kept = vec![true; snapshots.len()];
        for removed in plan.removed() {
            kept[removed.id] = false;
        }
        let judged = snapshots.iter().zip(kept).map(|(entry, keep)| Pruned {
            entry: entry.clone(),
            keep,
            failure: None,
        });
        let mut judged: Vec<Pruned> = judged.collect();
        judged.sort_by_key(|one| one.entry.name.backup_time);
        judged
    }
}
