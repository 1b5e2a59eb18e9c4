//! `/overview`: how everything stands, the worst first, with a row of days for each workload.

use std::collections::BTreeMap;

use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan, Unit, civil};
use relight_model::objective::Verdict;
use relight_model::plan::Plan;
use relight_pbs::service::http::{Answer, ApiError, ApiResult, Call};
use serde::Deserialize;
use serde_json::{Value, json};

use super::operation::{Operation, Place, Table};
use super::sight::Sight;
use super::{Desk, failed, limit, schema};
use crate::evidence::detail::Ended;
use crate::standing::Standing;

/// Days of the matrix, if nothing is said.
const DAYS: u32 = 14;
/// At most.
const MOST_DAYS: u32 = 31;

/// How a workload stands, in a word, the worst first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Health {
    /// The plan says nothing of how it is protected.
    Unprotected,
    /// It was promised that less would be lost, or there is no recovery point at all.
    Exposed,
    /// Recovery was measured, and takes longer than promised.
    TooSlow,
    /// The last backup did not end well, or something about it is suspicious. What was promised holds.
    Failing,
    /// Nothing is wrong, but not all of the promises were ever tested.
    Unproven,
    /// Everything that was promised is proven to be kept.
    Good,
    /// It is meant not to be protected.
    Excluded,
}

impl Health {
    const ALL: [Self; 7] = [
        Self::Unprotected,
        Self::Exposed,
        Self::TooSlow,
        Self::Failing,
        Self::Unproven,
        Self::Good,
        Self::Excluded,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Unprotected => "unprotected",
            Self::Exposed => "exposed",
            Self::TooSlow => "too-slow",
            Self::Failing => "failing",
            Self::Unproven => "unproven",
            Self::Good => "good",
            Self::Excluded => "excluded",
        }
    }

    pub fn of(standing: &Standing) -> Self {
        let (Some(rpo), Some(rto)) = (&standing.rpo, &standing.rto) else {
            return match &standing.excluded {
                Some(excluded) if !excluded.expired => Self::Excluded,
                _ => Self::Unprotected,
            };
        };
        match (&rpo.verdict, &rto.verdict) {
            _ if standing.newest.is_none() => Self::Exposed,
            (Verdict::Missed { .. } | Verdict::NotMeasured, _) => Self::Exposed,
            (_, Verdict::Missed { .. }) => Self::TooSlow,
            _ if standing.failures > 0 || !standing.changes.is_empty() => Self::Failing,
            _ if standing.log.as_ref().is_some_and(|log| !log.alarms.is_empty()) => Self::Failing,
            (_, Verdict::NotMeasured) => Self::Unproven,
            _ => Self::Good,
        }
    }
}

pub(super) fn operations(table: &mut Table<'_>) {
    let names = Health::ALL.map(Health::name);
    let row = schema::object(vec![
        ("health", schema::one_of(&names)),
        ("days", schema::text()),
        ("standing", schema::standing()),
    ]);
    let shape = schema::object(vec![
        ("now", schema::time()),
        ("time-zone", schema::maybe(schema::text())),
        ("first-day", json!({"type": "string", "format": "date"})),
        (
            "health",
            json!({"type": "object", "additionalProperties": schema::count()}),
        ),
        ("running", schema::count()),
        ("total", schema::count()),
        ("workloads", schema::list(row)),
    ]);
    let overview = Operation::get(
        "/api/v1/overview",
        "How everything stands, the worst first. `days` has a letter for each day from `first-day` to today: g all backups \
         were good, m some were, i incomplete, f failed, x cancelled or interrupted, r one runs, - none",
        shape,
    )
    .paged("from", "workloads from this one on, the first being 0")
    .with(
        "days",
        Place::Query,
        json!({"type": "integer", "minimum": 1, "maximum": MOST_DAYS, "default": DAYS}),
        "so many days",
    )
    .with("health", Place::Query, schema::one_of(&names), "only those that stand so")
    .with("search", Place::Query, schema::text(), "only those whose name or policy contains this");
    table.add(overview, overview_of);
}

