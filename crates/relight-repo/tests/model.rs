//! Any sequence of backups, forgetting, collections, copies, rotations of the key, repairs, crashes and restarts, with
//! two writers and a collector that come in each other's way at any storage operation, leaves every visible snapshot restorable, byte for byte.
//!
//! `MODEL_CASES` says how many sequences are tried, `MODEL_SEED` where the choice of them begins.

#![allow(clippy::unwrap_used)]

#[path = "collect_support/mod.rs"]
mod support;

use std::collections::HashSet;
use std::sync::{Arc, Mutex};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestRng, TestRunner};
use relight_repo::collect::CollectOptions;
use relight_repo::session::Session;
use relight_repo::snapshot::Archive;
use relight_repo::storage::fault::{FaultStorage, Moment};
use relight_repo::{RepoError, Repository, SnapshotId};
use support::*;

/// Which chunks a snapshot has: a window that moves, with some of them replaced.
#[derive(Debug, Clone, Copy)]
struct Content {
    from: u8,
    count: u8,
    variant: u8,
}

impl Content {
    fn seeds(self) -> Vec<u64> {
        let seed = |at: u64| match u64::from(self.variant) {
            0 => at,
            variant if at.is_multiple_of(variant + 1) => at + 1000 * variant,
            _ => at,
        };
        (u64::from(self.from)..u64::from(self.from) + u64::from(self.count))
            .map(seed)
            .collect()
    }
}

/// What may happen while somebody else is between two of his storage operations.
#[derive(Debug, Clone, Copy)]
enum Meanwhile {
    Collect,
    CollectTwice,
    /// Without waiting for any session.
    CollectHard,
    /// A day passes, so that whoever is at work is given up.
    CollectAfterADay,
    BackUp(Content),
    ForgetOldest,
    ForgetAllAndCollect,
}

#[derive(Debug, Clone, Copy)]
enum Action {
    BackUp(usize, Content),
    Begin(usize, Content),
    Publish(usize),
    Abandon(usize),
    Forget(u8),
    Collect,
    CollectHard,
    CollectWithGrace,
    Pass(u8),
    /// The clock of the storage is set, by so many days.
    Jump(i16),
    Crash(usize, u8, bool, Content),
    CrashCollector(u8, bool),
    Restart(usize),
    BackUpMeanwhile(usize, Content, u8, Meanwhile),
    PublishMeanwhile(usize, u8, Meanwhile),
    CollectMeanwhile(u8, Meanwhile),
    Copy,
    Rotate,
    Reseal,
    /// Seal everything again until nothing needs old keys, and drop them, if no writer still uses one.
    Retire,
    RebuildIndex,
    /// A bit flips, and is found and repaired.
    Rot(u8, u16),
}

fn content() -> impl Strategy<Value = Content> {
    (0u8..60, 1u8..40, 0u8..4).prop_map(|(from, count, variant)| Content { from, count, variant })
}

fn meanwhile() -> impl Strategy<Value = Meanwhile> {
    prop_oneof![
        1 => Just(Meanwhile::Collect),
        1 => Just(Meanwhile::CollectTwice),
        2 => Just(Meanwhile::CollectHard),
        1 => Just(Meanwhile::CollectAfterADay),
        1 => content().prop_map(Meanwhile::BackUp),
        1 => Just(Meanwhile::ForgetOldest),
        2 => Just(Meanwhile::ForgetAllAndCollect),
    ]
}

fn action() -> impl Strategy<Value = Action> {
    let writer = 0usize..2;
    prop_oneof![
        3 => (writer.clone(), content()).prop_map(|(w, c)| Action::BackUp(w, c)),
        2 => (writer.clone(), content()).prop_map(|(w, c)| Action::Begin(w, c)),
        2 => writer.clone().prop_map(Action::Publish),
        1 => writer.clone().prop_map(Action::Abandon),
        3 => any::<u8>().prop_map(Action::Forget),
        2 => Just(Action::Collect),
        3 => Just(Action::CollectHard),
        1 => Just(Action::CollectWithGrace),
        1 => (1u8..60).prop_map(Action::Pass),
        1 => (-30i16..400).prop_map(Action::Jump),
        1 => (writer.clone(), any::<u8>(), any::<bool>(), content())
            .prop_map(|(w, at, after, c)| Action::Crash(w, at, after, c)),
        1 => (any::<u8>(), any::<bool>()).prop_map(|(at, after)| Action::CrashCollector(at, after)),
        1 => writer.clone().prop_map(Action::Restart),
        3 => (writer.clone(), content(), any::<u8>(), meanwhile())
            .prop_map(|(w, c, at, m)| Action::BackUpMeanwhile(w, c, at, m)),
        3 => (writer, any::<u8>(), meanwhile()).prop_map(|(w, at, m)| Action::PublishMeanwhile(w, at, m)),
        3 => (any::<u8>(), meanwhile()).prop_map(|(at, m)| Action::CollectMeanwhile(at, m)),
        1 => Just(Action::Copy),
        1 => Just(Action::Rotate),
        1 => Just(Action::Reseal),
        1 => Just(Action::Retire),
        1 => Just(Action::RebuildIndex),
        2 => (any::<u8>(), any::<u16>()).prop_map(|(which, at)| Action::Rot(which, at)),
    ]
}

