//! API tokens.

use aws_lc_rs::digest;
use relight_pbs::access::{AuthId, UserId};
use rusqlite::{Connection, OptionalExtension, params};

use super::users::{check_comment, must_be};
use super::{Change, Known, NewSecret, State, refused};
use crate::error::Result;

/// An API token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Token {
    /// `name@realm!token`.
    pub id: AuthId,
    /// Whether it may do anything.
    pub enabled: bool,
    /// When that ends, in seconds since 1970.
    pub expires: Option<i64>,
    /// What people are shown beside the name.
    pub comment: Option<String>,
    secret: [u8; 32],
}

impl Token {
    /// Whether it may do anything at a time (seconds since 1970), if its user may.
    pub fn is_active(&self, now: i64) -> bool {
        self.enabled && self.expires.is_none_or(|end| end == 0 || now < end)
    }

    /// Whether this is its secret.
    pub fn has_secret(&self, secret: &str) -> bool {
        aws_lc_rs::constant_time::verify_slices_are_equal(&hash(secret), &self.secret).is_ok()
    }
}

/// What to change of a token; what is `None` stays.
#[derive(Debug, Clone, Default)]
pub struct TokenChange {
    /// Enable or disable it.
    pub enabled: Option<bool>,
    /// When it ends, in seconds since 1970; 0 is never.
    pub expires: Option<i64>,
    /// Comment; empty for none.
    pub comment: Option<String>,
    /// Give it a new secret.
    pub new_secret: bool,
}

/// A secret has 122 random bits, so that a plain hash of it tells nothing; one that people chose would need a slow one.
fn hash(secret: &str) -> [u8; 32] {
    let mut out = [0; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, secret.as_bytes()).as_ref());
    out
}

pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<Token>> {
    let mut statement = connection.prepare_cached(
        "SELECT user || '!' || name, enabled, expires, comment, secret FROM tokens ORDER BY user, name",
    )?;
    let rows = statement.query_map([], |row| {
        Ok(Token {
            id: super::rules::parsed(row, 0)?,
            enabled: row.get(1)?,
            expires: row.get(2)?,
            comment: row.get(3)?,
            secret: row.get(4)?,
        })
    })?;
    rows.collect()
}

impl Known {
    /// A token.
    pub fn token(&self, id: &AuthId) -> Option<&Token> {
        self.tokens
            .binary_search_by(|token| token.id.cmp(id))
            .ok()
            .map(|at| &self.tokens[at])
    }

    /// The tokens of a user.
    pub fn tokens_of<'a>(&'a self, user: &'a UserId) -> impl Iterator<Item = &'a Token> {
        self.tokens.iter().filter(move |token| token.id.user() == user)
    }
}

impl State {
    /// Adds a token; gives its secret, which is not kept and cannot be shown again.
    ///
    /// # Errors
    /// There is no such user, or a token of that name.
    pub fn add_token(&self, id: &AuthId, settings: &TokenChange) -> Result<NewSecret> {
        let secret = NewSecret::generate()?;
        self.change(|connection| {
            let name = name(id)?;
            check_comment(settings.comment.as_deref().unwrap_or_default())?;
            must_be(connection, id.user())?;
            if find(connection, id)? {
                return refused(format!("there is a token {id} already"));
            }
            connection.execute(
                "INSERT INTO tokens (user, name, enabled, expires, comment, secret) VALUES (?, ?, ?, ?, ?, ?)",
                params![
                    id.user().as_str(),
                    name,
                    settings.enabled.unwrap_or(true),
                    settings.expires.filter(|end| *end != 0),
                    settings.comment.as_deref().filter(|comment| !comment.is_empty()),
                    hash(secret.text()),
                ],
            )?;
            Ok(())
        })?;
        Ok(secret)
    }

    /// Changes a token; gives its new secret, if it was to have one.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn change_token(&self, id: &AuthId, change: &TokenChange) -> Result<Option<NewSecret>> {
        let secret = change.new_secret.then(NewSecret::generate).transpose()?;
        self.change(|connection| {
            let key = [id.user().as_str(), name(id)?];
            check_comment(change.comment.as_deref().unwrap_or_default())?;
            if !find(connection, id)? {
                return refused(format!("there is no token {id}"));
            }
            let update = |column: &str, value: &dyn rusqlite::ToSql| {
                connection.execute(
                    &format!("UPDATE tokens SET {column} = ? WHERE user = ? AND name = ?"),
                    params![value, key[0], key[1]],
                )
            };
            if let Some(enabled) = change.enabled {
                update("enabled", &enabled)?;
            }
            if let Some(expires) = change.expires {
                update("expires", &Some(expires).filter(|end| *end != 0))?;
            }
            if let Some(comment) = &change.comment {
                update("comment", &Some(comment).filter(|comment| !comment.is_empty()))?;
            }
            if let Some(secret) = &secret {
                update("secret", &hash(secret.text()))?;
            }
            Ok(())
        })?;
        Ok(secret)
    }

    /// Removes a token and the rules that name it.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn remove_token(&self, id: &AuthId) -> Result<()> {
        self.change(|connection| {
            let name = name(id)?;
            if connection.execute(
                "DELETE FROM tokens WHERE user = ? AND name = ?",
                [id.user().as_str(), name],
            )? == 0
            {
                return refused(format!("there is no token {id}"));
            }
            connection.execute("DELETE FROM rules WHERE who = ?", [id.to_string()])?;
            Ok(())
        })
    }
}

fn name(id: &AuthId) -> Result<&str, Change> {
    id.token().map_or_else(
        || refused(format!("{id} is no token: write name@realm!token")),
        Ok,
    )
}

pub(super) fn find(connection: &Connection, id: &AuthId) -> rusqlite::Result<bool> {
    let key = [id.user().as_str(), id.token().unwrap_or_default()];
    let found = connection.query_row(
        "SELECT 1 FROM tokens WHERE user = ? AND name = ?",
        key,
        |_| Ok(()),
    );
    Ok(found.optional()?.is_some())
}
