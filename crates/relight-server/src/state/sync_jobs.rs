//! Jobs that copy from and to other servers, and how each ran last.

use std::num::NonZeroUsize;

use jiff::Timestamp;
use relight_model::ByteSize;
use relight_model::calendar::Event;
use relight_pbs::access::AuthId;
use relight_pbs::formats::ids::Namespace;
use relight_pbs::sync::GroupFilter;
use rusqlite::{Connection, OptionalExtension, params};
use serde::{Deserialize, Serialize};

use super::remotes::{check_id, from_json, to_json};
use super::users::check_comment;
use super::{Change, State, refused};
use crate::error::Result;

/// Which way a job copies.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// From the other server to here.
    #[default]
    Pull,
    /// From here to the other server.
    Push,
}

/// What a job does. The fields are named as the original's.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct SyncJobFields {
    /// The datastore here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub store: Option<String>,
    /// Where in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ns: Option<Namespace>,
    /// Who owns what it makes here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub owner: Option<AuthId>,
    /// The other server.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote: Option<String>,
    /// The datastore there.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_store: Option<String>,
    /// Where in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remote_ns: Option<Namespace>,
    /// Whether what the source has no more is removed from the target.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub remove_vanished: Option<bool>,
    /// Levels of namespaces.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_depth: Option<usize>,
    /// What people are shown beside the name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
    /// When it runs, as a calendar event. None: when somebody says so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<String>,
    /// Which groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group_filter: Option<Vec<GroupFilter>>,
    /// Bytes a second that come in.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_in: Option<String>,
    /// How many of them at once after a pause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst_in: Option<String>,
    /// Bytes a second that go out.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_out: Option<String>,
    /// How many of them at once after a pause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst_out: Option<String>,
    /// Only so many snapshots of a group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub transfer_last: Option<NonZeroUsize>,
    /// Fetch snapshots again whose verification failed here.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub resync_corrupt: Option<bool>,
    /// Only what clients encrypted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encrypted_only: Option<bool>,
    /// Only what was verified at the source.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub verified_only: Option<bool>,
    /// Which way.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sync_direction: Option<Direction>,
}

/// A job.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SyncJob {
    /// What it is called.
    pub id: String,
    /// What it does.
    #[serde(flatten)]
    pub fields: SyncJobFields,
}

/// How a job ran last, and since when it is to run again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct JobRun {
    /// When its schedule began to count.
    pub since: Timestamp,
    /// Who wants it to run now.
    pub requested: Option<String>,
    /// The name of the last task.
    pub upid: Option<String>,
    /// How it ended.
    pub state: Option<String>,
    /// When.
    pub ended: Option<i64>,
}

impl SyncJob {
    /// Which way it copies.
    pub fn direction(&self) -> Direction {
        self.fields.sync_direction.unwrap_or_default()
    }

    /// Its schedule, if it has one.
    pub fn event(&self) -> Option<Event> {
        Event::parse(self.fields.schedule.as_deref()?).ok()
    }

    fn check(&self, connection: &Connection) -> Result<(), Change> {
        let fields = &self.fields;
        check_id("job", &self.id)?;
        check_comment(fields.comment.as_deref().unwrap_or_default())?;
        for (what, store) in [("store", &fields.store), ("remote-store", &fields.remote_store)] {
            let safe = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'_' | b'-');
            match store {
                None => return refused(format!("a sync job needs the parameter '{what}'")),
                Some(name) if name.is_empty() || name.starts_with(['.', '-']) || !name.bytes().all(safe) => {
                    return refused(format!("'{what}' is not the name of a datastore"));
                }
                Some(_) => {}
            }
        }
        let Some(remote) = &fields.remote else {
            return refused(
                "a sync job needs the parameter 'remote': copies on one server are made by `relight copy`",
            );
        };
        let known = connection.query_row("SELECT 1 FROM remotes WHERE name = ?", [remote], |_| Ok(()));
        if known.optional()?.is_none() {
            return refused(format!("remote '{remote}' does not exist."));
        }
        if let Some(schedule) = &fields.schedule
            && let Err(error) = Event::parse(schedule)
        {
            return refused(format!("schedule: {error}"));
        }
        for rate in [
            &fields.rate_in,
            &fields.burst_in,
            &fields.rate_out,
            &fields.burst_out,
        ] {
            if let Some(rate) = rate
                && let Err(error) = rate.parse::<ByteSize>()
            {
                return refused(format!("rate: {error}"));
            }
        }
        if fields.max_depth.is_some_and(|depth| depth > Namespace::MAX_DEPTH) {
            return refused(format!("max-depth is {} at most", Namespace::MAX_DEPTH));
        }
        Ok(())
    }
}

