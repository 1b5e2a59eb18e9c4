//! `/workloads`: what is protected, and all about one of it.

use jiff::{Timestamp, ToSpan};
use relight_model::Workload;
use relight_model::plan::Policy;
use relight_pbs::service::http::{Answer, ApiError, ApiResult, Call};
use relight_pbs::service::rest::Edit;
use serde::Deserialize;
use serde_json::{Value, json};

use super::operation::{Operation, Place, Table};
use super::overview::{Health, standings};
use super::sight::Sight;
use super::{Desk, drills, failed, limit, point_edit, runs, schema};
use crate::state::{RunFilter, State};

/// Days of the timeline, if nothing is said.
const DAYS: u32 = 30;
/// At most.
const MOST_DAYS: u32 = 400;
/// So many recovery points, backups and drills of it at most, the newest ones.
const MOST: usize = 500;
/// So many drills are shown against the promise.
const DRILLS: usize = 50;

pub(super) fn operations(table: &mut Table<'_>) {
    let list = Operation::get(
        "/api/v1/workloads",
        "Workloads of the plan by name",
        schema::list(schema::standing()),
    )
    .paged("from", "from this one on, the first being 0");
    table.add(list, workloads);
    let point = schema::object(vec![
        ("repository", schema::text()),
        ("snapshot", schema::text()),
        ("time", schema::time()),
        ("protected", schema::truth()),
        ("complete", schema::truth()),
        ("damaged", schema::truth()),
    ]);
    let may = schema::object(vec![
        ("forget", schema::list(schema::text())),
        ("protect", schema::list(schema::text())),
    ]);
    let shape = schema::object(vec![
        ("now", schema::time()),
        ("since", schema::time()),
        ("health", schema::text()),
        ("standing", schema::standing()),
        ("promises", json!({"type": "object"})),
        ("points", schema::list(point)),
        ("may", may),
        ("backups", schema::list(schema::run())),
        ("drills", schema::list(json!({"type": "object"}))),
        ("windows", schema::maybe(schema::windows())),
        ("receiver", schema::maybe(schema::receiver())),
    ]);
    let one = Operation::get(
        "/api/v1/workloads/{name}",
        "A workload: how it stands, the recovery points that are there, its backups and drills. A slash in the name is %2F",
        shape,
    )
    .with("name", Place::Path, schema::text(), "such as vm%2F100")
    .with(
        "days",
        Place::Query,
        json!({"type": "integer", "minimum": 1, "maximum": MOST_DAYS, "default": DAYS}),
        "backups and points of so many days back",
    );
    table.add(one, workload);
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    limit: Option<u32>,
    from: Option<u64>,
}

fn workloads(desk: &Desk, call: &Call, wanted: Wanted) -> ApiResult<Answer> {
    let limit = limit(wanted.limit)?;
    let mut all = standings(desk, call, Timestamp::now())?;
    all.sort_by(|one, other| one.workload.cmp(&other.workload));
    let from = usize::try_from(wanted.from.unwrap_or(0)).unwrap_or(usize::MAX);
    let page: Vec<_> = all.iter().skip(from).take(limit).collect();
    let next = from.saturating_add(page.len());
    let next = (next < all.len() && !page.is_empty()).then_some(next);
    Ok(Answer::data(&page)?.with("next", next))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    name: String,
    days: Option<u32>,
}

