//! `relight acl`: what users and tokens may do on the server.

use clap::{Args, Subcommand};
use relight_pbs::access::{AclPath, AuthId, Role, Rule};
use serde::Serialize;

use crate::context::Global;
use crate::exit::Exit;
use crate::failure::Result;
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
    Roles,
}

/// Options of `acl list`.
#[derive(Debug, Args)]
pub struct ListOptions {
    #[command(flatten)]
    config: ConfigOptions,
}

/// Options of `acl set`.
#[derive(Debug, Args)]
pub struct SetOptions {
    #[command(flatten)]
    config: ConfigOptions,
    /// Where: /, /datastore/NAME, /datastore/NAME/NAMESPACE, /system, /access, /remote
    #[arg(value_name = "PATH")]
    path: AclPath,
    /// What; `relight acl roles` lists the roles
    #[arg(value_name = "ROLE")]
    role: Role,
    /// Who: a user or a token
    #[arg(value_name = "WHO")]
    who: AuthId,
    /// Only at the path itself, not below it
    #[arg(long)]
    no_propagate: bool,
}

/// Options of `acl remove`.
#[derive(Debug, Args)]
pub struct RemoveOptions {
    #[command(flatten)]
    config: ConfigOptions,
    /// Where
    #[arg(value_name = "PATH")]
    path: AclPath,
    /// Whose
    #[arg(value_name = "WHO")]
    who: AuthId,
    /// Which role; without it all that the path gives
    #[arg(value_name = "ROLE")]
    role: Option<Role>,
}

#[derive(Serialize)]
struct Changed<'a> {
    path: &'a AclPath,
    who: &'a AuthId,
    #[serde(skip_serializing_if = "Option::is_none")]
    role: Option<Role>,
}

#[derive(Serialize)]
struct RoleRow {
    role: &'static str,
    privileges: Vec<&'static str>,
    comment: &'static str,
}

/// Does it.
pub fn run(global: &Global, command: &Command) -> Result<Exit> {
    match command {
        Command::List(options) => list(global, options),
        Command::Set(options) => set(global, options),
        Command::Remove(options) => remove(global, options),
        Command::Roles => roles(global),
    }
}

fn set(global: &Global, options: &SetOptions) -> Result<Exit> {
    let SetOptions { path, role, who, .. } = options;
    let state = options.config.state()?;
    state.set_rule(&Rule {
        path: path.clone(),
        who: who.clone(),
        role: *role,
        propagate: !options.no_propagate,
    })?;
    record(&state, format!("acl set {path} {role} {who}"))?;
    let changed = Changed {
        path,
        who,
        role: Some(*role),
    };
    output::result(global, &changed, |_, out| {
        out.push_str(&format!("{who} has the role {role} at {path}.\n"))
    });
    Ok(Exit::Done)
}

fn remove(global: &Global, options: &RemoveOptions) -> Result<Exit> {
    let RemoveOptions { path, who, role, .. } = options;
    let state = options.config.state()?;
    state.remove_rule(path, who, *role)?;
    let named = role.map_or_else(String::new, |role| format!(" {role}"));
    record(&state, format!("acl remove {path} {who}{named}"))?;
    let changed = Changed {
        path,
        who,
        role: *role,
    };
    output::result(global, &changed, |_, out| {
        out.push_str(&match role {
            Some(role) => format!("{who} has the role {role} at {path} no more.\n"),
            None => format!("No rule is left for {who} at {path}.\n"),
        });
    });
    Ok(Exit::Done)
}

fn list(global: &Global, options: &ListOptions) -> Result<Exit> {
    let known = options.config.state()?.known()?;
    output::result(global, &known.rules, |rules, out| {
        let heading = ["PATH", "ROLE", "WHO", "BELOW"].map(String::from).to_vec();
        let cells = |rule: &Rule| {
            let below = if rule.propagate { "yes" } else { "no" };
            vec![
                rule.path.to_string(),
                rule.role.to_string(),
                rule.who.to_string(),
                below.into(),
            ]
        };
        let rows: Vec<_> = std::iter::once(heading).chain(rules.iter().map(cells)).collect();
        output::table(&rows, &[], out);
    });
    Ok(Exit::Done)
}

fn roles(global: &Global) -> Result<Exit> {
    let row = |role: &Role| RoleRow {
        role: role.name(),
        privileges: role.privileges().names().collect(),
        comment: role.comment(),
    };
    let rows: Vec<RoleRow> = Role::ALL.iter().map(row).collect();
    output::result(global, &rows, |rows, out| {
        let heading = ["ROLE", "WHAT FOR"].map(String::from).to_vec();
        let cells = |row: &RoleRow| vec![row.role.into(), row.comment.into()];
        let rows: Vec<_> = std::iter::once(heading).chain(rows.iter().map(cells)).collect();
        output::table(&rows, &[], out);
    });
    Ok(Exit::Done)
}