fn find(connection: &Connection, id: &str) -> rusqlite::Result<Option<SyncJob>> {
    let query = "SELECT config FROM sync_jobs WHERE id = ?";
    connection
        .query_row(query, [id], |row| from_json(row, 0))
        .optional()
}

fn none<T>(id: &str) -> Result<T, Change> {
    let id: String = id.chars().take(64).collect();
    refused(format!("job '{id}' does not exist."))
}

impl State {
    /// All jobs and how each ran last, by name.
    ///
    /// # Errors
    /// The database cannot be read.
    pub fn sync_jobs(&self) -> Result<Vec<(SyncJob, JobRun)>> {
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT config, since, requested, last_upid, last_state, last_end FROM sync_jobs ORDER BY id",
            )?;
            let rows = statement.query_map([], |row| {
                let run = JobRun {
                    since: Timestamp::from_second(row.get(1)?).unwrap_or_default(),
                    requested: row.get(2)?,
                    upid: row.get(3)?,
                    state: row.get(4)?,
                    ended: row.get(5)?,
                };
                Ok((from_json(row, 0)?, run))
            })?;
            rows.collect()
        })
    }

    /// One job.
    ///
    /// # Errors
    /// The database cannot be read, or there is none of that name.
    pub fn sync_job(&self, id: &str) -> Result<(SyncJob, JobRun)> {
        let found = self.sync_jobs()?.into_iter().find(|(job, _)| job.id == id);
        found.ok_or_else(|| {
            let id: String = id.chars().take(64).collect();
            crate::error::ServerError::Refused(format!("job '{id}' does not exist."))
        })
    }

    /// Adds a job.
    ///
    /// # Errors
    /// There is one of that name, or something about it makes no sense.
    pub fn add_sync_job(&self, job: &SyncJob) -> Result<()> {
        self.change(|connection| {
            job.check(connection)?;
            if find(connection, &job.id)?.is_some() {
                return refused(format!("job '{}' already exists.", job.id));
            }
            connection.execute(
                "INSERT INTO sync_jobs (id, config, since) VALUES (?, ?, ?)",
                params![job.id, to_json(job)?, Timestamp::now().as_second()],
            )?;
            Ok(())
        })
    }

    /// Puts a job in the place of that of the same name.
    ///
    /// # Errors
    /// There is none of that name, or something about it makes no sense.
    pub fn change_sync_job(&self, job: &SyncJob) -> Result<()> {
        self.change(|connection| {
            let Some(before) = find(connection, &job.id)? else {
                return none(&job.id);
            };
            job.check(connection)?;
            connection.execute(
                "UPDATE sync_jobs SET config = ? WHERE id = ?",
                params![to_json(job)?, job.id],
            )?;
            if before.fields.schedule != job.fields.schedule {
                // A new schedule does not make up for what would have been before.
                connection.execute(
                    "UPDATE sync_jobs SET since = ? WHERE id = ?",
                    params![Timestamp::now().as_second(), job.id],
                )?;
            }
            Ok(())
        })
    }

    /// Removes a job.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn remove_sync_job(&self, id: &str) -> Result<()> {
        self.change(
            |connection| match connection.execute("DELETE FROM sync_jobs WHERE id = ?", [id])? {
                0 => none(id),
                _ => Ok(()),
            },
        )
    }

    /// Asks the running server to run a job now.
    ///
    /// # Errors
    /// There is none of that name.
    pub fn request_sync_job(&self, id: &str, who: &str) -> Result<()> {
        self.change(|connection| {
            let done = connection.execute("UPDATE sync_jobs SET requested = ? WHERE id = ?", [who, id])?;
            if done == 0 { none(id) } else { Ok(()) }
        })
    }

    /// Takes back what was asked, if nobody took it up.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn withdraw_sync_job(&self, id: &str) -> Result<bool> {
        self.change(|connection| {
            let query = "UPDATE sync_jobs SET requested = NULL WHERE id = ? AND requested IS NOT NULL";
            Ok(connection.execute(query, [id])? > 0)
        })
    }

    /// Notes that a job runs as this task.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn sync_job_begins(&self, id: &str, upid: &str) -> Result<()> {
        self.change(|connection| {
            connection.execute(
                "UPDATE sync_jobs SET requested = NULL, last_upid = ?, last_state = NULL, last_end = NULL, since = ?
                 WHERE id = ?",
                params![upid, Timestamp::now().as_second(), id],
            )?;
            Ok(())
        })
    }

    /// Notes how the task of a job ended.
    ///
    /// # Errors
    /// The database cannot be written.
    pub fn sync_job_ended(&self, id: &str, upid: &str, state: &str) -> Result<()> {
        self.change(|connection| {
            connection.execute(
                "UPDATE sync_jobs SET last_state = ?, last_end = ? WHERE id = ? AND last_upid = ?",
                params![state, Timestamp::now().as_second(), id, upid],
            )?;
            Ok(())
        })
    }
}
