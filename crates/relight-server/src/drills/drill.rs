//! One drill of one workload.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use jiff::Timestamp;
use relight_model::TimeSpan;
use relight_model::objective::{Objective, ObjectiveKind, Verdict};
use relight_model::plan::{PickRule, Policy, Stage, WorkloadEntry};
use relight_repo::read::ChunkReader;
use relight_repo::snapshot::Snapshot;
use relight_repo::{Repository, SnapshotId};
use relight_workloads::kind::{Kind, Subject, Work};
use relight_workloads::rehearse::{Point, Probed, Rehearsal, Rehearse, Restored, pick};

use super::code::{Code, Failed};
use super::sandbox::Sandbox;
use crate::evidence::detail::{DrillDetail, NegativeControl, Step};

/// What a plan, or a person, says about the drill of a workload.
#[derive(Debug, Clone)]
pub struct Drilled {
    /// The workload, with the words of its `source` and `probe`.
    pub subject: Subject,
    /// Which recovery point.
    pub pick: PickRule,
    /// The RTO that was promised.
    pub rto: Option<TimeSpan>,
    /// The machine on which the plan wants it to be done.
    pub host: Option<String>,
    /// Its stage in the recovery of everything.
    pub stage: Option<Stage>,
}

impl Drilled {
    /// As a plan says it.
    pub fn of(entry: &WorkloadEntry, policy: &Policy) -> Self {
        let rule = policy.drill.as_ref();
        Self {
            subject: Subject::of(entry),
            pick: rule.map_or(PickRule::Latest, |rule| rule.pick),
            rto: policy.rto.map(|rto| rto.value),
            host: rule.and_then(|rule| rule.host.clone()),
            stage: entry.stage,
        }
    }
}

/// A drill that is asked for.
#[derive(Clone)]
pub struct DrillRequest<'a> {
    /// Number of its run; 0 for one that a person does beside the plan.
    pub run: u64,
    /// What is drilled.
    pub drilled: Drilled,
    /// The repository it is restored from.
    pub repository: &'a Arc<Repository>,
    /// Its name.
    pub repository_name: String,
    /// The kind of workload.
    pub kind: &'a dyn Kind,
    /// Folder for sandboxes.
    pub sandboxes: &'a Path,
    /// When it was asked for.
    pub now: Timestamp,
    /// Decides where chance does: the same number picks the same point.
    pub lot: u64,
    /// Whether what was restored is then made wrong, to see that the probes notice.
    pub control: bool,
    /// A snapshot that somebody named; nothing is picked then.
    pub at: Option<SnapshotId>,
    /// Whether snapshots in which something is missing may be picked.
    pub incomplete: bool,
    /// Whether what was restored is left there to be looked at.
    pub keep: bool,
    /// Whether it is part of the exercise of everything.
    pub exercise: bool,
}

