//! Which snapshots go: by the rules of retention, or because they were named.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::num::NonZeroU32;

use clap::Args;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use relight_model::retention::{self, Candidate, Decision, Guards, Policy, Reason, Within};
use relight_model::workload::Workload;
use relight_repo::snapshot::{Held, Snapshot};
use relight_repo::{Repository, SnapshotId};
use serde::{Deserialize, Serialize};

use super::plan::{Group, Plan, Planned};
use crate::failure::{Failure, Result};
use crate::shown::local;
use crate::target;

/// The rules, as options.
#[derive(Debug, Args)]
pub(super) struct RuleOptions {
    /// Only snapshots of this workload
    #[arg(long, short)]
    workload: Option<Workload>,
    /// Keep the N newest of each workload
    #[arg(long, value_name = "N", help_heading = "What is kept")]
    keep_last: Option<NonZeroU32>,
    /// Keep what is no older than this before the newest, such as 30d or 1y6m
    #[arg(long, value_name = "SPAN", help_heading = "What is kept")]
    keep_within: Option<Within>,
    /// Keep the newest of each of N hours
    #[arg(long, value_name = "N", help_heading = "What is kept")]
    keep_hourly: Option<NonZeroU32>,
    /// Keep the newest of each of N days
    #[arg(long, value_name = "N", help_heading = "What is kept")]
    keep_daily: Option<NonZeroU32>,
    /// Keep the newest of each of N weeks (ISO 8601)
    #[arg(long, value_name = "N", help_heading = "What is kept")]
    keep_weekly: Option<NonZeroU32>,
    /// Keep the newest of each of N months
    #[arg(long, value_name = "N", help_heading = "What is kept")]
    keep_monthly: Option<NonZeroU32>,
    /// Keep the newest of each of N years
    #[arg(long, value_name = "N", help_heading = "What is kept")]
    keep_yearly: Option<NonZeroU32>,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Request {
    /// The rules; empty if snapshots are named.
    rules: Policy,
    /// Only of this workload.
    workload: Option<Workload>,
    /// Snapshots to forget.
    named: Vec<String>,
    /// Also the last good one of a workload.
    force: bool,
}

impl Request {
    /// From the command line.
    pub fn new(options: &RuleOptions, named: &[String], force: bool) -> Result<Self> {
        let rules = Policy {
            keep_last: options.keep_last,
            keep_within: options.keep_within,
            keep_hourly: options.keep_hourly,
            keep_daily: options.keep_daily,
            keep_weekly: options.keep_weekly,
            keep_monthly: options.keep_monthly,
            keep_yearly: options.keep_yearly,
        };
        let request = Self {
            rules,
            workload: options.workload.clone(),
            named: named.to_vec(),
            force,
        };
        request.check()?;
        Ok(request)
    }

