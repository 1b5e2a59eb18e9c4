//! `/repositories`: how full they are, and what is done about it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use relight_model::plan::Plan;
use relight_model::schedule::{JobId, RunKind};
use relight_pbs::service::http::{Answer, ApiResult, Call, NoParameters};
use serde_json::{Value, json};

use super::operation::{Operation, Table};
use super::sight::Sight;
use super::{Desk, failed, schema};
use crate::config::RepositoryConfig;
use crate::monitor::growth;
use crate::state::RunFilter;

pub(super) fn operations(table: &mut Table<'_>) {
    let shape = schema::object(vec![
        ("name", schema::text()),
        ("comment", schema::maybe(schema::text())),
        ("open", schema::truth()),
        ("total", schema::maybe(schema::count())),
        ("used", schema::maybe(schema::count())),
        ("free", schema::maybe(schema::count())),
        ("groups", schema::maybe(schema::count())),
        ("snapshots", schema::maybe(schema::count())),
        ("parity-percent", schema::maybe(schema::count())),
        ("growth-a-day", schema::maybe(json!({"type": "number"}))),
        ("full", schema::maybe(schema::time())),
        ("sizes", schema::list(json!({"type": "object"}))),
        ("verified", schema::maybe(schema::time())),
        ("never-verified", schema::count()),
        ("failure", schema::maybe(schema::text())),
        ("last-forget", schema::maybe(schema::run())),
        ("last-collect", schema::maybe(schema::run())),
    ]);
    let list = Operation::get(
        "/api/v1/repositories",
        "Repositories, how full they are, and their last collection",
        schema::list(shape),
    );
    table.add(list, repositories);
}

fn repositories(desk: &Desk, call: &Call, _: NoParameters) -> ApiResult<Answer> {
    let planned = desk.board.planned();
    let sight = Sight::new(call, &planned.plan);
    let now = Timestamp::now();
    let sizes = desk
        .gate
        .state()
        .repository_sizes(growth::since(now))
        .map_err(failed)?;
    let verified = verified(desk, &planned.plan, now)?;
    let mut shown = Vec::new();
    for repository in &desk.repositories {
        let name = &repository.name;
        if sight.repository(name)? {
            let mut value = one(desk, repository)?;
            let sizes = sizes.get(name).map_or(&[][..], Vec::as_slice);
            let grows = growth::grows(sizes);
            value["growth-a-day"] = grows
                .and_then(|grows| grows.rate)
                .map(|rate| rate * 86_400.0)
                .into();
            value["full"] = json!(grows.and_then(|grows| grows.full));
            value["sizes"] = json!(sizes);
            let (oldest, never) = verified.get(name.as_str()).copied().unwrap_or_default();
            value["verified"] = json!(oldest);
            value["never-verified"] = never.into();
            shown.push(value);
        }
    }
    Answer::data(shown)
}

/// Of each repository, since when everything in it was found whole, the workload counting whose last good verification is the
/// oldest; and how many workloads in it were never verified.
fn verified(
    desk: &Desk,
    plan: &Plan,
    now: Timestamp,
) -> ApiResult<BTreeMap<String, (Option<Timestamp>, u64)>> {
    let mut found: BTreeMap<String, (Option<Timestamp>, u64)> = BTreeMap::new();
    for standing in desk.standings(plan, now)? {
        let entry = plan.workload(&standing.workload);
        let Some((_, policy)) = entry.and_then(|entry| plan.policy_of(entry)) else {
            continue;
        };
        let (oldest, never) = found.entry(policy.repository.value.clone()).or_default();
        match standing.verified {
            Some(time) => *oldest = Some(oldest.map_or(time, |oldest| oldest.min(time))),
            None => *never += 1,
        }
    }
    Ok(found)
}

fn last(desk: &Desk, job: JobId, kind: RunKind) -> ApiResult<Value> {
    let filter = RunFilter {
        job: Some(job),
        kind: Some(kind),
        limit: Some(1),
        ..RunFilter::default()
    };
    let found = desk.gate.state().runs(&filter).map_err(failed)?;
    Ok(found
        .first()
        .map_or(Value::Null, |run| super::runs::shown(desk, run)))
}

fn one(desk: &Desk, repository: &RepositoryConfig) -> ApiResult<Value> {
    let name = &repository.name;
    let store = desk.context.datastores.get(name);
    let status = store.map(|store| store.status());
    let counts = store.map(|store| store.counts());
    let failures = [
        status.as_ref().and_then(|status| status.as_ref().err()),
        counts.as_ref().and_then(|counts| counts.as_ref().err()),
    ];
    let failure = failures.into_iter().flatten().next().map(ToString::to_string);
    if let Some(failure) = &failure {
        tracing::warn!("the repository {name}: {failure}");
    }
    let status = status.and_then(Result::ok);
    let counts = counts.and_then(Result::ok).map(|counts| {
        let all = [counts.ct, counts.host, counts.vm];
        let all = all.iter().flatten();
        all.fold((0, 0), |(groups, snapshots): (u64, u64), count| {
            (
                groups.saturating_add(count.groups),
                snapshots.saturating_add(count.snapshots),
            )
        })
    });
    Ok(json!({
        "name": name,
        "comment": repository.comment,
        "open": store.is_some(),
        "total": status.map(|status| status.total),
        "used": status.map(|status| status.used),
        "free": status.map(|status| status.avail),
        "groups": counts.map(|counts| counts.0),
        "snapshots": counts.map(|counts| counts.1),
        "parity-percent": store.map(|store| store.repository().settings().parity_percent),
        // Why is in the log: it may name places that the caller may not know.
        "failure": failure.map(|_| "it cannot be read now; the server's log tells why"),
        "last-forget": last(desk, JobId::forget(name), RunKind::Forget)?,
        "last-collect": last(desk, JobId::collect(name), RunKind::Collect)?,
    }))
}
