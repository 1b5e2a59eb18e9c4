//! `/account`: what somebody who is logged in may do with its own second factor.

use http::{Method, StatusCode};
use relight_pbs::access::{Action, Guarded, Privileges, UserId};
use relight_pbs::service::http::{Answer, ApiError, ApiResult, Call, NoParameters, blocking};
use serde::Deserialize;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::operation::{Operation, Place, Table};
use super::people::USERS;
use super::session::logged_in_by_cookie;
use super::{Desk, failed, schema};
use crate::gate::Refusal;
use crate::rest::refused_log_in;
use crate::signin::{QrPicture, TotpSecret};

const PATH: &str = "/api/v1/account";
const FACTOR: &str = "/api/v1/account/second-factor";
const PASSWORD: &str = "the password until now, so that a stolen ticket changes nothing";
const OTP: &str = "a code of the app, or a recovery code; empty without a second factor";

/// Shape of a new secret.
pub(super) fn new_secret() -> Value {
    let qr = schema::object(vec![("side", schema::count()), ("path", schema::text())]);
    schema::object(vec![
        ("secret", schema::text()),
        ("uri", schema::text()),
        ("qr", qr),
    ])
}

/// A new secret, as it is shown once.
pub(super) fn shown(desk: &Desk, user: &UserId, secret: &TotpSecret) -> ApiResult<Answer> {
    let uri = secret.uri(&desk.context.host, user.as_str());
    let qr = QrPicture::of(&uri).map_err(failed)?;
    Answer::data(json!({
        "secret": *secret.text(), "uri": *uri, "qr": {"side": qr.side(), "path": *qr.path()},
    }))
}

