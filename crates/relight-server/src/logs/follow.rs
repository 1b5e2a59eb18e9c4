//! Starts those who follow logs as the plan says, and starts them again when they end.

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use relight_model::Workload;
use relight_workloads::kind::{KeepsLog, Subject};
use relight_workloads::log::Following;

use super::{Failed, Follower, kept, look};
use crate::runs::{Board, Context};

/// How often it is looked whether all of them run.
const TEND: Duration = Duration::from_millis(250);
const LEAST_WAIT: Duration = Duration::from_secs(1);
const MOST_WAIT: Duration = Duration::from_secs(120);
/// Who has run for so long is started at once when it ends.
const STEADY: Duration = Duration::from_secs(300);

/// What there is to be followed.
#[derive(Clone)]
struct Wanted {
    log: &'static dyn KeepsLog,
    subject: Subject,
    repository: String,
}

/// One that runs, or waits to be started again.
struct One {
    wanted: Wanted,
    following: Arc<Following>,
    thread: Option<JoinHandle<Result<(), String>>>,
    began: Instant,
    wait: Duration,
    again: Option<Instant>,
    failed: Option<Failed>,
}

/// All that follows logs, until it is closed.
pub(crate) struct Followers {
    cancelled: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

impl Followers {
    /// Starts what the plan says, now and whenever it changes, and looks how far logs reach.
    pub fn start(context: &Arc<Context>, board: &Board) -> Self {
        let cancelled = Arc::new(AtomicBool::new(false));
        let spawn = |name: &str, work: Box<dyn FnOnce() + Send>| {
            let thread = std::thread::Builder::new().name(name.into()).spawn(work);
            thread
                .inspect_err(|error| tracing::error!("start a thread: {error}: logs are not followed"))
                .ok()
        };
        let (stop, its, its_board) = (cancelled.clone(), context.clone(), board.clone());
        let looking = spawn(
            "logs-look",
            Box::new(move || look::run(&its, &its_board, &|| stop.load(Ordering::Relaxed))),
        );
        let (stop, its, its_board) = (cancelled.clone(), context.clone(), board.clone());
        let tending = spawn("logs", Box::new(move || tend(&its, &its_board, &stop)));
        Self {
            cancelled,
            threads: looking.into_iter().chain(tending).collect(),
        }
    }

