//! A state is filled as a server fills it, and looked at.

use jiff::{SignedDuration, Timestamp};
use relight_model::objective::Verdict;
use relight_model::plan::{PickRule, Plan};
use relight_model::schedule::JobId;
use relight_model::{TimeSpan, Workload};

use super::*;
use crate::evidence::detail::{DrillDetail, Ended, Figures, Step, details};
use crate::evidence::{Kind, NewEvidence, Outcome};
use crate::state::{NewRun, Remembered, RunEnd, State};

const PLAN: &str = "
[[repository]]
name = 'main'
[[repository]]
name = 'archive'
[policy.linux]
schedule = '02:00'
repository = 'main'
method = 'image'
retention = { keep-daily = 7 }
rpo = '24 h'
rpo-tolerance = '2 h'
rto = '1 h'
verify = 'sat 12:00'
drill = 'quarterly'
[[policy.linux.copy]]
repository = 'archive'
schedule = '06:00'
[[workload]]
name = 'vm/1'
policy = 'linux'
[[workload]]
name = 'vm/2'
exclude = 'scratch'
exclude-until = '2026-10-31'
";

pub(crate) fn at(hours: i64) -> Timestamp {
    let begin: Timestamp = "2026-11-01T02:00:00Z".parse().unwrap();
    begin + SignedDuration::from_hours(hours)
}

pub(crate) struct House {
    _folder: tempfile::TempDir,
    pub(crate) state: State,
    pub(crate) plan: Plan,
    pub(crate) vm: Workload,
}

impl House {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            state: State::open(folder.path()).unwrap(),
            plan: Plan::parse(PLAN).unwrap(),
            vm: "vm/1".parse().unwrap(),
            _folder: folder,
        }
    }

    pub(crate) fn begin(&self, job: JobId, hours: i64) -> u64 {
        let new = NewRun {
            job,
            repository: Some("main".into()),
            due: at(hours),
            started: at(hours),
            attempt: 1,
            requested: false,
        };
        let runs = self.state.begin_runs(&[new], &Remembered::default()).unwrap();
        runs[0].number
    }

    pub(crate) fn end(&self, number: u64, hours: i64, outcome: Ended, size: u64) {
        let end = RunEnd {
            number,
            ended: at(hours),
            outcome,
            code: None,
            message: None,
            snapshot: None,
            figures: Figures {
                size: Some(size),
                ..Figures::default()
            },
        };
        self.state.end_run(&end, &Remembered::default(), &[]).unwrap();
    }

    pub(crate) fn run(&self, job: JobId, hours: i64, outcome: Ended) -> u64 {
        let number = self.begin(job, hours);
        self.end(number, hours + 1, outcome, 10 << 30);
        number
    }

    pub(crate) fn drill(&self, hours: i64, minutes: Option<u64>) {
        let detail = DrillDetail {
            run: 1,
            workload: self.vm.clone(),
            exercise: false,
            snapshot: None,
            point: None,
            pick: PickRule::Latest,
            repository: "main".into(),
            host: String::new(),
            requested: at(hours),
            size: 10 << 30,
            steps: vec![Step {
                name: "restore".into(),
                took: TimeSpan::from_secs(60),
            }],
            probes: Vec::new(),
            control: None,
            measured: minutes.map(|minutes| TimeSpan::from_secs(minutes * 60)),
            promised: None,
            verdict: Verdict::NotPromised,
            torn_down: true,
            remarks: Vec::new(),
            code: None,
            message: minutes.is_none().then(|| "nothing answered".into()),
        };
        let record = NewEvidence {
            time: at(hours),
            kind: Kind::Drill,
            who: None,
            what: "drill".into(),
            outcome: Outcome::Done,
            detail: details(&detail),
        };
        self.state.add_evidence(&[record]).unwrap();
    }

    fn standing(&self, history: &History, hours: i64) -> Standing {
        history.standing(&self.plan, &self.plan.workloads[0], at(hours))
    }
}

