//! How long the scheduler and the checker take for 1,000 workloads: `cargo run --release -p relight-model --example tick`.

use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use relight_model::check::{Facts, check};
use relight_model::plan::Plan;
use relight_model::schedule::{Clock, JobId, Outcome, Schedule, State};

const WORKLOADS: usize = 1_000;

fn main() {
    let mut text = include_str!("../../../dist/plan.toml").replace("[limit]\nruns = 8", "[limit]\nruns = 40");
    for n in 0..WORKLOADS {
        text += &format!(
            "[[workload]]\nname = \"vm/{}\"\npolicy = \"linux\"\nhost = \"h{}\"\nsize = \"5 GiB\"\nstage = \"application\"\n",
            10_000 + n,
            n % 100
        );
    }
    let began = Instant::now();
    let plan = match Plan::parse(&text) {
        Ok(plan) => plan,
        Err(errors) => {
            eprintln!("{errors}");
            std::process::exit(1);
        }
    };
    println!("read the plan      {:>10.3?}", began.elapsed());
    let from = Timestamp::UNIX_EPOCH + SignedDuration::from_hours(24 * 365 * 56);
    let began = Instant::now();
    let findings = check(&plan, &Facts::at(from)).len();
    println!(
        "check it           {:>10.3?} ({findings} findings)",
        began.elapsed()
    );
    let began = Instant::now();
    let schedule = Schedule::new(&plan);
    println!(
        "make the schedule  {:>10.3?} ({} jobs)",
        began.elapsed(),
        schedule.jobs().count()
    );

    // Three days, a tick each half minute; each run takes ten minutes.
    let clock = |n: u64| Clock {
        wall: from + SignedDuration::from_secs(n as i64 * 30),
        monotonic: Duration::from_secs(n * 30),
        boot: 1,
    };
    let mut state = State::new(clock(0));
    let mut ticks = Vec::new();
    let mut runs = 0;
    for n in 0..3 * 24 * 120 {
        let clock = clock(n);
        let over: Vec<JobId> = state
            .running()
            .filter(|(_, run)| clock.wall.duration_since(run.started) >= SignedDuration::from_mins(10))
            .map(|(job, _)| job.clone())
            .collect();
        for job in over {
            schedule.ended(&mut state, &job, Outcome::Good, clock.wall);
        }
        let began = Instant::now();
        let tick = schedule.tick(&mut state, clock);
        ticks.push(began.elapsed());
        runs += tick.started().count();
    }
    // After a week off, everything is due at once.
    let began = Instant::now();
    let late = schedule.tick(&mut state, clock(10 * 24 * 120));
    println!(
        "tick after a week  {:>10.3?} ({} decisions)",
        began.elapsed(),
        late.decisions.len()
    );
    ticks.sort_unstable();
    println!(
        "ticks of 3 days    {:>10.3?} in the middle, {:.3?} at worst ({} ticks, {runs} runs)",
        ticks[ticks.len() / 2],
        ticks[ticks.len() - 1],
        ticks.len()
    );
}
