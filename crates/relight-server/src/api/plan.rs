//! `/plan`: its text, what the checker finds in it, and what was measured of what it protects.

use jiff::Timestamp;
use relight_model::check::{Finding, Severity, check};
use relight_model::plan::{Plan, PlanErrors, Problem};
use relight_pbs::service::http::{Answer, ApiResult, Call};
use serde::Deserialize;
use serde_json::{Value, json};

use super::operation::{Operation, Place, Table};
use super::plan_text::without_secrets;
use super::sight::Sight;
use super::{Desk, failed, limit, schema};
use crate::runs::facts;

/// So many lines at once.
const LINES: usize = 500;
/// So many bytes of them.
const BYTES: usize = 128 * 1024;
/// So many findings, the worst first.
pub(super) const FINDINGS: usize = 200;
/// A plan refuses more than that.
pub(super) const LARGEST: u64 = 16 << 20;

pub(super) fn operations(table: &mut Table<'_>) {
    let shape = schema::object(vec![
        ("first-line", schema::count()),
        ("lines", schema::list(schema::text())),
        ("total-lines", schema::count()),
        ("holds", schema::truth()),
        ("digest", schema::text()),
        ("problems", schema::list(problem_shape())),
        ("findings", schema::list(finding_shape())),
        ("total-findings", schema::count()),
    ]);
    let plan = Operation::get(
        "/api/v1/plan",
        "The plan as it is written, without what is secret in addresses, and what the checker finds by what was measured; \
         needs Sys.Audit at /system",
        shape,
    )
    .with("from-line", Place::Query, schema::count(), "lines from this one on, the first being 1")
    .beside("next", schema::maybe(schema::count()));
    table.add(plan, plan_text);
    let measured = schema::object(vec![
        ("workload", schema::text()),
        ("size", schema::maybe(schema::count())),
        ("backup-takes", schema::maybe(schema::text())),
    ]);
    let measured = Operation::get(
        "/api/v1/plan/measured",
        "What was measured of the plan's workloads, by which its runs are foreseen: the size at the last backup, and how long backups \
         take at worst of late; needs Sys.Audit at /system",
        schema::list(measured),
    )
    .paged("from", "workloads from this one on, the first being 0");
    table.add(measured, plan_measured);
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Page {
    limit: Option<u32>,
    from: Option<usize>,
}

fn plan_measured(desk: &Desk, call: &Call, wanted: Page) -> ApiResult<Answer> {
    let planned = desk.board.planned();
    Sight::new(call, &planned.plan).require_system()?;
    let (limit, from) = (limit(wanted.limit)?, wanted.from.unwrap_or(0));
    let facts = facts(desk.gate.state(), &planned.plan, Timestamp::now()).map_err(failed)?;
    let list: Vec<Value> = facts
        .workloads
        .iter()
        .skip(from)
        .take(limit)
        .map(|(workload, known)| {
            json!({
                "workload": workload,
                "size": known.size.map(|size| size.0),
                "backup-takes": known.backup_time,
            })
        })
        .collect();
    let end = from.saturating_add(list.len());
    let next = (end < facts.workloads.len() && !list.is_empty()).then_some(end);
    Ok(Answer::data(list)?.with("next", next))
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Wanted {
    from_line: Option<usize>,
}

fn plan_text(desk: &Desk, call: &Call, wanted: Wanted) -> ApiResult<Answer> {
    let planned = desk.board.planned();
    Sight::new(call, &planned.plan).require_system()?;
    let text = super::plan_edit::read(&desk.plan)?;
    let first = wanted.from_line.unwrap_or(1).max(1);
    let (mut lines, mut bytes, mut total) = (Vec::new(), 0, 0);
    for line in text.lines() {
        total += 1;
        if total >= first && lines.len() < LINES && bytes < BYTES {
            let line = without_secrets(line);
            bytes += line.len();
            lines.push(line);
        }
    }
    let next = Some(first + lines.len()).filter(|next| !lines.is_empty() && *next <= total);
    let digest = crate::runs::digest(&text);
    // What is looked at is what is written. The server follows it within a second, unless it cannot be understood.
    let (problems, plan) = match Plan::parse(&text) {
        Ok(plan) => (Vec::new(), Some(plan)),
        Err(PlanErrors(problems)) => (problems, None),
    };
    let problems: Vec<Value> = self::problems(&problems);
    let (findings, total_findings) = match &plan {
        Some(plan) => findings(desk, plan)?,
        None => (Vec::new(), 0),
    };
    let data = json!({
        "first-line": first,
        "lines": lines,
        "total-lines": total,
        "holds": digest == planned.digest,
        "digest": digest,
        "problems": problems,
        "findings": findings,
        "total-findings": total_findings,
    });
    Ok(Answer::data(data)?.with("next", next))
}

/// Shape of what is wrong with a text.
pub(super) fn problem_shape() -> Value {
    schema::object(vec![
        ("line", schema::count()),
        ("column", schema::count()),
        ("message", schema::text()),
    ])
}

/// Shape of a remark of the checker.
pub(super) fn finding_shape() -> Value {
    schema::object(vec![
        ("code", schema::text()),
        ("severity", schema::text()),
        ("line", schema::count()),
        ("column", schema::count()),
        ("subject", schema::text()),
        ("reason", schema::text()),
        ("fix", schema::text()),
    ])
}

/// What is wrong with a text, as callers see it.
pub(super) fn problems(problems: &[Problem]) -> Vec<Value> {
    let shown = problems.iter().take(FINDINGS);
    shown
        .map(|problem| json!({"line": problem.at.line, "column": problem.at.column, "message": problem.message}))
        .collect()
}

/// What the checker finds, the worst of it, and how much it is in all.
pub(super) fn findings(desk: &Desk, plan: &Plan) -> ApiResult<(Vec<Value>, usize)> {
    let facts = facts(desk.gate.state(), plan, Timestamp::now()).map_err(failed)?;
    let found = check(plan, &facts);
    let total = found.len();
    Ok((worst(found).iter().map(finding).collect(), total))
}

/// The worst ones, in the order of the file.
fn worst(mut found: Vec<Finding>) -> Vec<Finding> {
    let rank = |finding: &Finding| match finding.severity {
        Severity::Error => 0,
        Severity::Warning => 1,
        Severity::Advice => 2,
    };
    found.sort_by_key(|finding| (rank(finding), finding.at.line));
    found.truncate(FINDINGS);
    found
}

fn finding(finding: &Finding) -> Value {
    json!({
        "code": finding.code.to_string(),
        "severity": finding.severity.to_string(),
        "line": finding.at.line,
        "column": finding.at.column,
        "subject": finding.subject,
        "reason": finding.reason,
        "fix": finding.fix,
    })
}
