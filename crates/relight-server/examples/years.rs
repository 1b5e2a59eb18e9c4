//! A state as it is after years: 1,000 workloads, 3 years of runs, each with its evidence. Makes it in an empty folder, and
//! measures how large it is and how long it takes to start with it, to decide, to check the plan, to list and to verify.
//!
//! `bench/run years [FOLDER]`

use std::error::Error;
use std::path::Path;
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use relight_model::TimeSpan;
use relight_model::check;
use relight_model::objective::Verdict;
use relight_model::plan::{PickRule, Plan};
use relight_model::schedule::{Clock, JobId, Outcome as Ending, RunKind, Schedule, State as Memory};
use relight_server::evidence::detail::{DrillDetail, Ended, Figures, RunDetail, details};
use relight_server::evidence::{Kind, NewEvidence, Outcome};
use relight_server::runs;
use relight_server::state::{NewRun, Remembered, RunFilter, State};
use rusqlite::{Connection, params};

const WORKLOADS: u32 = 1_000;
const DAYS: i64 = 3 * 365;

type Result<T, E = Box<dyn Error>> = std::result::Result<T, E>;

fn plan() -> String {
    let mut text = String::from(
        "[plan]\ntime-zone = 'Europe/Berlin'\n[[repository]]\nname = 'main'\nruns = 50\nforget = '07:00'\ncollect = '09:00'\n\
         [limit]\nruns = 50\n[limit.host]\ndefault = 10\n[policy.linux]\nschedule = '02:00'\nstagger = '3 h'\nmethod = 'image'\n\
         repository = 'main'\nretention = { keep-daily = 14 }\ncatch-up = false\nrpo = '24 h'\nrpo-tolerance = '5 h'\nrto = '4 h'\n\
         verify = 'sat 12:00'\ndrill = 'quarterly'\n",
    );
    for number in 0..WORKLOADS {
        text.push_str(&format!(
            "[[workload]]\nname = 'vm/{number}'\npolicy = 'linux'\nhost = 'pve{}'\nsource = {{ images = ['/dev/vm/{number}'] }}\n",
            number % 20
        ));
    }
    text
}

