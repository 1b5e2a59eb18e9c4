//! The scheduler's thread.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use relight_model::schedule::{Clock, ClockAlarm, Decision, JobId, Next, Outcome, RunKind, State as Memory};

use super::arrivals::Arrival;
use super::code::{Code, RunFailure};
use super::context::{Context, Planned};
use super::follow;
use super::live::Live;
use super::records::records;
use super::task::Task;
use super::work::{self, Done};
use super::{Board, Message, recover};
use crate::approvals;
use crate::config::Config;
use crate::drills;
use crate::error::Result;
use crate::evidence::detail::Ended;
use crate::evidence::{Kind, NewEvidence, Outcome as Written};
use crate::state::{NewRun, Remembered, Request, Run, RunFilter};

/// How often it is looked what operators ask for.
const LOOK: Duration = Duration::from_secs(1);
/// How often the clocks are compared even if nothing is due.
const CLOCKS: Duration = Duration::from_secs(60);
/// What could not be written down is tried again after this time.
const RETRY: Duration = Duration::from_secs(10);

pub(super) struct Scheduler {
    context: Arc<Context>,
    live: Arc<Live>,
    tell: Sender<Message>,
    clocks: Box<dyn Fn() -> Clock + Send>,
    /// What the plan was read from, and when that had last changed.
    path: PathBuf,
    /// A copy of the last plan that could be understood.
    kept: PathBuf,
    modified: Option<follow::Look>,
    /// What another one looked like at the look before: an editor may still be writing it.
    seen: Option<follow::Look>,
    board: Board,
    memory: Memory,
    /// Runs that have ended, of which that could not be written down yet.
    unwritten: Vec<(Run, Done)>,
    unwritten_since: Option<Instant>,
    /// When to decide next, if nothing happens before.
    next: Option<Instant>,
    last_tick: Option<Instant>,
    alarm: Option<ClockAlarm>,
    stopping: bool,
    breaking_off: bool,
}

impl Scheduler {
    pub fn new(
        config: &Config,
        context: Arc<Context>,
        board: Board,
        tell: Sender<Message>,
        clocks: Box<dyn Fn() -> Clock + Send>,
    ) -> Result<Self> {
        let memory = match context.state.remembered()? {
            Some((head, rows)) => Memory::from_rows(head, rows),
            None => Memory::new(clocks()),
        };
        Ok(Self {
            context,
            live: board.live.clone(),
            tell,
            clocks,
            path: config.path.clone(),
            kept: follow::kept(config),
            modified: board.modified,
            seen: None,
            board,
            alarm: memory.clock_alarm(),
            memory,
            unwritten: Vec::new(),
            unwritten_since: None,
            next: None,
            last_tick: None,
            stopping: false,
            breaking_off: false,
        })
    }

    fn planned(&self) -> Arc<Planned> {
        self.board.planned()
    }

