//! Calls of the commands, as a server would make them, with a repository that fails.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use jiff::Timestamp;
use relight_repo::storage::fault::{Fault, FaultStorage};

use super::*;
use crate::wal::error::{Result, WalError};
use crate::wal::name::{SegmentName, Timeline, WalName};
use crate::wal::sample::Sample;
use crate::wal::store::{LogStore, Pushed};
use crate::wal::testing::Place;

/// A data directory with segments that are ready to be archived.
struct Data {
    folder: tempfile::TempDir,
    names: Vec<WalName>,
}

impl Data {
    fn new(count: u64) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let status = folder.path().join("pg_wal/archive_status");
        fs::create_dir_all(&status).unwrap();
        let mut sample = Sample::new(Sample::cluster(17), 1, 1);
        for second in 0..count {
            sample.commit(Timestamp::from_second(1_790_000_000 + second as i64).unwrap());
            sample.switch();
        }
        let mut names = Vec::new();
        for (name, bytes) in sample.segments() {
            fs::write(folder.path().join("pg_wal").join(name.to_string()), bytes).unwrap();
            fs::write(status.join(format!("{name}.ready")), []).unwrap();
            names.push(WalName::Segment(name));
        }
        Self { folder, names }
    }

    fn path(&self, name: WalName) -> PathBuf {
        self.folder.path().join("pg_wal").join(name.to_string())
    }

    fn target(&self) -> PathBuf {
        self.folder.path().join("pg_wal/RECOVERYXLOG")
    }

    fn spool(&self) -> Spool {
        Spool::beside(&self.target(), None, "test")
    }

    fn push(&self, name: WalName, place: &Place) -> Result<Pushed> {
        push(&self.path(name), &self.spool(), || Ok(place.open()))
    }
}

fn closed() -> Result<LogStore> {
    Err(WalError::Refused("the repository must not be needed".into()))
}

#[test]
fn one_call_takes_along_what_is_ready_and_the_next_need_no_repository() {
    let (data, place) = (Data::new(5), Place::new());
    assert_eq!(data.push(data.names[0], &place).unwrap(), Pushed::Stored);
    for name in &data.names[1..] {
        assert_eq!(
            push(&data.path(*name), &data.spool(), closed).unwrap(),
            Pushed::Known
        );
        // It is remembered once: who asks again gets it compared with what is in the repository.
        push(&data.path(*name), &data.spool(), closed).unwrap_err();
        assert_eq!(data.push(*name, &place).unwrap(), Pushed::Known);
    }
    assert_eq!(place.open().catalog().unwrap().files.len(), 5);
}

#[test]
fn what_is_remembered_is_bound_to_the_content() {
    let (data, place) = (Data::new(2), Place::new());
    data.push(data.names[0], &place).unwrap();
    let path = data.path(data.names[1]);
    let mut other = fs::read(&path).unwrap();
    *other.last_mut().unwrap() = 1;
    fs::write(&path, other).unwrap();
    let error = data.push(data.names[1], &place).unwrap_err();
    assert!(matches!(error, WalError::OtherContent { .. }), "{error}");
}

#[test]
fn a_bad_file_that_is_ready_does_not_hold_up_the_others() {
    let (data, place) = (Data::new(3), Place::new());
    fs::write(data.path(data.names[1]), [1; 1 << 20]).unwrap();
    data.push(data.names[0], &place).unwrap();
    assert_eq!(place.open().catalog().unwrap().files.len(), 2);
    assert!(matches!(
        data.push(data.names[1], &place),
        Err(WalError::NotWal { .. })
    ));
}

#[test]
fn a_segment_of_another_cluster_than_the_data_directory_is_refused() {
    let (data, place) = (Data::new(1), Place::new());
    data.push(data.names[0], &place).unwrap();
    fs::create_dir(data.folder.path().join("global")).unwrap();
    fs::write(data.folder.path().join("global/pg_control"), 77_u64.to_ne_bytes()).unwrap();
    let history = data.folder.path().join("pg_wal/00000002.history");
    fs::write(&history, "1\t0/300000\tno recovery target specified\n").unwrap();
    let error = push(&history, &data.spool(), || Ok::<_, WalError>(place.open())).unwrap_err();
    assert!(
        matches!(error, WalError::OtherCluster { found: 77, .. }),
        "{error}"
    );
}

#[test]
fn a_repository_that_fails_keeps_the_file_with_the_server() {
    let (data, place) = (Data::new(3), Place::new());
    let storage = FaultStorage::new(place.storage.clone());
    let store = || place.open_through(Arc::new(storage.clone()));
    let opened = store().unwrap();
    storage.inject(Fault::Full, |operation| operation.kind.is_write());
    let error = push::<WalError>(&data.path(data.names[0]), &data.spool(), || Ok(opened)).unwrap_err();
    assert!(error.is_passing(), "{error}");
    storage.heal();
    // Nothing is remembered of what did not become durable.
    for name in &data.names {
        push::<WalError>(&data.path(*name), &data.spool(), store).unwrap();
    }
    assert_eq!(place.open().catalog().unwrap().files.len(), 3);
}

