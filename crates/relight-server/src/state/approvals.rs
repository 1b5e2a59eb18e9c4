//! Requests for the approval of a second person, and times without.

use jiff::Timestamp;
use relight_pbs::access::{Action, AuthId, UserId};
use rusqlite::{Connection, OptionalExtension, Row, params};
use serde_json::json;

use super::{Change, State, evidence, refused, rules};
use crate::approvals::{Decision, Digest, Glass, Request};
use crate::error::Result;
use crate::evidence::{Kind, NewEvidence, Outcome};

/// Columns of a request.
const COLUMNS: &str = "number, action, path, subject, reason, asked_by, asked, expires, approved, decided_by, decided, remark, \
                       used, digest";

/// Which requests.
#[derive(Debug, Clone, Default)]
pub struct ApprovalFilter {
    /// Only those that wait for somebody to decide at this time.
    pub waiting: Option<Timestamp>,
    /// With a number below this one: the next page.
    pub before: Option<u64>,
    /// So many at most, the newest ones.
    pub limit: Option<u32>,
}

/// A request that is to be made.
#[derive(Debug, Clone)]
pub struct NewApproval<'a> {
    /// What kind of thing.
    pub action: Action,
    /// Where.
    pub path: &'a str,
    /// What, in words.
    pub subject: &'a str,
    /// Of the exact thing.
    pub digest: Digest,
    /// Why.
    pub reason: &'a str,
    /// Who.
    pub who: &'a AuthId,
    /// Until when.
    pub expires: Timestamp,
}

fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    let ms: Option<i64> = row.get(column)?;
    Ok(ms.and_then(|ms| Timestamp::from_millisecond(ms).ok()))
}

fn request(row: &Row<'_>) -> rusqlite::Result<Request> {
    let decision = match (row.get::<_, Option<bool>>(8)?, time(row, 10)?) {
        (Some(approved), Some(at)) => Some(Decision {
            approved,
            by: rules::parsed(row, 9)?,
            at,
            remark: row.get(11)?,
        }),
        _ => None,
    };
    Ok(Request {
        number: u64::try_from(row.get::<_, i64>(0)?).unwrap_or(0),
        action: rules::parsed(row, 1)?,
        path: row.get(2)?,
        subject: row.get(3)?,
        reason: row.get(4)?,
        who: rules::parsed(row, 5)?,
        asked: time(row, 6)?.unwrap_or_default(),
        expires: time(row, 7)?.unwrap_or_default(),
        decision,
        used: time(row, 12)?,
        digest: Digest(row.get(13)?),
    })
}

fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn find(connection: &Connection, wanted: u64) -> rusqlite::Result<Option<Request>> {
    let select = format!("SELECT {COLUMNS} FROM approvals WHERE number = ?");
    connection
        .query_row(&select, [number(wanted)], request)
        .optional()
}

/// What is written down of a step.
fn told(request: &Request, who: String, what: &str, at: Timestamp, outcome: Outcome) -> NewEvidence {
    let mut detail = serde_json::Map::new();
    detail.insert("request".into(), request.number.into());
    detail.insert("action".into(), request.action.name().into());
    detail.insert("subject".into(), request.subject.clone().into());
    detail.insert("digest".into(), request.digest.to_string().into());
    detail.insert("asked-by".into(), request.who.to_string().into());
    if !request.reason.is_empty() {
        detail.insert("reason".into(), request.reason.clone().into());
    }
    if let Some(decision) = &request.decision {
        detail.insert("decided-by".into(), decision.by.to_string().into());
        if !decision.remark.is_empty() {
            detail.insert("remark".into(), decision.remark.clone().into());
        }
    }
    NewEvidence {
        time: at,
        kind: Kind::Approval,
        who: Some(who),
        what: format!(
            "{what}: request {}, {}: {}",
            request.number, request.action, request.subject
        ),
        outcome,
        detail,
    }
}

impl State {
    fn note(&self, connection: &Connection, record: NewEvidence) -> Result<(), Change> {
        evidence::append(connection, self.signer()?, &[record])
    }

