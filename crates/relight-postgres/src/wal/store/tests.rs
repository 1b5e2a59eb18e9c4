//! The log in a repository, in memory, with other writers and crashes.

use std::collections::BTreeMap;
use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use relight_repo::keyring;
use relight_repo::session::Session;
use relight_repo::settings::Settings;
use relight_repo::snapshot::{Snapshot, SnapshotSpec};
use relight_repo::storage::Storage;
use relight_repo::storage::fault::{Fault, FaultStorage, Moment};
use relight_repo::storage::memory::MemoryStorage;

use super::*;
use crate::lsn::Lsn;
use crate::wal::attributes;
use crate::wal::error::WalError;
use crate::wal::name::{SegmentName, Timeline, WalName};
use crate::wal::retention::Promise;
use crate::wal::sample::Sample;
use crate::wal::testing::{Place, WORKLOAD};
use crate::wal::windows::{Base, Log, view};

fn at(minute: i64) -> Timestamp {
    Timestamp::from_second(1_790_000_000 + 60 * minute).unwrap()
}

/// Segments from 1 on, each with a commit.
fn segments(timeline: u32, count: u64) -> Vec<NewFile> {
    let mut sample = Sample::new(Sample::cluster(17), timeline, 1);
    for minute in 0..count {
        sample.commit(at(minute as i64));
        sample.switch();
    }
    sample
        .segments()
        .into_iter()
        .map(|(name, bytes)| file(WalName::Segment(name), bytes))
        .collect()
}

fn file(name: WalName, bytes: Vec<u8>) -> NewFile {
    NewFile {
        name,
        bytes,
        system: None,
    }
}

fn segment(number: u64) -> WalName {
    WalName::Segment(SegmentName::new(
        Timeline(1),
        number,
        Sample::cluster(17).segment_size,
    ))
}

/// A base backup that ended in this segment.
fn base(store: &LogStore, number: u64) -> Snapshot {
    let session = Session::begin(store.repository().clone(), Arc::default()).unwrap();
    let mut attributes = BTreeMap::from(
        [
            (attributes::TIMELINE, "1".to_string()),
            (attributes::START_LSN, Lsn((number << 20) + 40).to_string()),
            (attributes::STOP_LSN, Lsn((number << 20) + 80).to_string()),
            (attributes::STOP_TIME, (at(number as i64 - 1)).to_string()),
        ]
        .map(|(name, value)| (name.to_string(), value)),
    );
    attributes::set_cluster(&mut attributes, &Sample::cluster(17));
    let spec = SnapshotSpec {
        workload: WORKLOAD.into(),
        attributes,
        ..SnapshotSpec::default()
    };
    session.publish(spec, Vec::new()).unwrap()
}

#[test]
fn what_was_pushed_comes_back_and_the_same_again_changes_nothing() {
    let place = Place::new();
    let store = place.open();
    let files = segments(1, 3);
    assert_eq!(store.push(files.clone()).unwrap(), [Pushed::Stored; 3]);
    let snapshots = store.repository().snapshot_ids().unwrap().len();
    // Another process, and one without a cache.
    let other = place.open();
    for file in &files {
        assert_eq!(other.push(vec![file.clone()]).unwrap(), [Pushed::Known]);
        assert_eq!(
            other.recover(file.name).unwrap(),
            Fetched::Found(file.bytes.clone())
        );
    }
    assert_eq!(store.repository().snapshot_ids().unwrap().len(), snapshots);
    let catalog = other.catalog().unwrap();
    assert_eq!(catalog.cluster, Some(Sample::cluster(17)));
    assert_eq!(catalog.files[&segment(2)].note.times.last_commit, Some(at(1)));
    assert!(catalog.logs.iter().all(Snapshot::is_log));
}

#[test]
fn other_content_under_a_name_is_refused() {
    let store = Place::new().open();
    let mut files = segments(1, 2);
    store.push(files.clone()).unwrap();
    files[1].bytes[900_000] ^= 1;
    let error = store.push(vec![files[1].clone()]).unwrap_err();
    assert!(matches!(error, WalError::OtherContent { .. }), "{error}");
    // All or none: the new one beside it was not stored.
    let mut more = segments(1, 3).split_off(2);
    more.push(files[1].clone());
    store.push(more).unwrap_err();
    assert!(!store.catalog().unwrap().files.contains_key(&segment(3)));
}

