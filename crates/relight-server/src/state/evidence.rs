//! The log of evidence in the database. It is only ever added to.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension, Row, params};
use zeroize::Zeroizing;

use super::secrets::random;
use super::{Change, State};
use crate::error::{Result, ServerError};
use crate::evidence::{Body, Head, Kind, NewEvidence, Sealed, Signer, Verified, Verifier};

/// The workload of the record of a drill, as the index `evidence_drilled` has it.
const DRILLED: &str = "CASE WHEN json_valid(body) THEN json_extract(body, '$.detail.workload') END";

/// Which records.
#[derive(Debug, Clone, Default)]
pub struct EvidenceFilter {
    /// From this time on.
    pub since: Option<Timestamp>,
    /// Up to this time.
    pub until: Option<Timestamp>,
    /// Of this kind.
    pub kind: Option<Kind>,
    /// Drills of this workload.
    pub drilled: Option<String>,
    /// Of this user or token.
    pub who: Option<String>,
    /// With a number below this one: the next page.
    pub before: Option<u64>,
    /// So many at most, the newest ones.
    pub limit: Option<u32>,
}

fn sealed(row: &Row<'_>) -> rusqlite::Result<Sealed> {
    Ok(Sealed {
        body: row.get(0)?,
        previous: row.get(1)?,
        hash: row.get(2)?,
        signature: row.get(3)?,
    })
}

impl State {
    /// What signs evidence; its key is made when it is needed first.
    ///
    /// # Errors
    /// The database cannot be read or written.
    pub fn signer(&self) -> Result<&Signer> {
        if let Some(signer) = self.signer.get() {
            return Ok(signer);
        }
        let seed = Zeroizing::new(self.own_secret("evidence key", random)?);
        let signer = Signer::new(self.instance()?, &seed)?;
        Ok(self.signer.get_or_init(|| signer))
    }

    /// Adds records.
    ///
    /// # Errors
    /// The database cannot be written; nothing was added then.
    pub fn add_evidence(&self, records: &[NewEvidence]) -> Result<()> {
        let signer = self.signer()?;
        // Another process may add to it, too: whoever adds has read the last one under the same lock.
        self.change(|connection| append(connection, signer, records))
    }

    /// Records, newest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn evidence(&self, filter: &EvidenceFilter) -> Result<Vec<Body>> {
        // With the kind in the text of the question, the index of the few records of that kind is used.
        let kind = match (&filter.drilled, filter.kind) {
            (Some(_), _) => format!("kind = '{}' AND {DRILLED} = ?3", Kind::Drill.name()),
            (None, Some(kind)) => format!("kind = '{}' AND ?3 IS NULL", kind.name()),
            (None, None) => "?3 IS NULL".into(),
        };
        let select = format!(
            "SELECT body FROM evidence
             WHERE {kind} AND (?1 IS NULL OR time >= ?1) AND (?2 IS NULL OR time < ?2)
             AND (?4 IS NULL OR who = ?4) AND sequence < ?6 ORDER BY sequence DESC LIMIT ?5"
        );
        let bodies: Vec<String> = self.read(|connection| {
            let mut statement = connection.prepare_cached(&select)?;
            let since = filter.since.map(Timestamp::as_millisecond);
            let until = filter.until.map(Timestamp::as_millisecond);
            let limit = filter.limit.map_or(-1, i64::from);
            let before = filter
                .before
                .map_or(i64::MAX, |before| i64::try_from(before).unwrap_or(i64::MAX));
            let rows = statement.query_map(
                params![since, until, filter.drilled, filter.who, limit, before],
                |row| row.get(0),
            )?;
            rows.collect()
        })?;
        let parse = |body: &String| serde_json::from_str(body);
        bodies
            .iter()
            .map(parse)
            .collect::<Result<_, _>>()
            .map_err(|error| {
                ServerError::Refused(format!(
                    "a record of the evidence cannot be read ({error}); `relight evidence verify` tells which"
                ))
            })
    }

    /// Records of one kind after the one of this number, in their order. What cannot be read is passed over: whether all
    /// records are whole is for [`State::verify_evidence`] to say.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn evidence_of(&self, kind: Kind, after: u64) -> Result<Vec<Body>> {
        // With the kind in the text of the question, the index of the records of that kind is used.
        let select = format!(
            "SELECT body FROM evidence WHERE kind = '{}' AND sequence > ? ORDER BY sequence",
            kind.name()
        );
        self.read(|connection| {
            let mut statement = connection.prepare_cached(&select)?;
            let after = i64::try_from(after).unwrap_or(i64::MAX);
            let rows = statement.query_map([after], |row| row.get::<_, String>(0))?;
            let mut bodies = Vec::new();
            for body in rows {
                bodies.extend(serde_json::from_str(&body?).ok());
            }
            Ok(bodies)
        })
    }

    /// Gives all records in order, as they are kept, until `take` says that it is enough.
    ///
    /// # Errors
    /// The database cannot be read, or `take` failed.
    pub fn each_evidence(&self, mut take: impl FnMut(&Sealed) -> Result<bool>) -> Result<()> {
        let mut failure = None;
        self.read(|connection| {
            let mut statement = connection
                .prepare("SELECT body, previous, hash, signature FROM evidence ORDER BY sequence")?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                match take(&sealed(row)?) {
                    Ok(true) => {}
                    Ok(false) => break,
                    Err(error) => {
                        failure = Some(error);
                        break;
                    }
                }
            }
            Ok(())
        })?;
        failure.map_or(Ok(()), Err)
    }

    /// Looks whether all records are as they were written. `noted`: heads that are known from elsewhere.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn verify_evidence(&self, noted: Vec<Head>) -> Result<Verified> {
        self.read_evidence(noted, |_| ())
    }

    /// The same, and gives each record that is as it was written, in order. None comes after one that is not.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn read_evidence(&self, noted: Vec<Head>, mut each: impl FnMut(&Body)) -> Result<Verified> {
        let signer = self.signer()?;
        let mut verifier = Verifier::new(signer.server(), signer.public_key(), noted);
        self.each_evidence(|record| {
            let body = verifier.read(record);
            body.iter().for_each(&mut each);
            Ok(body.is_some())
        })?;
        Ok(verifier.finish())
    }

    /// The newest record, to be noted elsewhere.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn evidence_head(&self) -> Result<Head> {
        let (sequence, hash) = self.read(last)?;
        let hash = hex::encode(hash);
        Ok(Head { sequence, hash })
    }
}

