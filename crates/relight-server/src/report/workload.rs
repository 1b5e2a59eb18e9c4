//! What the evidence says of one workload.

use std::collections::VecDeque;

use jiff::Timestamp;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use relight_model::objective::forecast::Measurement;
use relight_model::objective::{Objective, ObjectiveKind, Verdict, judge_rto};
use relight_model::plan::{Plan, Policy, WorkloadEntry};
use relight_model::{ByteSize, Event, TimeSpan, Workload};
use serde::Serialize;

use super::Judged;
use super::cited::{Citation, Cited, shortened};
use super::exposure::{Exposed, Exposure, Gap, between};
use super::occasions::{Occasions, Tracker};
use crate::evidence::Body;
use crate::evidence::detail::{DrillDetail, Ended, LogDetail, RunDetail};

/// So many records of a kind are named for a workload.
pub(super) const MOST: usize = 5;
/// So many drills are kept, as the forecast needs them.
const DRILLS: usize = 20;

type Stops<'a> = &'a dyn Fn(Timestamp, Timestamp) -> Vec<Citation>;

/// How the runs of a kind ended.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RunCounts {
    /// Everything was done.
    pub good: u64,
    /// Not everything.
    pub incomplete: u64,
    /// They failed.
    pub failed: u64,
    /// Somebody cancelled them.
    pub cancelled: u64,
    /// The server stopped.
    pub interrupted: u64,
}

impl RunCounts {
    fn add(&mut self, ended: Ended) {
        *match ended {
            Ended::Good => &mut self.good,
            Ended::Incomplete => &mut self.incomplete,
            Ended::Failed => &mut self.failed,
            Ended::Cancelled => &mut self.cancelled,
            Ended::Interrupted => &mut self.interrupted,
        } += 1;
    }

    /// All of them.
    pub fn all(&self) -> u64 {
        self.good + self.incomplete + self.failed + self.cancelled + self.interrupted
    }
}

/// Something that the policy wants now and then: a verification, a drill, a copy.
#[derive(Debug, Clone, Serialize)]
pub struct Care {
    /// Whether the policy wants it.
    pub planned: bool,
    /// Of a copy: to which repository.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repository: Option<String>,
    /// When it was due, and whether it was done.
    pub occasions: Occasions,
    /// What ended well in the period.
    pub good: Cited,
    /// What did not.
    pub bad: Cited,
    /// The last that ended well, in the period or before it.
    pub last_good: Option<Citation>,
    /// How long before the end of the period that was.
    pub age: Option<TimeSpan>,
    /// Whether the last one of all ended badly.
    pub last_is_bad: bool,
}

#[derive(Debug, Clone)]
struct CareTally {
    repository: Option<String>,
    tracker: Option<Tracker>,
    good: Cited,
    bad: Cited,
    last_good: Option<Citation>,
    last_is_bad: bool,
}

impl CareTally {
    fn new(event: Option<&Event>, from: Timestamp, zone: &TimeZone) -> Self {
        Self {
            repository: None,
            tracker: event.map(|event| Tracker::new(event, from, zone)),
            good: Cited::default(),
            bad: Cited::default(),
            last_good: None,
            last_is_bad: false,
        }
    }

    fn add(&mut self, good: bool, citation: Citation, from: Timestamp) {
        let inside = citation.time >= from;
        self.last_is_bad = !good;
        match good {
            true => {
                if inside {
                    self.good.add(citation.clone(), MOST);
                    if let Some(tracker) = &mut self.tracker {
                        tracker.good(citation.time);
                    }
                }
                self.last_good = Some(citation);
            }
            false if inside => self.bad.add(citation, MOST),
            false => {}
        }
    }

