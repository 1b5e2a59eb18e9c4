//! Everything there is to know, as metrics. Labels are names of the plan and of kinds of things, nothing else: their number
//! is that of the workloads, whatever happens.

use std::collections::BTreeMap;

use jiff::Timestamp;
use relight_model::objective::{Judgement, Verdict};
use relight_model::plan::Plan;
use relight_model::schedule::{JobId, RunKind};

use super::exposition::{Family, Text, Value};
use super::growth::Growth;
use super::notifier::Sent;
use crate::evidence::detail::Ended;
use crate::runs::Shown;
use crate::standing::{History, Standing};

/// What metrics are made of.
pub struct Metrics<'s> {
    /// The plan.
    pub plan: &'s Plan,
    /// What has happened.
    pub history: &'s History,
    /// What the scheduler decided last.
    pub shown: &'s Shown,
    /// How repositories grow, by name.
    pub growth: &'s BTreeMap<String, Growth>,
    /// How letters went out, by route.
    pub sent: &'s BTreeMap<String, Sent>,
    /// When the server was started.
    pub started: Timestamp,
    /// Now.
    pub now: Timestamp,
}

impl Metrics<'_> {
    /// All of them, in the text format.
    pub fn text(&self) -> String {
        let standings = self.history.standings(self.plan, self.now);
        let mut text = Text::default();
        server(&mut text, self);
        coverage(&mut text, &standings);
        promises(&mut text, &standings);
        logs(&mut text, &standings);
        backups(&mut text, &standings);
        proofs(&mut text, &standings);
        runs(&mut text, self);
        repositories(&mut text, self);
        letters(&mut text, self);
        text.finish()
    }
}

fn server(text: &mut Text, seen: &Metrics<'_>) {
    text.gauge("relight_info", "The version that runs.")
        .add(&[("version", env!("CARGO_PKG_VERSION"))], Some(1_u64));
    text.gauge(
        "relight_started_timestamp_seconds",
        "When the server was started.",
    )
    .add(&[], Some(seen.started));
    text.gauge(
        "relight_clock_trusted",
        "0: the clock jumped or is implausible, and nothing is forgotten or collected.",
    )
    .add(&[], Some(seen.shown.clock.is_none()));
}

fn coverage(text: &mut Text, standings: &[Standing]) {
    let count = |of: &dyn Fn(&Standing) -> bool| Some(standings.iter().filter(|one| of(one)).count());
    let expired = |one: &Standing| one.excluded.as_ref().is_some_and(|excluded| excluded.expired);
    let mut family = text.gauge(
        "relight_workloads",
        "Workloads of the plan, by whether they are protected.",
    );
    family.add(&[("coverage", "protected")], count(&|one| one.policy.is_some()));
    family.add(
        &[("coverage", "excluded")],
        count(&|one| one.policy.is_none() && one.excluded.is_some() && !expired(one)),
    );
    family.add(&[("coverage", "exclusion-expired")], count(&expired));
    family.add(
        &[("coverage", "unprotected")],
        count(&|one| one.policy.is_none() && one.excluded.is_none()),
    );
    text.gauge(
        "relight_workloads_without_recovery_point",
        "Protected workloads that have no good recovery point.",
    )
    .add(&[], count(&|one| one.policy.is_some() && one.newest.is_none()));
    let mut family = text.gauge("relight_objectives", "Workloads by objective and verdict.");
    for (objective, of) in [
        (
            "rpo",
            (|one| one.rpo.as_ref()) as fn(&Standing) -> Option<&Judgement>,
        ),
        ("rto", |one| one.rto.as_ref()),
    ] {
        for name in ["met", "missed", "not-measured", "not-promised"] {
            let labels = [("objective", objective), ("verdict", name)];
            family.add(
                &labels,
                count(&|one| of(one).is_some_and(|judged| verdict(judged) == name)),
            );
        }
    }
}

fn verdict(judgement: &Judgement) -> &'static str {
    match judgement.verdict {
        Verdict::Met { .. } => "met",
        Verdict::Missed { .. } => "missed",
        Verdict::NotMeasured => "not-measured",
        Verdict::NotPromised => "not-promised",
    }
}

/// Adds a sample of each protected workload that has a value.
fn each<V: Value>(mut family: Family<'_>, standings: &[Standing], value: impl Fn(&Standing) -> Option<V>) {
    for one in standings {
        if let Some(policy) = &one.policy {
            let labels = [("workload", one.workload.as_str()), ("policy", policy.as_str())];
            family.add(&labels, value(one));
        }
    }
}

/// 1: kept; 0: broken, or not measured; nothing where nothing is promised.
fn met(judgement: Option<&Judgement>) -> Option<bool> {
    let judgement = judgement?;
    (judgement.verdict != Verdict::NotPromised).then(|| judgement.verdict.is_met())
}

