//! Users.

use std::sync::Arc;

use http::Method;
use relight_pbs::access::{Action, Guarded, Privileges, UserId};
use relight_pbs::service::http::{Answer, ApiError, ApiResult, Call, Router};
use serde::Deserialize;
use serde_json::{Map, Value};
use zeroize::Zeroizing;

use super::{failed, is_self, require_self_or_modify, tokens};
use crate::gate::Gate;
use crate::signin::not_made_here;
use crate::state::{Known, PasswordHash, User, UserChange};

pub(super) fn routes(router: &mut Router, gate: &Arc<Gate>) {
    let of = gate.clone();
    router.on_blocking(Method::GET, "/access/users", move |call, wanted: Wanted| {
        list(&of, &call, &wanted)
    });
    let of = gate.clone();
    router.on_blocking(Method::POST, "/access/users", move |call, mut new: New| {
        call.require("/access/users", Privileges::PERMISSIONS_MODIFY)?;
        if !of.keeps_password(&new.userid) {
            return Err(failed(not_made_here(&new.userid)));
        }
        let password = new.password.take().map(Zeroizing::new);
        let hash = password
            .map(|password| PasswordHash::new(password.as_bytes()))
            .transpose()
            .map_err(failed)?;
        of.state()
            .add_user(&new.userid, hash.as_ref(), &new.settings())
            .map_err(failed)?;
        Ok(Answer::null())
    });
    let of = gate.clone();
    router.on_blocking(Method::GET, "/access/users/{userid}", move |call, one: One| {
        let known = of.state().known().map_err(failed)?;
        require_to_see(&call, &one.userid)?;
        let user = known.user(&one.userid).ok_or_else(|| no_user(&one.userid))?;
        Answer::data(entry(user))
    });
    let of = gate.clone();
    router.on_blocking(
        Method::PUT,
        "/access/users/{userid}",
        move |call, change: Change| {
            call.require("/access/users", Privileges::PERMISSIONS_MODIFY)?;
            of.state()
                .change_user(&change.userid, &change.settings())
                .map_err(failed)?;
            Ok(Answer::null())
        },
    );
    let of = gate.clone();
    router.on_blocking(Method::DELETE, "/access/users/{userid}", move |call, one: One| {
        remove(&of, &call, &one.userid)
    });
}

/// Removes a user with its tokens, rules and sessions, by whoever may, and with a second person where that is configured.
///
/// # Errors
/// 403: the caller may not; 400: it is the caller itself; 404: there is no such user; 409: nobody has approved it.
pub(crate) fn remove(gate: &Gate, call: &Call, user: &UserId) -> ApiResult<Answer> {
    call.require("/access/users", Privileges::PERMISSIONS_MODIFY)?;
    // Nor by a token: somebody who may change users is always left.
    if call.who()?.user() == user {
        return Err(ApiError::bad_request(
            "you would remove yourself: let somebody else do that",
        ));
    }
    let known = gate.state().known().map_err(failed)?;
    let found = known.user(user).ok_or_else(|| no_user(user))?;
    // It takes roles away, which one person may not do alone either. Who was removed and added again is another one.
    let guarded = Guarded {
        action: Action::Access,
        path: "/access",
        subject: &format!("remove the user {user}, with its tokens and roles"),
        exact: &found.epoch.to_string(),
        reason: None,
    };
    call.guarded(&guarded, || {
        gate.state().remove_user(user).map_err(failed)?;
        Ok(Answer::null())
    })
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Wanted {
    #[serde(default)]
    include_tokens: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct One {
    userid: UserId,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct New {
    userid: UserId,
    password: Option<String>,
    enable: Option<bool>,
    expire: Option<i64>,
    comment: Option<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Change {
    userid: UserId,
    enable: Option<bool>,
    expire: Option<i64>,
    comment: Option<String>,
}

impl New {
    fn settings(&self) -> UserChange {
        UserChange {
            enabled: self.enable,
            expires: self.expire,
            comment: self.comment.clone(),
        }
    }
}

impl Change {
    fn settings(&self) -> UserChange {
        UserChange {
            enabled: self.enable,
            expires: self.expire,
            comment: self.comment.clone(),
        }
    }
}

fn no_user(user: &UserId) -> ApiError {
    ApiError::not_found(format!("user '{user}' does not exist."))
}

/// Whoever may change users, or see the server, sees all of them; everybody sees itself.
pub(super) fn require_to_see(call: &Call, user: &UserId) -> ApiResult<()> {
    if call
        .privileges("/access/users")?
        .intersects(Privileges::SYS_AUDIT)
    {
        return Ok(());
    }
    require_self_or_modify(call, user)
}

fn entry(user: &User) -> Map<String, Value> {
    let mut entry = Map::new();
    entry.insert("userid".into(), user.id.to_string().into());
    entry.insert("enable".into(), user.enabled.into());
    entry.insert("expire".into(), user.expires.unwrap_or(0).into());
    if let Some(comment) = &user.comment {
        entry.insert("comment".into(), comment.clone().into());
    }
    entry
}

fn list(gate: &Gate, call: &Call, wanted: &Wanted) -> ApiResult<Answer> {
    let known: Arc<Known> = gate.state().known().map_err(failed)?;
    let who = call.who()?;
    let some = Privileges::SYS_AUDIT | Privileges::PERMISSIONS_MODIFY;
    let sees_all = call.privileges("/access/users")?.intersects(some);
    let seen = known
        .users
        .iter()
        .filter(|user| sees_all || is_self(who, &user.id));
    let list: Vec<_> = seen
        .map(|user| {
            let mut entry = entry(user);
            if wanted.include_tokens {
                let list: Vec<Value> = known
                    .tokens_of(&user.id)
                    .map(|token| tokens::entry(token).into())
                    .collect();
                entry.insert("tokens".into(), list.into());
            }
            entry
        })
        .collect();
    Answer::data(list)
}
