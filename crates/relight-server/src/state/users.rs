//! Users.

use argon2::{Algorithm, Argon2, Params, Version};
use base64::Engine;
use base64::engine::general_purpose::STANDARD_NO_PAD as BASE64;
use relight_pbs::access::UserId;
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::directory_users::Elsewhere;
use super::{Change, Known, State, random, refused};
use crate::error::{Result, ServerError};

/// Shortest password of a user in bytes.
const MIN_PASSWORD: usize = 8;
/// Longest password in bytes.
const MAX_PASSWORD: usize = 1024;
/// Longest comment in bytes.
pub(super) const MAX_COMMENT: usize = 1024;

/// A user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct User {
    /// `name@realm`.
    pub id: UserId,
    /// Whether the user and its tokens may do anything at all.
    pub enabled: bool,
    /// When that ends, in seconds since 1970.
    pub expires: Option<i64>,
    /// What people are shown beside the name.
    pub comment: Option<String>,
    /// Its password; none if it has tokens only.
    pub password: Option<PasswordHash>,
    /// Goes up when the password changes.
    pub epoch: i64,
    /// What its directory says; none for the server's own users.
    pub elsewhere: Option<Elsewhere>,
}

impl User {
    /// Whether it may do anything at a time (seconds since 1970).
    pub fn is_active(&self, now: i64) -> bool {
        self.enabled
            && self.expires.is_none_or(|end| end == 0 || now < end)
            && self.elsewhere.as_ref().is_none_or(|elsewhere| !elsewhere.gone)
    }
}

/// What to change of a user; what is `None` stays.
#[derive(Debug, Clone, Default)]
pub struct UserChange {
    /// Enable or disable it.
    pub enabled: Option<bool>,
    /// When it ends, in seconds since 1970; 0 is never.
    pub expires: Option<i64>,
    /// Comment; empty for none.
    pub comment: Option<String>,
}

/// An Argon2id hash of a password (RFC 9106) with its parameters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PasswordHash {
    salt: [u8; 16],
    memory: u32,
    passes: u32,
    lanes: u32,
    hash: [u8; 32],
}

/// Memory in KiB and passes of new hashes: some 50 ms of a processor, so that log-ins are quick and guesses dear.
const COST: (u32, u32) = (32 * 1024, 3);

impl PasswordHash {
    /// Of a new password.
    ///
    /// # Errors
    /// It is too short or too long, or there is no memory for it.
    pub fn new(password: &[u8]) -> Result<Self> {
        if !(MIN_PASSWORD..=MAX_PASSWORD).contains(&password.len()) {
            return Err(ServerError::Refused(format!(
                "a password has {MIN_PASSWORD} to {MAX_PASSWORD} bytes; this one has {}",
                password.len()
            )));
        }
        let salt = random()?;
        let (memory, passes) = COST;
        let hash = derive(password, &salt, (memory, passes, 1))?;
        Ok(Self {
            salt,
            memory,
            passes,
            lanes: 1,
            hash,
        })
    }

    /// Whether a password is this one. With `None` the same work is done for nothing, so that nobody can tell by the time
    /// whether there is such a user.
    ///
    /// # Errors
    /// There is no memory for it.
    pub fn verify(this: Option<&Self>, password: &[u8]) -> Result<bool> {
        let nobody = Self {
            salt: [0; 16],
            memory: COST.0,
            passes: COST.1,
            lanes: 1,
            hash: [0; 32],
        };
        let hash = this.unwrap_or(&nobody);
        // A longer one is none that could have been set, and would only cost time.
        let password = &password[..password.len().min(MAX_PASSWORD + 1)];
        let derived = derive(password, &hash.salt, (hash.memory, hash.passes, hash.lanes))?;
        let same = aws_lc_rs::constant_time::verify_slices_are_equal(&derived, &hash.hash).is_ok();
        Ok(same && this.is_some())
    }

    fn to_text(&self) -> String {
        let Self {
            salt,
            memory,
            passes,
            lanes,
            hash,
        } = self;
        format!(
            "$argon2id$v=19$m={memory},t={passes},p={lanes}${}${}",
            BASE64.encode(salt),
            BASE64.encode(hash)
        )
    }

    /// From the text form of the PHC contest, as it is stored.
    fn from_text(text: &str) -> Option<Self> {
        let mut parts = text.strip_prefix("$argon2id$v=19$m=")?.split('$');
        let mut costs = parts.next()?.split(',');
        let memory = costs.next()?.parse().ok()?;
        let passes = costs.next()?.strip_prefix("t=")?.parse().ok()?;
        let lanes = costs.next()?.strip_prefix("p=")?.parse().ok()?;
        let salt = BASE64.decode(parts.next()?).ok()?.try_into().ok()?;
        let hash = BASE64.decode(parts.next()?).ok()?.try_into().ok()?;
        Some(Self {
            salt,
            memory,
            passes,
            lanes,
            hash,
        })
    }
}

fn derive(password: &[u8], salt: &[u8], (memory, passes, lanes): (u32, u32, u32)) -> Result<[u8; 32]> {
    let failed = |error: argon2::Error| ServerError::System(format!("hash a password: {error}"));
    let parameters = Params::new(memory, passes, lanes, Some(32)).map_err(failed)?;
    let mut hash = [0; 32];
    Argon2::new(Algorithm::Argon2id, Version::V0x13, parameters)
        .hash_password_into(password, salt, &mut hash)
        .map_err(failed)?;
    Ok(hash)
}