#[test]
fn a_recovery_gets_every_segment_and_only_then_hears_of_the_end() {
    let (data, place) = (Data::new(6), Place::new());
    data.push(data.names[0], &place).unwrap();
    for name in &data.names {
        assert_eq!(
            fetch::<WalError>(*name, &data.target(), &data.spool(), false, || Ok(place.open())).unwrap(),
            Outcome::Found
        );
        assert_eq!(
            fs::read(data.target()).unwrap(),
            fs::read(data.path(*name)).unwrap()
        );
        fs::remove_file(data.target()).unwrap();
    }
    let next = WalName::Segment(SegmentName::new(Timeline(1), 7, Sample::cluster(17).segment_size));
    let outcome = fetch::<WalError>(next, &data.target(), &data.spool(), false, || Ok(place.open())).unwrap();
    assert_eq!(outcome, Outcome::End);
    assert!(!data.target().exists());
}

#[test]
fn a_repository_that_fails_in_the_middle_of_a_recovery_is_not_the_end() {
    let (data, place) = (Data::new(3), Place::new());
    data.push(data.names[0], &place).unwrap();
    // Whatever operation fails: an error, and no file.
    for failing in 1..60 {
        let process = FaultStorage::new(place.storage.clone());
        let opened = place.open_through(Arc::new(process.clone())).unwrap();
        let before = process.operations();
        process.inject_at(before + failing, Fault::Unavailable);
        let name = WalName::Segment(SegmentName::new(Timeline(1), 9, Sample::cluster(17).segment_size));
        match fetch::<WalError>(name, &data.target(), &data.spool(), false, || Ok(opened)) {
            Ok(outcome) => {
                assert_eq!(outcome, Outcome::End);
                assert!(
                    process.operations() < before + failing,
                    "operation {failing} failed, and nobody noticed"
                );
                break;
            }
            Err(error) => assert!(error.is_passing(), "{error}"),
        }
        assert!(!data.target().exists());
    }
}

#[test]
fn segments_are_fetched_ahead_of_a_recovery_and_nothing_is_left_behind() {
    let (data, place) = (Data::new(12), Place::new());
    data.push(data.names[0], &place).unwrap();
    let spool = data.spool();
    spool.set_cursor(data.names[0]).unwrap();
    let stop = AtomicBool::new(false);
    let ahead = Ahead {
        segments: 4,
        ..Ahead::default()
    };
    std::thread::scope(|scope| {
        let running = scope.spawn(|| fetch_ahead::<WalError>(&spool, &ahead, &stop, || Ok(place.open())));
        wait(|| spool.fetched(data.names[4]).exists());
        // A second one goes away at once.
        fetch_ahead::<WalError>(&spool, &Ahead::default(), &stop, closed).unwrap();
        for name in &data.names[1..] {
            wait(|| spool.fetched(*name).exists());
            let outcome = fetch::<WalError>(*name, &data.target(), &spool, false, closed).unwrap();
            assert_eq!(outcome, Outcome::Ahead);
            assert_eq!(
                fs::read(data.target()).unwrap(),
                fs::read(data.path(*name)).unwrap()
            );
        }
        stop.store(true, Ordering::Relaxed);
        running.join().unwrap().unwrap();
    });
    assert!(data.names.iter().all(|name| !spool.fetched(*name).exists()));
}

#[test]
fn who_fetches_ahead_stops_when_nobody_asks_or_nothing_can_be_written() {
    let (data, place) = (Data::new(3), Place::new());
    data.push(data.names[0], &place).unwrap();
    let spool = data.spool();
    spool.set_cursor(data.names[0]).unwrap();
    let ahead = Ahead {
        idle: Duration::from_millis(50),
        ..Ahead::default()
    };
    let stop = AtomicBool::new(false);
    fetch_ahead::<WalError>(&spool, &ahead, &stop, || Ok(place.open())).unwrap();
    assert!(!spool.is_locked());
    // A folder stands where the file is to be written.
    fs::create_dir_all(spool.fetching(data.names[1])).unwrap();
    fetch_ahead::<WalError>(&spool, &Ahead::default(), &stop, || Ok(place.open())).unwrap_err();
    // A fetch does without.
    let outcome =
        fetch::<WalError>(data.names[1], &data.target(), &spool, false, || Ok(place.open())).unwrap();
    assert_eq!(outcome, Outcome::Found);
}

#[test]
fn a_target_that_cannot_be_written_is_an_error() {
    let (data, place) = (Data::new(1), Place::new());
    data.push(data.names[0], &place).unwrap();
    let nowhere = Path::new("/nonexistent/folder/RECOVERYXLOG");
    let error =
        fetch::<WalError>(data.names[0], nowhere, &data.spool(), false, || Ok(place.open())).unwrap_err();
    assert!(matches!(error, WalError::Io { .. }), "{error}");
}

fn wait(done: impl Fn() -> bool) {
    for _ in 0..2000 {
        if done() {
            return;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    panic!("waited in vain");
}
