//! RPO and RTO against schedule, log, measured speed and tier.

use jiff::SignedDuration;

use super::facts::time_for;
use super::{Check, Code, Subject, and_more};
use crate::duration::TimeSpan;
use crate::objective::forecast::forecast;
use crate::plan::{Method, WorkloadEntry};

pub(super) fn run(check: &mut Check<'_>) {
    for subject in std::mem::take(&mut check.subjects) {
        rpo(check, &subject);
        rto(check, &subject);
        methods(check, &subject);
        check.subjects.push(subject);
    }
}

/// How a workload is captured.
pub(super) fn method(subject: &Subject<'_>, entry: &WorkloadEntry) -> Option<Method> {
    let method = entry.method.as_ref().or(subject.policy.method.as_ref());
    method.map(|method| method.value)
}

pub(super) fn span(duration: SignedDuration) -> TimeSpan {
    TimeSpan(duration.try_into().unwrap_or_default())
}

/// Up to whole five minutes, for a value somebody would write.
fn rounded_up(span: TimeSpan) -> TimeSpan {
    TimeSpan::from_secs(
        span.0
            .as_secs()
            .saturating_add(u64::from(span.0.subsec_nanos() > 0))
            .div_ceil(300)
            .saturating_mul(300),
    )
}

/// The exact text of a length of time, as the plan takes it.
pub(super) fn written(span: TimeSpan) -> String {
    String::from(span)
}

fn rpo(check: &mut Check<'_>, subject: &Subject<'_>) {
    let policy = subject.policy;
    let (Some(rpo), Some(permitted)) = (policy.rpo, policy.permitted_exposure()) else {
        return;
    };
    let gap = policy
        .schedule
        .longest_gap(check.facts.now, &check.plan.time_zone);
    let Some(gap) = gap.map(span) else {
        return;
    };
    // The workload with the longest exposure, and how many are too long.
    let mut worst: Option<(TimeSpan, String, &WorkloadEntry)> = None;
    let mut broken = 0;
    for &entry in &subject.workloads {
        let facts = check.facts.workloads.get(&entry.name.value);
        let takes_log = method(subject, entry).is_none_or(Method::takes_log);
        let (exposure, why) = match policy.log {
            Some(log) if takes_log => {
                let exposure = facts
                    .and_then(|facts| facts.log_lag)
                    .unwrap_or(log.value)
                    .max(log.value);
                (exposure, format!("the log may be {exposure} old"))
            }
            _ => {
                let run = check
                    .facts
                    .backup_time(entry, &policy.repository)
                    .unwrap_or_default();
                let exposure = TimeSpan(gap.0.saturating_add(run.0).saturating_add(policy.jitter.0));
                let mut why = format!("up to {gap} lie between two runs");
                if run.0.as_secs() > 0 {
                    why += &format!(", and a run takes {run}");
                }
                if policy.jitter.0.as_secs() > 0 {
                    why += &format!(", and begins up to {} later by chance", policy.jitter);
                }
                (exposure, why)
            }
        };
        if exposure > permitted {
            broken += 1;
            if worst.as_ref().is_none_or(|(known, ..)| exposure > *known) {
                worst = Some((exposure, why, entry));
            }
        }
    }
    let Some((exposure, why, entry)) = worst else {
        return;
    };
    let missing = TimeSpan(exposure.0.saturating_sub(rpo.value.0));
    let beyond_schedule = TimeSpan(exposure.0.saturating_sub(gap.0));
    let fix = if policy.log.is_some() {
        format!(
            "rpo = \"{}\", or ship the log more often",
            written(rounded_up(exposure))
        )
    } else if missing.0 <= rpo.value.0 / 4 {
        format!(
            "rpo-tolerance = \"{}\", or a shorter schedule",
            written(rounded_up(missing))
        )
    } else {
        // A run every so many hours of the day leaves nothing over at midnight only if they divide 24.
        let hours = [12, 8, 6, 4, 3, 2, 1].into_iter().find(|hours| {
            // An hour more, for the night in which clocks are set back.
            let clocks = if *hours > 1 { 3600 } else { 0 };
            let gap = TimeSpan::from_secs(hours * 3600 + clocks);
            gap.0.saturating_add(beyond_schedule.0) <= permitted.0
        });
        match hours {
            Some(1) => "schedule = \"hourly\"".to_owned(),
            Some(hours) => format!("schedule = \"0/{hours}:00\""),
            None => format!(
                "log = \"{}\" with method = \"base-backup\", or a longer rpo",
                written(rpo.value)
            ),
        }
    };
    check.find(
        Code::RpoSchedule,
        rpo.at,
        format!("policy {}", subject.name),
        format!(
            "{}: {why}: {exposure} in all, but {permitted} are permitted",
            and_more(&entry.name.value, broken)
        ),
        fix,
    );
}

