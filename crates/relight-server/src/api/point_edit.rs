//! `/forgets`, `…/protection`: recovery points that somebody names are forgotten before the plan does it, or protected from that.

mod protection;
mod removal;

use std::sync::Arc;

use http::{Method, StatusCode};
use jiff::Timestamp;
use relight_model::Workload;
use relight_pbs::access::{Action, Guarded};
use relight_pbs::service::datastore::{Datastore, group_of};
use relight_pbs::service::http::{Answer, ApiError, ApiResult, Call};
use relight_pbs::service::rest::{Edit, may_edit};
use relight_repo::snapshot::Marks;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use self::removal::{Removal, counted};
use super::operation::{Operation, Place, Table};
use super::point::unreadable;
use super::sight::Sight;
use super::{Desk, failed, schema};
use crate::evidence::{Kind, NewEvidence, Outcome};
use crate::roles::workload_path;
use crate::runs::Found;

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
    protection::operations(table);
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
    let planned = desk.board.planned();
    let sight = Sight::new(call, &planned.plan);
    let entry = sight.entry(name)?;
    let name = entry.name.value.clone();
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

/// Whether the last verification found damage.
pub(super) fn is_damaged(marks: Option<&Marks>) -> bool {
    let verification = marks.and_then(|marks| marks.verification.as_ref());
    verification.is_some_and(|found| !found.good)
}

/// A time as people read it; fractions of a second tell them nothing.
fn plain(time: Timestamp) -> impl std::fmt::Display {
    time.strftime("%F %T UTC")
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
