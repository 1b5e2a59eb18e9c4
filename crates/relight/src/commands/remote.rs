//! `relight remote`: other servers, to copy from and to.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use relight_pbs::access::AuthId;
use relight_pbs::formats::crypt::Fingerprint;
use relight_server::state::Remote;
use serde::Serialize;

use crate::context::Global;
use crate::credentials;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::output;
use crate::server_state::{ConfigOptions, record};

/// What to do with other servers.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the other servers that are known
    List(ListOptions),
    /// Make another server known: a Proxmox Backup Server, or another `relight serve`
    Add(AddOptions),
    /// Show what is known of another server, but never its secret
    Show(OneOptions),
    /// Forget another server
    Remove(OneOptions),
}

/// Options of `remote list`.
#[derive(Debug, Args)]
pub struct ListOptions {
    #[command(flatten)]
    config: ConfigOptions,
}

/// Options of `remote add`.
#[derive(Debug, Args)]
pub struct AddOptions {
    #[command(flatten)]
    config: ConfigOptions,
    /// What it is to be called here
    #[arg(value_name = "NAME")]
    name: String,
    /// Its host, with a port unless that is 8007: backup.example.org:8007
    #[arg(long, value_name = "HOST[:PORT]")]
    host: String,
    /// Who asks there: a user or token of that server, such as sync@pbs!relight
    #[arg(long, value_name = "USER[!TOKEN]")]
    auth_id: AuthId,
    /// File whose first line is the secret of the token, or the password; without it a prompt asks for it
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
    /// SHA-256 fingerprint of its certificate, unless an authority vouches for that
    #[arg(long, value_name = "FINGERPRINT")]
    fingerprint: Option<Fingerprint>,
    /// What lists show beside the name
    #[arg(long, value_name = "TEXT")]
    comment: Option<String>,
}

/// Options of commands for one server.
#[derive(Debug, Args)]
pub struct OneOptions {
    #[command(flatten)]
    config: ConfigOptions,
    /// Which
    #[arg(value_name = "NAME")]
    name: String,
}

#[derive(Serialize)]
struct Done<'a> {
    remote: &'a str,
    done: &'static str,
}

/// Does it.
pub fn run(global: &Global, command: &Command) -> Result<Exit> {
    match command {
        Command::List(options) => {
            let remotes = options.config.state()?.remotes()?;
            output::result(global, &remotes, |remotes, out| {
                let heading = ["NAME", "HOST", "PORT", "AS", "COMMENT"]
                    .map(String::from)
                    .to_vec();
                let cells = |remote: &Remote| {
                    vec![
                        remote.name.clone(),
                        remote.host.clone(),
                        port(remote),
                        remote.auth_id.to_string(),
                        remote.comment.clone().unwrap_or_default(),
                    ]
                };
                let rows: Vec<_> = std::iter::once(heading)
                    .chain(remotes.iter().map(cells))
                    .collect();
                output::table(&rows, &[], out);
            });
            Ok(Exit::Done)
        }
        Command::Add(options) => add(global, options),
        Command::Show(OneOptions { config, name }) => {
            let found = config.state()?.remote(name)?;
            let remote = found.ok_or_else(|| Failure::Usage(format!("there is no remote {name}")))?;
            output::result(global, &remote, |remote, out| {
                let fingerprint = remote.fingerprint.clone();
                let rows = [
                    ("name", remote.name.clone()),
                    ("host", remote.host.clone()),
                    ("port", port(remote)),
                    ("as", remote.auth_id.to_string()),
                    (
                        "fingerprint",
                        fingerprint.unwrap_or_else(|| "checked by authority".into()),
                    ),
                    ("comment", remote.comment.clone().unwrap_or_default()),
                ];
                let rows: Vec<_> = rows
                    .into_iter()
                    .map(|(name, value)| vec![name.to_string(), value])
                    .collect();
                output::table(&rows, &[], out);
            });
            Ok(Exit::Done)
        }
        Command::Remove(OneOptions { config, name }) => {
            let state = config.state()?;
            state.remove_remote(name)?;
            record(&state, format!("remote remove {name}"))?;
            let done = Done {
                remote: name,
                done: "removed",
            };
            output::result(global, &done, |_, out| {
                out.push_str(&format!("{name} is removed.\n"))
            });
            Ok(Exit::Done)
        }
    }
}

fn port(remote: &Remote) -> String {
    remote.port.unwrap_or(8007).to_string()
}

/// Host and port; an address of IPv6 with a port stands in brackets.
fn host_and_port(text: &str) -> Result<(String, Option<u16>)> {
    let refused = || Failure::Usage(format!("{text:?} is not a host: write HOST or HOST:PORT"));
    let number = |port: &str| port.parse().map(Some).map_err(|_| refused());
    if let Some(rest) = text.strip_prefix('[') {
        let (host, port) = rest.split_once(']').ok_or_else(refused)?;
        return match port.strip_prefix(':') {
            Some(port) => Ok((host.into(), number(port)?)),
            None if port.is_empty() => Ok((host.into(), None)),
            None => Err(refused()),
        };
    }
    match text.split_once(':') {
        Some((host, port)) if !port.contains(':') => Ok((host.into(), number(port)?)),
        _ => Ok((text.into(), None)),
    }
}

fn add(global: &Global, options: &AddOptions) -> Result<Exit> {
    let state = options.config.state()?;
    let (host, port) = host_and_port(&options.host)?;
    let remote = Remote {
        name: options.name.clone(),
        host,
        port,
        auth_id: options.auth_id.clone(),
        fingerprint: options.fingerprint.as_ref().map(ToString::to_string),
        comment: options.comment.clone(),
    };
    let secret = credentials::secret(options.secret_file.as_deref(), "--secret-file")?;
    state.add_remote(&remote, &secret)?;
    record(&state, format!("remote add {}", remote.name))?;
    let done = Done {
        remote: &remote.name,
        done: "added",
    };
    output::result(global, &done, |done, out| {
        out.push_str(&format!(
            "{0} is added. To copy from it:\n  relight sync add NAME --remote {0} --remote-store STORE --store STORE\n",
            done.remote
        ));
    });
    Ok(Exit::Done)
}
