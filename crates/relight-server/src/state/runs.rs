//! Runs in the database: what was begun and how it ended. It is written together with what the scheduler remembers then, so
//! that a server that is killed has no run lost or doubled.

use std::collections::BTreeMap;

use jiff::Timestamp;
use relight_model::schedule::{JobId, RunKind};
use rusqlite::{Connection, OptionalExtension, Row, params};

use super::evidence::append;
use super::schedule::Remembered;
use super::{Change, State};
use crate::error::{Result, ServerError};
use crate::evidence::NewEvidence;
use crate::evidence::detail::{Ended, Figures};

/// Events of so many of the newest runs of a job are kept, whatever became of them; of older ones that ended well they are
/// removed.
const EVENTS_KEPT: u32 = 10;

/// A run, as it is kept.
#[derive(Debug, Clone, PartialEq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Run {
    /// Its number.
    pub number: u64,
    /// What is done to what.
    pub job: JobId,
    /// The repository.
    pub repository: Option<String>,
    /// When it was due.
    pub due: Timestamp,
    /// When it was started.
    pub started: Timestamp,
    /// The how-manieth try.
    pub attempt: u32,
    /// Who asked for it. None: the scheduler.
    pub who: Option<String>,
    /// When it ended. None: it runs.
    pub ended: Option<Timestamp>,
    /// How it ended.
    pub outcome: Option<Ended>,
    /// Code of what went wrong; docs/errors.md explains it.
    pub code: Option<String>,
    /// What went wrong.
    pub message: Option<String>,
    /// The snapshot that was made.
    pub snapshot: Option<String>,
    /// What was done, in numbers.
    pub figures: Figures,
}

/// A run that begins.
#[derive(Debug, Clone)]
pub struct NewRun {
    /// What is done to what.
    pub job: JobId,
    /// The repository.
    pub repository: Option<String>,
    /// When it was due.
    pub due: Timestamp,
    /// Now.
    pub started: Timestamp,
    /// The how-manieth try.
    pub attempt: u32,
    /// An operator asked for it.
    pub requested: bool,
}

/// How a run ended.
#[derive(Debug, Clone)]
pub struct RunEnd {
    /// Its number.
    pub number: u64,
    /// When.
    pub ended: Timestamp,
    /// How.
    pub outcome: Ended,
    /// Code of what went wrong.
    pub code: Option<String>,
    /// What went wrong.
    pub message: Option<String>,
    /// The snapshot that was made.
    pub snapshot: Option<String>,
    /// What was done, in numbers.
    pub figures: Figures,
}

/// Something that happened in a run.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct RunEvent {
    /// When.
    pub time: Timestamp,
    /// What.
    pub text: String,
}

/// Which runs.
#[derive(Debug, Clone, Default)]
pub struct RunFilter {
    /// Of this workload.
    pub workload: Option<String>,
    /// Of this kind.
    pub kind: Option<RunKind>,
    /// Of this job.
    pub job: Option<JobId>,
    /// That ended so.
    pub outcome: Option<Ended>,
    /// That run.
    pub running: bool,
    /// That were started from this time on.
    pub since: Option<Timestamp>,
    /// That were started before this time.
    pub until: Option<Timestamp>,
    /// With a number below this one: the next page.
    pub before: Option<u64>,
    /// With a number above this one.
    pub after: Option<u64>,
    /// So many at most, the newest ones.
    pub limit: Option<u32>,
}

pub(super) fn json(value: &impl serde::Serialize) -> rusqlite::Result<String> {
    serde_json::to_string(value).map_err(|error| rusqlite::Error::ToSqlConversionFailure(Box::new(error)))
}

pub(super) fn bad(column: usize, error: impl std::error::Error + Send + Sync + 'static) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, rusqlite::types::Type::Text, Box::new(error))
}

pub(super) fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    Timestamp::from_millisecond(row.get(column)?).map_err(|error| bad(column, error))
}

pub(super) const COLUMNS: &str =
    "number, job, repository, due, started, attempt, who, ended, outcome, code, message, snapshot, figures";

