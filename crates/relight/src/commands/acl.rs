//! `relight acl`: what users and tokens may do on the server.

mod over_api;

use clap::{Args, Subcommand};
use relight_pbs::access::{AclPath, Grantee, HeldRole, Rule};
use relight_server::state::State;
use serde::{Deserialize, Serialize};

use crate::api::ApiOptions;
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::output;
use crate::server_state::{ConfigOptions, record};

/// What to do with rules.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the rules
    List(ListOptions),
    /// Give a user or token a role at a path
    Set(SetOptions),
    /// Take it away
    Remove(RemoveOptions),
    /// List the roles and what is in them
    Roles(ListOptions),
}

/// Options of `acl list`.
#[derive(Debug, Args)]
pub struct ListOptions {
    #[command(flatten)]
    pub config: ConfigOptions,
    #[command(flatten)]
    pub server: ApiOptions,
}

/// Options of `acl set`.
#[derive(Debug, Args)]
pub struct SetOptions {
    #[command(flatten)]
    config: ConfigOptions,
    #[command(flatten)]
    server: ApiOptions,
    /// Where: /, /datastore/NAME, /datastore/NAME/NAMESPACE, /system, /access, /remote
    #[arg(value_name = "PATH")]
    path: AclPath,
    /// What; `relight role list` lists the roles
    #[arg(value_name = "ROLE")]
    role: String,
    /// Who: a user, a token, or a group of a directory (@GROUP@REALM)
    #[arg(value_name = "WHO")]
    who: Grantee,
    /// Only at the path itself, not below it
    #[arg(long)]
    no_propagate: bool,
}

/// Options of `acl remove`.
#[derive(Debug, Args)]
pub struct RemoveOptions {
    #[command(flatten)]
    config: ConfigOptions,
    #[command(flatten)]
    server: ApiOptions,
    /// Where
    #[arg(value_name = "PATH")]
    path: AclPath,
    /// Whose
    #[arg(value_name = "WHO")]
    who: Grantee,
    /// Which role; without it all that the path gives
    #[arg(value_name = "ROLE")]
    role: Option<String>,
}

#[derive(Serialize)]
struct Changed<'a> {
    path: &'a AclPath,
    who: &'a Grantee,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<&'a str>,
}

/// Does it.
pub fn run(global: &Global, command: &Command) -> Result<Exit> {
    match command {
        Command::List(options) => list(global, options),
        Command::Set(options) => set(global, options),
        Command::Remove(options) => remove(global, options),
        Command::Roles(options) => super::role::list(global, options),
    }
}

fn set(global: &Global, options: &SetOptions) -> Result<Exit> {
    let SetOptions { path, role, who, .. } = options;
    if let Some(api) = options.server.open()? {
        over_api::set(options, &api)?;
    } else {
        let state = options.config.state()?;
        state.set_rule(&Rule {
            path: path.clone(),
            who: who.clone(),
            role: held(&state, role)?,
            propagate: !options.no_propagate,
        })?;
        record(&state, format!("acl set {path} {role} {who}"))?;
    }
    let changed = Changed {
        path,
        who,
        role: Some(role),
    };
    output::result(global, &changed, |_, out| {
        out.push_str(&format!("{who} has the role {role} at {path}.\n"))
    });
    Ok(Exit::Done)
}

fn remove(global: &Global, options: &RemoveOptions) -> Result<Exit> {
    let RemoveOptions { path, who, role, .. } = options;
    let role = role.as_deref();
    if let Some(api) = options.server.open()? {
        over_api::remove(options, &api)?;
    } else {
        let state = options.config.state()?;
        state.remove_rule(path, who, role)?;
        let named = role.map_or_else(String::new, |role| format!(" {role}"));
        record(&state, format!("acl remove {path} {who}{named}"))?;
    }
    let changed = Changed { path, who, role };
    output::result(global, &changed, |_, out| {
        out.push_str(&match role {
            Some(role) => format!("{who} has the role {role} at {path} no more.\n"),
            None => format!("No rule is left for {who} at {path}.\n"),
        });
    });
    Ok(Exit::Done)
}

fn list(global: &Global, options: &ListOptions) -> Result<Exit> {
    if let Some(api) = options.server.open()? {
        return over_api::list(global, &api);
    }
    let known = options.config.state()?.known()?;
    let row = |rule: &Rule| Row {
        path: rule.path.to_string(),
        role: rule.role.to_string(),
        who: rule.who.to_string(),
        below: rule.propagate,
    };
    let rows: Vec<Row> = known.rules.iter().map(row).collect();
    output::result(global, &known.rules, |_, out| table(&rows, out));
    Ok(Exit::Done)
}

/// A rule in the list.
#[derive(Deserialize)]
struct Row {
    path: String,
    role: String,
    who: String,
    below: bool,
}

fn table(rows: &[Row], out: &mut String) {
    let heading = ["PATH", "ROLE", "WHO", "BELOW"].map(String::from).to_vec();
    let cells = |row: &Row| {
        let below = if row.below { "yes" } else { "no" };
        vec![row.path.clone(), row.role.clone(), row.who.clone(), below.into()]
    };
    let rows: Vec<_> = std::iter::once(heading).chain(rows.iter().map(cells)).collect();
    output::table(&rows, &[], out);
}

/// The role of a name, one of the server's own among them.
fn held(state: &State, name: &str) -> Result<HeldRole> {
    let known = state.known()?;
    known.role(name).ok_or_else(|| {
        Failure::Usage(format!(
            "there is no role {name:?}; `relight role list` lists them, `relight role add` makes one"
        ))
    })
}
