//! `/runs`: what ran, what runs, and asking for more.

use std::str::FromStr;

use http::Method;
use jiff::Timestamp;
use relight_model::plan::Plan;
use relight_model::schedule::{JobId, RunKind};
use relight_pbs::service::http::{Answer, ApiError, ApiResult, Call};
use serde::Deserialize;
use serde_json::{Value, json};

use super::operation::{Operation, Place, Table};
use super::sight::Sight;
use super::{Desk, failed, limit, schema};
use crate::evidence::detail::Ended;
use crate::state::{Request, Run, RunFilter};

/// So many rows are read at once.
const AT_ONCE: u32 = 200;
/// So many rows are looked at for one page, however few of them the caller may see.
const LOOKED_AT: usize = 4_000;
/// So many events at once.
const EVENTS: usize = 500;

pub(super) fn operations(table: &mut Table<'_>) {
    let kinds: Vec<&str> = RunKind::ALL.iter().map(|kind| kind.name()).collect();
    let outcomes: Vec<&str> = Ended::ALL.iter().map(|ended| ended.name()).collect();
    let list = Operation::get("/api/v1/runs", "Runs, newest first", schema::list(schema::run()))
        .paged("before", "only runs with a number below this one")
        .with("workload", Place::Query, schema::text(), "of this workload only")
        .with("kind", Place::Query, schema::one_of(&kinds), "of this kind only")
        .with(
            "outcome",
            Place::Query,
            schema::one_of(&outcomes),
            "that ended so only",
        )
        .with("running", Place::Query, schema::truth(), "that run only");
    table.add(list, list_runs);
    let one = Operation::get(
        "/api/v1/runs/{run}",
        "A run with its events",
        schema::run_with_events(),
    )
    .with("run", Place::Path, schema::count(), "its number")
    .with(
        "from",
        Place::Query,
        schema::count(),
        "events from this one on, the first being 0",
    );
    table.add(one, one_run);
    let ask = Operation::of(
        Method::POST,
        "/api/v1/runs",
        "Ask for a run of something in the plan; the scheduler takes it up within seconds",
        schema::object(vec![("job", schema::text()), ("after", schema::count())]),
    )
    .with(
        "job",
        Place::Body,
        schema::text(),
        "such as `backup vm/100` or `verify vm/100`",
    );
    table.add(ask, ask_for);
    let cancel = Operation::of(
        Method::POST,
        "/api/v1/runs/{run}/cancel",
        "End a run soon",
        schema::object(vec![("run", schema::count())]),
    )
    .with("run", Place::Path, schema::count(), "its number");
    table.add(cancel, cancel_run);
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Wanted {
    limit: Option<u32>,
    before: Option<u64>,
    workload: Option<String>,
    kind: Option<RunKind>,
    outcome: Option<Ended>,
    #[serde(default)]
    running: bool,
}

fn list_runs(desk: &Desk, call: &Call, wanted: Wanted) -> ApiResult<Answer> {
    let limit = limit(wanted.limit)?;
    let filter = RunFilter {
        workload: wanted.workload,
        kind: wanted.kind,
        outcome: wanted.outcome,
        running: wanted.running,
        ..RunFilter::default()
    };
    let (found, next) = visible(desk, call, filter, wanted.before, limit)?;
    let found: Vec<Value> = found.iter().map(|run| shown(desk, run)).collect();
    Ok(Answer::data(found)?.with("next", next))
}

/// The runs that a caller may see, newest first, and where the next page begins.
pub(super) fn visible(
    desk: &Desk,
    call: &Call,
    filter: RunFilter,
    before: Option<u64>,
    limit: usize,
) -> ApiResult<(Vec<Run>, Option<u64>)> {
    let planned = desk.board.planned();
    let sight = Sight::new(call, &planned.plan);
    let (mut found, mut before, mut looked) = (Vec::new(), before, 0);
    loop {
        let filter = RunFilter {
            before,
            limit: Some(AT_ONCE),
            ..filter.clone()
        };
        let rows = desk.gate.state().runs(&filter).map_err(failed)?;
        let more = rows.len() == AT_ONCE as usize;
        for run in rows {
            if found.len() == limit {
                return Ok((found, before));
            }
            before = Some(run.number);
            looked += 1;
            if sight.run(&run)? {
                found.push(run);
            }
        }
        if !more {
            return Ok((found, None));
        }
        if looked >= LOOKED_AT || found.len() == limit {
            return Ok((found, before));
        }
    }
}

/// A run, with how far it has come if it runs.
pub(super) fn shown(desk: &Desk, run: &Run) -> Value {
    let mut value = serde_json::to_value(run).unwrap_or_default();
    value["progress"] = match run.ended {
        None => desk.board.live.progress_of(run.number).map_or(
            Value::Null,
            |progress| json!({"done": progress.done, "total": progress.total}),
        ),
        Some(_) => Value::Null,
    };
    value
}

/// The run of a number that a caller may see.
fn seen(desk: &Desk, call: &Call, plan: &Plan, number: u64) -> ApiResult<Run> {
    let none = || ApiError::not_found(format!("there is no run {number} that you may see"));
    let run = desk.gate.state().run(number).map_err(failed)?.ok_or_else(none)?;
    if Sight::new(call, plan).run(&run)? {
        Ok(run)
    } else {
        Err(none())
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    run: u64,
    from: Option<u64>,
}

fn one_run(desk: &Desk, call: &Call, one: One) -> ApiResult<Answer> {
    let planned = desk.board.planned();
    let run = seen(desk, call, &planned.plan, one.run)?;
    let from = one.from.unwrap_or(0);
    let mut events = desk.gate.state().run_events(run.number, from).map_err(failed)?;
    let next = (events.len() > EVENTS).then(|| from.saturating_add(EVENTS as u64));
    events.truncate(EVENTS);
    let mut value = shown(desk, &run);
    value["events"] = serde_json::to_value(events).unwrap_or_default();
    value["more-events"] = next.into();
    value["again"] = again(desk, call, &planned.plan, &run)?;
    Answer::data(value)
}

/// What was asked for by a restore that did not come to its end, for whoever may ask for it again.
fn again(desk: &Desk, call: &Call, plan: &Plan, run: &Run) -> ApiResult<Value> {
    let ended_well = matches!(run.outcome, None | Some(Ended::Good));
    let (Some(workload), Some(repository)) = (run.job.workload(), &run.repository) else {
        return Ok(Value::Null);
    };
    if run.job.kind() != RunKind::Restore
        || ended_well
        || !Sight::new(call, plan).reads(repository, workload)?
    {
        return Ok(Value::Null);
    }
    let asked = desk.gate.state().asked_of_run(run.number).map_err(failed)?;
    Ok(asked
        .and_then(|asked| serde_json::from_str(&asked).ok())
        .unwrap_or_default())
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    job: String,
}

fn ask_for(desk: &Desk, call: &Call, asked: Asked) -> ApiResult<Answer> {
    let job = JobId::from_str(&asked.job).map_err(|error| ApiError::bad_request(error.to_string()))?;
    let planned = desk.board.planned();
    Sight::new(call, &planned.plan).require_job(&job)?;
    if !planned.schedule.jobs().any(|known| *known == job) {
        return Err(ApiError::bad_request(crate::runs::not_planned(
            &planned.plan,
            &planned.schedule,
            &job,
        )));
    }
    let state = desk.gate.state();
    let newest = RunFilter {
        limit: Some(1),
        ..RunFilter::default()
    };
    let after = state.runs(&newest).map_err(failed)?;
    let after = after.first().map_or(0, |run| run.number);
    let who = call.who()?.to_string();
    state
        .request(&Request::Run(job.clone()), &who, Timestamp::now())
        .map_err(failed)?;
    Answer::data(json!({"job": job, "after": after}))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Number {
    run: u64,
}

fn cancel_run(desk: &Desk, call: &Call, number: Number) -> ApiResult<Answer> {
    let planned = desk.board.planned();
    let run = seen(desk, call, &planned.plan, number.run)?;
    Sight::new(call, &planned.plan).require_job(&run.job)?;
    if run.ended.is_some() {
        let why = format!("run {} has ended already; there is nothing to cancel", run.number);
        return Err(ApiError::bad_request(why));
    }
    let who = call.who()?.to_string();
    let cancel = Request::Cancel(run.number);
    let asked = desk.gate.state().request(&cancel, &who, Timestamp::now());
    asked.map_err(failed)?;
    Answer::data(json!({"run": run.number}))
}
