//! Takes the evidence, record by record.

use std::collections::{HashMap, VecDeque};

use jiff::Timestamp;
use relight_model::Workload;
use relight_model::check::{Facts, check};
use relight_model::objective::exercise::judge_exercise;
use relight_model::plan::Plan;
use relight_model::schedule::RunKind;
use serde::Deserialize;
use serde::de::IntoDeserializer;

use super::activity::Activity;
use super::cited::{Citation, Cited};
use super::exposure::between;
use super::occasions::Tracker;
use super::standing::RepositoryStanding;
use super::workload::{Excluded, Tally};
use super::{
    Chain, Exercises, Judged, Period, PlanStanding, Report, Subject, VERSION, claims, controls, words,
};
use crate::evidence::detail::{DrillDetail, Ended, ExerciseDetail, LogDetail, RunDetail};
use crate::evidence::{Body, Kind, Verified};

/// So many starts and stops of the server are kept, to explain gaps with.
const STOPS: usize = 1000;
/// So many records are named that could not be read, and so many exercises.
const MOST: usize = 10;

/// Makes a report of records.
pub struct Collector<'p> {
    plan: &'p Plan,
    subject: Subject,
    /// Until when records count.
    until: Timestamp,
    first: Option<Timestamp>,
    in_period: u64,
    unreadable: Cited,
    tallies: Vec<Tally<'p>>,
    by_name: HashMap<&'p Workload, usize>,
    stops: VecDeque<Citation>,
    exercises: ExerciseTally,
    activity: Activity,
}

#[derive(Default)]
struct ExerciseTally {
    tracker: Option<Tracker>,
    good: Cited,
    bad: Cited,
    counted: Option<u64>,
    last: Option<Judged>,
}

impl<'p> Collector<'p> {
    /// For a plan and a period. Records of before the period are needed too: they say from which point it began.
    pub fn new(plan: &'p Plan, subject: Subject) -> Self {
        let until = subject.to.min(subject.now);
        let mut collector = Self {
            plan,
            until,
            first: None,
            in_period: 0,
            unreadable: Cited::default(),
            tallies: Vec::new(),
            by_name: HashMap::new(),
            stops: VecDeque::new(),
            exercises: ExerciseTally::default(),
            activity: Activity::default(),
            subject,
        };
        collector.begin(collector.subject.from);
        collector
    }

    /// Judges from this moment on.
    fn begin(&mut self, from: Timestamp) {
        let plan = self.plan;
        let tallies = plan.workloads.iter().filter_map(|entry| {
            let policy = plan.policy_of(entry)?;
            Some(Tally::new(plan, entry, policy, from, self.until))
        });
        self.tallies = tallies.collect();
        let with_policy = plan
            .workloads
            .iter()
            .filter(|entry| plan.policy_of(entry).is_some());
        self.by_name = with_policy
            .enumerate()
            .map(|(at, entry)| (&entry.name.value, at))
            .collect();
        self.exercises.tracker = plan
            .exercise
            .as_ref()
            .map(|exercise| Tracker::new(&exercise.schedule.value, from, &plan.time_zone));
    }

    /// The next record of the log, in its order, that was found to be as it was written.
    pub fn take(&mut self, body: &Body) {
        if self.first.is_none() {
            self.first = Some(body.time);
            // Nothing is known of the time before the log began.
            if body.time > self.subject.from {
                self.begin(body.time.min(self.until));
            }
        }
        if body.time >= self.until {
            return;
        }
        let inside = body.time >= self.subject.from;
        if inside {
            self.in_period += 1;
            self.activity.take(body);
        }
        match body.kind {
            Kind::Server => {
                self.stops.push_back(Citation::new(body, &body.what));
                if self.stops.len() > STOPS {
                    self.stops.pop_front();
                }
            }
            Kind::Run => match read::<RunDetail>(body) {
                Some(run) => self.run(body, &run),
                None => self.unreadable(body, inside),
            },
            // What a drill before the period has shown is of no use for it but for its date.
            Kind::Drill if body.detail.contains_key("recovered") => match read::<ExerciseDetail>(body) {
                Some(exercise) if inside => self.exercised(body, &exercise),
                Some(_) => {}
                None => self.unreadable(body, inside),
            },
            Kind::Drill => match read::<DrillDetail>(body) {
                Some(drill) => {
                    if let Some(tally) = tally(&self.by_name, &mut self.tallies, &drill.workload) {
                        tally.drilled(body, &drill);
                    }
                }
                None => self.unreadable(body, inside),
            },
            Kind::Log => match read::<LogDetail>(body) {
                Some(log) => {
                    let citation = Citation::new(body, &body.what);
                    if let Some(tally) = tally(&self.by_name, &mut self.tallies, &log.workload) {
                        tally.logged(&log, &citation, &stops(&self.stops));
                    }
                }
                None => self.unreadable(body, inside),
            },
            _ => {}
        }
    }

    fn unreadable(&mut self, body: &Body, inside: bool) {
        if inside {
            self.unreadable.add(Citation::new(body, &body.what), MOST);
        }
    }

