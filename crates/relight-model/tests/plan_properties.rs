//! No plan, however odd, brings reader, checker or scheduler down.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use relight_model::check::{Facts, RepositoryFacts, check};
use relight_model::plan::Plan;
use relight_model::schedule::{Clock, Outcome, Schedule, State};
use relight_model::{ByteSize, Rate};

const LAB: &str = include_str!("../../../dist/plan.toml");

/// Values from the edges of what may be written.
const EDGES: [&str; 24] = [
    "\"0\"",
    "\"1 ms\"",
    "\"10000 d\"",
    "\"3650000 d\"",
    "\"16 EiB\"",
    "\"1 B/s\"",
    "\"0 B/s\"",
    "0",
    "1",
    "1000000",
    "-1",
    "\"\"",
    "\"*:*:*\"",
    "\"9999-12-31\"",
    "\"1970-1-1\"",
    "\"*-2-29\"",
    "\"minutely\"",
    "\"9998..9999-*-* *:00\"",
    "{ keep-last = 1000000 }",
    "{ keep-within = \"9999y\" }",
    "{ keep-yearly = 1000000 }",
    "[]",
    "true",
    "\"Pacific/Apia\"",
];

proptest! {
    #![proptest_config(ProptestConfig::with_cases(192))]

    #[test]
    fn odd_values_are_refused_or_borne(
        changes in proptest::collection::vec((0..200_usize, 0..EDGES.len()), 1..6),
        now in prop_oneof![Just(i64::MIN), Just(i64::MAX), Just(0), Just(1_795_000_000_i64)],
    ) {
        let mut lines: Vec<String> = LAB.lines().map(str::to_owned).collect();
        for (line, edge) in changes {
            let line = line % lines.len();
            if let Some((word, _)) = lines[line].clone().split_once(" = ") {
                lines[line] = format!("{word} = {}", EDGES[edge]);
            }
        }
        let text = lines.join("\n");
        let plan = match Plan::parse(&text) {
            Ok(plan) => plan,
            Err(errors) => {
                for problem in errors.0 {
                    let line = lines.get(problem.at.line as usize - 1).map_or(0, |line| line.chars().count());
                    prop_assert!(problem.at.column as usize <= line + 1, "{}", problem);
                }
                return Ok(());
            }
        };
        let now = now.clamp(Timestamp::MIN.as_second(), Timestamp::MAX.as_second());
        let now = Timestamp::from_second(now).unwrap();
        let mut facts = Facts::at(now);
        let slow = RepositoryFacts { restore_rate: Some(Rate(1)), backup_rate: Some(Rate(1)) };
        facts.repositories.insert("main".into(), slow);
        for entry in &plan.workloads {
            facts.workloads.entry(entry.name.value.clone()).or_default().size = Some(ByteSize(u64::MAX));
        }
        for finding in check(&plan, &facts) {
            prop_assert!(finding.at.line >= 1 && !finding.fix.is_empty());
        }
        let schedule = Schedule::new(&plan);
        let clock = |wall: Timestamp, hour: u64| Clock { wall, monotonic: Duration::from_secs(hour * 3_600), boot: 1 };
        let mut state = State::new(clock(now, 0));
        for hour in 0..30 {
            let wall = now.checked_add(SignedDuration::from_hours(hour as i64)).unwrap_or(now);
            let tick = schedule.tick(&mut state, clock(wall, hour));
            for (n, (job, ..)) in tick.started().enumerate() {
                let outcome = if n % 2 == 0 { Outcome::Good } else { Outcome::Failed };
                schedule.ended(&mut state, job, outcome, wall);
                let _ = schedule.rate_for(job, wall);
            }
        }
    }

    #[test]
    fn any_text_is_read_or_refused(text in ".{0,200}|[\\[\\]a-z.=\"' \n]{0,80}") {
        let _ = Plan::parse(&text);
    }

    #[test]
    fn a_plan_that_is_cut_off_is_read_or_refused(at in 0..LAB.len()) {
        let _ = Plan::parse(&LAB[..at]);
    }
}
