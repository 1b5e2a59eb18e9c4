//! The calls that are about the server rather than about a datastore: log-in, users, tokens, rules, the host.

mod acl;
mod host;
mod node;
mod ticket;
mod tokens;
mod users;

use std::sync::Arc;

use http::StatusCode;
use relight_pbs::access::{AuthId, Privileges, UserId};
use relight_pbs::service::http::{ApiError, ApiResult, Call, Router};

use crate::error::ServerError;
use crate::gate::Gate;

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

/// A failed change, as clients see it.
fn failed(error: ServerError) -> ApiError {
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
fn require_self_or_modify(call: &Call, user: &UserId) -> ApiResult<()> {
    if is_self(call.who()?, user) {
        Ok(())
    } else {
        call.require("/access/users", Privileges::PERMISSIONS_MODIFY)
    }
}

fn is_self(who: &AuthId, user: &UserId) -> bool {
    who.token().is_none() && who.user() == user
}
