//! `relight key client`: keys by which clients encrypt what they send to a server, in the original's format.

use std::fs::OpenOptions;
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use clap::{Args, Subcommand};
use jiff::Zoned;
use relight_pbs::formats::blob::{Blob, MAX_BLOB};
use relight_pbs::formats::crypt::{CryptKey, Kdf, KeyFile, KeyFileError, master};
use serde::Serialize;
use zeroize::Zeroizing;

use crate::client_key::{first_line, read_file, unlock};
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::{credentials, output};

/// What to do with the key of a client. None of it needs a repository or a server.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a key. Whoever loses it loses what was encrypted with it
    Create(CreateOptions),
    /// Show the fingerprint of a key
    Show {
        /// The key file
        file: PathBuf,
    },
    /// Give a key file another password, or none. The key stays the same
    ChangePassword(ChangeOptions),
    /// Get the key of a client back from `rsa-encrypted.key.blob` of a snapshot, with the private master key
    Recover(RecoverOptions),
}

/// What protects a key file.
#[derive(Debug, Args)]
pub struct Protection {
    /// File whose first line is the new password; without it a prompt asks
    #[arg(long, value_name = "FILE", conflicts_with = "no_password")]
    new_password_file: Option<PathBuf>,
    /// Protect the file with no password: whoever can read it has the key
    #[arg(long)]
    no_password: bool,
    /// Words in the file that remind of the password
    #[arg(long, value_name = "TEXT", conflicts_with = "no_password")]
    hint: Option<String>,
}

/// Options of `create`.
#[derive(Debug, Args)]
pub struct CreateOptions {
    /// The new key file
    file: PathBuf,
    #[command(flatten)]
    protection: Protection,
}

/// Options of `change-password`.
#[derive(Debug, Args)]
pub struct ChangeOptions {
    /// The key file
    file: PathBuf,
    /// File whose first line is its password until now; without it a prompt asks
    #[arg(long, value_name = "FILE")]
    client_key_password_file: Option<PathBuf>,
    #[command(flatten)]
    protection: Protection,
}

/// Options of `recover`.
#[derive(Debug, Args)]
pub struct RecoverOptions {
    /// The new key file
    file: PathBuf,
    /// The blob, or its content, as `relight restore` and `relight dump` give it
    #[arg(long, value_name = "FILE")]
    sealed: PathBuf,
    /// The private master key: PEM, without passphrase
    #[arg(long, value_name = "FILE")]
    master_key: PathBuf,
    #[command(flatten)]
    protection: Protection,
}

#[derive(Serialize)]
struct Report {
    file: String,
    fingerprint: String,
    protection: &'static str,
    created: String,
    modified: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    hint: Option<String>,
}

/// Does it.
pub fn run(global: &Global, command: &Command) -> Result<Exit> {
    match command {
        Command::Create(options) => {
            let key = CryptKey::generate().map_err(|error| Failure::Usage(error.to_string()))?;
            let file = protect(&key, &options.protection, None)?;
            write_new(&options.file, &file.encode())?;
            show(global, &options.file, &file)
        }
        Command::Show { file } => show(global, file, &parse(file)?),
        Command::ChangePassword(options) => {
            let old = parse(&options.file)?;
            let key = unlock(&options.file, options.client_key_password_file.as_deref())?;
            let new = protect(&key, &options.protection, Some(old.created))?;
            // The old file stays until the new one is whole.
            let temporary = options.file.with_extension(format!("new-{}", std::process::id()));
            write_new(&temporary, &new.encode())?;
            std::fs::rename(&temporary, &options.file)
                .map_err(Failure::io(format!("replace {}", options.file.display())))?;
            show(global, &options.file, &new)
        }
        Command::Recover(options) => {
            let refused = |error: &dyn std::fmt::Display| Failure::Usage(error.to_string());
            let bytes = read_file(&options.sealed)?;
            // As a blob, or as what it holds.
            let sealed = match Blob::parse(&bytes) {
                Ok(blob) => Zeroizing::new(blob.decode(MAX_BLOB).map_err(|error| refused(&error))?),
                Err(_) => bytes,
            };
            let found =
                master::open(&sealed, &read_file(&options.master_key)?).map_err(|error| refused(&error))?;
            let key = found.unlock(|| None).map_err(|error| refused(&error))?;
            let file = protect(&key, &options.protection, Some(found.created))?;
            write_new(&options.file, &file.encode())?;
            show(global, &options.file, &file)
        }
    }
}

fn of(path: &Path) -> impl Fn(KeyFileError) -> Failure + '_ {
    |error| Failure::Usage(format!("client key {}: {error}", path.display()))
}

fn parse(path: &Path) -> Result<KeyFile> {
    KeyFile::parse(&read_file(path)?).map_err(of(path))
}

/// A file for the key; `created` is when the key was made, if that is not now.
fn protect(key: &[u8; 32], protection: &Protection, created: Option<String>) -> Result<KeyFile> {
    let now = Zoned::now().strftime("%Y-%m-%dT%H:%M:%S%:z").to_string();
    let failed = |error: KeyFileError| Failure::Usage(error.to_string());
    let mut file = if protection.no_password {
        KeyFile::new(key, None, None, &now).map_err(failed)?
    } else {
        let password = match &protection.new_password_file {
            Some(path) => first_line(path)?,
            None => Zeroizing::new(credentials::new_client_key_password()?.as_bytes().to_vec()),
        };
        if password.len() < 5 {
            return Err(Failure::Usage(
                "the password of a client key has at least 5 characters".into(),
            ));
        }
        let kdf = Kdf::new_scrypt().map_err(failed)?;
        KeyFile::new(key, Some((kdf, &password)), protection.hint.clone(), &now).map_err(failed)?
    };
    if let Some(created) = created {
        file.created = created;
    }
    Ok(file)
}

fn write_new(path: &Path, bytes: &[u8]) -> Result<()> {
    let failed = || Failure::io(format!("make {}", path.display()));
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(failed())?;
    file.write_all(bytes)
        .and_then(|()| file.sync_all())
        .map_err(failed())
}

fn show(global: &Global, path: &Path, file: &KeyFile) -> Result<Exit> {
    let fingerprint = match file.fingerprint {
        Some(found) => found,
        // Older files do not tell; those without a password can be asked.
        None => {
            let key = file.unlock(|| None).map_err(of(path))?;
            CryptKey::new(&key)
                .map_err(|error| of(path)(error.into()))?
                .fingerprint()
        }
    };
    let report = Report {
        file: path.display().to_string(),
        fingerprint: fingerprint.to_string(),
        protection: match file.kdf {
            None => "none",
            Some(Kdf::Scrypt { .. }) => "scrypt",
            Some(Kdf::Pbkdf2 { .. }) => "pbkdf2",
        },
        created: file.created.clone(),
        modified: file.modified.clone(),
        hint: file.hint.clone(),
    };
    output::result(global, &report, |report, out| {
        out.push_str(&format!(
            "Client key {}\n  fingerprint {}\n  password: {}\n  made {}, file changed {}\n",
            report.file, report.fingerprint, report.protection, report.created, report.modified
        ));
        if let Some(hint) = &report.hint {
            out.push_str(&format!("  hint: {hint}\n"));
        }
    });
    Ok(Exit::Done)
}