struct Writer {
    process: FaultStorage,
    repository: Arc<Repository>,
    session: Option<(Session, Archive, Vec<u64>)>,
    /// The data key was changed since it was opened: it may meet what it cannot read, which ends what it is at.
    stale: bool,
}

/// What the world was promised.
#[derive(Default)]
struct Promises {
    kept: HashSet<SnapshotId>,
    /// A snapshot may be forgotten before its writer learns that it was published.
    forgotten: HashSet<SnapshotId>,
}

impl Promises {
    fn keep(&mut self, id: SnapshotId) {
        if !self.forgotten.contains(&id) {
            self.kept.insert(id);
        }
    }
}

struct Model {
    world: Arc<World>,
    /// Where copies go: another repository with keys of its own.
    copies: World,
    writers: Vec<Writer>,
    promises: Arc<Mutex<Promises>>,
    /// Somebody died or a day passed: sessions may have been given up.
    rough: bool,
}

fn options() -> CollectOptions {
    CollectOptions {
        allow_empty: true,
        ..at_once()
    }
}

/// A collection that does nothing for the comfort of others.
fn hard() -> CollectOptions {
    CollectOptions {
        wait_for_sessions: false,
        max_waste: 5,
        ..options()
    }
}

/// Failures that only mean that somebody was given up or replaced: nothing was promised.
fn is_fair(error: &RepoError) -> bool {
    matches!(
        error,
        RepoError::SessionEvicted
            | RepoError::LeaseLost
            | RepoError::ChunkMissing(_)
            | RepoError::CollectionUnsafe { .. }
    ) || matches!(error, RepoError::Storage(error) if error.is_not_found())
}

fn writer(world: &World, number: usize) -> Writer {
    let process = world.process();
    let repository = world
        .open_with_cache(Arc::new(process.clone()), &format!("writer{number}"))
        .unwrap();
    Writer {
        process,
        repository,
        session: None,
        stale: false,
    }
}

/// The one that is forgotten is not promised any more from the moment on at which that begins.
fn forget(repository: &Repository, promises: &Mutex<Promises>, id: SnapshotId) {
    let mut known = promises.lock().unwrap();
    known.kept.remove(&id);
    known.forgotten.insert(id);
    drop(known);
    repository.forget(id).unwrap();
}