#[derive(Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
struct Wanted {
    limit: Option<u32>,
    from: Option<u64>,
    days: Option<u32>,
    health: Option<String>,
    search: Option<String>,
}

/// How the workloads stand that a caller may see, in the order of the plan.
pub(super) fn standings(desk: &Desk, call: &Call, now: Timestamp) -> ApiResult<Vec<Standing>> {
    let planned = desk.board.planned();
    let sight = Sight::new(call, &planned.plan);
    let all = desk.standings(&planned.plan, now)?;
    let mut seen = Vec::with_capacity(all.len());
    for standing in all {
        if sight.workload(&standing.workload)? {
            seen.push(standing);
        }
    }
    Ok(seen)
}

fn overview_of(desk: &Desk, call: &Call, wanted: Wanted) -> ApiResult<Answer> {
    let limit = limit(wanted.limit)?;
    let days = wanted.days.unwrap_or(DAYS);
    if !(1..=MOST_DAYS).contains(&days) {
        return Err(ApiError::bad_request(format!(
            "days = {days}: ask for 1 to {MOST_DAYS}"
        )));
    }
    let only = match &wanted.health {
        None => None,
        Some(name) => Some(
            Health::ALL
                .into_iter()
                .find(|health| health.name() == name)
                .ok_or_else(|| ApiError::bad_request(format!("health = {name:?}: there is no such word")))?,
        ),
    };
    let now = Timestamp::now();
    let planned = desk.board.planned();
    let mut rows: Vec<(Health, Standing)> = standings(desk, call, now)?
        .into_iter()
        .map(|standing| (Health::of(&standing), standing))
        .collect();
    let mut counts: BTreeMap<&str, u64> = Health::ALL.map(|health| (health.name(), 0)).into();
    for (health, _) in &rows {
        *counts.entry(health.name()).or_default() += 1;
    }
    let running = rows
        .iter()
        .filter(|(_, standing)| standing.running.is_some())
        .count();
    let search = wanted.search.unwrap_or_default().to_lowercase();
    rows.retain(|(health, standing)| {
        let named = |text: &str| text.to_lowercase().contains(&search);
        only.is_none_or(|only| only == *health)
            && (named(standing.workload.as_str()) || standing.policy.as_deref().is_some_and(named))
    });
    rows.sort_by(|(a, one), (b, other)| (a, &one.workload).cmp(&(b, &other.workload)));
    let total = rows.len();
    let from = usize::try_from(wanted.from.unwrap_or(0)).unwrap_or(usize::MAX);
    let page: Vec<&(Health, Standing)> = rows.iter().skip(from).take(limit).collect();
    let calendar = Calendar::back(days, now, &planned.plan)?;
    let names = page.iter().map(|(_, standing)| standing.workload.as_str());
    let cells = desk
        .gate
        .state()
        .backups_since(calendar.begins, names)
        .map_err(failed)?;
    let workloads: Vec<Value> = page
        .iter()
        .map(|(health, standing)| {
            let ended = cells
                .get(standing.workload.as_str())
                .map_or(&[][..], Vec::as_slice);
            json!({"health": health, "days": calendar.row(ended), "standing": brief(standing)})
        })
        .collect();
    let next = from.saturating_add(page.len());
    let data = json!({
        "now": now,
        "time-zone": planned.plan.time_zone.iana_name(),
        "first-day": calendar.first,
        "health": counts,
        "running": running,
        "total": total,
        "workloads": workloads,
    });
    Ok(Answer::data(data)?.with("next", (next < total && !page.is_empty()).then_some(next)))
}

