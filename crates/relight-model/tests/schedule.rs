//! The scheduler, one rule at a time.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use relight_model::Rate;
use relight_model::plan::Plan;
use relight_model::schedule::{
    Clock, ClockAlarm, Decision, JobId, Next, Outcome, Schedule, SkipReason, State, Tick, WaitReason,
};

const BASE: &str = "[[repository]]\nname = 'main'\nforget = '07:00'\ncollect = '09:00'\n\n\
                    [policy.daily]\nschedule = '02:00'\nrepository = 'main'\nretention = { keep-daily = 7 }\n";

fn at(text: &str) -> Timestamp {
    format!("2026-11-{text}Z").parse().unwrap()
}

fn workload(name: &str, host: &str) -> String {
    format!("\n[[workload]]\nname = '{name}'\npolicy = 'daily'\nhost = '{host}'\n")
}

fn backup(name: &str) -> JobId {
    JobId::backup(&name.parse().unwrap())
}

/// A server with its clocks.
struct Server {
    schedule: Schedule,
    state: State,
    booted: Timestamp,
    boot: u64,
}

impl Server {
    fn new(plan: &str, from: Timestamp) -> Self {
        let plan = Plan::parse(plan).unwrap_or_else(|errors| panic!("{errors}"));
        let clock = Clock {
            wall: from,
            monotonic: Duration::ZERO,
            boot: 1,
        };
        Self {
            schedule: Schedule::new(&plan),
            state: State::new(clock),
            booted: from,
            boot: 1,
        }
    }

    fn clock(&self, now: Timestamp) -> Clock {
        Clock {
            wall: now,
            monotonic: now.duration_since(self.booted).try_into().unwrap_or_default(),
            boot: self.boot,
        }
    }

    fn tick_at(&mut self, now: Timestamp) -> Tick {
        let clock = self.clock(now);
        self.schedule.tick(&mut self.state, clock)
    }

    fn tick(&mut self, now: &str) -> Tick {
        self.tick_at(at(now))
    }

    /// What is started at `now`.
    fn starts(&mut self, now: &str) -> Vec<String> {
        self.tick(now)
            .started()
            .map(|(job, ..)| job.to_string())
            .collect()
    }

    fn ends(&mut self, job: &JobId, outcome: Outcome, now: &str) -> Next {
        self.schedule.ended(&mut self.state, job, outcome, at(now))
    }
}

fn waits(tick: &Tick, id: &JobId) -> Option<WaitReason> {
    tick.decisions.iter().find_map(|decision| match decision {
        Decision::Wait { job, reason, .. } if job == id => Some(reason.clone()),
        _ => None,
    })
}

fn skips(tick: &Tick) -> Vec<(String, SkipReason)> {
    let skips = tick.decisions.iter().filter_map(|decision| match decision {
        Decision::Skip { job, reason, .. } => Some((job.to_string(), reason.clone())),
        _ => None,
    });
    skips.collect()
}

#[test]
fn a_job_starts_at_its_time_and_once() {
    let mut server = Server::new(&format!("{BASE}{}", workload("vm/1", "a")), at("23T00:00:00"));
    let early = server.tick("23T01:59:59");
    assert!(early.decisions.is_empty());
    assert_eq!(early.next, Some(at("23T02:00:00")));
    assert_eq!(server.starts("23T02:00:00"), ["backup vm/1"]);
    assert!(server.starts("23T02:00:01").is_empty());
    assert_eq!(
        server.ends(&backup("vm/1"), Outcome::Good, "23T02:30:00"),
        Next::Settled
    );
    assert!(server.starts("23T02:30:00").is_empty());
    assert!(server.starts("24T02:00:00").contains(&"backup vm/1".to_owned()));
}

#[test]
fn what_shares_a_host_waits_for_it() {
    let plan = format!(
        "{BASE}{}{}{}",
        workload("vm/1", "a"),
        workload("vm/2", "a"),
        workload("vm/3", "b")
    );
    let mut server = Server::new(&plan, at("23T00:00:00"));
    let tick = server.tick("23T02:00:00");
    let started: Vec<JobId> = tick.started().map(|(job, ..)| job.clone()).collect();
    assert_eq!(started.len(), 2);
    assert!(started.contains(&backup("vm/3")));
    let (first, second) = if started.contains(&backup("vm/1")) {
        ("vm/1", "vm/2")
    } else {
        ("vm/2", "vm/1")
    };
    let reason = waits(&tick, &backup(second)).unwrap();
    assert_eq!(reason.to_string(), "host a carries 1 at a time");
    server.ends(&backup(first), Outcome::Good, "23T02:20:00");
    assert_eq!(server.starts("23T02:20:00"), [format!("backup {second}")]);
}

