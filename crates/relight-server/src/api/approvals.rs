//! `/approvals`: what one may not do alone: asked for, decided, done.

use http::{Method, StatusCode};
use jiff::Timestamp;
use relight_pbs::access::Action;
use relight_pbs::service::http::{Answer, ApiError, ApiResult, Call};
use serde::Deserialize;
use serde_json::{Value, json};

use super::operation::{Operation, Place, Table};
use super::{Desk, failed, limit, schema};
use crate::approvals::{Request, Standing};
use crate::state::ApprovalFilter;

/// Requests that are read at once.
const AT_ONCE: u32 = 500;

pub(super) fn operations(table: &mut Table<'_>) {
    let actions = Action::ALL.map(Action::name);
    let glass = schema::object(vec![
        ("who", schema::text()),
        ("reason", schema::text()),
        ("since", schema::time()),
        ("until", schema::time()),
    ]);
    let list = Operation::get(
        "/api/v1/approvals",
        "Requests for approval by a second person that the caller may see, newest first; what needs one here; and whether \
         the glass is broken, so that nothing does",
        schema::list(schema::approval()),
    )
    .paged("before", "only requests with a number below this one")
    .with("waiting", Place::Query, schema::truth(), "only those that wait for a decision")
    .beside("required", schema::list(schema::one_of(&actions)))
    .beside("broken-glass", schema::maybe(glass));
    table.add(list, requests);
    let one = Operation::get("/api/v1/approvals/{number}", "One request", schema::approval());
    table.add(
        one.with("number", Place::Path, schema::count(), "its number"),
        |desk: &Desk, call: &Call, one: One| {
            let found = seen(desk, call, one.number)?;
            Answer::data(shown(desk, call, &found)?)
        },
    );
    for (word, approve, what) in [
        (
            "approve",
            true,
            "Approve what somebody else asks for: it can then be done once",
        ),
        ("deny", false, "Deny what somebody else asks for"),
    ] {
        let path = match approve {
            true => "/api/v1/approvals/{number}/approve",
            false => "/api/v1/approvals/{number}/deny",
        };
        debug_assert!(path.ends_with(word));
        let decide = Operation::of(Method::POST, path, what, schema::approval())
            .with("number", Place::Path, schema::count(), "the request")
            .with(
                "remark",
                Place::Body,
                schema::text(),
                "what is said about it; may be empty",
            );
        table.add(decide, move |desk: &Desk, call: &Call, decided: Decided| {
            decide_on(desk, call, &decided, approve)
        });
    }
    let reason = Operation::of(
        Method::POST,
        "/api/v1/approvals/{number}/reason",
        "Say why one asks",
        schema::approval(),
    )
    .with("number", Place::Path, schema::count(), "the request")
    .with("reason", Place::Body, schema::text(), "why");
    table.add(reason, say_why);
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    limit: Option<u32>,
    before: Option<u64>,
    #[serde(default)]
    waiting: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    number: u64,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Decided {
    number: u64,
    remark: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Why {
    number: u64,
    reason: String,
}

/// A request of a number that the caller may see.
fn seen(desk: &Desk, call: &Call, number: u64) -> ApiResult<Request> {
    let none = || ApiError::not_found(format!("there is no request {number} that you may see"));
    let found = desk
        .gate
        .state()
        .approval(number)
        .map_err(failed)?
        .ok_or_else(none)?;
    if desk.gate.may_see(call.who()?, &found) {
        Ok(found)
    } else {
        Err(none())
    }
}

fn shown(desk: &Desk, call: &Call, request: &Request) -> ApiResult<Value> {
    let (who, now) = (call.who()?, Timestamp::now());
    let standing = request.standing(now);
    let may = standing == Standing::Waiting
        && who.token().is_none()
        && desk.gate.may_decide(who.user(), request, now);
    Ok(json!({
        "number": request.number,
        "action": request.action,
        "path": request.path,
        "subject": request.subject,
        "digest": request.digest.to_string(),
        "reason": request.reason,
        "who": request.who,
        "asked": request.asked,
        "expires": request.expires,
        "standing": standing.name(),
        "decision": request.decision.as_ref().map(|decision| json!({
            "approved": decision.approved,
            "by": decision.by,
            "at": decision.at,
            "remark": decision.remark,
        })),
        "used": request.used,
        "may-decide": may,
    }))
}

fn requests(desk: &Desk, call: &Call, wanted: Wanted) -> ApiResult<Answer> {
    let limit = limit(wanted.limit)?;
    let (who, now, state) = (call.who()?, Timestamp::now(), desk.gate.state());
    let (mut found, mut before, mut next) = (Vec::new(), wanted.before, None);
    loop {
        let filter = ApprovalFilter {
            waiting: wanted.waiting.then_some(now),
            before,
            limit: Some(AT_ONCE),
        };
        let rows = state.approvals(&filter).map_err(failed)?;
        before = rows.last().map(|last| last.number);
        let last = rows.len() < AT_ONCE as usize;
        for request in rows {
            if !desk.gate.may_see(who, &request) {
                continue;
            }
            if found.len() == limit {
                // Numbers of what the caller may not see are not told.
                next = found.last().map(|last: &Request| last.number);
                break;
            }
            found.push(request);
        }
        if last || next.is_some() {
            break;
        }
    }
    let list: Vec<Value> = found
        .iter()
        .map(|request| shown(desk, call, request))
        .collect::<ApiResult<_>>()?;
    let glass = state.broken_glass(now).map_err(failed)?;
    let glass = glass.map(
        |glass| json!({"who": glass.who, "reason": glass.reason, "since": glass.since, "until": glass.until}),
    );
    Ok(Answer::data(list)?
        .with("next", next)
        .with("required", json!(desk.gate.approvals_config().required))
        .with("broken-glass", glass))
}

fn decide_on(desk: &Desk, call: &Call, decided: &Decided, approve: bool) -> ApiResult<Answer> {
    let (who, now) = (call.who()?, Timestamp::now());
    let found = seen(desk, call, decided.number)?;
    if let Some(why) = desk.gate.may_not_decide(who, &found, now) {
        return Err(ApiError::new(StatusCode::FORBIDDEN, why));
    }
    let done = desk
        .gate
        .decide(who, found.number, approve, &decided.remark, now)
        .map_err(failed)?;
    Answer::data(shown(desk, call, &done)?)
}

fn say_why(desk: &Desk, call: &Call, why: Why) -> ApiResult<Answer> {
    let found = seen(desk, call, why.number)?;
    crate::approvals::check_words(&why.reason).map_err(failed)?;
    desk.gate
        .state()
        .set_approval_reason(found.number, call.who()?, &why.reason, Timestamp::now())
        .map_err(failed)?;
    let found = seen(desk, call, why.number)?;
    Answer::data(shown(desk, call, &found)?)
}
