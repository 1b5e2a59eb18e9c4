//! `relight token` of another host's server.

use http::Method;
use jiff::Timestamp;
use relight_pbs::access::{AuthId, UserId};
use serde::Deserialize;
use serde_json::json;

use super::AddOptions;
use crate::api::{Api, read, segment};
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::output;

#[derive(Deserialize)]
struct User {
    user: String,
    tokens: Vec<String>,
}

#[derive(Deserialize)]
struct Made {
    secret: String,
}

/// The user and the name of a token.
fn parts(token: &AuthId) -> Result<(String, &str)> {
    let name = token
        .token()
        .ok_or_else(|| Failure::Usage(format!("{token} is no token: write USER!NAME")))?;
    Ok((segment(token.user()), name))
}

pub(super) fn add(options: &AddOptions, api: &Api) -> Result<String> {
    if options.comment.is_some() {
        return Err(Failure::Usage("--comment is for the server's own host".into()));
    }
    let (user, name) = parts(&options.token)?;
    let expires = options.expires.filter(|end| *end != 0);
    let expires = expires.and_then(|end| Timestamp::from_second(end).ok());
    let body = json!({"name": name, "expires": expires});
    let made = api.ask(Method::POST, &format!("/users/{user}/tokens"), Some(&body))?;
    Ok(read::<Made>(&made)?.secret)
}

pub(super) fn remove(token: &AuthId, api: &Api) -> Result<()> {
    let (user, name) = parts(token)?;
    let path = format!("/users/{user}/tokens/{}", segment(&name));
    api.ask(Method::DELETE, &path, None)?;
    Ok(())
}

/// The names of the tokens: more of them is told on the server's own host only.
pub(super) fn list(global: &Global, of: Option<&UserId>, api: &Api) -> Result<Exit> {
    let mut found = Vec::new();
    for value in &api.all("/users", &[])? {
        let user: User = read(value)?;
        if of.is_none_or(|of| of.as_str() == user.user) {
            found.extend(user.tokens);
        }
    }
    output::result(global, &found, |found, out| {
        let rows: Vec<_> = std::iter::once("TOKEN".to_string())
            .chain(found.iter().cloned())
            .map(|token| vec![token])
            .collect();
        output::table(&rows, &[], out);
    });
    Ok(Exit::Done)
}
