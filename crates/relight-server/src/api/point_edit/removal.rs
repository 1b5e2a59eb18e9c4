//! What goes if recovery points are forgotten, what stays and why, and what is left then.

use std::sync::Arc;

use aws_lc_rs::digest::SHA256;
use jiff::Timestamp;
use relight_model::Workload;
use relight_model::retention::takes_last_good;
use relight_pbs::service::datastore::{Datastore, StoreError};
use relight_pbs::service::http::{ApiError, ApiResult, Call};
use relight_pbs::service::rest::Edit;
use relight_repo::SnapshotId;
use relight_repo::snapshot::{Marks, Snapshot};
use serde_json::{Value, json};

use super::{AT_ONCE, Asked, Desk, is_damaged, opened, pick, plain, unreadable};
use crate::runs::{Found, log_needs, vanished};

/// Whether somebody could rely on it: nothing was left out when it was made, and no verification has found damage.
fn is_good(snapshot: &Snapshot, marks: Option<&Marks>) -> bool {
    snapshot.incomplete.is_empty() && !is_damaged(marks)
}

/// What somebody wants to be forgotten, and what that means.
pub(super) struct Removal {
    pub workload: Workload,
    pub repository: String,
    datastore: Arc<Datastore>,
    /// Oldest first.
    pub goes: Vec<Found>,
    stays: Vec<(Found, String)>,
    /// What is there afterwards, oldest first.
    left: Vec<Found>,
    /// Whether no good one is left where there is one now.
    pub last_good: bool,
    warnings: Vec<String>,
    /// When it was looked what is there.
    looked: Timestamp,
}

impl Removal {
    pub fn of(desk: &Desk, call: &Call, asked: &Asked) -> ApiResult<Self> {
        if !(1..=AT_ONCE).contains(&asked.snapshots.len()) {
            return Err(ApiError::bad_request(format!(
                "name 1 to {AT_ONCE} recovery points at once"
            )));
        }
        let looked = Timestamp::now();
        let (workload, datastore, points) =
            opened(desk, call, &asked.workload, &asked.repository, Edit::Remove)?;
        let mut named: Vec<SnapshotId> = Vec::new();
        for id in &asked.snapshots {
            named.push(pick(&points, &workload, id)?.0.snapshot.id);
        }
        let repository = datastore.repository();
        let now = repository.now();
        let (mut goes, mut stays, mut left) = (Vec::new(), Vec::new(), Vec::new());
        for (body, marks) in points {
            let is_named = named.contains(&body.snapshot.id);
            match body.snapshot.held(marks.as_ref(), now) {
                None if is_named => {
                    goes.push((body, marks));
                    continue;
                }
                Some(held) if is_named => stays.push(((body.clone(), marks.clone()), held.to_string())),
                _ => {}
            }
            left.push((body, marks));
        }
        let good = |(body, marks): &Found| is_good(&body.snapshot, marks.as_ref());
        let last_good = takes_last_good(
            goes.iter()
                .map(|found| (good(found), true))
                .chain(left.iter().map(|found| (good(found), false))),
        );
        let mut warnings = Vec::new();
        let newest = |points: &[Found]| points.last().map(|(body, _)| body.snapshot.time);
        match (newest(&goes), newest(&left)) {
            (Some(_), None) => warnings.push(format!(
                "It is all there is of {workload} in {}: nothing can be restored from there any more.",
                asked.repository
            )),
            (Some(_), Some(_)) if last_good => warnings.push(format!(
                "No good recovery point of {workload} is left in {}: what is left is incomplete or damaged.",
                asked.repository
            )),
            (Some(gone), Some(left)) if gone > left => warnings.push(format!(
                "The newest recovery point is among them: what was saved after {} is lost.",
                plain(left)
            )),
            _ => {}
        }
        let planned = desk.board.planned();
        if let Some(entry) = planned.plan.workload(&workload) {
            let needs = log_needs(&planned.plan, entry, &repository)
                .map_err(|error| unreadable(&asked.repository, &error))?;
            let count = goes
                .iter()
                .filter(|(body, _)| needs.contains(&body.snapshot.id))
                .count();
            if count > 0 {
                warnings.push(format!(
                    "The plan promises recovery to any moment of a time, and {count} of them are needed for that: the log before the \
                     next one that is left is of no use then."
                ));
            }
        }
        Ok(Self {
            workload,
            repository: asked.repository.clone(),
            datastore,
            goes,
            stays,
            left,
            last_good,
            warnings,
            looked,
        })
    }

