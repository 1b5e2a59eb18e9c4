//! `/reports/compliance`: what the evidence of a period proves, to look at and as files.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

use http::header::{CACHE_CONTROL, CONTENT_DISPOSITION, CONTENT_SECURITY_POLICY, X_CONTENT_TYPE_OPTIONS};
use http::{HeaderMap, HeaderValue, StatusCode};
use jiff::Timestamp;
use jiff::civil::Date;
use relight_model::plan::Plan;
use relight_pbs::service::http::{Answer, ApiError, ApiResult, Body, Call};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::operation::{Operation, Place, Table};
use super::sight::Sight;
use super::{Desk, failed, paths, schema};
use crate::evidence::{Kind, NewEvidence, Outcome};
use crate::report::{Claim, Collector, Control, Report, Subject, html, oscal, pdf, standing};

/// All of the evidence is read for one: one after the other.
static MAKING: Mutex<()> = Mutex::new(());
/// How many are made or wait for it, and how many of them at most: each holds a thread.
static WAITING: AtomicUsize = AtomicUsize::new(0);
const MOST_WAITING: usize = 8;
/// So many things for which a claim does not hold are shown.
const SHOWN: usize = 20;

pub(super) fn operations(table: &mut Table<'_>) {
    let period = |operation: Operation| {
        operation
            .with(
                "from",
                Place::Query,
                json!({"type": "string", "format": "date"}),
                "first day, in the plan's time zone",
            )
            .with(
                "to",
                Place::Query,
                json!({"type": "string", "format": "date"}),
                "last day; today if nothing is said",
            )
    };
    let control = schema::object(vec![
        ("framework", schema::text()),
        ("id", schema::text()),
        ("title", schema::text()),
        ("verdict", schema::text()),
        ("reason", schema::text()),
        ("claims", schema::list(schema::text())),
    ]);
    let claim = schema::object(vec![
        ("id", schema::text()),
        ("says", schema::text()),
        ("state", schema::text()),
        ("reason", schema::text()),
        ("holds", schema::count()),
        ("fails", schema::count()),
        ("unknown", schema::count()),
        ("contradictions", schema::list(json!({"type": "object"}))),
    ]);
    let summary = Operation::get(
        "/api/v1/reports/compliance",
        "What the evidence of a period says of each control, and of the claims that they rest on; needs Evidence.Read at /system",
        schema::object(vec![
            ("from", schema::time()),
            ("to", schema::time()),
            ("made", schema::time()),
            ("whole", schema::truth()),
            ("records", schema::count()),
            ("controls", schema::list(control)),
            ("claims", schema::list(claim)),
            ("remarks", schema::list(schema::text())),
        ]),
    );
    table.add(period(summary), shown);
    let file = Operation::get(
        "/api/v1/reports/compliance/download",
        "The same report as a file, with every workload and citation; needs Evidence.Read at /system",
        json!({}),
    )
    .gives(&["text/html", "application/pdf", "application/json"]);
    let file = period(file).with(
        "format",
        Place::Query,
        schema::one_of(&["html", "pdf", "json", "oscal"]),
        "what file; html if nothing is said",
    );
    table.add(file, download);
}

