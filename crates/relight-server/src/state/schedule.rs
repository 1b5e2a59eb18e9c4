//! What the scheduler remembers, what operators ask of it, and up to where it knows what clients have pushed.

use jiff::Timestamp;
use relight_model::schedule::{Head, JobId, Row as JobRow};
use rusqlite::{Connection, OptionalExtension, params};

use super::State;
use super::runs::{bad, json, number, time};
use crate::error::{Result, ServerError};

/// All that the scheduler remembers, as it is kept: beside jobs, and of each job.
pub type Memory = (Head, Vec<(JobId, JobRow)>);

/// What an operator asks of the scheduler.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Request {
    /// Run this job now.
    Run(JobId),
    /// End this run.
    Cancel(u64),
    /// The clock is right.
    ConfirmClock,
}

/// What the scheduler remembers has changed so.
#[derive(Debug, Default)]
pub struct Remembered {
    /// What it remembers beside jobs.
    pub head: Option<Head>,
    /// Rows of jobs.
    pub rows: Vec<(JobId, JobRow)>,
}

impl Remembered {
    /// What has changed since this was last asked.
    pub fn of(state: &mut relight_model::schedule::State) -> Self {
        let changed: Vec<JobId> = state.take_changed().collect();
        Self {
            head: Some(state.head()),
            rows: changed
                .into_iter()
                .map(|job| (job.clone(), state.row(&job)))
                .collect(),
        }
    }

    pub(super) fn write(&self, connection: &Connection) -> rusqlite::Result<()> {
        if let Some(head) = &self.head {
            let mut statement = connection.prepare_cached(
                "INSERT INTO schedule_head (one, head) VALUES (1, ?) ON CONFLICT (one) DO UPDATE SET head = excluded.head",
            )?;
            statement.execute([json(head)?])?;
        }
        let mut statement = connection.prepare_cached(
            "INSERT INTO schedule_jobs (job, row) VALUES (?, ?) ON CONFLICT (job) DO UPDATE SET row = excluded.row",
        )?;
        for (job, row) in &self.rows {
            statement.execute(params![job.to_string(), json(row)?])?;
        }
        Ok(())
    }
}

impl State {
    /// What the scheduler remembers; `None` if it has never run.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn remembered(&self) -> Result<Option<Memory>> {
        let unreadable = |what: &str, error: &dyn std::fmt::Display| {
            ServerError::Refused(format!(
                "what the scheduler remembers of {what} cannot be read: {error}"
            ))
        };
        let (head, rows): (Option<String>, Vec<(String, String)>) = self.read(|connection| {
            let head = connection
                .query_row("SELECT head FROM schedule_head", [], |row| row.get(0))
                .optional()?;
            let mut statement = connection.prepare("SELECT job, row FROM schedule_jobs")?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
            Ok((head, rows.collect::<rusqlite::Result<_>>()?))
        })?;
        let Some(head) = head else {
            return Ok(None);
        };
        let head = serde_json::from_str(&head).map_err(|error| unreadable("itself", &error))?;
        let mut jobs = Vec::with_capacity(rows.len());
        for (job, row) in rows {
            let id: JobId = job.parse().map_err(|error| unreadable(&job, &error))?;
            let row = serde_json::from_str(&row).map_err(|error| unreadable(&job, &error))?;
            jobs.push((id, row));
        }
        Ok(Some((head, jobs)))
    }

    /// An operator asks for something; the scheduler takes it up within seconds, or when the server is started.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn request(&self, request: &Request, who: &str, now: Timestamp) -> Result<()> {
        let (what, job, run) = match request {
            Request::Run(job) => ("run", Some(job.to_string()), None),
            Request::Cancel(run) => ("cancel", None, Some(number(*run))),
            Request::ConfirmClock => ("confirm-clock", None, None),
        };
        self.change(|connection| {
            connection.execute(
                "INSERT INTO run_requests (what, job, run, who, time, taken) VALUES (?, ?, ?, ?, ?, 0)",
                params![what, job, run, who, now.as_millisecond()],
            )?;
            Ok(())
        })
    }

    /// What operators ask for, in the order in which they did, with who it was. It stays until [`State::take_requests`].
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn requests(&self) -> Result<Vec<(i64, Request, String)>> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT id, what, job, run, who FROM run_requests WHERE taken = 0 ORDER BY id",
            )?;
            let rows = statement.query_map([], |row| {
                let what: String = row.get(1)?;
                let job: Option<String> = row.get(2)?;
                let run: Option<i64> = row.get(3)?;
                let request = match (what.as_str(), job, run) {
                    ("run", Some(job), _) => Request::Run(job.parse().map_err(|error| bad(2, error))?),
                    ("cancel", _, Some(run)) => Request::Cancel(run.unsigned_abs()),
                    _ => Request::ConfirmClock,
                };
                Ok((row.get(0)?, request, row.get(4)?))
            })?;
            rows.collect()
        })
    }

    /// Requests were taken up. Who asked for a run is known until the run begins.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn take_requests(&self, ids: &[i64], remembered: &Remembered) -> Result<()> {
        self.change(|connection| {
            for id in ids {
                connection.execute("UPDATE run_requests SET taken = 1 WHERE id = ?", [id])?;
            }
            connection.execute("DELETE FROM run_requests WHERE taken = 1 AND what <> 'run'", [])?;
            Ok(remembered.write(connection)?)
        })
    }

    /// Up to when the snapshots of a repository are known, by the time of their publication.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn arrivals_known(&self, repository: &str) -> Result<Option<Timestamp>> {
        self.read(|connection| {
            let select = "SELECT until FROM arrivals WHERE repository = ?";
            connection
                .query_row(select, [repository], |row| time(row, 0))
                .optional()
        })
    }

    /// The snapshots of a repository are known up to here.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn set_arrivals_known(&self, repository: &str, until: Timestamp) -> Result<()> {
        self.change(|connection| {
            connection.execute(
                "INSERT INTO arrivals (repository, until) VALUES (?, ?)
                 ON CONFLICT (repository) DO UPDATE SET until = excluded.until",
                params![repository, until.as_millisecond()],
            )?;
            Ok(())
        })
    }
}