#[test]
fn another_cluster_version_or_segment_size_is_refused() {
    let store = Place::new().open();
    store.push(segments(1, 1)).unwrap();
    let pushed = |change: &dyn Fn(&mut crate::wal::summary::Cluster)| {
        let mut cluster = Sample::cluster(17);
        change(&mut cluster);
        let mut sample = Sample::new(cluster, 1, 2);
        sample.commit(at(1));
        sample.switch();
        let (name, bytes) = sample.segments().swap_remove(0);
        store.push(vec![file(WalName::Segment(name), bytes)]).unwrap_err()
    };
    let error = pushed(&|cluster| cluster.system += 1);
    assert!(matches!(error, WalError::OtherCluster { .. }), "{error}");
    let error = pushed(&|cluster| cluster.major = 18);
    assert!(
        matches!(
            error,
            WalError::OtherMajor {
                found: 18,
                known: 17,
                ..
            }
        ),
        "{error}"
    );
    let error = pushed(&|cluster| cluster.segment_size = (2_u64 << 20).try_into().unwrap());
    assert!(matches!(error, WalError::OtherSegmentSize { .. }), "{error}");
    // A history does not say whose it is; who pushes it may.
    let mut history = file(WalName::History(Timeline(2)), b"1\t0/200\tx\n".to_vec());
    history.system = Some(1);
    let error = store.push(vec![history.clone()]).unwrap_err();
    assert!(matches!(error, WalError::OtherCluster { .. }), "{error}");
    history.system = Some(Sample::cluster(17).system);
    store.push(vec![history]).unwrap();
}

#[test]
fn a_segment_that_is_not_full_or_not_one_is_refused() {
    let store = Place::new().open();
    let mut short = segments(1, 1).remove(0);
    short.bytes.truncate(500_000);
    assert!(matches!(store.push(vec![short]), Err(WalError::NotWal { .. })));
    let noise = file(segment(1), vec![7; 1 << 20]);
    assert!(matches!(store.push(vec![noise]), Err(WalError::NotWal { .. })));
    let remark = file(
        "000000010000000000000001.00000028.backup".parse().unwrap(),
        b"x".to_vec(),
    );
    assert!(matches!(store.push(vec![remark]), Err(WalError::NotWal { .. })));
    assert!(store.catalog().unwrap().is_empty());
}

#[test]
fn the_end_of_the_log_is_only_where_it_is_known_to_be() {
    let place = Place::new();
    let store = place.open();
    // A workload of which there is nothing is most likely misspelt.
    assert!(matches!(
        store.recover(segment(1)),
        Err(WalError::NoSuchWorkload(_))
    ));
    let mut files = segments(1, 6);
    files.remove(3);
    store.push(files).unwrap();
    assert!(matches!(store.recover(segment(3)).unwrap(), Fetched::Found(_)));
    assert!(matches!(store.recover(segment(4)), Err(WalError::Gap { .. })));
    assert_eq!(store.recover(segment(7)).unwrap(), Fetched::End);
    assert_eq!(
        store.recover(WalName::History(Timeline(2))).unwrap(),
        Fetched::End
    );
    // A server that knows of timeline 2 asks for it first.
    let elsewhere = SegmentName::new(Timeline(2), 2, Sample::cluster(17).segment_size);
    assert_eq!(store.recover(WalName::Segment(elsewhere)).unwrap(), Fetched::End);
    // The storage fails: never the end.
    let storage = FaultStorage::new(place.storage.clone());
    let failing = place.open_through(Arc::new(storage.clone())).unwrap();
    storage.inject(Fault::Unavailable, |_| true);
    let error = failing.recover(segment(7)).unwrap_err();
    assert!(error.is_passing(), "{error}");
}

#[test]
fn snapshots_that_cannot_be_read_may_hold_what_is_looked_for() {
    let memory = MemoryStorage::new();
    let place = Place {
        storage: Arc::new(memory.clone()),
        ..Place::new()
    };
    keyring::initialise(&memory, &place.key, "test", Timestamp::now(), Settings::default()).unwrap();
    let store = place.open();
    store.push(segments(1, 2)).unwrap();
    store.push(segments(1, 3).split_off(2)).unwrap();
    let newest = store.catalog().unwrap().files[&segment(3)].snapshot;
    memory.tamper(&Snapshot::key(newest), |bytes| bytes[100] ^= 1);
    let fresh = Place {
        storage: place.storage.clone(),
        key: place.key,
        cache: tempfile::tempdir().unwrap(),
    };
    let error = fresh.open().recover(segment(3)).unwrap_err();
    assert!(matches!(error, WalError::Unreadable { count: 1, .. }), "{error}");
}

