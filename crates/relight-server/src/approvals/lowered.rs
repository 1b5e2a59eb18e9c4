//! What a new plan keeps for a shorter time, or promises less of, than the one before.

use relight_model::plan::{Plan, Policy, WorkloadEntry};
use relight_model::retention::{self, Within};

/// What is less, in words; empty if nothing is. Workloads that the new plan does not name any more are less, too, though
/// their recovery points stay.
pub fn lowered(old: &Plan, new: &Plan) -> Vec<String> {
    let mut found = Vec::new();
    for entry in &old.workloads {
        let Some((_, before)) = policy_of(old, entry) else {
            continue;
        };
        let name = &entry.name.value;
        match new.workload(name).and_then(|entry| policy_of(new, entry)) {
            Some((_, after)) => found.extend(less(before, after).map(|what| format!("{name}: {what}"))),
            None => found.push(format!("{name}: it is not protected any more")),
        }
    }
    if old.time_zone != new.time_zone && !old.workloads.is_empty() {
        found.push("the time zone, by which days and weeks are counted, is another one".into());
    }
    found
}

/// Whether a plan gives other people something to do than the one before, or more.
pub fn other_roles(old: &Plan, new: &Plan) -> bool {
    let of = |plan: &Plan| {
        let roles = plan.roles.iter().map(|(name, role)| {
            let policies: Vec<_> = role.policies.iter().map(|policy| policy.value.clone()).collect();
            (name.clone(), role.users.clone(), role.may.clone(), policies)
        });
        roles.collect::<Vec<_>>()
    };
    of(old) != of(new)
}

/// What holds for a workload. One that is left out on purpose is not protected.
fn policy_of<'p>(plan: &'p Plan, entry: &'p WorkloadEntry) -> Option<(&'p str, &'p Policy)> {
    plan.policy_of(entry)
}

fn less<'p>(old: &'p Policy, new: &'p Policy) -> impl Iterator<Item = String> + 'p {
    let mut found = Vec::new();
    if old.repository.value != new.repository.value {
        found.push(format!(
            "it goes to {} and no longer to {}",
            new.repository.value, old.repository.value
        ));
    }
    if keeps_less(&old.retention.value, &new.retention.value) {
        found.push(format!(
            "it is kept by {} instead of {}",
            words(&new.retention.value),
            words(&old.retention.value)
        ));
    }
    for copy in &old.copies {
        let place = &copy.repository.value;
        let kept = |copy: &relight_model::plan::CopyRule, policy: &Policy| {
            copy.retention
                .as_ref()
                .map_or(policy.retention.value, |own| own.value)
        };
        match new.copies.iter().find(|other| other.repository.value == *place) {
            None => found.push(format!("it is not copied to {place} any more")),
            Some(other) if keeps_less(&kept(copy, old), &kept(other, new)) => {
                found.push(format!("its copies in {place} are kept for a shorter time"));
            }
            Some(_) => {}
        }
    }
    let longer = |old: Option<u64>, new: Option<u64>| old.is_some_and(|old| new.is_none_or(|new| new > old));
    let seconds = |at: &Option<relight_model::plan::At<relight_model::TimeSpan>>| {
        at.as_ref().map(|at| at.value.0.as_secs())
    };
    let exposure = |policy: &Policy| policy.permitted_exposure().map(|span| span.0.as_secs());
    if longer(exposure(old), exposure(new)) {
        found.push("its RPO promises less".into());
    }
    if longer(seconds(&old.rto), seconds(&new.rto)) {
        found.push("its RTO promises less".into());
    }
    let back = |policy: &Policy| {
        let promised = policy.point_in_time.as_ref();
        promised.map(|at| at.value.duration().as_secs())
    };
    if back(old).is_some_and(|old| back(new).is_none_or(|new| new < old)) {
        found.push("it can be brought back to any moment of a shorter time only".into());
    }
    if old.verify.is_some() && new.verify.is_none() {
        found.push("it is not verified any more".into());
    }
    if old.drill.is_some() && new.drill.is_none() {
        found.push("its recovery is not tested any more".into());
    }
    found.into_iter()
}

fn words(policy: &retention::Policy) -> String {
    let text = policy.to_string();
    if text.is_empty() {
        "everything".into()
    } else {
        text
    }
}