/// How a workload stands, without the rows of its last runs: a list of many is sent.
fn brief(standing: &Standing) -> Value {
    let mut value = serde_json::to_value(standing).unwrap_or_default();
    if let Some(fields) = value.as_object_mut() {
        for field in ["last-verification", "last-drill-run", "copies"] {
            fields.remove(field);
        }
        if let Some(last) = fields.get_mut("last-backup").and_then(Value::as_object_mut) {
            last.retain(|name, _| ["number", "outcome", "started", "code"].contains(&name.as_str()));
        }
    }
    value
}

/// The days of the matrix, in the time zone of the plan.
pub(super) struct Calendar {
    first: civil::Date,
    days: usize,
    begins: Timestamp,
    zone: TimeZone,
}

impl Calendar {
    fn back(days: u32, now: Timestamp, plan: &Plan) -> ApiResult<Self> {
        let zone = plan.time_zone.clone();
        let today = now.to_zoned(zone.clone()).date();
        let wrong = |error: jiff::Error| ApiError::internal(format!("the days before {today}: {error}"));
        let first = today.checked_sub((i64::from(days) - 1).days()).map_err(wrong)?;
        let begins = first.to_zoned(zone.clone()).map_err(wrong)?.timestamp();
        Ok(Self {
            first,
            days: days as usize,
            begins,
            zone,
        })
    }

    /// A letter for each day, of backups in their order: when each was started and how it ended.
    fn row(&self, backups: &[(Timestamp, Option<Ended>)]) -> String {
        let mut days: Vec<Vec<Option<Ended>>> = vec![Vec::new(); self.days];
        for (started, outcome) in backups {
            let day = started.to_zoned(self.zone.clone()).date();
            let at = self
                .first
                .until((Unit::Day, day))
                .ok()
                .and_then(|span| usize::try_from(span.get_days()).ok());
            if let Some(day) = at.and_then(|at| days.get_mut(at)) {
                day.push(*outcome);
            }
        }
        days.iter().map(|day| letter(day)).collect()
    }
}

fn letter(backups: &[Option<Ended>]) -> char {
    let has = |wanted: Option<Ended>| backups.contains(&wanted);
    let bad = has(Some(Ended::Failed)) || has(Some(Ended::Incomplete));
    match (backups.is_empty(), has(Some(Ended::Good)), bad) {
        (true, ..) => '-',
        _ if has(None) => 'r',
        (_, true, true) => 'm',
        (_, true, false) => 'g',
        _ if has(Some(Ended::Incomplete)) => 'i',
        (_, _, true) => 'f',
        _ => 'x',
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_a_letter() {
        use Ended::{Cancelled, Failed, Good, Incomplete, Interrupted};
        for (backups, expected) in [
            (&[][..], '-'),
            (&[Some(Good), Some(Interrupted)], 'g'),
            (&[Some(Failed), Some(Good)], 'm'),
            (&[Some(Failed), Some(Incomplete)], 'i'),
            (&[Some(Failed), Some(Cancelled)], 'f'),
            (&[Some(Cancelled)], 'x'),
            (&[Some(Failed), None], 'r'),
        ] {
            assert_eq!(letter(backups), expected, "{backups:?}");
        }
    }

    #[test]
    fn days_are_those_of_the_plans_time_zone() {
        let plan = Plan::parse("[plan]\ntime-zone = 'Europe/Berlin'\n").unwrap();
        let at = |text: &str| text.parse::<Timestamp>().unwrap();
        let calendar = Calendar::back(3, at("2026-10-25T22:30:00Z"), &plan).unwrap();
        let good = |text| (at(text), Some(Ended::Good));
        // The night in which clocks are set back, and one that is tomorrow already there.
        let row = calendar.row(&[
            good("2026-10-22T21:59:00Z"),
            good("2026-10-23T22:30:00Z"),
            good("2026-10-25T22:59:00Z"),
            good("2026-10-25T23:01:00Z"),
        ]);
        assert_eq!(
            (calendar.first.to_string(), row),
            ("2026-10-23".into(), "-gg".into())
        );
    }
}
