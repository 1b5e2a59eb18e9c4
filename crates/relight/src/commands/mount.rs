//! `relight mount`: shows all snapshots as a read-only file system.

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use relight_mount::MountOptions;
use serde::Serialize;

use crate::client_key::ClientKeyOptions;
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::Result;
use crate::{cancel, output};

/// Options of `mount`.
#[derive(Debug, Args)]
pub struct Options {
    /// Where: an empty directory
    #[arg(value_name = "DIR")]
    directory: PathBuf,
    /// Let other users see it too, each as far as owner, mode and ACL of a file allow
    #[arg(long)]
    allow_other: bool,
    /// Stay in the foreground until it is unmounted; it always does
    #[arg(long)]
    foreground: bool,
    #[command(flatten)]
    client_key: ClientKeyOptions,
}

#[derive(Serialize)]
struct Report {
    mounted_on: PathBuf,
}

/// Mounts them, and returns when they are unmounted.
pub fn run(global: &Global, options: &Options) -> Result<Exit> {
    let repository = global.open_to_read()?;
    let how = MountOptions {
        allow_other: options.allow_other,
        client_key: options
            .client_key
            .key()?
            .map(|key| key as Arc<dyn relight_repo::read::Unseal>),
    };
    let mounted = relight_mount::mount::snapshots(repository, &options.directory, &how)?;
    let report = Report {
        mounted_on: mounted.path().to_path_buf(),
    };
    output::result(global, &report, |report, out| {
        let path = report.mounted_on.display();
        out.push_str(&format!(
            "Mounted on {path}. Unmount with Ctrl-C here or `umount {path}`.\n"
        ));
    });
    mounted.wait(&cancel::flag())?;
    Ok(Exit::Done)
}
