//! Shapes of what is answered (JSON Schema 2020-12, as OpenAPI 3.1 takes it). Fields may be added later: readers pass over what
//! they do not know.

use serde_json::{Map, Value, json};

pub(super) fn text() -> Value {
    json!({"type": "string"})
}

pub(super) fn time() -> Value {
    json!({"type": "string", "format": "date-time"})
}

/// A whole number from 0.
pub(super) fn count() -> Value {
    json!({"type": "integer", "minimum": 0})
}

pub(super) fn truth() -> Value {
    json!({"type": "boolean"})
}

pub(super) fn one_of(words: &[&str]) -> Value {
    json!({"type": "string", "enum": words})
}

pub(super) fn list(of: Value) -> Value {
    json!({"type": "array", "items": of})
}

/// It may be null.
pub(super) fn maybe(schema: Value) -> Value {
    json!({"oneOf": [schema, {"type": "null"}]})
}

/// An object with all of these fields.
pub(super) fn object(fields: Vec<(&str, Value)>) -> Value {
    let required: Vec<&str> = fields.iter().map(|(name, _)| *name).collect();
    let required = json!(required);
    let properties: Map<String, Value> = fields
        .into_iter()
        .map(|(name, schema)| (name.to_owned(), schema))
        .collect();
    json!({"type": "object", "properties": properties, "required": required})
}

fn named(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

pub(super) fn run() -> Value {
    named("Run")
}

pub(super) fn run_with_events() -> Value {
    named("RunWithEvents")
}

pub(super) fn approval() -> Value {
    named("Approval")
}

pub(super) fn evidence() -> Value {
    named("Evidence")
}

pub(super) fn standing() -> Value {
    named("Standing")
}

/// What can be recovered with a log.
pub(super) fn windows() -> Value {
    let interval = object(vec![
        ("branch", text()),
        ("from", time()),
        ("to", time()),
        ("first", text()),
        ("last", text()),
        ("snapshots", list(text())),
    ]);
    let gap = object(vec![
        ("branch", text()),
        ("from", time()),
        ("to", maybe(time())),
        ("cause", text()),
    ]);
    let point = object(vec![("branch", text()), ("name", text()), ("time", time())]);
    object(vec![
        ("looked", time()),
        ("reaches", maybe(time())),
        ("intervals", list(interval)),
        ("gaps", list(gap)),
        ("points", list(point)),
        ("remarks", list(text())),
    ])
}

/// Who follows a log.
pub(super) fn receiver() -> Value {
    let failed = object(vec![("since", time()), ("why", text())]);
    object(vec![
        ("doing", text()),
        ("well", maybe(time())),
        ("kept", maybe(count())),
        ("limit", maybe(count())),
        (
            "alarms",
            json!({"type": "object", "additionalProperties": text()}),
        ),
        ("failed", maybe(failed)),
    ])
}

fn run_fields() -> Vec<(&'static str, Value)> {
    vec![
        ("number", count()),
        ("job", text()),
        ("repository", maybe(text())),
        ("due", time()),
        ("started", time()),
        ("attempt", count()),
        ("who", maybe(text())),
        ("ended", maybe(time())),
        ("outcome", maybe(text())),
        ("code", maybe(text())),
        ("message", maybe(text())),
        ("snapshot", maybe(text())),
        (
            "figures",
            json!({"type": "object", "additionalProperties": count()}),
        ),
        (
            "progress",
            maybe(object(vec![("done", count()), ("total", count())])),
        ),
    ]
}

/// What the document refers to by name.
pub(super) fn components() -> Value {
    let mut with_events = run_fields();
    with_events.push(("events", list(object(vec![("time", time()), ("text", text())]))));
    with_events.push(("more-events", maybe(count())));
    // What a restore that did not come to its end was asked for with.
    with_events.push(("again", maybe(json!({"type": "object"}))));
    json!({
        "Error": object(vec![("error", object(vec![("status", count()), ("message", text())]))]),
        "Approval": object(vec![
            ("number", count()),
            ("action", text()),
            ("path", text()),
            ("subject", text()),
            ("digest", text()),
            ("reason", text()),
            ("who", text()),
            ("asked", time()),
            ("expires", time()),
            ("standing", one_of(&["waiting", "approved", "denied", "used", "expired"])),
            ("decision", maybe(object(vec![
                ("approved", truth()),
                ("by", text()),
                ("at", time()),
                ("remark", text()),
            ]))),
            ("used", maybe(time())),
            ("may-decide", truth()),
        ]),
        "Run": object(run_fields()),
        "RunWithEvents": object(with_events),
        "Evidence": object(vec![
            ("sequence", count()),
            ("time", time()),
            ("kind", text()),
            ("who", maybe(text())),
            ("what", text()),
            ("outcome", one_of(&["done", "failed", "denied"])),
            ("detail", json!({"type": "object"})),
        ]),
        "Standing": object(vec![
            ("workload", text()),
            ("policy", maybe(text())),
            ("excluded", maybe(json!({"type": "object"}))),
            ("newest", maybe(json!({"type": "object"}))),
            ("log", maybe(json!({"type": "object"}))),
            ("rpo", maybe(json!({"type": "object"}))),
            ("rto", maybe(json!({"type": "object"}))),
            ("running", maybe(count())),
            ("failures", count()),
            ("verified", maybe(time())),
            ("proven", maybe(time())),
            ("next", maybe(time())),
        ]),
    })
}
