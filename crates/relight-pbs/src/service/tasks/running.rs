//! A task that runs.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::{Timestamp, Zoned};

use super::{End, TaskInfo, Tasks};
use crate::formats::upid::Upid;

/// Longest log in bytes. What a client has written into it is limited by nothing else.
const MAX_LOG: u64 = 8 * 1024 * 1024;
/// Longest line in bytes.
const MAX_LINE: usize = 4096;

/// What the list of tasks and whoever carries one on share.
pub(super) struct Shared {
    upid: Upid,
    pub(super) path: PathBuf,
    /// Whether it runs on a thread of its own, and can be done again; a session of a client cannot.
    pub(super) is_worker: bool,
    file: Mutex<File>,
    written: AtomicU64,
    warnings: AtomicU64,
    stopped: Arc<AtomicBool>,
}

impl Shared {
    pub(super) fn new(upid: Upid, path: PathBuf, is_worker: bool) -> io::Result<Self> {
        let mut file = OpenOptions::new()
            .append(true)
            .create_new(true)
            .mode(0o640)
            .open(&path)?;
        // The first line is the name; the log proper begins after it.
        file.write_all(format!("{upid}\n").as_bytes())?;
        Ok(Self {
            upid,
            path,
            is_worker,
            file: Mutex::new(file),
            written: AtomicU64::new(0),
            warnings: AtomicU64::new(0),
            stopped: Arc::default(),
        })
    }

    pub(super) fn info(&self) -> TaskInfo {
        TaskInfo {
            upid: self.upid.clone(),
            end: None,
        }
    }

    pub(super) fn stop(&self) {
        self.stopped.store(true, Ordering::Relaxed);
    }

    /// Writes a line. A log that cannot be written is no reason for the work to fail.
    fn line(&self, text: &str, limited: bool) {
        let mut end = text.len().min(MAX_LINE);
        while !text.is_char_boundary(end) {
            end -= 1;
        }
        let text: String = text[..end]
            .chars()
            .map(|c| if c.is_control() && c != '\t' { ' ' } else { c })
            .collect();
        let line = format!("{}: {text}\n", Zoned::now().strftime("%Y-%m-%dT%H:%M:%S%:z"));
        let before = self.written.fetch_add(line.len() as u64, Ordering::Relaxed);
        if limited && before > MAX_LOG {
            return;
        }
        let mut file = self.file.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(error) = file.write_all(line.as_bytes()) {
            tracing::warn!("{}: {error}", self.path.display());
        }
    }
}

/// A task that runs. When it is dropped without an end, it has failed.
pub struct Task {
    tasks: Arc<Tasks>,
    shared: Arc<Shared>,
    ended: bool,
}

impl Task {
    pub(super) fn new(tasks: Arc<Tasks>, shared: Arc<Shared>) -> Self {
        Self {
            tasks,
            shared,
            ended: false,
        }
    }

    /// Its name.
    pub fn upid(&self) -> &Upid {
        &self.shared.upid
    }

    /// Writes a line to its log.
    pub fn log(&self, text: impl AsRef<str>) {
        self.shared.line(text.as_ref(), true);
    }

    /// Writes a warning to its log. A task with warnings does not end as OK.
    pub fn warn(&self, text: impl AsRef<str>) {
        self.shared.warnings.fetch_add(1, Ordering::Relaxed);
        self.shared.line(&format!("WARN: {}", text.as_ref()), true);
    }

    /// Whether somebody asks it to stop.
    pub fn is_stopped(&self) -> bool {
        self.shared.stopped.load(Ordering::Relaxed)
    }

    /// A flag that becomes true when somebody asks it to stop, as the engine takes it.
    pub fn stopped(&self) -> Arc<AtomicBool> {
        self.shared.stopped.clone()
    }

    /// How it would end if it ended well now, as clients show it.
    pub fn state(&self) -> String {
        match self.shared.warnings.load(Ordering::Relaxed) {
            0 => End::Ok.text(),
            warnings => End::Warnings(warnings).text(),
        }
    }

    /// Ends it.
    pub fn end(mut self, result: Result<(), String>) {
        self.finish(result);
    }

    fn finish(&mut self, result: Result<(), String>) {
        if std::mem::replace(&mut self.ended, true) {
            return;
        }
        let end = match (result, self.shared.warnings.load(Ordering::Relaxed)) {
            (Ok(()), 0) => End::Ok,
            (Ok(()), warnings) => End::Warnings(warnings),
            (Err(message), _) => End::Error(message.replace(char::is_control, " ")),
        };
        let last = match &end {
            End::Ok => "TASK OK".to_string(),
            End::Error(message) => format!("TASK ERROR: {message}"),
            other => format!("TASK {}", other.text()),
        };
        self.shared.line(&last, false);
        let info = TaskInfo {
            upid: self.shared.upid.clone(),
            end: Some((Timestamp::now(), end)),
        };
        self.tasks.ended(&self.shared, info);
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        self.finish(Err("it was broken off".into()));
    }
}