#[test]
fn runs_in_all_are_limited_too() {
    let plan = format!(
        "{BASE}[limit]\nruns = 1\n{}{}",
        workload("vm/1", "a"),
        workload("vm/2", "b")
    );
    let mut server = Server::new(&plan, at("23T00:00:00"));
    let tick = server.tick("23T02:00:00");
    assert_eq!(tick.started().count(), 1);
    assert!(tick.decisions.iter().any(|decision| matches!(
        decision,
        Decision::Wait {
            reason: WaitReason::Runs { limit: 1 },
            ..
        }
    )));
}

#[test]
fn what_was_missed_is_made_up_for_once() {
    let mut server = Server::new(&format!("{BASE}{}", workload("vm/1", "a")), at("10T00:00:00"));
    server.tick("10T00:00:00");
    let tick = server.tick("15T12:00:00");
    let start = tick
        .decisions
        .iter()
        .find(|decision| matches!(decision, Decision::Start { .. }));
    assert_eq!(
        start,
        Some(&Decision::Start {
            job: backup("vm/1"),
            due: at("15T02:00:00"),
            attempt: 1,
            late: true
        })
    );
    let superseded = SkipReason::Superseded {
        by: at("15T02:00:00"),
    };
    assert!(skips(&tick).contains(&("backup vm/1".to_owned(), superseded)));
    server.ends(&backup("vm/1"), Outcome::Good, "15T12:30:00");
    assert!(!server.starts("15T13:00:00").contains(&"backup vm/1".to_owned()));
    assert_eq!(server.starts("16T02:00:00"), ["backup vm/1"]);
}

#[test]
fn a_policy_may_leave_missed_runs_out() {
    let plan = format!("{BASE}catch-up = false\n{}", workload("vm/1", "a"));
    let mut server = Server::new(&plan, at("10T00:00:00"));
    server.tick("10T00:00:00");
    let tick = server.tick("15T12:00:00");
    assert!(skips(&tick).contains(&("backup vm/1".to_owned(), SkipReason::Missed)));
    assert!(!tick.started().any(|(job, ..)| *job == backup("vm/1")));
    // A server that was there and only had to wait still runs it.
    server.tick("16T01:55:00");
    assert_eq!(server.starts("16T02:04:00"), ["backup vm/1"]);
}

#[test]
fn a_failed_run_is_tried_again_with_growing_pauses() {
    let mut server = Server::new(&format!("{BASE}{}", workload("vm/1", "a")), at("23T00:00:00"));
    let job = backup("vm/1");
    assert_eq!(server.starts("23T02:00:00"), ["backup vm/1"]);
    for (ends, again) in [
        ("23T02:10:00", "23T02:15:00"),
        ("23T02:20:00", "23T02:30:00"),
        ("23T02:40:00", "23T03:00:00"),
    ] {
        assert_eq!(server.ends(&job, Outcome::Failed, ends), Next::Retry(at(again)));
        let tick = server.tick(ends);
        assert!(matches!(waits(&tick, &job), Some(WaitReason::Backoff { .. })));
        assert!(tick.next <= Some(at(again)));
        assert_eq!(server.starts(again), ["backup vm/1"]);
    }
    assert_eq!(server.ends(&job, Outcome::Failed, "23T03:10:00"), Next::GivenUp);
    assert!(server.starts("23T06:00:00").is_empty());
    let tick = server.tick("24T02:00:00");
    assert!(tick.decisions.contains(&Decision::Start {
        job,
        due: at("24T02:00:00"),
        attempt: 1,
        late: false
    }));
}

#[test]
fn a_run_beyond_its_next_time_is_followed_by_one() {
    let plan = BASE.replace("'02:00'", "'hourly'") + &workload("vm/1", "a");
    let mut server = Server::new(&plan, at("23T00:00:00"));
    let job = backup("vm/1");
    assert_eq!(server.starts("23T01:00:00"), ["backup vm/1"]);
    assert_eq!(
        waits(&server.tick("23T02:00:00"), &job),
        Some(WaitReason::StillRunning)
    );
    assert_eq!(
        waits(&server.tick("23T04:30:00"), &job),
        Some(WaitReason::StillRunning)
    );
    server.ends(&job, Outcome::Good, "23T04:40:00");
    let tick = server.tick("23T04:40:00");
    assert!(tick.decisions.contains(&Decision::Start {
        job: job.clone(),
        due: at("23T04:00:00"),
        attempt: 1,
        late: false
    }));
    server.ends(&job, Outcome::Good, "23T04:50:00");
    assert!(server.starts("23T04:50:00").is_empty());
}

