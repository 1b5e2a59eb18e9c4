use std::sync::Barrier;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use super::super::fault::{Fault, FaultStorage, Kind, Moment};
use super::super::memory::{MemoryOptions, MemoryStorage};
use super::*;

/// A storage whose `put_new` just overwrites.
fn careless() -> MemoryStorage {
    MemoryStorage::with_options(MemoryOptions {
        conditional_put: false,
        ..Default::default()
    })
}

fn quick() -> Timing {
    Timing {
        first_wait: Duration::from_micros(50),
        ..Timing::default()
    }
}

fn create(storage: &dyn Storage, content: &[u8], timing: &Timing) -> Result<()> {
    put_new(storage, "dir/key", &[content], &PutOptions::default(), timing)
}

fn only_key(world: &MemoryStorage) {
    let keys: Vec<_> = world
        .list("")
        .unwrap()
        .into_iter()
        .map(|object| object.key)
        .collect();
    assert_eq!(keys, ["dir/key"], "claims are gone when all is done");
}

#[test]
fn without_the_protocol_two_win() {
    let world = careless();
    for _ in 0..2 {
        world.put_new("dir/key", &[b"x"], &PutOptions::default()).unwrap();
    }
}

#[test]
fn of_many_racers_one_wins() {
    for _ in 0..100 {
        let world = careless();
        let start = Barrier::new(8);
        let winners: Vec<u8> = thread::scope(|scope| {
            let racers: Vec<_> = (0..8u8)
                .map(|racer| {
                    let (world, start) = (world.clone(), &start);
                    scope.spawn(move || {
                        start.wait();
                        match create(&world, &[racer], &quick()) {
                            Ok(()) => Some(racer),
                            Err(error) => {
                                assert!(error.is_already_exists(), "{error}");
                                None
                            }
                        }
                    })
                })
                .collect();
            racers
                .into_iter()
                .filter_map(|racer| racer.join().unwrap())
                .collect()
        });
        assert_eq!(winners.len(), 1);
        assert_eq!(world.get("dir/key").unwrap(), winners);
        only_key(&world);
    }
}

/// A racer in its own thread that makes one storage operation each time it is let.
struct Stepped {
    arrived: Receiver<Option<Result<()>>>,
    go: Sender<()>,
    outcome: Option<Result<()>>,
}

impl Stepped {
    fn start(world: &MemoryStorage, content: u8) -> Self {
        let process = FaultStorage::new(Arc::new(world.clone()));
        let (arrive, arrived) = channel();
        let (go, wait) = channel();
        let wait = std::sync::Mutex::new(wait);
        let at_operation = arrive.clone();
        process.before_each(move |_| {
            at_operation.send(None).unwrap();
            // Let go of for good: runs on freely.
            let _ = wait.lock().unwrap().recv();
        });
        thread::spawn(move || {
            let timing = Timing {
                first_wait: Duration::from_nanos(1),
                ..Timing::default()
            };
            let _ = arrive.send(Some(create(&process, &[content], &timing)));
        });
        let mut racer = Self {
            arrived,
            go,
            outcome: None,
        };
        racer.wait();
        racer
    }

    fn wait(&mut self) {
        self.outcome = self.arrived.recv().unwrap();
    }

    /// Makes one operation, if it is not done.
    fn step(&mut self) {
        if self.outcome.is_none() {
            self.go.send(()).unwrap();
            self.wait();
        }
    }
}

#[test]
fn in_no_interleaving_of_operations_do_two_win() {
    // A racer that meets nobody makes six operations (look, claim, list, look, write, check, withdraw). Every order of
    // the first twelve of two racers is tried; what follows alternates.
    for schedule in 0..1u32 << 12 {
        let world = careless();
        let mut racers = [Stepped::start(&world, 0), Stepped::start(&world, 1)];
        for turn in 0..12 {
            racers[(schedule >> turn & 1) as usize].step();
        }
        let mut turns = 0;
        while racers.iter().any(|racer| racer.outcome.is_none()) {
            racers.iter_mut().for_each(Stepped::step);
            turns += 1;
            assert!(turns < 10_000, "schedule {schedule:b}: nobody gets ahead");
        }
        let wins: Vec<u8> = (0..2)
            .filter(|&n| matches!(racers[n as usize].outcome, Some(Ok(()))))
            .collect();
        assert_eq!(wins.len(), 1, "schedule {schedule:b}");
        assert_eq!(world.get("dir/key").unwrap(), wins, "schedule {schedule:b}");
        for racer in racers {
            if let Some(Err(error)) = racer.outcome {
                assert!(error.is_already_exists(), "schedule {schedule:b}: {error}");
            }
        }
        only_key(&world);
    }
}