    /// Makes a request; gives its number.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn ask_approval(&self, new: &NewApproval<'_>, now: Timestamp) -> Result<u64> {
        self.signer()?;
        self.change(|connection| {
            connection.execute(
                "INSERT INTO approvals (action, path, subject, digest, reason, asked_by, asked, expires, remark)
                 VALUES (?, ?, ?, ?, ?, ?, ?, ?, '')",
                params![
                    new.action.name(),
                    new.path,
                    new.subject,
                    new.digest.0,
                    new.reason,
                    new.who.to_string(),
                    now.as_millisecond(),
                    new.expires.as_millisecond(),
                ],
            )?;
            let made = u64::try_from(connection.last_insert_rowid()).unwrap_or(0);
            let Some(made) = find(connection, made)? else {
                return refused("the request is gone");
            };
            self.note(
                connection,
                told(&made, new.who.to_string(), "asked for approval", now, Outcome::Done),
            )?;
            Ok(made.number)
        })
    }

    /// The newest request of somebody for exactly this that is neither used nor over.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn approval_of(&self, who: &AuthId, digest: &Digest, now: Timestamp) -> Result<Option<Request>> {
        self.read(|connection| {
            let select = format!(
                "SELECT {COLUMNS} FROM approvals WHERE digest = ? AND asked_by = ? AND used IS NULL AND expires > ?
                 ORDER BY number DESC LIMIT 1"
            );
            let given = params![digest.0, who.to_string(), now.as_millisecond()];
            connection.query_row(&select, given, request).optional()
        })
    }

    /// The newest request of somebody for exactly this, however it stands.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn last_approval_of(&self, who: &AuthId, digest: &Digest) -> Result<Option<Request>> {
        self.read(|connection| {
            let select = format!(
                "SELECT {COLUMNS} FROM approvals WHERE digest = ? AND asked_by = ? ORDER BY number DESC LIMIT 1"
            );
            let given = params![digest.0, who.to_string()];
            connection.query_row(&select, given, request).optional()
        })
    }

    /// The text of the plan whose retention and promises need nobody's approval any more.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn agreed_plan(&self) -> Result<Option<String>> {
        self.read(|connection| {
            let select = "SELECT text FROM agreed_plan WHERE one = 1";
            connection.query_row(select, [], |row| row.get(0)).optional()
        })
    }

    /// From now on what a plan says is compared with this one.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn set_agreed_plan(&self, text: &str) -> Result<()> {
        self.change(|connection| {
            connection.execute(
                "INSERT INTO agreed_plan (one, text) VALUES (1, ?) ON CONFLICT DO UPDATE SET text = excluded.text",
                [text],
            )?;
            Ok(())
        })
    }

    /// Adds why it is asked for.
    ///
    /// # Errors
    /// There is no such request of this one that waits.
    pub fn set_approval_reason(&self, of: u64, who: &AuthId, reason: &str, now: Timestamp) -> Result<()> {
        self.change(|connection| {
            let changed = connection.execute(
                "UPDATE approvals SET reason = ?3 WHERE number = ?1 AND asked_by = ?2 AND approved IS NULL AND expires > ?4",
                params![number(of), who.to_string(), reason, now.as_millisecond()],
            )?;
            match changed {
                1 => Ok(()),
                _ => refused(format!("request {of} is none of yours that waits")),
            }
        })
    }

    /// How many requests of a user and its tokens nobody has decided on.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn approvals_waiting(&self, of: &UserId, now: Timestamp) -> Result<usize> {
        self.read(|connection| {
            let count: i64 = connection.query_row(
                "SELECT count(*) FROM approvals WHERE approved IS NULL AND used IS NULL AND expires > ?2
                 AND (asked_by = ?1 OR substr(asked_by, 1, length(?1) + 1) = ?1 || '!')",
                params![of.as_str(), now.as_millisecond()],
                |row| row.get(0),
            )?;
            Ok(usize::try_from(count).unwrap_or(usize::MAX))
        })
    }

    /// Requests, newest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn approvals(&self, filter: &ApprovalFilter) -> Result<Vec<Request>> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(&format!(
                "SELECT {COLUMNS} FROM approvals WHERE (?1 IS NULL OR (approved IS NULL AND expires > ?1))
                 AND (?2 IS NULL OR number < ?2) ORDER BY number DESC LIMIT ?3"
            ))?;
            let waiting = filter.waiting.map(Timestamp::as_millisecond);
            let limit = filter.limit.map_or(-1, i64::from);
            let rows = statement.query_map(params![waiting, filter.before.map(number), limit], request)?;
            rows.collect()
        })
    }

    /// A request.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn approval(&self, number: u64) -> Result<Option<Request>> {
        self.read(|connection| find(connection, number))
    }

    /// Writes down what somebody decided. Who may decide was looked at before.
    ///
    /// # Errors
    /// There is no such request, or it waits no more.
    pub fn decide_approval(&self, of: u64, decision: &Decision, valid_until: Timestamp) -> Result<Request> {
        self.signer()?;
        self.change(|connection| {
            let changed = connection.execute(
                "UPDATE approvals SET approved = ?2, decided_by = ?3, decided = ?4, remark = ?5, expires = ?6
                 WHERE number = ?1 AND approved IS NULL AND used IS NULL AND expires > ?4",
                params![
                    number(of),
                    decision.approved,
                    decision.by.as_str(),
                    decision.at.as_millisecond(),
                    decision.remark,
                    valid_until.as_millisecond(),
                ],
            )?;
            let found = find(connection, of)?;
            let Some(found) = found.filter(|_| changed == 1) else {
                return refused(format!("request {of} does not wait for a decision"));
            };
            let (what, outcome) = match decision.approved {
                true => ("approved", Outcome::Done),
                false => ("denied", Outcome::Denied),
            };
            let by = decision.by.to_string();
            self.note(connection, told(&found, by, what, decision.at, outcome))?;
            Ok(found)
        })
    }

    /// Makes use of an approval, or, with `None`, gives it back unused. Whether that could be done: it can be used once.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn use_approval(&self, of: u64, used: Option<Timestamp>, now: Timestamp) -> Result<bool> {
        self.signer()?;
        self.change(|connection| {
            let statement = match used {
                Some(_) => {
                    "UPDATE approvals SET used = ?2 WHERE number = ?1 AND approved = 1 AND used IS NULL AND expires > ?2"
                }
                None => "UPDATE approvals SET used = NULL WHERE number = ?1 AND used IS NOT NULL AND ?2 IS NULL",
            };
            let given = params![number(of), used.map(Timestamp::as_millisecond)];
            if connection.execute(statement, given)? == 0 {
                return Ok(false);
            }
            if let Some(found) = find(connection, of)? {
                let what = match used {
                    Some(_) => "an approval was used",
                    None => "an approval was given back, as nothing was done with it",
                };
                let who = found.who.to_string();
                self.note(connection, told(&found, who, what, now, Outcome::Done))?;
            }
            Ok(true)
        })
    }

    /// Ends a request before its time.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn end_approval(&self, of: u64, now: Timestamp) -> Result<()> {
        self.change(|connection| {
            connection.execute(
                "UPDATE approvals SET expires = min(expires, ?2) WHERE number = ?1",
                params![number(of), now.as_millisecond()],
            )?;
            Ok(())
        })
    }

    /// From now on, for a time, no second person is asked for.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn break_glass(&self, glass: &Glass) -> Result<()> {
        self.signer()?;
        self.change(|connection| {
            connection.execute(
                "INSERT INTO broken_glass (who, reason, since, until) VALUES (?, ?, ?, ?)",
                params![
                    glass.who,
                    glass.reason,
                    glass.since.as_millisecond(),
                    glass.until.as_millisecond(),
                ],
            )?;
            let record = of_glass(
                glass,
                glass.since,
                format!(
                    "broke the glass: no second person is asked for until {}",
                    glass.until
                ),
            );
            self.note(connection, record)
        })
    }

    /// Whether no second person is asked for now, and why not.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn broken_glass(&self, now: Timestamp) -> Result<Option<Glass>> {
        self.read(|connection| {
            let select = "SELECT who, reason, since, until FROM broken_glass WHERE since <= ?1 AND until > ?1
                          ORDER BY until DESC LIMIT 1";
            let glass = |row: &Row<'_>| {
                Ok(Glass {
                    who: row.get(0)?,
                    reason: row.get(1)?,
                    since: time(row, 2)?.unwrap_or_default(),
                    until: time(row, 3)?.unwrap_or_default(),
                })
            };
            connection
                .query_row(select, [now.as_millisecond()], glass)
                .optional()
        })
    }

    /// A second person is asked for again. Whether it was not before.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn mend_glass(&self, who: &str, now: Timestamp) -> Result<bool> {
        self.signer()?;
        self.change(|connection| {
            let mended = connection.execute(
                "UPDATE broken_glass SET until = ?1 WHERE until > ?1",
                [now.as_millisecond()],
            )?;
            if mended > 0 {
                let record = NewEvidence {
                    time: now,
                    kind: Kind::Approval,
                    who: Some(who.to_owned()),
                    what: "mended the glass: a second person is asked for again".into(),
                    outcome: Outcome::Done,
                    detail: serde_json::Map::new(),
                };
                self.note(connection, record)?;
            }
            Ok(mended > 0)
        })
    }

    /// Writes down that something was done without a second person, as the glass is broken.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn note_done_alone(&self, new: &NewApproval<'_>, glass: &Glass, now: Timestamp) -> Result<()> {
        self.signer()?;
        self.change(|connection| {
            let what = format!(
                "went without approval, as the glass is broken: {}: {}",
                new.action, new.subject
            );
            let mut record = of_glass(glass, now, what);
            record.who = Some(new.who.to_string());
            record.detail.insert("broken-by".into(), glass.who.clone().into());
            record
                .detail
                .insert("digest".into(), new.digest.to_string().into());
            self.note(connection, record)
        })
    }
}

fn of_glass(glass: &Glass, time: Timestamp, what: String) -> NewEvidence {
    let detail = json!({"reason": glass.reason, "until": glass.until.to_string()});
    NewEvidence {
        time,
        kind: Kind::Approval,
        who: Some(glass.who.clone()),
        what,
        outcome: Outcome::Done,
        detail: detail.as_object().cloned().unwrap_or_default(),
    }
}