    fn finish(self, to: Timestamp) -> Care {
        let age = self.last_good.as_ref().and_then(|last| between(last.time, to));
        Care {
            planned: self.tracker.is_some(),
            repository: self.repository,
            occasions: self.tracker.map(|tracker| tracker.finish(to)).unwrap_or_default(),
            good: self.good,
            bad: self.bad,
            last_good: self.last_good,
            age,
            last_is_bad: self.last_is_bad,
        }
    }
}

/// What drills have shown.
#[derive(Debug, Clone, Serialize)]
pub struct Drilled {
    /// Whether they were done.
    #[serde(flatten)]
    pub care: Care,
    /// Drills that had to fail and did.
    pub noticed: Cited,
    /// Drills that had to fail and did not: what they say proves nothing.
    pub unnoticed: Cited,
    /// Drills that left something behind.
    pub left_behind: Cited,
}

/// What was promised for a workload, and what the evidence says.
#[derive(Debug, Clone, Serialize)]
pub struct WorkloadReport {
    /// Which.
    pub workload: Workload,
    /// Its policy.
    pub policy: String,
    /// How its backups ended.
    pub runs: RunCounts,
    /// The good ones.
    pub good: Cited,
    /// The others.
    pub bad: Cited,
    /// The newest point that could be restored when the period ended.
    pub newest: Option<Timestamp>,
    /// Its size at the last backup.
    pub size: Option<ByteSize>,
    /// How much could have been lost, at worst in the period.
    pub rpo: Judged,
    /// When it was more than promised.
    pub gaps: Vec<Gap>,
    /// How many such times there were.
    pub gap_count: u64,
    /// How long it takes until it is back, by its drills.
    pub rto: Judged,
    /// Drills that were measured, on which that rests.
    pub measured: Cited,
    /// Whether its snapshots were read and compared.
    pub verification: Care,
    /// Places found damaged by verifications in the period.
    pub damaged: u64,
    /// Whether its recovery was tested.
    pub drills: Drilled,
    /// Its copies elsewhere.
    pub copies: Vec<Care>,
}

/// Something that the plan names and does not protect.
#[derive(Debug, Clone, Serialize)]
pub struct Excluded {
    /// Which.
    pub workload: Workload,
    /// Why. None: there is neither a policy nor a reason.
    pub reason: Option<String>,
    /// Until when that was decided.
    pub until: Option<Date>,
    /// Whether that time is over.
    pub expired: bool,
}

/// What is kept of one workload while records are read.
#[derive(Debug, Clone)]
pub(super) struct Tally<'p> {
    entry: &'p WorkloadEntry,
    name: &'p str,
    policy: &'p Policy,
    from: Timestamp,
    exposure: Exposure,
    runs: RunCounts,
    good: Cited,
    bad: Cited,
    size: Option<ByteSize>,
    longest: Option<TimeSpan>,
    verification: CareTally,
    damaged: u64,
    drills: CareTally,
    /// The run of the last drill that was counted: it may have two records.
    counted: Option<u64>,
    noticed: Cited,
    unnoticed: Cited,
    left_behind: Cited,
    measurements: VecDeque<Measurement>,
    measured: Cited,
    copies: Vec<CareTally>,
}

impl<'p> Tally<'p> {
    pub fn new(
        plan: &'p Plan,
        entry: &'p WorkloadEntry,
        (name, policy): (&'p str, &'p Policy),
        from: Timestamp,
        to: Timestamp,
    ) -> Self {
        let zone = &plan.time_zone;
        let copies = policy.copies.iter().map(|copy| CareTally {
            repository: Some(copy.repository.value.clone()),
            ..CareTally::new(Some(&copy.schedule.value), from, zone)
        });
        let drill = policy.drill.as_ref().map(|drill| &drill.schedule.value);
        Self {
            entry,
            name,
            policy,
            from,
            exposure: Exposure::new(from, to, policy.permitted_exposure()),
            runs: RunCounts::default(),
            good: Cited::default(),
            bad: Cited::default(),
            size: None,
            longest: None,
            verification: CareTally::new(policy.verify.as_ref().map(|at| &at.value), from, zone),
            damaged: 0,
            drills: CareTally::new(drill, from, zone),
            counted: None,
            noticed: Cited::default(),
            unnoticed: Cited::default(),
            left_behind: Cited::default(),
            measurements: VecDeque::new(),
            measured: Cited::default(),
            copies: copies.collect(),
        }
    }

