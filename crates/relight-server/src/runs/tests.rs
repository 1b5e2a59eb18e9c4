//! The scheduler with clocks that a test sets.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, Instant};

use jiff::{SignedDuration, Timestamp};
use relight_keys::{KeyFile, SystemEntropy};
use relight_model::schedule::Clock;
use relight_pbs::service::datastore::{Datastore, DatastoreOptions};
use relight_pbs::service::tasks::Tasks;
use relight_repo::storage::local::LocalStorage;
use relight_repo::{OpenOptions, Repository, keyring};

use super::*;
use crate::evidence::Kind;
use crate::evidence::detail::Ended;
use crate::state::{EvidenceFilter, Request, Run, RunFilter, State};

const YEARS: i64 = 10 * 365 * 24 * 3600;

struct House {
    folder: tempfile::TempDir,
    state: Arc<State>,
    datastore: Arc<Datastore>,
    /// By how many seconds the wall clock is wrong.
    wrong: Arc<AtomicI64>,
}

impl House {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path();
        std::fs::create_dir(path.join("data")).unwrap();
        std::fs::write(path.join("data/file"), "content").unwrap();
        let plan = format!(
            "[server]\nstate = 'state'\n[plan]\ntime-zone = 'UTC'\n\
             [[repository]]\nname = 'main'\nlocation = 'repo'\nkey-file = 'key'\nforget = '*-*-* *:*:0/2'\ncollect = '*-*-* *:*:0/3'\n\
             [policy.files]\nschedule = '*-*-* *:*:0/2'\nmethod = 'files'\nrepository = 'main'\nretention = {{ keep-within = '1d' }}\n\
             rpo = '1h'\nrto = '1h'\nretries = 0\n\
             [[workload]]\nname = 'host/web'\npolicy = 'files'\nsource = {{ paths = ['{}'] }}\n",
            path.join("data").display()
        );
        std::fs::write(path.join("relight.toml"), plan).unwrap();
        let key = KeyFile::generate(&mut SystemEntropy).unwrap();
        let storage = Arc::new(LocalStorage::create(&path.join("repo")).unwrap());
        let (_, keys) =
            keyring::initialise(&*storage, &key, "test", Timestamp::now(), Default::default()).unwrap();
        let repository = Repository::open(storage, keys, OpenOptions::new(&path.join("cache"))).unwrap();
        let options = DatastoreOptions::new("root@pam".parse().unwrap());
        Self {
            datastore: Datastore::new("main", Arc::new(repository), options).unwrap(),
            state: Arc::new(State::open(&path.join("state")).unwrap()),
            wrong: Arc::default(),
            folder,
        }
    }

    fn start(&self) -> Runs {
        let path = self.folder.path();
        let context = Arc::new(Context {
            state: self.state.clone(),
            datastores: BTreeMap::from([("main".to_string(), self.datastore.clone())]),
            tasks: Tasks::open(path.join("tasks"), "test").unwrap(),
            instance: self.state.instance_id().unwrap(),
            host: "test".into(),
            sandbox: path.join("sandbox"),
            logs: path.join("logs"),
            approvals: crate::config::ApprovalsConfig::default(),
        });
        let config = Config::load(&path.join("relight.toml")).unwrap();
        let wrong = self.wrong.clone();
        let clocks = move || {
            let clock = clocks::read();
            let by = SignedDuration::from_secs(wrong.load(Ordering::SeqCst));
            Clock {
                wall: clock.wall + by,
                ..clock
            }
        };
        Runs::start_with(&config, context, Board::open(&config).unwrap(), Box::new(clocks)).unwrap()
    }

    fn runs(&self, kind: &str) -> Vec<Run> {
        let mut runs = self.state.runs(&RunFilter::default()).unwrap();
        runs.retain(|run| run.job.kind().name() == kind && run.outcome == Some(Ended::Good));
        runs
    }

    #[track_caller]
    fn wait(&self, what: &str, until: impl Fn() -> bool) {
        let began = Instant::now();
        while !until() {
            let runs = self.state.runs(&RunFilter::default()).unwrap();
            assert!(began.elapsed() < Duration::from_secs(40), "{what}: {runs:#?}");
            std::thread::sleep(Duration::from_millis(20));
        }
    }

    /// What the evidence says of clocks.
    fn alarms(&self) -> Vec<String> {
        let filter = EvidenceFilter {
            kind: Some(Kind::Server),
            ..EvidenceFilter::default()
        };
        let records = self.state.evidence(&filter).unwrap();
        records
            .into_iter()
            .map(|record| record.what)
            .filter(|what| what.contains("clock"))
            .collect()
    }
}

