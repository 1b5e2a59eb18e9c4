//! Retention against locks, copies and points in time.

use super::promises::{span, written};
use super::{Check, Code, Subject};
use crate::duration::TimeSpan;
use crate::plan::{Position, Repository};
use crate::retention::{Policy, RuleKind};

const DAY: u64 = 86_400;

pub(super) fn run(check: &mut Check<'_>) {
    for subject in std::mem::take(&mut check.subjects) {
        let gap = subject
            .policy
            .schedule
            .longest_gap(check.facts.now, &check.plan.time_zone);
        let gap = gap.map(span).unwrap_or_default();
        points_in_time(check, &subject, gap);
        locks(check, &subject, gap);
        copies(check, &subject, gap);
        check.subjects.push(subject);
    }
}

/// How far back a rule reaches, with a snapshot every `gap`.
fn reach(policy: &Policy, rule: RuleKind, gap: TimeSpan, check: &Check<'_>) -> Option<TimeSpan> {
    let period = match rule {
        RuleKind::KeepWithin => {
            let oldest = policy
                .keep_within?
                .oldest_kept(check.facts.now, &check.plan.time_zone);
            return Some(span(check.facts.now.duration_since(oldest)));
        }
        RuleKind::KeepLast => 0,
        RuleKind::KeepHourly => 3_600,
        RuleKind::KeepDaily => DAY,
        RuleKind::KeepWeekly => 7 * DAY,
        RuleKind::KeepMonthly => 30 * DAY,
        RuleKind::KeepYearly => 365 * DAY,
    };
    let count = u64::from(policy.count(rule)?.get());
    Some(TimeSpan::from_secs(
        count.saturating_mul(period.max(gap.0.as_secs())),
    ))
}

/// How far back the oldest snapshot lies; `None` when all are kept.
fn longest(policy: &Policy, gap: TimeSpan, check: &Check<'_>) -> Option<TimeSpan> {
    RuleKind::ALL
        .into_iter()
        .filter_map(|rule| reach(policy, rule, gap, check))
        .max()
}

/// After how long the first snapshot goes: those that keep everything of a time, and the finest of the periods.
fn shortest(policy: &Policy, gap: TimeSpan, check: &Check<'_>) -> Option<TimeSpan> {
    let mut rules = RuleKind::ALL.into_iter();
    let whole = rules
        .by_ref()
        .take(2)
        .filter_map(|rule| reach(policy, rule, gap, check))
        .max();
    let finest = rules.find_map(|rule| reach(policy, rule, gap, check));
    whole.max(finest)
}

fn days(span: TimeSpan) -> u64 {
    span.0.as_secs().div_ceil(DAY)
}

fn points_in_time(check: &mut Check<'_>, subject: &Subject<'_>, gap: TimeSpan) {
    let policy = subject.policy;
    let (Some(wanted), Some(reach)) = (policy.point_in_time, longest(&policy.retention, gap, check)) else {
        return;
    };
    // A day of winter time is an hour longer.
    if reach.0.as_secs() + 3_600 < wanted.value.0.as_secs() {
        check.find(
            Code::PointInTimeRetention,
            wanted.at,
            format!("policy {}", subject.name),
            format!(
                "points in time are promised for {}, but the snapshots that the log is applied to reach back {reach}",
                wanted.value
            ),
            format!("retention = {{ keep-within = \"{}d\" }}", days(wanted.value)),
        );
    }
}

fn lock(
    check: &mut Check<'_>,
    subject: &Subject<'_>,
    at: Position,
    name: &str,
    retention: &Policy,
    gap: TimeSpan,
) {
    let lock = check
        .plan
        .repositories
        .get(name)
        .and_then(|repository: &Repository| repository.lock);
    let (Some(lock), Some(first)) = (lock, shortest(retention, gap, check)) else {
        return;
    };
    if lock.value > first {
        check.find(
            Code::LockLongerThanRetention,
            at,
            format!("policy {}", subject.name),
            format!(
                "the retention lets snapshots go after {first}, but {name:?} locks what it stores for {}: their space comes \
                 back then only",
                lock.value
            ),
            format!("keep-within = \"{}d\", or lock = \"{}\"", days(lock.value), written(first)),
        );
    }
}

fn copies(check: &mut Check<'_>, subject: &Subject<'_>, gap: TimeSpan) {
    let policy = subject.policy;
    let source_reach = longest(&policy.retention, gap, check);
    for copy in &policy.copies {
        let every = copy
            .schedule
            .longest_gap(check.facts.now, &check.plan.time_zone)
            .map(span);
        let (Some(every), Some(source_reach)) = (every, source_reach) else {
            continue;
        };
        let retention = copy.retention.as_ref().unwrap_or(&policy.retention);
        // Periods finer than the copies' distance of which the first repository still has all.
        let fine = [
            (RuleKind::KeepHourly, 3_600),
            (RuleKind::KeepDaily, DAY),
            (RuleKind::KeepWeekly, 7 * DAY),
        ];
        let lost = fine.into_iter().find(|&(rule, period)| {
            retention.count(rule).is_some_and(|count| {
                let period_of_rule = TimeSpan::from_secs(period);
                every > source_reach
                    && every > period_of_rule
                    && TimeSpan::from_secs(u64::from(count.get()) * period) > source_reach
            })
        });
        if let Some((rule, _)) = lost {
            check.find(
                Code::CopyTooRare,
                copy.schedule.at,
                format!("policy {}", subject.name),
                format!(
                    "the copy in {:?} promises {rule}, but up to {every} lie between two copies, and {:?} keeps snapshots for \
                     {source_reach} only",
                    copy.repository.value, policy.repository.value
                ),
                "schedule = \"daily\" for the copy",
            );
        }
    }
}

fn locks(check: &mut Check<'_>, subject: &Subject<'_>, gap: TimeSpan) {
    let policy = subject.policy;
    lock(
        check,
        subject,
        policy.retention.at,
        &policy.repository.value,
        &policy.retention.value,
        gap,
    );
    for copy in &policy.copies {
        let retention = copy.retention.as_ref().unwrap_or(&policy.retention);
        let every = copy
            .schedule
            .longest_gap(check.facts.now, &check.plan.time_zone)
            .map(span);
        let every = every.unwrap_or_default();
        lock(
            check,
            subject,
            copy.at,
            &copy.repository.value,
            &retention.value,
            every,
        );
    }
}