    /// Refuses what says nothing or two things.
    pub fn check(&self) -> Result<()> {
        let wrong = |text: &str| Err(Failure::Usage(text.into()));
        match (self.rules.is_empty(), self.named.is_empty()) {
            (true, true) => {
                wrong("say which snapshots are kept, such as --keep-daily 7, or name those to forget")
            }
            (false, false) => {
                wrong("either name the snapshots to forget or give rules for what is kept, not both")
            }
            (true, false) if self.workload.is_some() => {
                wrong("--workload chooses what the rules are about; leave it out where snapshots are named")
            }
            _ => Ok(()),
        }
    }
}

/// Makes the plan.
pub(super) fn plan(repository: &std::sync::Arc<Repository>, request: Request) -> Result<Plan> {
    let (snapshots, broken) = repository.snapshots()?;
    let state = State::of(repository, snapshots)?;
    let mut plan = Plan::new(repository.id().to_string(), repository.now(), request);
    for (id, error) in &broken {
        plan.alarms
            .push(format!("snapshot {id} cannot be read and is kept: {error}"));
    }
    if plan.request.named.is_empty() {
        by_rules(&state, &mut plan)?;
    } else {
        let broken: Vec<SnapshotId> = broken.iter().map(|(id, _)| *id).collect();
        by_name(&state, &broken, &mut plan)?;
    }
    Ok(plan)
}

/// The snapshots and what holds them.
struct State {
    /// The oldest first.
    snapshots: Vec<Snapshot>,
    /// Why some of them must stay, whatever is asked for.
    held: HashMap<SnapshotId, String>,
}

impl State {
    fn of(repository: &Repository, snapshots: Vec<Snapshot>) -> Result<Self> {
        let (marked, now) = (repository.marked()?, repository.now());
        let mut held = HashMap::new();
        for snapshot in &snapshots {
            let marks = match marked.contains(&snapshot.id) {
                true => Some(repository.marks(snapshot.id)?),
                false => None,
            };
            if let Some(why) = snapshot.held(marks.as_ref(), now) {
                let why = match why {
                    Held::Promised(until) => format!("promised until {}", local(until)),
                    other => other.to_string(),
                };
                held.insert(snapshot.id, why);
            }
        }
        Ok(Self { snapshots, held })
    }
}

/// Complete, as far as its manifest tells.
fn is_good(snapshot: &Snapshot) -> bool {
    snapshot.incomplete.is_empty()
}

fn by_rules(state: &State, plan: &mut Plan) -> Result<()> {
    let request = &plan.request;
    // A log goes by what its base backups need, not by rules for recovery points.
    let wanted = |snapshot: &&Snapshot| {
        !snapshot.is_log()
            && request
                .workload
                .as_ref()
                .is_none_or(|workload| snapshot.workload == workload.as_str())
    };
    let candidates: Vec<Candidate<SnapshotId>> = (0_u64..)
        .zip(&state.snapshots)
        .filter(|(_, snapshot)| wanted(snapshot))
        .map(|(sequence, snapshot)| Candidate {
            id: snapshot.id,
            group: snapshot.workload.clone(),
            time: snapshot.time,
            sequence,
            protected: state.held.contains_key(&snapshot.id),
            good: is_good(snapshot),
        })
        .collect();
    if let (Some(workload), true) = (&request.workload, candidates.is_empty()) {
        return Err(Failure::Usage(format!(
            "there is no snapshot of {workload}; `relight snapshots` lists what there is"
        )));
    }
    let mut guards = Guards::new(plan.made, last_trusted(&state.snapshots, plan.made));
    guards.danger_remove_last_good = request.force;
    let made = retention::plan(&request.rules, &TimeZone::system(), &guards, candidates);
    plan.forget = made.removed().map(|candidate| candidate.id).collect();
    plan.alarms.extend(made.alarms.iter().map(ToString::to_string));
    plan.blocked = made.is_blocked();
    plan.workloads = made
        .groups
        .into_iter()
        .map(|group| Group {
            workload: group.group,
            snapshots: group
                .snapshots
                .into_iter()
                .map(|judged| Planned {
                    id: judged.snapshot.id,
                    time: judged.snapshot.time,
                    keep: judged.is_kept(),
                    why: match &judged.decision {
                        Decision::Keep { reasons } => reasons
                            .iter()
                            .map(|reason| why(reason, &judged.snapshot.id, state))
                            .collect(),
                        Decision::Remove => vec!["no rule keeps it".into()],
                    },
                })
                .collect(),
        })
        .collect();
    Ok(())
}

fn why(reason: &Reason, id: &SnapshotId, state: &State) -> String {
    match (reason, state.held.get(id)) {
        (Reason::Protected, Some(why)) => why.clone(),
        _ => reason.to_string(),
    }
}

/// The last time that is known to have been right: the newest publication, but none that lies in the future, so that
/// whoever dates a snapshot wrongly cannot switch retention off.
fn last_trusted(snapshots: &[Snapshot], now: Timestamp) -> Option<Timestamp> {
    let skew = SignedDuration::from_mins(5);
    snapshots
        .iter()
        .map(|snapshot| snapshot.published)
        .filter(|time| time.duration_since(now) <= skew)
        .max()
}

fn by_name(state: &State, broken: &[SnapshotId], plan: &mut Plan) -> Result<()> {
    let mut named = HashSet::new();
    let mut unreadable = Vec::new();
    for given in &plan.request.named {
        match target::choose(&state.snapshots, given) {
            Ok(snapshot) => {
                if let Some(why) = state.held.get(&snapshot.id) {
                    let advice = if why == "protected" {
                        "; `relight unprotect` takes that away"
                    } else {
                        ""
                    };
                    return Err(Failure::Usage(format!(
                        "snapshot {} is {why}{advice}",
                        snapshot.id.short()
                    )));
                }
                named.insert(snapshot.id);
            }
            Err(error) => match broken
                .iter()
                .filter(|id| id.to_string().starts_with(given.as_str()))
                .collect::<Vec<_>>()[..]
            {
                [id] if plan.request.force => unreadable.push(*id),
                [id] => {
                    return Err(Failure::Usage(format!(
                        "snapshot {id} cannot be read; `relight verify` tells more, and --force forgets it for good"
                    )));
                }
                _ => return Err(error),
            },
        }
    }
    let mut groups: BTreeMap<&str, Vec<&Snapshot>> = BTreeMap::new();
    for snapshot in state.snapshots.iter().rev() {
        groups.entry(&snapshot.workload).or_default().push(snapshot);
    }
    groups.retain(|_, group| group.iter().any(|snapshot| named.contains(&snapshot.id)));
    for (workload, group) in &groups {
        let all = group
            .iter()
            .map(|snapshot| (is_good(snapshot), named.contains(&snapshot.id)));
        if retention::takes_last_good(all) && !plan.request.force {
            return Err(Failure::Usage(format!(
                "that would forget the last good snapshot of {workload}; nothing was changed. Repeat with --force if \
                 it is meant so"
            )));
        }
    }
    plan.forget.extend(
        state
            .snapshots
            .iter()
            .map(|snapshot| snapshot.id)
            .filter(|id| named.contains(id)),
    );
    plan.forget.extend(unreadable);
    let planned = |snapshot: &&Snapshot| {
        let keep = !named.contains(&snapshot.id);
        let why = match (keep, state.held.get(&snapshot.id)) {
            (true, Some(why)) => why.clone(),
            (true, None) => "not named".into(),
            (false, _) => "named".into(),
        };
        Planned {
            id: snapshot.id,
            time: snapshot.time,
            keep,
            why: vec![why],
        }
    };
    plan.workloads = groups
        .iter()
        .map(|(workload, group)| Group {
            workload: workload.to_string(),
            snapshots: group.iter().map(planned).collect(),
        })
        .collect();
    Ok(())
}