impl<'a> DrillRequest<'a> {
    /// A drill of its own of the newest, oldest or any complete snapshot, without negative control.
    pub fn new(
        run: u64,
        drilled: Drilled,
        repository: (&str, &'a Arc<Repository>),
        kind: &'a dyn Kind,
        sandboxes: &'a Path,
        now: Timestamp,
    ) -> Self {
        Self {
            run,
            drilled,
            repository: repository.1,
            repository_name: repository.0.to_owned(),
            kind,
            sandboxes,
            now,
            // Good enough to pick a snapshot by, and told again by the time in the evidence.
            lot: now.as_nanosecond().unsigned_abs() as u64,
            control: false,
            at: None,
            incomplete: false,
            keep: false,
            exercise: false,
        }
    }
}

/// Does a drill. It never fails itself: what went wrong is in what it gives, and everything that was made for it is gone then
/// (or `torn_down` says that it is not).
pub fn drill(request: &DrillRequest<'_>, work: &Work) -> DrillDetail {
    let name = match request.run {
        // Several people may.
        0 => format!("by-hand-{}", std::process::id()),
        run => run.to_string(),
    };
    numbered(request, work, &name).0
}

/// As [`drill`], in a sandbox of this name; and after how long it was seen to work, or given up.
pub(super) fn numbered(request: &DrillRequest<'_>, work: &Work, sandbox: &str) -> (DrillDetail, Duration) {
    let mut drilling = Drilling::new(request);
    if let Err(failed) = drilling.whole(request, work, sandbox) {
        drilling.failed(failed);
    }
    let decided = drilling.decided.unwrap_or_else(|| drilling.began.elapsed());
    let detail = &mut drilling.detail;
    let objective = Objective {
        kind: ObjectiveKind::Rto,
        promised: detail.promised,
        measured: detail.measured,
    };
    detail.verdict = objective.verdict();
    (drilling.detail, decided)
}

struct Drilling {
    began: Instant,
    /// When it was known whether it works.
    decided: Option<Duration>,
    detail: DrillDetail,
}

/// What is to be restored.
struct Picked {
    snapshots: Vec<Snapshot>,
    at: usize,
    point: Point,
}

impl Drilling {
    fn new(request: &DrillRequest<'_>) -> Self {
        let drilled = &request.drilled;
        let host = request.repository.options().host.clone();
        let mut remarks = Vec::new();
        if let Some(wanted) = &drilled.host
            && !is_this(&host, wanted)
        {
            remarks.push(format!(
                "the plan wants it on {wanted}, but it was done on {host}"
            ));
        }
        if let Some(at) = request.at {
            remarks.push(format!("snapshot {} was named, not picked", at.short()));
        }
        Self {
            began: Instant::now(),
            decided: None,
            detail: DrillDetail {
                run: request.run,
                workload: drilled.subject.workload.clone(),
                exercise: request.exercise,
                snapshot: None,
                point: None,
                pick: drilled.pick,
                repository: request.repository_name.clone(),
                host,
                requested: request.now,
                size: 0,
                steps: Vec::new(),
                probes: Vec::new(),
                control: None,
                measured: None,
                promised: drilled.rto,
                verdict: Verdict::NotMeasured,
                // Nothing has been made yet.
                torn_down: true,
                remarks,
                code: None,
                message: None,
            },
        }
    }

    /// The first failure is the reason, what follows from it are remarks.
    fn failed(&mut self, failed: Failed) {
        self.decided.get_or_insert(self.began.elapsed());
        if self.detail.code.is_none() {
            self.detail.code = Some(failed.code.name().to_owned());
            self.detail.message = Some(failed.message);
        } else {
            self.detail
                .remarks
                .push(format!("{}: {}", failed.code, failed.message));
        }
    }

    /// Does a step and takes its time, also if it panics.
    fn step<T>(&mut self, name: &str, work: impl FnOnce() -> Result<T, Failed>) -> Result<T, Failed> {
        let began = Instant::now();
        let done = guarded(work);
        self.detail.steps.push(Step {
            name: name.to_owned(),
            took: TimeSpan(began.elapsed()),
        });
        done
    }

    fn whole(&mut self, request: &DrillRequest<'_>, work: &Work, name: &str) -> Result<(), Failed> {
        for remark in &self.detail.remarks {
            work.note(remark);
        }
        let subject = &request.drilled.subject;
        let rehearse = request.kind.rehearse().ok_or_else(|| {
            let method = request.kind.method();
            Failed::new(
                Code::NotPossible,
                format!("workloads of the kind {method} cannot be drilled yet"),
            )
        })?;
        rehearse
            .check_probe(subject)
            .map_err(|error| Failed::of(&error, Code::NotPossible))?;
        let picked = self.step("pick", || picked(request, rehearse))?;
        let snapshot = picked.snapshots.get(picked.at).ok_or_else(no_point)?;
        self.detail.snapshot = Some(snapshot.id.to_string());
        self.detail.point = Some(picked.point.time);
        work.note(&format!(
            "snapshot {} of {}",
            snapshot.id.short(),
            picked.point.time
        ));
        if work.is_cancelled() {
            return Err(cancelled());
        }
        let reader = ChunkReader::new(request.repository.clone())
            .map_err(|error| Failed::of(&error.into(), Code::Repository))?;
        let sandbox = Sandbox::make(request.sandboxes, name)?;
        self.detail.torn_down = false;
        let rehearsal = Rehearsal {
            subject,
            reader: &Arc::new(reader),
            snapshots: &picked.snapshots,
            snapshot,
            point: picked.point,
            sandbox: sandbox.path(),
        };
        if let Err(failed) = self.in_sandbox(request, rehearse, &rehearsal, &sandbox, work) {
            self.failed(failed);
        }
        work.note("tearing down");
        let kept = self.step("tear-down", || match request.keep {
            true => sandbox.keep().map(Some),
            false => sandbox.remove().map(|()| None),
        })?;
        match kept {
            Some(kept) => self.detail.remarks.push(format!("kept in {}", kept.display())),
            None => self.detail.torn_down = true,
        }
        Ok(())
    }