/// A number by chance, the same each time.
fn lot(number: u64) -> u64 {
    let mut hash = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash = (hash ^ (hash >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    hash ^ (hash >> 27)
}

struct Years<'a> {
    state: &'a State,
    connection: Connection,
    last: (u64, [u8; 32]),
    runs: u64,
}

impl Years<'_> {
    fn run(&mut self, job: &JobId, due: Timestamp) -> Result<()> {
        self.runs += 1;
        let (number, chance) = (self.runs, lot(self.runs));
        let failed = chance.is_multiple_of(97);
        let started = due.checked_add(SignedDuration::from_millis((chance % 3_600_000) as i64))?;
        let ended = started.checked_add(SignedDuration::from_millis((chance % 900_000) as i64))?;
        let snapshot = (job.kind() == RunKind::Backup && !failed)
            .then(|| format!("{:016x}{:016x}", lot(chance), lot(chance + 1)));
        let code = failed.then(|| "RL201".to_string());
        let message = failed.then(|| "put packs/0f: main is not available: connection refused; nothing is known to be lost, try again".to_string());
        let figures = Figures {
            size: Some(100 << 30),
            read: Some(chance % (4 << 30)),
            added: Some(chance % (1 << 30)),
            stored: Some(chance % (1 << 29)),
            ..Figures::default()
        };
        let outcome = if failed { Ended::Failed } else { Ended::Good };
        self.connection
            .prepare_cached(
                "INSERT INTO runs (number, job, workload, repository, due, started, attempt, ended, outcome, code, message, snapshot,
                 figures) VALUES (?, ?, ?, 'main', ?, ?, 1, ?, ?, ?, ?, ?, ?)",
            )?
            .execute(params![
                number as i64,
                job.to_string(),
                job.workload().map(|workload| workload.as_str()),
                due.as_millisecond(),
                started.as_millisecond(),
                ended.as_millisecond(),
                outcome.name(),
                code,
                message,
                snapshot,
                serde_json::to_string(&figures)?,
            ])?;
        let detail = RunDetail {
            run: number,
            job: job.clone(),
            due,
            started,
            ended: outcome,
            attempt: 1,
            pushed: false,
            code,
            message,
            repository: Some("main".into()),
            snapshot,
            figures,
        };
        let evidence = NewEvidence {
            time: ended,
            kind: Kind::Run,
            who: None,
            what: job.to_string(),
            outcome: if failed { Outcome::Failed } else { Outcome::Done },
            detail: details(&detail),
        };
        self.prove(&evidence)?;
        if let (RunKind::Drill, Some(workload)) = (job.kind(), job.workload()) {
            let took = Duration::from_secs(300 + chance % 7_200);
            let promised = Duration::from_secs(4 * 3600);
            let drill = DrillDetail {
                run: number,
                workload: workload.clone(),
                exercise: false,
                snapshot: detail.snapshot,
                point: started.checked_sub(SignedDuration::from_hours(9)).ok(),
                pick: PickRule::Latest,
                repository: "main".into(),
                host: "backup".into(),
                requested: started,
                size: 100 << 30,
                steps: Vec::new(),
                probes: Vec::new(),
                control: None,
                measured: (!failed).then_some(TimeSpan(took)),
                promised: Some(TimeSpan(promised)),
                verdict: match failed {
                    true => Verdict::NotMeasured,
                    false => Verdict::Met {
                        margin: TimeSpan(promised.saturating_sub(took)),
                    },
                },
                torn_down: true,
                remarks: Vec::new(),
                code: detail.code,
                message: detail.message,
            };
            self.prove(&NewEvidence {
                kind: Kind::Drill,
                detail: details(&drill),
                ..evidence
            })?;
        }
        Ok(())
    }

    fn prove(&mut self, evidence: &NewEvidence) -> Result<()> {
        let sealed = self.state.signer()?.seal(self.last, evidence)?;
        self.last = (self.last.0 + 1, sealed.hash);
        self.connection
            .prepare_cached(
                "INSERT INTO evidence (sequence, time, kind, who, body, previous, hash, signature) VALUES (?, ?, ?, NULL, ?, ?, ?, ?)",
            )?
            .execute(params![
                self.last.0 as i64,
                evidence.time.as_millisecond(),
                evidence.kind.name(),
                sealed.body,
                sealed.previous,
                sealed.hash,
                sealed.signature
            ])?;
        Ok(())
    }
}

fn make(folder: &Path, plan: &Plan, begin: Timestamp) -> Result<u64> {
    let state = State::open(folder)?;
    // Made now: from here on another connection writes.
    state.signer()?;
    let connection = Connection::open(folder.join("state.db"))?;
    connection.execute_batch("PRAGMA synchronous = OFF; BEGIN")?;
    let last = state.evidence_head()?;
    let mut years = Years {
        state: &state,
        connection,
        last: (last.sequence, [0; 32]),
        runs: 0,
    };
    for day in 0..DAYS {
        let due = begin.checked_add(SignedDuration::from_hours(24 * day))?;
        for entry in &plan.workloads {
            let name = &entry.name.value;
            years.run(&JobId::backup(name), due)?;
            if day % 7 == 5 {
                years.run(&JobId::verify(name), due)?;
            }
            if day % 91 == 0 {
                years.run(&JobId::drill(name), due)?;
            }
        }
        years.run(&JobId::forget("main"), due)?;
        years.run(&JobId::collect("main"), due)?;
    }
    years.connection.execute_batch("COMMIT")?;
    Ok(years.runs)
}

