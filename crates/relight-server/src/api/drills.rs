//! `/drills`: recovery tests and what they measured.

use relight_model::Workload;
use relight_pbs::service::http::{Answer, ApiResult, Call};
use serde::Deserialize;

use super::operation::{Operation, Place, Table};
use super::sight::Sight;
use super::{Desk, failed, limit, schema};
use crate::evidence::detail::DrillDetail;
use crate::evidence::{Body, Kind};
use crate::state::EvidenceFilter;

/// So many records are read at once.
const AT_ONCE: u32 = 200;
/// So many are looked at for one page, however few of them the caller may see.
const LOOKED_AT: usize = 2_000;

pub(super) fn operations(table: &mut Table<'_>) {
    let list = Operation::get(
        "/api/v1/drills",
        "Recovery tests, newest first, as the evidence tells them: `detail` holds steps, probes and measured times",
        schema::list(schema::evidence()),
    )
    .paged("before", "only records with a sequence below this one")
    .with("workload", Place::Query, schema::text(), "of this workload only");
    table.add(list, drills);
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Wanted {
    limit: Option<u32>,
    before: Option<u64>,
    workload: Option<String>,
}

fn drills(desk: &Desk, call: &Call, wanted: Wanted) -> ApiResult<Answer> {
    let limit = limit(wanted.limit)?;
    let workload = wanted.workload.as_deref();
    let (found, next) = visible(desk, call, workload, wanted.before, limit)?;
    Ok(Answer::data(found)?.with("next", next))
}

/// Whether a caller may see it. What is of no workload (an exercise) is the server's own affair.
fn is_visible(sight: &Sight<'_>, record: &Body) -> ApiResult<bool> {
    let detail = serde_json::Value::from(record.detail.clone());
    let named = |field: &str| detail.get(field).and_then(serde_json::Value::as_str);
    let workload = named("workload");
    match (
        workload.and_then(|name| name.parse::<Workload>().ok()),
        named("repository"),
    ) {
        (Some(workload), Some(repository)) => sight.restored(repository, &workload),
        _ => sight.system(),
    }
}

/// Drills that a caller may see, newest first, and where the next page begins.
pub(super) fn visible(
    desk: &Desk,
    call: &Call,
    workload: Option<&str>,
    before: Option<u64>,
    limit: usize,
) -> ApiResult<(Vec<Body>, Option<u64>)> {
    let planned = desk.board.planned();
    let sight = Sight::new(call, &planned.plan);
    let (mut found, mut before, mut looked) = (Vec::new(), before, 0);
    loop {
        let filter = EvidenceFilter {
            kind: Some(Kind::Drill),
            drilled: workload.map(str::to_owned),
            before,
            limit: Some(AT_ONCE),
            ..EvidenceFilter::default()
        };
        let records = desk.gate.state().evidence(&filter).map_err(failed)?;
        let more = records.len() == AT_ONCE as usize;
        for record in records {
            if found.len() == limit {
                return Ok((found, before));
            }
            before = Some(record.sequence);
            looked += 1;
            if is_visible(&sight, &record)? {
                found.push(record);
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

/// What a record tells of a drill, if it is of one.
pub(super) fn detail(record: &Body) -> Option<DrillDetail> {
    serde_json::from_value(record.detail.clone().into()).ok()
}
