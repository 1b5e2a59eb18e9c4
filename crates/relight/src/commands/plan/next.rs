//! `relight plan next`: which runs would be started, as far as that can be foreseen.

use clap::Args;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use relight_model::check::Facts;
use relight_model::plan::Plan;
use relight_model::schedule::{Fate, Foreseen, JobId, RunKind, Schedule, WaitReason};
use relight_model::{Rate, TimeSpan, Workload};
use serde::Serialize;

use super::check::facts;
use super::words::{Moment, shown, zone_name};
use super::{load, over_api};
use crate::api::ApiOptions;
use crate::context::Global;
use crate::exit::Exit;
use crate::failure::{Failure, Result};
use crate::output;
use crate::server_state::ConfigOptions;

/// Options of `plan next`.
#[derive(Debug, Args)]
pub struct Options {
    #[command(flatten)]
    config: ConfigOptions,
    #[command(flatten)]
    server: ApiOptions,
    /// From this day or time on [default: now]
    #[arg(long, value_name = "TIME")]
    from: Option<Moment>,
    /// Until this day or time [default: 24 hours later]
    #[arg(long, value_name = "TIME")]
    until: Option<Moment>,
    /// How fast runs are assumed to move data, all of a workload's size each time
    #[arg(long, value_name = "RATE", default_value = "100MiB/s")]
    rate: Rate,
    /// How long runs are assumed to take of which no size is known
    #[arg(long, value_name = "DURATION", default_value = "10m")]
    length: TimeSpan,
}

/// No table for people is longer.
const MOST: usize = 10_000;

const ASSUMED: [&str; 3] = [
    "a backup takes as long as the slowest of its last ten; where none was made yet, and for other runs, as long as all of \
     the workload's size at the assumed rate, or the assumed length where no size is known",
    "every run ends well, and at the beginning nothing runs and every workload has a snapshot",
    "what runs now, and what operators ask for, is not foreseen",
];

#[derive(Serialize)]
struct Shown<'p> {
    time_zone: &'p str,
    /// It is no more than that.
    forecast: bool,
    assumed: Assumed,
    from: Timestamp,
    until: Timestamp,
    cut: bool,
    runs: Vec<Foreseen>,
    /// Backups that clients are to send by themselves.
    expected: Vec<Expected<'p>>,
}

#[derive(Serialize)]
struct Assumed {
    rate: Rate,
    length: TimeSpan,
    remarks: [&'static str; 3],
}

#[derive(Serialize)]
struct Expected<'p> {
    workload: &'p Workload,
    due: Timestamp,
}

/// Foresees it.
pub fn run(global: &Global, options: &Options) -> Result<Exit> {
    let api = options.server.open()?;
    let plan = match &api {
        Some(api) => over_api::plan(api)?,
        None => load(&options.config)?,
    };
    let zone = &plan.time_zone;
    let at = |moment: Option<Moment>, or: Timestamp| {
        moment
            .map_or(Ok(or), |moment| moment.at(zone))
            .map_err(Failure::Usage)
    };
    let now = Timestamp::now();
    let now = Timestamp::from_second(now.as_second()).unwrap_or(now);
    let from = at(options.from, now)?;
    let day_later = from.checked_add(SignedDuration::from_hours(24)).unwrap_or(from);
    let until = at(options.until, day_later)?;
    if until < from {
        return Err(Failure::Usage("--until lies before --from".into()));
    }
    if options.rate.0 == 0 {
        return Err(Failure::Usage("with --rate 0 no run would ever end".into()));
    }
    let facts = match (&api, options.config.load()) {
        (Some(api), _) => over_api::facts(api, now)?,
        (None, Ok(config)) => facts(&config, &plan, now)?,
        // A plan without a server can be foreseen too.
        (None, Err(_)) => Facts::at(now),
    };
    let schedule = Schedule::new(&plan);
    let forecast = schedule.forecast(from, until, MOST, |job, now| {
        let limited = schedule.rate_for(job, now).unwrap_or(options.rate);
        length(&plan, &facts, job, options.rate.min(limited), options.length)
    });
    let shown = Shown {
        time_zone: zone_name(zone),
        forecast: true,
        assumed: Assumed {
            rate: options.rate,
            length: options.length,
            remarks: ASSUMED,
        },
        from,
        until: forecast.until,
        cut: forecast.cut,
        expected: expected(&plan, from, forecast.until),
        runs: forecast.runs,
    };
    output::result(global, &shown, |shown, out| words(shown, zone, out));
    Ok(Exit::Done)
}

