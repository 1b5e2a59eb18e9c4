//! Windows against the load that is due in them.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

use super::promises::{span, written};
use super::{Check, Code, Subject};
use crate::duration::TimeSpan;
use crate::plan::{Resource, Window};

/// So many openings of a window are looked at: a week of nights, and one.
const OPENINGS: usize = 8;

pub(super) fn run(check: &mut Check<'_>) {
    let subjects = std::mem::take(&mut check.subjects);
    for subject in &subjects {
        outside(check, subject);
        same_minute(check, subject);
        spread(check, subject);
    }
    for (name, window) in &check.plan.windows {
        let inside: Vec<&Subject<'_>> = subjects
            .iter()
            .filter(|subject| subject.policy.window.as_ref().is_some_and(|at| at.value == *name))
            .collect();
        load(check, name, window, &inside);
    }
    check.subjects = subjects;
}

/// A schedule whose times lie outside the window: each run would wait for hours.
fn outside(check: &mut Check<'_>, subject: &Subject<'_>) {
    let policy = subject.policy;
    let zone = &check.plan.time_zone;
    let Some(name) = &policy.window else {
        return;
    };
    let Some(window) = check.plan.windows.get(&name.value) else {
        return;
    };
    let due: Vec<Timestamp> = policy
        .schedule
        .iter_after(check.facts.now, zone)
        .take(OPENINGS)
        .collect();
    let open = |&due: &Timestamp| window.open_until(due, zone).is_some();
    let Some(first) = due.iter().copied().find(|due| !open(due)) else {
        return;
    };
    let opens = window.opens_next(first, zone);
    let waits = opens.map_or_else(
        || "and never opens again".to_owned(),
        |opens| format!("and opens {} later", span(opens.duration_since(first))),
    );
    let shown = first.to_zoned(zone.clone()).strftime("%a %H:%M").to_string();
    let opens = window.opens.value.next_after(check.facts.now, zone);
    let opens = opens.map_or_else(
        || "22:00".to_owned(),
        |at| at.to_zoned(zone.clone()).strftime("%H:%M").to_string(),
    );
    check.find(
        Code::ScheduleOutsideWindow,
        policy.schedule.at,
        format!("policy {}", subject.name),
        format!(
            "a run is due at {shown}, when the window {:?} is closed, {waits}",
            name.value
        ),
        format!("schedule = \"{opens}\", or another window"),
    );
}

/// More runs in the same minute than may run.
fn same_minute(check: &mut Check<'_>, subject: &Subject<'_>) {
    let (policy, count) = (subject.policy, subject.workloads.len());
    let runs = check.plan.limits.runs as usize;
    if count > runs && policy.stagger.0.is_zero() {
        check.find(
            Code::SameMinute,
            policy.schedule.at,
            format!("policy {}", subject.name),
            format!("{count} runs are due in the same minute, and {runs} may run at a time"),
            format!("stagger = \"{}m\"", (count * 2).min(240)),
        );
    }
}

/// Starts that are spread over more than the schedule leaves room for.
fn spread(check: &mut Check<'_>, subject: &Subject<'_>) {
    let policy = subject.policy;
    let spread = TimeSpan(policy.stagger.0.saturating_add(policy.jitter.0));
    if spread.0.is_zero() {
        return;
    }
    let due: Vec<Timestamp> = policy
        .schedule
        .iter_after(check.facts.now, &check.plan.time_zone)
        .take(2 * OPENINGS)
        .collect();
    let gaps = due
        .iter()
        .zip(due.iter().skip(1))
        .map(|(a, b)| span(b.duration_since(*a)));
    let Some(gap) = gaps.min() else {
        return;
    };
    if spread.0 > gap.0 / 2 {
        check.find(
            Code::SpreadTooLong,
            policy.schedule.at,
            format!("policy {}", subject.name),
            format!("stagger and jitter are {spread} together, but two runs may be {gap} apart"),
            format!("stagger = \"{}m\"", gap.0.as_secs() / 240),
        );
    }
}

/// What a resource has to carry in one opening of a window.
#[derive(Default)]
struct Load {
    /// Of all runs together.
    total: Duration,
    /// Of the longest run.
    longest: Duration,
    runs: usize,
    /// When the first of them is due.
    first: Option<Timestamp>,
}

impl Load {
    /// How long it takes at least, with so many at a time.
    fn takes(&self, limit: u32) -> Duration {
        (self.total / limit.max(1)).max(self.longest)
    }
}

fn load(check: &mut Check<'_>, name: &str, window: &Window, subjects: &[&Subject<'_>]) {
    let zone = &check.plan.time_zone;
    let length = SignedDuration::try_from(window.length.value.0).unwrap_or(SignedDuration::ZERO);
    let mut worst: Option<(Duration, Duration, String)> = None;
    for opens in window.opens.iter_after(check.facts.now, zone).take(OPENINGS) {
        let Ok(closes) = opens.checked_add(length) else {
            break;
        };
        let mut loads: BTreeMap<Option<Resource>, Load> = BTreeMap::new();
        for subject in subjects {
            add_load(check, subject, opens, closes, &mut loads);
        }
        for (resource, load) in loads {
            let Some(first) = load.first else {
                continue;
            };
            let available = span(closes.duration_since(first)).0;
            let (limit, what) = match &resource {
                None => (check.plan.limits.runs, "all together".to_owned()),
                Some(resource) => (
                    check.plan.limit_of(resource),
                    format!("on {} {}", resource.0, resource.1),
                ),
            };
            let takes = load.takes(limit);
            if takes > available
                && worst
                    .as_ref()
                    .is_none_or(|(known, ..)| takes - available > *known)
            {
                let reason = format!(
                    "{} runs {what} need {}, {limit} at a time, but from the first of them the window is open for {} only",
                    load.runs,
                    TimeSpan(takes),
                    TimeSpan(available)
                );
                worst = Some((takes - available, takes, reason));
            }
        }
    }
    if let Some((missing, _, reason)) = worst {
        let longer = window.length.value.0.saturating_add(missing);
        let hours = TimeSpan::from_secs(longer.as_secs().div_ceil(3_600).saturating_mul(3_600));
        check.find(
            Code::WindowTooSmall,
            window.length.at,
            format!("window {name}"),
            reason,
            format!(
                "length = \"{}\", an earlier schedule, or a higher limit",
                written(hours)
            ),
        );
    }
}

fn add_load(
    check: &Check<'_>,
    subject: &Subject<'_>,
    opens: Timestamp,
    closes: Timestamp,
    loads: &mut BTreeMap<Option<Resource>, Load>,
) {
    let policy = subject.policy;
    let just_before = opens.checked_sub(SignedDuration::from_nanos(1)).unwrap_or(opens);
    let due = policy.schedule.next_after(just_before, &check.plan.time_zone);
    let Some(due) = due.filter(|&due| due < closes) else {
        return;
    };
    for &entry in &subject.workloads {
        let Some(time) = check.facts.backup_time(entry, &policy.repository.value) else {
            continue;
        };
        let resources = check.plan.resources(Some(entry), Some(&policy.repository.value));
        for resource in resources.into_iter().map(Some).chain([None]) {
            let load = loads.entry(resource).or_default();
            load.total = load.total.saturating_add(time.0);
            load.longest = load.longest.max(time.0);
            load.runs += 1;
            load.first = Some(load.first.map_or(due, |first| first.min(due)));
        }
    }
}
