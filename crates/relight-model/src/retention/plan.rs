//! The plan: every snapshot with its decision and the reasons, and the alarms that stop its execution.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Serialize;

use super::period::Period;
use super::policy::{Policy, RuleKind};
use super::within::Within;
use crate::duration::TimeSpan;

/// One snapshot as retention sees it. `I` is whatever identifies it to the caller.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Candidate<I> {
    /// The caller's identity of the snapshot.
    pub id: I,
    /// What is judged together: the workload's name.
    pub group: String,
    /// When the repository took the snapshot in. A time that a client claims is no basis for deleting anything.
    pub time: Timestamp,
    /// The order of arrival where it is known; it decides between snapshots of the same time. Zero otherwise.
    pub sequence: u64,
    /// Held by an operator, a legal hold or an object lock.
    pub protected: bool,
    /// Complete, and not known to be damaged.
    pub good: bool,
}

/// What the plan is checked against beside the policy.
#[derive(Clone, Debug)]
pub struct Guards {
    /// The present time, from the caller's clock.
    pub now: Timestamp,
    /// How far after `now` a snapshot may be dated before it counts as misdated.
    pub permitted_skew: SignedDuration,
    /// The last time that is known to have been right: of the last run on record, or of a time server. `None` on a
    /// first run.
    pub last_trusted: Option<Timestamp>,
    /// How far `now` may lie after `last_trusted`. Beyond it the clock is taken to have jumped.
    pub permitted_advance: SignedDuration,
    /// Percentage of the snapshots that may be removed at once without an alarm; 100 never alarms.
    pub permitted_removals_percent: u8,
    /// So few removals never alarm, so that a group of three may lose its oldest.
    pub small_removal: usize,
    /// Also remove the last good snapshot of a workload.
    pub danger_remove_last_good: bool,
}

impl Guards {
    /// The defaults: five minutes of skew, 31 days without a trusted time, an alarm when more than half of the
    /// snapshots and more than ten would go.
    pub fn new(now: Timestamp, last_trusted: Option<Timestamp>) -> Self {
        Self {
            now,
            permitted_skew: SignedDuration::from_mins(5),
            last_trusted,
            permitted_advance: SignedDuration::from_hours(31 * 24),
            permitted_removals_percent: 50,
            small_removal: 10,
            danger_remove_last_good: false,
        }
    }
}

/// Why a snapshot is kept.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "reason", rename_all = "kebab-case")]
pub enum Reason {
    /// There is no rule, so everything is kept.
    NoPolicy,
    /// It is protected.
    Protected,
    /// It is dated in the future; see [`Alarm::Misdated`].
    Misdated,
    /// It is the newest good snapshot of its workload.
    LastGood,
    /// It is one of the newest.
    Last,
    /// It is within this span of the newest.
    Within {
        /// The span.
        span: Within,
    },
    /// It is the newest of a period.
    Newest {
        /// The rule.
        rule: RuleKind,
        /// The period.
        period: Period,
    },
    /// It is the newest good one of a period whose newest is not good.
    NewestGood {
        /// The rule.
        rule: RuleKind,
        /// The period.
        period: Period,
    },
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoPolicy => f.write_str("no policy"),
            Self::Protected => f.write_str("protected"),
            Self::Misdated => f.write_str("dated in the future"),
            Self::LastGood => f.write_str("newest good snapshot"),
            Self::Last => f.write_str("last"),
            Self::Within { span } => write!(f, "within {span}"),
            Self::Newest { rule, period } => write!(f, "{} {period}", short(*rule)),
            Self::NewestGood { rule, period } => write!(f, "{} {period} (newest good)", short(*rule)),
        }
    }
}

/// `daily` for `keep-daily`: in a table of kept snapshots the word "keep" says nothing.
fn short(rule: RuleKind) -> &'static str {
    rule.name().trim_start_matches("keep-")
}