    /// Everything that happens while the sandbox is there.
    fn in_sandbox(
        &mut self,
        request: &DrillRequest<'_>,
        rehearse: &dyn Rehearse,
        rehearsal: &Rehearsal<'_>,
        sandbox: &Sandbox,
        work: &Work,
    ) -> Result<(), Failed> {
        let mut restored = self.step("restore", || {
            let failed = |error| Failed::of(&error, Code::Restore);
            let room = rehearse.room(rehearsal).map_err(failed)?;
            sandbox.reserve(room)?;
            work.total.store(room, Ordering::Relaxed);
            let restored = rehearse.restore(rehearsal, work).map_err(failed)?;
            sandbox.filled()?;
            Ok(restored)
        })?;
        self.detail.size = restored.size();
        let outcome = self.prove(request, &mut *restored, work);
        let stopped = guarded(|| {
            let stopped = restored
                .stop()
                .map_err(|error| Failed::of(&error, Code::TearDown));
            drop(restored);
            stopped
        });
        match (outcome, stopped) {
            (Err(failed), Err(left)) => {
                self.failed(failed);
                Err(left)
            }
            (outcome, stopped) => outcome.and(stopped),
        }
    }

    /// Starts and probes what was restored.
    fn prove(
        &mut self,
        request: &DrillRequest<'_>,
        restored: &mut dyn Restored,
        work: &Work,
    ) -> Result<(), Failed> {
        if work.is_cancelled() {
            return Err(cancelled());
        }
        work.note("starting");
        self.step("start", || {
            restored
                .start(work)
                .map_err(|error| Failed::of(&error, Code::Start))
        })?;
        work.note("probing");
        let probes = self.step("probe", || probed(restored, work))?;
        let took = self.began.elapsed();
        self.detail.probes = probes;
        refuse_failed(&self.detail.probes)?;
        self.decided = Some(took);
        self.detail.measured = Some(TimeSpan(took));
        if request.control {
            work.note("negative control: what was restored is made wrong");
            let control = self.step("control", || control(restored, work))?;
            let noticed = control.noticed;
            let spoiled = control.spoiled.clone();
            self.detail.control = Some(control);
            if !noticed {
                let message = format!("{spoiled}, and no probe noticed: they prove nothing");
                return Err(Failed::new(Code::Control, message));
            }
        }
        Ok(())
    }
}

fn no_point() -> Failed {
    Failed::new(Code::NoPoint, "there is no recovery point to be drilled")
}

fn cancelled() -> Failed {
    Failed::new(Code::Cancelled, "the drill was cancelled")
}

/// Turns a panic into a failure, so that what follows is still done.
fn guarded<T>(work: impl FnOnce() -> Result<T, Failed>) -> Result<T, Failed> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let message = format!("a defect of this program: {}", words(&*panic));
        Err(Failed::new(Code::Unexpected, message))
    })
}

fn words(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    let text = text.or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("it panicked")
}