/// Number and hash of the last record.
fn last(connection: &Connection) -> rusqlite::Result<(u64, [u8; 32])> {
    let select = "SELECT sequence, hash FROM evidence ORDER BY sequence DESC LIMIT 1";
    let found = connection.query_row(select, [], |row| Ok((row.get::<_, i64>(0)?, row.get(1)?)));
    let (sequence, hash) = found.optional()?.unwrap_or((0, [0; 32]));
    Ok((u64::try_from(sequence).unwrap_or(0), hash))
}

/// Adds records, in a transaction.
pub(super) fn append(
    connection: &Connection,
    signer: &Signer,
    records: &[NewEvidence],
) -> Result<(), Change> {
    let mut after = last(connection)?;
    for record in records {
        let sealed = signer.seal(after, record)?;
        after = (after.0 + 1, sealed.hash);
        insert(connection, after.0, record, &sealed)?;
    }
    Ok(())
}

fn insert(
    connection: &Connection,
    sequence: u64,
    record: &NewEvidence,
    sealed: &Sealed,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "INSERT INTO evidence (sequence, time, kind, who, body, previous, hash, signature) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )?;
    statement.execute(params![
        i64::try_from(sequence).unwrap_or(i64::MAX),
        record.time.as_millisecond(),
        record.kind.name(),
        record.who,
        sealed.body,
        sealed.previous,
        sealed.hash,
        sealed.signature,
    ])?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::evidence::Outcome;
    use crate::evidence::detail::details;

    fn record(kind: Kind, workload: &str) -> NewEvidence {
        NewEvidence {
            time: Timestamp::UNIX_EPOCH,
            kind,
            who: None,
            what: format!("{} {workload}", kind.name()),
            outcome: Outcome::Done,
            detail: details(&json!({ "workload": workload })),
        }
    }

    #[test]
    fn drills_of_one_workload_are_found_newest_first_and_by_pages() {
        let folder = tempfile::tempdir().unwrap();
        let state = State::open(folder.path()).unwrap();
        let one = [Kind::Drill, Kind::Run, Kind::Drill].map(|kind| record(kind, "vm/1"));
        let other = record(Kind::Drill, "vm/2");
        let [first, run, third] = one;
        state
            .add_evidence(&[first, other, run, third.clone(), third])
            .unwrap();
        let all = EvidenceFilter {
            drilled: Some("vm/1".into()),
            ..EvidenceFilter::default()
        };
        let numbers = |filter: &EvidenceFilter| -> Vec<u64> {
            let found = state.evidence(filter).unwrap();
            found.iter().map(|record| record.sequence).collect()
        };
        assert_eq!(numbers(&all), [5, 4, 1]);
        let next = EvidenceFilter {
            before: Some(4),
            ..all
        };
        assert_eq!(numbers(&next), [1]);
    }
}
