//! `relight key`: who can open a repository.

mod client;
mod recovery;
mod retire;
mod rewrite;

use std::path::PathBuf;

use clap::{Args, Subcommand};
use jiff::Timestamp;
use relight_keys::{KeyFile, Opened, Passphrase, Provider, SystemEntropy, WrapId, WrapInfo};
use relight_pbs::access::Action;
use relight_repo::rewrite::RewriteReport;
use relight_repo::storage::Storage;
use relight_repo::{RepoError, keyring};
use serde::Serialize;

use crate::approved::{Asked, Served, with_leave};
use crate::context::Global;
use crate::credentials::{KeyOptions, prompt_new};
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::{output, shown};

/// What to do with the keys.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// List the keys that open the repository. Needs none of them
    List,
    /// Add a passphrase or key file
    Add(AddOptions),
    /// Make a recovery key for the safe: text and QR code to print
    Recovery(recovery::Options),
    /// Prove that the given keys open the repository
    Test,
    /// Take access away from a key
    Remove(RemoveOptions),
    /// Make a new data key, which everything new is sealed under
    Rotate(RotateOptions),
    /// Seal everything that is sealed under an older data key again under the current one
    Rewrite(rewrite::Options),
    /// Show what is sealed under which data key
    Uses,
    /// Drop old data keys that nothing is sealed under any more
    Retire(retire::Options),
    /// Manage keys by which clients encrypt what they send to a server
    #[command(subcommand)]
    Client(client::Command),
}

/// Options of `key add`.
#[derive(Debug, Args)]
pub struct AddOptions {
    /// What to call it
    #[arg(long, value_name = "TEXT")]
    label: Option<String>,
    /// File whose first line is the new passphrase; without it or a key file, a prompt asks for it
    #[arg(long, value_name = "FILE", conflicts_with = "new_key_file")]
    new_password_file: Option<PathBuf>,
    /// Key file to add; made if there is none of that name
    #[arg(long, value_name = "FILE")]
    new_key_file: Option<PathBuf>,
}

/// Options of `key remove`.
#[derive(Debug, Args)]
pub struct RemoveOptions {
    /// Its id, as `key list` shows it
    id: String,
    /// Also make a new data key, so that whoever kept the old ones cannot read what is saved from now on
    #[arg(long)]
    rotate: bool,
}

/// Options of `key rotate`.
#[derive(Debug, Args)]
pub struct RotateOptions {
    /// Then seal what is there again under it, as `key rewrite` does
    #[arg(long)]
    rewrite: bool,
    #[command(flatten)]
    how: rewrite::Options,
}

/// What a command leaves in the evidence, if it uses or changes keys.
pub fn told(command: &Command) -> Option<String> {
    Some(match command {
        Command::List | Command::Uses | Command::Client(_) => return None,
        Command::Add(_) => "added a key that opens the repository".into(),
        Command::Recovery(options) if options.is_elsewhere() => return None,
        Command::Recovery(_) => "made a recovery key".into(),
        Command::Test => "tested the key".into(),
        Command::Remove(options) => format!("removed the key {}", options.id),
        Command::Rotate(_) => "made a new data key".into(),
        Command::Rewrite(_) => "sealed everything again under the current data key".into(),
        Command::Retire(_) => "dropped old data keys".into(),
    })
}

/// What a command does, if it lets somebody else open the repository: what one person alone may not be enough for.
fn gives_away(command: &Command) -> Option<String> {
    Some(match command {
        Command::Recovery(options) if options.is_elsewhere() => return None,
        Command::Recovery(options) => format!("make a recovery key {:?} that opens", options.label()),
        Command::Add(options) => {
            let kind = match (&options.new_password_file, &options.new_key_file) {
                (None, Some(_)) => "key file",
                _ => "passphrase",
            };
            let label = options.label.as_deref().unwrap_or(kind);
            format!("add a {kind} {label:?} that opens")
        }
        _ => return None,
    })
}

/// Does it.
pub fn run(global: &Global, command: &Command) -> Result<Exit> {
    let asked = |served: &Served| {
        Ok(gives_away(command).map(|what| Asked {
            path: "/system".into(),
            subject: format!("{what} the repository {}", served.repository),
            exact: String::new(),
        }))
    };
    with_leave(global, Action::Keys, asked, || execute(global, command))
}

fn execute(global: &Global, command: &Command) -> Result<Exit> {
    match command {
        Command::List => list(global),
        Command::Add(options) => add(global, options),
        Command::Recovery(options) => recovery::run(global, options),
        Command::Test => test(global),
        Command::Remove(options) => remove(global, options),
        Command::Rotate(options) => rotate(global, options),
        Command::Rewrite(options) => rewrite::run(global, options),
        Command::Uses => rewrite::uses(global),
        Command::Retire(options) => retire::run(global, options),
        Command::Client(command) => client::run(global, command),
    }
}

/// A key in the list.
#[derive(Serialize)]
struct Row {
    id: String,
    kind: String,
    label: String,
    created: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    fingerprint: Option<String>,
    #[serde(skip)]
    when: Option<Timestamp>,
}

