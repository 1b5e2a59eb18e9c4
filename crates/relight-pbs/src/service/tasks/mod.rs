//! Tasks: work that goes on after its call was answered, or that is worth a log. Each has a name (UPID), a log that clients
//! poll, and an end; all are kept in a folder, and survive a restart of the server.

mod log;
pub mod rest;
mod running;

use std::collections::{HashMap, VecDeque};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;

use crate::access::AuthId;
use crate::formats::upid::Upid;
pub use log::LogPage;
use running::Shared;
pub use running::Task;

/// Tasks that have ended of which is known. The logs of older ones are removed.
const KEPT: usize = 5000;

/// How a task ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum End {
    /// Everything was done.
    Ok,
    /// It was done; so many lines of the log are warnings.
    Warnings(u64),
    /// It failed.
    Error(String),
    /// The server went away while it ran.
    Unknown,
}

impl End {
    /// As clients show it.
    pub fn text(&self) -> String {
        match self {
            Self::Ok => "OK".into(),
            Self::Warnings(count) => format!("WARNINGS: {count}"),
            Self::Error(message) => message.clone(),
            Self::Unknown => "unknown".into(),
        }
    }

    /// Whether it failed.
    pub fn is_error(&self) -> bool {
        matches!(self, Self::Error(_) | Self::Unknown)
    }
}

/// What is known of a task.
#[derive(Debug, Clone)]
pub struct TaskInfo {
    /// Its name.
    pub upid: Upid,
    /// When and how it ended; none while it runs.
    pub end: Option<(Timestamp, End)>,
}

/// All tasks of this server.
pub struct Tasks {
    folder: PathBuf,
    node: String,
    pid: u32,
    pstart: u64,
    next: AtomicU64,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    running: HashMap<String, Arc<Shared>>,
    /// Oldest first.
    ended: VecDeque<Ended>,
}

struct Ended {
    info: TaskInfo,
    path: PathBuf,
}

impl Tasks {
    /// Opens the folder, which is made if it is not there, and looks at what ran before. `node` is the name of this host in the
    /// names of tasks.
    ///
    /// # Errors
    /// The folder cannot be made or read.
    pub fn open(folder: impl Into<PathBuf>, node: &str) -> io::Result<Arc<Self>> {
        let folder = folder.into();
        fs::create_dir_all(&folder)?;
        let mut ended = Vec::new();
        for entry in fs::read_dir(&folder)? {
            let path = entry?.path();
            if path.extension().is_some_and(|extension| extension == "log")
                && let Some(info) = log::read_info(&path)?
            {
                ended.push(Ended { info, path });
            }
        }
        ended.sort_by_key(|task: &Ended| (task.info.upid.start, task.info.upid.task));
        let tasks = Self {
            folder,
            node: safe_node(node),
            pid: std::process::id(),
            pstart: process_start(),
            next: AtomicU64::new(0),
            state: Mutex::new(State {
                running: HashMap::new(),
                ended: ended.into(),
            }),
        };
        tasks.state().trim();
        Ok(Arc::new(tasks))
    }

    /// The name of this host.
    pub fn node(&self) -> &str {
        &self.node
    }

    fn state(&self) -> std::sync::MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins a task that the caller carries on: a backup session, say. It ends with [`Task::end`], or in failure when it is
    /// dropped.
    ///
    /// # Errors
    /// Its log cannot be made.
    pub fn begin(
        self: &Arc<Self>,
        worker_type: &str,
        worker_id: Option<&str>,
        who: &AuthId,
    ) -> io::Result<Task> {
        self.start(worker_type, worker_id, who, false)
    }

    fn start(
        self: &Arc<Self>,
        worker_type: &str,
        worker_id: Option<&str>,
        who: &AuthId,
        is_worker: bool,
    ) -> io::Result<Task> {
        let upid = Upid {
            node: self.node.clone(),
            pid: self.pid,
            pstart: self.pstart,
            task: self.next.fetch_add(1, Ordering::Relaxed),
            start: Timestamp::now().as_second(),
            worker_type: worker_type.to_string(),
            worker_id: worker_id.map(|id| id.chars().take(256).collect()),
            auth_id: who.to_string(),
        };
        let path = self.folder.join(format!(
            "{:08X}-{:08X}-{:08X}-{:08X}.log",
            upid.start, upid.pstart, upid.pid, upid.task
        ));
        let shared = Arc::new(Shared::new(upid.clone(), path, is_worker)?);
        self.state().running.insert(upid.to_string(), shared.clone());
        Ok(Task::new(self.clone(), shared))
    }

