//! `relight key recovery`: a key on paper, for the day when everything else is lost.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::Args;
use jiff::Timestamp;
use relight_keys::{Background, Provider, RecoveryKey, RecoveryPage, SystemEntropy};
use serde::Serialize;

use super::enrol;
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
}

impl Options {
    /// What it is to be called.
    pub fn label(&self) -> &str {
        &self.label
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
        write(path, &page(Background::Light))?;
    }
    let id = enrol(&*storage, &opened, &key, &options.label).inspect_err(|_| {
        if let Some(path) = &options.output {
            let _ = std::fs::remove_file(path);
        }
    })?;
    if options.output.is_none() {
        let text = page(Background::Dark);
        io::stdout()
            .lock()
            .write_all(text.as_bytes())
            .map_err(Failure::io("show the recovery key"))?;
    }
    let made = Made {
        id: id.to_string(),
        label: options.label.clone(),
        fingerprint: key.fingerprint(),
        output: options.output.as_ref().map(|path| path.display().to_string()),
    };
    output::result(global, &made, |made, out| {
        out.push_str(&format!("Added {} with id {}.\n", key.name(), made.id));
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
    Ok(Exit::Done)
}

fn write(path: &Path, page: &str) -> Result<()> {
    let made = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path);
    let mut file = made.map_err(Failure::io(format!("make {}", path.display())))?;
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
