//! What must hold for every policy and every history.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::collections::BTreeSet;
use std::num::NonZeroU32;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan};
use proptest::prelude::*;
use relight_model::retention::{Candidate, Decision, Guards, Plan, Policy, Reason, RuleKind, plan};

const NOW: i64 = 1_800_000_000;

/// Snapshots over about two years, many of them close together, a few protected, damaged or misdated.
fn history() -> impl Strategy<Value = Vec<Candidate<usize>>> {
    let gap = prop_oneof![0..7_200_i64, 0..200_000_i64, 0..3_000_000_i64];
    let one = (
        gap,
        0..2_u64,
        prop::bool::weighted(0.1),
        prop::bool::weighted(0.8),
        prop::bool::weighted(0.03),
    );
    prop::collection::vec(one, 0..60).prop_map(|gaps| {
        let mut time = NOW;
        let mut snapshots = Vec::new();
        for (id, (gap, sequence, protected, good, misdated)) in gaps.into_iter().enumerate() {
            time -= gap;
            let second = if misdated { NOW + 100_000 + gap } else { time };
            let time = Timestamp::from_second(second).unwrap();
            snapshots.push(Candidate {
                id,
                group: "vm/1".to_owned(),
                time,
                sequence,
                protected,
                good,
            });
        }
        snapshots
    })
}

fn policy() -> impl Strategy<Value = Policy> {
    let count = || prop::option::weighted(0.4, (1..6_u32).prop_map(|n| NonZeroU32::new(n).unwrap()));
    let within = prop::option::weighted(
        0.2,
        prop_oneof!["[1-9]h", "[1-9]d", "[1-9]w", "[1-9]m", "1m[1-9]d"],
    );
    (count(), within, count(), count(), count(), count(), count()).prop_map(
        |(keep_last, within, keep_hourly, keep_daily, keep_weekly, keep_monthly, keep_yearly)| Policy {
            keep_last,
            keep_within: within.map(|within| within.parse().unwrap()),
            keep_hourly,
            keep_daily,
            keep_weekly,
            keep_monthly,
            keep_yearly,
        },
    )
}

fn zone() -> impl Strategy<Value = TimeZone> {
    prop::sample::select(vec![
        "UTC",
        "Europe/Berlin",
        "Australia/Lord_Howe",
        "America/St_Johns",
        "Pacific/Apia",
    ])
    .prop_map(|name| TimeZone::get(name).unwrap())
}

fn guards() -> Guards {
    Guards::new(Timestamp::from_second(NOW).unwrap(), None)
}

fn judge(policy: &Policy, zone: &TimeZone, history: &[Candidate<usize>]) -> Plan<usize> {
    plan(policy, zone, &guards(), history.to_vec())
}

fn kept_ids(plan: &Plan<usize>) -> BTreeSet<usize> {
    plan.kept().map(|snapshot| snapshot.id).collect()
}