#[test]
fn runs_start_only_while_their_window_is_open() {
    let plan = BASE.replace("schedule = '02:00'", "schedule = '02:00'\nwindow = 'night'")
        + "\n[window.night]\nopens = '22:00'\nlength = '6 h'\n"
        + &workload("vm/1", "a");
    let mut server = Server::new(&plan, at("22T23:00:00"));
    assert_eq!(server.starts("23T03:59:00"), ["backup vm/1"]);
    server.ends(&backup("vm/1"), Outcome::Failed, "23T04:10:00");
    let tick = server.tick("23T04:15:00");
    assert_eq!(
        waits(&tick, &backup("vm/1")),
        Some(WaitReason::Window {
            until: Some(at("23T22:00:00"))
        })
    );
    assert!(server.starts("23T22:00:00").contains(&"backup vm/1".to_owned()));
}

#[test]
fn starts_are_spread_evenly_and_by_a_chance_that_stays() {
    let plan = BASE.replace(
        "schedule = '02:00'",
        "schedule = '02:00'\nstagger = '40 m'\njitter = '5 m'",
    ) + "\n[[workload]]\nnames = ['vm/1', 'vm/2', 'vm/3', 'vm/4']\npolicy = 'daily'\n";
    let begins = |from: &str| {
        let mut server = Server::new(&plan, at(from));
        let mut begins = Vec::new();
        let due = at(&format!("{}T02:00:00", &from[..2]));
        for second in 0..3_600 {
            let now = due + SignedDuration::from_secs(second);
            let tick = server.tick_at(now);
            begins.extend(tick.started().map(|(job, ..)| (job.to_string(), second)));
        }
        begins
    };
    let first = begins("23T00:00:00");
    assert_eq!(first, begins("23T00:00:00"));
    assert_ne!(first, begins("24T00:00:00"));
    for (place, (_, second)) in first.iter().enumerate() {
        let place = place as i64 * 600;
        assert!((place..=place + 300).contains(second), "{first:?}");
    }
}

#[test]
fn urgent_workloads_come_first_and_nobody_waits_for_ever() {
    let urgent = "\npriority = 90\n";
    let plan = format!(
        "{}{}{}{urgent}",
        BASE.replace("'02:00'", "'*:00/10'"),
        workload("vm/1", "a"),
        workload("vm/2", "a")
    );
    let mut server = Server::new(&plan, at("23T00:00:00"));
    // The urgent one takes the host for nine of every ten minutes, and the other one still gets it.
    let mut now = at("23T00:10:00");
    let mut started = Vec::new();
    while now < at("23T09:00:00") {
        let tick = server.tick_at(now);
        let starts: Vec<JobId> = tick
            .started()
            .map(|(job, ..)| job.clone())
            .filter(|job| job.workload().is_some())
            .collect();
        for job in starts {
            started.push((job.to_string(), now));
            now += SignedDuration::from_mins(10);
            server.schedule.ended(&mut server.state, &job, Outcome::Good, now);
        }
        now += SignedDuration::from_secs(1);
    }
    assert_eq!(started[0].0, "backup vm/2");
    let other = started.iter().filter(|(job, _)| job == "backup vm/1").count();
    assert!(other >= 2, "{started:?}");
}

#[test]
fn a_restart_loses_no_run_and_doubles_none() {
    let mut server = Server::new(&format!("{BASE}{}", workload("vm/1", "a")), at("23T00:00:00"));
    let job = backup("vm/1");
    assert_eq!(server.starts("23T02:00:00"), ["backup vm/1"]);
    let stored = serde_json::to_string(&server.state).unwrap();
    server.state = serde_json::from_str(&stored).unwrap();
    server.boot = 2;
    server.booted = at("23T02:30:00");
    let interrupted: Vec<JobId> = server.state.running().map(|(job, _)| job.clone()).collect();
    assert_eq!(interrupted.as_slice(), std::slice::from_ref(&job));
    server.ends(&job, Outcome::Interrupted, "23T02:30:00");
    let tick = server.tick("23T02:30:00");
    assert!(tick.decisions.contains(&Decision::Start {
        job: job.clone(),
        due: at("23T02:00:00"),
        attempt: 1,
        late: false
    }));
    server.ends(&job, Outcome::Good, "23T02:40:00");
    assert!(server.starts("23T02:41:00").is_empty());
}

