//! Records of denied and of changing requests. They are only ever added.

use jiff::Timestamp;
use rusqlite::params;

use super::State;
use crate::error::Result;

/// A record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// When.
    pub time: Timestamp,
    /// Who, if that was known.
    pub who: Option<String>,
    /// From where.
    pub peer: Option<String>,
    /// What was asked.
    pub what: String,
    /// Its parameters.
    pub parameters: String,
    /// The status it was answered with.
    pub status: u16,
    /// Why it was denied or failed.
    pub message: String,
}

/// Which records.
#[derive(Debug, Clone, Default)]
pub struct RecordFilter {
    /// From this time on.
    pub since: Option<Timestamp>,
    /// Of this user or token.
    pub who: Option<String>,
    /// Denied ones only.
    pub denied: bool,
    /// So many at most.
    pub limit: Option<u32>,
}

impl State {
    /// Adds records.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn add_records(&self, records: &[Record]) -> Result<()> {
        let mut writer = self.writer();
        let mut add = || {
            let transaction = writer.transaction()?;
            {
                let mut statement = transaction.prepare_cached(
                    "INSERT INTO audit (time, who, peer, what, parameters, status, message) VALUES (?, ?, ?, ?, ?, ?, ?)",
                )?;
                for record in records {
                    statement.execute(params![
                        record.time.as_millisecond(),
                        record.who,
                        record.peer,
                        record.what,
                        record.parameters,
                        record.status,
                        record.message,
                    ])?;
                }
            }
            transaction.commit()
        };
        add().map_err(|error| self.failed(error))
    }

    /// Records, newest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn records(&self, filter: &RecordFilter) -> Result<Vec<Record>> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT time, who, peer, what, parameters, status, message FROM audit
                 WHERE (?1 IS NULL OR time >= ?1) AND (?2 IS NULL OR who = ?2) AND (NOT ?3 OR status IN (401, 403, 429))
                 ORDER BY id DESC LIMIT ?4",
            )?;
            let since = filter.since.map(Timestamp::as_millisecond);
            let limit = filter.limit.map_or(-1, i64::from);
            let rows = statement.query_map(params![since, filter.who, filter.denied, limit], |row| {
                Ok(Record {
                    time: Timestamp::from_millisecond(row.get(0)?).unwrap_or_default(),
                    who: row.get(1)?,
                    peer: row.get(2)?,
                    what: row.get(3)?,
                    parameters: row.get(4)?,
                    status: row.get(5)?,
                    message: row.get(6)?,
                })
            })?;
            rows.collect()
        })
    }
}