/// Whether both names are those of one machine; domains may be missing.
fn is_this(host: &str, wanted: &str) -> bool {
    let short = |name: &str| name.split('.').next().unwrap_or_default().to_ascii_lowercase();
    if host.contains('.') && wanted.contains('.') {
        host.eq_ignore_ascii_case(wanted)
    } else {
        short(host) == short(wanted)
    }
}

/// The recovery point, by rule or by name.
fn picked(request: &DrillRequest<'_>, rehearse: &dyn Rehearse) -> Result<Picked, Failed> {
    let repository = request.repository;
    let unreadable = |error: relight_repo::RepoError| Failed::of(&error.into(), Code::Repository);
    // Another process may have added to it.
    repository.refresh().map_err(unreadable)?;
    let (snapshots, _) = repository.snapshots().map_err(unreadable)?;
    let workload = &request.drilled.subject.workload;
    let mut snapshots: Vec<Snapshot> = snapshots
        .into_iter()
        .filter(|snapshot| snapshot.workload == workload.as_str())
        .collect();
    snapshots.sort_by_key(|snapshot| (snapshot.time, snapshot.id));
    let before = snapshots.len();
    if request.at.is_none() && !request.incomplete {
        snapshots.retain(|snapshot| snapshot.incomplete.is_empty());
    }
    let mut reach = rehearse.reach(&request.drilled.subject, repository, &snapshots);
    if let Some(at) = request.at {
        reach.retain(|one| one.snapshot == at);
    }
    let point = pick(request.drilled.pick, &reach, request.lot);
    let at = point.and_then(|point| {
        snapshots
            .iter()
            .position(|snapshot| snapshot.id == point.snapshot)
    });
    match (point, at) {
        (Some(point), Some(at)) => Ok(Picked { snapshots, at, point }),
        _ => {
            let name = &request.repository_name;
            let why = match (request.at, before) {
                (Some(at), _) => format!("snapshot {} is none of {workload} in {name}", at.short()),
                (None, 0) => format!("{name} has no snapshot of {workload}"),
                (None, _) => {
                    format!("{name} has no complete snapshot of {workload}: something is missing in each")
                }
            };
            Err(Failed::new(Code::NoPoint, why))
        }
    }
}

/// Asks the probes. None at all prove nothing.
fn probed(restored: &mut dyn Restored, work: &Work) -> Result<Vec<Probed>, Failed> {
    let probes = restored
        .probe(work)
        .map_err(|error| Failed::of(&error, Code::NotProbed))?;
    if probes.is_empty() {
        return Err(Failed::new(Code::NotProbed, "nothing was looked at"));
    }
    Ok(probes)
}

fn refuse_failed(probes: &[Probed]) -> Result<(), Failed> {
    let failed: Vec<String> = probes
        .iter()
        .filter(|probe| !probe.passed)
        .map(|probe| format!("{}: {}", probe.name, probe.seen))
        .collect();
    if failed.is_empty() {
        Ok(())
    } else {
        Err(Failed::new(Code::Probe, failed.join("; ")))
    }
}

/// Makes wrong what was restored, and asks the same probes. That they cannot be asked any more counts as noticed only if it is
/// said why it failed to start or to be read; not if the drill was cancelled or lacks something.
fn control(restored: &mut dyn Restored, work: &Work) -> Result<NegativeControl, Failed> {
    let spoiled = restored
        .spoil(work)
        .map_err(|error| Failed::of(&error, Code::Control))?;
    let noticed_by: Vec<String> = match probed(restored, work) {
        Ok(probes) => probes
            .into_iter()
            .filter(|probe| !probe.passed)
            .map(|probe| probe.name)
            .collect(),
        Err(failed) if matches!(failed.code, Code::NotProbed | Code::Start) => vec![failed.message],
        Err(failed) => return Err(failed),
    };
    let noticed = !noticed_by.is_empty();
    let spoiled = match noticed {
        true => format!("{spoiled} (noticed by {})", noticed_by.join(", ")),
        false => spoiled,
    };
    Ok(NegativeControl { spoiled, noticed })
}