#[test]
fn what_stands_follows_from_what_happened_whenever_it_is_read() {
    let house = House::new();
    let mut followed = History::default();
    let mut ended = 0;
    let mut compare = |house: &House, hours: i64| {
        ended += followed.follow(&house.state, &house.plan).unwrap().runs.len();
        let mut fresh = History::default();
        assert!(fresh.follow(&house.state, &house.plan).unwrap().runs.is_empty());
        let standing = house.standing(&followed, hours);
        assert_eq!(standing, house.standing(&fresh, hours));
        standing
    };
    let backup = || JobId::backup(&house.vm);

    let nothing = compare(&house, 0);
    assert_eq!(nothing.rpo.as_ref().unwrap().verdict, Verdict::NotMeasured);
    assert_eq!(nothing.rto.as_ref().unwrap().verdict, Verdict::NotMeasured);
    assert_eq!((nothing.newest.as_ref(), nothing.is_good()), (None, false));

    let first = house.run(backup(), 0, Ended::Good);
    house.drill(2, Some(30));
    let good = compare(&house, 25);
    assert!(good.is_good(), "{good:?}");
    assert_eq!(good.newest.as_ref().unwrap().run, first);
    assert_eq!(good.proven, Some(at(2)));
    assert_eq!(good.next, Some(at(48)));

    // One that runs is none yet; one that is incomplete, or failed, is no recovery point.
    let second = house.begin(backup(), 24);
    assert_eq!(compare(&house, 25).running, Some(second));
    house.end(second, 25, Ended::Incomplete, 0);
    house.run(backup(), 26, Ended::Failed);
    house.run(backup(), 27, Ended::Interrupted);
    let stale = compare(&house, 27);
    assert_eq!((stale.failures, stale.running), (2, None));
    assert_eq!(stale.newest.as_ref().unwrap().run, first);
    assert!(matches!(
        stale.rpo.as_ref().unwrap().verdict,
        Verdict::Missed { .. }
    ));
    assert_eq!(
        stale.last_backup.as_ref().unwrap().outcome,
        Some(Ended::Interrupted)
    );

    house.run(backup(), 28, Ended::Good);
    house.run(JobId::verify(&house.vm), 30, Ended::Good);
    house.run(JobId::verify(&house.vm), 40, Ended::Failed);
    house.run(JobId::copy(&house.vm, "archive"), 41, Ended::Good);
    house.drill(41, None);
    let last = compare(&house, 42);
    assert_eq!((last.failures, last.verified), (0, Some(at(31))));
    assert_eq!(
        last.last_verification.as_ref().unwrap().outcome,
        Some(Ended::Failed)
    );
    assert_eq!(last.copies[0].good, Some(at(41)));
    assert!(!last.last_drill.as_ref().unwrap().good);
    assert_eq!(last.proven, Some(at(2)), "a drill that failed proves nothing");
    // All but the run that had ended before it was looked first.
    assert_eq!(ended, 8);
}

#[test]
fn what_was_pushed_in_another_order_leaves_the_newest_point() {
    let house = House::new();
    house.run(JobId::backup(&house.vm), 24, Ended::Good);
    house.run(JobId::backup(&house.vm), 0, Ended::Good);
    let mut history = History::default();
    history.follow(&house.state, &house.plan).unwrap();
    assert_eq!(house.standing(&history, 30).newest.unwrap().time, at(24));
}

#[test]
fn what_is_excluded_says_why_and_whether_that_still_holds() {
    let house = House::new();
    let history = History::default();
    let excluded = |hours| {
        let standing = history.standing(&house.plan, &house.plan.workloads[1], at(hours));
        assert_eq!((standing.policy, standing.rpo), (None, None));
        standing.excluded.unwrap()
    };
    assert!(excluded(0).expired);
    assert!(!excluded(-3).expired);
    assert_eq!(excluded(0).reason, "scratch");
}
