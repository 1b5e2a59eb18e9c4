//! `/forgets`, `…/protection`: recovery points that somebody names are forgotten before the plan does it, or protected from that.

use std::sync::Arc;

use aws_lc_rs::digest::SHA256;
use http::{Method, StatusCode};
use jiff::Timestamp;
use relight_model::Workload;
use relight_model::retention::takes_last_good;
use relight_pbs::access::{Action, Guarded};
use relight_pbs::service::datastore::{Datastore, StoreError, group_of};
use relight_pbs::service::http::{Answer, ApiError, ApiResult, Call};
use relight_pbs::service::rest::{Edit, may_edit};
use relight_repo::SnapshotId;
use relight_repo::snapshot::{Marks, Snapshot};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::operation::{Operation, Place, Table};
use super::point::unreadable;
use super::sight::Sight;
use super::{Desk, failed, schema};
use crate::evidence::{Kind, NewEvidence, Outcome};
use crate::roles::workload_path;
use crate::runs::{Found, log_needs, vanished};

/// So many recovery points at once: whoever approves it reads them all.
const AT_ONCE: usize = 100;

pub(super) fn operations(table: &mut Table<'_>) {
    let named = |operation: Operation| {
        operation
            .with("workload", Place::Body, schema::text(), "such as vm/100")
            .with("repository", Place::Body, schema::text(), "in which repository")
            .with(
                "snapshots",
                Place::Body,
                json!({"type": "array", "items": {"type": "string"}, "minItems": 1, "maxItems": AT_ONCE}),
                "ids of recovery points, or at least the first six characters of each",
            )
    };
    let point = || {
        vec![
            ("snapshot", schema::text()),
            ("time", schema::time()),
            ("good", schema::truth()),
        ]
    };
    let mut stays = point();
    stays.push(("why", schema::text()));
    let shape = schema::object(vec![
        ("digest", schema::text()),
        ("workload", schema::text()),
        ("repository", schema::text()),
        ("goes", schema::list(schema::object(point()))),
        ("stays", schema::list(schema::object(stays))),
        ("left", schema::count()),
        ("left-good", schema::count()),
        ("newest-left", schema::maybe(schema::time())),
        ("last-good", schema::truth()),
        ("warnings", schema::list(schema::text())),
    ]);
    let see = named(Operation::of(
        Method::POST,
        "/api/v1/forgets/plan",
        "What would go and what would stay if these recovery points were forgotten now. Needs Datastore.Modify where the workload's \
         snapshots are, or Datastore.Prune if they are the caller's own",
        shape,
    ));
    table.add(see, |desk: &Desk, call: &Call, asked: Asked| {
        let removal = Removal::of(desk, call, &asked)?;
        Answer::data(removal.shown())
    });
    let shape = schema::object(vec![("forgotten", schema::count())]);
    let forget = named(Operation::of(
        Method::POST,
        "/api/v1/forgets",
        "Forget these recovery points for good, as planned; with a second person where that is configured (delete)",
        shape,
    ))
    .with(
        "digest",
        Place::Body,
        schema::text(),
        "what the plan for it told; 409: it would be another one by now",
    )
    .with(
        "last-good",
        Place::Body,
        schema::truth(),
        "true: also if no good one is left",
    );
    table.add(forget, forget_them);
    let protect = Operation::of(
        Method::PUT,
        "/api/v1/workloads/{name}/recovery-points/{snapshot}/protection",
        "Protect a recovery point from being forgotten, or take that away, which needs a second person where that is configured \
         (delete). Needs Datastore.Modify where the workload's snapshots are, or Datastore.Backup if they are the caller's own",
        json!({"type": "null"}),
    )
    .with("name", Place::Path, schema::text(), "such as vm%2F100")
    .with("snapshot", Place::Path, schema::text(), "its id")
    .with("repository", Place::Body, schema::text(), "in which repository")
    .with(
        "protected",
        Place::Body,
        schema::truth(),
        "whether it is protected from now on",
    );
    table.add(protect, protect_it);
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    workload: String,
    repository: String,
    snapshots: Vec<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Confirmed {
    workload: String,
    repository: String,
    snapshots: Vec<String>,
    digest: String,
    last_good: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Protection {
    name: String,
    snapshot: String,
    repository: String,
    protected: bool,
}

/// Whether the caller may do this with the recovery points of a workload in a repository that is open.
///
/// # Errors
/// The repository cannot be read.
pub(super) fn may(
    desk: &Desk,
    call: &Call,
    workload: &Workload,
    repository: &str,
    edit: Edit,
) -> ApiResult<bool> {
    let Some(datastore) = desk.context.datastores.get(repository) else {
        return Ok(false);
    };
    // The server's own state is nobody's to edit here.
    let Some((namespace, group)) = group_of(workload.as_str()) else {
        return Ok(false);
    };
    may_edit(call, datastore, (&namespace, &group), edit)
}

/// The recovery points of a workload in one of its repositories, oldest first, for somebody who may do this with them.
///
/// # Errors
/// 404: there is no such workload, repository of it; 403: the caller may not.
fn opened(
    desk: &Desk,
    call: &Call,
    name: &str,
    repository: &str,
    edit: Edit,
) -> ApiResult<(Workload, Arc<Datastore>, Vec<Found>)> {
    let name: Workload = name
        .parse()
        .map_err(|error: relight_model::workload::WorkloadError| ApiError::bad_request(error.to_string()))?;
    let planned = desk.board.planned();
    let none = || ApiError::not_found(format!("the plan has no workload {name} that you may see"));
    let entry = planned.plan.workload(&name).ok_or_else(none)?;
    let sight = Sight::new(call, &planned.plan);
    if !sight.workload(&name)? {
        return Err(none());
    }
    let policy = planned.plan.policy_of(entry).map(|(_, policy)| policy);
    let is_of_it = policy.is_some_and(|policy| {
        policy.repository.value == repository
            || policy
                .copies
                .iter()
                .any(|copy| copy.repository.value == repository)
    });
    let is_seen = is_of_it && sight.restored(repository, &name)?;
    let datastore = desk.context.datastores.get(repository).filter(|_| is_seen);
    let Some(datastore) = datastore else {
        let text: String = repository.chars().take(64).collect();
        return Err(ApiError::not_found(format!(
            "the plan keeps {name} in no repository {text:?} that is open and that you may see"
        )));
    };
    if !may(desk, call, &name, repository, edit)? {
        return Err(ApiError::forbidden());
    }
    let points = desk.context.points(datastore, &name);
    let points = points.map_err(|failure| unreadable(repository, &failure.message))?;
    Ok((name, datastore.clone(), points))
}

/// The only one whose id begins so.
fn pick<'p>(points: &'p [Found], name: &Workload, id: &str) -> ApiResult<&'p Found> {
    let mut fit = points
        .iter()
        .filter(|(body, _)| id.len() >= 6 && body.snapshot.id.to_string().starts_with(id));
    match (fit.next(), fit.next()) {
        (Some(found), None) => Ok(found),
        _ => {
            let id: String = id.chars().take(64).collect();
            Err(ApiError::not_found(format!(
                "{name} has no recovery point {id:?} there; it may have been forgotten meanwhile"
            )))
        }
    }
}

