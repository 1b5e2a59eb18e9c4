//! Recovery points that backups made and that are not there any more, though they were the newest ones: somebody has forgotten
//! them early. How a workload stands goes by those before them.

use jiff::Timestamp;
use relight_model::Workload;
use relight_model::schedule::JobId;
use rusqlite::{OptionalExtension, params};

use super::runs::{COLUMNS, run};
use super::{Run, State};
use crate::error::Result;

impl State {
    /// The snapshots of the newest good backups of a workload in a repository that ended before a time, newest first: as far as
    /// they are not known to be gone, and `limit` at most.
    pub(crate) fn newest_points(
        &self,
        workload: &Workload,
        repository: &str,
        before: Timestamp,
        limit: u32,
    ) -> Result<Vec<String>> {
        let job = JobId::backup(workload).to_string();
        self.read(|connection| {
            let mut statement = connection.prepare_cached(
                "SELECT snapshot FROM runs WHERE job = ?1 AND repository = ?2 AND outcome = 'good' AND ended < ?3
                 AND snapshot IS NOT NULL AND snapshot NOT IN (SELECT snapshot FROM gone_points)
                 ORDER BY number DESC LIMIT ?4",
            )?;
            let rows = statement.query_map(
                params![job, repository, before.as_millisecond(), limit],
                |row| row.get(0),
            )?;
            rows.collect()
        })
    }

    /// Snapshots of a workload in a repository are gone.
    pub(crate) fn set_gone(&self, workload: &Workload, repository: &str, snapshots: &[String]) -> Result<()> {
        self.change(|connection| {
            let insert =
                "INSERT OR IGNORE INTO gone_points (snapshot, workload, repository) VALUES (?, ?, ?)";
            let mut statement = connection.prepare_cached(insert)?;
            for snapshot in snapshots {
                statement.execute(params![snapshot, workload.as_str(), repository])?;
            }
            Ok(())
        })
    }

    /// Snapshots are there after all, or again.
    pub(crate) fn unset_gone(&self, snapshots: &[String]) -> Result<()> {
        self.change(|connection| {
            let mut statement = connection.prepare_cached("DELETE FROM gone_points WHERE snapshot = ?")?;
            for snapshot in snapshots {
                statement.execute([snapshot])?;
            }
            Ok(())
        })
    }

    /// What is gone: snapshots, with their workloads and repositories.
    pub(crate) fn gone_points(&self) -> Result<Vec<(String, String, String)>> {
        self.read(|connection| {
            let select = "SELECT snapshot, workload, repository FROM gone_points";
            let mut statement = connection.prepare_cached(select)?;
            let rows = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
            rows.collect()
        })
    }

    /// The good run of a job that began last, of those whose snapshot is not gone.
    pub(crate) fn newest_there(&self, job: &JobId) -> Result<Option<Run>> {
        self.read(|connection| {
            let select = format!(
                "SELECT {COLUMNS} FROM runs WHERE job = ?1 AND outcome = 'good'
                 AND (snapshot IS NULL OR snapshot NOT IN (SELECT snapshot FROM gone_points))
                 ORDER BY started DESC, number DESC LIMIT 1"
            );
            let mut statement = connection.prepare_cached(&select)?;
            statement.query_row([job.to_string()], run).optional()
        })
    }
}