/// What happens to a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "decision", rename_all = "kebab-case")]
pub enum Decision {
    /// It stays, for these reasons; there is at least one.
    Keep {
        /// The reasons, in the order of the rules.
        reasons: Vec<Reason>,
    },
    /// No rule keeps it.
    Remove,
}

/// A snapshot and what happens to it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Judged<I> {
    /// The snapshot.
    #[serde(flatten)]
    pub snapshot: Candidate<I>,
    /// What happens to it.
    #[serde(flatten)]
    pub decision: Decision,
}

impl<I> Judged<I> {
    /// Whether the snapshot stays.
    pub const fn is_kept(&self) -> bool {
        matches!(self.decision, Decision::Keep { .. })
    }
}

/// One workload's snapshots, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct GroupPlan<I> {
    /// The workload's name.
    pub group: String,
    /// Its snapshots.
    pub snapshots: Vec<Judged<I>>,
}

/// Something a person must look at before a plan is executed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "alarm", rename_all = "kebab-case")]
pub enum Alarm {
    /// The clock is further ahead of the last trusted time than is plausible. Every rule that looks back from new
    /// snapshots would then expire real ones.
    ClockAhead {
        /// The clock.
        now: Timestamp,
        /// The last trusted time.
        last_trusted: Timestamp,
        /// How far apart they may be.
        permitted: TimeSpan,
    },
    /// The clock is behind a time already seen.
    ClockBehind {
        /// The clock.
        now: Timestamp,
        /// The last trusted time.
        last_trusted: Timestamp,
    },
    /// Snapshots of a workload are dated in the future. They are kept; someone must find out who dated them.
    Misdated {
        /// The workload.
        group: String,
        /// How many.
        count: usize,
        /// The time furthest ahead.
        latest: Timestamp,
    },
    /// A larger share of a workload's snapshots would go than is usual.
    ManyRemovals {
        /// The workload.
        group: String,
        /// How many would go.
        removed: usize,
        /// How many there are.
        of: usize,
    },
}

impl Alarm {
    /// Whether the plan must not be executed unless the operator confirms it. Misdated snapshots alone do not stop
    /// it: they are left out of the rules, and a forger must not be able to switch retention off.
    pub const fn blocks(&self) -> bool {
        !matches!(self, Self::Misdated { .. })
    }
}

impl fmt::Display for Alarm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClockAhead {
                now,
                last_trusted,
                permitted,
            } => write!(
                f,
                "the clock says {now}, but the last trusted time is {last_trusted}, more than {permitted} before: \
                 check the clock of this machine"
            ),
            Self::ClockBehind { now, last_trusted } => write!(
                f,
                "the clock says {now}, which is before the last trusted time {last_trusted}: check the clock of this \
                 machine"
            ),
            Self::Misdated { group, count, latest } => write!(
                f,
                "{count} snapshots of {group} are dated in the future, up to {latest}: they are kept and not counted; \
                 check the clock of the machine that made them"
            ),
            Self::ManyRemovals { group, removed, of } => {
                write!(
                    f,
                    "{removed} of {of} snapshots of {group} would be removed: check that the policy is meant so"
                )
            }
        }
    }
}

/// What a policy does to a set of snapshots. Nothing is done by making it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Plan<I> {
    /// A plan for each workload, by name.
    pub groups: Vec<GroupPlan<I>>,
    /// What a person must look at.
    pub alarms: Vec<Alarm>,
}

impl<I> Plan<I> {
    /// The snapshots that would be removed, oldest first within a workload, so that an interrupted execution has
    /// removed what was needed least.
    pub fn removed(&self) -> impl Iterator<Item = &Candidate<I>> {
        let judged = self.groups.iter().flat_map(|group| group.snapshots.iter().rev());
        judged
            .filter(|judged| !judged.is_kept())
            .map(|judged| &judged.snapshot)
    }

