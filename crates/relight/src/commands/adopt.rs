//! `relight adopt`: brings a server back from a repository.

use std::path::{Path, PathBuf};

use clap::Args;
use relight_server::Adopted;
use relight_server::config::DEFAULT_PATH;

use crate::context::Global;
use crate::exit::Exit;
use crate::failure::Result;
use crate::{output, shown};

/// Options of `adopt`.
#[derive(Debug, Args)]
pub struct Options {
    /// Where the server's configuration is written [default: /etc/relight/relight.toml]
    #[arg(long, env = "RELIGHT_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Which server, if several have backed themselves up into the repository
    #[arg(long, value_name = "NAME")]
    node: Option<String>,
}

/// Does it.
pub fn run(global: &Global, options: &Options) -> Result<Exit> {
    let configuration = options.config.as_deref().unwrap_or(Path::new(DEFAULT_PATH));
    let repository = global.open()?;
    let adopted = relight_server::adopt(&repository, configuration, options.node.as_deref())?;
    output::result(global, &adopted, words);
    Ok(if adopted.evidence.broken.is_some() {
        Exit::Damage
    } else {
        Exit::Done
    })
}

fn words(adopted: &Adopted, out: &mut String) {
    out.push_str(&format!(
        "Brought {} back as it was at {}: {} users, {} tokens.\nConfiguration: {}\nState: {}\n",
        adopted.workload,
        shown::local(adopted.time),
        adopted.users,
        adopted.tokens,
        adopted.configuration.display(),
        adopted.state.display()
    ));
    match &adopted.evidence.broken {
        None => out.push_str(&format!(
            "Evidence: {} records, whole.\n",
            adopted.evidence.records
        )),
        Some(broken) => out.push_str(&format!(
            "EVIDENCE IS NOT WHOLE: record {}: {}.\n",
            broken.sequence, broken.why
        )),
    }
    if adopted.to_do.is_empty() {
        out.push_str("Start it with `relight serve`.\n");
    } else {
        out.push_str("Before `relight serve`:\n");
        for what in &adopted.to_do {
            out.push_str(&format!("- {what}\n"));
        }
    }
}