#[test]
fn a_run_that_an_operator_wants_runs_now_and_changes_no_schedule() {
    let plan = BASE.replace("schedule = '02:00'", "schedule = '02:00'\nwindow = 'night'")
        + "\n[window.night]\nopens = '22:00'\nlength = '6 h'\n"
        + &workload("vm/1", "a");
    let mut server = Server::new(&plan, at("23T06:00:00"));
    let job = backup("vm/1");
    server.state.request(&job, at("23T12:00:00"));
    assert!(server.starts("23T12:00:00").contains(&"backup vm/1".to_owned()));
    assert_eq!(server.ends(&job, Outcome::Good, "23T12:30:00"), Next::Settled);
    assert!(!server.starts("23T12:31:00").contains(&"backup vm/1".to_owned()));
    assert_eq!(server.starts("24T02:00:00"), ["backup vm/1"]);
    // Cancelled is not tried again.
    assert_eq!(
        server.ends(&job, Outcome::Cancelled, "24T02:01:00"),
        Next::Settled
    );
    assert!(server.starts("24T02:30:00").is_empty());
}

#[test]
fn a_drill_waits_for_something_to_restore() {
    let plan = BASE.to_owned() + "drill = '12:00'\n" + &workload("vm/1", "a");
    let mut server = Server::new(&plan, at("23T03:00:00"));
    let drill = JobId::drill(&"vm/1".parse().unwrap());
    assert_eq!(
        waits(&server.tick("23T12:00:00"), &drill),
        Some(WaitReason::NoSnapshot)
    );
    server.tick("24T02:00:00");
    server.ends(&backup("vm/1"), Outcome::Good, "24T02:30:00");
    assert_eq!(server.starts("24T02:30:00"), ["drill vm/1"]);
}

#[test]
fn a_clock_that_is_set_by_ten_years_expires_nothing_and_is_told() {
    for years in [10, -10] {
        let mut server = Server::new(&format!("{BASE}{}", workload("vm/1", "a")), at("23T00:00:00"));
        server.tick("23T06:50:00");
        server.ends(&backup("vm/1"), Outcome::Good, "23T06:55:00");
        let jump = SignedDuration::from_hours(24 * 365 * years);
        let jumped = |server: &Server, now: &str| Clock {
            wall: at(now) + jump,
            ..server.clock(at(now))
        };
        for (now, due) in [("23T07:00:00", "forget main"), ("23T09:00:00", "collect main")] {
            let clock = jumped(&server, now);
            let tick = server.schedule.tick(&mut server.state, clock);
            let Some(ClockAlarm::Jumped { wall, expected }) = tick.alarm else {
                panic!("{:?}", tick.alarm);
            };
            assert_eq!((wall, expected), (at(now) + jump, at(now)));
            assert!(
                tick.alarm
                    .unwrap()
                    .to_string()
                    .contains("nothing is forgotten or collected")
            );
            assert_eq!(tick.started().count(), 0);
            assert_eq!(waits(&tick, &due.parse().unwrap()), Some(WaitReason::Clock));
        }
        // Backups go on by the time that is expected.
        let clock = jumped(&server, "24T02:00:00");
        let tick = server.schedule.tick(&mut server.state, clock);
        assert!(tick.started().any(|(job, ..)| *job == backup("vm/1")));
        server.ends(&backup("vm/1"), Outcome::Good, "24T02:30:00");
        // Set right again, all goes on, and what was held is made up for once.
        let tick = server.tick("24T03:00:00");
        assert_eq!(tick.alarm, None);
        let started: Vec<String> = tick.started().map(|(job, ..)| job.to_string()).collect();
        assert_eq!(started, ["forget main", "collect main"].map(str::to_owned));
    }
}

