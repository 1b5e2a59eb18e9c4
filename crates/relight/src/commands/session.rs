//! `relight session`: where users are logged in.

mod over_api;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use relight_pbs::access::UserId;
use relight_server::state::Session;

use crate::api::ApiOptions;
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::output;
use crate::server_state::{ConfigOptions, record};
use crate::shown;

/// What to do with sessions.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List where users are logged in
    List(ListOptions),
    /// Log somebody out at once
    Revoke(RevokeOptions),
}

/// Options of `session list`.
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

/// Options of `session revoke`.
#[derive(Debug, Args)]
pub struct RevokeOptions {
    #[command(flatten)]
    config: ConfigOptions,
    #[command(flatten)]
    server: ApiOptions,
    /// Which, as `relight session list` names it
    #[arg(value_name = "SESSION", required_unless_present = "all")]
    session: Option<String>,
    /// All of this user's, listed or not
    #[arg(long, value_name = "USER", conflicts_with = "session")]
    all: Option<UserId>,
}

/// Does it.
pub fn run(global: &Global, command: &Command) -> Result<Exit> {
    match command {
        Command::List(options) => list(global, options),
        Command::Revoke(options) => revoke(global, options),
    }
}

fn list(global: &Global, options: &ListOptions) -> Result<Exit> {
    if let Some(api) = options.server.open()? {
        return over_api::list(global, options, &api);
    }
    let found = options
        .config
        .state()?
        .sessions(options.user.as_ref(), Timestamp::now())?;
    output::result(global, &found, |found, out| table(found, out));
    Ok(Exit::Done)
}

fn table(found: &[Session], out: &mut String) {
    let heading = ["SESSION", "USER", "SINCE", "UNTIL", "FROM"]
        .map(String::from)
        .to_vec();
    let cells = |session: &Session| {
        vec![
            session.id.clone(),
            session.user.to_string(),
            shown::local(session.since),
            shown::local(session.until),
            session.address.clone().unwrap_or_default(),
        ]
    };
    let rows: Vec<_> = std::iter::once(heading).chain(found.iter().map(cells)).collect();
    output::table(&rows, &[], out);
}

fn revoke(global: &Global, options: &RevokeOptions) -> Result<Exit> {
    if let Some(api) = options.server.open()? {
        return over_api::revoke(global, options, &api);
    }
    let (state, now) = (options.config.state()?, Timestamp::now());
    let what = match (&options.session, &options.all) {
        (Some(session), _) => {
            state.end_session(session, now)?;
            format!("session revoke {session}")
        }
        (None, Some(user)) => {
            state.end_all_sessions(user, now)?;
            format!("session revoke --all {user}")
        }
        (None, None) => return Err(Failure::Usage("name a session, or a user with --all".into())),
    };
    record(&state, what.clone())?;
    output::result(global, &what, |_, out| out.push_str("Logged out.\n"));
    Ok(Exit::Done)
}
