//! `relight user`: who may log in to the server.

mod over_api;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use relight_pbs::access::UserId;
use relight_server::signin::{QrPicture, not_made_here};
use relight_server::state::{PasswordHash, State, UserChange};
use serde::Serialize;

use crate::api::ApiOptions;
use crate::context::Global;
use crate::credentials;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::output;
use crate::server_state::{ConfigOptions, parse_end, record, shown_end};

/// What to do with users.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the users
    List(ListOptions),
    /// Add a user
    Add(AddOptions),
    /// Remove a user, its tokens, and its rules
    Remove(RemoteOneOptions),
    /// Give a user a new password, which ends where it is logged in
    Password(PasswordOptions),
    /// Let a user in again
    Enable(RemoteOneOptions),
    /// Keep a user and its tokens out, at once
    Disable(RemoteOneOptions),
    /// Give a user a second factor: an app that shows one-time passwords (TOTP)
    Totp(TotpOptions),
}

/// Options of `user totp`.
#[derive(Debug, Args)]
pub struct TotpOptions {
    #[command(flatten)]
    config: ConfigOptions,
    #[command(flatten)]
    server: ApiOptions,
    /// Whose
    #[arg(value_name = "USER")]
    user: UserId,
    /// A first code that the app shows: from now on log-ins need one. Without it, what the app has to know is shown
    #[arg(long, value_name = "CODE")]
    code: Option<String>,
    /// Take the second factor away
    #[arg(long, conflicts_with = "code")]
    remove: bool,
}

/// Options of `user list`.
#[derive(Debug, Args)]
pub struct ListOptions {
    #[command(flatten)]
    config: ConfigOptions,
    #[command(flatten)]
    server: ApiOptions,
}

/// Options of `user add`.
#[derive(Debug, Args)]
pub struct AddOptions {
    #[command(flatten)]
    config: ConfigOptions,
    #[command(flatten)]
    server: ApiOptions,
    /// Its name: name@realm, such as backup@pbs
    #[arg(value_name = "USER")]
    user: UserId,
    #[command(flatten)]
    password: NewPassword,
    /// A user that logs in with tokens only
    #[arg(long, conflicts_with = "new_password_file")]
    no_password: bool,
    /// What lists show beside the name
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
    /// When it ends: a day, a time, or never
    #[arg(long, value_name = "WHEN", value_parser = parse_end)]
    expires: Option<i64>,
}

/// Options of `user password`.
#[derive(Debug, Args)]
pub struct PasswordOptions {
    #[command(flatten)]
    config: ConfigOptions,
    /// Whose
    #[arg(value_name = "USER")]
    user: UserId,
    #[command(flatten)]
    password: NewPassword,
}

/// Options of commands for one user of this or another host's server.
#[derive(Debug, Args)]
pub struct RemoteOneOptions {
    #[command(flatten)]
    server: ApiOptions,
    #[command(flatten)]
    one: OneOptions,
}

/// Options of commands for one user.
#[derive(Debug, Args)]
pub struct OneOptions {
    #[command(flatten)]
    config: ConfigOptions,
    /// Which
    #[arg(value_name = "USER")]
    user: UserId,
}

/// Where a new password comes from.
#[derive(Debug, Args)]
struct NewPassword {
    /// File whose first line is the new password; without it a prompt asks for it
    #[arg(long, value_name = "FILE")]
    new_password_file: Option<PathBuf>,
}

impl NewPassword {
    fn hash(&self) -> Result<PasswordHash> {
        let password = credentials::new_password(self.new_password_file.as_deref())?;
        Ok(PasswordHash::new(password.as_bytes())?)
    }
}

#[derive(Serialize)]
struct Row {
    user: String,
    enabled: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    expires: Option<i64>,
    password: bool,
    totp: bool,
    tokens: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    comment: Option<String>,
}

/// What an app has to know.
#[derive(Serialize)]
struct NewTotp {
    user: String,
    secret: String,
    uri: String,
}

