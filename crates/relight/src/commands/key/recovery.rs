//! `relight key recovery`: a key on paper, for the day when everything else is lost.

mod over_api;

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;
use relight_keys::{Background, RecoveryKey, RecoveryPage, SystemEntropy};
use serde::Serialize;

use super::enrol;
use crate::api::ApiOptions;
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::output;

/// Options of `key recovery`.
#[derive(Debug, Args)]
pub struct Options {
    /// Write the page to this new file, readable only by its owner, instead of the terminal
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// What to call it
    #[arg(long, value_name = "TEXT", default_value = "recovery key")]
    label: String,
    #[command(flatten)]
    server: ApiOptions,
}

impl Options {
    /// What it is to be called.
    pub fn label(&self) -> &str {
        &self.label
    }

    /// Whether another host's server makes it, which asks for approval and keeps evidence itself.
    pub fn is_elsewhere(&self) -> bool {
        self.server.is_named()
    }
}

/// All that may be told of it.
#[derive(Serialize)]
struct Made {
    id: String,
    label: String,
    fingerprint: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    output: Option<String>,
}

/// Makes one.
pub fn run(global: &Global, options: &Options) -> Result<Exit> {
    if options.output.is_none() && (global.json || !io::stdout().is_terminal()) {
        return Err(Failure::Usage(
            "the recovery key is secret and shown on a terminal only; name a file to print with --output FILE. \
             Nothing was changed"
                .into(),
        ));
    }
    if let Some(api) = options.server.open()? {
        return over_api::run(global, options, &api);
    }
    let (storage, opened) = global.unlock()?;
    let usage = |error: relight_keys::ProviderError| Failure::Usage(error.to_string());
    let key = RecoveryKey::generate(&mut SystemEntropy).map_err(usage)?;
    let repository = opened.repository().to_string();
    let (location, made) = (storage.location(), Timestamp::now().to_string());
    let page = RecoveryPage {
        repository: &repository,
        location: &location,
        label: &options.label,
        made: &made,
    };
    let page = |background| page.text(&key, background);
    // The page is safe on disk before the repository knows of the key, and goes if it does not come to that.
    if let Some(path) = &options.output {
        fill(reserve(path)?, path, &page(Background::Light))?;
    }
    let id = enrol(&*storage, &opened, &key, &options.label).inspect_err(|_| {
        if let Some(path) = &options.output {
            let _ = std::fs::remove_file(path);
        }
    })?;
    if options.output.is_none() {
        show(&page(Background::Dark))?;
    }
    Ok(tell(global, options, id.to_string(), key.fingerprint()))
}

/// Shows the page, on a terminal.
fn show(page: &str) -> Result<()> {
    let shown = io::stdout().lock().write_all(page.as_bytes());
    shown.map_err(Failure::io("show the recovery key"))
}

/// Tells what to do with what was made.
fn tell(global: &Global, options: &Options, id: String, fingerprint: String) -> Exit {
    let made = Made {
        id,
        label: options.label.clone(),
        fingerprint,
        output: options.output.as_ref().map(|path| path.display().to_string()),
    };
    output::result(global, &made, |made, out| {
        out.push_str(&format!(
            "Added the recovery key {} with id {}.\n",
            made.fingerprint, made.id
        ));
        match &made.output {
            Some(path) => out.push_str(&format!(
                "Print {path}, check it with\n  relight key test --recovery-key-file {path}\nput the print in a safe, \
                 and delete the file.\n"
            )),
            None => out.push_str(
                "Print or write down the key above and put it in a safe; it is shown only now. To check what is on \
                 paper,\ntype it into a file and run\n  relight key test --recovery-key-file FILE\n",
            ),
        }
    });
    Exit::Done
}

/// A new file that only its owner can read.
fn reserve(path: &Path) -> Result<File> {
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    made.map_err(Failure::io(format!("make {}", path.display())))
}

/// Writes the page into its file, which goes if that fails.
fn fill(mut file: File, path: &Path, page: &str) -> Result<()> {
    let durable = |file: &mut File| {
        file.write_all(page.as_bytes())?;
        file.sync_all()?;
        let folder = path
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        File::open(folder)?.sync_all()
    };
    durable(&mut file).map_err(|error| {
        let _ = std::fs::remove_file(path);
        Failure::Io(format!("write {}", path.display()), error)
    })
}
