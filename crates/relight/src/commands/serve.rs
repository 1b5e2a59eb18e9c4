//! `relight serve`: the backup server.

use clap::Args;
use relight_server::Listening;
use serde::Serialize;

use crate::context::Global;
use crate::exit::Exit;
use crate::failure::Result;
use crate::output;
use crate::server_state::ConfigOptions;

/// Options of `serve`.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    config: ConfigOptions,
    /// Only check the configuration, and that everything it names can be read
    #[arg(long)]
    check: bool,
}

#[derive(Serialize)]
struct Ready {
    listening: Vec<String>,
    fingerprint: String,
    datastores: Vec<String>,
}

/// Serves until told to stop.
pub fn run(global: &Global, options: &Options) -> Result<Exit> {
    let config = options.config.load()?;
    if options.check {
        let datastores = config
            .repositories
            .iter()
            .map(|repository| repository.name.clone())
            .collect();
        let fingerprint = relight_server::Server::open(config)?.fingerprint();
        let ready = Ready {
            listening: Vec::new(),
            fingerprint,
            datastores,
        };
        output::result(global, &ready, |_, out| {
            out.push_str("The configuration is good.\n")
        });
        return Ok(Exit::Done);
    }
    relight_server::serve(config, |listening: &Listening| {
        let ready = Ready {
            listening: listening.addresses.iter().map(ToString::to_string).collect(),
            fingerprint: listening.fingerprint.clone(),
            datastores: listening.datastores.clone(),
        };
        output::result(global, &ready, |ready, out| {
            out.push_str(&format!("Listening on {}.\n", ready.listening.join(", ")));
            out.push_str(&format!(
                "Fingerprint of the certificate: {}\n",
                ready.fingerprint
            ));
            match ready.datastores.as_slice() {
                [] => out.push_str("No repository is configured yet.\n"),
                names => out.push_str(&format!("Datastores: {}.\n", names.join(", "))),
            }
        });
    })?;
    Ok(Exit::Done)
}
