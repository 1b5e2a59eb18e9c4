//! Where keys come from: files and prompts, never arguments.

use std::io::{BufRead, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::Args;
use relight_keys::{KeyFile, Passphrase, Provider, RecoveryKey};
use rustix::termios::{LocalModes, OptionalActions};
use zeroize::Zeroizing;

use crate::failure::{Failure, Result};

/// Which key opens the repository.
#[derive(Debug, Clone, Default, Args)]
pub struct KeyOptions {
    /// File whose first line is the passphrase; without any key a prompt asks for it
    #[arg(
        long,
        global = true,
        env = "RELIGHT_PASSWORD_FILE",
        value_name = "FILE",
        help_heading = "Keys"
    )]
    pub password_file: Option<PathBuf>,
    /// Key file
    #[arg(
        long,
        global = true,
        env = "RELIGHT_KEY_FILE",
        value_name = "FILE",
        help_heading = "Keys"
    )]
    pub key_file: Option<PathBuf>,
    /// File with a recovery key as it was printed
    #[arg(long, global = true, value_name = "FILE", help_heading = "Keys")]
    pub recovery_key_file: Option<PathBuf>,
}

impl KeyOptions {
    /// The key to open a repository with.
    pub fn provider(&self) -> Result<Box<dyn Provider>> {
        match self.given()? {
            Some(provider) => Ok(provider),
            None => Ok(Box::new(passphrase(&prompt("Passphrase: ")?)?)),
        }
    }

    /// The key for a new repository: a passphrase that is typed is asked for twice.
    pub fn new_provider(&self) -> Result<Box<dyn Provider>> {
        match self.given()? {
            Some(provider) => Ok(provider),
            None => Ok(Box::new(prompt_new("New passphrase (at least 12 characters): ")?)),
        }
    }

    fn given(&self) -> Result<Option<Box<dyn Provider>>> {
        let given = [&self.password_file, &self.key_file, &self.recovery_key_file]
            .into_iter()
            .flatten()
            .count();
        if given > 1 {
            return Err(Failure::Usage(
                "give one of --password-file (RELIGHT_PASSWORD_FILE), --key-file (RELIGHT_KEY_FILE) and \
                 --recovery-key-file"
                    .into(),
            ));
        }
        if let Some(path) = &self.password_file {
            return Ok(Some(Box::new(Passphrase::read_file(path).map_err(keys)?)));
        }
        if let Some(path) = &self.key_file {
            return Ok(Some(Box::new(KeyFile::read(path).map_err(keys)?)));
        }
        if let Some(path) = &self.recovery_key_file {
            let read = std::fs::read_to_string(path);
            let text = Zeroizing::new(read.map_err(Failure::io(format!("read {}", path.display())))?);
            let key = RecoveryKey::parse(recovery_line(&text)).map_err(|error| {
                Failure::Usage(format!("the recovery key in {}: {error}", path.display()))
            })?;
            return Ok(Some(Box::new(key)));
        }
        Ok(None)
    }
}

/// The key in a text: all of it, or the line of the printed page that is one.
fn recovery_line(text: &str) -> &str {
    let is_key = |line: &&str| RecoveryKey::parse(line).is_ok();
    text.lines().map(str::trim).find(is_key).unwrap_or(text)
}

fn keys(error: impl std::fmt::Display) -> Failure {
    Failure::Usage(error.to_string())
}

fn passphrase(text: &Zeroizing<String>) -> Result<Passphrase> {
    Passphrase::new(text.as_bytes()).map_err(keys)
}

/// Asks for a new passphrase, twice.
pub fn prompt_new(question: &str) -> Result<Passphrase> {
    let first = prompt(question)?;
    let new = passphrase(&first)?;
    new.check_new().map_err(keys)?;
    if *prompt("Again: ")? != *first {
        return Err(Failure::Usage(
            "the two passphrases differ; nothing was changed".into(),
        ));
    }
    Ok(new)
}

/// A new password of a user of the server: the first line of a file, or typed twice.
pub fn new_password(file: Option<&Path>) -> Result<Zeroizing<String>> {
    if let Some(path) = file {
        return first_line(path);
    }
    let missing = "there is no terminal to ask for a password: name a file with --new-password-file";
    let first = typed("New password (at least 8 characters): ", missing)?;
    if *typed("Again: ", missing)? != *first {
        return Err(Failure::Usage(
            "the two passwords differ; nothing was changed".into(),
        ));
    }
    Ok(first)
}

/// The password of a user of the server: the first line of a file, or typed.
pub fn password_of(user: &relight_pbs::access::UserId, file: Option<&Path>) -> Result<Zeroizing<String>> {
    match file {
        Some(path) => first_line(path),
        None => typed(
            &format!("Password of {user}: "),
            "there is no terminal to ask for a password: name a file with --user-password-file",
        ),
    }
}

fn first_line(path: &Path) -> Result<Zeroizing<String>> {
    let read = std::fs::read_to_string(path);
    let text = Zeroizing::new(read.map_err(Failure::io(format!("read {}", path.display())))?);
    Ok(Zeroizing::new(
        text.lines().next().unwrap_or_default().to_string(),
    ))
}

/// What shows another server who asks: the first line of a file, which `option` names, or typed.
pub fn secret(file: Option<&Path>, option: &str) -> Result<Zeroizing<String>> {
    match file {
        Some(path) => first_line(path),
        None => typed(
            "Secret or password: ",
            &format!("there is no terminal to ask for the secret: name a file with {option}"),
        ),
    }
}

/// Reads a passphrase from the terminal.
fn prompt(question: &str) -> Result<Zeroizing<String>> {
    let missing = "no key was given and there is no terminal to ask for a passphrase: set RELIGHT_PASSWORD_FILE or \
                   RELIGHT_KEY_FILE";
    typed(question, missing)
}

/// The password of a client's key file, typed; none without a terminal.
pub fn client_key_password() -> Option<Zeroizing<String>> {
    typed("Password of the client key: ", "there is no terminal").ok()
}

/// A new password for a client's key file, typed twice.
pub fn new_client_key_password() -> Result<Zeroizing<String>> {
    let missing = "there is no terminal to ask for a password: name a file with --new-password-file, or say --no-password";
    let first = typed("New password of the client key: ", missing)?;
    if *typed("Again: ", missing)? != *first {
        return Err(Failure::Usage(
            "the two passwords differ; nothing was changed".into(),
        ));
    }
    Ok(first)
}

/// Reads a line from the terminal without showing it; `missing` says what to do without one.
fn typed(question: &str, missing: &str) -> Result<Zeroizing<String>> {
    let stdin = std::io::stdin();
    if !stdin.is_terminal() {
        return Err(Failure::Usage(missing.into()));
    }
    let failed = |error: rustix::io::Errno| Failure::Io("read the passphrase".into(), error.into());
    eprint!("{question}");
    let _ = std::io::stderr().flush();
    let before = rustix::termios::tcgetattr(&stdin).map_err(failed)?;
    let mut silent = before.clone();
    silent.local_modes.remove(LocalModes::ECHO);
    rustix::termios::tcsetattr(&stdin, OptionalActions::Flush, &silent).map_err(failed)?;
    let mut line = Zeroizing::new(String::new());
    let read = stdin.lock().read_line(&mut line);
    let restored = rustix::termios::tcsetattr(&stdin, OptionalActions::Flush, &before);
    eprintln!();
    read.map_err(Failure::io("read the passphrase"))?;
    restored.map_err(failed)?;
    let end = line.trim_end_matches(['\r', '\n']).len();
    line.truncate(end);
    Ok(line)
}
