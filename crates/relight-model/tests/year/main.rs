//! A year of the lab's plan, with failures put in: the scheduler and retention against an oracle that knows neither.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};
use relight_model::plan::Plan;
use relight_model::retention::{self, Candidate, Guards};
use relight_model::schedule::{Clock, JobId, Outcome, RunKind, Schedule, State};

mod oracle;

const LAB: &str = include_str!("../../../../dist/plan.toml");

fn zone() -> TimeZone {
    TimeZone::get("Europe/Berlin").unwrap()
}

/// `2026-05-03 00:00` in Berlin.
fn at(text: &str) -> Timestamp {
    text.replace(' ', "T")
        .parse::<jiff::civil::DateTime>()
        .unwrap()
        .to_zoned(zone())
        .unwrap()
        .timestamp()
}

fn chance(seed: &str, percent: u64) -> bool {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for byte in seed.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    (hash ^ (hash >> 29)).wrapping_mul(0xbf58_476d_1ce4_e5b9) >> 32 < percent * (u64::from(u32::MAX) / 100)
}

/// What goes wrong, and for whom.
struct Injected {
    from: Timestamp,
    until: Timestamp,
    what: What,
}

#[derive(PartialEq)]
enum What {
    /// Every run of this workload fails, and its log stops.
    Broken(&'static str),
    /// The server is down: nothing runs, and no log arrives.
    Down,
    /// The clock is set by so many years while the server runs.
    ClockSet(i64),
    /// The server is booted with a clock that is wrong by so many years, and it is put right later.
    ClockWrong(i64),
}

fn injected() -> Vec<Injected> {
    let year = [
        ("2026-03-10 00:00", "2026-03-12 12:00", What::Broken("vm/101")),
        ("2026-04-20 14:00", "2026-04-20 17:00", What::ClockSet(10)),
        ("2026-05-03 00:00", "2026-05-04 06:00", What::Down),
        ("2026-06-05 07:00", "2026-06-05 19:00", What::Broken("pg/pg01")),
        (
            "2026-06-25 07:00",
            "2026-06-25 11:00",
            What::Broken("mongo/mongo01"),
        ),
        ("2026-07-20 06:30", "2026-07-20 15:00", What::ClockSet(-10)),
        ("2026-08-10 06:40", "2026-08-10 17:10", What::ClockWrong(10)),
        ("2026-09-07 06:40", "2026-09-07 17:10", What::ClockWrong(-10)),
        ("2026-11-02 20:00", "2026-11-03 12:00", What::Broken("host/dc01")),
    ];
    year.map(|(from, until, what)| Injected {
        from: at(from),
        until: at(until),
        what,
    })
    .into()
}

fn candidates(workload: &str, points: &BTreeSet<Timestamp>) -> Vec<Candidate<Timestamp>> {
    let candidate = |&time: &Timestamp| Candidate {
        id: time,
        group: workload.to_owned(),
        time,
        sequence: 0,
        protected: false,
        good: true,
    };
    points.iter().map(candidate).collect()
}

/// A run as it was seen from outside.
#[derive(Clone, Debug)]
pub struct Seen {
    /// What.
    pub job: JobId,
    /// When it was due.
    pub due: Timestamp,
    /// When it began.
    pub began: Timestamp,
    /// When it ended.
    pub ended: Timestamp,
    /// How.
    pub outcome: Outcome,
}

struct Lab {
    plan: Plan,
    schedule: Schedule,
    state: State,
    now: Timestamp,
    booted: Timestamp,
    boot: u64,
    injected: Vec<Injected>,
    /// Until when each run goes on, and since when.
    until: BTreeMap<JobId, (Timestamp, Timestamp, Timestamp)>,
    seen: Vec<Seen>,
    /// What the repositories hold: when each snapshot of a workload was begun.
    held: BTreeMap<(&'static str, String), BTreeSet<Timestamp>>,
    /// All that was ever put into them.
    ever: BTreeMap<(&'static str, String), BTreeSet<Timestamp>>,
    /// How far the logs have come.
    log: BTreeMap<String, Timestamp>,
    forgets: usize,
    /// When each workload's RPO was seen broken.
    broken: BTreeMap<String, Vec<Timestamp>>,
}

impl Lab {
    fn new(from: Timestamp) -> Self {
        let plan = Plan::parse(LAB).unwrap();
        let clock = Clock {
            wall: from,
            monotonic: Duration::ZERO,
            boot: 1,
        };
        Self {
            schedule: Schedule::new(&plan),
            state: State::new(clock),
            plan,
            now: from,
            booted: from,
            boot: 1,
            injected: injected(),
            until: BTreeMap::new(),
            seen: Vec::new(),
            held: BTreeMap::new(),
            ever: BTreeMap::new(),
            log: BTreeMap::new(),
            forgets: 0,
            broken: BTreeMap::new(),
        }
    }

    fn present(&self) -> impl Iterator<Item = &What> {
        let now = self.now;
        self.injected
            .iter()
            .filter(move |injected| (injected.from..injected.until).contains(&now))
            .map(|injected| &injected.what)
    }

    fn clock(&self) -> Clock {
        let wrong = self.present().find_map(|what| match what {
            What::ClockSet(years) | What::ClockWrong(years) => Some(*years),
            _ => None,
        });
        Clock {
            wall: self.now + SignedDuration::from_hours(24 * 365 * wrong.unwrap_or(0)),
            monotonic: self.now.duration_since(self.booted).try_into().unwrap(),
            boot: self.boot,
        }
    }

    fn is_down(&self) -> bool {
        self.present().any(|what| *what == What::Down)
    }

    fn is_broken(&self, workload: &str) -> bool {
        self.present()
            .any(|what| matches!(what, What::Broken(broken) if *broken == workload))
    }

    /// The server is killed: runs end in the middle, and what is stored comes back.
    fn kill(&mut self, reboot: bool) {
        for (job, (due, began, _)) in std::mem::take(&mut self.until) {
            self.seen.push(Seen {
                job,
                due,
                began,
                ended: self.now,
                outcome: Outcome::Interrupted,
            });
        }
        self.state = serde_json::from_str(&serde_json::to_string(&self.state).unwrap()).unwrap();
        if reboot {
            self.boot += 1;
            self.booted = self.now;
        }
        let running: Vec<JobId> = self.state.running().map(|(job, _)| job.clone()).collect();
        let now = self.clock().wall;
        for job in running {
            self.schedule
                .ended(&mut self.state, &job, Outcome::Interrupted, now);
        }
    }

    fn length(&self, job: &JobId) -> SignedDuration {
        let size = job
            .workload()
            .and_then(|name| self.plan.workload(name))
            .and_then(|entry| entry.size);
        let gib = size.map_or(10, |size| size.0 >> 30) as i64;
        SignedDuration::from_secs(match job.kind() {
            RunKind::Backup => 240 + gib * 3,
            RunKind::Copy | RunKind::Drill => 600 + gib * 6,
            RunKind::Verify => 300 + gib * 4,
            RunKind::Restore => 300,
            RunKind::Forget => 60,
            RunKind::Collect => 1_800,
            RunKind::Exercise => 6 * 3_600,
        })
    }

    fn put(&mut self, repository: &'static str, workload: &str, point: Timestamp) {
        let key = (repository, workload.to_owned());
        self.held.entry(key.clone()).or_default().insert(point);
        self.ever.entry(key).or_default().insert(point);
    }

    fn finish(&mut self, job: &JobId) {
        let (due, began, _) = self.until.remove(job).unwrap();
        let name = job.workload().map(ToString::to_string).unwrap_or_default();
        // The third try of what fails by chance works.
        let tries = self
            .seen
            .iter()
            .rev()
            .take(200)
            .filter(|seen| seen.job == *job && seen.due == due)
            .count();
        let unlucky = tries < 2 && chance(&format!("{job} {began}"), 4);
        let outcome = if unlucky || self.is_broken(&name) {
            Outcome::Failed
        } else {
            Outcome::Good
        };
        self.seen.push(Seen {
            job: job.clone(),
            due,
            began,
            ended: self.now,
            outcome,
        });
        if outcome == Outcome::Good {
            match job.kind() {
                RunKind::Backup => self.put("main", &name, began),
                RunKind::Copy => {
                    for point in self.missing(&name, began) {
                        self.put("archive", &name, point);
                    }
                }
                RunKind::Forget => self.forget(job.repository().unwrap()),
                _ => {}
            }
        }
        // What the scheduler takes for now: it does not follow a clock that was set, but one that it was booted with.
        let wrong = self.present().any(|what| matches!(what, What::ClockSet(_)));
        let now = if wrong { self.now } else { self.clock().wall };
        self.schedule.ended(&mut self.state, job, outcome, now);
    }

    /// What the archive lacks of a workload.
    fn missing(&self, name: &str, began: Timestamp) -> Vec<Timestamp> {
        let points = |place| {
            let points = self.held.get(&(place, name.to_owned()));
            candidates(name, &points.cloned().unwrap_or_default())
        };
        let before = |candidate: &Candidate<Timestamp>| candidate.time < began;
        let source: Vec<_> = points("main").into_iter().filter(before).collect();
        let rules = self.plan.policies["databases"].copies[0]
            .retention
            .as_ref()
            .unwrap()
            .value;
        let guards = Guards::new(self.now, Some(self.now));
        retention::to_copy(&rules, &self.plan.time_zone, &guards, &source, &points("archive"))
    }

    fn forget(&mut self, repository: &str) {
        assert!(
            !self
                .present()
                .any(|what| matches!(what, What::ClockSet(_) | What::ClockWrong(_))),
            "something was forgotten while the clock was wrong"
        );
        self.forgets += 1;
        let Self {
            plan,
            held,
            ever,
            now,
            ..
        } = self;
        for ((place, workload), points) in held.iter_mut().filter(|((place, _), _)| *place == repository) {
            let entry = plan.workload(&workload.parse().unwrap()).unwrap();
            let (name, policy) = plan.policy_of(entry).unwrap();
            let copy = policy.copies.iter().find(|copy| copy.repository.value == *place);
            let rules = copy
                .and_then(|copy| copy.retention.as_ref())
                .unwrap_or(&policy.retention)
                .value;
            let judged = retention::plan(
                &rules,
                &plan.time_zone,
                &Guards::new(*now, Some(*now)),
                candidates(workload, points),
            );
            assert!(!judged.is_blocked(), "{:?}", judged.alarms);
            *points = judged.kept().map(|kept| kept.id).collect();
            // However often it was forgotten before: the same as if all that ever was were judged at once.
            let promised = oracle::promised(name, place, &ever[&(*place, workload.clone())], &zone());
            assert_eq!(*points, promised, "{workload} in {place} at {now}");
        }
    }

    /// Holds every RPO against what could be restored now.
    fn watch(&mut self) {
        let (now, down) = (self.now, self.is_down());
        for name in ["pg/pg01", "mongo/mongo01"] {
            if !down && !self.is_broken(name) {
                self.log
                    .insert(name.to_owned(), now - SignedDuration::from_mins(5));
            }
        }
        for (name, permitted) in oracle::PERMITTED_HOURS {
            let points = self.held.get(&("main", (*name).to_owned()));
            let point = points.and_then(|points| points.last()).copied();
            let newest = self.log.get(*name).copied().or(point).unwrap_or(now);
            if now.duration_since(newest) > SignedDuration::from_hours(*permitted) {
                self.broken.entry((*name).to_owned()).or_default().push(now);
            }
        }
    }

    fn run(&mut self, end: Timestamp) {
        let mut wrong_before = false;
        while self.now < end {
            let wrong = self.present().any(|what| matches!(what, What::ClockWrong(_)));
            if wrong && !wrong_before {
                self.kill(true);
            }
            wrong_before = wrong;
            let doubtful = self
                .present()
                .any(|what| matches!(what, What::ClockSet(_) | What::ClockWrong(_)));
            if !doubtful && chance(&format!("kill {}", self.now), 1) {
                self.kill(chance(&format!("boot {}", self.now), 30));
            }
            let over: Vec<JobId> = self
                .until
                .iter()
                .filter(|(_, (.., until))| *until <= self.now)
                .map(|(job, _)| job.clone())
                .collect();
            over.iter().for_each(|job| self.finish(job));
            let mut next = self.now + SignedDuration::from_mins(10);
            if self.is_down() {
                if !self.until.is_empty() {
                    self.kill(false);
                }
            } else {
                let clock = self.clock();
                let tick = self.schedule.tick(&mut self.state, clock);
                let doubtful = self
                    .present()
                    .any(|what| matches!(what, What::ClockSet(_) | What::ClockWrong(_)));
                assert_eq!(tick.alarm.is_some(), doubtful, "{} {:?}", self.now, tick.alarm);
                let started: Vec<JobId> = tick.started().map(|(job, ..)| job.clone()).collect();
                for (job, due, _) in tick.started() {
                    assert!(!doubtful || job.kind().goes_on());
                    let until = self.now + self.length(job);
                    let due = due - tick.now.duration_since(self.now);
                    assert!(
                        self.until.insert(job.clone(), (due, self.now, until)).is_none(),
                        "{job} runs twice"
                    );
                }
                assert_eq!(self.state.running().count(), self.until.len(), "{started:?}");
                if let Some(wake) = tick.next {
                    next =
                        next.min(self.now + wake.duration_since(tick.now).max(SignedDuration::from_secs(1)));
                }
            }
            self.watch();
            let ends = self.until.values().map(|(.., until)| *until);
            self.now = ends
                .chain([next])
                .min()
                .unwrap()
                .max(self.now + SignedDuration::from_secs(1));
        }
    }
}

#[test]
fn a_year_of_the_labs_plan_keeps_its_promises() {
    let (from, end) = (at("2025-12-31 12:00"), at("2027-01-03 12:00"));
    let mut lab = Lab::new(from);
    lab.run(end);
    let of = |outcome| lab.seen.iter().filter(|seen| seen.outcome == outcome).count();
    println!(
        "{} runs, {} failed, {} killed; {} times forgotten",
        lab.seen.len(),
        of(Outcome::Failed),
        of(Outcome::Interrupted),
        lab.forgets
    );

    let killed = of(Outcome::Interrupted);
    assert!(killed > 100, "only {killed} runs were killed");

    // No conflict.
    oracle::no_conflict(LAB, &lab.seen);

    // No RPO was broken but those for which something was put in, and each of these was.
    let expected: &[(&str, &str, &str)] = &[
        ("vm/101", "2026-03-10 07:00", "2026-03-13 04:00"),
        ("pg/pg01", "2026-06-05 12:00", "2026-06-05 19:30"),
        ("host/dc01", "2026-11-03 08:00", "2026-11-04 05:00"),
    ];
    let down = (at("2026-05-03 05:00"), at("2026-05-04 08:00"));
    for (name, times) in &lab.broken {
        let permitted: Vec<_> = expected.iter().filter(|(broken, ..)| broken == name).collect();
        for &time in times {
            let put_in = permitted
                .iter()
                .any(|(_, from, until)| (at(from)..at(until)).contains(&time));
            assert!(
                put_in || (down.0..down.1).contains(&time),
                "{name} at {}",
                time.to_zoned(zone())
            );
        }
    }
    for (name, from, until) in expected {
        let seen = lab
            .broken
            .get(*name)
            .is_some_and(|times| times.iter().any(|&t| (at(from)..at(until)).contains(&t)));
        assert!(seen, "the broken RPO of {name} was not seen");
    }
    for (name, _) in oracle::PERMITTED_HOURS {
        let seen = lab
            .broken
            .get(*name)
            .is_some_and(|times| times.iter().any(|&t| (down.0..down.1).contains(&t)));
        assert!(seen, "{name} while the server was down");
    }

    // Every day each workload has its points, but for what was put in.
    let good = |kind: RunKind, name: &str| -> Vec<Timestamp> {
        let runs = lab
            .seen
            .iter()
            .filter(|seen| seen.outcome == Outcome::Good && seen.job.kind() == kind);
        let of = runs.filter(|seen| {
            seen.job
                .workload()
                .is_some_and(|workload| workload.as_str() == name)
        });
        of.map(|seen| seen.due).collect()
    };
    for (name, _) in oracle::PERMITTED_HOURS {
        let mut days: BTreeMap<Date, usize> = BTreeMap::new();
        for due in good(RunKind::Backup, name) {
            *days.entry(due.to_zoned(zone()).date()).or_default() += 1;
        }
        let per_day = if name.starts_with("pg/") || name.starts_with("mongo/") {
            4
        } else {
            1
        };
        let mut day: Date = "2026-01-01".parse().unwrap();
        while day < "2027-01-01".parse().unwrap() {
            let disturbed = oracle::DISTURBED
                .iter()
                .any(|(who, date)| (*who == "*" || who == name) && *date == day.to_string());
            let count = days.get(&day).copied().unwrap_or(0);
            assert!(
                count == per_day || (disturbed && count <= per_day + 1),
                "{name} on {day}: {count} backups"
            );
            day = day.checked_add(1.day()).unwrap();
        }
    }

    // Drills and the exercise took place.
    for (name, count) in [
        ("vm/100", 5),
        ("host/dc01", 4),
        ("pg/pg01", 13),
        ("k8s/research", 4),
    ] {
        let drills = good(RunKind::Drill, name);
        let in_year = drills.iter().filter(|&&due| due < at("2027-01-02 00:00")).count();
        assert_eq!(in_year, count, "drills of {name}");
    }
    let exercises = lab
        .seen
        .iter()
        .filter(|seen| seen.job.kind() == RunKind::Exercise && seen.outcome == Outcome::Good);
    let exercises: Vec<String> = exercises
        .map(|seen| seen.due.to_zoned(zone()).date().to_string())
        .collect();
    assert_eq!(exercises, ["2026-11-14"]);
    assert!(lab.forgets > 360);

    // The archive has the last point of each month.
    for name in ["pg/pg01", "mongo/mongo01"] {
        let archived = &lab.held[&("archive", name.to_owned())];
        for month in 1..=11 {
            let of_month = |point: &&Timestamp| {
                let date = point.to_zoned(zone()).date();
                date.year() == 2026 && date.month() == month
            };
            let last = lab.ever[&("main", name.to_owned())].iter().filter(of_month).max();
            assert!(
                last.is_some_and(|last| archived.contains(last)),
                "{name}, month {month}"
            );
        }
    }
}