fn rto(check: &mut Check<'_>, subject: &Subject<'_>) {
    let policy = subject.policy;
    let Some(rto) = policy.rto else {
        return;
    };
    let repository = check.plan.repositories.get(&policy.repository.value);
    let thaw = repository
        .and_then(|repository| repository.thaw)
        .map_or(TimeSpan::default(), |thaw| thaw.value);
    if thaw > rto.value {
        check.find(
            Code::RtoTier,
            rto.at,
            format!("policy {}", subject.name),
            format!(
                "what is in {:?} can be read after {thaw} only, but the RTO is {}",
                policy.repository.value, rto.value
            ),
            format!("another repository, or rto = \"{}\"", written(rounded_up(thaw))),
        );
        return;
    }
    let rate = check
        .facts
        .repositories
        .get(&policy.repository.value)
        .and_then(|facts| facts.restore_rate);
    let mut worst: Option<(TimeSpan, String, &WorkloadEntry)> = None;
    let mut broken = 0;
    for &entry in &subject.workloads {
        let Some(size) = check.facts.size(entry) else {
            continue;
        };
        let drills = check
            .facts
            .workloads
            .get(&entry.name.value)
            .map_or(&[][..], |facts| &facts.drills);
        let (time, why) = if let Some(forecast) = forecast(drills, size, thaw) {
            (forecast.expected, forecast.to_string())
        } else if let Some(read) = rate.and_then(|rate| time_for(size, rate)) {
            let rate = rate.unwrap_or_default();
            let why = format!("{size} at {rate} take {read}, and reading begins after {thaw}");
            (TimeSpan(read.0.saturating_add(thaw.0)), why)
        } else {
            continue;
        };
        if time > rto.value {
            broken += 1;
            if worst.as_ref().is_none_or(|(known, ..)| time > *known) {
                worst = Some((time, why, entry));
            }
        }
    }
    if let Some((time, why, entry)) = worst {
        check.find(
            Code::RtoSpeed,
            rto.at,
            format!("policy {}", subject.name),
            format!(
                "{}: {why}, but the RTO is {}",
                and_more(&entry.name.value, broken),
                rto.value
            ),
            format!(
                "rto = \"{}\", or split the workload, or a faster repository",
                written(rounded_up(time))
            ),
        );
    }
}

fn methods(check: &mut Check<'_>, subject: &Subject<'_>) {
    let policy = subject.policy;
    let mut without_log: Option<(&WorkloadEntry, Method)> = None;
    let mut count = 0;
    for &entry in &subject.workloads {
        let Some(method) = method(subject, entry) else {
            continue;
        };
        let at = entry
            .method
            .as_ref()
            .or(policy.method.as_ref())
            .map_or(entry.name.at, |method| method.at);
        if method == Method::Replication {
            check.find(
                Code::ReplicationIsNoBackup,
                at,
                format!("workload {}", entry.name.value),
                "a replica follows its original, mistakes and deletions included",
                "method = \"image\" or another that keeps recovery points",
            );
        }
        if let (Method::VolumeSnapshot, Some(storage)) = (method, &entry.storage)
            && check.facts.storages_without_snapshots.contains(storage)
        {
            check.find(
                Code::StorageWithoutSnapshots,
                at,
                format!("workload {}", entry.name.value),
                format!("the storage {storage:?} cannot make snapshots"),
                "method = \"files\"",
            );
        }
        if !method.takes_log() && (policy.point_in_time.is_some() || policy.log.is_some()) {
            count += 1;
            without_log.get_or_insert((entry, method));
        }
    }
    let wanted = policy.point_in_time.as_ref().or(policy.log.as_ref());
    if let (Some((entry, method)), Some(wanted)) = (without_log, wanted) {
        check.find(
            Code::NoPointInTime,
            wanted.at,
            format!("policy {}", subject.name),
            format!(
                "{}: no log can be applied to what the method {method} makes, so only its own snapshots can be restored",
                and_more(&entry.name.value, count)
            ),
            "method = \"base-backup\", or leave point-in-time and log out",
        );
    }
    if let (Some(wanted), None) = (policy.point_in_time, policy.log) {
        check.find(
            Code::NoPointInTime,
            wanted.at,
            format!("policy {}", subject.name),
            "points in time need the log between snapshots",
            "log = \"5m\"",
        );
    }
}
