//! A recovery point that somebody wants to look into.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use relight_model::Workload;
use relight_pbs::service::datastore::{Body, Datastore};
use relight_pbs::service::http::{ApiError, ApiResult, Call};
use relight_repo::snapshot::{Marks, Snapshot};
use relight_workloads::WorkloadError;
use relight_workloads::files::browse::View;

use super::Desk;
use super::sight::Sight;

/// So many recovery points are kept open.
const OPEN: usize = 8;
/// So long: whoever looks into one asks again and again.
const KEPT: Duration = Duration::from_secs(600);

/// A recovery point, where it is.
pub(crate) struct Point {
    /// The workload.
    pub workload: Workload,
    /// The repository.
    pub repository: String,
    /// The same, open.
    pub datastore: Arc<Datastore>,
    /// The snapshot.
    pub body: Arc<Body>,
    /// What is noted of it.
    pub marks: Option<Marks>,
}

impl Point {
    /// The snapshot.
    pub fn snapshot(&self) -> &Snapshot {
        &self.body.snapshot
    }

    /// Whether its client encrypted it, so that this server cannot read it.
    ///
    /// # Errors
    /// What clients say of it cannot be read.
    pub fn is_sealed(&self) -> ApiResult<bool> {
        let Ok(entry) = self.datastore.entry_of(self.body.snapshot.clone()) else {
            // No client of the protocol could have made it.
            return Ok(false);
        };
        let protection = self
            .datastore
            .protection(&entry)
            .map_err(|error| unreadable(&self.repository, &error))?;
        Ok(protection.is_some_and(|protection| protection.encrypted))
    }

    /// Goes on only if this server can read it.
    ///
    /// # Errors
    /// 400: its client encrypted it.
    pub fn require_readable(&self) -> ApiResult<()> {
        if self.is_sealed()? {
            return Err(ApiError::bad_request(format!(
                "the recovery point {} was encrypted by the client that made it, and this server has no key for it: restore it \
                 where that key is, with `relight restore --server … --client-key FILE` or the client itself",
                self.snapshot().id.short()
            )));
        }
        Ok(())
    }
}

pub(crate) fn unreadable(repository: &str, error: &dyn std::fmt::Display) -> ApiError {
    tracing::warn!("the repository {repository}: {error}");
    ApiError::internal(format!(
        "the repository {repository} cannot be read now; the server's log tells why"
    ))
}

/// What a caller sees of a failure to read out of a snapshot.
pub(crate) fn refused(error: WorkloadError) -> ApiError {
    match error {
        WorkloadError::Refused(why) => ApiError::bad_request(why),
        other => {
            tracing::warn!("reading a recovery point: {other}");
            ApiError::internal(format!("the recovery point cannot be read: {other}"))
        }
    }
}

/// A workload, and the repositories of its policy out of which a caller may read it, the policy's own first.
///
/// # Errors
/// 404: it may not see the workload; 403: it may see it, but not read what is in it.
pub(crate) fn places(desk: &Desk, call: &Call, name: &str) -> ApiResult<(Workload, Vec<String>)> {
    let planned = desk.board.planned();
    let sight = Sight::new(call, &planned.plan);
    let entry = sight.entry(name)?;
    let name = entry.name.value.clone();
    let Some((_, policy)) = planned.plan.policy_of(entry) else {
        return Ok((name, Vec::new()));
    };
    let copies = policy.copies.iter().map(|copy| &copy.repository.value);
    let mut found = Vec::new();
    for repository in std::iter::once(&policy.repository.value).chain(copies) {
        if sight.reads(repository, &name)? {
            found.push(repository.clone());
        }
    }
    if found.is_empty() {
        return Err(ApiError::forbidden());
    }
    Ok((name, found))
}

/// The recovery points of a workload that a caller may read, newest first.
///
/// # Errors
/// As [`places`].
pub(crate) fn readable(desk: &Desk, call: &Call, name: &str, only: Option<&str>) -> ApiResult<Vec<Point>> {
    let (name, repositories) = places(desk, call, name)?;
    let mut found = Vec::new();
    for repository in &repositories {
        let Some(datastore) = desk.context.datastores.get(repository) else {
            continue;
        };
        if only.is_some_and(|only| only != repository) {
            continue;
        }
        let points = desk
            .context
            .points(datastore, &name)
            .map_err(|failure| unreadable(repository, &failure.message))?;
        found.extend(points.into_iter().map(|(body, marks)| Point {
            workload: name.clone(),
            repository: repository.clone(),
            datastore: datastore.clone(),
            body,
            marks,
        }));
    }
    found.sort_by_key(|point| std::cmp::Reverse((point.snapshot().time, point.snapshot().published)));
    Ok(found)
}

/// The recovery point of an id, or of the beginning of one.
///
/// # Errors
/// As [`readable`]; 404: there is no such, or there are several.
pub(crate) fn one(
    desk: &Desk,
    call: &Call,
    name: &str,
    id: &str,
    repository: Option<&str>,
) -> ApiResult<Point> {
    let mut found = readable(desk, call, name, repository)?;
    found.retain(|point| id.len() >= 6 && point.snapshot().id.to_string().starts_with(id));
    let first = found.first().map(|point| point.snapshot().id);
    match first {
        Some(first) if found.iter().all(|point| point.snapshot().id == first) => Ok(found.swap_remove(0)),
        _ => Err(ApiError::not_found(format!(
            "{name} has no recovery point {id}; it may have been forgotten meanwhile"
        ))),
    }
}

/// Recovery points that were looked into lately.
#[derive(Default)]
pub(crate) struct Open(Mutex<VecDeque<(String, Arc<View>, Instant)>>);

impl Open {
    /// The point, open.
    pub fn view(&self, point: &Point) -> Arc<View> {
        let key = format!("{} {}", point.repository, point.snapshot().id);
        let mut open = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|(_, _, since)| since.elapsed() < KEPT);
        if let Some((_, view, _)) = open.iter().find(|(known, ..)| *known == key) {
            return view.clone();
        }
        let view = Arc::new(View::new(point.datastore.reader(), point.snapshot().clone()));
        if open.len() >= OPEN {
            open.pop_front();
        }
        open.push_back((key, view.clone(), Instant::now()));
        view
    }
}