    fn run(&mut self, body: &Body, run: &RunDetail) {
        let citation = Citation::new(body, words::run(run));
        if run.kind() == RunKind::Exercise {
            let failed = !matches!(run.ended, Ended::Good | Ended::Cancelled | Ended::Interrupted);
            if failed && self.exercises.counted != Some(run.run) && body.time >= self.subject.from {
                self.exercises.counted = Some(run.run);
                self.exercises.bad.add(citation, MOST);
            }
            return;
        }
        let Some(workload) = run.job.workload() else {
            return;
        };
        let Some(tally) = tally(&self.by_name, &mut self.tallies, workload) else {
            return;
        };
        match run.kind() {
            RunKind::Backup => tally.backup(body, run, citation, &stops(&self.stops)),
            RunKind::Verify => tally.verified(run, citation),
            RunKind::Copy => tally.copied(run, citation),
            RunKind::Drill => tally.drill_run(run, citation),
            RunKind::Forget | RunKind::Collect | RunKind::Exercise | RunKind::Restore => {}
        }
    }

    fn exercised(&mut self, body: &Body, detail: &ExerciseDetail) {
        let Some(exercise) = &self.plan.exercise else {
            return;
        };
        let result = judge_exercise(exercise, detail.requested, &detail.recovered);
        let good = result.is_good() && !detail.recovered.is_empty();
        let reason = words::exercise(&result, detail.recovered.len());
        let citation = Citation::new(body, format!("exercise: {reason}"));
        let repeated = self.exercises.counted.replace(detail.run) == Some(detail.run);
        match good {
            true => {
                if let Some(tracker) = &mut self.exercises.tracker {
                    tracker.good(body.time);
                }
                self.exercises.good.add(citation, MOST);
            }
            false if !repeated => self.exercises.bad.add(citation, MOST),
            false => {}
        }
        self.exercises.last = Some(Judged {
            objective: result.objective,
            verdict: result.verdict,
            reason,
        });
    }

    /// All records were taken: what follows from them.
    pub fn finish(self, verified: Verified, repositories: Vec<RepositoryStanding>) -> Report {
        let Self {
            plan, subject, until, ..
        } = self;
        let judged_from = self
            .first
            .map_or(until, |first| first.min(until))
            .max(subject.from);
        let mut facts = Facts::at(subject.now);
        let measured = self.by_name.iter().filter_map(|(name, at)| {
            let tally = self.tallies.get(*at)?;
            Some(((*name).clone(), tally.facts()))
        });
        facts.workloads = measured.collect();
        let stops = stops(&self.stops);
        let workloads: Vec<_> = self
            .tallies
            .into_iter()
            .map(|tally| tally.finish(plan, until, &stops))
            .collect();
        let period = Period {
            from: subject.from,
            to: subject.to,
            judged_from,
            judged_to: until,
            uncovered: between(subject.from, judged_from).filter(|span| !span.0.is_zero()),
            time_zone: plan.time_zone.iana_name().unwrap_or("UTC").to_owned(),
        };
        let exercises = self.exercises;
        let occasions = exercises.tracker.map(|tracker| tracker.finish(until));
        let mut report = Report {
            relight_report: VERSION,
            program: format!("relight {}", env!("CARGO_PKG_VERSION")),
            made: subject.now,
            server: subject.server,
            chain: Chain {
                key: subject.key,
                verified,
                in_period: self.in_period,
                unreadable: self.unreadable,
            },
            plan: PlanStanding {
                sha256: subject.plan_digest,
                workloads: plan.workloads.len(),
                policies: plan.policies.len(),
                findings: check(plan, &facts),
            },
            controls: Vec::new(),
            claims: Vec::new(),
            workloads,
            excluded: excluded(plan, until),
            exercises: Exercises {
                planned: plan.exercise.is_some(),
                occasions: occasions.unwrap_or_default(),
                good: exercises.good,
                bad: exercises.bad,
                last: exercises.last,
            },
            repositories,
            activity: self.activity,
            remarks: Vec::new(),
            period,
        };
        report.remarks = words::remarks(&report);
        report.claims = claims::all(plan, &report);
        report.controls = controls::all(&report);
        report
    }
}

fn read<'b, T: Deserialize<'b>>(body: &'b Body) -> Option<T> {
    let detail: serde::de::value::MapDeserializer<'_, _, serde_json::Error> =
        serde::de::value::MapDeserializer::new(
            body.detail
                .iter()
                .map(|(name, value)| (name.as_str(), value.into_deserializer())),
        );
    T::deserialize(detail).ok()
}

fn tally<'t, 'p>(
    by_name: &HashMap<&'p Workload, usize>,
    tallies: &'t mut [Tally<'p>],
    workload: &Workload,
) -> Option<&'t mut Tally<'p>> {
    tallies.get_mut(*by_name.get(workload)?)
}

/// When the server was stopped or started: one that was killed could not say that it stopped.
fn stops(stops: &VecDeque<Citation>) -> impl Fn(Timestamp, Timestamp) -> Vec<Citation> + '_ {
    move |begin, end| {
        let within = stops.iter().filter(|stop| stop.time > begin && stop.time < end);
        let within = within.filter(|stop| stop.what.contains("stopped") || stop.what.contains("started"));
        within.rev().take(2).cloned().collect()
    }
}

fn excluded(plan: &Plan, now: Timestamp) -> Vec<Excluded> {
    let today = now.to_zoned(plan.time_zone.clone()).date();
    let without = plan
        .workloads
        .iter()
        .filter(|entry| plan.policy_of(entry).is_none());
    without
        .map(|entry| {
            let until = entry.excluded.as_ref().and_then(|excluded| excluded.until);
            let until = until.map(|until| until.value);
            Excluded {
                workload: entry.name.value.clone(),
                reason: entry
                    .excluded
                    .as_ref()
                    .map(|excluded| excluded.reason.value.clone()),
                until,
                expired: until.is_some_and(|until| until < today),
            }
        })
        .collect()
}