/// A second factor that counts from now on.
#[derive(Serialize)]
struct Confirmed {
    user: String,
    done: &'static str,
    #[serde(rename = "recovery-codes")]
    codes: Vec<String>,
}

#[derive(Serialize)]
struct Done {
    user: String,
    done: &'static str,
}

/// Does it.
pub fn run(global: &Global, command: &Command) -> Result<Exit> {
    match command {
        Command::List(options) => list(global, options),
        Command::Add(options) => add(global, options),
        Command::Remove(RemoteOneOptions { server, one }) => {
            let user = &one.user;
            if let Some(api) = server.open()? {
                over_api::remove(user, &api)?;
            } else {
                let state = one.config.state()?;
                state.remove_user(user)?;
                record(&state, format!("user remove {user}"))?;
            }
            Ok(done(
                global,
                user,
                "removed",
                "is removed, with its tokens and rules",
            ))
        }
        Command::Password(options) => {
            let state = options.config.state()?;
            // Before a password is asked for.
            state.change_user(&options.user, &UserChange::default())?;
            state.set_password(&options.user, &options.password.hash()?)?;
            record(&state, format!("user password {}", options.user))?;
            Ok(done(
                global,
                &options.user,
                "password",
                "has a new password; where it was logged in, it is no more",
            ))
        }
        Command::Enable(options) => enable(global, options, true),
        Command::Disable(options) => enable(global, options, false),
        Command::Totp(options) => totp(global, options),
    }
}

fn done(global: &Global, user: &UserId, what: &'static str, words: &str) -> Exit {
    let result = Done {
        user: user.to_string(),
        done: what,
    };
    output::result(global, &result, |_, out| {
        out.push_str(&format!("{user} {words}.\n"))
    });
    Exit::Done
}

fn enable(global: &Global, options: &RemoteOneOptions, enabled: bool) -> Result<Exit> {
    let (what, command, words) = match enabled {
        true => ("enabled", "enable", "may log in again"),
        false => ("disabled", "disable", "and its tokens are kept out from now on"),
    };
    let (server, options) = (&options.server, &options.one);
    if let Some(api) = server.open()? {
        over_api::enable(&options.user, enabled, &api)?;
        return Ok(done(global, &options.user, what, words));
    }
    let state = options.config.state()?;
    let change = UserChange {
        enabled: Some(enabled),
        ..UserChange::default()
    };
    state.change_user(&options.user, &change)?;
    record(&state, format!("user {command} {}", options.user))?;
    Ok(done(global, &options.user, what, words))
}

fn totp(global: &Global, options: &TotpOptions) -> Result<Exit> {
    const REMOVED: &str =
        "logs in without a second factor from now on; where it was logged in, it is no more";
    if let Some(api) = options.server.open()? {
        if !options.remove {
            return Err(Failure::Usage(
                "of another host's server only --remove is done so: a second factor is set up by its user, on the page".into(),
            ));
        }
        over_api::remove_totp(&options.user, &api)?;
        return Ok(done(global, &options.user, "removed", REMOVED));
    }
    let config = options.config.load()?;
    let state = State::open(&config.server.state)?;
    let user = &options.user;
    if options.remove {
        state.remove_second_factor(user)?;
        record(&state, format!("user totp {user} --remove"))?;
        return Ok(done(global, user, "removed", REMOVED));
    }
    if let Some(code) = &options.code {
        let codes = state.confirm_totp(user, code, jiff::Timestamp::now().as_second())?;
        let wrong = || {
            let why = "the code is wrong: look whether the clocks of this host and of the app are right, and wait for the next one";
            relight_server::ServerError::Refused(why.into())
        };
        let codes = codes.ok_or_else(wrong)?;
        record(&state, format!("user totp {user}"))?;
        let result = Confirmed {
            user: user.to_string(),
            done: "confirmed",
            codes: codes.to_vec(),
        };
        output::result(global, &result, |result, out| {
            out.push_str(&format!(
                "{user} logs in with a code of the app from now on; where it was logged in, it is no more.\nRecovery codes, each \
                 good once in place of a code, shown only now:\n  {}\n",
                result.codes.join("\n  ")
            ));
        });
        return Ok(Exit::Done);
    }
    let secret = state.begin_totp(user)?;
    let host = match &config.server.node {
        Some(node) => node.clone(),
        None => rustix::system::uname().nodename().to_string_lossy().into_owned(),
    };
    let uri = secret.uri(&host, user.as_str());
    let qr = QrPicture::of(&uri)?;
    let result = NewTotp {
        user: user.to_string(),
        secret: secret.text().to_string(),
        uri: uri.to_string(),
    };
    output::result(global, &result, |result, out| {
        out.push_str(&format!(
            "{}\nLet the app read this picture, or type {} into it (time based, SHA-1, 6 digits, 30 seconds). It counts when a \
             code has shown that the app has it:\n  relight user totp {user} --code CODE\n",
            *qr.lines(),
            result.secret
        ));
    });
    Ok(Exit::Done)
}

