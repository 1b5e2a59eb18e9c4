//! `relight role`: which roles there are, and the server's own.

use clap::{Args, Subcommand};
use relight_model::plan::Verb;
use relight_pbs::access::Role;
use relight_server::roles::privileges_of;
use serde::{Deserialize, Serialize};

use super::acl::ListOptions;
use crate::api::{Api, read};
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::Result;
use crate::output;
use crate::server_state::{ConfigOptions, record};

/// What to do with roles.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the roles and what is in them
    List(ListOptions),
    /// Make a role of this server's own, or change what it may
    Add(AddOptions),
    /// Remove a role of this server's own that nobody has
    Remove(RemoveOptions),
}

/// Options of `role add`.
#[derive(Debug, Args)]
pub struct AddOptions {
    #[command(flatten)]
    config: ConfigOptions,
    /// Its name
    #[arg(value_name = "NAME")]
    name: String,
    /// What it may: view, backup, restore, restore-over, drill, plan, forget, evidence, keys, approve, admin
    #[arg(long, value_name = "VERB,…", value_delimiter = ',', required = true)]
    may: Vec<Verb>,
}

/// Options of `role remove`.
#[derive(Debug, Args)]
pub struct RemoveOptions {
    #[command(flatten)]
    config: ConfigOptions,
    /// Which
    #[arg(value_name = "NAME")]
    name: String,
}

#[derive(Deserialize)]
struct Told {
    name: String,
    comment: String,
}

#[derive(Serialize)]
struct Row {
    role: String,
    privileges: Vec<&'static str>,
    comment: String,
}

/// Does it.
pub fn run(global: &Global, command: &Command) -> Result<Exit> {
    match command {
        Command::List(options) => list(global, options),
        Command::Add(options) => add(global, options),
        Command::Remove(options) => remove(global, options),
    }
}

/// Lists them. Without a configuration, those that are always there.
pub fn list(global: &Global, options: &ListOptions) -> Result<Exit> {
    if let Some(api) = options.server.open()? {
        return over_api(global, &api);
    }
    let mut rows: Vec<Row> = Role::ALL
        .iter()
        .map(|role| Row {
            role: role.name().to_owned(),
            privileges: role.privileges().names().collect(),
            comment: role.comment().to_owned(),
        })
        .collect();
    if options.config.is_named() || options.config.path().exists() {
        for role in &options.config.state()?.known()?.roles {
            let words: Vec<&str> = role.may.iter().map(|verb| verb.name()).collect();
            rows.push(Row {
                role: role.name.clone(),
                privileges: privileges_of(&role.may).names().collect(),
                comment: format!("May {}.", words.join(", ")),
            });
        }
    }
    output::result(global, &rows, |rows, out| {
        table(rows.iter().map(|row| (&row.role, &row.comment)), out);
    });
    Ok(Exit::Done)
}

fn table<'r>(rows: impl Iterator<Item = (&'r String, &'r String)>, out: &mut String) {
    let heading = ["ROLE", "WHAT FOR"].map(String::from).to_vec();
    let cells = |(role, comment): (&String, &String)| vec![role.clone(), comment.clone()];
    let rows: Vec<_> = std::iter::once(heading).chain(rows.map(cells)).collect();
    output::table(&rows, &[], out);
}

/// Of another host's server.
fn over_api(global: &Global, api: &Api) -> Result<Exit> {
    let data = api.get("/roles", &[])?;
    let rows: Vec<Told> = read(&data)?;
    output::result(global, &data, |_, out| {
        table(rows.iter().map(|row| (&row.name, &row.comment)), out);
    });
    Ok(Exit::Done)
}

fn add(global: &Global, options: &AddOptions) -> Result<Exit> {
    let AddOptions { name, may, config } = options;
    let state = config.state()?;
    state.set_role(name, may)?;
    let words: Vec<&str> = may.iter().map(|verb| verb.name()).collect();
    record(&state, format!("role add {name} --may {}", words.join(",")))?;
    let row = Row {
        role: name.clone(),
        privileges: privileges_of(may).names().collect(),
        comment: String::new(),
    };
    output::result(global, &row, |row, out| {
        out.push_str(&format!("The role {name} holds {}.\n", row.privileges.join(", ")));
    });
    Ok(Exit::Done)
}

fn remove(global: &Global, options: &RemoveOptions) -> Result<Exit> {
    let state = options.config.state()?;
    state.remove_role(&options.name)?;
    record(&state, format!("role remove {}", options.name))?;
    output::result(global, &options.name, |name, out| {
        out.push_str(&format!("There is no role {name} any more.\n"));
    });
    Ok(Exit::Done)
}