    /// The snapshots that stay, newest first within a workload.
    pub fn kept(&self) -> impl Iterator<Item = &Candidate<I>> {
        let judged = self.groups.iter().flat_map(|group| group.snapshots.iter());
        judged
            .filter(|judged| judged.is_kept())
            .map(|judged| &judged.snapshot)
    }

    /// Whether an alarm forbids to execute the plan without confirmation. A plan that removes nothing is harmless.
    pub fn is_blocked(&self) -> bool {
        self.alarms.iter().any(Alarm::blocks) && self.removed().next().is_some()
    }
}

/// Judges `snapshots` by `policy`, with calendar periods of `zone`; see the [module](super) for the rules.
pub fn plan<I>(
    policy: &Policy,
    zone: &TimeZone,
    guards: &Guards,
    snapshots: impl IntoIterator<Item = Candidate<I>>,
) -> Plan<I> {
    let mut alarms = clock_alarms(guards);
    let mut by_group: BTreeMap<String, Vec<Candidate<I>>> = BTreeMap::new();
    for snapshot in snapshots {
        by_group.entry(snapshot.group.clone()).or_default().push(snapshot);
    }
    let groups = by_group
        .into_iter()
        .map(|(group, mut snapshots)| {
            // Stable: what has neither time nor sequence to tell it apart stays in the caller's order.
            snapshots.sort_by_key(|snapshot| std::cmp::Reverse((snapshot.time, snapshot.sequence)));
            let reasons = GroupRules {
                policy,
                zone,
                guards,
                snapshots: &snapshots,
            }
            .reasons();
            let judged: Vec<Judged<I>> = snapshots
                .into_iter()
                .zip(reasons)
                .map(|(snapshot, reasons)| {
                    let decision = if reasons.is_empty() {
                        Decision::Remove
                    } else {
                        Decision::Keep { reasons }
                    };
                    Judged { snapshot, decision }
                })
                .collect();
            alarms.extend(group_alarms(&group, &judged, guards));
            GroupPlan {
                group,
                snapshots: judged,
            }
        })
        .collect();
    Plan { groups, alarms }
}

fn clock_alarms(guards: &Guards) -> Vec<Alarm> {
    let (now, Some(last_trusted)) = (guards.now, guards.last_trusted) else {
        return Vec::new();
    };
    let advance = now.duration_since(last_trusted);
    if advance > guards.permitted_advance {
        let permitted = TimeSpan(guards.permitted_advance.try_into().unwrap_or_default());
        vec![Alarm::ClockAhead {
            now,
            last_trusted,
            permitted,
        }]
    } else if advance < -guards.permitted_skew {
        vec![Alarm::ClockBehind { now, last_trusted }]
    } else {
        Vec::new()
    }
}

fn group_alarms<I>(group: &str, judged: &[Judged<I>], guards: &Guards) -> Vec<Alarm> {
    let mut alarms = Vec::new();
    let misdated: Vec<Timestamp> = judged
        .iter()
        .map(|judged| judged.snapshot.time)
        .filter(|&time| is_misdated(time, guards))
        .collect();
    if let Some(&latest) = misdated.first() {
        alarms.push(Alarm::Misdated {
            group: group.to_owned(),
            count: misdated.len(),
            latest,
        });
    }
    let of = judged.len();
    let removed = judged.iter().filter(|judged| !judged.is_kept()).count();
    let many = removed as u128 * 100 > of as u128 * u128::from(guards.permitted_removals_percent);
    if many && removed > guards.small_removal {
        alarms.push(Alarm::ManyRemovals {
            group: group.to_owned(),
            removed,
            of,
        });
    }
    alarms
}

fn is_misdated(time: Timestamp, guards: &Guards) -> bool {
    time.duration_since(guards.now) > guards.permitted_skew
}

/// The rules at work on one workload's snapshots, which are sorted newest first.
struct GroupRules<'a, I> {
    policy: &'a Policy,
    zone: &'a TimeZone,
    guards: &'a Guards,
    snapshots: &'a [Candidate<I>],
}

