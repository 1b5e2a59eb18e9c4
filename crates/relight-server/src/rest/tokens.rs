//! API tokens.

use std::sync::Arc;

use http::Method;
use relight_pbs::access::{AuthId, UserId};
use relight_pbs::service::http::{Answer, ApiError, ApiResult, Router};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::users::require_to_see;
use super::{failed, require_self_or_modify};
use crate::gate::Gate;
use crate::state::{Token, TokenChange};

const ALL: &str = "/access/users/{userid}/token";
const ONE: &str = "/access/users/{userid}/token/{token-name}";

pub(super) fn routes(router: &mut Router, gate: &Arc<Gate>) {
    let of = gate.clone();
    router.on_blocking(Method::GET, ALL, move |call, user: User| {
        require_to_see(&call, &user.userid)?;
        let known = of.state().known().map_err(failed)?;
        let list: Vec<_> = known.tokens_of(&user.userid).map(entry).collect();
        Answer::data(list)
    });
    let of = gate.clone();
    router.on_blocking(Method::GET, ONE, move |call, one: One| {
        require_to_see(&call, &one.userid)?;
        let known = of.state().known().map_err(failed)?;
        let id = token_id(&one.userid, &one.token_name)?;
        let token = known
            .token(&id)
            .ok_or_else(|| ApiError::not_found(format!("token '{id}' does not exist.")))?;
        Answer::data(entry(token))
    });
    let of = gate.clone();
    router.on_blocking(Method::POST, ONE, move |call, change: Change| {
        require_self_or_modify(&call, &change.userid)?;
        let id = token_id(&change.userid, &change.token_name)?;
        let secret = of.state().add_token(&id, &change.settings()).map_err(failed)?;
        Answer::data(json!({"tokenid": id, "value": secret.text()}))
    });
    let of = gate.clone();
    router.on_blocking(Method::PUT, ONE, move |call, change: Change| {
        require_self_or_modify(&call, &change.userid)?;
        let id = token_id(&change.userid, &change.token_name)?;
        match of.state().change_token(&id, &change.settings()).map_err(failed)? {
            Some(secret) => Answer::data(json!({"secret": secret.text()})),
            None => Ok(Answer::null()),
        }
    });
    let of = gate.clone();
    router.on_blocking(Method::DELETE, ONE, move |call, one: One| {
        require_self_or_modify(&call, &one.userid)?;
        of.state()
            .remove_token(&token_id(&one.userid, &one.token_name)?)
            .map_err(failed)?;
        Ok(Answer::null())
    });
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct User {
    userid: UserId,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct One {
    userid: UserId,
    token_name: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Change {
    userid: UserId,
    token_name: String,
    enable: Option<bool>,
    expire: Option<i64>,
    comment: Option<String>,
    #[serde(default)]
    regenerate: bool,
}

impl Change {
    fn settings(&self) -> TokenChange {
        TokenChange {
            enabled: self.enable,
            expires: self.expire,
            comment: self.comment.clone(),
            new_secret: self.regenerate,
        }
    }
}

fn token_id(user: &UserId, name: &str) -> ApiResult<AuthId> {
    AuthId::of_token(user.clone(), name).map_err(|error| ApiError::bad_request(error.to_string()))
}

pub(super) fn entry(token: &Token) -> Map<String, Value> {
    let mut entry = Map::new();
    entry.insert("tokenid".into(), token.id.to_string().into());
    entry.insert("token-name".into(), token.id.token().into());
    entry.insert("enable".into(), token.enabled.into());
    entry.insert("expire".into(), token.expires.unwrap_or(0).into());
    if let Some(comment) = &token.comment {
        entry.insert("comment".into(), comment.clone().into());
    }
    entry
}
