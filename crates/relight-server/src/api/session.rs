//! `/session`: log-in and log-out of browsers. The ticket is in a cookie that scripts cannot read.

use std::sync::Arc;

use http::header::{HeaderValue, SET_COOKIE};
use http::{Method, StatusCode};
use relight_pbs::access::{AuthId, Privileges};
use relight_pbs::service::http::{Answer, ApiError, ApiResult, Call, NoParameters};
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::operation::{Operation, Place, Table};
use super::sight::SYSTEM;
use super::{Desk, schema};
use crate::gate::Refusal;
use crate::rest::refused_log_in;

const PATH: &str = "/api/v1/session";
/// What is no part of a value of a cookie (RFC 6265, section 4.1.1), and the sign of escapes itself.
const ESCAPED: &percent_encoding::AsciiSet = &percent_encoding::CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b',')
    .add(b';')
    .add(b'\\')
    .add(b'%');

pub(super) fn operations(table: &mut Table<'_>) {
    let answer = schema::object(vec![
        ("user", schema::maybe(schema::text())),
        ("csrf", schema::maybe(schema::text())),
        ("may", schema::list(schema::text())),
    ]);
    table.add(
        Operation::get(
            PATH,
            "Who sends this, and the token without which a ticket changes nothing; nulls for strangers",
            answer.clone(),
        )
        .public(),
        |desk: &Desk, call: &Call, _: NoParameters| match call.who() {
            Ok(who) => Answer::data(session(desk, call, who)?),
            Err(_) => Answer::data(json!({"user": null, "csrf": null, "may": []})),
        },
    );
    let log_in = Operation::of(Method::POST, PATH, "Log in; the ticket comes as a cookie", answer)
        .with("user", Place::Body, schema::text(), "such as jane@pbs")
        .with("password", Place::Body, schema::text(), "the password")
        .public();
    table.add_waiting(log_in, |desk, call, login: Login| async move {
        log_in_by_cookie(&desk, &call, login).await
    });
    table.add(
        Operation::of(
            Method::DELETE,
            PATH,
            "Log out: the browser forgets the ticket, which ends by itself after two hours",
            json!({"type": "null"}),
        ),
        |_: &Desk, _: &Call, _: NoParameters| Ok(with_cookie(Answer::null(), FORGOTTEN)),
    );
}

const FORGOTTEN: HeaderValue =
    HeaderValue::from_static("__Host-PBSAuthCookie=; Max-Age=0; Secure; HttpOnly; SameSite=Strict; Path=/");

fn with_cookie(answer: Answer, cookie: HeaderValue) -> Answer {
    answer.header(SET_COOKIE, cookie)
}

fn session(desk: &Desk, call: &Call, who: &AuthId) -> ApiResult<Value> {
    // A token needs none: no browser sends it by itself.
    let csrf = match who.token() {
        None => desk.gate.csrf(who.user()),
        Some(_) => None,
    };
    Ok(json!({"user": who.to_string(), "csrf": csrf, "may": may(call, who)}))
}

/// The server's privileges of a caller, by which a page knows what to offer.
fn may(call: &Call, who: &AuthId) -> Vec<&'static str> {
    let has: Privileges = call.access().privileges(who, SYSTEM);
    has.names().collect()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Login {
    user: String,
    password: String,
}

/// Pages of others must not log anybody in here as somebody else. What sends no such header is no browser of today.
fn require_own_page(call: &Call) -> ApiResult<()> {
    match call.headers().get("sec-fetch-site").map(HeaderValue::as_bytes) {
        None | Some(b"same-origin" | b"none") => Ok(()),
        Some(_) => Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "a page of another site may not log in here",
        )),
    }
}

async fn log_in_by_cookie(desk: &Arc<Desk>, call: &Call, login: Login) -> ApiResult<Answer> {
    require_own_page(call)?;
    let password = Zeroizing::new(login.password);
    // A ticket is no password here: a session does not outlive its two hours by itself.
    if password.starts_with("PBS:") {
        return Err(refused_log_in(call, Refusal::Wrong));
    }
    let logged_in = desk.gate.log_in(&login.user, &password, call.peer()).await;
    let (user, issued) = logged_in.map_err(|refusal| refused_log_in(call, refusal))?;
    let ticket = percent_encoding::utf8_percent_encode(&issued.ticket, ESCAPED);
    let cookie = format!("__Host-PBSAuthCookie={ticket}; Secure; HttpOnly; SameSite=Strict; Path=/");
    let cookie = HeaderValue::from_str(&cookie).map_err(|error| ApiError::internal(error.to_string()))?;
    let who = AuthId::from(user);
    let data = json!({"user": who.to_string(), "csrf": issued.csrf, "may": may(call, &who)});
    Ok(with_cookie(Answer::data(data)?, cookie))
}