impl Row {
    fn of(info: &WrapInfo) -> Self {
        let when = Timestamp::from_second(info.created).ok();
        Self {
            id: info.id.to_string(),
            kind: info.kind.clone(),
            label: info.label.clone(),
            created: when.map_or_else(|| info.created.to_string(), |when| when.to_string()),
            fingerprint: info
                .parameters
                .get("fingerprint")
                .and_then(|value| value.as_str())
                .map(String::from),
            when,
        }
    }
}

fn list(global: &Global) -> Result<Exit> {
    let storage = global.storage()?;
    let ring = keyring::wraps(&*storage)?;
    let rows: Vec<Row> = ring.wraps().map(Row::of).collect();
    output::result(global, &rows, |rows, out| {
        let heading = ["ID", "KIND", "CREATED", "FINGERPRINT", "LABEL"]
            .map(String::from)
            .to_vec();
        let row = |row: &Row| {
            let created = row.when.map_or_else(|| row.created.clone(), shown::local);
            let fingerprint = row.fingerprint.clone().unwrap_or_else(|| "-".into());
            vec![
                row.id.clone(),
                row.kind.clone(),
                created,
                fingerprint,
                row.label.clone(),
            ]
        };
        let rows: Vec<_> = std::iter::once(heading).chain(rows.iter().map(row)).collect();
        output::table(&rows, &[], out);
    });
    Ok(Exit::Done)
}

/// Gives a provider access.
fn enrol(storage: &dyn Storage, opened: &Opened, provider: &dyn Provider, label: &str) -> Result<WrapId> {
    let now = Timestamp::now();
    // A key that is known by its fingerprint has access once and not twice; a passphrase has none.
    let is_same = |info: &&WrapInfo| {
        info.kind == provider.kind()
            && info.parameters.get("fingerprint").is_some()
            && matches!(provider.unlock(&info.parameters), Ok(Some(_)))
    };
    if let Some(info) = opened.wraps().find(is_same) {
        return Err(Failure::Usage(format!(
            "{} opens the repository already: id {} ({}); nothing was changed",
            provider.name(),
            info.id,
            info.label
        )));
    }
    let mut added = None;
    keyring::change(storage, opened, now, |change| {
        added = Some(change.add_wrap(provider, label, now.as_second(), &mut SystemEntropy)?);
        Ok(())
    })?;
    added.ok_or_else(|| Failure::Usage("no key was added".into()))
}

#[derive(Serialize)]
struct Added {
    id: String,
    kind: String,
    label: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    made: Option<String>,
}

fn add(global: &Global, options: &AddOptions) -> Result<Exit> {
    let usage = |error: relight_keys::ProviderError| Failure::Usage(error.to_string());
    let (storage, opened) = global.unlock()?;
    let mut made = None;
    let provider: Box<dyn Provider> = match (&options.new_password_file, &options.new_key_file) {
        (Some(path), _) => {
            let passphrase = Passphrase::read_file(path).map_err(usage)?;
            passphrase.check_new().map_err(usage)?;
            Box::new(passphrase)
        }
        (None, Some(path)) if path.exists() => Box::new(KeyFile::read(path).map_err(usage)?),
        (None, Some(path)) => {
            let key = KeyFile::generate(&mut SystemEntropy).map_err(usage)?;
            key.create(path).map_err(usage)?;
            made = Some(path);
            Box::new(key)
        }
        (None, None) => Box::new(prompt_new("New passphrase (at least 12 characters): ")?),
    };
    let label = options
        .label
        .clone()
        .unwrap_or_else(|| provider.kind().to_string());
    let id = enrol(&*storage, &opened, &*provider, &label).inspect_err(|_| {
        if let Some(path) = made {
            // A key file that opens nothing would only confuse.
            let _ = std::fs::remove_file(path);
        }
    })?;
    let added = Added {
        id: id.to_string(),
        kind: provider.kind().to_string(),
        label,
        made: made.map(|path| path.display().to_string()),
    };
    output::result(global, &added, |added, out| {
        out.push_str(&format!(
            "Added {} ({}) with id {}.\n",
            added.kind, added.label, added.id
        ));
        if let Some(path) = &added.made {
            out.push_str(&format!(
                "Made {path}. Keep a copy away from this machine and from the repository.\n"
            ));
        }
    });
    Ok(Exit::Done)
}

#[derive(Serialize)]
struct Tested {
    key: String,
    opens: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    label: Option<String>,
    /// Data keys that it gives.
    data_keys: usize,
    /// What is wrong.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
}

