//! Records of denied and of changing requests. They are only ever added.

use jiff::Timestamp;
use rusqlite::params;
use serde_json::{Map, Value};

use super::State;
use super::evidence::EvidenceFilter;
use crate::error::Result;
use crate::evidence::{Body, Kind, NewEvidence, Outcome};

/// The end of the request by which somebody logs in.
const LOGINS: [&str; 2] = ["/access/ticket", "POST /api/v1/session"];

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

impl Record {
    /// Whether it was denied.
    fn is_denied(&self) -> bool {
        matches!(self.status, 401 | 403 | 429)
    }

    fn to_evidence(&self) -> NewEvidence {
        let kind = match self.is_denied() {
            _ if LOGINS.iter().any(|login| self.what.ends_with(login)) => Kind::Login,
            true => Kind::Denial,
            false if self.what.starts_with("GET ") => Kind::Restore,
            false => Kind::Change,
        };
        let outcome = match self.status {
            _ if self.is_denied() => Outcome::Denied,
            0..400 => Outcome::Done,
            _ => Outcome::Failed,
        };
        let words = [
            ("from", self.peer.as_deref()),
            ("parameters", Some(&*self.parameters)),
            ("message", Some(&*self.message)),
        ];
        let mut detail = Map::from_iter([("status".to_string(), self.status.into())]);
        for (name, word) in words {
            if let Some(word) = word.filter(|word| !word.is_empty()) {
                detail.insert(name.into(), word.into());
            }
        }
        NewEvidence {
            time: self.time,
            kind,
            who: self.who.clone(),
            what: self.what.clone(),
            outcome,
            detail,
        }
    }

    fn of_evidence(body: Body) -> Option<Self> {
        let word = |name: &str| body.detail.get(name).and_then(Value::as_str).map(str::to_string);
        let status = body.detail.get("status").and_then(Value::as_u64)?;
        Some(Self {
            time: body.time,
            peer: word("from"),
            parameters: word("parameters").unwrap_or_default(),
            status: u16::try_from(status).ok()?,
            message: word("message").unwrap_or_default(),
            who: body.who,
            what: body.what,
        })
    }
}

impl State {
    /// Adds records to the evidence.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn add_records(&self, records: &[Record]) -> Result<()> {
        let records: Vec<NewEvidence> = records.iter().map(Record::to_evidence).collect();
        self.add_evidence(&records)
    }

    /// Records, newest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn records(&self, filter: &RecordFilter) -> Result<Vec<Record>> {
        let limit = filter.limit.map_or(usize::MAX, |limit| limit as usize);
        let wanted = EvidenceFilter {
            since: filter.since,
            who: filter.who.clone(),
            ..EvidenceFilter::default()
        };
        let records = self
            .evidence(&wanted)?
            .into_iter()
            .filter_map(Record::of_evidence);
        let older = self.older_records(filter)?;
        let is_wanted = |record: &Record| !filter.denied || record.is_denied();
        Ok(records.chain(older).filter(is_wanted).take(limit).collect())
    }

    /// What was recorded before there was a log of evidence.
    fn older_records(&self, filter: &RecordFilter) -> Result<Vec<Record>> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT time, who, peer, what, parameters, status, message FROM audit
                 WHERE (?1 IS NULL OR time >= ?1) AND (?2 IS NULL OR who = ?2) ORDER BY id DESC",
            )?;
            let since = filter.since.map(Timestamp::as_millisecond);
            let rows = statement.query_map(params![since, filter.who], |row| {
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
