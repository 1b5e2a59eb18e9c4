//! From what has happened, the plan and the time to how a workload stands.

use jiff::Timestamp;
use relight_model::objective::{Recoverable, judge_rpo, judge_rto};
use relight_model::plan::{Plan, Policy, WorkloadEntry};
use relight_model::schedule::JobId;
use relight_model::{ByteSize, TimeSpan, Workload};

use super::change::changes;
use super::history::{Drills, History, Past};
use super::{Copied, Drilled, Excluded, Point, Standing, between};
use crate::evidence::detail::DrillDetail;
use crate::logs::LogStanding;
use crate::state::Run;

impl History {
    /// How every workload of a plan stands, in the order of the plan.
    pub fn standings(&self, plan: &Plan, now: Timestamp) -> Vec<Standing> {
        let all = plan.workloads.iter();
        all.map(|entry| self.standing(plan, entry, now)).collect()
    }

    /// How a workload stands.
    pub fn standing(&self, plan: &Plan, entry: &WorkloadEntry, now: Timestamp) -> Standing {
        let name = &entry.name.value;
        let Some((policy_name, policy)) = plan.policy_of(entry) else {
            return unprotected(plan, entry, now);
        };
        let backups = self.past(&JobId::backup(name));
        let verifications = self.past(&JobId::verify(name));
        let drills = self.drills(name);
        let newest = backups.and_then(|past| past.good.as_ref()).map(point);
        let promised = policy.log.as_ref().map(|log| log.value);
        let promised = promised.and_then(|log| jiff::SignedDuration::try_from(log.duration()).ok());
        let known = self.logs.get(name);
        let log = known.filter(|known| known.windows.is_some() || known.follower.is_some());
        let log = log.map(|known| LogStanding::of(known, promised, now));
        let recoverable = Recoverable {
            snapshot: newest.as_ref().map(|point| point.time),
            log: log.as_ref().and_then(|log| log.reaches),
        };
        let backup = JobId::backup(name);
        let running = self.running().iter().rev().find(|(_, job)| **job == backup);
        let last = |past: Option<&Past>| past.and_then(|past| past.last.clone());
        let samples: Vec<_> = backups.map_or_else(Vec::new, |past| past.samples.iter().copied().collect());
        Standing {
            workload: name.clone(),
            policy: Some(policy_name.to_owned()),
            excluded: None,
            rpo: Some(judge_rpo(policy, &recoverable, now)),
            rto: Some(rto(plan, entry, policy, drills, newest.as_ref())),
            newest,
            log,
            running: running.map(|(number, _)| *number),
            last_backup: last(backups),
            failures: backups.map_or(0, |past| past.failures),
            verified: verifications
                .and_then(|past| past.good.as_ref())
                .and_then(|run| run.ended),
            last_verification: last(verifications),
            last_drill_run: last(self.past(&JobId::drill(name))),
            last_drill: drills.and_then(|drills| drills.last.as_ref()).map(drilled),
            proven: drills.and_then(|drills| drills.good),
            copies: self.copies(name, policy),
            changes: changes(&samples),
            next: policy.schedule.value.next_after(now, &plan.time_zone),
        }
    }

    fn copies(&self, name: &Workload, policy: &Policy) -> Vec<Copied> {
        let copied = |repository: &String| {
            let past = self.past(&JobId::copy(name, repository));
            Copied {
                repository: repository.clone(),
                last: past.and_then(|past| past.last.clone()),
                good: past.and_then(|past| past.good.as_ref()).map(|run| run.started),
            }
        };
        let rules = policy.copies.iter();
        rules.map(|rule| copied(&rule.repository.value)).collect()
    }
}

fn rto(
    plan: &Plan,
    entry: &WorkloadEntry,
    policy: &Policy,
    drills: Option<&Drills>,
    newest: Option<&Point>,
) -> relight_model::objective::Judgement {
    let measured: Vec<_> = drills.map_or_else(Vec::new, |drills| drills.measured.iter().copied().collect());
    let thaw = plan
        .repositories
        .get(&policy.repository.value)
        .and_then(|repository| repository.thaw.as_ref());
    let thaw = thaw.map_or(TimeSpan::default(), |thaw| thaw.value);
    // What was measured is nearer to the truth than what the plan estimates; the last drill is better than nothing.
    let size = newest.and_then(|point| point.size).map(ByteSize);
    let size = size.or_else(|| entry.size.as_ref().map(|size| size.value));
    let size = size.or_else(|| measured.last().map(|drill| drill.size));
    judge_rto(policy, &measured, size.unwrap_or(ByteSize(0)), thaw)
}

fn unprotected(plan: &Plan, entry: &WorkloadEntry, now: Timestamp) -> Standing {
    let today = now.to_zoned(plan.time_zone.clone()).date();
    let excluded = entry.excluded.as_ref().map(|excluded| {
        let until = excluded.until.as_ref().map(|until| until.value);
        Excluded {
            reason: excluded.reason.value.clone(),
            until,
            expired: until.is_some_and(|until| until < today),
        }
    });
    Standing {
        workload: entry.name.value.clone(),
        policy: None,
        excluded,
        newest: None,
        log: None,
        rpo: None,
        rto: None,
        running: None,
        last_backup: None,
        failures: 0,
        last_verification: None,
        verified: None,
        last_drill_run: None,
        last_drill: None,
        proven: None,
        copies: Vec::new(),
        changes: Vec::new(),
        next: None,
    }
}

fn point(run: &Run) -> Point {
    Point {
        time: run.started,
        run: run.number,
        snapshot: run.snapshot.clone(),
        size: run.figures.size,
        added: run.figures.added,
        took: run
            .ended
            .map_or(TimeSpan::default(), |ended| between(run.started, ended)),
    }
}

fn drilled(detail: &DrillDetail) -> Drilled {
    Drilled {
        run: detail.run,
        requested: detail.requested,
        point: detail.point,
        good: detail.is_good(),
        measured: detail.measured,
        verdict: detail.verdict,
        control: detail.control.as_ref().map(|control| control.noticed),
        message: detail.message.clone(),
    }
}