fn promises(text: &mut Text, standings: &[Standing]) {
    let family = text.gauge(
        "relight_workload_rpo_met",
        "1: the RPO is kept. 0: it is broken, or there is no recovery point.",
    );
    each(family, standings, |one| met(one.rpo.as_ref()));
    let family = text.gauge(
        "relight_workload_rpo_promised_seconds",
        "The RPO with its tolerance.",
    );
    each(family, standings, |one| one.rpo.as_ref()?.objective.promised);
    let family = text.gauge(
        "relight_workload_rpo_exposure_seconds",
        "What would be lost now: the age of the newest recovery point.",
    );
    each(family, standings, |one| one.rpo.as_ref()?.objective.measured);
    let family = text.gauge(
        "relight_workload_rpo_breaks_timestamp_seconds",
        "When the RPO is broken unless there is a new point until then.",
    );
    each(family, standings, |one| one.rpo.as_ref()?.breaks_at);
    let family = text.gauge(
        "relight_workload_rto_met",
        "1: drills show that the RTO can be kept. 0: they show that it cannot, or there were none.",
    );
    each(family, standings, |one| met(one.rto.as_ref()));
    let family = text.gauge("relight_workload_rto_promised_seconds", "The RTO.");
    each(family, standings, |one| one.rto.as_ref()?.objective.promised);
    let family = text.gauge(
        "relight_workload_rto_expected_seconds",
        "How long a recovery is expected to take, by measured drills.",
    );
    each(family, standings, |one| one.rto.as_ref()?.objective.measured);
}

fn logs(text: &mut Text, standings: &[Standing]) {
    let family = text.gauge(
        "relight_workload_log_reaches_timestamp_seconds",
        "Up to when nothing is missing of what its log makes recoverable.",
    );
    each(family, standings, |one| one.log.as_ref()?.reaches);
    let family = text.gauge(
        "relight_workload_log_since_timestamp_seconds",
        "The first moment that can be recovered with its log.",
    );
    each(family, standings, |one| one.log.as_ref()?.since);
    let family = text.gauge(
        "relight_workload_log_gaps",
        "Gaps in what its log makes recoverable.",
    );
    each(family, standings, |one| Some(one.log.as_ref()?.gaps));
    let family = text.gauge(
        "relight_workload_log_kept_bytes",
        "What its source keeps of the log because it is not in the repository yet.",
    );
    each(family, standings, |one| one.log.as_ref()?.kept);
    let family = text.gauge(
        "relight_workload_log_alarms",
        "What is wrong with its log or with receiving it.",
    );
    each(family, standings, |one| Some(one.log.as_ref()?.alarms.len()));
}

fn backups(text: &mut Text, standings: &[Standing]) {
    let family = text.gauge(
        "relight_workload_recovery_point_timestamp_seconds",
        "When the newest good recovery point was captured.",
    );
    each(family, standings, |one| Some(one.newest.as_ref()?.time));
    let family = text.gauge(
        "relight_workload_next_timestamp_seconds",
        "When the next backup is due, or expected.",
    );
    each(family, standings, |one| one.next);
    let family = text.gauge(
        "relight_workload_failures",
        "Backups one after the other that did not end well, up to now.",
    );
    each(family, standings, |one| Some(one.failures));
    let family = text.gauge(
        "relight_workload_last_backup_timestamp_seconds",
        "When the last backup ended, whatever came of it.",
    );
    each(family, standings, |one| one.last_backup.as_ref()?.ended);
    let family = text.gauge(
        "relight_workload_last_backup_good",
        "1: the last backup that ended ended well.",
    );
    each(family, standings, |one| {
        Some(one.last_backup.as_ref()?.outcome == Some(Ended::Good))
    });
    let family = text.gauge(
        "relight_workload_backup_duration_seconds",
        "How long the newest good backup took.",
    );
    each(family, standings, |one| Some(one.newest.as_ref()?.took));
    let family = text.gauge(
        "relight_workload_backup_size_bytes",
        "How large the newest good backup is.",
    );
    each(family, standings, |one| one.newest.as_ref()?.size);
    let family = text.gauge(
        "relight_workload_backup_new_bytes",
        "How much of the newest good backup was new.",
    );
    each(family, standings, |one| one.newest.as_ref()?.added);
    let mut family = text.gauge(
        "relight_workload_sudden_change",
        "1: the newest good backup is suddenly different in this respect from those of the last weeks.",
    );
    for one in standings {
        let policy = one.policy.as_deref().unwrap_or_default();
        for change in &one.changes {
            let labels = [
                ("workload", one.workload.as_str()),
                ("policy", policy),
                ("what", change.what.name()),
            ];
            family.add(&labels, Some(1_u64));
        }
    }
    let mut family = text.gauge(
        "relight_workload_copy_timestamp_seconds",
        "What was there at this time is in the other repository, too.",
    );
    for one in standings {
        let policy = one.policy.as_deref().unwrap_or_default();
        for copy in &one.copies {
            let labels = [
                ("workload", one.workload.as_str()),
                ("policy", policy),
                ("repository", copy.repository.as_str()),
            ];
            family.add(&labels, copy.good);
        }
    }
}

