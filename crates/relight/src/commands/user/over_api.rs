//! `relight user` of another host's server.

use http::Method;
use jiff::Timestamp;
use relight_pbs::access::UserId;
use serde::Deserialize;
use serde_json::json;

use super::{AddOptions, Row, table};
use crate::api::{Api, read, segment};
use crate::context::Global;
use crate::credentials;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::output;

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case")]
struct User {
    user: String,
    enabled: bool,
    expires: Option<Timestamp>,
    comment: Option<String>,
    password: bool,
    second_factor: bool,
    tokens: Vec<String>,
}

pub(super) fn list(global: &Global, api: &Api) -> Result<Exit> {
    let data = api.all("/users", &[])?;
    let row = |value| {
        let user: User = read(value)?;
        Ok(Row {
            user: user.user,
            enabled: user.enabled,
            expires: user.expires.map(Timestamp::as_second),
            password: user.password,
            totp: user.second_factor,
            tokens: user.tokens.len(),
            comment: user.comment,
        })
    };
    let rows = data.iter().map(row).collect::<Result<Vec<_>>>()?;
    output::result(global, &data, |_, out| table(&rows, out));
    Ok(Exit::Done)
}

pub(super) fn add(options: &AddOptions, api: &Api) -> Result<()> {
    if options.expires.is_some() {
        return Err(Failure::Usage("--expires is for the server's own host".into()));
    }
    let password = match options.no_password {
        true => None,
        false => Some(credentials::new_password(
            options.password.new_password_file.as_deref(),
        )?),
    };
    let body = json!({
        "user": options.user,
        "password": password.as_deref(),
        "comment": options.comment.as_deref().unwrap_or_default(),
    });
    api.ask(Method::POST, "/users", Some(&body))?;
    Ok(())
}

pub(super) fn enable(user: &UserId, enabled: bool, api: &Api) -> Result<()> {
    let path = format!("/users/{}", segment(user));
    api.ask(Method::PUT, &path, Some(&json!({"enabled": enabled})))?;
    Ok(())
}

pub(super) fn remove(user: &UserId, api: &Api) -> Result<()> {
    api.ask(Method::DELETE, &format!("/users/{}", segment(user)), None)?;
    Ok(())
}

pub(super) fn remove_totp(user: &UserId, api: &Api) -> Result<()> {
    let path = format!("/users/{}/second-factor", segment(user));
    api.ask(Method::DELETE, &path, None)?;
    Ok(())
}
