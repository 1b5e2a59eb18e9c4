//! What has become of every job so far, in memory: read once, then followed as runs end.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use relight_model::Workload;
use relight_model::objective::forecast::Measurement;
use relight_model::plan::Plan;
use relight_model::schedule::{JobId, RunKind};

use super::change::Sample;
use crate::error::Result;
use crate::evidence::Kind;
use crate::evidence::detail::{DrillDetail, Ended};
use crate::logs;
use crate::state::{Run, RunFilter, State};

/// So many of the newest good runs of a job are compared with.
const SAMPLES: usize = 60;
/// Older ones say nothing about what is usual.
const SAMPLES_WITHIN: SignedDuration = SignedDuration::from_hours(8 * 7 * 24);
/// So many of the newest drills of a workload count; the model takes no more either.
const DRILLS: usize = 20;

/// What has become of a job so far.
#[derive(Debug, Default)]
pub struct Past {
    /// The last run that has ended.
    pub last: Option<Run>,
    /// The good one that began last.
    pub good: Option<Run>,
    /// How many after the good one ended otherwise. Those that were cancelled or interrupted do not count.
    pub failures: u32,
    /// The newest good ones, oldest first.
    pub samples: VecDeque<Sample>,
}

impl Past {
    /// A run has ended. Gives whether that is news.
    fn take(&mut self, run: Run) -> bool {
        if self.last.as_ref().is_some_and(|last| last.number >= run.number) {
            return false;
        }
        match run.outcome {
            Some(Ended::Good) => {
                self.failures = 0;
                if let Some(sample) = Sample::of(&run) {
                    self.samples.push_back(sample);
                }
                let eldest = run.started.checked_sub(SAMPLES_WITHIN).ok();
                while self.samples.len() > SAMPLES
                    || self
                        .samples
                        .front()
                        .is_some_and(|first| Some(first.started) < eldest)
                {
                    self.samples.pop_front();
                }
                // Backups that clients push may arrive in another order than that in which they were begun.
                if self.good.as_ref().is_none_or(|good| good.started <= run.started) {
                    self.good = Some(run.clone());
                }
            }
            Some(Ended::Failed | Ended::Incomplete) => self.failures = self.failures.saturating_add(1),
            Some(Ended::Cancelled | Ended::Interrupted) | None => {}
        }
        self.last = Some(run);
        true
    }
}

/// What drills have shown of a workload.
#[derive(Debug, Default)]
pub(super) struct Drills {
    pub last: Option<DrillDetail>,
    /// When one last showed that it comes back.
    pub good: Option<Timestamp>,
    /// Newest last.
    pub measured: VecDeque<Measurement>,
}

/// What happened since it was last asked.
#[derive(Debug, Default)]
pub struct News {
    /// Runs that have ended, in the order of their numbers.
    pub runs: Vec<Run>,
    /// What drills have shown.
    pub drills: Vec<DrillDetail>,
}

/// What has become of every job of a plan so far.
#[derive(Default)]
pub struct History {
    jobs: HashMap<JobId, Past>,
    drills: HashMap<Workload, Drills>,
    /// Runs up to this one were looked at, but for those that run.
    seen: u64,
    running: BTreeMap<u64, JobId>,
    /// Evidence up to this record was looked at.
    read: u64,
    /// Whether anything was read yet: what is read first is no news.
    begun: bool,
    /// How many runs of which kind ended how since it was made.
    ended: BTreeMap<(RunKind, Ended), u64>,
    /// What is known of logs.
    pub(super) logs: Arc<logs::All>,
    /// When a key of a repository was last tested, by its name.
    keys: BTreeMap<String, Timestamp>,
    /// Snapshots that are gone though they were the newest, each with its workload.
    gone: BTreeMap<String, String>,
}

/// The jobs of a plan of which something is remembered. What clients push has jobs that nobody starts.
fn jobs(plan: &Plan) -> impl Iterator<Item = JobId> + '_ {
    let of_workloads = plan.workloads.iter().flat_map(|entry| {
        let name = &entry.name.value;
        let policy = plan.policy_of(entry).map(|(_, policy)| policy);
        let copies = policy.into_iter().flat_map(|policy| &policy.copies);
        let copies = copies.map(|copy| JobId::copy(name, &copy.repository.value));
        let own = policy.map(|_| [JobId::backup(name), JobId::verify(name), JobId::drill(name)]);
        own.into_iter().flatten().chain(copies)
    });
    let care = plan
        .repositories
        .keys()
        .flat_map(|name| [JobId::forget(name), JobId::collect(name)]);
    of_workloads.chain(care).chain([JobId::exercise()])
}

impl History {
    /// Reads what has happened since it last did, and of jobs that it does not know yet what had become of them before.
    ///
    /// # Errors
    /// The state cannot be read.
    pub fn follow(&mut self, state: &State, plan: &Plan) -> Result<News> {
        let mut news = News::default();
        if !self.begun {
            let newest = RunFilter {
                limit: Some(1),
                ..RunFilter::default()
            };
            let running = RunFilter {
                running: true,
                ..RunFilter::default()
            };
            self.seen = state.runs(&newest)?.first().map_or(0, |run| run.number);
            for run in state.runs(&running)? {
                self.running.insert(run.number, run.job);
            }
        }
        let unknown: BTreeSet<JobId> = jobs(plan).filter(|job| !self.jobs.contains_key(job)).collect();
        for job in unknown {
            let past = read_past(state, &job)?;
            self.jobs.insert(job, past);
        }
        self.follow_runs(state, &mut news)?;
        self.follow_gone(state)?;
        self.follow_evidence(state, &mut news)?;
        if !self.begun {
            news = News::default();
            self.begun = true;
        }
        Ok(news)
    }