fn proofs(text: &mut Text, standings: &[Standing]) {
    let family = text.gauge(
        "relight_workload_verified_timestamp_seconds",
        "When a verification last found everything whole.",
    );
    each(family, standings, |one| one.verified);
    let family = text.gauge(
        "relight_workload_last_verification_good",
        "1: the last verification that ended found everything whole.",
    );
    each(family, standings, |one| {
        Some(one.last_verification.as_ref()?.outcome == Some(Ended::Good))
    });
    let family = text.gauge(
        "relight_workload_proven_timestamp_seconds",
        "When a drill last showed that it comes back.",
    );
    each(family, standings, |one| one.proven);
    let family = text.gauge(
        "relight_workload_last_drill_good",
        "1: in the last drill it came back and was seen to work.",
    );
    each(family, standings, |one| {
        let (run, shown) = (one.last_drill_run.as_ref(), one.last_drill.as_ref());
        // A drill that failed before anything was restored has shown nothing, and failed all the same.
        let fruitless = run.is_some_and(|run| {
            run.outcome == Some(Ended::Failed) && shown.is_none_or(|shown| shown.requested < run.started)
        });
        if fruitless {
            Some(false)
        } else {
            shown.map(|drill| drill.good)
        }
    });
    let family = text.gauge(
        "relight_workload_drill_duration_seconds",
        "How long the last drill took, from the request until it was seen to work.",
    );
    each(family, standings, |one| one.last_drill.as_ref()?.measured);
}

fn letters(text: &mut Text, seen: &Metrics<'_>) {
    let mut family = text.counter(
        "relight_letters_total",
        "Notifications since the server was started. What could not be sent is tried again.",
    );
    for route in &seen.plan.routes {
        let sent = seen.sent.get(&route.name.value).copied().unwrap_or_default();
        family.add(
            &[("route", &route.name.value), ("outcome", "sent")],
            Some(sent.good),
        );
        family.add(
            &[("route", &route.name.value), ("outcome", "failed")],
            Some(sent.failed),
        );
    }
}

fn runs(text: &mut Text, seen: &Metrics<'_>) {
    let mut family = text.counter(
        "relight_runs_ended_total",
        "Runs that have ended since the server was started.",
    );
    for kind in RunKind::ALL {
        for ended in Ended::ALL {
            let count = seen.history.ended().get(&(kind, ended)).copied().unwrap_or(0);
            family.add(&[("kind", kind.name()), ("outcome", ended.name())], Some(count));
        }
    }
    let mut family = text.gauge("relight_runs_running", "Runs that run.");
    for kind in RunKind::ALL {
        let running = seen.history.running().values().filter(|job| job.kind() == kind);
        family.add(&[("kind", kind.name())], Some(running.count()));
    }
    let mut family = text.gauge("relight_runs_waiting", "Runs that are due and wait.");
    for kind in RunKind::ALL {
        let waiting = seen.shown.waiting.iter().filter(|one| one.job.kind() == kind);
        family.add(&[("kind", kind.name())], Some(waiting.count()));
    }
    let oldest = seen.shown.waiting.iter().map(|one| one.due).min();
    text.gauge(
        "relight_runs_waiting_since_timestamp_seconds",
        "When the run that waits longest was due.",
    )
    .add(&[], oldest);
}

fn repositories(text: &mut Text, seen: &Metrics<'_>) {
    let mut each = |name, help, value: &dyn Fn(&Growth) -> Option<f64>| {
        let mut family = text.gauge(name, help);
        for (name, growth) in seen.growth {
            family.add(&[("repository", name)], value(growth));
        }
    };
    each(
        "relight_repository_used_bytes",
        "What is used of the repository's storage.",
        &|growth| Some(growth.now.used.number()),
    );
    each(
        "relight_repository_available_bytes",
        "What is free on it.",
        &|growth| Some(growth.now.available.number()),
    );
    each(
        "relight_repository_growth_bytes_per_second",
        "How fast it has grown over the last four weeks.",
        &|growth| growth.rate,
    );
    each(
        "relight_repository_full_timestamp_seconds",
        "When it is full if it goes on so; none if that is years away.",
        &|growth| growth.full.map(|full| full.number()),
    );
    let mut family = text.gauge(
        "relight_repository_care_timestamp_seconds",
        "When what is done in a repository by the plan last ended well.",
    );
    for name in seen.plan.repositories.keys() {
        for job in [JobId::forget(name), JobId::collect(name)] {
            let good = seen.history.past(&job).and_then(|past| past.good.as_ref()?.ended);
            family.add(&[("repository", name), ("kind", job.kind().name())], good);
        }
    }
    let mut family = text.gauge(
        "relight_key_tested_timestamp_seconds",
        "When a key of the repository was last tested (`relight key test`).",
    );
    for (name, time) in seen.history.keys_tested() {
        if seen.plan.repositories.contains_key(name) {
            family.add(&[("repository", name)], Some(*time));
        }
    }
    let exercise = seen.history.past(&JobId::exercise());
    text.gauge(
        "relight_exercise_timestamp_seconds",
        "When the recovery of everything was last tested with success.",
    )
    .add(&[], exercise.and_then(|past| past.good.as_ref()?.ended));
    text.gauge("relight_exercise_good", "1: the last such test went well.")
        .add(
            &[],
            exercise.and_then(|past| Some(past.last.as_ref()?.outcome == Some(Ended::Good))),
        );
}
