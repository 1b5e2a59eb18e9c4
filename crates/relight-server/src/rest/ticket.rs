//! Log-in and passwords.

use std::sync::Arc;

use http::header::RETRY_AFTER;
use http::{Method, StatusCode};
use relight_pbs::access::{Action, Guarded, UserId};
use relight_pbs::service::http::{Answer, ApiError, ApiResult, Call, Router, blocking};
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::{failed, is_self, require_self_or_modify};
use crate::gate::{CSRF_TICKET, Gate, LogIn, LoggedIn, Refusal};
use crate::state::PasswordHash;

pub(super) fn routes(router: &mut Router, gate: &Arc<Gate>) {
    let of = gate.clone();
    router
        .on(Method::POST, "/access/ticket", move |call, login: Login| {
            let gate = of.clone();
            async move { log_in(&gate, &call, login).await }
        })
        .public();
    let of = gate.clone();
    router.on(Method::PUT, "/access/password", move |call, change: Password| {
        let gate = of.clone();
        async move { set_password(gate, call, change).await }
    });
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Login {
    username: String,
    password: String,
    /// Instead of one in the name.
    realm: Option<String>,
    /// Asks for the form of answer that this server gives anyway.
    #[serde(default, rename = "new-format")]
    _new_format: Option<bool>,
    /// What asked for a second factor; the password is then `totp:CODE` or `recovery:CODE`.
    tfa_challenge: Option<String>,
}

async fn log_in(gate: &Gate, call: &Call, login: Login) -> ApiResult<Answer> {
    let user = match &login.realm {
        Some(realm) if !login.username.contains('@') => format!("{}@{realm}", login.username),
        _ => login.username,
    };
    let password = Zeroizing::new(login.password);
    let refused = |refusal| refused_log_in(call, refusal);
    if let Some(challenge) = login.tfa_challenge {
        // The original names the kind of the answer.
        let code = password
            .strip_prefix("totp:")
            .or_else(|| password.strip_prefix("recovery:"));
        let code = code.ok_or_else(|| ApiError::bad_request("the answer is totp:CODE or recovery:CODE"))?;
        let done = gate.second_factor(&user, &challenge, code, call.peer()).await;
        return logged_in(&done.map_err(refused)?);
    }
    match gate
        .log_in(&user, &password, call.peer())
        .await
        .map_err(refused)?
    {
        LogIn::Done(done) => logged_in(&done),
        LogIn::SecondFactor(asked) if asked.factor.is_none() => Err(ApiError::new(
            StatusCode::FORBIDDEN,
            "a second factor is required: log in on the server's page once to make one",
        )),
        LogIn::SecondFactor(asked) => {
            let data =
                json!({"username": asked.user, "ticket": asked.ticket, CSRF_TICKET: "invalid", "NeedTFA": 1});
            Ok(Answer::data(data)?.with("status", 200).with("success", true))
        }
    }
}

fn logged_in(done: &LoggedIn) -> ApiResult<Answer> {
    let data = json!({"username": done.user, "ticket": done.issued.ticket, CSRF_TICKET: done.issued.csrf});
    Ok(Answer::data(data)?.with("status", 200).with("success", true))
}

/// A log-in that was refused, as callers see it.
pub(crate) fn refused_log_in(call: &Call, refusal: Refusal) -> ApiError {
    match refusal {
        Refusal::Wrong => ApiError::new(StatusCode::UNAUTHORIZED, "permission check failed."),
        Refusal::WrongCode => ApiError::new(
            StatusCode::UNAUTHORIZED,
            "the code is wrong, was used already, or came too late",
        ),
        Refusal::Unavailable => ApiError::new(
            StatusCode::SERVICE_UNAVAILABLE,
            "the directory of this realm cannot be asked now; users of this server itself can log in",
        ),
        Refusal::TooMany(seconds) => {
            tracing::warn!(target: "audit", peer = ?call.peer(), "too many wrong passwords or codes; none is looked at for {seconds} s");
            ApiError::new(
                StatusCode::TOO_MANY_REQUESTS,
                format!("too many wrong passwords or codes; try again in {seconds} seconds"),
            )
            .with_header(RETRY_AFTER, seconds.into())
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Password {
    userid: UserId,
    password: String,
    /// The old one; whoever changes its own must know it, so that a stolen ticket cannot.
    confirmation_password: Option<String>,
}

async fn set_password(gate: Arc<Gate>, call: Call, change: Password) -> ApiResult<Answer> {
    require_self_or_modify(&call, &change.userid)?;
    if !gate.keeps_password(&change.userid) {
        return Err(ApiError::bad_request(
            "the password is kept elsewhere: change it there",
        ));
    }
    if is_self(call.who()?, &change.userid) {
        let old = Zeroizing::new(change.confirmation_password.unwrap_or_default());
        let checked = gate
            .check_password(change.userid.as_str(), &old, call.peer())
            .await;
        if checked.is_err() {
            return Err(ApiError::bad_request(
                "confirmation-password is not the password until now",
            ));
        }
    }
    let password = Zeroizing::new(change.password);
    blocking(move || {
        let hash = PasswordHash::new(password.as_bytes()).map_err(failed)?;
        let set = || {
            gate.state().set_password(&change.userid, &hash).map_err(failed)?;
            Ok(Answer::null())
        };
        if is_self(call.who()?, &change.userid) {
            return set();
        }
        // Else one person could be two. The password is no part of what is approved: nothing of it may be kept.
        let guarded = Guarded {
            action: Action::Access,
            path: "/access",
            subject: &format!("give the user {} a new password", change.userid),
            exact: "",
            reason: None,
        };
        call.guarded(&guarded, set)
    })
    .await
}