    fn follow_runs(&mut self, state: &State, news: &mut News) -> Result<()> {
        let since = RunFilter {
            after: Some(self.seen),
            ..RunFilter::default()
        };
        let mut runs = Vec::new();
        for number in self.running.keys() {
            runs.extend(state.run(*number)?);
        }
        runs.extend(state.runs(&since)?);
        runs.sort_unstable_by_key(|run| run.number);
        for run in runs {
            self.seen = self.seen.max(run.number);
            let Some(outcome) = run.outcome else {
                self.running.insert(run.number, run.job);
                continue;
            };
            self.running.remove(&run.number);
            let past = self.jobs.entry(run.job.clone()).or_default();
            if past.take(run.clone()) {
                let count = self.ended.entry((run.job.kind(), outcome)).or_default();
                *count = count.saturating_add(1);
                news.runs.push(run);
            }
        }
        Ok(())
    }

    /// A recovery point that is gone is none: the newest one before it counts.
    fn follow_gone(&mut self, state: &State) -> Result<()> {
        let known = state.gone_points()?.into_iter();
        let gone: BTreeMap<String, String> = known
            .map(|(snapshot, workload, _)| (snapshot, workload))
            .collect();
        let again = self
            .gone
            .iter()
            .filter(|(snapshot, _)| !gone.contains_key(*snapshot));
        let mut changed: BTreeSet<&str> = again.map(|(_, workload)| workload.as_str()).collect();
        changed.extend(gone.values().map(String::as_str));
        for workload in changed {
            let Ok(workload) = workload.parse::<Workload>() else {
                continue;
            };
            let job = JobId::backup(&workload);
            let Some(past) = self.jobs.get_mut(&job) else {
                continue;
            };
            let newest = past.good.as_ref().and_then(|good| good.snapshot.as_ref());
            let is_there = newest.is_some_and(|newest| !gone.contains_key(newest));
            let all_known = self
                .gone
                .iter()
                .filter(|(_, of)| *of == workload.as_str())
                .all(|(one, _)| gone.contains_key(one));
            if !(is_there && all_known) {
                past.good = state.newest_there(&job)?;
            }
        }
        self.gone = gone;
        Ok(())
    }

    fn follow_evidence(&mut self, state: &State, news: &mut News) -> Result<()> {
        let until = state.evidence_head()?.sequence;
        if until == self.read {
            return Ok(());
        }
        for record in state.evidence_of(Kind::Key, self.read)? {
            if let Some(repository) = record.detail.get("repository").and_then(|name| name.as_str())
                && record.what.starts_with("tested the key")
            {
                self.keys.insert(repository.to_owned(), record.time);
            }
        }
        for record in state.evidence_of(Kind::Drill, self.read)? {
            // That of an exercise has another shape; its drills have records of their own.
            let Ok(detail) = serde_json::from_value::<DrillDetail>(record.detail.into()) else {
                continue;
            };
            let drills = self.drills.entry(detail.workload.clone()).or_default();
            if detail.is_good() {
                drills.good = drills.good.max(Some(detail.requested));
            }
            drills.measured.extend(detail.measurement());
            while drills.measured.len() > DRILLS {
                drills.measured.pop_front();
            }
            drills.last = Some(detail.clone());
            if self.begun {
                news.drills.push(detail);
            }
        }
        self.read = until;
        Ok(())
    }

    /// What is known of logs now.
    pub fn see_logs(&mut self, logs: Arc<logs::All>) {
        self.logs = logs;
    }

    /// What has become of a job so far.
    pub fn past(&self, job: &JobId) -> Option<&Past> {
        self.jobs.get(job)
    }

    /// What has become of every job of a plan.
    pub fn jobs<'h>(&'h self, plan: &Plan) -> impl Iterator<Item = (&'h JobId, &'h Past)> {
        let known = jobs(plan).filter_map(|job| self.jobs.get_key_value(&job));
        known.collect::<Vec<_>>().into_iter()
    }

    pub(super) fn drills(&self, workload: &Workload) -> Option<&Drills> {
        self.drills.get(workload)
    }

    /// The runs that run, by number.
    pub fn running(&self) -> &BTreeMap<u64, JobId> {
        &self.running
    }

    /// How many runs of which kind ended how since this history was begun.
    pub fn ended(&self) -> &BTreeMap<(RunKind, Ended), u64> {
        &self.ended
    }

    /// When the keys of repositories were last tested, by the name of the repository.
    pub fn keys_tested(&self) -> &BTreeMap<String, Timestamp> {
        &self.keys
    }
}

/// What had become of a job before anybody followed it.
fn read_past(state: &State, job: &JobId) -> Result<Past> {
    let limit = u32::try_from(SAMPLES).unwrap_or(u32::MAX);
    let of = |outcome, limit| RunFilter {
        job: Some(job.clone()),
        outcome,
        limit: Some(limit),
        ..RunFilter::default()
    };
    let keep = match job.kind() {
        RunKind::Backup => limit,
        _ => 5,
    };
    let mut runs = state.runs(&of(None, keep))?;
    runs.retain(|run| run.outcome.is_some());
    let mut past = Past::default();
    if !runs.iter().any(|run| run.outcome == Some(Ended::Good)) {
        // It has failed for long.
        for run in state.runs(&of(Some(Ended::Good), 1))? {
            past.take(run);
        }
    }
    for run in runs.into_iter().rev() {
        past.take(run);
    }
    Ok(past)
}