fn told(what: &str, took: Duration, aim: Option<Duration>) {
    let aim = aim.map_or_else(String::new, |aim| {
        format!(
            "   aim: under {aim:?}{}",
            if took < aim { "" } else { "   MISSED" }
        )
    });
    println!("{what:<48} {took:>10.1?}{aim}");
}

fn timed<T>(what: &str, aim: Option<Duration>, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let began = Instant::now();
    let done = work()?;
    told(what, began.elapsed(), aim);
    Ok(done)
}

fn main() -> Result<()> {
    let folder = std::env::args().nth(1).ok_or("name an empty folder")?;
    let folder = Path::new(&folder);
    let text = plan();
    let plan = Plan::parse(&text)?;
    // For whoever serves it (`bench/run page`).
    std::fs::write(folder.join("plan.toml"), &text)?;
    let now = Timestamp::now();
    let begin = now.checked_sub(SignedDuration::from_hours(24 * DAYS))?;
    if !folder.join("state.db").exists() {
        let runs = timed("making it", None, || make(folder, &plan, begin))?;
        println!("{runs} runs of {WORKLOADS} workloads in {DAYS} days");
    }
    let size = std::fs::metadata(folder.join("state.db"))?.len();
    println!(
        "state.db: {} MiB   aim: under 1024 MiB{}",
        size >> 20,
        if size < 1 << 30 { "" } else { "   MISSED" }
    );

    let second = Duration::from_secs(1);
    let state = timed("open", Some(second * 2), || Ok(State::open(folder)?))?;
    timed("the newest 50 runs", None, || {
        let filter = RunFilter {
            limit: Some(50),
            ..RunFilter::default()
        };
        Ok(state.runs(&filter)?)
    })?;
    timed("the newest 50 runs of a workload", None, || {
        let filter = RunFilter {
            workload: Some("vm/500".into()),
            limit: Some(50),
            ..RunFilter::default()
        };
        Ok(state.runs(&filter)?)
    })?;
    let facts = timed("what was measured", None, || Ok(runs::facts(&state, &plan, now)?))?;
    timed("plan check", Some(second), || Ok(check::check(&plan, &facts)))?;

    let schedule = Schedule::new(&plan);
    let mut clock = Clock {
        wall: begin,
        monotonic: Duration::ZERO,
        boot: 1,
    };
    let mut memory = Memory::new(clock);
    let mut worst = (Duration::ZERO, Duration::ZERO);
    // A night, minute by minute: everything is due in it.
    for _ in 0..24 * 60 {
        clock.wall = clock.wall.checked_add(SignedDuration::from_secs(60))?;
        clock.monotonic += Duration::from_secs(60);
        let started = Instant::now();
        let tick = schedule.tick(&mut memory, clock);
        let decided = started.elapsed();
        let new: Vec<NewRun> = tick
            .started()
            .map(|(job, due, attempt)| NewRun {
                job: job.clone(),
                repository: None,
                due,
                started: tick.now,
                attempt,
                requested: false,
            })
            .collect();
        let remembered = Remembered::of(&mut memory);
        if !new.is_empty() {
            state.begin_runs(&new, &remembered)?;
        }
        worst = worst.max((decided, started.elapsed()));
        let running: Vec<JobId> = memory.running().map(|(job, _)| job.clone()).collect();
        for job in running {
            schedule.ended(&mut memory, &job, Ending::Good, clock.wall);
        }
    }
    told("tick, at worst", worst.0, Some(Duration::from_millis(50)));
    told("tick and writing it down, then", worst.1, None);
    timed("what the scheduler remembers is read", Some(second * 2), || {
        Ok(state.remembered()?)
    })?;
    let verified = timed("all evidence is verified", None, || {
        Ok(state.verify_evidence(Vec::new())?)
    })?;
    match verified.broken {
        None => println!("{} records are as they were written", verified.records),
        Some(broken) => return Err(format!("record {}: {}", broken.sequence, broken.why).into()),
    }
    Ok(())
}