    /// By which it is known: what goes, and whether anything good is left.
    pub fn digest(&self) -> String {
        let ids: Vec<String> = self
            .goes
            .iter()
            .map(|(body, _)| body.snapshot.id.to_string())
            .collect();
        let text = format!(
            "relight forget v1 {} {} {} {}",
            self.repository,
            self.workload,
            self.last_good,
            ids.join(" ")
        );
        hex::encode(aws_lc_rs::digest::digest(&SHA256, text.as_bytes()))
    }

    pub fn shown(&self) -> Value {
        let point = |(body, marks): &Found| {
            json!({
                "snapshot": body.snapshot.id.to_string(),
                "time": body.snapshot.time,
                "good": is_good(&body.snapshot, marks.as_ref()),
            })
        };
        let stays = |(found, why): &(Found, String)| {
            let mut value = point(found);
            value["why"] = why.as_str().into();
            value
        };
        let good = |(body, marks): &&Found| is_good(&body.snapshot, marks.as_ref());
        json!({
            "digest": self.digest(),
            "workload": self.workload,
            "repository": self.repository,
            "goes": self.goes.iter().map(point).collect::<Vec<_>>(),
            "stays": self.stays.iter().map(stays).collect::<Vec<_>>(),
            "left": self.left.len(),
            "left-good": self.left.iter().filter(good).count(),
            "newest-left": self.left.last().map(|(body, _)| body.snapshot.time),
            "last-good": self.last_good,
            "warnings": self.warnings,
        })
    }

    /// What whoever approves it reads: each recovery point on a line.
    pub fn subject(&self) -> String {
        let mut lines = vec![format!(
            "forget {} of {} in {}, {} are left there{}",
            counted(self.goes.len()),
            self.workload,
            self.repository,
            self.left.len(),
            if self.last_good {
                ", no good one among them"
            } else {
                ""
            }
        )];
        lines.extend(self.goes.iter().map(|(body, _)| {
            let snapshot = &body.snapshot;
            format!("-{} {}", plain(snapshot.time), snapshot.id.short())
        }));
        lines.join("\n")
    }

    /// How the workload stands goes by what is left, now that so many of what goes are gone.
    pub fn settle(&self, desk: &Desk, gone: usize) {
        let stay = self.goes.iter().skip(gone).chain(&self.left);
        let there = stay.map(|(body, _)| body.snapshot.id.to_string()).collect();
        let state = desk.gate.state();
        if let Err(error) = vanished::settle_one(state, &self.workload, &self.repository, &there, self.looked)
        {
            tracing::warn!("{error}: it is looked again what is left of {}", self.workload);
        }
    }

    /// Forgets them, the oldest first, so that what is cut off has removed what was needed least. Gives those that are gone.
    pub fn execute(&self) -> (Vec<Value>, Option<StoreError>) {
        let mut gone = Vec::new();
        for (body, _) in &self.goes {
            let snapshot = &body.snapshot;
            if let Err(error) = self.datastore.forget_one(snapshot) {
                return (gone, Some(error));
            }
            gone.push(json!({"snapshot": snapshot.id.to_string(), "time": snapshot.time}));
        }
        (gone, None)
    }
}

/// So many, in words.
pub(super) fn counted(count: usize) -> String {
    match count {
        1 => "1 recovery point".into(),
        _ => format!("{count} recovery points"),
    }
}