fn add(global: &Global, options: &AddOptions) -> Result<Exit> {
    if let Some(api) = options.server.open()? {
        over_api::add(options, &api)?;
        return Ok(added(global, &options.user));
    }
    let config = options.config.load()?;
    if config.realms.contains_key(options.user.realm()) {
        return Err(not_made_here(&options.user).into());
    }
    let state = State::open(&config.server.state)?;
    if state.known()?.user(&options.user).is_some() {
        // Before a password is asked for.
        return Err(relight_server::ServerError::Refused(format!(
            "there is a user {} already",
            options.user
        ))
        .into());
    }
    let hash = if options.no_password {
        None
    } else {
        Some(options.password.hash()?)
    };
    let settings = UserChange {
        enabled: None,
        expires: options.expires,
        comment: options.comment.clone(),
    };
    state.add_user(&options.user, hash.as_ref(), &settings)?;
    record(&state, format!("user add {}", options.user))?;
    Ok(added(global, &options.user))
}

fn added(global: &Global, user: &UserId) -> Exit {
    let words = format!(
        "is added. It may do nothing yet; for everything in a datastore:\n  relight acl set /datastore/NAME DatastoreAdmin {user}"
    );
    let result = Done {
        user: user.to_string(),
        done: "added",
    };
    output::result(global, &result, |_, out| {
        out.push_str(&format!("{user} {words}\n"))
    });
    Exit::Done
}

fn list(global: &Global, options: &ListOptions) -> Result<Exit> {
    if let Some(api) = options.server.open()? {
        return over_api::list(global, &api);
    }
    let state = options.config.state()?;
    let known = state.known()?;
    let with_factor = state.users_with_second_factor()?;
    let row = |user: &relight_server::state::User| Row {
        totp: with_factor.contains(&user.id),
        user: user.id.to_string(),
        enabled: user.enabled,
        expires: user.expires,
        password: user.password.is_some(),
        tokens: known.tokens_of(&user.id).count(),
        comment: user.comment.clone(),
    };
    let rows: Vec<Row> = known.users.iter().map(row).collect();
    output::result(global, &rows, |rows, out| table(rows, out));
    Ok(Exit::Done)
}

fn table(rows: &[Row], out: &mut String) {
    let heading = [
        "USER", "ENABLED", "EXPIRES", "PASSWORD", "TOTP", "TOKENS", "COMMENT",
    ]
    .map(String::from)
    .to_vec();
    let yes = |yes: bool| if yes { "yes" } else { "no" }.to_string();
    let cells = |row: &Row| {
        vec![
            row.user.clone(),
            yes(row.enabled),
            shown_end(row.expires),
            yes(row.password),
            yes(row.totp),
            row.tokens.to_string(),
            row.comment.clone().unwrap_or_default(),
        ]
    };
    let rows: Vec<_> = std::iter::once(heading).chain(rows.iter().map(cells)).collect();
    output::table(&rows, &[5], out);
}
