//! The scheduler: from the plan, what has happened and the present time to what is to be done now.
//!
//! [`Schedule`] is the plan in the form of jobs. [`State`] is all that the scheduler remembers; the caller keeps it.
//! [`Schedule::tick`] decides, and moves the state on: what it starts is running from then on, what it skips is settled.
//! A caller that stores what has changed of the state, and the runs that were started, in one transaction, and starts them
//! after that, has no run lost or doubled, whenever it is killed; after a restart it reports what was running as [`Outcome::Interrupted`].
//!
//! # Rules
//!
//! - A job is due at the times of its schedule. It may start from then on plus its place in the stagger plus its jitter,
//!   while its window is open.
//! - Of several times that were missed (the server was down, the run before took too long) only the last is made up for;
//!   the others are skipped. A job never runs twice at once.
//! - No resource is used by more runs than its limit. What must wait gains [`PRIORITY_AN_HOUR`] an hour, and after
//!   [`RESERVE_AFTER`] its resources are held free for it, so that a run that needs much is not overtaken for ever.
//! - A failed run is tried again, after twice the time each time, until its retries are used up or its next time is due.
//! - What works on snapshots (copy, verify, drill) waits until there is one.
//! - Workloads whose clients push their backups have no job for it. The caller reports each that has arrived with
//!   [`Schedule::ended`].
//! - While the clock cannot be trusted, backups and copies go on and everything else waits; see [`ClockAlarm`].

mod bandwidth;
mod clock;
mod decision;
mod forecast;
mod job;
mod state;
mod tick;

pub use clock::{Clock, ClockAlarm, PERMITTED_ADVANCE, PERMITTED_DEVIATION};
pub use decision::{Decision, SkipReason, Tick, WaitReason};
pub use forecast::{Fate, Forecast, Foreseen, Waited};
pub use job::{BadJobId, JobId, RunKind};
pub use state::{Head, Next, Outcome, Past, Retry, Row, Running, State};
pub use tick::{PRIORITY_AN_HOUR, RESERVE_AFTER};

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};

use crate::calendar::Event;
use crate::plan::{Plan, Policy, Resource, Window, WorkloadEntry};

/// One thing that is done again and again.
#[derive(Clone, Debug)]
struct Job {
    id: JobId,
    schedule: Event,
    /// The schedule in its normal form.
    text: String,
    /// Its place in the stagger.
    offset: SignedDuration,
    jitter: SignedDuration,
    window: Option<usize>,
    priority: u32,
    /// Positions in [`Schedule::limits`].
    resources: Vec<usize>,
    retries: u32,
    retry_after: SignedDuration,
    catch_up: bool,
    /// The backup that must have ended well once.
    needs: Option<JobId>,
}

/// A plan in the form of jobs. It is made anew when the plan changes; the [`State`] stays.
#[derive(Clone, Debug)]
pub struct Schedule {
    zone: TimeZone,
    runs: u32,
    limits: Vec<(Resource, u32)>,
    windows: Vec<Window>,
    jobs: Vec<Job>,
    by_id: BTreeMap<JobId, usize>,
    bandwidth: Vec<bandwidth::Rule>,
}

/// Of everything that is not a workload's backup.
const PRIORITY_CARE: u32 = 30;
const PRIORITY_EXERCISE: u32 = 100;

fn signed(span: crate::TimeSpan) -> SignedDuration {
    SignedDuration::try_from(span.0).unwrap_or(SignedDuration::MAX)
}

impl Schedule {
    /// The jobs that follow from a plan.
    pub fn new(plan: &Plan) -> Self {
        let mut maker = Maker {
            plan,
            limits: Vec::new(),
            known: BTreeMap::new(),
            jobs: Vec::new(),
        };
        let names: Vec<&String> = plan.windows.keys().collect();
        for (name, policy) in &plan.policies {
            let of_policy =
                |entry: &&WorkloadEntry| entry.policy.as_ref().is_some_and(|at| at.value == *name);
            let entries: Vec<&WorkloadEntry> = plan.workloads.iter().filter(of_policy).collect();
            let window = policy.window.as_ref();
            let window = window.and_then(|window| names.iter().position(|name| **name == window.value));
            for (place, entry) in entries.iter().enumerate() {
                maker.policy_jobs(policy, entry, window, place, entries.len());
            }
        }
        maker.care_jobs();
        let by_id = maker
            .jobs
            .iter()
            .enumerate()
            .map(|(at, job)| (job.id.clone(), at))
            .collect();
        Self {
            zone: plan.time_zone.clone(),
            runs: plan.limits.runs,
            windows: plan.windows.values().cloned().collect(),
            bandwidth: bandwidth::rules(plan),
            limits: maker.limits,
            jobs: maker.jobs,
            by_id,
        }
    }

    /// The jobs.
    pub fn jobs(&self) -> impl Iterator<Item = &JobId> {
        self.jobs.iter().map(|job| &job.id)
    }