#[test]
fn small_snapshots_are_merged_and_nothing_is_lost() {
    let place = Place::new();
    let store = place.open();
    let files = segments(1, 40);
    for file in &files {
        store.push(vec![file.clone()]).unwrap();
    }
    let catalog = store.catalog().unwrap();
    assert_eq!(catalog.files.len(), 40);
    assert_eq!(catalog.conflicts, []);
    assert!(catalog.logs.len() < 16, "{}", catalog.logs.len());
    for number in [1, 16, 17, 33, 40] {
        let expected = files[number as usize - 1].bytes.clone();
        assert_eq!(store.recover(segment(number)).unwrap(), Fetched::Found(expected));
        let note = &catalog.files[&segment(number)].note;
        assert_eq!(note.times.last_commit, Some(at(number as i64 - 1)));
    }
}

#[test]
fn a_push_that_dies_at_any_moment_leaves_all_or_nothing_and_can_be_repeated() {
    let files = segments(1, 17);
    // So many that the last push merges.
    let prepared = || {
        let place = Place::new();
        let store = place.open();
        for file in &files[..15] {
            store.push(vec![file.clone()]).unwrap();
        }
        place
    };
    let count = {
        let place = prepared();
        let process = FaultStorage::new(place.storage.clone());
        place
            .open_through(Arc::new(process.clone()))
            .unwrap()
            .push(vec![files[15].clone()])
            .unwrap();
        process.operations()
    };
    let world = prepared();
    let mut died = 0;
    for number in (1..=count).step_by(5) {
        for moment in [Moment::Before, Moment::After] {
            let place = Place {
                storage: copy(&world.storage),
                key: world.key.clone(),
                cache: tempfile::tempdir().unwrap(),
            };
            let process = FaultStorage::new(place.storage.clone());
            process.crash_at(number, moment);
            let result = place
                .open_through(Arc::new(process.clone()))
                .and_then(|store| store.push(vec![files[15].clone()]));
            died += u32::from(result.is_err());
            let next = place.open();
            assert_eq!(next.push(files[15..].to_vec()).unwrap().len(), 2);
            for file in &files {
                assert_eq!(
                    next.recover(file.name).unwrap(),
                    Fetched::Found(file.bytes.clone())
                );
            }
            assert_eq!(next.catalog().unwrap().conflicts, []);
        }
    }
    assert!(died > 6, "{died}");
}

/// The same objects in another storage.
fn copy(storage: &Arc<dyn Storage>) -> Arc<dyn Storage> {
    let copy = MemoryStorage::new();
    for object in storage.list("").unwrap() {
        let bytes = storage.get(&object.key).unwrap();
        copy.put(&object.key, &[&bytes], &Default::default()).unwrap();
    }
    Arc::new(copy)
}

#[test]
fn of_two_who_push_different_content_at_once_one_notices() {
    let place = Place::new();
    let files = segments(1, 1);
    let mut others = files.clone();
    // Still a segment of the same cluster.
    let length = others[0].bytes.len();
    others[0].bytes[length - 1] = 1;
    let (here, there) = (place.open(), place.open());
    // `here` looks before `there` has published, and again after it has published itself.
    let mut push = here.begin_push().unwrap();
    push.add(files[0].clone()).unwrap();
    there.push(others).unwrap();
    let error = push.commit().unwrap_err();
    assert!(matches!(error, WalError::OtherContent { .. }), "{error}");
    let catalog = here.catalog().unwrap();
    assert_eq!((catalog.logs.len(), catalog.conflicts.len()), (1, 0));
}

#[test]
fn deleting_one_segment_splits_the_window() {
    let store = Place::new().open();
    for file in segments(1, 5) {
        store.push(vec![file]).unwrap();
    }
    base(&store, 1);
    base(&store, 4);
    let windows = |store: &LogStore| {
        let catalog = store.catalog().unwrap();
        let bases: Vec<Base> = catalog.backups.iter().filter_map(Base::of).collect();
        view(&Log::of(&catalog), &bases)
    };
    assert_eq!(windows(&store).windows.len(), 1);
    let gone = store.catalog().unwrap().files[&segment(3)].snapshot;
    store.repository().forget(gone).unwrap();
    let split = windows(&store);
    assert_eq!(split.windows.len(), 2);
    assert_eq!(split.gaps.len(), 1);
    assert_eq!(
        (split.windows[0].to.lsn, split.windows[0].to.time),
        (Lsn(3 << 20), at(1))
    );
}