pub(super) fn operations(table: &mut Table<'_>) {
    let factor = schema::object(vec![
        ("since", schema::time()),
        ("recovery-codes", schema::count()),
    ]);
    let account = schema::object(vec![
        ("user", schema::text()),
        ("password", schema::truth()),
        ("second-factor", schema::maybe(factor)),
        ("required", schema::truth()),
    ]);
    table.add(
        Operation::get(PATH, "How the caller proves who it is", account),
        |desk: &Desk, call: &Call, _: NoParameters| account_of(desk, call),
    );
    let begin = Operation::of(
        Method::POST,
        FACTOR,
        "Make the secret of a second factor",
        new_secret(),
    )
    .with("password", Place::Body, schema::text(), PASSWORD);
    table.add_waiting(begin, |desk, call, begin: Begin| async move {
        let user = itself(&call)?;
        let password = Zeroizing::new(begin.password);
        let checked = desk
            .gate
            .check_password(user.as_str(), &password, call.peer())
            .await;
        checked.map_err(|refusal| not_proven(&call, refusal))?;
        blocking(move || {
            let secret = desk.gate.state().begin_totp(&user).map_err(failed)?;
            shown(&desk, &user, &secret)
        })
        .await
    });
    let logged_in = schema::object(vec![
        ("user", schema::maybe(schema::text())),
        ("csrf", schema::maybe(schema::text())),
        ("may", schema::list(schema::text())),
        ("recovery-codes", schema::list(schema::text())),
    ]);
    let confirm = Operation::of(
        Method::PUT,
        FACTOR,
        "Confirm it by a first code: recovery codes are shown once, and all other sessions of the caller end",
        logged_in.clone(),
    )
    .with("otp", Place::Body, schema::text(), "a code of the app");
    table.add(confirm, |desk: &Desk, call: &Call, confirm: Confirm| {
        let user = itself(call)?;
        let done = desk.gate.confirm_totp(&user, &confirm.otp).map_err(failed)?;
        let wrong = || {
            ApiError::bad_request(
                "the code is wrong: look whether the clocks of this server and the app are right",
            )
        };
        logged_in_by_cookie(call, &done.ok_or_else(wrong)?)
    });
    let both = |operation: Operation| {
        operation
            .with("password", Place::Body, schema::text(), PASSWORD)
            .with("otp", Place::Body, schema::text(), OTP)
    };
    let remove = both(Operation::of(
        Method::POST,
        "/api/v1/account/second-factor/remove",
        "Take the second factor away; all other sessions of the caller end",
        logged_in,
    ));
    table.add_waiting(remove, |desk, call, proof: Proof| async move {
        let user = proven(&desk, &call, proof).await?;
        blocking(move || {
            desk.gate.state().remove_second_factor(&user).map_err(failed)?;
            let again = desk.gate.again(&user, None);
            logged_in_by_cookie(&call, &again.map_err(|refusal| refused_log_in(&call, refusal))?)
        })
        .await
    });
    let of_another = Operation::of(
        Method::DELETE,
        "/api/v1/users/{user}/second-factor",
        "Take away the second factor of somebody else, who has lost it: its sessions end. Needs Permissions.Modify at /access/users, \
         and a second person where that is configured (access)",
        json!({"type": "null"}),
    )
    .with("user", Place::Path, schema::text(), "whose");
    table.add(of_another, remove_of_another);
    let codes = schema::object(vec![("recovery-codes", schema::list(schema::text()))]);
    let codes = both(Operation::of(
        Method::POST,
        "/api/v1/account/recovery-codes",
        "Make new recovery codes; those from before are good no more",
        codes,
    ));
    table.add_waiting(codes, |desk, call, proof: Proof| async move {
        let user = proven(&desk, &call, proof).await?;
        blocking(move || {
            let codes = desk.gate.state().new_recovery_codes(&user).map_err(failed)?;
            Answer::data(json!({"recovery-codes": *codes}))
        })
        .await
    });
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Whose {
    user: UserId,
}

/// Takes the second factor of somebody else away, who has lost it.
fn remove_of_another(desk: &Desk, call: &Call, whose: Whose) -> ApiResult<Answer> {
    call.require(USERS, Privileges::PERMISSIONS_MODIFY)?;
    let user = whose.user;
    if user == *call.who()?.user() {
        return Err(ApiError::bad_request(
            "that is your own: take it away in your account, with the password and a code",
        ));
    }
    let state = desk.gate.state();
    if state.second_factor(&user).map_err(failed)?.is_none() {
        return Err(ApiError::not_found(format!("{user} has no second factor")));
    }
    // Whoever can do this and change the password is that user: together with a second person only, where that is configured.
    let guarded = Guarded {
        action: Action::Access,
        path: "/access",
        subject: &format!("take the second factor of the user {user} away"),
        exact: "",
        reason: None,
    };
    call.guarded(&guarded, || {
        state.remove_second_factor(&user).map_err(failed)?;
        Ok(Answer::null())
    })
}

/// The user who calls. A token is none: whoever has one must not get at more.
fn itself(call: &Call) -> ApiResult<UserId> {
    let who = call.who()?;
    match who.token() {
        None => Ok(who.user().clone()),
        Some(_) => Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "a token has no account: log in with the password",
        )),
    }
}

/// Somebody who is logged in and cannot prove it again is not logged out for that.
fn not_proven(call: &Call, refusal: Refusal) -> ApiError {
    match refusal {
        Refusal::Wrong => ApiError::bad_request("the password is wrong"),
        Refusal::WrongCode => ApiError::bad_request("the code is wrong, or was used already"),
        other => refused_log_in(call, other),
    }
}

async fn proven(desk: &Desk, call: &Call, proof: Proof) -> ApiResult<UserId> {
    let user = itself(call)?;
    let (password, otp) = (Zeroizing::new(proof.password), Zeroizing::new(proof.otp));
    let proven = desk.gate.prove(&user, &password, Some(&otp), call.peer()).await;
    proven.map_err(|refusal| not_proven(call, refusal))?;
    Ok(user)
}

fn account_of(desk: &Desk, call: &Call) -> ApiResult<Answer> {
    let user = itself(call)?;
    let known = desk.gate.state().known().map_err(failed)?;
    let found = known.user(&user).ok_or_else(ApiError::unauthorized)?;
    let factor = desk.gate.state().second_factor(&user).map_err(failed)?;
    let since = |since| {
        jiff::Timestamp::from_second(since)
            .unwrap_or_default()
            .to_string()
    };
    let factor = factor.map(|factor| json!({"since": since(factor.since), "recovery-codes": factor.codes}));
    Answer::data(json!({
        "user": user, "password": desk.gate.has_password(found), "second-factor": factor,
        "required": desk.gate.must_have_factor(found),
    }))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Begin {
    password: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Confirm {
    otp: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Proof {
    password: String,
    otp: String,
}
