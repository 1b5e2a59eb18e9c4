//! What is wrong now, from how everything stands. What is not done any more, and so fails no more, is found here too: an RPO
//! breaks by itself.

use std::collections::BTreeMap;

use jiff::{SignedDuration, Timestamp};
use relight_model::objective::Verdict;
use relight_model::plan::{Plan, RouteEvent};
use relight_model::schedule::{RunKind, WaitReason};
use serde::{Deserialize, Serialize};

use super::growth::Growth;
use crate::approvals;
use crate::error::Result;
use crate::evidence::detail::Ended;
use crate::runs::Shown;
use crate::standing::{History, Standing};
use crate::state::{ApprovalFilter, State};

/// So long before a repository is full it is time to say so.
const FULL_SOON: SignedDuration = SignedDuration::from_hours(14 * 24);

/// Something that is wrong.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub struct Problem {
    /// What is the same as long as the same is wrong.
    pub key: String,
    /// What kind of thing.
    pub event: RouteEvent,
    /// What it is about: a workload, a repository, the server.
    pub subject: String,
    /// The workload's policy.
    pub policy: Option<String>,
    /// In words.
    pub text: String,
}

/// All that is wrong.
pub(super) fn problems(
    plan: &Plan,
    history: &History,
    shown: &Shown,
    growth: &BTreeMap<String, Growth>,
    now: Timestamp,
) -> Vec<Problem> {
    let mut found = Vec::new();
    for standing in history.standings(plan, now) {
        of_workload(&standing, &mut found);
    }
    runs(plan, history, shown, &mut found);
    let mut alarm = |key: String, subject: &str, text: String| {
        found.push(Problem {
            key,
            event: RouteEvent::Alarm,
            subject: subject.to_owned(),
            policy: None,
            text,
        });
    };
    if let Some(clock) = &shown.clock {
        alarm("clock".into(), "clock", clock.to_string());
    }
    for (name, growth) in growth {
        let soon = now.checked_add(FULL_SOON).ok();
        if let Some(full) = growth.full.filter(|full| Some(*full) < soon) {
            let day = full.to_zoned(plan.time_zone.clone()).date();
            alarm(
                format!("full {name}"),
                name,
                format!("by its growth over the last weeks it is full on {day}"),
            );
        }
    }
    found
}

/// What was done, or is about to be done, without a second person.
///
/// # Errors
/// The state cannot be read.
pub(super) fn alone(state: &State, now: Timestamp) -> Result<Vec<Problem>> {
    let alarm = |key: String, text: String| Problem {
        key,
        event: RouteEvent::Alarm,
        subject: "approvals".into(),
        policy: None,
        text,
    };
    let mut found = Vec::new();
    if let Some(glass) = state.broken_glass(now)? {
        found.push(alarm(
            format!("glass {}", glass.since),
            format!(
                "the glass was broken by {}: until {} nothing needs a second person; the reason given: {}",
                glass.who, glass.until, glass.reason
            ),
        ));
    }
    let waiting = ApprovalFilter {
        waiting: Some(now),
        ..ApprovalFilter::default()
    };
    for request in state.approvals(&waiting)? {
        let (number, subject) = (request.number, &request.subject);
        // What was changed on the host goes on by itself after a time: everybody has to know before.
        if approvals::is_of_host(&request) {
            let until = request.expires;
            found.push(alarm(
                format!("approval {number}"),
                format!("{subject}; it holds from {until} on, unless somebody denies request {number}"),
            ));
        }
    }
    Ok(found)
}

fn of_workload(standing: &Standing, found: &mut Vec<Problem>) {
    let subject = standing.workload.to_string();
    let mut find = |event: RouteEvent, part: &str, text: String| {
        found.push(Problem {
            key: format!("{event}{part} {subject}"),
            event,
            subject: subject.clone(),
            policy: standing.policy.clone(),
            text,
        });
    };
    if let Some(rpo) = standing.rpo.as_ref()
        && !rpo.verdict.is_met()
        && rpo.verdict != Verdict::NotPromised
    {
        let promised = rpo.objective.promised.unwrap_or_default();
        find(
            RouteEvent::Rpo,
            "",
            format!("the RPO of {promised} is broken: {}", rpo.reason),
        );
    }
    if let Some(rto) = standing.rto.as_ref()
        && matches!(rto.verdict, Verdict::Missed { .. })
    {
        let promised = rto.objective.promised.unwrap_or_default();
        find(
            RouteEvent::Rto,
            "",
            format!("the RTO of {promised} cannot be kept: {}", rto.reason),
        );
    }
    if let Some(drill) = standing.last_drill.as_ref().filter(|drill| !drill.good) {
        let why = drill.message.as_deref().unwrap_or("it was not seen to work");
        find(
            RouteEvent::Drill,
            "",
            format!("it did not come back in its last drill: {why}"),
        );
    }
    for (about, words) in standing.log.iter().flat_map(|log| &log.alarms) {
        find(
            RouteEvent::Alarm,
            &format!(" log {about}"),
            format!("its log: {words}"),
        );
    }
    for change in &standing.changes {
        let text = format!(
            "suddenly different from the last weeks: {}; look before old recovery points are forgotten",
            change.reason
        );
        find(RouteEvent::Alarm, &format!(" {}", change.what.name()), text);
    }
}

/// Runs that failed and are not tried again before they are due.
fn runs(plan: &Plan, history: &History, shown: &Shown, found: &mut Vec<Problem>) {
    for (job, past) in history.jobs(plan) {
        let Some(last) = past.last.as_ref() else { continue };
        if !matches!(last.outcome, Some(Ended::Failed | Ended::Incomplete)) {
            continue;
        }
        let again = shown
            .waiting
            .iter()
            .any(|one| one.job == *job && matches!(one.reason, WaitReason::Backoff { .. }));
        if again || history.running().values().any(|running| running == job) {
            continue;
        }
        let entry = job.workload().and_then(|name| plan.workload(name));
        let policy = entry.and_then(|entry| plan.policy_of(entry));
        let event = match job.kind() {
            RunKind::Drill | RunKind::Exercise => RouteEvent::Drill,
            // What it found is damage, or nobody knows what it is: that is for a person.
            RunKind::Verify => RouteEvent::Alarm,
            _ => RouteEvent::Failure,
        };
        let code = last.code.as_deref().unwrap_or_default();
        let message = last.message.as_deref().unwrap_or("no reason is known");
        let ended = last.outcome.map_or("failed", Ended::name);
        found.push(Problem {
            key: format!("run {job}"),
            event,
            subject: match (job.workload(), job.repository()) {
                (Some(workload), _) => workload.to_string(),
                (None, Some(repository)) => repository.to_owned(),
                (None, None) => job.to_string(),
            },
            policy: policy.map(|(name, _)| name.to_owned()),
            text: format!("{job}, run {}: {ended}: {code} {message}", last.number),
        });
    }
}