#[test]
fn a_clock_that_is_wrong_after_a_boot_is_told_until_it_is_right_or_confirmed() {
    for years in [10, -10] {
        let mut server = Server::new(&format!("{BASE}{}", workload("vm/1", "a")), at("23T00:00:00"));
        server.tick("23T06:00:00");
        server.ends(&backup("vm/1"), Outcome::Good, "23T06:30:00");
        let wrong = |hour: i64| Clock {
            wall: at("23T06:40:00") + SignedDuration::from_hours(24 * 365 * years + hour),
            monotonic: Duration::from_secs(3_600 * hour.unsigned_abs()),
            boot: 2,
        };
        for hour in 0..60 {
            let tick = server.schedule.tick(&mut server.state, wrong(hour));
            match tick.alarm {
                Some(ClockAlarm::Ahead { trusted, .. }) => assert!(years > 0 && trusted == at("23T06:00:00")),
                Some(ClockAlarm::Behind { trusted, .. }) => {
                    assert!(years < 0 && trusted == at("23T06:00:00"))
                }
                other => panic!("{other:?}"),
            }
            let started: Vec<JobId> = tick.started().map(|(job, ..)| job.clone()).collect();
            for job in started {
                assert_eq!(job, backup("vm/1"));
                server
                    .schedule
                    .ended(&mut server.state, &job, Outcome::Good, wrong(hour).wall);
            }
        }
        // An operator who confirms it takes the responsibility.
        let mut confirmed = server.state.clone();
        confirmed.confirm_clock(wrong(60));
        assert_eq!(confirmed.clock_alarm(), None);
        assert!(server.schedule.tick(&mut confirmed, wrong(61)).alarm.is_none());
        // Right again after another boot: it goes on within a day, whatever was settled in the wrong years.
        server.boot = 3;
        server.booted = at("26T00:00:00");
        let first = server.tick("26T00:00:00");
        assert_eq!(first.alarm, None);
        let mut started: Vec<String> = first.started().map(|(job, ..)| job.to_string()).collect();
        for hour in 0..24 {
            let tick = server.tick(&format!("26T{hour:02}:00:00"));
            started.extend(tick.started().map(|(job, ..)| job.to_string()));
        }
        assert!(
            started.contains(&"backup vm/1".to_owned()) || years < 0,
            "{started:?}"
        );
        assert!(started.contains(&"forget main".to_owned()), "{started:?}");
    }
}

#[test]
fn bandwidth_follows_the_time_of_day() {
    let plan = BASE.to_owned()
        + "\n[window.office]\nopens = 'mon..fri 07:00'\nlength = '12 h'\n\
           [[bandwidth]]\nrate = '20 MiB/s'\nwindow = 'office'\nnetwork = 'wan'\n\
           [[bandwidth]]\nrate = '500 MiB/s'\n"
        + &workload("vm/1", "a")
        + "network = 'wan'\n"
        + &workload("vm/2", "a");
    let server = Server::new(&plan, at("23T00:00:00"));
    let rate = |job: &str, now: &str| server.schedule.rate_for(&backup(job), at(now)).unwrap();
    assert_eq!(rate("vm/1", "23T08:00:00"), Rate(20 << 20));
    assert_eq!(rate("vm/1", "23T19:00:00"), Rate(500 << 20));
    assert_eq!(rate("vm/1", "22T08:00:00"), Rate(500 << 20));
    assert_eq!(rate("vm/2", "23T08:00:00"), Rate(500 << 20));
}

#[test]
fn jobs_read_back() {
    for text in [
        "backup vm/100",
        "copy lab/vm/100 archive",
        "verify pg/a",
        "drill pg/a",
        "forget main",
        "collect main",
        "exercise",
    ] {
        let job: JobId = text.parse().unwrap();
        assert_eq!(job.to_string(), text);
    }
    for text in [
        "",
        "backup",
        "backup vm100",
        "copy vm/1",
        "forget",
        "exercise now",
        "dance vm/1",
        "forget ",
    ] {
        assert!(text.parse::<JobId>().is_err(), "{text:?}");
    }
}

#[test]
fn a_spread_longer_than_the_schedule_still_lets_everybody_run() {
    let plan = BASE.replace("schedule = '02:00'", "schedule = 'hourly'\nstagger = '6 h'")
        + "\n[[workload]]\nnames = ['vm/1', 'vm/2', 'vm/3', 'vm/4']\npolicy = 'daily'\n";
    let mut server = Server::new(&plan, at("23T00:30:00"));
    let mut started: Vec<String> = Vec::new();
    for minute in 0..60 {
        started.extend(server.starts(&format!("23T01:{minute:02}:00")));
    }
    started.sort();
    assert_eq!(
        started,
        ["backup vm/1", "backup vm/2", "backup vm/3", "backup vm/4"]
    );
}

#[test]
fn pushed_backups_are_awaited_and_not_started() {
    let plan = BASE.to_owned() + "pushed = true\nverify = '12:00'\n" + &workload("vm/1", "a");
    let mut server = Server::new(&plan, at("23T00:00:00"));
    let verify = JobId::verify(&"vm/1".parse().unwrap());
    assert!(server.starts("23T02:00:00").is_empty());
    assert_eq!(
        waits(&server.tick("23T12:00:00"), &verify),
        Some(WaitReason::NoSnapshot)
    );
    server.ends(&backup("vm/1"), Outcome::Good, "23T13:00:00");
    assert_eq!(server.starts("23T13:00:00"), ["verify vm/1"]);
}