    /// Begins a task that runs on a thread of its own. It fails with the message that the work returns.
    ///
    /// # Errors
    /// Its log cannot be made, or no thread started.
    pub fn run<F>(
        self: &Arc<Self>,
        worker_type: &str,
        worker_id: Option<&str>,
        who: &AuthId,
        work: F,
    ) -> io::Result<Upid>
    where
        F: FnOnce(&Task) -> Result<(), String> + Send + 'static,
    {
        let task = self.start(worker_type, worker_id, who, true)?;
        let upid = task.upid().clone();
        std::thread::Builder::new()
            .name(worker_type.chars().take(15).collect())
            .spawn(move || {
                let result = work(&task);
                task.end(result);
            })?;
        Ok(upid)
    }

    /// What is known of a task.
    pub fn info(&self, upid: &Upid) -> Option<TaskInfo> {
        let state = self.state();
        let running = state.running.get(&upid.to_string()).map(|shared| shared.info());
        running.or_else(|| {
            state
                .ended
                .iter()
                .rev()
                .find(|task| task.info.upid == *upid)
                .map(|task| task.info.clone())
        })
    }

    /// All tasks: those that run, then those that have ended, each newest first.
    pub fn list(&self) -> Vec<TaskInfo> {
        let state = self.state();
        let mut list: Vec<TaskInfo> = state.running.values().map(|shared| shared.info()).collect();
        list.sort_by_key(|task| std::cmp::Reverse((task.upid.start, task.upid.task)));
        list.extend(state.ended.iter().rev().map(|task| task.info.clone()));
        list
    }

    /// How many run.
    pub fn running(&self) -> usize {
        self.state().running.len()
    }

    /// Lines of a task's log from line `start` (the first is 1), `limit` at most (0: all).
    ///
    /// # Errors
    /// The log cannot be read.
    pub fn log(&self, upid: &Upid, start: u64, limit: u64) -> io::Result<Option<LogPage>> {
        let found = {
            let state = self.state();
            match state.running.get(&upid.to_string()) {
                Some(shared) => Some((shared.path.clone(), true)),
                None => state
                    .ended
                    .iter()
                    .rev()
                    .find(|task| task.info.upid == *upid)
                    .map(|task| (task.path.clone(), false)),
            }
        };
        found
            .map(|(path, active)| log::read_page(&path, start, limit, active))
            .transpose()
    }

    /// Asks a task to stop; gives whether it runs. Its work looks at [`Task::is_stopped`].
    pub fn stop(&self, upid: &Upid) -> bool {
        let state = self.state();
        let running = state.running.get(&upid.to_string());
        if let Some(shared) = running {
            shared.stop();
        }
        running.is_some()
    }

    /// Asks those to stop that run on threads of their own: verifications, collections. They can be done again.
    pub fn stop_workers(&self) {
        for shared in self.state().running.values().filter(|shared| shared.is_worker) {
            shared.stop();
        }
    }

    /// Asks all tasks to stop.
    pub fn stop_all(&self) {
        for shared in self.state().running.values() {
            shared.stop();
        }
    }

    /// A task has ended.
    fn ended(&self, shared: &Shared, info: TaskInfo) {
        let mut state = self.state();
        state.running.remove(&info.upid.to_string());
        state.ended.push_back(Ended {
            info,
            path: shared.path.clone(),
        });
        state.trim();
    }
}

impl State {
    fn trim(&mut self) {
        while self.ended.len() > KEPT {
            if let Some(oldest) = self.ended.pop_front() {
                // What cannot be removed is seen again at the next start.
                let _ = fs::remove_file(&oldest.path);
            }
        }
    }
}

/// A host's name as it may be part of the name of a task.
fn safe_node(node: &str) -> String {
    let short = node.split('.').next().unwrap_or_default();
    let safe: String = short
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
        .take(63)
        .collect();
    if safe.is_empty() { "localhost".into() } else { safe }
}

/// When this process was started, in clock ticks since boot: field 22 of `/proc/self/stat` (proc(5)). It makes names of tasks
/// unique over restarts; where it is not to be had, zero does no harm.
fn process_start() -> u64 {
    let stat = fs::read_to_string("/proc/self/stat").unwrap_or_default();
    // The second field is in parentheses, and may hold anything.
    let after = stat.rsplit_once(") ").map_or("", |(_, after)| after);
    after
        .split(' ')
        .nth(19)
        .and_then(|field| field.parse().ok())
        .unwrap_or(0)
}