#[test]
fn expiry_forgets_what_no_kept_base_needs_and_trims_what_is_mostly_useless() {
    let store = Place::new().open();
    let files = segments(1, 30);
    store.push(files[..10].to_vec()).unwrap();
    store.push(files[10..].to_vec()).unwrap();
    let (first, second) = (base(&store, 2), base(&store, 24));
    let promise = Promise {
        point_in_time: Some(SignedDuration::from_mins(3)),
        now: at(30),
    };
    // Both stay: the first one needs its own segment, so its snapshot is trimmed.
    let expiry = store.plan_expiry(&promise, &|_| true).unwrap();
    assert_eq!(expiry.needed.into_iter().collect::<Vec<_>>(), [second.id]);
    assert_eq!(expiry.files.len(), 30 - 1 - 7);
    assert_eq!((expiry.forget.len(), expiry.replace.len()), (0, 2));
    store.expire(&promise, &|_| true).unwrap();
    let catalog = store.catalog().unwrap();
    let left: Vec<WalName> = catalog.files.keys().copied().collect();
    assert_eq!(
        left,
        [2].into_iter().chain(24..=30).map(segment).collect::<Vec<_>>()
    );
    assert_eq!(
        store.recover(segment(27)).unwrap(),
        Fetched::Found(files[26].bytes.clone())
    );
    // Only the second one stays.
    let expiry = store.expire(&promise, &|id| id != first.id).unwrap();
    assert_eq!(expiry.forget.len(), 1);
    assert_eq!(store.catalog().unwrap().files.len(), 7);
}

#[test]
fn a_server_that_forgets_is_told_what_must_stay_and_then_lets_the_log_go() {
    use relight_workloads::kind::{KeepsLog, Kind};
    let store = Place::new().open();
    // Real times: what is promised is counted back from now.
    let mut sample = Sample::new(Sample::cluster(17), 1, 1);
    let now = Timestamp::now();
    for minute in 0..30 {
        sample.commit(now - SignedDuration::from_mins(30 - minute));
        sample.switch();
    }
    let segments = sample
        .segments()
        .into_iter()
        .map(|(name, bytes)| file(WalName::Segment(name), bytes));
    store.push(segments.collect()).unwrap();
    let base = |number: u64| {
        let session = Session::begin(store.repository().clone(), Arc::default()).unwrap();
        let time = now - SignedDuration::from_mins(31 - number as i64);
        let attributes = [
            (attributes::TIMELINE, "1".to_string()),
            (attributes::START_LSN, Lsn((number << 20) + 40).to_string()),
            (attributes::STOP_LSN, Lsn((number << 20) + 80).to_string()),
            (attributes::STOP_TIME, time.to_string()),
        ];
        let spec = SnapshotSpec {
            workload: WORKLOAD.into(),
            attributes: attributes.map(|(name, value)| (name.to_string(), value)).into(),
            ..SnapshotSpec::default()
        };
        session.publish(spec, Vec::new()).unwrap().id
    };
    let (first, second, third) = (base(2), base(12), base(25));
    let kind = crate::kind::Clusters;
    let log = kind.log().unwrap();
    let (repository, workload) = (store.repository(), store.workload());
    let needed = |minutes| {
        log.needed(repository, workload, SignedDuration::from_mins(minutes))
            .unwrap()
    };
    assert_eq!(needed(3).into_iter().collect::<Vec<_>>(), [third]);
    assert_eq!(needed(10).into_iter().collect::<Vec<_>>(), [second]);
    assert_eq!(needed(500).into_iter().collect::<Vec<_>>(), [first]);
    repository.forget(first).unwrap();
    KeepsLog::expire(
        &kind,
        repository,
        workload,
        Some(SignedDuration::from_mins(10)),
        &Arc::default(),
    )
    .unwrap();
    let left: Vec<WalName> = store.catalog().unwrap().files.keys().copied().collect();
    // Fewer than half of the one snapshot that holds them could go, so it stays; of 12 on all is needed.
    assert_eq!(left.len(), 30);
    repository.forget(second).unwrap();
    KeepsLog::expire(
        &kind,
        repository,
        workload,
        Some(SignedDuration::from_mins(3)),
        &Arc::default(),
    )
    .unwrap();
    let left: Vec<WalName> = store.catalog().unwrap().files.keys().copied().collect();
    assert_eq!(left, (25..=30).map(segment).collect::<Vec<_>>());
}
