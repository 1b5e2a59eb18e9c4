//! `relight approval` of another host's server.

use http::Method;
use jiff::Timestamp;
use relight_server::approvals::Glass;
use serde::Deserialize;
use serde_json::{Value, json};

use super::{DecideOptions, List, ListOptions, Row, decided, told, words};
use crate::api::{Api, read};
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::Result;
use crate::output;

#[derive(Deserialize)]
struct Request {
    number: u64,
    standing: String,
    action: String,
    subject: String,
    who: String,
    asked: Timestamp,
    expires: Timestamp,
    reason: String,
    decision: Option<Decision>,
}

#[derive(Deserialize)]
struct Decision {
    by: String,
    remark: String,
}

#[derive(Deserialize)]
struct Broken {
    who: String,
    reason: String,
    since: Timestamp,
    until: Timestamp,
}

fn row(value: &Value) -> Result<Row> {
    let request: Request = read(value)?;
    let (decided_by, remark) = match request.decision {
        Some(decision) => (Some(decision.by), Some(decision.remark)),
        None => (None, None),
    };
    Ok(Row {
        number: request.number,
        standing: request.standing,
        action: request.action,
        subject: request.subject,
        who: request.who,
        asked: request.asked,
        expires: request.expires,
        reason: request.reason,
        decided_by,
        remark,
    })
}

pub(super) fn list(global: &Global, options: &ListOptions, api: &Api) -> Result<Exit> {
    let waiting = options.waiting.then(|| ("waiting", "true".to_string()));
    let query: Vec<_> = waiting.into_iter().collect();
    let data = api.newest("/approvals", &query, None, options.limit)?;
    // What needs a second person is told beside every page.
    let beside = api.whole(api.call(Method::GET, "/approvals", &[("limit", "1".into())], None)?)?;
    let broken: Option<Broken> = read(&beside["broken-glass"])?;
    let list = List {
        required: read(&beside["required"])?,
        broken_glass: broken.map(|glass| {
            told(&Glass {
                who: glass.who,
                reason: glass.reason,
                since: glass.since,
                until: glass.until,
            })
        }),
        requests: data.iter().map(row).collect::<Result<_>>()?,
    };
    output::result(global, &list, words);
    Ok(Exit::Done)
}

pub(super) fn decide(global: &Global, options: &DecideOptions, approve: bool, api: &Api) -> Result<Exit> {
    let word = if approve { "approve" } else { "deny" };
    let path = format!("/approvals/{}/{word}", options.number);
    let body = json!({"remark": options.remark});
    let done = api.ask(Method::POST, &path, Some(&body))?;
    output::result(global, &row(&done)?, decided);
    Ok(Exit::Done)
}
