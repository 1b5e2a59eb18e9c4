//! `/plan`: its text, and what the checker finds in it.

use std::io::Read;

use jiff::Timestamp;
use relight_model::check::{Finding, Severity, check};
use relight_model::plan::{Plan, PlanErrors};
use relight_pbs::service::http::{Answer, ApiError, ApiResult, Call};
use serde::Deserialize;
use serde_json::{Value, json};

use super::operation::{Operation, Place, Table};
use super::sight::Sight;
use super::{Desk, failed, schema};
use crate::runs::facts;

/// So many lines at once.
const LINES: usize = 500;
/// So many bytes of them.
const BYTES: usize = 128 * 1024;
/// So many findings, the worst first.
const FINDINGS: usize = 200;
/// A plan refuses more than that.
const LARGEST: u64 = 16 << 20;

pub(super) fn operations(table: &mut Table<'_>) {
    let problem = schema::object(vec![
        ("line", schema::count()),
        ("column", schema::count()),
        ("message", schema::text()),
    ]);
    let finding = schema::object(vec![
        ("code", schema::text()),
        ("severity", schema::text()),
        ("line", schema::count()),
        ("column", schema::count()),
        ("subject", schema::text()),
        ("reason", schema::text()),
        ("fix", schema::text()),
    ]);
    let shape = schema::object(vec![
        ("first-line", schema::count()),
        ("lines", schema::list(schema::text())),
        ("total-lines", schema::count()),
        ("holds", schema::truth()),
        ("problems", schema::list(problem)),
        ("findings", schema::list(finding)),
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
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Wanted {
    from_line: Option<usize>,
}

fn plan_text(desk: &Desk, call: &Call, wanted: Wanted) -> ApiResult<Answer> {
    let planned = desk.board.planned();
    Sight::new(call, &planned.plan).require_system()?;
    let mut text = String::new();
    let read = std::fs::File::open(&desk.plan).and_then(|file| file.take(LARGEST).read_to_string(&mut text));
    read.map_err(|error| {
        tracing::error!("{}: {error}", desk.plan.display());
        ApiError::internal("the configuration cannot be read; the server's log tells why")
    })?;
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
    let problems: Vec<Value> = problems
        .iter()
        .take(FINDINGS)
        .map(|problem| json!({"line": problem.at.line, "column": problem.at.column, "message": problem.message}))
        .collect();
    let found = match &plan {
        Some(plan) => {
            let facts = facts(desk.gate.state(), plan, Timestamp::now()).map_err(failed)?;
            check(plan, &facts)
        }
        None => Vec::new(),
    };
    let total_findings = found.len();
    let data = json!({
        "first-line": first,
        "lines": lines,
        "total-lines": total,
        "holds": digest == planned.digest,
        "problems": problems,
        "findings": worst(found).iter().map(finding).collect::<Vec<_>>(),
        "total-findings": total_findings,
    });
    Ok(Answer::data(data)?.with("next", next))
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

/// A line without what may be secret in addresses: user and password, and for the web everything behind the host, where chat
/// services have their tokens.
fn without_secrets(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("://") {
        let (before, behind) = rest.split_at(at + 3);
        out.push_str(before);
        let end = behind
            .find(|c: char| c.is_whitespace() || "\"'".contains(c))
            .unwrap_or(behind.len());
        let (address, after) = behind.split_at(end);
        let (host, path) = address.split_at(address.find('/').unwrap_or(address.len()));
        out.push_str(host.rsplit_once('@').map_or(host, |(_, host)| host));
        let is_web = before.ends_with("https://") || before.ends_with("http://");
        match path {
            "" | "/" => out.push_str(path),
            _ if is_web => out.push_str("/…"),
            _ => out.push_str(path.split('?').next().unwrap_or_default()),
        }
        rest = after;
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::without_secrets;

    #[test]
    fn secrets_in_addresses_are_not_shown() {
        for (line, shown) in [
            (
                "to = 'https://hooks.example/T0/B0/secret' # x",
                "to = 'https://hooks.example/…' # x",
            ),
            (
                "to = \"slack+https://u:p@hooks.example/a\"",
                "to = \"slack+https://hooks.example/…\"",
            ),
            (
                "location = 's3://bucket/prefix?key=secret'",
                "location = 's3://bucket/prefix'",
            ),
            (
                "a = 'x://b' b = \"https://c/d\"",
                "a = 'x://b' b = \"https://c/…\"",
            ),
            ("to = 'mailto:ops@example.org'", "to = 'mailto:ops@example.org'"),
            ("://", "://"),
        ] {
            assert_eq!(without_secrets(line), shown);
        }
    }
}