#[test]
fn a_writer_that_dies_anywhere_blocks_the_key_only_until_its_claim_is_stale() {
    let patient = Timing {
        give_up_after: Duration::ZERO,
        ..quick()
    };
    for moment in [Moment::Before, Moment::After] {
        for at in 1..=7 {
            let world = careless();
            let dying = FaultStorage::new(Arc::new(world.clone()));
            dying.crash_at(at, moment);
            let first = create(&dying, b"first", &patient);
            let second = create(&world, b"second", &patient);
            world.advance(Duration::from_secs(11 * 60));
            let third = create(&world, b"third", &patient);
            let there = world.get("dir/key").unwrap();
            match (first, second) {
                // It learned of nothing after its death, but may have written.
                (Err(_), Err(error)) if error.is_already_exists() => assert_eq!(there, b"first"),
                (Err(_), Ok(())) => assert_eq!(there, b"second"),
                (Err(_), Err(StorageError::Unavailable { .. })) => {
                    assert_eq!(there, b"third");
                    assert!(third.is_ok());
                    assert!(world.list(PREFIX).unwrap().is_empty(), "the stale claim is gone");
                    continue;
                }
                // Died after it was done but for the withdrawal, whose failure does not matter.
                (Ok(()), Err(error)) if error.is_already_exists() => assert_eq!(there, b"first"),
                other => panic!("crash {moment:?} {at}: {other:?}"),
            }
            assert!(third.unwrap_err().is_already_exists(), "crash {moment:?} {at}");
        }
    }
}

#[test]
fn a_write_with_unknown_outcome_keeps_its_claim_and_a_refused_one_does_not() {
    let patient = Timing {
        give_up_after: Duration::ZERO,
        ..quick()
    };
    for (fault, claims) in [
        (Fault::Unavailable, 1),
        (Fault::Io, 1),
        (Fault::Full, 0),
        (Fault::Denied, 0),
    ] {
        let world = careless();
        let storage = FaultStorage::new(Arc::new(world.clone()));
        storage.inject(fault, |operation| {
            operation.kind == Kind::Put && operation.key == "dir/key"
        });
        create(&storage, b"1", &patient).unwrap_err();
        assert_eq!(world.list(PREFIX).unwrap().len(), claims, "{fault:?}");
    }
}

#[test]
fn a_writer_that_stalls_does_not_write_late() {
    let world = careless();
    let stalled = FaultStorage::new(Arc::new(world.clone()));
    let timing = Timing {
        act_within: Duration::from_millis(20),
        ..quick()
    };
    stalled.inject_times(1, Fault::Delay(Duration::from_millis(50)), |operation| {
        operation.kind == Kind::List
    });
    create(&stalled, b"1", &timing).unwrap();
    let writes = stalled
        .log()
        .iter()
        .filter(|operation| operation.key == "dir/key")
        .count();
    let claims = stalled
        .log()
        .iter()
        .filter(|operation| operation.kind == Kind::Put)
        .count();
    assert_eq!(claims, 3, "it claimed anew, then wrote");
    assert!(writes >= 3);
    only_key(&world);
}

#[test]
fn lists_that_lag_are_noticed() {
    let storage = FaultStorage::new(Arc::new(careless()));
    storage.lag_lists(5);
    assert!(matches!(
        create(&storage, b"1", &quick()),
        Err(StorageError::Unavailable { .. })
    ));
    assert!(storage.inner().list("").unwrap().is_empty());
}

#[test]
fn claims_of_other_keys_are_not_in_the_way() {
    let world = careless();
    settle_in(&world).unwrap();
    let other = Claim::make(&world, "dir/key/below").unwrap();
    create(&world, b"1", &quick()).unwrap();
    assert_eq!(sweep(&world).unwrap(), 0);
    world.advance(Duration::from_secs(25 * 3600));
    Claim::make(&world, "other").unwrap();
    assert_eq!(sweep(&world).unwrap(), 1);
    assert!(world.head(&other.key).unwrap_err().is_not_found());
    assert!(world.head(KEEPER).is_ok(), "the folder is kept");
}

#[test]
fn a_delete_that_did_nothing_is_repeated() {
    let world = careless();
    let storage = FaultStorage::new(Arc::new(world.clone()));
    storage.inject_times(3, Fault::Unavailable, |operation| operation.kind == Kind::Delete);
    create(&storage, b"1", &quick()).unwrap();
    only_key(&world);
}
