//! `relight plan edit`: changes the plan of a server over its API, which writes down who did it and may want a second person.

use std::fs::OpenOptions;
use std::io::{IsTerminal, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use clap::Args;
use http::Method;
use serde_json::json;

use super::over_api::{Looked, difference, look, text, words};
use crate::api::{Api, ApiOptions, read};
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::output;

/// Options of `plan edit`.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    server: ApiOptions,
    /// A file with all of the new text, as `plan edit` or `api GET /plan` shows it [default: $VISUAL or $EDITOR is started]
    #[arg(long, value_name = "FILE")]
    file: Option<PathBuf>,
    /// Write it without asking
    #[arg(long)]
    yes: bool,
}

/// Edits it.
pub fn run(global: &Global, options: &Options) -> Result<Exit> {
    let api = options.server.required()?;
    let (now, digest) = text(&api)?;
    let kept = match &options.file {
        Some(path) => path.clone(),
        None => edited(&now)?,
    };
    let new = std::fs::read_to_string(&kept);
    let new = new.map_err(Failure::io(format!("read {}", kept.display())))?;
    let written = if new == now {
        output::remark(global, "nothing is changed");
        Ok(Exit::Done)
    } else {
        write(global, options, &api, (&new, &digest))
    };
    if options.file.is_none() {
        match &written {
            Ok(Exit::Done) => {
                let _ = std::fs::remove_file(&kept);
            }
            _ => output::remark(
                global,
                &format!("your text is kept: relight plan edit --file {}", kept.display()),
            ),
        }
    }
    written
}

/// The text in an editor; gives the file that it is in.
fn edited(now: &str) -> Result<PathBuf> {
    let path = std::env::temp_dir().join(format!("relight-plan-{}.toml", std::process::id()));
    let failed = |error| Failure::Io(format!("write {}", path.display()), error);
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(&path)
        .map_err(failed)?;
    file.write_all(now.as_bytes()).map_err(failed)?;
    let named = |name| std::env::var(name).ok().filter(|value| !value.trim().is_empty());
    let editor = named("VISUAL")
        .or_else(|| named("EDITOR"))
        .unwrap_or_else(|| "vi".into());
    let ended = start(&editor, &path);
    match ended {
        Ok(true) => Ok(path),
        Ok(false) => Err(Failure::Usage(format!(
            "{editor} ended with an error; nothing was changed, and the text is in {}",
            path.display()
        ))),
        Err(error) => {
            let _ = std::fs::remove_file(&path);
            Err(Failure::Io(format!("start {editor}"), error))
        }
    }
}

/// An editor is a command with options, as shells understand it.
fn start(editor: &str, path: &Path) -> std::io::Result<bool> {
    let status = Command::new("sh")
        .args(["-c", &format!("{editor} \"$1\""), "sh"])
        .arg(path)
        .status()?;
    Ok(status.success())
}

fn write(global: &Global, options: &Options, api: &Api, (new, digest): (&str, &str)) -> Result<Exit> {
    let looked: Looked = read(&look(api, new)?)?;
    let mut told = String::new();
    words(&looked, &mut told);
    difference(&looked, &mut told);
    eprint!("{told}");
    if !looked.is_readable() {
        return Ok(Exit::Failed);
    }
    if !options.yes && !agreed("Write it?")? {
        output::remark(global, "nothing was changed");
        return Ok(Exit::Cancelled);
    }
    // As it was read: if somebody else has written it meanwhile, the server refuses this.
    let body = json!({"text": new, "based-on": digest});
    let done = api.ask(Method::PUT, "/plan", Some(&body))?;
    output::result(global, &done, |_, out| {
        out.push_str("The plan is written; the server takes it within seconds.\n");
    });
    Ok(Exit::Done)
}

/// Whether somebody at the terminal says yes.
pub fn agreed(question: &str) -> Result<bool> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::Usage(
            "there is no terminal to ask whether it is to be done: say --yes".into(),
        ));
    }
    eprint!("{question} [y/N] ");
    let mut answer = String::new();
    stdin
        .read_line(&mut answer)
        .map_err(Failure::io("read the answer"))?;
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
