//! Runs: the server does what the plan says, when it is time, and writes down what came of it.
//!
//! One thread, the scheduler, decides ([`relight_model::schedule`]); each run has a thread of its own and tells the
//! scheduler when it has ended. What is decided is in the database before it is begun, and what has ended is in the
//! database before anything follows from it: whenever the server is killed, no run is lost and none is done twice.

mod arrivals;
mod clocks;
pub mod code;
mod context;
mod facts;
mod follow;
mod live;
mod records;
mod recover;
pub(crate) mod restores;
mod retention;
mod scheduler;
mod task;
#[cfg(test)]
mod tests;
pub(crate) mod vanished;
mod work;

use std::sync::mpsc::{Sender, channel};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::thread::JoinHandle;
use std::time::Duration;

use relight_model::schedule::Clock;

pub use clocks::read as clock;

pub use code::{Code, RunFailure};
pub use context::not_planned;
pub(crate) use context::{Context, Found, Planned, digest};
pub use facts::facts;
pub use live::{Live, Progress, Shown, Waiting};
pub(crate) use retention::log_needs;
pub use retention::{due, promised};

use crate::config::Config;
use crate::error::{Result, ServerError};
use crate::logs::Logs;
use arrivals::Arrival;
use scheduler::Scheduler;
use work::Done;

/// How often it is looked what was pushed.
const ARRIVALS: Duration = Duration::from_secs(30);

/// What the scheduler is told.
enum Message {
    /// A run has ended.
    Ended { run: u64, done: Box<Done> },
    /// A backup was found that the server did not make.
    Arrived(Arrival),
    /// The server stops: nothing more is begun.
    Stop,
    /// The grace time is over: what runs is broken off.
    BreakOff,
}

/// The scheduler and what it has begun.
pub(crate) struct Runs {
    tell: Sender<Message>,
    live: Arc<Live>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

/// What the scheduler shows to others: the plan that holds now, and what runs. A file that cannot be understood changes nothing.
#[derive(Clone)]
pub(crate) struct Board {
    plan: Arc<RwLock<Arc<Planned>>>,
    /// When its file had last changed before it was read.
    modified: Option<follow::Look>,
    /// What runs.
    pub live: Arc<Live>,
    /// What is known of logs.
    pub logs: Arc<Logs>,
    /// Restores that are to begin.
    pub restores: restores::Asked,
}

impl Board {
    /// With the plan of a configuration, or the last one that could be understood. Nothing runs yet.
    ///
    /// # Errors
    /// The plan cannot be read or understood.
    pub fn open(config: &Config) -> Result<Self> {
        Ok(Self {
            modified: follow::modified(&config.path),
            plan: Arc::new(RwLock::new(Arc::new(follow::plan_at_start(config)?))),
            live: Arc::default(),
            logs: Arc::default(),
            restores: Default::default(),
        })
    }

    /// The plan that holds now.
    pub fn planned(&self) -> Arc<Planned> {
        self.plan.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn set_plan(&self, planned: Planned) {
        *self.plan.write().unwrap_or_else(PoisonError::into_inner) = Arc::new(planned);
    }
}

impl Runs {
    /// Starts to keep the plan of a configuration.
    ///
    /// # Errors
    /// What the scheduler remembers cannot be read.
    pub fn start(config: &Config, context: Arc<Context>, board: Board) -> Result<Self> {
        Self::start_with(config, context, board, Box::new(clocks::read))
    }

    /// The same, by clocks that the caller gives.
    fn start_with(
        config: &Config,
        context: Arc<Context>,
        board: Board,
        clocks: Box<dyn Fn() -> Clock + Send>,
    ) -> Result<Self> {
        let (tell, told) = channel();
        let live = board.live.clone();
        let scheduler = Scheduler::new(config, context.clone(), board.clone(), tell.clone(), clocks)?;
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            let thread = std::thread::Builder::new().name(name.into()).spawn(work);
            thread.map_err(|error| ServerError::System(format!("start a thread: {error}")))
        };
        let (ended, looking) = channel::<()>();
        let scheduling = spawn(
            "scheduler",
            Box::new(move || {
                scheduler.run(&told);
                drop(ended);
            }),
        )?;
        let arrived = tell.clone();
        // By itself: a repository that does not answer must not hold up the scheduler. Nobody waits for it either.
        let _ = spawn(
            "arrivals",
            Box::new(move || {
                loop {
                    arrivals::look(&context, &board.planned(), &arrived);
                    if looking.recv_timeout(ARRIVALS) == Err(std::sync::mpsc::RecvTimeoutError::Disconnected)
                    {
                        return;
                    }
                }
            }),
        )?;
        Ok(Self {
            tell,
            live,
            threads: Mutex::new(vec![scheduling]),
        })
    }

    /// Begins nothing more, lets what runs end for the grace time, breaks off the rest, and waits until that has ended.
    pub fn close(&self, grace: Duration) {
        let _ = self.tell.send(Message::Stop);
        let end = std::time::Instant::now() + grace;
        while self.live.count() > 0 && std::time::Instant::now() < end {
            std::thread::sleep(Duration::from_millis(50));
        }
        let _ = self.tell.send(Message::BreakOff);
        let threads = std::mem::take(&mut *self.threads.lock().unwrap_or_else(PoisonError::into_inner));
        for thread in threads {
            let _ = thread.join();
        }
    }
}