    /// When a job is due next after `after`, by its schedule alone.
    pub fn next_due(&self, id: &JobId, after: Timestamp) -> Option<Timestamp> {
        self.job(id)?.schedule.next_after(after, &self.zone)
    }

    /// What a job shares with others, and how many runs may use each.
    pub fn resources_of(&self, id: &JobId) -> Vec<(&Resource, u32)> {
        let resources = self.job(id).map_or(&[][..], |job| &job.resources);
        let limits = resources.iter().filter_map(|&at| self.limits.get(at));
        limits.map(|(resource, limit)| (resource, *limit)).collect()
    }

    fn job(&self, id: &JobId) -> Option<&Job> {
        self.jobs.get(*self.by_id.get(id)?)
    }
}

/// Makes jobs.
struct Maker<'p> {
    plan: &'p Plan,
    limits: Vec<(Resource, u32)>,
    known: BTreeMap<Resource, usize>,
    jobs: Vec<Job>,
}

impl Maker<'_> {
    fn intern(&mut self, resources: Vec<Resource>) -> Vec<usize> {
        let mut found: Vec<usize> = Vec::with_capacity(resources.len());
        for resource in resources {
            let next = self.limits.len();
            let at = *self.known.entry(resource.clone()).or_insert(next);
            if at == next {
                let limit = self.plan.limit_of(&resource);
                self.limits.push((resource, limit));
            }
            if !found.contains(&at) {
                found.push(at);
            }
        }
        found
    }

    /// A job of care, which the others of its kind resemble.
    fn care(&mut self, id: JobId, schedule: &Event, resources: Vec<Resource>) -> Job {
        Job {
            id,
            text: schedule.to_string(),
            schedule: schedule.clone(),
            offset: SignedDuration::ZERO,
            jitter: SignedDuration::ZERO,
            window: None,
            priority: PRIORITY_CARE,
            resources: self.intern(resources),
            retries: 2,
            retry_after: SignedDuration::from_mins(10),
            catch_up: true,
            needs: None,
        }
    }

    fn policy_jobs(
        &mut self,
        policy: &Policy,
        entry: &WorkloadEntry,
        window: Option<usize>,
        place: usize,
        places: usize,
    ) {
        let plan = self.plan;
        let workload = &entry.name.value;
        let repository = policy.repository.value.as_str();
        let share = |span: SignedDuration| {
            let place = i32::try_from(place).unwrap_or(i32::MAX);
            let places = i32::try_from(places.max(1)).unwrap_or(i32::MAX);
            span.checked_mul(place)
                .map_or(SignedDuration::ZERO, |span| span / places)
        };
        let backup = JobId::backup(workload);
        if !policy.pushed {
            let resources = plan.resources(Some(entry), Some(repository));
            let job = self.care(backup.clone(), &policy.schedule, resources);
            self.jobs.push(Job {
                offset: share(signed(policy.stagger)),
                jitter: signed(policy.jitter),
                window,
                priority: entry.priority.unwrap_or(policy.priority),
                retries: policy.retries,
                retry_after: signed(policy.retry_after),
                catch_up: policy.catch_up,
                ..job
            });
        }
        let needs = Some(backup);
        for copy in &policy.copies {
            let mut resources = plan.resources(None, Some(repository));
            resources.extend(plan.resources(None, Some(&copy.repository.value)));
            let id = JobId::copy(workload, &copy.repository.value);
            let job = self.care(id, &copy.schedule, resources);
            self.jobs.push(Job {
                needs: needs.clone(),
                offset: share(signed(policy.stagger)),
                ..job
            });
        }
        if let Some(verify) = &policy.verify {
            let resources = plan.resources(None, Some(repository));
            let job = self.care(JobId::verify(workload), verify, resources);
            self.jobs.push(Job {
                needs: needs.clone(),
                ..job
            });
        }
        if let Some(drill) = &policy.drill {
            let mut resources = plan.resources(None, Some(repository));
            let host = drill
                .host
                .iter()
                .map(|host| (crate::plan::ResourceKind::Host, host.clone()));
            resources.extend(host);
            let job = self.care(JobId::drill(workload), &drill.schedule, resources);
            self.jobs.push(Job { needs, ..job });
        }
    }

    fn care_jobs(&mut self) {
        let plan = self.plan;
        for (name, repository) in &plan.repositories {
            let kinds = [
                (JobId::forget(name), &repository.forget),
                (JobId::collect(name), &repository.collect),
            ];
            for (id, schedule) in kinds {
                if let Some(schedule) = schedule {
                    let job = self.care(id, schedule, plan.resources(None, Some(name)));
                    self.jobs.push(job);
                }
            }
        }
        if let Some(exercise) = &plan.exercise {
            let job = self.care(JobId::exercise(), &exercise.schedule, Vec::new());
            self.jobs.push(Job {
                priority: PRIORITY_EXERCISE,
                ..job
            });
        }
    }
}