impl<I> GroupRules<'_, I> {
    /// For each snapshot the reasons to keep it; none means that it goes.
    fn reasons(&self) -> Vec<Vec<Reason>> {
        let mut reasons: Vec<Vec<Reason>> = self.snapshots.iter().map(|_| Vec::new()).collect();
        if self.policy.is_empty() {
            reasons
                .iter_mut()
                .for_each(|reasons| reasons.push(Reason::NoPolicy));
            return reasons;
        }
        let mut counted = Vec::new();
        for (at, snapshot) in self.snapshots.iter().enumerate() {
            if is_misdated(snapshot.time, self.guards) {
                reasons[at].push(Reason::Misdated);
            } else if !snapshot.protected {
                counted.push(at);
            }
            if snapshot.protected {
                reasons[at].push(Reason::Protected);
            }
        }
        for rule in RuleKind::ALL {
            match rule {
                RuleKind::KeepLast => self.keep_last(&counted, &mut reasons),
                RuleKind::KeepWithin => self.keep_within(&counted, &mut reasons),
                _ => self.keep_periods(rule, &counted, &mut reasons),
            }
        }
        if !self.guards.danger_remove_last_good {
            self.keep_last_good(&mut reasons);
        }
        reasons
    }

    fn keep_last(&self, counted: &[usize], reasons: &mut [Vec<Reason>]) {
        let count = self
            .policy
            .keep_last
            .map_or(0, |count| usize::try_from(count.get()).unwrap_or(usize::MAX));
        for &at in counted.iter().take(count) {
            reasons[at].push(Reason::Last);
        }
    }

    fn keep_within(&self, counted: &[usize], reasons: &mut [Vec<Reason>]) {
        let (Some(span), Some(&newest)) = (self.policy.keep_within, counted.first()) else {
            return;
        };
        let oldest_kept = span.oldest_kept(self.snapshots[newest].time, self.zone);
        for &at in counted
            .iter()
            .take_while(|&&at| self.snapshots[at].time >= oldest_kept)
        {
            reasons[at].push(Reason::Within { span });
        }
    }

    fn keep_periods(&self, rule: RuleKind, counted: &[usize], reasons: &mut [Vec<Reason>]) {
        let Some(limit) = self.policy.count(rule) else {
            return;
        };
        let limit = usize::try_from(limit.get()).unwrap_or(usize::MAX);
        let period_of = |at: usize| Period::of(rule, self.snapshots[at].time, self.zone);
        // Earlier rules only: nothing has been kept by this one yet.
        let covered: HashSet<Period> = counted
            .iter()
            .filter(|&&at| !reasons[at].is_empty())
            .filter_map(|&at| period_of(at))
            .collect();
        // Whether a good snapshot of the period has been kept by this rule.
        let mut reached: HashMap<Period, bool> = HashMap::new();
        let mut uncovered = 0;
        for &at in counted {
            let Some(period) = period_of(at) else { continue };
            let good = self.snapshots[at].good;
            if let Some(has_good) = reached.get_mut(&period) {
                if good && !*has_good {
                    *has_good = true;
                    reasons[at].push(Reason::NewestGood { rule, period });
                }
                continue;
            }
            if uncovered == limit {
                // Older snapshots may still be the good ones of a period already reached.
                continue;
            }
            if !covered.contains(&period) {
                uncovered += 1;
            }
            reached.insert(period, good);
            reasons[at].push(Reason::Newest { rule, period });
        }
    }

    /// Keeps the newest good snapshot. Misdated ones are no proof of anything and do not count.
    fn keep_last_good(&self, reasons: &mut [Vec<Reason>]) {
        let last_good = self
            .snapshots
            .iter()
            .position(|snapshot| snapshot.good && !is_misdated(snapshot.time, self.guards));
        if let Some(kept) = last_good.and_then(|at| reasons.get_mut(at))
            && kept.is_empty()
        {
            kept.push(Reason::LastGood);
        }
    }
}