    /// A backup of it ended.
    pub fn backup(&mut self, body: &Body, run: &RunDetail, citation: Citation, stops: Stops<'_>) {
        let inside = body.time >= self.from;
        if inside {
            self.runs.add(run.ended);
        }
        if run.ended != Ended::Good {
            if inside {
                self.bad.add(citation.clone(), MOST);
            }
            self.exposure.failed(citation);
            return;
        }
        self.size = run.figures.size.map(ByteSize).or(self.size);
        if inside {
            self.good.add(citation.clone(), MOST);
            self.longest = self.longest.max(between(run.started, body.time));
        }
        // The server cannot know when a client began to read; what it sent is dated by it.
        let point = if run.pushed { run.due } else { run.started };
        self.exposure.point(point, body.time, citation, stops);
    }

    /// How far its log reached.
    pub fn logged(&mut self, log: &LogDetail, citation: &Citation, stops: Stops<'_>) {
        // That of a copy says nothing of what is promised.
        if log.repository == self.policy.repository.value {
            self.exposure.log(log, citation, stops);
        }
    }

    /// Its snapshots were verified.
    pub fn verified(&mut self, run: &RunDetail, citation: Citation) {
        let damaged = run.figures.damaged.unwrap_or(0);
        if citation.time >= self.from {
            self.damaged += damaged;
        }
        self.verification
            .add(run.ended == Ended::Good && damaged == 0, citation, self.from);
    }

    /// Its snapshots were copied.
    pub fn copied(&mut self, run: &RunDetail, citation: Citation) {
        let to = run.job.repository();
        let copy = self
            .copies
            .iter_mut()
            .find(|copy| copy.repository.as_deref() == to);
        if let Some(copy) = copy {
            copy.add(run.ended == Ended::Good, citation, self.from);
        }
    }

    /// The run of a drill ended. What the drill has shown has a record of its own, but one that never began has none.
    pub fn drill_run(&mut self, run: &RunDetail, citation: Citation) {
        let cancelled = matches!(run.ended, Ended::Cancelled | Ended::Interrupted);
        if run.ended != Ended::Good && !cancelled && self.counted != Some(run.run) {
            self.counted = Some(run.run);
            self.drills.add(false, citation, self.from);
        }
    }

    /// A drill of it.
    pub fn drilled(&mut self, body: &Body, drill: &DrillDetail) {
        let good =
            drill.measured.is_some() && drill.code.is_none() && drill.probes.iter().all(|probe| probe.passed);
        let promised = self.policy.rto.as_ref().map(|rto| rto.value);
        let objective = Objective {
            kind: ObjectiveKind::Rto,
            promised,
            measured: drill.measured,
        };
        let words = match (&drill.message, drill.measured) {
            (_, Some(measured)) if good => format!(
                "drill of {}: back after {measured}, {}",
                drill.workload,
                objective.verdict()
            ),
            (Some(message), _) => format!("drill of {} failed: {message}", drill.workload),
            (None, _) => format!("drill of {} failed", drill.workload),
        };
        let citation = Citation::new(body, words);
        let inside = body.time >= self.from;
        if self.counted != Some(drill.run) || good {
            self.counted = Some(drill.run);
            self.drills.add(good, citation.clone(), self.from);
        }
        if let Some(control) = &drill.control
            && inside
        {
            let spoiled = shortened(&control.spoiled);
            let (cited, words) = match control.noticed {
                true => (&mut self.noticed, "was noticed"),
                false => (&mut self.unnoticed, "was NOT noticed"),
            };
            let words = format!("drill of {}, spoiled ({spoiled}): {words}", drill.workload);
            cited.add(Citation::new(body, words), MOST);
        }
        if !drill.torn_down && inside {
            self.left_behind.add(citation.clone(), MOST);
        }
        if let Some(measured) = drill.measured.filter(|_| good && inside) {
            let restore = drill.steps.iter().filter(|step| step.name == "restore");
            let restore = restore.fold(TimeSpan::default(), |sum, step| {
                TimeSpan(sum.0.saturating_add(step.took.0))
            });
            self.measurements.push_back(Measurement {
                at: drill.requested,
                size: ByteSize(drill.size),
                restore: restore.min(measured),
                rest: TimeSpan(measured.0.saturating_sub(restore.0)),
            });
            if self.measurements.len() > DRILLS {
                self.measurements.pop_front();
            }
            self.measured.add(citation, MOST);
        }
    }