fn workload(desk: &Desk, call: &Call, one: One) -> ApiResult<Answer> {
    let days = one.days.unwrap_or(DAYS);
    if !(1..=MOST_DAYS).contains(&days) {
        return Err(ApiError::bad_request(format!(
            "days = {days}: ask for 1 to {MOST_DAYS}"
        )));
    }
    let planned = desk.board.planned();
    let entry = Sight::new(call, &planned.plan).entry(&one.name)?;
    let name = entry.name.value.clone();
    let now = Timestamp::now();
    let since = now
        .checked_sub((i64::from(days) * 24).hours())
        .map_err(|error| ApiError::internal(error.to_string()))?;
    let standing = desk.standing(&planned.plan, entry, now)?;
    let policy = planned.plan.policy_of(entry).map(|(_, policy)| policy);
    let (found, _) = drills::visible(desk, call, Some(name.as_str()), None, DRILLS)?;
    let drills: Vec<Value> = found
        .iter()
        .filter_map(|record| {
            let detail = drills::detail(record)?;
            Some(json!({
                "sequence": record.sequence,
                "run": detail.run,
                "time": detail.requested,
                "good": detail.is_good(),
                "measured-seconds": detail.measured.map(|measured| measured.0.as_secs_f64()),
                "promised-seconds": detail.promised.map(|promised| promised.0.as_secs_f64()),
                "size": detail.size,
                "message": detail.message,
            }))
        })
        .collect();
    let seconds = |at: &Option<relight_model::plan::At<relight_model::TimeSpan>>| {
        at.as_ref().map(|at| at.value.0.as_secs_f64())
    };
    let logs = desk.board.logs.shown();
    let log = logs.get(&name);
    let may = |edit| -> ApiResult<Vec<&str>> {
        let mut found = Vec::new();
        for repository in policy.into_iter().flat_map(places) {
            if point_edit::may(desk, call, &name, repository, edit)? {
                found.push(repository);
            }
        }
        Ok(found)
    };
    Answer::data(json!({
        "now": now,
        "since": since,
        "health": Health::of(&standing),
        "standing": standing,
        "promises": policy.map_or_else(|| json!({}), |policy| json!({
            "schedule": policy.schedule.value,
            "pushed": policy.pushed,
            "repository": policy.repository.value,
            "rpo-seconds": policy.permitted_exposure().map(|rpo| rpo.0.as_secs_f64()),
            "rto-seconds": seconds(&policy.rto),
        })),
        "points": policy.map_or_else(|| Ok(Vec::new()), |policy| points(desk, call, &name, policy, since))?,
        "may": {"forget": may(Edit::Remove)?, "protect": may(Edit::Protect)?},
        "backups": backups(desk, &name, since)?,
        "drills": drills,
        "windows": log.and_then(|log| log.windows.as_deref()),
        "receiver": log.and_then(|log| log.follower.as_ref()),
    }))
}

/// The repositories of a policy, its own first.
fn places(policy: &Policy) -> impl Iterator<Item = &str> {
    let copies = policy.copies.iter().map(|copy| &copy.repository.value);
    std::iter::once(&policy.repository.value)
        .chain(copies)
        .map(String::as_str)
}

/// The recovery points that are there, newest first, in each repository that the caller may see.
fn points(
    desk: &Desk,
    call: &Call,
    name: &Workload,
    policy: &Policy,
    since: Timestamp,
) -> ApiResult<Vec<Value>> {
    let planned = desk.board.planned();
    let sight = Sight::new(call, &planned.plan);
    let mut shown = Vec::new();
    for repository in places(policy) {
        let Some(datastore) = desk.context.datastores.get(repository) else {
            continue;
        };
        if !sight.restored(repository, name)? {
            continue;
        }
        let found = desk.context.points(datastore, name).map_err(|failure| {
            tracing::warn!("recovery points of {name} in {repository}: {}", failure.message);
            ApiError::internal(format!(
                "the repository {repository} cannot be read now; the server's log tells why"
            ))
        })?;
        let recent = found.iter().rev().filter(|(body, _)| body.snapshot.time >= since);
        shown.extend(recent.take(MOST).map(|(body, marks)| {
            json!({
                "repository": repository,
                "snapshot": body.snapshot.id.to_string(),
                "time": body.snapshot.time,
                "protected": marks.as_ref().is_some_and(|marks| marks.protected),
                "complete": body.snapshot.incomplete.is_empty(),
                "damaged": point_edit::is_damaged(marks.as_ref()),
            })
        }));
    }
    Ok(shown)
}

fn backups(desk: &Desk, name: &Workload, since: Timestamp) -> ApiResult<Vec<Value>> {
    let state: &State = desk.gate.state();
    let filter = RunFilter {
        workload: Some(name.to_string()),
        job: Some(relight_model::schedule::JobId::backup(name)),
        since: Some(since),
        limit: u32::try_from(MOST).ok(),
        ..RunFilter::default()
    };
    let found = state.runs(&filter).map_err(failed)?;
    Ok(found.iter().map(|run| runs::shown(desk, run)).collect())
}
