//! `/evidence`: the log of what happened.

use relight_pbs::service::http::{Answer, ApiResult, Call};
use serde::Deserialize;

use super::operation::{Operation, Place, Table};
use super::sight::Sight;
use super::{Desk, failed, limit, schema};
use crate::evidence::Kind;
use crate::state::EvidenceFilter;

pub(super) fn operations(table: &mut Table<'_>) {
    let kinds: Vec<&str> = Kind::ALL.iter().map(|kind| kind.name()).collect();
    let list = Operation::get(
        "/api/v1/evidence",
        "Records of the evidence, newest first; needs Evidence.Read at /system",
        schema::list(schema::evidence()),
    )
    .paged("before", "only records with a sequence below this one")
    .with("kind", Place::Query, schema::one_of(&kinds), "of this kind only")
    .with("who", Place::Query, schema::text(), "of this user or token only");
    table.add(list, records);
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Wanted {
    limit: Option<u32>,
    before: Option<u64>,
    kind: Option<Kind>,
    who: Option<String>,
}

fn records(desk: &Desk, call: &Call, wanted: Wanted) -> ApiResult<Answer> {
    let planned = desk.board.planned();
    Sight::new(call, &planned.plan).require_evidence()?;
    let limit = limit(wanted.limit)?;
    let filter = EvidenceFilter {
        kind: wanted.kind,
        who: wanted.who,
        before: wanted.before,
        limit: u32::try_from(limit).ok(),
        ..EvidenceFilter::default()
    };
    let found = desk.gate.state().evidence(&filter).map_err(failed)?;
    let next = found
        .last()
        .filter(|_| found.len() == limit)
        .map(|last| last.sequence);
    Ok(Answer::data(found)?.with("next", next))
}