/// Tries each key that was given by itself.
fn test(global: &Global) -> Result<Exit> {
    let storage = global.storage()?;
    if !keyring::is_repository(&*storage)? {
        return Err(RepoError::NotARepository {
            location: storage.location(),
        }
        .into());
    }
    let single = |password_file: &Option<PathBuf>, key_file: &Option<PathBuf>, recovery: &Option<PathBuf>| {
        KeyOptions {
            password_file: password_file.clone(),
            key_file: key_file.clone(),
            recovery_key_file: recovery.clone(),
        }
    };
    let keys = &global.keys;
    let mut candidates = Vec::new();
    if keys.password_file.is_some() {
        candidates.push(single(&keys.password_file, &None, &None));
    }
    if keys.key_file.is_some() {
        candidates.push(single(&None, &keys.key_file, &None));
    }
    if keys.recovery_key_file.is_some() {
        candidates.push(single(&None, &None, &keys.recovery_key_file));
    }
    if candidates.is_empty() {
        candidates.push(KeyOptions::default());
    }
    let mut tested = Vec::new();
    for candidate in candidates {
        let provider = candidate.provider()?;
        tested.push(match keyring::unlock(&*storage, &*provider) {
            Ok(opened) => {
                let info = opened.wraps().find(|info| info.id == opened.opened_by());
                Tested {
                    key: provider.name(),
                    opens: true,
                    id: Some(opened.opened_by().to_string()),
                    label: info.map(|info| info.label.clone()),
                    data_keys: opened.keys().ids().count(),
                    problem: (!opened.is_newest()).then(|| {
                        "a newer keyring does not know this key: it opens what was saved before, and cannot be used to \
                         save"
                            .into()
                    }),
                }
            }
            Err(error) => Tested {
                key: provider.name(),
                opens: false,
                id: None,
                label: None,
                data_keys: 0,
                problem: Some(error.to_string()),
            },
        });
    }
    output::result(global, &tested, |tested, out| {
        for one in tested {
            match (&one.id, &one.label) {
                (Some(id), label) => out.push_str(&format!(
                    "{} opens the repository: id {id}{}, {}.\n",
                    one.key,
                    label
                        .as_ref()
                        .map_or_else(String::new, |label| format!(" ({label})")),
                    if one.data_keys == 1 {
                        "1 data key".into()
                    } else {
                        format!("{} data keys", one.data_keys)
                    }
                )),
                _ => out.push_str(&format!("{} does NOT open the repository.\n", one.key)),
            }
            if let Some(problem) = &one.problem {
                out.push_str(&format!("  {problem}\n"));
            }
        }
    });
    let good = tested.iter().all(|one| one.opens && one.problem.is_none());
    Ok(if good { Exit::Done } else { Exit::Failed })
}

#[derive(Serialize)]
struct Changed {
    #[serde(skip_serializing_if = "Option::is_none")]
    removed: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    new_data_key: Option<String>,
}

fn remove(global: &Global, options: &RemoveOptions) -> Result<Exit> {
    let id: WrapId = options.id.parse().map_err(|_| {
        Failure::Usage(format!(
            "{:?} is no key's id; `relight key list` shows them",
            options.id
        ))
    })?;
    let (storage, opened) = global.unlock()?;
    // Whoever removes a key must hold another one, and this proves it.
    if opened.opened_by() == id && opened.wraps().len() > 1 {
        return Err(Failure::Usage(format!(
            "{id} is the key that was used just now; open the repository with another one to remove it, which proves \
             that you have one. Nothing was changed"
        )));
    }
    let now = Timestamp::now();
    let mut new_data_key = None;
    keyring::change(&*storage, &opened, now, |change| {
        change.remove_wrap(id)?;
        if options.rotate {
            new_data_key = Some(change.rotate(now.as_second(), &mut SystemEntropy)?.to_string());
        }
        Ok(())
    })?;
    let changed = Changed {
        removed: Some(id.to_string()),
        new_data_key,
    };
    output::result(global, &changed, |changed, out| {
        out.push_str(&format!("Key {id} opens the repository no more.\n"));
        match &changed.new_data_key {
            Some(key) => out.push_str(&format!("What is saved from now on is sealed under the new data key {key}.\n")),
            None => out.push_str(
                "Whoever had it may have kept the data keys: `relight key rotate` protects what is saved from now on.\n",
            ),
        }
        out.push_str("Take away that person's access to the storage, too.\n");
    });
    Ok(Exit::Done)
}

#[derive(Serialize)]
struct Rotated {
    new_data_key: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    rewrite: Option<RewriteReport>,
}

fn rotate(global: &Global, options: &RotateOptions) -> Result<Exit> {
    let (storage, opened) = global.unlock()?;
    let now = Timestamp::now();
    let mut new = None;
    let keyring = keyring::change(&*storage, &opened, now, |change| {
        new = Some(change.rotate(now.as_second(), &mut SystemEntropy)?.to_string());
        Ok(())
    })?;
    let mut rotated = Rotated {
        new_data_key: new.unwrap_or_default(),
        rewrite: None,
    };
    if options.rewrite {
        let repository = global.open_with(storage, keyring.into_keys())?;
        rotated.rewrite = Some(rewrite::run_on(global, &options.how, &repository)?);
    }
    output::result(global, &rotated, |rotated, out| {
        out.push_str(&format!(
            "What is saved from now on is sealed under the new data key {}.\n",
            rotated.new_data_key
        ));
        match &rotated.rewrite {
            Some(report) => rewrite::words(report, out),
            None => out.push_str(
                "What is there stays readable under the old one; `relight key rewrite` seals it again.\n",
            ),
        }
    });
    Ok(Exit::Done)
}