pub(super) fn all(connection: &Connection) -> rusqlite::Result<Vec<User>> {
    let mut statement = connection.prepare_cached(
        "SELECT id, enabled, expires, comment, password, epoch, directory_users.user, gone \
             FROM users LEFT JOIN directory_users ON directory_users.user = id ORDER BY id",
    )?;
    let rows = statement.query_map([], user)?;
    rows.collect()
}

fn user(row: &Row<'_>) -> rusqlite::Result<User> {
    let password: Option<String> = row.get(4)?;
    let known_elsewhere: Option<String> = row.get(6)?;
    let gone: Option<i64> = row.get(7)?;
    Ok(User {
        id: super::rules::parsed(row, 0)?,
        enabled: row.get(1)?,
        expires: row.get(2)?,
        comment: row.get(3)?,
        password: password.as_deref().and_then(PasswordHash::from_text),
        epoch: row.get(5)?,
        elsewhere: known_elsewhere.map(|_| Elsewhere { gone: gone.is_some() }),
    })
}

/// Refuses what changes the look of a list.
pub(super) fn check_comment(comment: &str) -> Result<(), Change> {
    if comment.len() > MAX_COMMENT || comment.chars().any(char::is_control) {
        return refused(format!("a comment has one line of at most {MAX_COMMENT} bytes"));
    }
    Ok(())
}

impl Known {
    /// A user.
    pub fn user(&self, id: &UserId) -> Option<&User> {
        self.users
            .binary_search_by(|user| user.id.cmp(id))
            .ok()
            .map(|at| &self.users[at])
    }
}

impl State {
    /// Adds a user.
    ///
    /// # Errors
    /// There is one of that name.
    pub fn add_user(
        &self,
        id: &UserId,
        password: Option<&PasswordHash>,
        settings: &UserChange,
    ) -> Result<()> {
        self.change(|connection| {
            check_comment(settings.comment.as_deref().unwrap_or_default())?;
            if find(connection, id)? {
                return refused(format!("there is a user {id} already"));
            }
            connection.execute(
                "INSERT INTO users (id, enabled, expires, comment, password, epoch) VALUES (?, ?, ?, ?, ?, ?)",
                params![
                    id.as_str(),
                    settings.enabled.unwrap_or(true),
                    settings.expires.filter(|end| *end != 0),
                    settings.comment.as_deref().filter(|comment| !comment.is_empty()),
                    password.map(PasswordHash::to_text),
                    // Tickets of a user of the same name that was removed before are none of this one's.
                    jiff::Timestamp::now().as_millisecond(),
                ],
            )?;
            Ok(())
        })
    }

    /// Changes a user.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn change_user(&self, id: &UserId, change: &UserChange) -> Result<()> {
        self.change(|connection| {
            check_comment(change.comment.as_deref().unwrap_or_default())?;
            must_be(connection, id)?;
            if let Some(enabled) = change.enabled {
                connection.execute(
                    "UPDATE users SET enabled = ? WHERE id = ?",
                    params![enabled, id.as_str()],
                )?;
            }
            if let Some(expires) = change.expires {
                let expires = Some(expires).filter(|end| *end != 0);
                connection.execute(
                    "UPDATE users SET expires = ? WHERE id = ?",
                    params![expires, id.as_str()],
                )?;
            }
            if let Some(comment) = &change.comment {
                let comment = Some(comment).filter(|comment| !comment.is_empty());
                connection.execute(
                    "UPDATE users SET comment = ? WHERE id = ?",
                    params![comment, id.as_str()],
                )?;
            }
            Ok(())
        })
    }

    /// Gives a user a new password, which ends all its tickets.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn set_password(&self, id: &UserId, password: &PasswordHash) -> Result<()> {
        self.change(|connection| {
            must_be(connection, id)?;
            connection.execute(
                "UPDATE users SET password = ?, epoch = epoch + 1 WHERE id = ?",
                params![password.to_text(), id.as_str()],
            )?;
            connection.execute("DELETE FROM sessions WHERE user = ?", [id.as_str()])?;
            Ok(())
        })
    }

    /// Removes a user, its tokens, and the rules that name any of them.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn remove_user(&self, id: &UserId) -> Result<()> {
        self.change(|connection| {
            must_be(connection, id)?;
            connection.execute(
                "DELETE FROM rules WHERE who = ?1 OR substr(who, 1, length(?1) + 1) = ?1 || '!'",
                [id.as_str()],
            )?;
            connection.execute("DELETE FROM tokens WHERE user = ?", [id.as_str()])?;
            connection.execute("DELETE FROM users WHERE id = ?", [id.as_str()])?;
            Ok(())
        })
    }
}

pub(super) fn find(connection: &Connection, id: &UserId) -> rusqlite::Result<bool> {
    let found = connection
        .query_row("SELECT 1 FROM users WHERE id = ?", [id.as_str()], |_| Ok(()))
        .optional()?;
    Ok(found.is_some())
}

pub(super) fn must_be(connection: &Connection, id: &UserId) -> Result<(), Change> {
    if find(connection, id)? {
        Ok(())
    } else {
        refused(format!("there is no user {id}"))
    }
}