/// Whether somebody could rely on it: nothing was left out when it was made, and no verification has found damage.
fn is_good(snapshot: &Snapshot, marks: Option<&Marks>) -> bool {
    snapshot.incomplete.is_empty() && !is_damaged(marks)
}

/// Whether the last verification found damage.
pub(super) fn is_damaged(marks: Option<&Marks>) -> bool {
    let verification = marks.and_then(|marks| marks.verification.as_ref());
    verification.is_some_and(|found| !found.good)
}

/// What somebody wants to be forgotten, and what that means.
struct Removal {
    workload: Workload,
    repository: String,
    datastore: Arc<Datastore>,
    /// Oldest first.
    goes: Vec<Found>,
    stays: Vec<(Found, String)>,
    /// What is there afterwards, oldest first.
    left: Vec<Found>,
    /// Whether no good one is left where there is one now.
    last_good: bool,
    warnings: Vec<String>,
    /// When it was looked what is there.
    looked: Timestamp,
}

impl Removal {
    fn of(desk: &Desk, call: &Call, asked: &Asked) -> ApiResult<Self> {
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
    fn digest(&self) -> String {
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

    fn shown(&self) -> Value {
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
    fn subject(&self) -> String {
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
    fn settle(&self, desk: &Desk, gone: usize) {
        let stay = self.goes.iter().skip(gone).chain(&self.left);
        let there = stay.map(|(body, _)| body.snapshot.id.to_string()).collect();
        let state = desk.gate.state();
        if let Err(error) = vanished::settle_one(state, &self.workload, &self.repository, &there, self.looked)
        {
            tracing::warn!("{error}: it is looked again what is left of {}", self.workload);
        }
    }

    /// Forgets them, the oldest first, so that what is cut off has removed what was needed least. Gives those that are gone.
    fn execute(&self) -> (Vec<Value>, Option<StoreError>) {
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

/// A time as people read it; fractions of a second tell them nothing.
fn plain(time: Timestamp) -> impl std::fmt::Display {
    time.strftime("%F %T UTC")
}

fn counted(count: usize) -> String {
    match count {
        1 => "1 recovery point".into(),
        _ => format!("{count} recovery points"),
    }
}

fn forget_them(desk: &Desk, call: &Call, confirmed: Confirmed) -> ApiResult<Answer> {
    let asked = Asked {
        workload: confirmed.workload,
        repository: confirmed.repository,
        snapshots: confirmed.snapshots,
    };
    let removal = Removal::of(desk, call, &asked)?;
    let digest = removal.digest();
    if digest != confirmed.digest {
        return Err(ApiError::new(
            StatusCode::CONFLICT,
            "what would be forgotten is not what was planned any more: look at the new plan",
        ));
    }
    if removal.goes.is_empty() {
        return Err(ApiError::bad_request("all of these are held: nothing would go"));
    }
    if removal.last_good && !confirmed.last_good {
        return Err(ApiError::bad_request(format!(
            "no good recovery point of {} would be left in {}: confirm that this is meant, too (last-good)",
            removal.workload, removal.repository
        )));
    }
    let guarded = Guarded {
        action: Action::Delete,
        path: &workload_path(&removal.repository, &removal.workload),
        subject: &removal.subject(),
        exact: &digest,
        reason: None,
    };
    call.guarded(&guarded, || {
        let (gone, failure) = removal.execute();
        let count = gone.len();
        removal.settle(desk, count);
        let mut detail = Map::from_iter([("repository".to_owned(), removal.repository.clone().into())]);
        if count > 0 {
            let forgotten = Map::from_iter([(removal.workload.to_string(), Value::Array(gone))]);
            detail.insert("forgotten".to_owned(), forgotten.into());
        }
        note(
            desk,
            call,
            format!(
                "forgot {} of {} in {} before the plan would",
                counted(count),
                removal.workload,
                removal.repository
            ),
            match failure {
                None => Outcome::Done,
                Some(_) => Outcome::Failed,
            },
            detail,
        )?;
        match failure {
            None => Answer::data(json!({"forgotten": count})),
            Some(error) => {
                let mut error = ApiError::from(error);
                error.message = format!(
                    "{} of {} were forgotten, then: {}",
                    count,
                    counted(removal.goes.len()),
                    error.message
                );
                Err(error)
            }
        }
    })
}

fn note(
    desk: &Desk,
    call: &Call,
    what: String,
    outcome: Outcome,
    detail: Map<String, Value>,
) -> ApiResult<()> {
    let record = NewEvidence {
        time: Timestamp::now(),
        kind: Kind::Change,
        who: Some(call.who()?.to_string()),
        what,
        outcome,
        detail,
    };
    desk.gate.state().add_evidence(&[record]).map_err(failed)
}

fn protect_it(desk: &Desk, call: &Call, asked: Protection) -> ApiResult<Answer> {
    let (name, datastore, points) = opened(desk, call, &asked.name, &asked.repository, Edit::Protect)?;
    let (body, marks) = pick(&points, &name, &asked.snapshot)?;
    let snapshot = &body.snapshot;
    let is_protected = marks.as_ref().is_some_and(|marks| marks.protected);
    if is_protected == asked.protected {
        return Ok(Answer::null());
    }
    let about = format!(
        "the recovery point {} {} of {name} in {}",
        plain(snapshot.time),
        snapshot.id.short(),
        asked.repository
    );
    let set = || {
        datastore.protect_one(snapshot, asked.protected)?;
        let what = match asked.protected {
            true => format!("protected {about}"),
            false => format!("took the protection of {about} away"),
        };
        let detail = Map::from_iter([
            ("repository".to_owned(), Value::from(asked.repository.as_str())),
            ("snapshot".to_owned(), snapshot.id.to_string().into()),
        ]);
        note(desk, call, what, Outcome::Done, detail)?;
        Ok(Answer::null())
    };
    if asked.protected {
        return set();
    }
    let guarded = Guarded {
        action: Action::Delete,
        path: &workload_path(&asked.repository, &name),
        subject: &format!("take the protection of {about} away"),
        exact: &snapshot.id.to_string(),
        reason: None,
    };
    call.guarded(&guarded, set)
}
