//! What is foreseen, against what the rules say.

use jiff::{SignedDuration, Timestamp};
use relight_model::TimeSpan;
use relight_model::plan::Plan;
use relight_model::schedule::{Fate, Forecast, Foreseen, RunKind, Schedule, SkipReason, WaitReason};

const BASE: &str = "[[repository]]\nname = 'main'\nforget = '07:00'\ncollect = '09:00'\n\n\
                    [policy.daily]\nschedule = '02:00'\nrepository = 'main'\nretention = { keep-daily = 7 }\n";

fn at(text: &str) -> Timestamp {
    format!("2026-11-{text}Z").parse().unwrap()
}

fn plan(more: &str) -> Plan {
    Plan::parse(&format!("{BASE}{more}")).unwrap_or_else(|errors| panic!("{errors}"))
}

fn foreseen(plan: &Plan, from: &str, until: &str, length: &str) -> Forecast {
    let length: TimeSpan = length.parse().unwrap();
    Schedule::new(plan).forecast(at(from), at(until), 10_000, |_, _| length)
}

fn starts(run: &Foreseen) -> Option<Timestamp> {
    match run.fate {
        Fate::Runs { starts, .. } => Some(starts),
        _ => None,
    }
}

const TWO_ON_ONE_HOST: &str = "\n[[workload]]\nnames = ['vm/1', 'vm/2']\npolicy = 'daily'\nhost = 'pve1'\n";

#[test]
fn what_shares_a_host_comes_one_after_the_other_and_says_why() {
    let forecast = foreseen(&plan(TWO_ON_ONE_HOST), "23T00:00:00", "24T00:00:00", "30m");
    let what: Vec<String> = forecast
        .runs
        .iter()
        .map(|run| run.job.kind().to_string())
        .collect();
    assert_eq!(what, ["backup", "backup", "forget", "collect"]);
    let (first, second) = (&forecast.runs[0], &forecast.runs[1]);
    assert_eq!(
        (starts(first), starts(second)),
        (Some(at("23T02:00:00")), Some(at("23T02:30:00")))
    );
    assert!(first.waits.is_empty());
    assert_eq!(second.waits.len(), 1);
    assert_eq!(second.waits[0].since, at("23T02:00:00"));
    assert_eq!(
        second.waits[0].reason,
        WaitReason::Resource {
            resource: "host pve1".into(),
            limit: 1
        }
    );
    assert!(!forecast.cut);
}

#[test]
fn the_edges_of_the_time_asked_for_belong_to_it() {
    let forecast = foreseen(&plan(TWO_ON_ONE_HOST), "23T02:00:00", "24T02:00:00", "30m");
    let backups = forecast
        .runs
        .iter()
        .filter(|run| run.job.kind() == RunKind::Backup);
    let mut began: Vec<_> = backups.map(|run| (run.due, starts(run))).collect();
    // Which of two is first, is drawn by lot.
    began.sort();
    assert_eq!(
        began,
        [
            (at("23T02:00:00"), Some(at("23T02:00:00"))),
            (at("23T02:00:00"), Some(at("23T02:30:00"))),
            (at("24T02:00:00"), None),
            (at("24T02:00:00"), Some(at("24T02:00:00"))),
        ]
    );
}

#[test]
fn runs_longer_than_their_schedule_leave_times_out() {
    let forecast = foreseen(&plan(TWO_ON_ONE_HOST), "23T00:00:00", "27T00:00:00", "30h");
    let out = |run: &&Foreseen| {
        matches!(
            run.fate,
            Fate::Skipped {
                why: SkipReason::Superseded { .. }
            }
        )
    };
    assert!(forecast.runs.iter().filter(out).count() >= 2, "{forecast:#?}");
    // Never two at once on the host.
    let mut backups: Vec<(Timestamp, Timestamp)> = forecast
        .runs
        .iter()
        .filter(|run| run.job.kind() == RunKind::Backup)
        .filter_map(|run| match run.fate {
            Fate::Runs { starts, ends } => Some((starts, ends)),
            _ => None,
        })
        .collect();
    backups.sort();
    assert!(backups.windows(2).all(|two| two[0].1 <= two[1].0), "{backups:?}");
}

#[test]
fn a_rare_event_far_ahead_is_foreseen_and_the_clock_is_trusted_on_the_way() {
    let text = "[[repository]]\nname = 'main'\n\n[policy.rare]\nschedule = '*-06-01 02:00'\nrepository = 'main'\n\
                retention = { keep-yearly = 7 }\ndrill = 'yearly'\n\n[[workload]]\nname = 'vm/1'\npolicy = 'rare'\n";
    let plan = Plan::parse(text).unwrap();
    let until = at("23T00:00:00") + SignedDuration::from_hours(24 * 365);
    let forecast =
        Schedule::new(&plan).forecast(at("23T00:00:00"), until, 100, |_, _| TimeSpan::from_secs(60));
    let days: Vec<String> = forecast
        .runs
        .iter()
        .map(|run| format!("{} {} {}", run.job, run.due, run.waits.len()))
        .collect();
    assert_eq!(
        days,
        [
            "drill vm/1 2027-01-01T00:00:00Z 0",
            "backup vm/1 2027-06-01T02:00:00Z 0"
        ]
    );
}

#[test]
fn too_much_is_cut_and_says_where() {
    let plan = plan(
        "\n[policy.often]\nschedule = 'minutely'\nrepository = 'main'\nretention = { keep-last = 1 }\n\
                     \n[[workload]]\nname = 'vm/1'\npolicy = 'often'\n",
    );
    let forecast = Schedule::new(&plan).forecast(at("23T00:00:00"), at("30T00:00:00"), 100, |_, _| {
        TimeSpan::from_secs(0)
    });
    assert!(forecast.cut);
    assert_eq!(forecast.runs.len(), 100);
    assert!(forecast.until < at("23T01:45:00"), "{}", forecast.until);
}
