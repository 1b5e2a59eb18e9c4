//! Whatever happens, and in whatever order: limits hold, no job runs twice, and everybody gets their turn.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use proptest::prelude::*;
use relight_model::plan::Plan;
use relight_model::schedule::{Clock, JobId, Outcome, Row, Schedule, State};

const OUTCOMES: [Outcome; 4] = [
    Outcome::Good,
    Outcome::Failed,
    Outcome::Interrupted,
    Outcome::Cancelled,
];

#[derive(Debug, Clone)]
struct Item {
    host: u8,
    storage: u8,
    priority: u32,
    every: &'static str,
}

fn items() -> impl Strategy<Value = Vec<Item>> {
    let every = prop_oneof![
        Just("hourly"),
        Just("*:0/20"),
        Just("0/3:00"),
        Just("02:30"),
        Just("mon..fri *:15")
    ];
    let item = (0..4_u8, 0..3_u8, 0..100_u32, every).prop_map(|(host, storage, priority, every)| Item {
        host,
        storage,
        priority,
        every,
    });
    proptest::collection::vec(item, 1..12)
}

fn plan(items: &[Item], runs: u32, repository: u32) -> Plan {
    let mut text = format!(
        "[[repository]]\nname = 'main'\nruns = {repository}\nforget = '0/4:00'\ncollect = '0/5:00'\n\
         [limit]\nruns = {runs}\n[limit.host]\nh1 = 2\n[limit.storage]\ns1 = 1\ns2 = 3\n\n"
    );
    for (n, item) in items.iter().enumerate() {
        let Item {
            host,
            storage,
            priority,
            every,
        } = item;
        text += &format!(
            "[policy.p{n}]\nschedule = '{every}'\nrepository = 'main'\nretention = {{ keep-last = 3 }}\npriority = {priority}\n\
             retry-after = '7 m'\njitter = '3 m'\nverify = '0/6:00'\n\
             [[workload]]\nname = 'vm/{n}'\npolicy = 'p{n}'\nhost = 'h{host}'\nstorage = 's{storage}'\n"
        );
    }
    Plan::parse(&text).unwrap_or_else(|errors| panic!("{errors}"))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn limits_hold_and_everybody_gets_a_turn(
        items in items(),
        runs in 1..6_u32,
        repository in 1..5_u32,
        steps in proptest::collection::vec((1..40_i64, 0..4_usize, any::<u8>()), 150..300),
    ) {
        let plan = plan(&items, runs, repository);
        let schedule = Schedule::new(&plan);
        let from: Timestamp = "2026-10-23T20:00:00Z".parse().unwrap();
        let mut now = from;
        let clock = |now: Timestamp| Clock {
            wall: now,
            monotonic: Duration::try_from(now.duration_since(from)).unwrap(),
            boot: 1,
        };
        let mut state = State::new(clock(now));
        let mut running: Vec<JobId> = Vec::new();
        let mut table: BTreeMap<JobId, String> = BTreeMap::new();
        let mut starts: BTreeMap<String, usize> = BTreeMap::new();
        for (minutes, outcome, which) in steps {
            now += SignedDuration::from_mins(minutes);
            // Some of what runs ends, in any order.
            for _ in 0..=which % 3 {
                if running.is_empty() {
                    break;
                }
                let job = running.remove(usize::from(which) % running.len());
                schedule.ended(&mut state, &job, OUTCOMES[outcome], now);
            }
            if which % 16 == 0 {
                let stored = serde_json::to_string(&state).unwrap();
                prop_assert_eq!(&serde_json::from_str::<State>(&stored).unwrap(), &state);
            }
            if which % 5 == 0 && !running.is_empty() {
                state.request(&running[0], now);
            }
            let tick = schedule.tick(&mut state, clock(now));
            prop_assert!(tick.next.is_none_or(|next| next > now));
            for (job, due, attempt) in tick.started() {
                prop_assert!(due <= now && due > from && attempt >= 1, "{} {} {}", job, due, attempt);
                prop_assert!(!running.contains(job), "{} runs twice", job);
                running.push(job.clone());
                *starts.entry(job.to_string()).or_default() += 1;
            }
            let known: Vec<JobId> = state.running().map(|(job, _)| job.clone()).collect();
            prop_assert_eq!(known.len(), running.len());
            let mut used: BTreeMap<String, u32> = BTreeMap::new();
            for job in &running {
                for (resource, limit) in schedule.resources_of(job) {
                    let count = used.entry(format!("{resource:?}")).or_default();
                    *count += 1;
                    prop_assert!(*count <= limit, "{resource:?}");
                }
            }
            prop_assert!(running.len() <= runs as usize);
            // A table that is told of changes only says the same.
            for job in state.take_changed().collect::<Vec<JobId>>() {
                let row = serde_json::to_string(&state.row(&job)).unwrap();
                table.insert(job, row);
            }
            let rows = table.iter().map(|(job, row)| (job.clone(), serde_json::from_str::<Row>(row).unwrap()));
            prop_assert_eq!(&State::from_rows(state.head(), rows), &state);
            // Nothing is decided twice in the same moment.
            let again = schedule.tick(&mut state, clock(now));
            prop_assert_eq!(again.started().count(), 0);
        }
        // From here on all ends well and quickly: within two days everything has run.
        let end = now + SignedDuration::from_hours(80);
        while now < end {
            for job in std::mem::take(&mut running) {
                schedule.ended(&mut state, &job, Outcome::Good, now);
            }
            let tick = schedule.tick(&mut state, clock(now));
            for (job, ..) in tick.started() {
                running.push(job.clone());
                *starts.entry(job.to_string()).or_default() += 1;
            }
            now += SignedDuration::from_mins(5);
        }
        for job in schedule.jobs() {
            prop_assert!(starts.contains_key(&job.to_string()), "{} never ran", job);
        }
    }
}
