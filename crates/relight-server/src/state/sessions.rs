//! Where users are logged in.

use std::collections::HashSet;

use jiff::Timestamp;
use relight_pbs::access::UserId;
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde::{Deserialize, Serialize};

use super::{State, refused, rules};
use crate::error::Result;

/// A log-in that has not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Session {
    /// By which it is known. Nobody can use it to be let in.
    pub id: String,
    /// The one that it was renewed from, or itself.
    #[serde(skip)]
    pub root: String,
    /// Whose.
    pub user: UserId,
    /// Since when.
    pub since: Timestamp,
    /// Until when, if nothing ends it before.
    pub until: Timestamp,
    /// From which address it was opened.
    pub address: Option<String>,
    /// What the program called itself.
    pub program: Option<String>,
}

fn session(row: &Row<'_>) -> rusqlite::Result<Session> {
    let time =
        |column| Ok::<_, rusqlite::Error>(Timestamp::from_second(row.get(column)?).unwrap_or_default());
    Ok(Session {
        id: row.get(0)?,
        root: row.get(1)?,
        user: rules::parsed(row, 2)?,
        since: time(3)?,
        until: time(4)?,
        address: row.get(5)?,
        program: row.get(6)?,
    })
}

const COLUMNS: &str = "id, root, user, since, until, address, program";

/// Those that were ended before their time.
pub(super) fn ended(connection: &Connection) -> rusqlite::Result<HashSet<String>> {
    let mut statement = connection.prepare_cached("SELECT id FROM sessions WHERE ended IS NOT NULL")?;
    let rows = statement.query_map([], |row| row.get(0))?;
    rows.collect()
}

impl State {
    /// Notes a session; those whose time is over are dropped.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn open_session(&self, new: &Session) -> Result<()> {
        self.change(|connection| {
            // A little longer: clocks are set back sometimes, and an ended one must stay so.
            let over = new.since.as_second().saturating_sub(3600);
            connection.execute("DELETE FROM sessions WHERE until < ?", [over])?;
            connection.execute(
                "INSERT OR IGNORE INTO sessions (id, root, user, since, until, address, program)
                 VALUES (?, ?, ?, ?, ?, ?, ?)",
                params![
                    new.id,
                    new.root,
                    new.user.as_str(),
                    new.since.as_second(),
                    new.until.as_second(),
                    new.address,
                    new.program,
                ],
            )?;
            Ok(())
        })
    }

    /// Sessions that have not ended, of one user or of all, newest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn sessions(&self, of: Option<&UserId>, now: Timestamp) -> Result<Vec<Session>> {
        self.read(|connection| {
            // Those of a user that was disabled lead nowhere.
            let mut statement = connection.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM sessions WHERE ended IS NULL AND until > ?1 AND (?2 IS NULL OR user = ?2)
                 AND EXISTS (SELECT 1 FROM users WHERE users.id = sessions.user AND enabled)
                 ORDER BY since DESC, id"
            ))?;
            let rows = statement.query_map(params![now.as_second(), of.map(UserId::as_str)], session)?;
            rows.collect()
        })
    }

    /// A session that was opened.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn session(&self, id: &str) -> Result<Option<Session>> {
        self.read(|connection| {
            let select = format!("SELECT {COLUMNS} FROM sessions WHERE id = ? AND ended IS NULL");
            connection.query_row(&select, [id], session).optional()
        })
    }

    /// Ends a session, with all that were renewed from it or before it.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn end_session(&self, id: &str, now: Timestamp) -> Result<()> {
        self.change(|connection| {
            let ended = connection.execute(
                "UPDATE sessions SET ended = ?2 WHERE ended IS NULL
                 AND root = (SELECT root FROM sessions WHERE id = ?1)",
                params![id, now.as_second()],
            )?;
            if ended == 0 {
                return refused(format!(
                    "there is no session {}",
                    id.chars().take(40).collect::<String>()
                ));
            }
            Ok(())
        })
    }

    /// Ends all tickets of a user, those that are known as sessions and all others.
    ///
    /// # Errors
    /// There is no such user.
    pub fn end_all_sessions(&self, of: &UserId, now: Timestamp) -> Result<()> {
        self.change(|connection| {
            super::users::must_be(connection, of)?;
            connection.execute("UPDATE users SET epoch = epoch + 1 WHERE id = ?", [of.as_str()])?;
            connection.execute(
                "UPDATE sessions SET ended = ?2 WHERE user = ?1 AND ended IS NULL",
                params![of.as_str(), now.as_second()],
            )?;
            Ok(())
        })
    }
}
