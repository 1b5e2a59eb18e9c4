//! `/session`: log-in and log-out of browsers. The ticket is in a cookie that scripts cannot read.

use std::sync::Arc;

use http::header::{HeaderValue, SET_COOKIE};
use http::{Method, StatusCode};
use jiff::Timestamp;
use relight_pbs::access::{AuthId, Privileges};
use relight_pbs::service::http::{Answer, ApiError, ApiResult, Call, NoParameters};
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::operation::{Operation, Place, Table};
use super::sight::SYSTEM;
use super::{Desk, failed, schema, second_factor};
use crate::gate::{Challenge, LogIn, LoggedIn, Refusal};
use crate::rest::refused_log_in;

const PATH: &str = "/api/v1/session";
const SECOND: &str = "/api/v1/session/second-factor";
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
    let logged_in = log_in_answer();
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
    let log_in = Operation::of(
        Method::POST,
        PATH,
        "Log in; the ticket comes as a cookie, or the question for a second factor in its place",
        logged_in.clone(),
    )
    .with("user", Place::Body, schema::text(), "such as jane@pbs")
    .with("password", Place::Body, schema::text(), "the password")
    .public();
    table.add_waiting(log_in, |desk, call, login: Login| async move {
        log_in_by_cookie(&desk, &call, login).await
    });
    let answer = Operation::of(
        Method::POST,
        SECOND,
        "Answer the question for a second factor",
        logged_in,
    )
    .with("user", Place::Body, schema::text(), "who was asked")
    .with(
        "ticket",
        Place::Body,
        schema::text(),
        "what came with the question, within five minutes",
    )
    .with(
        "otp",
        Place::Body,
        schema::text(),
        "a code of the app, or a recovery code",
    )
    .public();
    table.add_waiting(answer, |desk, call, answer: SecondFactor| async move {
        require_own_page(&call)?;
        let SecondFactor { user, ticket, otp } = answer;
        let otp = Zeroizing::new(otp);
        let done = desk.gate.second_factor(&user, &ticket, &otp, call.peer()).await;
        logged_in_by_cookie(&call, &done.map_err(|refusal| refused_log_in(&call, refusal))?)
    });
    let begin = Operation::of(
        Method::POST,
        "/api/v1/session/enrolment",
        "Make the secret of a second factor, for whoever was asked for one and has none yet",
        second_factor::new_secret(),
    )
    .with("user", Place::Body, schema::text(), "who was asked")
    .with(
        "ticket",
        Place::Body,
        schema::text(),
        "what came with the question",
    )
    .public();
    table.add(begin, |desk: &Desk, call: &Call, asked: Asked| {
        require_own_page(call)?;
        let made = desk.gate.begin_by_challenge(&asked.user, &asked.ticket);
        let (user, secret) = made.map_err(failed)?;
        second_factor::shown(desk, &user, &secret)
    });
    table.add(
        Operation::of(
            Method::DELETE,
            PATH,
            "Log out: the session ends at once, with what was renewed from it, and the browser forgets the ticket",
            json!({"type": "null"}),
        ),
        |desk: &Desk, call: &Call, _: NoParameters| {
            if let Some(session) = crate::gate::session_of_call(call) {
                // One that was opened before sessions were kept has only its time.
                let _ = desk.gate.end_session(&session, Timestamp::now());
            }
            Ok(with_cookie(Answer::null(), FORGOTTEN))
        },
    );
}

/// Shape of what a log-in answers.
pub(super) fn log_in_answer() -> Value {
    let asked = schema::object(vec![
        ("user", schema::text()),
        ("ticket", schema::text()),
        ("enrolled", schema::truth()),
        ("recovery-codes", schema::count()),
    ]);
    schema::object(vec![
        ("user", schema::maybe(schema::text())),
        ("csrf", schema::maybe(schema::text())),
        ("may", schema::list(schema::text())),
        ("second-factor", schema::maybe(asked)),
        ("recovery-codes", schema::list(schema::text())),
    ])
}

const FORGOTTEN: HeaderValue =
    HeaderValue::from_static("__Host-PBSAuthCookie=; Max-Age=0; Secure; HttpOnly; SameSite=Strict; Path=/");

pub(super) fn with_cookie(answer: Answer, cookie: HeaderValue) -> Answer {
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

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct SecondFactor {
    user: String,
    ticket: String,
    otp: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    user: String,
    ticket: String,
}

/// Pages of others must not log anybody in here as somebody else. What sends no such header is no browser of today.
pub(super) fn require_own_page(call: &Call) -> ApiResult<()> {
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
    let done = desk.gate.log_in(&login.user, &password, call.peer()).await;
    match done.map_err(|refusal| refused_log_in(call, refusal))? {
        LogIn::Done(done) => logged_in_by_cookie(call, &done),
        LogIn::SecondFactor(Challenge { user, ticket, factor }) => Answer::data(json!({
            "user": null, "csrf": null, "may": [], "recovery-codes": [],
            "second-factor": {
                "user": user, "ticket": ticket, "enrolled": factor.is_some(),
                "recovery-codes": factor.map_or(0, |factor| factor.codes),
            },
        })),
    }
}

/// The cookie of a log-in, and what is told with it.
pub(super) fn logged_in_by_cookie(call: &Call, done: &LoggedIn) -> ApiResult<Answer> {
    let who = AuthId::from(done.user.clone());
    let data = json!({
        "user": who.to_string(), "csrf": done.issued.csrf, "may": may(call, &who), "second-factor": null,
        "recovery-codes": done.codes.as_deref().map_or(&[][..], Vec::as_slice),
    });
    Ok(with_cookie(Answer::data(data)?, cookie(done)?))
}

/// The cookie with a ticket.
pub(super) fn cookie(done: &LoggedIn) -> ApiResult<HeaderValue> {
    let ticket = percent_encoding::utf8_percent_encode(&done.issued.ticket, ESCAPED);
    let cookie = format!("__Host-PBSAuthCookie={ticket}; Secure; HttpOnly; SameSite=Strict; Path=/");
    HeaderValue::from_str(&cookie).map_err(|error| ApiError::internal(error.to_string()))
}
