//! `relight token`: API tokens, by which programs log in.

mod over_api;

use clap::{Args, Subcommand};
use relight_pbs::access::{AuthId, UserId};
use relight_server::state::TokenChange;
use serde::Serialize;

use crate::api::ApiOptions;
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::Result;
use crate::output;
use crate::server_state::{ConfigOptions, parse_end, record, shown_end};

/// What to do with tokens.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a token and show its secret, once
    Add(AddOptions),
    /// List the tokens
    List(ListOptions),
    /// Remove a token and its rules
    Remove(RemoveOptions),
}

/// Options of `token add`.
#[derive(Debug, Args)]
pub struct AddOptions {
    #[command(flatten)]
    config: ConfigOptions,
    #[command(flatten)]
    server: ApiOptions,
    /// Its name: USER!NAME, such as backup@pbs!pve1. The user must be there
    #[arg(value_name = "TOKEN")]
    token: AuthId,
    /// What lists show beside the name
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    /// When it ends: a day, a time, or never
    #[arg(long, value_name = "WHEN", value_parser = parse_end)]
    expires: Option<i64>,
}

/// Options of `token list`.
#[derive(Debug, Args)]
pub struct ListOptions {
    #[command(flatten)]
    config: ConfigOptions,
    #[command(flatten)]
    server: ApiOptions,
    /// Of this user only
    #[arg(value_name = "USER")]
    user: Option<UserId>,
}

/// Options of `token remove`.
#[derive(Debug, Args)]
pub struct RemoveOptions {
    #[command(flatten)]
    config: ConfigOptions,
    #[command(flatten)]
    server: ApiOptions,
    /// Which: USER!NAME
    #[arg(value_name = "TOKEN")]
    token: AuthId,
}

#[derive(Serialize)]
struct Made<'a> {
    token: String,
    secret: &'a str,
}

#[derive(Serialize)]
struct Row {
    token: String,
    enabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
}

#[derive(Serialize)]
struct Removed {
    removed: String,
}

/// Does it.
pub fn run(global: &Global, command: &Command) -> Result<Exit> {
    match command {
        Command::Add(options) => add(global, options),
        Command::List(options) => list(global, options),
        Command::Remove(options) => {
            if let Some(api) = options.server.open()? {
                over_api::remove(&options.token, &api)?;
                return Ok(removed(global, &options.token));
            }
            let state = options.config.state()?;
            state.remove_token(&options.token)?;
            record(&state, format!("token remove {}", options.token))?;
            Ok(removed(global, &options.token))
        }
    }
}

fn removed(global: &Global, token: &AuthId) -> Exit {
    let removed = Removed {
        removed: token.to_string(),
    };
    output::result(global, &removed, |removed, out| {
        out.push_str(&format!("{} is removed.\n", removed.removed))
    });
    Exit::Done
}

fn add(global: &Global, options: &AddOptions) -> Result<Exit> {
    if let Some(api) = options.server.open()? {
        let secret = over_api::add(options, &api)?;
        return Ok(made(global, &options.token, &secret));
    }
    let state = options.config.state()?;
    let settings = TokenChange {
        expires: options.expires,
        comment: options.comment.clone(),
        ..TokenChange::default()
    };
    let secret = state.add_token(&options.token, &settings)?;
    record(&state, format!("token add {}", options.token))?;
    Ok(made(global, &options.token, secret.text()))
}

fn made(global: &Global, token: &AuthId, secret: &str) -> Exit {
    let made = Made {
        token: token.to_string(),
        secret,
    };
    output::result(global, &made, |made, out| {
        let user = token.user();
        out.push_str(&format!("Token:  {}\nSecret: {}\n", made.token, made.secret));
        out.push_str("The secret is shown this once; it is not kept. The token may do nothing until it has a rule of its own,\n");
        out.push_str(&format!("and then never more than {user}:\n"));
        out.push_str(&format!(
            "  relight acl set /datastore/NAME DatastoreBackup '{}'\n",
            made.token
        ));
    });
    Exit::Done
}

fn list(global: &Global, options: &ListOptions) -> Result<Exit> {
    if let Some(api) = options.server.open()? {
        return over_api::list(global, options.user.as_ref(), &api);
    }
    let known = options.config.state()?.known()?;
    let fits = |id: &AuthId| options.user.as_ref().is_none_or(|user| id.user() == user);
    let row = |token: &relight_server::state::Token| Row {
        token: token.id.to_string(),
        enabled: token.enabled,
        expires: token.expires,
        comment: token.comment.clone(),
    };
    let rows: Vec<Row> = known
        .tokens
        .iter()
        .filter(|token| fits(&token.id))
        .map(row)
        .collect();
    output::result(global, &rows, |rows, out| {
        let heading = ["TOKEN", "ENABLED", "EXPIRES", "COMMENT"]
            .map(String::from)
            .to_vec();
        let cells = |row: &Row| {
            let enabled = if row.enabled { "yes" } else { "no" };
            let comment = row.comment.clone().unwrap_or_default();
            vec![row.token.clone(), enabled.into(), shown_end(row.expires), comment]
        };
        let rows: Vec<_> = std::iter::once(heading).chain(rows.iter().map(cells)).collect();
        output::table(&rows, &[], out);
    });
    Ok(Exit::Done)
}