/// `policy` with one rule more, or with a rule's number raised.
fn widened(policy: &Policy, rule: RuleKind, by: u32) -> Policy {
    let mut wider = *policy;
    let field = match rule {
        RuleKind::KeepLast => &mut wider.keep_last,
        RuleKind::KeepWithin => {
            wider.keep_within = wider.keep_within.or(Some("5w".parse().unwrap()));
            return wider;
        }
        RuleKind::KeepHourly => &mut wider.keep_hourly,
        RuleKind::KeepDaily => &mut wider.keep_daily,
        RuleKind::KeepWeekly => &mut wider.keep_weekly,
        RuleKind::KeepMonthly => &mut wider.keep_monthly,
        RuleKind::KeepYearly => &mut wider.keep_yearly,
    };
    *field = NonZeroU32::new(field.map_or(0, NonZeroU32::get) + by);
    wider
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    #[test]
    fn a_second_run_removes_nothing_more(policy in policy(), zone in zone(), history in history()) {
        let first = judge(&policy, &zone, &history);
        let left: Vec<Candidate<usize>> = first.kept().cloned().collect();
        prop_assert_eq!(kept_ids(&judge(&policy, &zone, &left)), kept_ids(&first));
    }

    #[test]
    fn adding_or_raising_a_rule_never_removes_more(
        policy in policy(),
        rule in prop::sample::select(RuleKind::ALL.to_vec()),
        by in 1..4_u32,
        zone in zone(),
        history in history(),
    ) {
        prop_assume!(!policy.is_empty());
        let narrow = kept_ids(&judge(&policy, &zone, &history));
        let wide = kept_ids(&judge(&widened(&policy, rule, by), &zone, &history));
        prop_assert!(narrow.is_subset(&wide), "lost {:?}", narrow.difference(&wide).collect::<Vec<_>>());
    }

    #[test]
    fn protected_misdated_and_last_good_snapshots_stay(policy in policy(), zone in zone(), history in history()) {
        let kept = kept_ids(&judge(&policy, &zone, &history));
        let limit = guards().now + 5.minutes();
        for snapshot in &history {
            if snapshot.protected || snapshot.time > limit {
                prop_assert!(kept.contains(&snapshot.id));
            }
        }
        let newest_good = history.iter().filter(|s| s.good && s.time <= limit).map(|s| s.time).max();
        if let Some(time) = newest_good {
            prop_assert!(history.iter().any(|s| s.time == time && s.good && kept.contains(&s.id)));
        }
    }

    #[test]
    fn every_rule_reaches_as_many_periods_as_it_promises(policy in policy(), zone in zone(), history in history()) {
        let plan = judge(&policy, &zone, &history);
        for rule in RuleKind::ALL {
            let Some(count) = policy.count(rule) else { continue };
            if rule == RuleKind::KeepLast {
                continue;
            }
            // What the rule would reach with no limit and no other rule.
            let mut alone = Policy::default();
            alone.set(rule, "4294967295").unwrap();
            let all = periods(&judge(&alone, &zone, &history), rule);
            let reached = periods(&plan, rule);
            prop_assert!(reached.len() >= all.len().min(count.get() as usize));
            prop_assert!(all.starts_with(&reached), "the newest periods, without a gap");
        }
    }

    #[test]
    fn the_order_of_the_input_does_not_matter(policy in policy(), zone in zone(), mut history in history()) {
        let mut seen = BTreeSet::new();
        history.retain(|snapshot| seen.insert((snapshot.time, snapshot.sequence)));
        let forward = kept_ids(&judge(&policy, &zone, &history));
        history.reverse();
        prop_assert_eq!(kept_ids(&judge(&policy, &zone, &history)), forward);
    }

    #[test]
    fn the_ends_of_time_are_no_panic(policy in policy(), zone in zone(), now in any::<bool>()) {
        let edge = |time, id| Candidate { id, group: String::new(), time, sequence: 0, protected: false, good: true };
        let now = if now { Timestamp::MAX } else { Timestamp::MIN };
        let guards = Guards::new(now, Some(Timestamp::MIN));
        plan(&policy, &zone, &guards, [edge(Timestamp::MIN, 0), edge(Timestamp::MAX, 1)]);
    }

    #[test]
    fn any_text_is_a_policy_or_an_error(text in "(keep-[a-z]{3,7}=?[0-9a-z]{0,4}[, ]?){0,3}") {
        if let Ok(policy) = text.parse::<Policy>() {
            prop_assert_eq!(policy.to_string().parse::<Policy>(), Ok(policy));
        }
    }
}

/// The periods a rule gives as reasons, newest first.
fn periods(plan: &Plan<usize>, wanted: RuleKind) -> Vec<String> {
    let mut found = Vec::new();
    for judged in plan.groups.iter().flat_map(|group| &group.snapshots) {
        let Decision::Keep { reasons } = &judged.decision else {
            continue;
        };
        for reason in reasons {
            if let Reason::Newest { rule, period } = reason
                && *rule == wanted
            {
                found.push(period.to_string());
            }
        }
    }
    found
}
