//! Collection as a job, and what the last one found.

use std::path::{Path, PathBuf};
use std::sync::PoisonError;
use std::sync::atomic::AtomicBool;

use jiff::Timestamp;
use relight_repo::collect::{Report, collect};
use relight_repo::control::Control;
use serde::{Deserialize, Serialize};

use super::Datastore;
use super::entry::Source;
use super::error::{Result, StoreError};
use super::progress::{Lines, Log};

/// Figures of a collection, as the protocol has them. Where it counts chunks that were removed, these are packs.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", default)]
pub struct CollectStatus {
    /// The job.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upid: Option<String>,
    /// Index files.
    pub index_file_count: u64,
    /// Bytes of what they list.
    pub index_data_bytes: u64,
    /// Bytes of packs that stay.
    pub disk_bytes: u64,
    /// Chunks that snapshots need.
    pub disk_chunks: u64,
    /// Bytes that were given back.
    pub removed_bytes: u64,
    /// Packs of these bytes.
    pub removed_chunks: u64,
    /// Bytes that are given back by a later collection.
    pub pending_bytes: u64,
    /// Packs of these bytes.
    pub pending_chunks: u64,
    /// Nothing is removed because it is bad: it may be repaired.
    pub removed_bad: u64,
    /// Chunks that are missing or damaged.
    pub still_bad: u64,
}

/// The state of collections of a datastore.
#[derive(Default)]
pub(super) struct State {
    running: bool,
    last: Option<Last>,
}

/// What is kept of the last collection.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
struct Last {
    #[serde(flatten)]
    status: CollectStatus,
    last_run_endtime: i64,
    last_run_state: String,
}

fn file(state: &Path) -> PathBuf {
    state.join("gc-status.json")
}

impl State {
    /// What was kept. What cannot be read is as good as none.
    pub fn load(state: Option<&Path>) -> Self {
        let text = state.and_then(|state| std::fs::read(file(state)).ok());
        Self {
            running: false,
            last: text.and_then(|text| serde_json::from_slice(&text).ok()),
        }
    }
}

/// Ends the time in which no other collection may begin.
struct Running<'a>(&'a Datastore);

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.0.collecting().running = false;
    }
}

impl Datastore {
    fn collecting(&self) -> std::sync::MutexGuard<'_, State> {
        self.collecting.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What the last collection found.
    pub fn collect_status(&self) -> CollectStatus {
        let last = self.collecting().last.clone();
        last.map(|last| last.status).unwrap_or_default()
    }

    /// Whether one runs.
    pub fn is_collecting(&self) -> bool {
        self.collecting().running
    }

    /// When the last collection ended and how, if there was one.
    pub fn last_collection(&self) -> Option<(Timestamp, String)> {
        let last = self.collecting().last.clone()?;
        Some((
            Timestamp::from_second(last.last_run_endtime).ok()?,
            last.last_run_state,
        ))
    }

    /// Collects: finds what no snapshot needs and gives its space back. `task` is the name of the job.
    ///
    /// # Errors
    /// [`StoreError::Busy`] if one runs; those of a collection.
    pub fn collect(&self, task: &str, log: Log<'_>, cancelled: &AtomicBool) -> Result<CollectStatus> {
        if std::mem::replace(&mut self.collecting().running, true) {
            return Err(StoreError::Busy(format!(
                "datastore {}: a garbage collection",
                self.name
            )));
        }
        let _running = Running(self);
        log(&format!("starting garbage collection on store {}", self.name));
        let lines = Lines::new(log);
        let control = Control {
            cancelled,
            progress: &lines,
        };
        let outcome = collect(&self.repository(), &self.options.collect, control);
        let state = match &outcome {
            Ok(_) => "OK".to_string(),
            Err(error) => error.to_string(),
        };
        let status = match &outcome {
            Ok(report) => self.figures(task, report)?,
            Err(_) => CollectStatus {
                upid: Some(task.to_string()),
                ..self.collect_status()
            },
        };
        if let Ok(report) = &outcome {
            tell(&status, report, log);
        }
        self.keep(Last {
            status: status.clone(),
            last_run_endtime: self.repository().now().as_second(),
            last_run_state: state,
        })?;
        outcome?;
        Ok(status)
    }

    fn figures(&self, task: &str, report: &Report) -> Result<CollectStatus> {
        let found = &report.found;
        let pending = [
            found.waiting,
            found.young_waste,
            report.condemned,
            report.kept_by_lock,
        ];
        let mut status = CollectStatus {
            upid: Some(task.to_string()),
            disk_chunks: report.found.live_chunks,
            removed_bytes: report.deleted.bytes,
            removed_chunks: report.deleted.packs,
            pending_bytes: pending.iter().map(|amount| amount.bytes).sum(),
            pending_chunks: pending.iter().map(|amount| amount.packs).sum(),
            still_bad: report.found.damaged,
            ..CollectStatus::default()
        };
        let packs = report.found.packs.bytes + report.written.bytes;
        status.disk_bytes = packs.saturating_sub(status.removed_bytes + status.pending_bytes);
        for group in self.list()?.all_groups() {
            for entry in &group.snapshots {
                for file in self.files(entry).unwrap_or_default() {
                    if matches!(file.source, Source::Index(_) | Source::KeptIndex(..)) {
                        status.index_file_count += 1;
                        let size = file.size.unwrap_or_default();
                        status.index_data_bytes = status.index_data_bytes.saturating_add(size);
                    }
                }
            }
        }
        Ok(status)
    }

    fn keep(&self, last: Last) -> Result<()> {
        if let Some(state) = self.options.state.as_deref() {
            let path = file(state);
            let failed = |source| StoreError::State {
                action: "write",
                path: path.display().to_string(),
                source,
            };
            std::fs::create_dir_all(state).map_err(failed)?;
            let text = serde_json::to_vec(&last).map_err(|error| failed(error.into()))?;
            // A crash may leave half a file: then it is as if there had been no collection.
            std::fs::write(&path, text).map_err(failed)?;
        }
        self.collecting().last = Some(last);
        Ok(())
    }
}

fn tell(status: &CollectStatus, report: &Report, log: Log<'_>) {
    let mib = |bytes: u64| format!("{} MiB", bytes.div_ceil(1 << 20));
    log(&format!(
        "Removed garbage: {} (in {} packs)",
        mib(status.removed_bytes),
        status.removed_chunks
    ));
    log(&format!(
        "Pending removals: {} (in {} packs)",
        mib(status.pending_bytes),
        status.pending_chunks
    ));
    log(&format!("Original data usage: {}", mib(status.index_data_bytes)));
    log(&format!("On-Disk usage: {}", mib(status.disk_bytes)));
    log(&format!("On-Disk chunks: {}", status.disk_chunks));
    if report.unreadable > 0 {
        log(&format!(
            "{} packs could not be rewritten because something in them cannot be read; run a verification",
            report.unreadable
        ));
    }
}
