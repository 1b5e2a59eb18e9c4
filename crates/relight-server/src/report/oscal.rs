//! The report as OSCAL assessment results 1.1.3 in JSON (NIST, "OSCAL Assessment Results Model", pages.nist.gov/OSCAL).
//!
//! One result for each framework, since controls are chosen from one catalog. A claim is an observation, a control a finding.
//! Identifiers are those of version 5 (RFC 9562, section 5.5), made of what they stand for: the same evidence gives the same.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::claims::{Claim, State};
use super::controls::{Control, ControlVerdict};
use super::frameworks::Framework;
use super::{Report, words};

/// Version of OSCAL that is written.
pub const OSCAL: &str = "1.1.3";
/// Names of our own properties belong to this.
const NAMESPACE: &str = "https://relight.invalid/ns/oscal";
/// Identifiers are made in this name space (that of URLs, RFC 9562, section 6.6).
const URLS: [u8; 16] = [
    0x6b, 0xa7, 0xb8, 0x11, 0x9d, 0xad, 0x11, 0xd1, 0x80, 0xb4, 0x00, 0xc0, 0x4f, 0xd4, 0x30, 0xc8,
];

/// An identifier of version 5.
fn uuid(name: &str) -> String {
    let all = [&URLS[..], name.as_bytes()].concat();
    let hash = digest(&SHA1_FOR_LEGACY_USE_ONLY, &all);
    let mut bytes = [0; 16];
    bytes
        .iter_mut()
        .zip(hash.as_ref())
        .for_each(|(to, from)| *to = *from);
    bytes[6] = bytes[6] & 0x0f | 0x50;
    bytes[8] = bytes[8] & 0x3f | 0x80;
    let hex = hex::encode(bytes);
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default();
    let parts = [part(0, 8), part(8, 12), part(12, 16), part(16, 20), part(20, 32)];
    parts.join("-")
}

