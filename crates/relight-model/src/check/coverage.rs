//! What is missing: policies, drills, verification, copies, somebody who is told.

use std::collections::BTreeSet;

use super::{Check, Code, Subject, and_more};
use crate::plan::{Plan, Position, RouteEvent};
use crate::workload::Workload;

pub(super) fn run(check: &mut Check<'_>) {
    workloads(check);
    for subject in std::mem::take(&mut check.subjects) {
        policy(check, &subject);
        check.subjects.push(subject);
    }
    repositories(check);
    stages(check);
    let plan = check.plan;
    let told = plan
        .routes
        .iter()
        .any(|route| route.events.contains(&RouteEvent::Failure));
    if !plan.workloads.is_empty() && !told {
        check.find(
            Code::NobodyTold,
            Position { line: 1, column: 1 },
            "plan",
            "nobody is told when a run fails",
            "[[route]] with to = \"mailto:…\" and events = [\"failure\", \"rpo\", \"alarm\"]",
        );
    }
}

/// The policy that most workloads of the same kind have, to propose it.
fn proposed<'p>(plan: &'p Plan, workload: &Workload) -> Option<&'p str> {
    let same_kind = plan
        .workloads
        .iter()
        .filter(|entry| entry.name.kind() == workload.kind());
    let first = same_kind.filter_map(|entry| entry.policy.as_ref()).next();
    let any = || plan.policies.keys().next().map(String::as_str);
    first.map(|policy| policy.value.as_str()).or_else(any)
}

fn workloads(check: &mut Check<'_>) {
    let plan = check.plan;
    let today = check.facts.now.to_zoned(plan.time_zone.clone()).date();
    for entry in &plan.workloads {
        let subject = format!("workload {}", entry.name.value);
        match (&entry.policy, &entry.excluded) {
            (None, None) => {
                let fix = match proposed(plan, &entry.name.value) {
                    Some(policy) => format!("policy = \"{policy}\", or exclude = \"why\""),
                    None => "a policy for it, or exclude = \"why\"".to_owned(),
                };
                check.find(
                    Code::NoPolicy,
                    entry.name.at,
                    subject,
                    "it has no policy and is not backed up",
                    fix,
                );
            }
            (None, Some(excluded)) => {
                if let Some(until) = excluded.until.filter(|until| until.value < today) {
                    check.find(
                        Code::ExclusionExpired,
                        until.at,
                        subject,
                        format!(
                            "it was excluded until {} ({})",
                            until.value, excluded.reason.value
                        ),
                        "decide again: a policy, or a later exclude-until",
                    );
                }
            }
            (Some(_), _) => {}
        }
    }
    let known: BTreeSet<&Workload> = plan.workloads.iter().map(|entry| &entry.name.value).collect();
    for workload in &check.facts.discovered {
        if !known.contains(workload) {
            let fix = match proposed(plan, workload) {
                Some(policy) => format!("[[workload]] name = \"{workload}\", policy = \"{policy}\""),
                None => format!("[[workload]] name = \"{workload}\" with a policy"),
            };
            check.find(
                Code::Unprotected,
                Position { line: 1, column: 1 },
                format!("workload {workload}"),
                "it is there, but the plan does not mention it",
                fix,
            );
        }
    }
}

fn policy(check: &mut Check<'_>, subject: &Subject<'_>) {
    let policy = subject.policy;
    let name = format!("policy {}", subject.name);
    if subject.workloads.is_empty() {
        check.find(
            Code::UnusedPolicy,
            policy.at,
            name,
            "no workload has it",
            format!("policy = \"{}\" at a workload, or remove it", subject.name),
        );
        return;
    }
    if policy.drill.is_none() {
        check.find(
            Code::NoDrill,
            policy.at,
            name.clone(),
            format!(
                "recovery of {} is never tested, so its RTO is never measured",
                and_more(
                    &subject
                        .workloads
                        .first()
                        .map_or_else(String::new, |entry| entry.name.value.to_string()),
                    subject.workloads.len()
                )
            ),
            "drill = \"quarterly\"",
        );
    }
    if policy.verify.is_none() {
        check.find(
            Code::NoVerify,
            policy.at,
            name.clone(),
            "its snapshots are never read again before they are needed",
            "verify = \"weekly\"",
        );
    }
    let missing = match (policy.rpo.is_none(), policy.rto.is_none()) {
        (true, true) => Some(("neither RPO nor RTO", "rpo = \"24h\" and rto = \"4h\"")),
        (true, false) => Some(("no RPO", "rpo = \"24h\"")),
        (false, true) => Some(("no RTO", "rto = \"4h\"")),
        (false, false) => None,
    };
    if let Some((what, fix)) = missing {
        check.find(
            Code::NothingPromised,
            policy.at,
            name.clone(),
            format!("it promises {what}, so nothing can be held against what is measured"),
            fix,
        );
    }
    if policy.copies.is_empty() {
        let other = check
            .plan
            .repositories
            .keys()
            .find(|other| **other != policy.repository.value);
        let other = other.map_or("offsite", String::as_str);
        check.find(
            Code::NoCopy,
            policy.repository.at,
            name,
            format!(
                "with {:?} all of its recovery points are lost",
                policy.repository.value
            ),
            format!(
                "[[policy.{}.copy]] repository = \"{other}\", schedule = \"daily\"",
                subject.name
            ),
        );
    }
}

fn repositories(check: &mut Check<'_>) {
    let plan = check.plan;
    let mut used: BTreeSet<&str> = BTreeSet::new();
    for policy in plan.policies.values() {
        used.insert(&policy.repository.value);
        used.extend(policy.copies.iter().map(|copy| copy.repository.value.as_str()));
    }
    for (name, repository) in &plan.repositories {
        let missing = match (&repository.forget, &repository.collect) {
            (Some(_), Some(_)) => continue,
            (None, _) => (
                "snapshots that no rule keeps are never forgotten",
                "forget = \"daily\" and collect = \"daily\"",
            ),
            (Some(_), None) => ("space is never collected", "collect = \"daily\""),
        };
        if used.contains(name.as_str()) {
            let (reason, fix) = missing;
            check.find(
                Code::NeverForgotten,
                repository.at,
                format!("repository {name}"),
                reason,
                fix,
            );
        }
    }
}

fn stages(check: &mut Check<'_>) {
    let plan = check.plan;
    let Some(exercise) = &plan.exercise else {
        return;
    };
    for entry in plan.workloads.iter().filter(|entry| entry.policy.is_some()) {
        let (reason, fix) = match entry.stage {
            None => (
                "the exercise does not know when to recover it".to_owned(),
                "stage = \"application\"".to_owned(),
            ),
            Some(stage) if !exercise.order.contains(&stage) => (
                format!("its stage {stage} is not in the order of the exercise"),
                format!("add \"{stage}\" to order in [exercise]"),
            ),
            Some(_) => continue,
        };
        check.find(
            Code::StageMissing,
            entry.name.at,
            format!("workload {}", entry.name.value),
            reason,
            fix,
        );
    }
}
