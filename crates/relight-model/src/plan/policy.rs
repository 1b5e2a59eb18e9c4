//! `[policy.NAME]`: what is promised for workloads.

use serde::Serialize;

use super::names::{Method, PickRule};
use super::section::Section;
use super::source::{At, Position, Source};
use crate::calendar::Event;
use crate::duration::TimeSpan;
use crate::retention;

/// What is promised for workloads, and how it is to be kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct Policy {
    /// Where its name stands.
    #[serde(skip)]
    pub at: Position,
    /// When workloads are backed up.
    pub schedule: At<Event>,
    /// Backups are not started by the server: clients make them, by the schedule, and send them (Proxmox VE, for instance).
    pub pushed: bool,
    /// The window in which runs may start. None: at any time.
    pub window: Option<At<String>>,
    /// The runs of the policy's workloads begin spread evenly over this time after the schedule, each workload always
    /// at its place.
    pub stagger: TimeSpan,
    /// Each run begins up to so much later, by chance; the same run always by the same.
    pub jitter: TimeSpan,
    /// Higher starts first.
    pub priority: u32,
    /// How workloads are captured, where they say nothing else.
    pub method: Option<At<Method>>,
    /// How old the newest received piece of the log may become. None: there is no log.
    pub log: Option<At<TimeSpan>>,
    /// How far back any point in time can be restored.
    pub point_in_time: Option<At<TimeSpan>>,
    /// The repository.
    pub repository: At<String>,
    /// Which snapshots are kept.
    pub retention: At<retention::Policy>,
    /// Copies in other repositories.
    pub copies: Vec<CopyRule>,
    /// At most so much of the newest data may be lost.
    pub rpo: Option<At<TimeSpan>>,
    /// So much is added to the RPO before it counts as broken: a point is only there when its run has ended.
    pub rpo_tolerance: TimeSpan,
    /// A workload is back after at most so long.
    pub rto: Option<At<TimeSpan>>,
    /// When snapshots are verified.
    pub verify: Option<At<Event>>,
    /// How recovery is tested.
    pub drill: Option<DrillRule>,
    /// How often a failed run is tried again.
    pub retries: u32,
    /// After how long; doubled each time, up to [`Policy::MAX_BACKOFF`].
    pub retry_after: TimeSpan,
    /// Whether a run that was missed is made up for, once.
    pub catch_up: bool,
}

/// A copy in another repository.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct CopyRule {
    /// Where it stands.
    #[serde(skip)]
    pub at: Position,
    /// The other repository.
    pub repository: At<String>,
    /// When it is brought up to date.
    pub schedule: At<Event>,
    /// Which snapshots are kept there. None: as in the first repository.
    pub retention: Option<At<retention::Policy>>,
}

/// How recovery is tested.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub struct DrillRule {
    /// When, for each workload.
    pub schedule: At<Event>,
    /// Which recovery point.
    pub pick: PickRule,
    /// The machine on which it runs.
    pub host: Option<String>,
}

impl Policy {
    /// No retry waits longer.
    pub const MAX_BACKOFF: TimeSpan = TimeSpan::from_secs(6 * 3600);

    /// The longest exposure that still keeps the RPO.
    pub fn permitted_exposure(&self) -> Option<TimeSpan> {
        let rpo = self.rpo.as_ref()?;
        Some(TimeSpan(rpo.value.0.saturating_add(self.rpo_tolerance.0)))
    }