#[test]
fn a_clock_that_is_wrong_by_ten_years_expires_nothing_and_is_told() {
    for wrong in [YEARS, -YEARS] {
        let house = House::new();
        let runs = house.start();
        house.wait("everything runs", || {
            ["backup", "forget", "collect"]
                .iter()
                .all(|kind| !house.runs(kind).is_empty())
        });
        house.wrong.store(wrong, Ordering::SeqCst);
        house.wait("there is an alarm", || !house.alarms().is_empty());
        let way = if wrong > 0 { "forward" } else { "back" };
        assert!(
            house.alarms()[0].contains(&format!("the clock was set {way} by")),
            "{:?}",
            house.alarms()
        );
        // What was begun before has ended by now.
        house.wait("nothing runs", || runs.live.count() == 0);
        let before = house.runs("forget").len() + house.runs("collect").len();
        let backups = house.runs("backup").len();
        house.wait("backups go on", || house.runs("backup").len() > backups + 1);
        assert_eq!(
            house.runs("forget").len() + house.runs("collect").len(),
            before,
            "nothing is removed"
        );

        // After a restart in the same boot it is known as well.
        runs.close(Duration::from_secs(5));
        let runs = house.start();
        let backups = house.runs("backup").len();
        house.wait("backups go on", || house.runs("backup").len() > backups);
        assert_eq!(house.runs("forget").len() + house.runs("collect").len(), before);

        house.wrong.store(0, Ordering::SeqCst);
        house.wait("it is right again, and everything goes on", || {
            house.runs("forget").len() + house.runs("collect").len() > before + 1
        });
        assert!(house.alarms()[0].contains("right again"), "{:?}", house.alarms());
        let kept = house.datastore.snapshots().unwrap();
        assert_eq!(
            kept.len(),
            house.runs("backup").len(),
            "every point of today is there"
        );
        runs.close(Duration::from_secs(5));
    }
}

#[test]
fn an_operator_confirms_that_the_clock_is_right() {
    let house = House::new();
    let runs = house.start();
    house.wait("everything runs", || !house.runs("forget").is_empty());
    house.wrong.store(3600, Ordering::SeqCst);
    house.wait("there is an alarm", || !house.alarms().is_empty());
    house
        .state
        .request(&Request::ConfirmClock, "test", Timestamp::now())
        .unwrap();
    house.wait("it ends", || house.alarms()[0].contains("right again"));
    runs.close(Duration::from_secs(5));
}

#[test]
fn a_repository_that_goes_away_and_comes_back_costs_runs_only() {
    let house = House::new();
    let runs = house.start();
    house.wait("it runs", || !house.runs("backup").is_empty());
    let repo = house.folder.path().join("repo");
    std::fs::rename(&repo, house.folder.path().join("away")).unwrap();
    let failed = || {
        let all = house.state.runs(&RunFilter::default()).unwrap();
        all.into_iter()
            .filter(|run| run.outcome == Some(Ended::Failed))
            .collect::<Vec<_>>()
    };
    house.wait("it fails", || !failed().is_empty());
    assert!(
        failed()[0]
            .code
            .as_deref()
            .is_some_and(|code| code.starts_with("RL2")),
        "{:?}",
        failed()
    );
    std::fs::rename(house.folder.path().join("away"), &repo).unwrap();
    let good = house.runs("backup").len();
    house.wait("it goes on", || house.runs("backup").len() > good);
    runs.close(Duration::from_secs(5));
}