pub(super) fn run(row: &Row<'_>) -> rusqlite::Result<Run> {
    let ended: Option<i64> = row.get(7)?;
    let ended = ended.map(Timestamp::from_millisecond).transpose();
    let outcome: Option<String> = row.get(8)?;
    let figures: Option<String> = row.get(12)?;
    let figures = figures.map(|text| serde_json::from_str(&text)).transpose();
    let number: i64 = row.get(0)?;
    Ok(Run {
        number: number.unsigned_abs(),
        job: row.get::<_, String>(1)?.parse().map_err(|error| bad(1, error))?,
        repository: row.get(2)?,
        due: time(row, 3)?,
        started: time(row, 4)?,
        attempt: row.get(5)?,
        who: row.get(6)?,
        ended: ended.map_err(|error| bad(7, error))?,
        outcome: outcome.and_then(|name| Ended::ALL.into_iter().find(|ended| ended.name() == name)),
        code: row.get(9)?,
        message: row.get(10)?,
        snapshot: row.get(11)?,
        figures: figures.map_err(|error| bad(12, error))?.unwrap_or_default(),
    })
}

pub(super) fn number(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn end(connection: &Connection, end: &RunEnd) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(
        "UPDATE runs SET ended = ?2, outcome = ?3, code = ?4, message = ?5, snapshot = ?6, figures = ?7 WHERE number = ?1",
    )?;
    let figures = (end.figures != Figures::default())
        .then(|| json(&end.figures))
        .transpose()?;
    statement.execute(params![
        number(end.number),
        end.ended.as_millisecond(),
        end.outcome.name(),
        end.code,
        end.message,
        end.snapshot,
        figures,
    ])?;
    let mut statement = connection.prepare_cached(
        "DELETE FROM run_events WHERE run IN (SELECT number FROM runs WHERE job = (SELECT job FROM runs WHERE number = ?1)
         AND number <= ?1 AND outcome = 'good' ORDER BY number DESC LIMIT 5 OFFSET ?2)",
    )?;
    statement.execute(params![number(end.number), EVENTS_KEPT])?;
    Ok(())
}

fn begin(connection: &Connection, new: &NewRun) -> rusqlite::Result<Run> {
    let job = new.job.to_string();
    let who: Option<String> = if new.requested {
        let mut statement = connection.prepare_cached(
            "SELECT who FROM run_requests WHERE job = ? AND taken = 1 ORDER BY id DESC LIMIT 1",
        )?;
        let mut who: Option<String> = statement.query_row([&job], |row| row.get(0)).optional()?;
        if who.is_none() {
            // A try after one that failed: whoever asked for that one asked for this.
            let mut statement = connection
                .prepare_cached("SELECT who FROM runs WHERE job = ? ORDER BY number DESC LIMIT 1")?;
            who = statement
                .query_row([&job], |row| row.get(0))
                .optional()?
                .flatten();
        }
        connection
            .prepare_cached("DELETE FROM run_requests WHERE job = ? AND taken = 1")?
            .execute([&job])?;
        who
    } else {
        None
    };
    let mut statement = connection.prepare_cached(
        "INSERT INTO runs (job, workload, repository, due, started, attempt, who) VALUES (?, ?, ?, ?, ?, ?, ?)",
    )?;
    statement.execute(params![
        job,
        new.job.workload().map(|workload| workload.as_str()),
        new.repository,
        new.due.as_millisecond(),
        new.started.as_millisecond(),
        new.attempt,
        who,
    ])?;
    Ok(Run {
        number: connection.last_insert_rowid().unsigned_abs(),
        job: new.job.clone(),
        repository: new.repository.clone(),
        due: new.due,
        started: new.started,
        attempt: new.attempt,
        who,
        ended: None,
        outcome: None,
        code: None,
        message: None,
        snapshot: None,
        figures: Figures::default(),
    })
}

/// When backups were started and how each ended, by workload. None: it runs.
pub type Backups = BTreeMap<String, Vec<(Timestamp, Option<Ended>)>>;