fn do_meanwhile(world: &World, promises: &Mutex<Promises>, what: Meanwhile) {
    let repository = world.open();
    let collect = |times: usize, options: &CollectOptions| {
        for _ in 0..times {
            match run(&repository, options) {
                Ok(_) | Err(RepoError::CollectionRunning { .. }) => {}
                // The one that this one interrupts may have been replacing index segments.
                Err(error) if is_fair(&error) => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    match what {
        Meanwhile::Collect => collect(1, &options()),
        Meanwhile::CollectTwice => collect(2, &options()),
        Meanwhile::CollectHard => collect(2, &hard()),
        Meanwhile::CollectAfterADay => {
            world.storage.advance(25 * HOUR);
            collect(3, &options());
        }
        Meanwhile::BackUp(content) => {
            let snapshot = back_up(&repository, &content.seeds()).unwrap();
            promises.lock().unwrap().keep(snapshot.id);
        }
        Meanwhile::ForgetOldest => {
            if let Some(oldest) = repository.snapshots().unwrap().0.first() {
                forget(&repository, promises, oldest.id);
            }
        }
        Meanwhile::ForgetAllAndCollect => {
            for id in repository.snapshot_ids().unwrap() {
                forget(&repository, promises, id);
            }
            collect(2, &hard());
        }
    }
}

impl Model {
    fn new() -> Self {
        let world = Arc::new(World::with_parity(10));
        let writers = (0..2).map(|number| writer(&world, number)).collect();
        Self {
            world,
            copies: World::new(),
            writers,
            promises: Arc::default(),
            rough: false,
        }
    }

    fn promise(
        &self,
        number: usize,
        result: relight_repo::Result<relight_repo::snapshot::Snapshot>,
        may_fail: bool,
    ) {
        match result {
            Ok(snapshot) => {
                self.promises.lock().unwrap().keep(snapshot.id);
            }
            Err(RepoError::KeyMissing { .. } | RepoError::KeyRetired(_)) if self.writers[number].stale => {}
            Err(error) => assert!(may_fail && is_fair(&error), "{error:?}"),
        }
    }

    /// Ends what a writer is at. One that has missed a new data key is opened again every other time.
    fn begin_anew(&mut self, number: usize, content: Content) {
        self.end_session(number);
        if self.writers[number].stale && content.from.is_multiple_of(2) {
            self.writers[number] = writer(&self.world, number);
        }
    }

    /// Makes `what` happen between two operations of a process.
    fn interrupt(&mut self, process: &FaultStorage, at: u64, what: Meanwhile) {
        self.rough |= matches!(
            what,
            Meanwhile::CollectAfterADay | Meanwhile::CollectHard | Meanwhile::ForgetAllAndCollect
        );
        let (world, promises) = (self.world.clone(), self.promises.clone());
        let number = process.operations() + 1 + at;
        process.before_each(move |operation| {
            if operation.number == number {
                do_meanwhile(&world, &promises, what);
            }
        });
    }

    fn run(&mut self, action: Action) {
        match action {
            Action::BackUp(number, content) => {
                self.begin_anew(number, content);
                let result = back_up(&self.writers[number].repository, &content.seeds());
                self.promise(number, result, false);
            }
            Action::Begin(number, content) => {
                self.begin_anew(number, content);
                let written = begin(&self.writers[number].repository).and_then(|session| {
                    let archive = write(&session, &content.seeds())?;
                    Ok((session, archive, content.seeds()))
                });
                self.writers[number].session = match written {
                    Ok(session) => Some(session),
                    Err(RepoError::KeyMissing { .. } | RepoError::KeyRetired(_))
                        if self.writers[number].stale =>
                    {
                        None
                    }
                    Err(error) => panic!("{error:?}"),
                };
            }
            Action::Publish(number) => {
                if let Some((session, archive, seeds)) = self.writers[number].session.take() {
                    let result = session.publish(spec(&seeds), vec![archive]);
                    self.promise(number, result, self.rough);
                }
            }
            Action::Abandon(number) => self.end_session(number),
            Action::Forget(which) => {
                let repository = self.world.open();
                let (snapshots, _) = repository.snapshots().unwrap();
                if !snapshots.is_empty() {
                    let id = snapshots[usize::from(which) % snapshots.len()].id;
                    forget(&repository, &self.promises, id);
                }
            }
            Action::Collect => self.collect(&options()),
            Action::CollectHard => {
                self.rough |= self.writers.iter().any(|writer| writer.session.is_some());
                self.collect(&hard());
            }
            Action::CollectWithGrace => self.collect(&CollectOptions {
                allow_empty: true,
                ..CollectOptions::default()
            }),
            Action::Pass(hours) => {
                self.rough |= hours >= 24;
                self.world.storage.advance(u32::from(hours) * HOUR);
            }
            Action::Jump(days) => {
                self.rough = true;
                let storage = &self.world.storage;
                storage.set_time(storage.now() + i64::from(days) * 24 * 3_600_000);
            }
            Action::Crash(number, at, after, content) => {
                self.end_session(number);
                self.rough = true;
                let process = self.writers[number].process.clone();
                process.crash_at(process.operations() + 1 + u64::from(at) % 70, moment(after));
                let result = back_up(&self.writers[number].repository, &content.seeds());
                if let Ok(snapshot) = result {
                    self.promises.lock().unwrap().keep(snapshot.id);
                }
                process.restart();
                self.writers[number] = writer(&self.world, number);
            }
            Action::CrashCollector(at, after) => {
                self.rough = true;
                let process = self.world.process();
                let repository = self.world.open_through(Arc::new(process.clone())).unwrap();
                process.crash_at(process.operations() + 1 + u64::from(at) % 120, moment(after));
                let _ = run(&repository, &options());
                drop(repository);
                process.restart();
                // Until its lease is stale.
                self.world.storage.advance(HOUR);
            }
            Action::Restart(number) => {
                self.end_session(number);
                self.writers[number] = writer(&self.world, number);
            }
            Action::BackUpMeanwhile(number, content, at, what) => {
                self.begin_anew(number, content);
                let process = self.writers[number].process.clone();
                self.interrupt(&process, u64::from(at) % 50, what);
                let result = back_up(&self.writers[number].repository, &content.seeds());
                process.heal();
                self.promise(number, result, self.rough);
            }
            Action::PublishMeanwhile(number, at, what) => {
                if let Some((session, archive, seeds)) = self.writers[number].session.take() {
                    let process = self.writers[number].process.clone();
                    self.interrupt(&process, u64::from(at) % 20, what);
                    let result = session.publish(spec(&seeds), vec![archive]);
                    process.heal();
                    self.promise(number, result, self.rough);
                }
            }
            Action::CollectMeanwhile(at, what) => {
                let process = self.world.process();
                let repository = self.world.open_through(Arc::new(process.clone())).unwrap();
                self.interrupt(&process, u64::from(at) % 100, what);
                match run(&repository, &options()) {
                    Ok(_) => {}
                    Err(error) => assert!(self.rough && is_fair(&error), "{error:?}"),
                }
            }
            Action::Copy => {
                let (from, to) = (self.world.open(), self.copies.open());
                upkeep::copy_all(&from, &to).unwrap();
                assert!(self.copies.check().len() >= from.snapshot_ids().unwrap().len());
            }
            Action::Rotate => {
                upkeep::rotate(&self.world);
                self.writers.iter_mut().for_each(|writer| writer.stale = true);
            }
            Action::Reseal => {
                self.rough |= self.writers.iter().any(|writer| writer.session.is_some());
                upkeep::reseal(&self.world, &hard()).unwrap();
            }
            Action::Retire => {
                self.rough |= self.writers.iter().any(|writer| writer.session.is_some());
                for _ in 0..2 {
                    upkeep::reseal(&self.world, &hard()).unwrap();
                }
                upkeep::retire(&self.world).unwrap();
            }
            Action::RebuildIndex => upkeep::rebuild_index(&self.world).unwrap(),
            Action::Rot(which, at) => upkeep::rot_and_repair(&self.world, which, at),
        }
    }

    fn collect(&self, options: &CollectOptions) {
        run(&self.world.open(), options).unwrap();
    }

    fn end_session(&mut self, number: usize) {
        self.writers[number].session = None;
    }

    fn check(&self) {
        let visible = self.world.check();
        let kept = &self.promises.lock().unwrap().kept;
        assert!(kept.is_subset(&visible), "acknowledged and lost");
    }
}

fn moment(after: bool) -> Moment {
    if after { Moment::After } else { Moment::Before }
}

fn try_sequence(actions: &[Action]) {
    let mut model = Model::new();
    for action in actions {
        model.run(*action);
        model.check();
    }
    for writer in &mut model.writers {
        writer.session = None;
    }
    model.check();
    model.world.empty_out();
}

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

#[test]
fn any_sequence_leaves_every_visible_snapshot_restorable() {
    let (cases, seed) = (number("MODEL_CASES", 60), number("MODEL_SEED", 1));
    println!("MODEL_CASES={cases} MODEL_SEED={seed}");
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases: cases as u32,
        max_shrink_iters: 400,
        failure_persistence: None,
        ..Config::default()
    };
    let mut runner = TestRunner::new_with_rng(config, TestRng::from_seed(RngAlgorithm::ChaCha, &bytes));
    let sequences = proptest::collection::vec(action(), 1..16);
    let outcome = runner.run(&sequences, |actions| {
        try_sequence(&actions);
        Ok(())
    });
    if let Err(error) = outcome {
        panic!("{error}");
    }
}

/// Everything that may happen, at every operation of a backup that uses old chunks again.
#[test]
fn everything_at_every_operation_of_a_backup() {
    let old = Content {
        from: 0,
        count: 30,
        variant: 0,
    };
    let other = Content {
        from: 10,
        count: 30,
        variant: 2,
    };
    let new = Content {
        from: 5,
        count: 30,
        variant: 1,
    };
    for what in [
        Meanwhile::Collect,
        Meanwhile::CollectTwice,
        Meanwhile::CollectHard,
        Meanwhile::CollectAfterADay,
        Meanwhile::BackUp(new),
        Meanwhile::ForgetOldest,
        Meanwhile::ForgetAllAndCollect,
    ] {
        for at in 0..45 {
            let actions = [
                Action::BackUp(0, old),
                Action::BackUp(1, other),
                Action::Forget(0),
                Action::Collect,
                Action::BackUpMeanwhile(0, new, at, what),
                Action::Collect,
                Action::Collect,
            ];
            try_sequence(&actions);
        }
    }
}

/// The same at every operation of a collection.
#[test]
fn everything_at_every_operation_of_a_collection() {
    let old = Content {
        from: 0,
        count: 30,
        variant: 0,
    };
    let other = Content {
        from: 10,
        count: 30,
        variant: 2,
    };
    let new = Content {
        from: 5,
        count: 30,
        variant: 1,
    };
    for what in [
        Meanwhile::CollectAfterADay,
        Meanwhile::BackUp(new),
        Meanwhile::ForgetOldest,
        Meanwhile::ForgetAllAndCollect,
    ] {
        for at in 0..75 {
            let actions = [
                Action::BackUp(0, old),
                Action::BackUp(1, other),
                Action::Forget(0),
                Action::Collect,
                Action::Forget(0),
                Action::BackUp(1, other),
                Action::CollectMeanwhile(at, what),
                Action::Collect,
                Action::Collect,
            ];
            try_sequence(&actions);
        }
    }
}