    /// What was measured, for the plan's checker.
    pub fn facts(&self) -> relight_model::check::WorkloadFacts {
        relight_model::check::WorkloadFacts {
            size: self.size,
            backup_time: self.longest,
            log_lag: None,
            drills: self.measurements.iter().copied().collect(),
        }
    }

    /// The period is over.
    pub fn finish(mut self, plan: &Plan, to: Timestamp, stops: Stops<'_>) -> WorkloadReport {
        let thaw = plan
            .repositories
            .get(&self.policy.repository.value)
            .and_then(|repository| repository.thaw.as_ref())
            .map_or(TimeSpan::default(), |thaw| thaw.value);
        let exposed = self.exposure.finish(stops);
        let rpo = judge_exposure(self.policy, &exposed);
        let size = self.size.or_else(|| self.entry.size.map(|size| size.value));
        let drills = self.measurements.make_contiguous();
        let newest = drills.last().map(|drill| drill.size);
        let rto = judge_rto(self.policy, drills, size.or(newest).unwrap_or(ByteSize(0)), thaw);
        WorkloadReport {
            workload: self.entry.name.value.clone(),
            policy: self.name.to_owned(),
            runs: self.runs,
            good: self.good,
            bad: self.bad,
            newest: exposed.newest.as_ref().map(|(point, _)| *point),
            size,
            rpo,
            gaps: exposed.gaps,
            gap_count: exposed.gap_count,
            rto: Judged {
                objective: rto.objective,
                verdict: rto.verdict,
                reason: rto.reason,
            },
            measured: self.measured,
            verification: self.verification.finish(to),
            damaged: self.damaged,
            drills: Drilled {
                care: self.drills.finish(to),
                noticed: self.noticed,
                unnoticed: self.unnoticed,
                left_behind: self.left_behind,
            },
            copies: self.copies.into_iter().map(|copy| copy.finish(to)).collect(),
        }
    }
}

fn judge_exposure(policy: &Policy, exposed: &Exposed) -> Judged {
    let mut objective = Objective {
        kind: ObjectiveKind::Rpo,
        promised: policy.permitted_exposure(),
        measured: exposed.worst,
    };
    let mut reason = match (exposed.worst, &exposed.newest) {
        (Some(worst), Some(_)) => format!("at worst {worst} could have been lost"),
        _ => "there was no recovery point at all".to_owned(),
    };
    let missed = matches!(objective.verdict(), Verdict::Missed { .. });
    if missed && policy.log.is_some() && !exposed.log {
        // How far the log reached is written nowhere in the evidence, so that nothing is claimed either way.
        reason = format!("{reason} by the snapshots alone; how far the log reached is not in the evidence");
        objective.measured = None;
    }
    if exposed.gap_count > 0 && objective.measured.is_some() {
        let times = match exposed.gap_count {
            1 => "once".to_owned(),
            count => format!("{count} times"),
        };
        reason = format!("{reason}; {times} it was more than permitted");
    }
    Judged {
        verdict: objective.verdict(),
        objective,
        reason,
    }
}