/// A number before which nothing was started from a time on, by halving what is left.
fn first_since(connection: &Connection, since: i64) -> rusqlite::Result<i64> {
    let mut statement = connection
        .prepare_cached("SELECT number, started FROM runs WHERE number >= ? ORDER BY number LIMIT 1")?;
    let last = "SELECT coalesce(max(number), 0) FROM runs";
    let (mut low, mut high): (i64, i64) = (0, connection.query_row(last, [], |row| row.get(0))?);
    while low < high {
        let middle = low + (high - low) / 2;
        let found: Option<(i64, i64)> = statement
            .query_row([middle], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        match found {
            Some((number, started)) if started < since => low = number + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}

impl State {
    /// Writes what the scheduler has decided, all of it or nothing: runs that begin and what it remembers. Gives the runs.
    ///
    /// # Errors
    /// The database cannot be written; then nothing of it has happened.
    pub fn begin_runs(&self, new: &[NewRun], remembered: &Remembered) -> Result<Vec<Run>> {
        self.change(|connection| {
            remembered.write(connection)?;
            let runs = new.iter().map(|new| begin(connection, new));
            Ok(runs.collect::<rusqlite::Result<_>>()?)
        })
    }

    /// Writes that a run begins which no scheduler has decided on, but somebody.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn begin_asked_run(&self, new: &NewRun, who: &str, asked: &str) -> Result<Run> {
        self.change(|connection| {
            let mut run = begin(connection, new)?;
            connection.execute(
                "UPDATE runs SET who = ?2, asked = ?3 WHERE number = ?1",
                params![number(run.number), who, asked],
            )?;
            run.who = Some(who.to_owned());
            Ok(run)
        })
    }

    /// What somebody asked for when a run began, word for word; none: nobody did, or it is not known any more.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn asked_of_run(&self, run: u64) -> Result<Option<String>> {
        self.read(|connection| {
            let asked = connection
                .query_row("SELECT asked FROM runs WHERE number = ?", [number(run)], |row| {
                    row.get::<_, Option<String>>(0)
                })
                .optional()?;
            Ok(asked.flatten())
        })
    }

    /// Writes that a run has ended, what the scheduler remembers then, and the evidence, all of it or nothing.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn end_run(&self, ended: &RunEnd, remembered: &Remembered, evidence: &[NewEvidence]) -> Result<()> {
        let signer = self.signer()?;
        self.change(|connection| {
            end(connection, ended)?;
            remembered.write(connection)?;
            append(connection, signer, evidence)
        })
    }

    /// Writes a run that somebody else made, a backup that a client pushed say, with what the scheduler remembers then.
    /// `evidence` is given the number of the run.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn add_ended_run(
        &self,
        new: &NewRun,
        ended: impl FnOnce(u64) -> (RunEnd, NewEvidence),
        remembered: &Remembered,
    ) -> Result<u64> {
        let signer = self.signer()?;
        self.change(|connection| {
            let run = begin(connection, new)?;
            let (ended, evidence) = ended(run.number);
            end(connection, &ended)?;
            remembered.write(connection)?;
            append(connection, signer, &[evidence])?;
            Ok(run.number)
        })
    }

    /// Adds events of a run.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn add_run_events(&self, run: u64, events: &[RunEvent]) -> Result<()> {
        self.change(|connection| {
            let mut statement =
                connection.prepare_cached("INSERT INTO run_events (run, time, text) VALUES (?, ?, ?)")?;
            for event in events {
                statement.execute(params![number(run), event.time.as_millisecond(), event.text])?;
            }
            Ok(())
        })
    }

    /// The events of a run from the `from`-th on, in their order.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn run_events(&self, run: u64, from: u64) -> Result<Vec<RunEvent>> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT time, text FROM run_events WHERE run = ? ORDER BY id LIMIT -1 OFFSET ?",
            )?;
            let rows = statement.query_map([number(run), number(from)], |row| {
                Ok(RunEvent {
                    time: time(row, 0)?,
                    text: row.get(1)?,
                })
            })?;
            rows.collect()
        })
    }

    /// A run.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn run(&self, run_number: u64) -> Result<Option<Run>> {
        self.read(|connection| {
            let select = format!("SELECT {COLUMNS} FROM runs WHERE number = ?");
            let mut statement = connection.prepare_cached(&select)?;
            statement.query_row([number(run_number)], run).optional()
        })
    }

    /// Runs, newest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn runs(&self, filter: &RunFilter) -> Result<Vec<Run>> {
        self.read(|connection| {
            // Each wish has a form of its own, so that the index that fits is used.
            let mut wishes: Vec<&str> = Vec::new();
            let mut values: Vec<Box<dyn rusqlite::ToSql>> = Vec::new();
            let mut wish = |text, value: Option<Box<dyn rusqlite::ToSql>>| {
                if let Some(value) = value {
                    wishes.push(text);
                    values.push(value);
                }
            };
            fn boxed<T: rusqlite::ToSql + 'static>(value: Option<T>) -> Option<Box<dyn rusqlite::ToSql>> {
                value.map(|value| Box::new(value) as Box<dyn rusqlite::ToSql>)
            }
            wish("workload = ?", boxed(filter.workload.clone()));
            wish("job LIKE ? || '%'", boxed(filter.kind.map(|kind| kind.name())));
            wish("job = ?", boxed(filter.job.as_ref().map(JobId::to_string)));
            wish("outcome = ?", boxed(filter.outcome.map(Ended::name)));
            wish("started >= ?", boxed(filter.since.map(Timestamp::as_millisecond)));
            wish("started < ?", boxed(filter.until.map(Timestamp::as_millisecond)));
            wish("number < ?", boxed(filter.before.map(number)));
            wish("number > ?", boxed(filter.after.map(number)));
            if filter.running {
                wishes.push("outcome IS NULL");
            }
            values.push(Box::new(filter.limit.map_or(-1, i64::from)));
            let wishes = if wishes.is_empty() {
                "TRUE".to_owned()
            } else {
                wishes.join(" AND ")
            };
            let select = format!("SELECT {COLUMNS} FROM runs WHERE {wishes} ORDER BY number DESC LIMIT ?");
            let mut statement = connection.prepare_cached(&select)?;
            let rows = statement.query_map(rusqlite::params_from_iter(values), run)?;
            rows.collect()
        })
    }

    /// Backups that were started from a time on, of some workloads: when, and how each ended, oldest first.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn backups_since<'a>(
        &self,
        since: Timestamp,
        workloads: impl Iterator<Item = &'a str>,
    ) -> Result<Backups> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT started, outcome FROM runs WHERE job = ? AND number >= ? ORDER BY number",
            )?;
            // Numbers go up with time, so that the first one is found without reading all of them. What clients push may be
            // written down a little later than it was started.
            let first = first_since(connection, since.as_millisecond())?;
            let mut found = Backups::new();
            for workload in workloads {
                let job = format!("{} {workload}", RunKind::Backup);
                let rows = statement.query_map(params![job, first], |row| {
                    let outcome: Option<String> = row.get(1)?;
                    Ok((time(row, 0)?, outcome))
                })?;
                let mut backups = Vec::new();
                for row in rows {
                    let (started, outcome) = row?;
                    let outcome =
                        outcome.and_then(|name| Ended::ALL.into_iter().find(|ended| ended.name() == name));
                    if started >= since {
                        backups.push((started, outcome));
                    }
                }
                found.insert(workload.to_owned(), backups);
            }
            Ok(found)
        })
    }

    /// Whether a snapshot of a workload is that of a run.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn knows_snapshot(&self, workload: &str, snapshot: &str) -> Result<bool> {
        self.read(|connection| {
            let mut statement =
                connection.prepare_cached("SELECT 1 FROM runs WHERE workload = ? AND snapshot = ?")?;
            statement.exists([workload, snapshot])
        })
    }
}

impl From<ServerError> for Change {
    fn from(error: ServerError) -> Self {
        Self::Server(error)
    }
}
