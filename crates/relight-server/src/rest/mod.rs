//! The calls that are about the server rather than about a datastore: log-in, users, tokens, rules, the host.

mod acl;
mod host;
mod job_lists;
mod node;
mod remotes;
mod sync_jobs;
mod ticket;
mod tokens;
mod users;

pub(crate) use acl::{RuleChange, change as change_rule, seen as seen_rules};
pub(crate) use ticket::refused_log_in;
pub(crate) use users::remove as remove_user;

use std::sync::Arc;

use http::StatusCode;
use relight_pbs::access::{AuthId, Privileges, UserId};
use relight_pbs::service::http::{ApiError, ApiResult, Call, Router};
use serde::Serialize;

use crate::error::ServerError;
use crate::gate::Gate;
use crate::jobs::Jobs;

/// What the server says of itself.
pub(crate) struct About {
    /// SHA-256 of its certificate.
    pub(crate) fingerprint: String,
    /// Its identity.
    pub(crate) instance: String,
    /// Its datastores.
    pub(crate) datastores: Vec<String>,
}

/// Adds the routes.
pub(crate) fn routes(router: &mut Router, gate: &Arc<Gate>, about: About) {
    let about = Arc::new(about);
    ticket::routes(router, gate);
    users::routes(router, gate);
    tokens::routes(router, gate);
    acl::routes(router, gate, &about);
    node::routes(router, &about);
}

/// Adds the routes about other servers and jobs.
pub(crate) fn job_routes(router: &mut Router, jobs: &Arc<Jobs>) {
    remotes::routes(router, jobs);
    sync_jobs::routes(router, jobs);
    job_lists::routes(router);
}

/// What changes whenever something in a list does, so that nobody changes what somebody else has just changed.
fn digest(list: &impl Serialize) -> ApiResult<String> {
    let text = serde_json::to_vec(list).map_err(|error| ApiError::internal(error.to_string()))?;
    Ok(hex::encode(aws_lc_rs::digest::digest(
        &aws_lc_rs::digest::SHA256,
        &text,
    )))
}

/// Goes on only if nothing was changed since the caller saw the list, if it tells what it saw.
fn require_digest(seen: Option<&str>, list: &impl Serialize) -> ApiResult<()> {
    match seen {
        Some(seen) if !seen.eq_ignore_ascii_case(&digest(list)?) => Err(ApiError::bad_request(
            "detected modified configuration - file changed by other user? Try again.",
        )),
        _ => Ok(()),
    }
}

/// A failed change, as clients see it.
pub(crate) fn failed(error: ServerError) -> ApiError {
    match error {
        ServerError::Refused(why) => ApiError::bad_request(why),
        other => {
            tracing::error!("{other}");
            ApiError::new(
                StatusCode::INTERNAL_SERVER_ERROR,
                "the state cannot be read or changed; the server's log tells more",
            )
        }
    }
}

/// Goes on only if the caller is this user itself (a token of it is not), or may change users.
pub(crate) fn require_self_or_modify(call: &Call, user: &UserId) -> ApiResult<()> {
    if is_self(call.who()?, user) {
        Ok(())
    } else {
        call.require("/access/users", Privileges::PERMISSIONS_MODIFY)
    }
}

fn is_self(who: &AuthId, user: &UserId) -> bool {
    who.token().is_none() && who.user() == user
}