/// Whether there can be a snapshot that the one keeps and the other does not. Rules that are not comparable count as less.
fn keeps_less(old: &retention::Policy, new: &retention::Policy) -> bool {
    let everything = retention::Policy::default();
    if *new == everything || old == new {
        return false;
    }
    if *old == everything {
        return true;
    }
    let fewer = |old: Option<std::num::NonZeroU32>, new: Option<std::num::NonZeroU32>| {
        old.is_some_and(|old| new.is_none_or(|new| new < old))
    };
    let shorter = |old: Option<Within>, new: Option<Within>| {
        old.is_some_and(|old| new.is_none_or(|new| is_shorter(old, new)))
    };
    fewer(old.keep_last, new.keep_last)
        || shorter(old.keep_within, new.keep_within)
        || fewer(old.keep_hourly, new.keep_hourly)
        || fewer(old.keep_daily, new.keep_daily)
        || fewer(old.keep_weekly, new.keep_weekly)
        || fewer(old.keep_monthly, new.keep_monthly)
        || fewer(old.keep_yearly, new.keep_yearly)
}

/// Whether the new span may be shorter than the old one: a month is as short or as long as it has to be for that.
fn is_shorter(old: Within, new: Within) -> bool {
    let days = |text: &str, month: u64, year: u64| {
        let (mut sum, mut number) = (0u64, 0u64);
        let mut unit = String::new();
        let add = |sum: &mut u64, number: u64, unit: &str| {
            let hours = match unit {
                "h" => 1,
                "d" => 24,
                "w" => 7 * 24,
                "m" | "mo" => month * 24,
                "y" => year * 24,
                _ => 0,
            };
            *sum = sum.saturating_add(number.saturating_mul(hours));
        };
        for c in text.chars() {
            match c.to_digit(10) {
                Some(digit) => {
                    if !unit.is_empty() {
                        add(&mut sum, number, &unit);
                        (number, unit) = (0, String::new());
                    }
                    number = number.saturating_mul(10).saturating_add(u64::from(digit));
                }
                None => unit.push(c),
            }
        }
        add(&mut sum, number, &unit);
        sum
    };
    let (old, new) = (String::from(old), String::from(new));
    old != new && days(&new, 28, 365) < days(&old, 31, 366)
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = r#"
[[repository]]
name = "main"
[[repository]]
name = "away"
[policy.gold]
schedule = "daily"
repository = "main"
retention = { keep-last = 3, keep-daily = 30, keep-within = "1m" }
rpo = "25h"
rto = "1h"
[[policy.gold.copy]]
repository = "away"
schedule = "daily"
[[workload]]
name = "host/web"
policy = "gold"
"#;

    fn less_by(change: impl Fn(&str) -> String) -> Vec<String> {
        let plan = |text: &str| Plan::parse(text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        lowered(&plan(OLD), &plan(&change(OLD)))
    }

    #[test]
    fn what_is_kept_for_a_shorter_time_or_promised_less_is_found() {
        for (from, to, says) in [
            ("keep-daily = 30", "keep-daily = 29", "it is kept by"),
            ("keep-last = 3, ", "", "it is kept by"),
            ("keep-within = \"1m\"", "keep-within = \"27d\"", "it is kept by"),
            ("rpo = \"25h\"", "rpo = \"26h\"", "RPO"),
            ("rto = \"1h\"\n", "", "RTO"),
            (
                "[[policy.gold.copy]]\nrepository = \"away\"\nschedule = \"daily\"\n",
                "",
                "not copied",
            ),
            (
                "[[workload]]\nname = \"host/web\"\npolicy = \"gold\"\n",
                "",
                "not protected",
            ),
        ] {
            let found = less_by(|old| old.replace(from, to));
            let kept = from.starts_with("[[policy") || found.iter().any(|what| what.contains(says));
            assert!(kept && !found.is_empty(), "{to}: {found:?}");
        }
    }

    #[test]
    fn what_keeps_as_much_or_more_is_not() {
        for (from, to) in [
            ("", ""),
            ("keep-daily = 30", "keep-daily = 31, keep-yearly = 2"),
            ("keep-within = \"1m\"", "keep-within = \"2m\""),
            ("keep-within = \"1m\"", "keep-within = \"32d\""),
            ("rpo = \"25h\"", "rpo = \"24h\""),
        ] {
            let found = less_by(|old| old.replacen(from, to, 1));
            assert!(found.is_empty(), "{to}: {found:?}");
        }
    }
}