    /// Works until told to stop and everything has ended.
    pub fn run(mut self, told: &Receiver<Message>) {
        if let Err(error) = drills::sweep(&self.context.sandbox) {
            let why = error.message;
            tracing::error!("what drills of a killed server left is not cleared away: {why}");
        }
        self.agree();
        if self.planned().schedule.jobs().next().is_some() {
            self.note_plan("the plan is kept");
        }
        self.end_what_was_running();
        loop {
            match told.recv_timeout(LOOK) {
                Ok(message) => {
                    self.take(message);
                    while let Ok(message) = told.try_recv() {
                        self.take(message);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return,
            }
            self.write_unwritten();
            if self.stopping {
                if self.live.count() == 0 || self.breaking_off && !self.wait_for_ends(told) {
                    return;
                }
                continue;
            }
            self.follow_plan();
            self.take_requests();
            self.take_restores();
            self.limit();
            let is_due = self.next.is_none_or(|next| next <= Instant::now())
                || self.last_tick.is_none_or(|last| last.elapsed() >= CLOCKS);
            if is_due {
                self.decide();
            }
        }
    }

    /// What was broken off ends soon, but storage that does not answer is not waited for: what is not written down as ended
    /// is found at the next start. False when that time is over.
    fn wait_for_ends(&mut self, told: &Receiver<Message>) -> bool {
        let end = Instant::now() + Duration::from_secs(15);
        while self.live.count() > 0 {
            match told.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(message) => self.take(message),
                Err(_) => return false,
            }
        }
        self.write_unwritten();
        false
    }

    fn take(&mut self, message: Message) {
        match message {
            Message::Ended { run, done } => {
                if let Some(task) = self.live.remove(run) {
                    self.unwritten.push((task.run, *done));
                    self.unwritten_since = None;
                }
                self.next = None;
            }
            Message::Arrived(arrival) => self.arrived(&arrival),
            Message::Stop => self.stopping = true,
            Message::BreakOff => {
                self.stopping = true;
                self.breaking_off = true;
                for task in self.live.all() {
                    task.work.cancelled.store(true, Ordering::Relaxed);
                }
            }
        }
    }

    /// The plan is read again when its file is another. One that cannot be understood changes nothing.
    fn follow_plan(&mut self) {
        let now = follow::modified(&self.path);
        if now == self.modified || now.is_none() {
            return;
        }
        if now != self.seen {
            self.seen = now;
            return;
        }
        self.modified = now;
        match follow::read_plan(&self.path) {
            Ok(planned) if follow::is_emptied(&self.planned(), &planned) => {
                let what = "the plan's file names no workload any more: the plan from before goes on being kept; if that is meant, \
                            restart the server";
                tracing::error!("{}: {what}", self.path.display());
                self.note(Kind::Server, what, Written::Failed, None);
            }
            Ok(planned) => {
                follow::keep(&self.path, &self.kept);
                self.board.set_plan(planned);
                self.agree();
                self.next = None;
                self.note_plan("the plan was read again");
            }
            Err(error) => tracing::error!("{error}; the plan from before goes on being kept"),
        }
    }

    /// What keeps less than before is held against what was agreed on as soon as it is known.
    fn agree(&self) {
        let (planned, now) = (self.planned(), Timestamp::now());
        let held = approvals::held(&self.context.state, &self.context.approvals, &planned, now);
        if let Err(error) = held {
            tracing::error!("{error}: whether the plan keeps less than before is not known");
        }
    }

    fn note(&self, kind: Kind, what: &str, outcome: Written, who: Option<&str>) {
        let record = NewEvidence {
            time: Timestamp::now(),
            kind,
            who: who.map(str::to_owned),
            what: what.to_owned(),
            outcome,
            detail: serde_json::Map::new(),
        };
        self.add(record);
    }

    /// Which plan holds from now on.
    fn note_plan(&self, what: &str) {
        let digest = self.planned().digest.clone();
        self.add(NewEvidence {
            time: Timestamp::now(),
            kind: Kind::Server,
            who: None,
            what: what.to_owned(),
            outcome: Written::Done,
            detail: serde_json::Map::from_iter([("plan-sha256".to_string(), digest.into())]),
        });
    }

    fn add(&self, record: NewEvidence) {
        let what = record.what.clone();
        if let Err(error) = self.context.state.add_evidence(&[record]) {
            tracing::error!("{error}: that {what} could not be written down");
        }
    }

    fn take_requests(&mut self) {
        let requests = match self.context.state.requests() {
            Ok(requests) if requests.is_empty() => return,
            Ok(requests) => requests,
            Err(error) => return tracing::error!("{error}: what operators ask for is not known"),
        };
        let planned = self.planned();
        let clock = (self.clocks)();
        let mut memory = self.memory.clone();
        let (mut ids, mut cancel, mut confirmed) = (Vec::new(), Vec::new(), None);
        for (id, request, who) in requests {
            ids.push(id);
            match request {
                Request::Run(job) if planned.schedule.jobs().any(|known| *known == job) => {
                    memory.request(&job, clock.wall);
                }
                Request::Run(job) => tracing::warn!("{who} asked for {job}, which is not in the plan"),
                Request::Cancel(run) => cancel.push((run, who)),
                Request::ConfirmClock => {
                    memory.confirm_clock(clock);
                    confirmed = Some(who);
                }
            }
        }
        let remembered = Remembered::of(&mut memory);
        if let Err(error) = self.context.state.take_requests(&ids, &remembered) {
            return tracing::error!("{error}: what operators ask for waits");
        }
        self.memory = memory;
        self.next = None;
        for (run, who) in cancel {
            if self.live.cancel(run) {
                self.note(
                    Kind::Change,
                    &format!("cancelled run {run}"),
                    Written::Done,
                    Some(&who),
                );
            }
        }
        if let Some(who) = confirmed {
            let what = format!("confirmed that the clock is right: {}", clock.wall);
            self.note(Kind::Change, &what, Written::Done, Some(&who));
        }
    }

    /// Sets how fast each run may be now: those for which the same limit holds share it.
    fn limit(&self) {
        let tasks = self.live.all();
        if tasks.is_empty() {
            return;
        }
        let (planned, now) = (self.planned(), Timestamp::now());
        let rates: Vec<_> = tasks
            .iter()
            .map(|task| planned.schedule.rate_for(&task.run.job, now))
            .collect();
        for (task, rate) in tasks.iter().zip(&rates) {
            let sharing = rates.iter().filter(|other| *other == rate).count().max(1) as u64;
            task.throttle.set_rate(rate.map(|rate| rate.0 / sharing));
        }
    }

    fn decide(&mut self) {
        let planned = self.planned();
        let idle = planned.schedule.jobs().next().is_none();
        let began = Instant::now();
        let mut memory = self.memory.clone();
        let tick = planned.schedule.tick(&mut memory, (self.clocks)());
        let new: Vec<NewRun> = tick
            .started()
            .map(|(job, due, attempt)| NewRun {
                job: job.clone(),
                repository: recover::repository(&planned, job),
                due,
                started: tick.now,
                attempt,
                requested: memory
                    .running()
                    .any(|(id, running)| id == job && running.requested),
            })
            .collect();
        self.last_tick = Some(began);
        self.next = tick.next.map(|next| {
            let wait = next.duration_since(tick.now);
            began + Duration::try_from(wait).unwrap_or(CLOCKS)
        });
        self.live.show(&tick);
        self.tell_of_clock(tick.alarm);
        if idle {
            // Nothing that would have to be remembered.
            self.memory = memory;
            return;
        }
        let remembered = Remembered::of(&mut memory);
        let runs = match self.context.state.begin_runs(&new, &remembered) {
            Ok(runs) => runs,
            Err(error) => {
                tracing::error!("{error}: nothing is begun that could not be written down");
                self.next = Some(began + RETRY);
                return;
            }
        };
        self.memory = memory;
        for decision in &tick.decisions {
            if let Decision::Skip { job, due, reason } = decision {
                tracing::info!("{job}, due {due}, is skipped: {reason}");
            }
        }
        for run in runs {
            self.begin(&planned, run);
        }
        self.limit();
    }

    fn tell_of_clock(&mut self, alarm: Option<ClockAlarm>) {
        // How wrong it is changes all the time; whether and in which way it is, does not.
        let kind = |alarm: &Option<ClockAlarm>| alarm.as_ref().map(std::mem::discriminant);
        if kind(&alarm) != kind(&self.alarm) {
            match &alarm {
                Some(alarm) => {
                    tracing::error!("{alarm}; `relight runs confirm-clock` tells that it is right");
                    self.note(
                        Kind::Server,
                        &format!("clock alarm: {alarm}"),
                        Written::Failed,
                        None,
                    );
                }
                None => self.note(Kind::Server, "the clock is right again", Written::Done, None),
            }
        }
        self.alarm = alarm;
    }

    /// Begins the restores that somebody confirmed: they wait for nothing.
    fn take_restores(&mut self) {
        while let Some((run, restore)) = self.board.restores.take() {
            let context = self.context.clone();
            self.spawn(run, move |task| work::restore::run(&context, task, &restore));
        }
    }

    /// Starts a run that is in the database already.
    fn begin(&mut self, planned: &Arc<Planned>, run: Run) {
        let (context, planned) = (self.context.clone(), planned.clone());
        self.spawn(run, move |task| work::run(&context, &planned, task));
    }

    fn spawn(&mut self, run: Run, work: impl FnOnce(&Task) -> Done + Send + 'static) {
        let number = run.number;
        let task = Task::new(run, self.context.state.clone());
        self.live.add(task.clone());
        let tell = self.tell.clone();
        let thread = std::thread::Builder::new().name(format!("run-{number}"));
        let started = thread.spawn(move || {
            let done = catch_unwind(AssertUnwindSafe(|| work(&task)));
            let done = done.unwrap_or_else(|panic| {
                let why = panic.downcast_ref::<String>().map(String::as_str);
                let why = why
                    .or_else(|| panic.downcast_ref::<&str>().copied())
                    .unwrap_or("no reason is known");
                let message = format!("the run ended in an error of the program: {why}; please report it");
                RunFailure::new(Code::Internal, message).into()
            });
            let _ = tell.send(Message::Ended {
                run: number,
                done: Box::new(done),
            });
        });
        if let Err(error) = started {
            let failure = RunFailure::new(Code::Internal, format!("start a thread: {error}"));
            let _ = self.tell.send(Message::Ended {
                run: number,
                done: Box::new(failure.into()),
            });
        }
    }

    fn write_unwritten(&mut self) {
        if self.unwritten.is_empty() || self.unwritten_since.is_some_and(|since| since.elapsed() < RETRY) {
            return;
        }
        let broken_off = self.breaking_off;
        for (run, done) in std::mem::take(&mut self.unwritten) {
            if let Err(error) = self.ended(&run, &done, broken_off) {
                tracing::error!("{error}: the end of run {} is written down later", run.number);
                self.unwritten.push((run, done));
                self.unwritten_since = Some(Instant::now());
            }
        }
        self.next = None;
    }

    /// Writes down that a run has ended, and what follows.
    fn ended(&mut self, run: &Run, done: &Done, broken_off: bool) -> Result<()> {
        let now = Timestamp::now();
        let mut ended = done.ended();
        let mut failure = done.failure.clone();
        let is_restore = run.job.kind() == RunKind::Restore;
        if ended == Ended::Cancelled && broken_off {
            ended = Ended::Interrupted;
            failure = Some(RunFailure::new(
                Code::Interrupted,
                match is_restore {
                    true => format!("the server was stopped; {}", recover::again(&self.context, run)),
                    false => "the server was stopped; it is started again afterwards".to_owned(),
                },
            ));
        }
        let outcome = match ended {
            // What could not be read once is not read better in a quarter of an hour: the next time is the schedule's.
            Ended::Good | Ended::Incomplete => Outcome::Good,
            Ended::Failed if failure.as_ref().is_some_and(|failure| failure.try_again) => Outcome::Failed,
            Ended::Failed | Ended::Cancelled => Outcome::Cancelled,
            Ended::Interrupted => Outcome::Interrupted,
        };
        let mut memory = self.memory.clone();
        let next = match is_restore {
            // No schedule has it.
            true => Next::GivenUp,
            false => self.planned().schedule.ended(&mut memory, &run.job, outcome, now),
        };
        if let (Some(failure), Ended::Failed) = (&failure, ended) {
            let then = match next {
                Next::Retry(at) => format!("it is tried again {at}"),
                Next::Settled => "it runs again when it is due".to_owned(),
                Next::GivenUp if is_restore => "whoever asked for it decides".to_owned(),
                Next::GivenUp => "it is not tried again before it is due".to_owned(),
            };
            tracing::warn!(
                run = run.number,
                "{}: {} {}; {then}",
                run.job,
                failure.code,
                failure.message
            );
        }
        let (end, evidence) = records(run, done, ended, failure, now, false);
        let mut all = vec![evidence];
        all.extend(done.evidence.iter().cloned());
        self.context
            .state
            .end_run(&end, &Remembered::of(&mut memory), &all)?;
        self.memory = memory;
        Ok(())
    }

    /// A backup was found that the server did not make.
    fn arrived(&mut self, arrival: &Arrival) {
        let job = JobId::backup(&arrival.workload);
        let mut memory = self.memory.clone();
        if arrival.ended == Ended::Good {
            self.planned()
                .schedule
                .ended(&mut memory, &job, Outcome::Good, arrival.published);
        }
        let new = NewRun {
            job: job.clone(),
            repository: Some(arrival.repository.clone()),
            due: arrival.time,
            started: arrival.time,
            attempt: 1,
            requested: false,
        };
        let done = Done {
            snapshot: Some(arrival.snapshot.clone()),
            figures: arrival.figures.clone(),
            ..Done::default()
        };
        let failure = (arrival.ended == Ended::Incomplete).then(|| {
            RunFailure::new(
                Code::Incomplete,
                "its snapshot says that not everything was saved",
            )
        });
        let ended = |number| {
            let run = Run {
                number,
                job: job.clone(),
                repository: Some(arrival.repository.clone()),
                due: arrival.time,
                started: arrival.time,
                attempt: 1,
                who: None,
                ended: None,
                outcome: None,
                code: None,
                message: None,
                snapshot: None,
                figures: Default::default(),
            };
            records(&run, &done, arrival.ended, failure, arrival.published, true)
        };
        let state = &self.context.state;
        let written = state
            .add_ended_run(&new, ended, &Remembered::of(&mut memory))
            .and_then(|_| state.set_arrivals_known(&arrival.repository, arrival.published));
        match written {
            Ok(()) => {
                self.memory = memory;
                self.next = None;
            }
            // It is found again at the next look.
            Err(error) => tracing::error!("{error}: a backup of {} is written down later", arrival.workload),
        }
    }

    /// Runs that nobody ended: the server was killed.
    fn end_what_was_running(&mut self) {
        let filter = RunFilter {
            running: true,
            ..RunFilter::default()
        };
        let runs = match self.context.state.runs(&filter) {
            Ok(runs) => runs,
            Err(error) => return tracing::error!("{error}: what ran when the server went away is not known"),
        };
        for run in runs {
            let done = recover::outcome(&self.context, &run).unwrap_or_else(|| {
                let why = match run.job.kind() {
                    RunKind::Restore => format!(
                        "the server went away while it ran; {}",
                        recover::again(&self.context, &run)
                    ),
                    _ => "the server went away while it ran; it is started again".to_owned(),
                };
                RunFailure::new(Code::Cancelled, why).into()
            });
            tracing::info!("{} ran when the server went away", run.job);
            if let Err(error) = self.ended(&run, &done, true) {
                tracing::error!("{error}: the end of run {} is written down later", run.number);
                self.unwritten.push((run, done));
            }
        }
    }
}
