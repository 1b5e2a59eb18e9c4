//! What the server tells of how it stands: to Prometheus when it asks, and to people when something is wrong.

mod exposition;
pub(crate) mod growth;
mod letter;
mod metrics;
mod notifier;
mod problem;
mod send;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use http::{HeaderMap, Method};
use jiff::{SignedDuration, Timestamp};
use relight_pbs::access::Privileges;
use relight_pbs::service::datastore::Datastore;
use relight_pbs::service::http::{Answer, ApiResult, Body, NoParameters, Router};

use crate::config::{Config, MailConfig};
use crate::error::Result;
use crate::runs::{Board, Context};
use crate::standing::History;
use crate::state::{Run, State};
use growth::Sizes;
pub use growth::{Growth, Size};
pub use letter::{Memory as ToldMemory, Told};
pub use metrics::Metrics;
use notifier::Notifier;
pub use notifier::Sent;
pub use problem::Problem;

/// How often it is looked what has happened.
const LOOK: Duration = Duration::from_secs(5);
/// How often the sizes of repositories are measured.
const MEASURE: Duration = Duration::from_secs(900);
/// Of more runs that end between two looks nobody is told that they went well.
const MOST_ENDED: usize = 10_000;

/// Follows what happens and answers how it stands.
pub(crate) struct Monitor {
    state: Arc<State>,
    board: Board,
    datastores: BTreeMap<String, Arc<Datastore>>,
    history: Mutex<History>,
    sizes: Mutex<Sizes>,
    /// The server's name in letters.
    host: String,
    mail: Option<MailConfig>,
    /// Runs that have ended, of which nobody was told yet.
    ended: Mutex<Vec<Run>>,
    sent: Mutex<BTreeMap<String, Sent>>,
    started: Timestamp,
    since: Instant,
    settle: Duration,
    stop: AtomicBool,
}

/// A monitor that looks by itself until it is closed.
pub(crate) struct Watching {
    monitor: Arc<Monitor>,
    thread: Option<JoinHandle<()>>,
}

impl Monitor {
    pub fn new(config: &Config, board: Board, context: &Context) -> Arc<Self> {
        Arc::new(Self {
            state: context.state.clone(),
            board,
            datastores: context.datastores.clone(),
            host: context.host.clone(),
            mail: config.mail.clone(),
            ended: Mutex::default(),
            sent: Mutex::default(),
            since: Instant::now(),
            settle: notifier::settle(),
            history: Mutex::default(),
            sizes: Mutex::default(),
            started: Timestamp::now(),
            stop: AtomicBool::new(false),
        })
    }

    /// The history as of now.
    ///
    /// # Errors
    /// The state cannot be read.
    fn follow(&self) -> Result<MutexGuard<'_, History>> {
        let mut history = self.history.lock().unwrap_or_else(PoisonError::into_inner);
        let news = history.follow(&self.state, &self.board.planned().plan)?;
        history.see_logs(self.board.logs.shown());
        let mut ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        ended.extend(news.runs);
        let too_many = ended.len().saturating_sub(MOST_ENDED);
        ended.drain(..too_many);
        Ok(history)
    }

    fn take_ended(&self) -> Vec<Run> {
        std::mem::take(&mut *self.ended.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn sizes(&self) -> MutexGuard<'_, Sizes> {
        self.sizes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Everything, as Prometheus reads it.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn metrics(&self, now: Timestamp) -> Result<String> {
        let planned = self.board.planned();
        let history = self.follow()?;
        let shown = self.board.live.shown();
        let growth = self.sizes().growth();
        let sent = self.sent.lock().unwrap_or_else(PoisonError::into_inner).clone();
        let metrics = Metrics {
            plan: &planned.plan,
            history: &history,
            shown: &shown,
            growth: &growth,
            sent: &sent,
            started: self.started,
            now,
        };
        Ok(metrics.text())
    }

    /// Measures repositories and keeps that. One that does not answer is passed over.
    fn measure(&self, now: Timestamp) {
        for (name, datastore) in &self.datastores {
            match datastore.status() {
                Ok(status) => {
                    let size = growth::Size {
                        time: now,
                        used: status.used,
                        available: status.avail,
                    };
                    if let Err(error) = self.state.add_repository_size(name, size) {
                        tracing::warn!("{error}: the size of {name} is not kept");
                    }
                }
                Err(error) => tracing::warn!("measure {name}: {error}"),
            }
        }
        let since = now.checked_sub(SignedDuration::from_hours(24 * growth::DAYS));
        match self.state.repository_sizes(since.unwrap_or(now)) {
            Ok(sizes) => *self.sizes() = Sizes::new(sizes),
            Err(error) => tracing::warn!("{error}: how repositories grow is not known"),
        }
    }

    /// Looks by itself from now on.
    pub fn start(self: &Arc<Self>) -> Watching {
        let monitor = self.clone();
        let thread = std::thread::Builder::new().name("monitor".into());
        let thread = thread.spawn(move || monitor.watch());
        if let Err(error) = &thread {
            tracing::error!("start a thread: {error}: nobody is told of anything");
        }
        Watching {
            monitor: self.clone(),
            thread: thread.ok(),
        }
    }

    fn watch(&self) {
        let mut notifier = Notifier::default();
        let mut measured: Option<Instant> = None;
        while !self.stop.load(Ordering::Relaxed) {
            if measured.is_none_or(|at| at.elapsed() >= MEASURE) {
                self.measure(Timestamp::now());
                measured = Some(Instant::now());
            }
            let told = self
                .follow()
                .map(drop)
                .and_then(|()| notifier.tell(self, Timestamp::now()));
            if let Err(error) = told {
                tracing::error!("{error}: what happened is not known, and nobody is told");
            }
            std::thread::park_timeout(LOOK);
        }
    }
}

impl Watching {
    /// Ends it, and waits a little until that is done.
    pub fn close(mut self) {
        self.monitor.stop.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            // Storage that does not answer is not waited for.
            let end = Instant::now() + Duration::from_secs(5);
            while !thread.is_finished() && Instant::now() < end {
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

/// Adds `GET /metrics`, for whoever may see the server's state.
pub(crate) fn routes(router: &mut Router, monitor: &Arc<Monitor>) {
    let monitor = monitor.clone();
    router.on_own(Method::GET, "/metrics", move |call, _: NoParameters| {
        let monitor = monitor.clone();
        async move {
            call.require("/system/status", Privileges::SYS_AUDIT)?;
            relight_pbs::service::http::blocking(move || answer(&monitor)).await
        }
    });
}

fn answer(monitor: &Monitor) -> ApiResult<Answer> {
    let text = monitor.metrics(Timestamp::now()).map_err(crate::rest::failed)?;
    Ok(Answer::Raw {
        content_type: exposition::CONTENT_TYPE,
        headers: HeaderMap::new(),
        body: Body::whole(text),
    })
}
