//! Other servers that are known, with what shows them who asks.

use relight_pbs::access::AuthId;
use relight_pbs::formats::crypt::Fingerprint;
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::users::check_comment;
use super::{Change, State, refused};
use crate::error::Result;

/// Longest secret in bytes.
const MAX_SECRET: usize = 1024;

/// Another server.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Remote {
    /// What it is called here.
    #[serde(default)]
    pub name: String,
    /// Name or address of its host.
    pub host: String,
    /// Its port, unless it is 8007.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Who asks there.
    pub auth_id: AuthId,
    /// SHA-256 of its certificate. None: this host's certificate authorities must vouch for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fingerprint: Option<String>,
    /// What people are shown beside the name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// What to change of another server; what is `None` stays.
#[derive(Clone, Default)]
pub struct RemoteChange {
    /// Its host.
    pub host: Option<String>,
    /// Its port; `Some(None)` is 8007.
    pub port: Option<Option<u16>>,
    /// Who asks there.
    pub auth_id: Option<AuthId>,
    /// Its fingerprint; `Some(None)` for none.
    pub fingerprint: Option<Option<String>>,
    /// Comment; empty for none.
    pub comment: Option<String>,
    /// The secret.
    pub secret: Option<Zeroizing<String>>,
}

/// A name of a remote or a job: as the original has them, 3 to 32 letters, digits, `.`, `_` and `-`.
pub(super) fn check_id(what: &str, id: &str) -> Result<(), Change> {
    let safe = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
    let begins = id.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    if (3..=32).contains(&id.len()) && begins && id.bytes().all(safe) {
        return Ok(());
    }
    refused(format!(
        "the name of a {what} has 3 to 32 letters, digits, dots, '_' and '-', and begins with none of the last"
    ))
}

impl Remote {
    fn check(&self) -> Result<(), Change> {
        check_id("remote", &self.name)?;
        check_comment(self.comment.as_deref().unwrap_or_default())?;
        let in_name = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_' | b':');
        if self.host.is_empty() || self.host.len() > 255 || !self.host.bytes().all(in_name) {
            return refused("the host of a remote is a name or an address");
        }
        if let Some(fingerprint) = &self.fingerprint
            && fingerprint.parse::<Fingerprint>().is_err()
        {
            return refused("a fingerprint is 32 pairs of hexadecimal digits with colons between them");
        }
        Ok(())
    }
}

fn check_secret(secret: &str) -> Result<(), Change> {
    if secret.is_empty() || secret.len() > MAX_SECRET || secret.contains(char::is_control) {
        return refused("the password of a remote is one line of at most 1024 bytes");
    }
    Ok(())
}

fn invalid(column: usize) -> impl Fn(serde_json::Error) -> rusqlite::Error {
    move |error| {
        rusqlite::Error::FromSqlConversionFailure(
            column,
            rusqlite::types::Type::Text,
            error.to_string().into(),
        )
    }
}

pub(super) fn from_json<T: serde::de::DeserializeOwned>(
    row: &rusqlite::Row<'_>,
    column: usize,
) -> rusqlite::Result<T> {
    let text: String = row.get(column)?;
    serde_json::from_str(&text).map_err(invalid(column))
}

pub(super) fn to_json(value: &impl Serialize) -> Result<String, Change> {
    serde_json::to_string(value).map_err(|error| Change::Refused(format!("it cannot be kept: {error}")))
}

fn find(connection: &Connection, name: &str) -> rusqlite::Result<Option<Remote>> {
    connection
        .query_row("SELECT config FROM remotes WHERE name = ?", [name], |row| {
            from_json(row, 0)
        })
        .optional()
}

fn none(name: &str) -> String {
    let name: String = name.chars().take(64).collect();
    format!("remote '{name}' does not exist.")
}

impl State {
    /// All other servers, by name.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn remotes(&self) -> Result<Vec<Remote>> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached("SELECT config FROM remotes ORDER BY name")?;
            let rows = statement.query_map([], |row| from_json(row, 0))?;
            rows.collect()
        })
    }

    /// One of them, if there is one of that name.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn remote(&self, name: &str) -> Result<Option<Remote>> {
        self.read(|connection| find(connection, name))
    }

    /// What shows one of them who asks.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn remote_secret(&self, name: &str) -> Result<Zeroizing<String>> {
        let found: Option<String> = self.read(|connection| {
            let query = "SELECT secret FROM remotes WHERE name = ?";
            connection.query_row(query, [name], |row| row.get(0)).optional()
        })?;
        found
            .map(Zeroizing::new)
            .ok_or_else(|| crate::error::ServerError::Refused(none(name)))
    }

    /// Adds one.
    ///
    /// # Errors
    /// There is one of that name, or something about it makes no sense.
    pub fn add_remote(&self, remote: &Remote, secret: &str) -> Result<()> {
        self.change(|connection| {
            remote.check()?;
            check_secret(secret)?;
            if find(connection, &remote.name)?.is_some() {
                return refused(format!("remote '{}' already exists.", remote.name));
            }
            connection.execute(
                "INSERT INTO remotes (name, config, secret) VALUES (?, ?, ?)",
                params![remote.name, to_json(remote)?, secret],
            )?;
            Ok(())
        })
    }

    /// Changes one.
    ///
    /// # Errors
    /// There is none of that name, or something about it makes no sense.
    pub fn change_remote(&self, name: &str, change: &RemoteChange) -> Result<()> {
        self.change(|connection| {
            let Some(mut remote) = find(connection, name)? else {
                return refused(none(name));
            };
            let change = change.clone();
            remote.host = change.host.unwrap_or(remote.host);
            remote.port = change.port.unwrap_or(remote.port);
            remote.auth_id = change.auth_id.unwrap_or(remote.auth_id);
            remote.fingerprint = change.fingerprint.unwrap_or(remote.fingerprint);
            if let Some(comment) = change.comment {
                remote.comment = Some(comment).filter(|comment| !comment.is_empty());
            }
            remote.check()?;
            connection.execute(
                "UPDATE remotes SET config = ? WHERE name = ?",
                params![to_json(&remote)?, name],
            )?;
            if let Some(secret) = &change.secret {
                check_secret(secret)?;
                connection.execute(
                    "UPDATE remotes SET secret = ? WHERE name = ?",
                    params![secret.as_str(), name],
                )?;
            }
            Ok(())
        })
    }

    /// Removes one.
    ///
    /// # Errors
    /// There is none of that name, or a job uses it.
    pub fn remove_remote(&self, name: &str) -> Result<()> {
        self.change(|connection| {
            let mut statement = connection.prepare_cached("SELECT config FROM sync_jobs ORDER BY id")?;
            let jobs: rusqlite::Result<Vec<super::SyncJob>> =
                statement.query_map([], |row| from_json(row, 0))?.collect();
            if let Some(job) = jobs?
                .into_iter()
                .find(|job| job.fields.remote.as_deref() == Some(name))
            {
                return refused(format!("remote '{name}' is used by the sync job '{}'", job.id));
            }
            if connection.execute("DELETE FROM remotes WHERE name = ?", [name])? == 0 {
                return refused(none(name));
            }
            Ok(())
        })
    }
}