/// How long a run is assumed to take.
fn length(plan: &Plan, facts: &Facts, job: &JobId, rate: Rate, otherwise: TimeSpan) -> TimeSpan {
    let known = job.workload().and_then(|name| facts.workloads.get(name));
    if let Some(time) = known
        .and_then(|known| known.backup_time)
        .filter(|_| job.kind() == RunKind::Backup)
    {
        return time;
    }
    let moves = !matches!(job.kind(), RunKind::Forget | RunKind::Collect | RunKind::Exercise);
    let entry = job
        .workload()
        .filter(|_| moves)
        .and_then(|name| plan.workload(name));
    let planned = entry.and_then(|entry| Some(entry.size?.value));
    let size = known.and_then(|known| known.size).filter(|_| moves).or(planned);
    size.map_or(otherwise, |size| {
        TimeSpan::from_secs(size.0.div_ceil(rate.0.max(1)))
    })
}

/// What clients are expected to send, by the calendar alone.
fn expected(plan: &Plan, from: Timestamp, until: Timestamp) -> Vec<Expected<'_>> {
    let before = from.checked_sub(SignedDuration::from_secs(1)).unwrap_or(from);
    let mut expected = Vec::new();
    for entry in &plan.workloads {
        let Some((_, policy)) = plan.policy_of(entry).filter(|(_, policy)| policy.pushed) else {
            continue;
        };
        let times = policy.schedule.iter_after(before, &plan.time_zone);
        let times = times.take_while(|due| *due <= until);
        expected.extend(
            times
                .take(MOST.saturating_sub(expected.len()))
                .map(|due| Expected {
                    workload: &entry.name.value,
                    due,
                }),
        );
    }
    expected.sort_by(|a, b| (a.due, a.workload).cmp(&(b.due, b.workload)));
    expected
}

fn words(shown: &Shown<'_>, zone: &TimeZone, out: &mut String) {
    let heading = ["STARTS", "RUN", "OF", "DUE", "TAKES", "WHY LATER"];
    let mut rows: Vec<(Timestamp, Vec<String>)> = shown.runs.iter().map(|run| row(run, zone)).collect();
    rows.extend(shown.expected.iter().map(|Expected { workload, due }| {
        let due_text = super::words::shown(*due, zone);
        let cells = [
            "-",
            "backup",
            workload.as_ref(),
            &due_text,
            "-",
            "sent by its client",
        ];
        (*due, cells.map(String::from).to_vec())
    }));
    rows.sort_by_key(|(at, _)| *at);
    if rows.is_empty() {
        out.push_str("Nothing is due.\n");
    } else {
        let rows: Vec<Vec<String>> = std::iter::once(heading.map(String::from).to_vec())
            .chain(rows.into_iter().map(|(_, row)| row))
            .collect();
        output::table(&rows, &[], out);
    }
    let (from, until) = (
        super::words::shown(shown.from, zone),
        super::words::shown(shown.until, zone),
    );
    out.push_str(&format!(
        "A forecast from {from} until {until}, in times of {}, at {} or {} a run.\n",
        shown.time_zone, shown.assumed.rate, shown.assumed.length
    ));
    if shown.cut {
        out.push_str(&format!(
            "It ends there because there are more than {MOST} runs.\n"
        ));
    }
    for remark in shown.assumed.remarks {
        out.push_str(&format!("({remark})\n"));
    }
}

fn row(run: &Foreseen, zone: &TimeZone) -> (Timestamp, Vec<String>) {
    let of = match (run.job.workload(), run.job.repository()) {
        (Some(workload), Some(repository)) => format!("{workload} to {repository}"),
        (Some(workload), None) => workload.to_string(),
        (None, Some(repository)) => format!("repository {repository}"),
        (None, None) => "everything".into(),
    };
    let mut why: Vec<String> = Vec::new();
    for waited in &run.waits {
        let reason = match &waited.reason {
            WaitReason::Staggered { .. } => "its place in the stagger".into(),
            WaitReason::Window { until: Some(until) } => format!("its window opens {}", shown(*until, zone)),
            other => other.to_string(),
        };
        if !why.contains(&reason) {
            why.push(reason);
        }
    }
    let (at, starts, takes) = match &run.fate {
        Fate::Runs { starts, ends } => {
            let takes = TimeSpan(ends.duration_since(*starts).unsigned_abs());
            (*starts, shown(*starts, zone), takes.to_string())
        }
        Fate::Waits => (run.due, "still waits".into(), "-".into()),
        Fate::Skipped { why: reason } => {
            why.push(match reason {
                relight_model::schedule::SkipReason::Superseded { by } => {
                    format!("due again {}", shown(*by, zone))
                }
                other => other.to_string(),
            });
            (run.due, "left out".into(), "-".into())
        }
    };
    let cells = vec![
        starts,
        run.job.kind().to_string(),
        of,
        shown(run.due, zone),
        takes,
        why.join("; "),
    ];
    (at, cells)
}
