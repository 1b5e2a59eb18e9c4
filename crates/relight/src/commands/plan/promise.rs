//! What the plan promises for one workload.

use jiff::Timestamp;
use jiff::tz::TimeZone;
use relight_model::calendar::Event;
use relight_model::plan::{
    CopyRule, DrillRule, Exclusion, Method, PickRule, Plan, Policy, Stage, Window, WorkloadEntry,
};
use relight_model::retention;
use relight_model::{ByteSize, TimeSpan, Workload};
use serde::Serialize;

/// So many times of a schedule are shown.
const TIMES: usize = 3;

/// What is promised for a workload, and how it is to be kept.
#[derive(Serialize)]
pub struct Promise<'p> {
    pub workload: &'p Workload,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub size: Option<ByteSize>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<&'p str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub storage: Option<&'p str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub network: Option<&'p str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<Stage>,
    /// Why it is not protected, if that is meant so.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub excluded: Option<&'p Exclusion>,
    pub policy: Option<Promised<'p>>,
}

/// What its policy promises.
#[derive(Serialize)]
pub struct Promised<'p> {
    pub name: &'p str,
    pub backup: Care<'p>,
    pub pushed: bool,
    pub method: Option<Method>,
    pub window: Option<Open<'p>>,
    pub stagger: TimeSpan,
    pub jitter: TimeSpan,
    pub priority: u32,
    pub repository: &'p str,
    pub retention: &'p retention::Policy,
    pub log: Option<TimeSpan>,
    pub point_in_time: Option<TimeSpan>,
    pub rpo: Option<TimeSpan>,
    pub rpo_tolerance: TimeSpan,
    pub rto: Option<TimeSpan>,
    pub copies: Vec<Copied<'p>>,
    pub verify: Option<Care<'p>>,
    pub drill: Option<Drilled<'p>>,
}

/// A schedule and its next times by the calendar.
#[derive(Serialize)]
pub struct Care<'p> {
    pub schedule: &'p Event,
    pub next: Vec<Timestamp>,
}

/// A window.
#[derive(Serialize)]
pub struct Open<'p> {
    pub name: &'p str,
    pub opens: &'p Event,
    pub length: TimeSpan,
}

/// A copy.
#[derive(Serialize)]
pub struct Copied<'p> {
    pub repository: &'p str,
    #[serde(flatten)]
    pub care: Care<'p>,
    pub retention: &'p retention::Policy,
}

/// A drill.
#[derive(Serialize)]
pub struct Drilled<'p> {
    #[serde(flatten)]
    pub care: Care<'p>,
    pub pick: PickRule,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<&'p str>,
}

impl<'p> Care<'p> {
    fn of(schedule: &'p Event, now: Timestamp, zone: &TimeZone) -> Self {
        Self {
            schedule,
            next: schedule.iter_after(now, zone).take(TIMES).collect(),
        }
    }
}

impl<'p> Promise<'p> {
    /// Of a workload of the plan.
    pub fn of(plan: &'p Plan, entry: &'p WorkloadEntry, now: Timestamp) -> Self {
        Self {
            workload: &entry.name.value,
            size: entry.size.map(|size| size.value),
            host: entry.host.as_deref(),
            storage: entry.storage.as_deref(),
            network: entry.network.as_deref(),
            stage: entry.stage,
            excluded: entry.excluded.as_ref(),
            policy: plan
                .policy_of(entry)
                .map(|(name, policy)| Promised::of(plan, name, policy, entry, now)),
        }
    }
}

impl<'p> Promised<'p> {
    fn of(
        plan: &'p Plan,
        name: &'p str,
        policy: &'p Policy,
        entry: &'p WorkloadEntry,
        now: Timestamp,
    ) -> Self {
        let care = |schedule: &'p Event| Care::of(schedule, now, &plan.time_zone);
        let window = policy.window.as_ref().and_then(|at| {
            let (name, Window { opens, length, .. }) = plan.windows.get_key_value(&at.value)?;
            Some(Open {
                name,
                opens: &opens.value,
                length: length.value,
            })
        });
        let copied = |copy: &'p CopyRule| Copied {
            repository: &copy.repository.value,
            care: care(&copy.schedule.value),
            retention: &copy.retention.as_ref().unwrap_or(&policy.retention).value,
        };
        let drilled = |drill: &'p DrillRule| Drilled {
            care: care(&drill.schedule.value),
            pick: drill.pick,
            host: drill.host.as_deref(),
        };
        Self {
            name,
            backup: care(&policy.schedule.value),
            pushed: policy.pushed,
            method: entry.method.or(policy.method).map(|at| at.value),
            window,
            stagger: policy.stagger,
            jitter: policy.jitter,
            priority: entry.priority.unwrap_or(policy.priority),
            repository: &policy.repository.value,
            retention: &policy.retention.value,
            log: policy.log.map(|at| at.value),
            point_in_time: policy.point_in_time.map(|at| at.value),
            rpo: policy.rpo.map(|at| at.value),
            rpo_tolerance: policy.rpo_tolerance,
            rto: policy.rto.map(|at| at.value),
            copies: policy.copies.iter().map(copied).collect(),
            verify: policy.verify.as_ref().map(|at| care(&at.value)),
            drill: policy.drill.as_ref().map(drilled),
        }
    }
}
