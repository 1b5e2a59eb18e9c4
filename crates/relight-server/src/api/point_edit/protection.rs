//! `…/protection`: a recovery point is protected from being forgotten, or that is taken away.

use http::Method;
use relight_pbs::access::{Action, Guarded};
use relight_pbs::service::http::{Answer, ApiResult, Call};
use relight_pbs::service::rest::Edit;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::{Desk, note, opened, pick, plain, schema};
use crate::api::operation::{Operation, Place, Table};
use crate::evidence::Outcome;
use crate::roles::workload_path;

pub(super) fn operations(table: &mut Table<'_>) {
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
struct Protection {
    name: String,
    snapshot: String,
    repository: String,
    protected: bool,
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