    pub(super) fn read(source: &mut Source<'_>, mut section: Section<'_, '_>, at: Position) -> Option<Self> {
        let s = &mut section;
        let schedule = s.required(source, "schedule", "\"02:00\"");
        let span = |s: &mut Section<'_, '_>, source: &mut Source<'_>, key| s.text::<TimeSpan>(source, key);
        let pushed = s.flag(source, "pushed").unwrap_or(false);
        let window = s.text(source, "window");
        let stagger = span(s, source, "stagger").map_or(TimeSpan::default(), |at| at.value);
        let jitter = span(s, source, "jitter").map_or(TimeSpan::default(), |at| at.value);
        let priority = s.number(source, "priority").map_or(50, |at| at.value);
        let method = s.text(source, "method");
        let log = span(s, source, "log");
        let point_in_time = span(s, source, "point-in-time");
        let repository = s.required(source, "repository", "\"main\"");
        let retention = read_retention(source, s);
        if retention.is_none() && s.node("retention").is_none() {
            source.refuse(
                section.at,
                format!(
                    "{} lacks retention: write for instance retention = {{ keep-daily = 7, keep-weekly = 4 }}",
                    section.name
                ),
            );
        }
        let s = &mut section;
        let copies = s.sections(source, "copy");
        let copies = copies
            .into_iter()
            .filter_map(|copy| read_copy(source, copy))
            .collect();
        let rpo = span(s, source, "rpo");
        let rpo_tolerance = span(s, source, "rpo-tolerance").map_or(TimeSpan::default(), |at| at.value);
        let rto = span(s, source, "rto");
        let verify = s.text(source, "verify");
        let drill = read_drill(source, s);
        let retries = s.number(source, "retries").map_or(3, |at| at.value);
        let retry_after = span(s, source, "retry-after").map_or(TimeSpan::from_secs(300), |at| at.value);
        let catch_up = s.flag(source, "catch-up").unwrap_or(true);
        section.finish(source);
        Some(Self {
            at,
            schedule: schedule?,
            pushed,
            window,
            stagger,
            jitter,
            priority,
            method,
            log,
            point_in_time,
            repository: repository?,
            retention: retention?,
            copies,
            rpo,
            rpo_tolerance,
            rto,
            verify,
            drill,
            retries,
            retry_after,
            catch_up,
        })
    }
}

fn read_copy(source: &mut Source<'_>, mut section: Section<'_, '_>) -> Option<CopyRule> {
    let at = section.at;
    let repository = section.required(source, "repository", "\"offsite\"");
    let schedule = section.required(source, "schedule", "\"daily\"");
    let retention = read_retention(source, &mut section);
    section.finish(source);
    Some(CopyRule {
        at,
        repository: repository?,
        schedule: schedule?,
        retention,
    })
}

/// `drill = "quarterly"`, or a table.
fn read_drill(source: &mut Source<'_>, section: &mut Section<'_, '_>) -> Option<DrillRule> {
    let name = section.inner("drill");
    let node = section.node("drill")?;
    if node.get_ref().is_str() {
        return Some(DrillRule {
            schedule: section.text(source, "drill")?,
            pick: PickRule::Latest,
            host: None,
        });
    }
    let mut table = Section::of(source, name, node)?;
    let schedule = table.required(source, "schedule", "\"quarterly\"");
    let pick = table.text(source, "pick").map_or(PickRule::Latest, |at| at.value);
    let host = table.text::<String>(source, "host").map(|at| at.value);
    table.finish(source);
    Some(DrillRule {
        schedule: schedule?,
        pick,
        host,
    })
}

/// `retention = { keep-daily = 7, keep-within = "14d" }`.
fn read_retention(source: &mut Source<'_>, section: &mut Section<'_, '_>) -> Option<At<retention::Policy>> {
    let name = section.inner("retention");
    let node = section.node("retention")?;
    let mut table = Section::of(source, name, node)?;
    let at = table.at;
    let mut policy = retention::Policy::default();
    let mut failed = false;
    for rule in retention::RuleKind::ALL {
        let word = rule.name();
        let value = match rule {
            retention::RuleKind::KeepWithin => table.text::<String>(source, word),
            _ => table.read(source, word, |value| {
                super::section::whole_number(value, 1).map(|number| number.to_string())
            }),
        };
        if let Some(value) = value
            && let Err(why) = policy.set(rule, &value.value)
        {
            source.refuse(value.at, why.to_string());
            failed = true;
        }
    }
    if policy.is_empty() && !failed && table.entries().next().is_none() {
        source.refuse(
            at,
            "the retention is empty: name at least one rule, such as keep-daily = 7",
        );
    }
    table.finish(source);
    (!policy.is_empty()).then_some(At { value: policy, at })
}
