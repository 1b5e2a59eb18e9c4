//! `/users`, `/rules`: users, their tokens and what they may do, changed.

use http::Method;
use jiff::Timestamp;
use relight_pbs::access::{AclPath, AuthId, Grantee, Privileges, UserId};
use relight_pbs::service::http::{Answer, ApiError, ApiResult, Call};
use serde::Deserialize;
use serde_json::json;
use zeroize::Zeroizing;

use super::operation::{Operation, Place, Table};
use super::people::USERS;
use super::{Desk, failed, schema};
use crate::rest::{RuleChange, change_rule, remove_user, require_self_or_modify};
use crate::signin::not_made_here;
use crate::state::{PasswordHash, TokenChange, UserChange};

pub(super) fn operations(table: &mut Table<'_>) {
    let nothing = || json!({"type": "null"});
    let add = Operation::of(
        Method::POST,
        "/api/v1/users",
        "Add a user of this server, who may do nothing yet; needs Permissions.Modify at /access/users",
        nothing(),
    )
    .with("user", Place::Body, schema::text(), "such as jane@pbs")
    .with(
        "password",
        Place::Body,
        schema::maybe(schema::text()),
        "of 8 bytes at least; null: it logs in with tokens only",
    )
    .with(
        "comment",
        Place::Body,
        schema::text(),
        "who that is; may be empty",
    );
    table.add(add, add_user);
    let change = Operation::of(
        Method::PUT,
        "/api/v1/users/{user}",
        "Let a user in or keep it out, with its tokens and sessions, at once; needs Permissions.Modify at /access/users",
        nothing(),
    )
    .with("user", Place::Path, schema::text(), "such as jane@pbs")
    .with("enabled", Place::Body, schema::truth(), "whether it may do anything at all");
    table.add(change, change_user);
    let remove = Operation::of(
        Method::DELETE,
        "/api/v1/users/{user}",
        "Remove a user for good, with its tokens, roles and sessions, at once; not oneself. Needs Permissions.Modify at \
         /access/users, and a second person where that is configured (access)",
        nothing(),
    )
    .with("user", Place::Path, schema::text(), "such as jane@pbs");
    table.add(remove, |desk: &Desk, call: &Call, gone: Gone| {
        remove_user(&desk.gate, call, &gone.user)
    });
    let token = schema::object(vec![("token", schema::text()), ("secret", schema::text())]);
    let add = Operation::of(
        Method::POST,
        "/api/v1/users/{user}/tokens",
        "Make a token for a program; its secret is told only now. Of others it needs Permissions.Modify at /access/users",
        token,
    )
    .with("user", Place::Path, schema::text(), "whose")
    .with("name", Place::Body, schema::text(), "such as laptop")
    .with(
        "expires",
        Place::Body,
        schema::maybe(schema::time()),
        "when it stops working; null is never",
    );
    table.add(add, add_token);
    let remove = Operation::of(
        Method::DELETE,
        "/api/v1/users/{user}/tokens/{token}",
        "Take a token away at once; of others it needs Permissions.Modify at /access/users",
        nothing(),
    )
    .with("user", Place::Path, schema::text(), "whose")
    .with("token", Place::Path, schema::text(), "its name, such as laptop");
    table.add(remove, remove_token);
    for (method, what, delete) in [
        (
            Method::PUT,
            "Give a user, a token or a group a role at a path; needs Permissions.Modify at /access/acl, and a second person where \
             that is configured (access)",
            false,
        ),
        (Method::DELETE, "Take a role at a path away; needs the same", true),
    ] {
        let place = if delete { Place::Query } else { Place::Body };
        let mut rule = Operation::of(method, "/api/v1/rules", what, nothing())
            .with("path", place, schema::text(), "such as /datastore/main")
            .with(
                "who",
                place,
                schema::text(),
                "NAME@REALM, NAME@REALM!TOKEN or @GROUP@REALM",
            )
            .with("role", place, schema::text(), "as /roles names it");
        if !delete {
            rule = rule.with(
                "below",
                place,
                schema::truth(),
                "whether it holds for all that is below as well",
            );
        }
        table.add(rule, move |desk: &Desk, call: &Call, rule: RuleAsked| {
            let change = RuleChange {
                path: rule.path,
                who: rule.who,
                role: rule.role,
                propagate: rule.below,
                delete,
            };
            change_rule(&desk.gate, call, change)
        });
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewUser {
    user: UserId,
    password: Option<String>,
    comment: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    user: UserId,
    enabled: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Gone {
    user: UserId,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct NewToken {
    user: UserId,
    name: String,
    expires: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct OneToken {
    user: UserId,
    token: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RuleAsked {
    path: AclPath,
    who: Grantee,
    role: String,
    #[serde(default = "holds_below")]
    below: bool,
}

fn holds_below() -> bool {
    true
}

fn add_user(desk: &Desk, call: &Call, new: NewUser) -> ApiResult<Answer> {
    call.require(USERS, Privileges::PERMISSIONS_MODIFY)?;
    if !desk.gate.keeps_password(&new.user) {
        return Err(failed(not_made_here(&new.user)));
    }
    let password = new.password.map(Zeroizing::new);
    let hash = password
        .map(|password| PasswordHash::new(password.as_bytes()))
        .transpose()
        .map_err(failed)?;
    let settings = UserChange {
        comment: Some(new.comment),
        ..UserChange::default()
    };
    let state = desk.gate.state();
    state
        .add_user(&new.user, hash.as_ref(), &settings)
        .map_err(failed)?;
    Ok(Answer::null())
}

fn change_user(desk: &Desk, call: &Call, change: Change) -> ApiResult<Answer> {
    call.require(USERS, Privileges::PERMISSIONS_MODIFY)?;
    if !change.enabled && *call.who()?.user() == change.user {
        return Err(ApiError::bad_request(
            "you would keep yourself out: let somebody else do that",
        ));
    }
    let settings = UserChange {
        enabled: Some(change.enabled),
        ..UserChange::default()
    };
    let state = desk.gate.state();
    state.change_user(&change.user, &settings).map_err(failed)?;
    Ok(Answer::null())
}

fn id(user: UserId, name: &str) -> ApiResult<AuthId> {
    AuthId::of_token(user, name).map_err(|error| ApiError::bad_request(error.to_string()))
}

fn add_token(desk: &Desk, call: &Call, new: NewToken) -> ApiResult<Answer> {
    require_self_or_modify(call, &new.user)?;
    if new.expires.is_some_and(|end| end <= Timestamp::now()) {
        return Err(ApiError::bad_request("it would have expired already"));
    }
    let id = id(new.user, &new.name)?;
    let settings = TokenChange {
        expires: new.expires.map(Timestamp::as_second),
        ..TokenChange::default()
    };
    let secret = desk.gate.state().add_token(&id, &settings).map_err(failed)?;
    Answer::data(json!({"token": id, "secret": secret.text()}))
}

fn remove_token(desk: &Desk, call: &Call, one: OneToken) -> ApiResult<Answer> {
    require_self_or_modify(call, &one.user)?;
    let id = id(one.user, &one.token)?;
    desk.gate.state().remove_token(&id).map_err(failed)?;
    Ok(Answer::null())
}