/// A text as the schema wants it: one line, not empty, nothing before and after it. Markup of it means nothing (OSCAL reads
/// these texts as Markdown).
fn line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\\' | '*' | '_' | '`' | '<' | '>' | '[' | ']' | '#' | '!' | '{' | '}' | '|' | '~' => {
                out.push('\\');
                out.push(character);
            }
            other if super::html::is_unsafe(other) => out.push(' '),
            other => out.push(other),
        }
    }
    match out.trim() {
        "" => "-".to_owned(),
        trimmed => trimmed.to_owned(),
    }
}

/// A value of a property: no markup, but one line without space around it.
fn value(text: &str) -> String {
    let clean: String = text
        .chars()
        .map(|character| {
            if super::html::is_unsafe(character) {
                ' '
            } else {
                character
            }
        })
        .collect();
    match clean.trim() {
        "" => "-".to_owned(),
        trimmed => trimmed.to_owned(),
    }
}

fn property(name: &str, text: &str) -> Value {
    json!({ "name": name, "ns": NAMESPACE, "value": value(text) })
}

/// The document.
pub fn document(report: &Report) -> Value {
    let head = report.chain.verified.head.as_ref();
    let head = head.map_or_else(|| "none".to_owned(), ToString::to_string);
    let made = report.made.to_string();
    let base = format!(
        "https://relight.invalid/report/{}/{}/{}/{head}/{made}",
        report.server, report.period.from, report.period.to
    );
    let ids = Ids { base };
    let party = ids.of("party");
    let whole = match &report.chain.verified.broken {
        None => "whole".to_owned(),
        Some(broken) => format!("broken at record {}: {}", broken.sequence, broken.why),
    };
    let results: Vec<Value> = Framework::ALL
        .into_iter()
        .map(|framework| result(report, framework, &ids))
        .collect();
    json!({
        "assessment-results": {
            "uuid": ids.of("document"),
            "metadata": {
                "title": "Backup and recovery: compliance report",
                "last-modified": made,
                "version": made,
                "oscal-version": OSCAL,
                "props": [
                    property("evidence-head", &head),
                    property("evidence-key", &report.chain.key),
                    property("evidence-chain", &whole),
                    property("plan-sha256", &report.plan.sha256),
                    property("server", &report.server),
                ],
                "roles": [{ "id": "assessor", "title": "What made this report" }],
                "parties": [{
                    "uuid": party,
                    "type": "organization",
                    "name": value(&format!("{}, on the server {}", report.program, report.server)),
                }],
                "responsible-parties": [{ "role-id": "assessor", "party-uuids": [party] }],
            },
            "import-ap": {
                "href": "#assessment-plan",
                "remarks": "There is no assessment plan of its own: what is assessed follows from the plan of the server, whose \
                            digest is in the metadata, and from the documentation of the report.",
            },
            "results": results,
        }
    })
}

struct Ids {
    base: String,
}

impl Ids {
    fn of(&self, what: &str) -> String {
        uuid(&format!("{}#{what}", self.base))
    }
}

fn result(report: &Report, framework: Framework, ids: &Ids) -> Value {
    let of = report
        .controls
        .iter()
        .filter(|control| control.framework == framework);
    let controls: Vec<&Control> = of.collect();
    let name = format!("{framework:?}");
    let used = |claim: &&Claim| controls.iter().any(|control| control.claims.contains(&claim.id));
    let observations: Vec<Value> = report
        .claims
        .iter()
        .filter(used)
        .map(|claim| observation(report, claim, &name, ids))
        .collect();
    let findings: Vec<Value> = controls
        .iter()
        .map(|control| finding(control, &name, ids))
        .collect();
    let chosen: Vec<Value> = controls
        .iter()
        .map(|control| json!({ "control-id": control.oscal_id }))
        .collect();
    json!({
        "uuid": ids.of(&format!("result {name}")),
        "title": line(framework.title()),
        "description": line(&format!(
            "Controls of {} as far as a backup system can speak of them, from the evidence of the period", framework.title()
        )),
        "start": report.period.judged_from.to_string(),
        "end": report.period.judged_to.to_string(),
        "reviewed-controls": { "control-selections": [{ "include-controls": chosen }] },
        "observations": observations,
        "findings": findings,
    })
}

fn observation(report: &Report, claim: &Claim, result: &str, ids: &Ids) -> Value {
    let sides = [("supports", &claim.supports), ("contradicts", &claim.contradicts)];
    let evidence: Vec<Value> = sides
        .into_iter()
        .flat_map(|(side, cited)| cited.records.iter().map(move |one| (side, one)))
        .map(|(side, one)| {
            json!({
                "description": line(&format!("Record {} of {}: {}", one.sequence, one.time, one.what)),
                "props": [property("record", &one.sequence.to_string()), property("side", side)],
            })
        })
        .collect();
    let tested = ["drills", "rto", "verification", "negative-controls", "exercise"].contains(&claim.id);
    let newest = sides
        .into_iter()
        .flat_map(|(_, cited)| cited.records.iter().map(|one| one.time))
        .max();
    let collected: Timestamp = newest.unwrap_or(report.made);
    let mut observation = json!({
        "uuid": ids.of(&format!("observation {result} {}", claim.id)),
        "title": line(claim.says),
        "description": line(&format!("{}: {}", words::state(claim.state), claim.reason)),
        "props": [
            property("claim", claim.id),
            property("holds", &claim.holds.to_string()),
            property("fails", &claim.fails.to_string()),
            property("unknown", &claim.unknown.to_string()),
            property("records-that-support", &claim.supports.count.to_string()),
            property("records-that-contradict", &claim.contradicts.count.to_string()),
        ],
        "methods": [if tested { "TEST" } else { "EXAMINE" }],
        "types": [match claim.state {
            State::Contradicted => "finding",
            _ => "control-objective",
        }],
        "collected": collected.to_string(),
    });
    // The schema knows no empty lists.
    if !evidence.is_empty() {
        observation["relevant-evidence"] = Value::Array(evidence);
    }
    let against: Vec<String> = claim
        .contradictions
        .iter()
        .map(|one| format!("{}: {}", one.subject, one.why))
        .collect();
    if !against.is_empty() {
        observation["remarks"] = Value::String(line(&against.join("; ")));
    }
    observation
}

fn finding(control: &Control, result: &str, ids: &Ids) -> Value {
    let (state, reason) = match control.verdict {
        ControlVerdict::Satisfied => ("satisfied", "pass"),
        ControlVerdict::Contradicted => ("not-satisfied", "fail"),
        ControlVerdict::Partly | ControlVerdict::NoEvidence => ("not-satisfied", "other"),
    };
    let related: Vec<Value> = control
        .claims
        .iter()
        .map(|claim| json!({ "observation-uuid": ids.of(&format!("observation {result} {claim}")) }))
        .collect();
    json!({
        "uuid": ids.of(&format!("finding {result} {}", control.id)),
        "title": line(&format!("{} {}", control.id, control.title)),
        "description": line(&format!("{}. {}", control.demand, control.reason)),
        "props": [property("verdict", control.verdict.name())],
        "target": {
            "type": "objective-id",
            "target-id": control.oscal_id,
            "description": line(control.demand),
            "status": { "state": state, "reason": reason, "remarks": line(control.verdict.name()) },
        },
        "related-observations": related,
    })
}