    /// Has all of them store what they have received, and waits for that up to the grace time.
    pub fn close(self, grace: Duration) {
        self.cancelled.store(true, Ordering::Relaxed);
        let end = Instant::now() + grace;
        while self.threads.iter().any(|thread| !thread.is_finished()) && Instant::now() < end {
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

fn wanted(board: &Board) -> BTreeMap<Workload, Wanted> {
    let planned = board.planned();
    let plan = &planned.plan;
    let promised = plan.workloads.iter().filter_map(|entry| {
        let (_, policy) = plan.policy_of(entry)?;
        let (log, repository) = kept(plan, entry)?;
        if policy.log.is_none() || policy.pushed {
            return None;
        }
        let subject = Subject {
            probe: Default::default(),
            ..Subject::of(entry)
        };
        let wanted = Wanted {
            log,
            subject,
            repository,
        };
        Some((entry.name.value.clone(), wanted))
    });
    promised.collect()
}

/// Sees to it that what is wanted runs, until it is cancelled.
fn tend(context: &Arc<Context>, board: &Board, cancelled: &AtomicBool) {
    let mut all: BTreeMap<Workload, One> = BTreeMap::new();
    let mut leaving: Vec<(Workload, One)> = Vec::new();
    let mut plan = None;
    while !cancelled.load(Ordering::Relaxed) {
        let digest = board.planned().digest.clone();
        if plan.as_ref() != Some(&digest) {
            plan = Some(digest);
            let wanted = wanted(board);
            let same = |one: &One| {
                let name = &one.wanted.subject.workload;
                wanted.get(name).is_some_and(|wanted| {
                    wanted.subject == one.wanted.subject && wanted.repository == one.wanted.repository
                })
            };
            let gone: Vec<Workload> = all
                .iter()
                .filter(|(_, one)| !same(one))
                .map(|(name, _)| name.clone())
                .collect();
            for name in gone {
                if let Some(one) = all.remove(&name) {
                    tracing::info!("the log of {name} is not followed any more as it was");
                    one.following.cancelled.store(true, Ordering::Relaxed);
                    board.logs.change(|all| {
                        if let Some(known) = all.get_mut(&name) {
                            known.follower = None;
                        }
                    });
                    leaving.push((name, one));
                }
            }
            for (name, wanted) in wanted {
                let folder = context.logs.join(name.as_str().replace('/', "+"));
                all.entry(name).or_insert_with(|| One {
                    wanted,
                    following: Following::new(folder),
                    thread: None,
                    began: Instant::now(),
                    wait: LEAST_WAIT,
                    again: None,
                    failed: None,
                });
            }
        }
        leaving.retain(|(_, one)| one.thread.as_ref().is_some_and(|thread| !thread.is_finished()));
        for (name, one) in &mut all {
            // Its folder is in use as long as the one from before is not gone.
            if leaving.iter().all(|(other, _)| other != name) {
                tend_one(context, one);
            }
            let follower = Follower {
                seen: one.following.seen(),
                failed: one.failed.clone(),
            };
            board
                .logs
                .change(|all| all.entry(name.clone()).or_default().follower = Some(follower));
        }
        std::thread::sleep(TEND);
    }
    let left = all.into_values().chain(leaving.into_iter().map(|(_, one)| one));
    let mut threads = Vec::new();
    for one in left {
        one.following.cancelled.store(true, Ordering::Relaxed);
        threads.extend(one.thread);
    }
    for thread in threads {
        let _ = thread.join();
    }
}

/// Starts it if it does not run, and takes note of how it ended.
fn tend_one(context: &Arc<Context>, one: &mut One) {
    match one.thread.take() {
        Some(thread) if !thread.is_finished() => {
            // It goes well again only when it was seen to.
            if one.failed.is_some() && one.began.elapsed() > LEAST_WAIT && is_well(one) {
                one.failed = None;
            }
            one.thread = Some(thread);
        }
        Some(thread) => {
            if one.began.elapsed() >= STEADY {
                one.wait = LEAST_WAIT;
            }
            let ended = thread.join();
            let ended = ended.unwrap_or_else(|_| Err("it ended in an error of the program".into()));
            match ended {
                Ok(()) => one.again = Some(Instant::now() + LEAST_WAIT),
                Err(why) => {
                    let name = &one.wanted.subject.workload;
                    tracing::warn!("the log of {name} is not followed: {why}; it is tried again");
                    let since = one
                        .failed
                        .take()
                        .map_or_else(Timestamp::now, |failed| failed.since);
                    one.failed = Some(Failed { since, why });
                    one.again = Some(Instant::now() + one.wait);
                    one.wait = (one.wait * 2).min(MOST_WAIT);
                }
            }
        }
        None if one.again.is_some_and(|again| again > Instant::now()) => {}
        None => begin(context, one),
    }
}

fn is_well(one: &One) -> bool {
    let seen = one.following.seen();
    let since = one.failed.as_ref().map(|failed| failed.since);
    seen.well > since && !seen.alarms.contains_key("connection")
}

fn begin(context: &Arc<Context>, one: &mut One) {
    one.following.begin();
    let (wanted, following, context) = (one.wanted.clone(), one.following.clone(), context.clone());
    let thread = std::thread::Builder::new().name("log".into());
    let started = thread.spawn(move || {
        let follow = || {
            let datastore = context.datastore(&wanted.repository);
            let repository = datastore.map_err(|failure| failure.message)?.repository();
            let followed = wanted.log.follow(&wanted.subject, &repository, &following);
            followed.map_err(|error| error.to_string())
        };
        catch_unwind(AssertUnwindSafe(follow))
            .unwrap_or_else(|_| Err("it ended in an error of the program; please report it".into()))
    });
    one.began = Instant::now();
    one.again = None;
    match started {
        Ok(thread) => one.thread = Some(thread),
        Err(error) => {
            tracing::error!("start a thread: {error}");
            one.again = Some(Instant::now() + MOST_WAIT);
        }
    }
}