#[derive(Deserialize, Clone, Copy, Default)]
#[serde(rename_all = "lowercase")]
enum Format {
    #[default]
    Html,
    Pdf,
    Json,
    Oscal,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Period {
    from: Option<String>,
    to: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    from: Option<String>,
    to: Option<String>,
    #[serde(default)]
    format: Format,
}

/// One that waits for its turn, or is made.
struct Waiting;

impl Waiting {
    fn new() -> ApiResult<Self> {
        let turn = Self;
        if WAITING.fetch_add(1, Ordering::Relaxed) >= MOST_WAITING {
            return Err(ApiError::new(
                StatusCode::TOO_MANY_REQUESTS,
                "other reports are being made, for which all of the evidence is read: ask again in a moment",
            ));
        }
        Ok(turn)
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        WAITING.fetch_sub(1, Ordering::Relaxed);
    }
}

fn day(text: &str) -> ApiResult<Date> {
    text.parse()
        .map_err(|_| ApiError::bad_request(format!("{text:?} is no day: write it as 2026-01-31")))
}

fn make(desk: &Desk, call: &Call, period: &Period) -> ApiResult<Report> {
    let planned = desk.board.planned();
    Sight::new(call, &planned.plan).require_evidence()?;
    let _waiting = Waiting::new()?;
    let _alone = MAKING.lock().unwrap_or_else(PoisonError::into_inner);
    let text = super::plan_edit::read(&desk.plan)?;
    let plan = Plan::parse(&text).map_err(|_| {
        ApiError::bad_request("the plan's file cannot be understood now; mend it before it is reported on")
    })?;
    let now = Timestamp::now();
    let zone = &plan.time_zone;
    let today = zone.to_datetime(now).date();
    let last = period.to.as_deref().map(day).transpose()?.unwrap_or(today);
    let first = match period.from.as_deref().map(day).transpose()? {
        Some(first) => first,
        None => last.first_of_month(),
    };
    let refused = |error: jiff::Error| ApiError::bad_request(error.to_string());
    let begin = |day: Date| day.to_zoned(zone.clone()).map(|at| at.timestamp());
    let from = begin(first).map_err(refused)?;
    let to = begin(last.tomorrow().map_err(refused)?)
        .map_err(refused)?
        .min(now);
    if from >= to {
        return Err(ApiError::bad_request(
            "the period ends before it begins, or begins in the future",
        ));
    }
    let state = desk.gate.state();
    let signer = state.signer().map_err(failed)?;
    let subject = Subject::new(signer.server(), signer.public_key(), &text, (from, to), now);
    let mut collector = Collector::new(&plan, subject);
    let verified = state
        .read_evidence(Vec::new(), |body| collector.take(body))
        .map_err(failed)?;
    let report = collector.finish(verified, standing(&desk.repositories));
    // Reading the log is a part of it.
    state
        .add_evidence(&[NewEvidence {
            time: Timestamp::now(),
            kind: Kind::Change,
            who: Some(call.who()?.to_string()),
            what: format!("made a compliance report from {from} to {to}"),
            outcome: Outcome::Done,
            detail: Default::default(),
        }])
        .map_err(failed)?;
    Ok(report)
}

fn shown(desk: &Desk, call: &Call, period: Period) -> ApiResult<Answer> {
    let report = make(desk, call, &period)?;
    let control = |control: &Control| {
        json!({
            "framework": control.framework.title(),
            "id": control.id,
            "title": control.title,
            "verdict": control.verdict.name(),
            "reason": control.reason,
            "claims": control.claims,
        })
    };
    let claim = |claim: &Claim| {
        json!({
            "id": claim.id,
            "says": claim.says,
            "state": claim.state,
            "reason": claim.reason,
            "holds": claim.holds,
            "fails": claim.fails,
            "unknown": claim.unknown,
            "contradictions": claim.contradictions.iter().take(SHOWN).collect::<Vec<_>>(),
        })
    };
    let data: Value = json!({
        "from": report.period.from,
        "to": report.period.to,
        "made": report.made,
        "whole": report.chain.verified.broken.is_none(),
        "records": report.chain.in_period,
        "controls": report.controls.iter().map(control).collect::<Vec<_>>(),
        "claims": report.claims.iter().map(claim).collect::<Vec<_>>(),
        "remarks": report.remarks,
    });
    Answer::data(data)
}

fn download(desk: &Desk, call: &Call, wanted: Wanted) -> ApiResult<Answer> {
    let period = Period {
        from: wanted.from,
        to: wanted.to,
    };
    let report = make(desk, call, &period)?;
    let unwritten =
        |error: &dyn std::fmt::Display| ApiError::internal(format!("the report cannot be written: {error}"));
    let as_json =
        |value: &dyn Fn() -> Result<Vec<u8>, serde_json::Error>| value().map_err(|error| unwritten(&error));
    let (content_type, ending, bytes) = match wanted.format {
        Format::Html => {
            let mut text = String::new();
            html::write(&report, &mut text).map_err(|error| unwritten(&error))?;
            ("text/html;charset=UTF-8", "html", text.into_bytes())
        }
        Format::Pdf => {
            let bytes = pdf::write(&report).map_err(|error| unwritten(&error))?;
            ("application/pdf", "pdf", bytes)
        }
        Format::Json => ("application/json", "json", as_json(&|| pretty(&report))?),
        Format::Oscal => (
            "application/json",
            "oscal.json",
            as_json(&|| pretty(&oscal::document(&report)))?,
        ),
    };
    let zone = jiff::tz::TimeZone::get(&report.period.time_zone).unwrap_or(jiff::tz::TimeZone::UTC);
    let date = |time: Timestamp| zone.to_datetime(time).date();
    // The end is no part of the period.
    let last = report.period.to.checked_sub(jiff::SignedDuration::from_nanos(1));
    let last = last.unwrap_or(report.period.to);
    let name = format!("compliance-{}-{}.{ending}", date(report.period.from), date(last));
    let disposition = HeaderValue::from_str(&paths::attachment(&name))
        .map_err(|error| ApiError::internal(error.to_string()))?;
    let mut headers = HeaderMap::new();
    headers.insert(CONTENT_DISPOSITION, disposition);
    headers.insert(X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.insert(
        CONTENT_SECURITY_POLICY,
        HeaderValue::from_static("default-src 'none'; sandbox"),
    );
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    Ok(Answer::Raw {
        content_type,
        headers,
        body: Body::whole(bytes),
    })
}

fn pretty(value: &impl Serialize) -> Result<Vec<u8>, serde_json::Error> {
    serde_json::to_vec_pretty(value)
}
