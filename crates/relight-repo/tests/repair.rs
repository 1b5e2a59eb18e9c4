//! Real damage is made good: by parity, from a copy, by the next backup; and the index comes back from packs alone.

mod common;

use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use common::{Place, back_up, content, read_back};
use proptest::prelude::*;
use relight_keys::{KeyFile, SystemEntropy};
use relight_repo::control::Control;
use relight_repo::pack::PackKind;
use relight_repo::repair::{self, IndexReport, PackOptions, PackReport};
use relight_repo::settings::Settings;
use relight_repo::snapshot::Snapshot;
use relight_repo::storage::fault::{Fault, FaultStorage, Kind, Moment};
use relight_repo::storage::local::LocalStorage;
use relight_repo::storage::memory::MemoryStorage;
use relight_repo::storage::{PutOptions, Storage};
use relight_repo::verify::{Damage, Options, Report, Scope, verify};
use relight_repo::{OpenOptions, PackId, RepoError, Repository, keyring};

static QUIET: AtomicBool = AtomicBool::new(false);

fn quiet() -> Control<'static> {
    Control::quiet(&QUIET)
}

fn settings(parity_percent: u8) -> Settings {
    Settings {
        parity_percent,
        ..Settings::default()
    }
}

fn small_packs(place: &Place) -> OpenOptions {
    let mut options = OpenOptions::new(place.cache.path());
    options.threads = 2;
    options.data_pack = 512 << 10;
    options.metadata_pack = 64 << 10;
    options
}

/// Opens a repository that fills small packs.
fn open(place: &Place, storage: Arc<dyn Storage>) -> relight_repo::Result<Arc<Repository>> {
    let keys = keyring::unlock(&*storage, &place.key)?.into_keys();
    Repository::open(storage, keys, small_packs(place)).map(Arc::new)
}

fn check(repository: &Arc<Repository>) -> Report {
    verify(repository, &Options::new(Scope::Everything), quiet()).unwrap()
}

fn repair_packs(repository: &Arc<Repository>, options: &PackOptions) -> PackReport {
    repair::packs(repository, options, quiet()).unwrap()
}

fn repair_index(place: &Place, storage: Arc<dyn Storage>) -> relight_repo::Result<IndexReport> {
    let keys = keyring::unlock(&*storage, &place.key)?.into_keys();
    repair::index(storage, keys, small_packs(place), quiet())
}

fn pack_keys(storage: &dyn Storage) -> Vec<String> {
    let mut keys: Vec<String> = PackKind::ALL
        .iter()
        .flat_map(|kind| storage.list(kind.prefix()).unwrap())
        .map(|object| object.key)
        .collect();
    keys.sort();
    keys
}

fn id_of(key: &str) -> PackId {
    PackKind::parse_key(key).unwrap().1
}

fn damage(storage: &dyn Storage, key: &str, change: impl FnOnce(&mut Vec<u8>)) -> Vec<u8> {
    let before = storage.get(key).unwrap();
    let mut bytes = before.clone();
    change(&mut bytes);
    storage.put(key, &[&bytes], &PutOptions::default()).unwrap();
    before
}

struct Lab {
    place: Place,
    repository: Arc<Repository>,
    snapshots: Vec<(Snapshot, Vec<u8>)>,
}

impl Lab {
    fn new(storage: Arc<dyn Storage>, parity: u8) -> Self {
        Self::of(storage, parity, 12_000_000)
    }

    fn of(storage: Arc<dyn Storage>, parity: u8, length: usize) -> Self {
        let place = Place::with(storage.clone(), settings(parity));
        let repository = open(&place, storage).unwrap();
        let bytes = content(7, length);
        let snapshots = [&bytes[..], &bytes[..length / 4 * 3], &bytes[length / 12..]]
            .iter()
            .map(|bytes| {
                (
                    back_up(&repository, "host/a", &[("x", bytes)]).unwrap(),
                    bytes.to_vec(),
                )
            })
            .collect();
        Self {
            place,
            repository,
            snapshots,
        }
    }

    fn storage(&self) -> &dyn Storage {
        &*self.place.storage
    }

    fn assert_whole(&self) {
        let repository = open(&self.place, self.place.storage.clone()).unwrap();
        for (snapshot, bytes) in &self.snapshots {
            let snapshot = repository.snapshot(snapshot.id).unwrap();
            assert!(read_back(&repository, &snapshot.archives[0]).unwrap() == *bytes);
        }
    }
}

#[test]
fn parity_makes_good_what_a_disk_does() {
    let directory = tempfile::tempdir().unwrap();
    let storage = LocalStorage::create(&directory.path().join("repository")).unwrap();
    let lab = Lab::new(Arc::new(storage), 10);
    assert!(check(&lab.repository).is_clean());
    let keys = pack_keys(lab.storage());
    assert!(keys.len() > 8);
    let mut originals = Vec::new();
    for (number, key) in keys.iter().enumerate() {
        originals.push(damage(lab.storage(), key, |bytes| {
            let length = bytes.len();
            match number % 5 {
                0 => bytes[length / 2] ^= 1,
                1 => bytes.truncate(length - length / 20),
                2 => bytes[length / 3..length / 3 + 3000.min(length / 20)].fill(0),
                3 => bytes[..20].fill(0xff),
                _ => bytes.extend_from_slice(&[1; 5000]),
            }
        }));
    }
    let report = check(&lab.repository);
    assert_eq!(report.findings.len(), keys.len(), "{:#?}", report.findings);
    assert!(
        report
            .findings
            .iter()
            .all(|found| found.damage == Damage::Corrupt)
    );
    let report = repair_packs(
        &open(&lab.place, lab.place.storage.clone()).unwrap(),
        &PackOptions::default(),
    );
    assert_eq!(report.rebuilt.len(), keys.len(), "{report:#?}");
    assert!(
        report.beyond_parity.is_empty() && report.rest.is_clean(),
        "{report:#?}"
    );
    for (key, original) in keys.iter().zip(&originals) {
        assert!(
            lab.storage().get(key).unwrap() == *original,
            "{key} is what it was"
        );
    }
    assert!(lab.storage().list("suspects/").unwrap().is_empty());
    assert!(check(&lab.repository).is_clean());
    lab.assert_whole();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(12))]
    #[test]
    fn any_damage_within_the_parity_is_made_good(
        wounds in proptest::collection::vec((any::<prop::sample::Index>(), any::<u32>(), 1usize..4000), 1..10),
        percent in 5u8..60,
    ) {
        let place = Place::with(Arc::new(MemoryStorage::new()), settings(percent));
        let repository = open(&place, place.storage.clone()).unwrap();
        let bytes = content(u64::from(percent), 6_000_000);
        let snapshot = back_up(&repository, "host/a", &[("x", &bytes)]).unwrap();
        let keys = pack_keys(&*place.storage);
        let mut hurt: HashSet<&String> = HashSet::new();
        for (which, at, length) in &wounds {
            // One wound touches at most two blocks; a pack bears as many as it has recovery blocks.
            let key = which.get(&keys);
            let size = place.storage.head(key).unwrap().size as usize;
            let bears = (size.div_ceil(4096) * usize::from(percent)).div_ceil(100);
            if bears < 2 || !hurt.insert(key) {
                continue;
            }
            damage(&*place.storage, key, |bytes| {
                let start = *at as usize % bytes.len();
                let end = bytes.len().min(start + length);
                bytes[start..end].iter_mut().for_each(|byte| *byte ^= 0xa5);
            });
        }
        let found = check(&repository);
        prop_assert_eq!(found.findings.len(), hurt.len());
        let report = repair_packs(&repository, &PackOptions::default());
        prop_assert_eq!(report.rebuilt.len(), hurt.len());
        prop_assert!(report.rest.is_clean());
        prop_assert!(check(&repository).is_clean());
        prop_assert!(read_back(&repository, &snapshot.archives[0]).unwrap() == bytes);
    }
}

#[test]
fn unreadable_sectors_are_written_anew() {
    let lab = Lab::new(Arc::new(MemoryStorage::new()), 10);
    // The largest, whose parity makes two sectors good.
    let size = |key: &String| lab.storage().head(key).unwrap().size;
    let key = pack_keys(lab.storage()).into_iter().max_by_key(size).unwrap();
    let before = lab.storage().get(&key).unwrap();
    let faults = FaultStorage::new(lab.place.storage.clone());
    let repository = open(&lab.place, Arc::new(faults.clone())).unwrap();
    let sectors = std::sync::atomic::AtomicUsize::new(0);
    let name = key.clone();
    // Until the object is written again, every large read of it fails, and of the small ones the third and fourth.
    let written = Arc::new(AtomicBool::new(false));
    let seen = written.clone();
    let watched = name.clone();
    faults.before_each(move |operation| {
        if operation.kind == Kind::Put && operation.key == watched {
            seen.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    });
    faults.inject(Fault::Io, move |operation| {
        use std::sync::atomic::Ordering;
        if operation.key != name || written.load(Ordering::Relaxed) || !operation.kind.is_read() {
            return false;
        }
        operation.bytes != 4096 || [3, 4].contains(&sectors.fetch_add(1, Ordering::Relaxed))
    });
    let report = check(&repository);
    assert!(
        report
            .findings
            .iter()
            .all(|found| found.damage == Damage::Unreadable)
            && !report.findings.is_empty()
    );
    let named = PackOptions {
        packs: [id_of(&key)].into(),
        ..PackOptions::default()
    };
    let report = repair_packs(&repository, &named);
    assert_eq!(report.rebuilt, [id_of(&key)], "{report:#?}");
    assert!(report.rest.is_clean());
    assert!(lab.storage().get(&key).unwrap() == before);
}

#[test]
fn what_parity_cannot_make_good_comes_from_a_copy() {
    for parity in [0, 2] {
        let lab = Lab::new(Arc::new(MemoryStorage::new()), parity);
        let copy_place = Place::new(Arc::new(MemoryStorage::new()));
        let copy = open(&copy_place, copy_place.storage.clone()).unwrap();
        let snapshots = lab.repository.snapshots().unwrap().0;
        relight_repo::copy::copy(&lab.repository, &copy, &snapshots, quiet()).unwrap();
        for (number, key) in pack_keys(lab.storage()).iter().enumerate() {
            match number % 3 {
                0 => lab.storage().delete(key).unwrap(),
                1 => drop(damage(lab.storage(), key, |bytes| bytes[100..].fill(9))),
                _ => {}
            }
        }
        assert!(!check(&lab.repository).is_restorable());
        let report = repair_packs(&lab.repository, &PackOptions::default());
        assert!(!report.rest.is_restorable() && (parity > 0 || report.rebuilt.is_empty()));
        assert!(!report.rest.affected.is_empty(), "what is lost is named");
        let from = PackOptions {
            from: vec![copy],
            ..PackOptions::default()
        };
        let report = repair_packs(&lab.repository, &from);
        assert!(report.fetched_chunks > 0 && report.fetch_errors.is_empty());
        assert!(report.rest.is_restorable(), "{:#?}", report.rest);
        lab.assert_whole();
        let again = repair_packs(&lab.repository, &from);
        assert_eq!(again.fetched_chunks, 0);
    }
}

#[test]
fn parity_is_looked_after() {
    let lab = Lab::new(Arc::new(MemoryStorage::new()), 10);
    let parity = lab.storage().list("parity/").unwrap();
    assert_eq!(parity.len(), pack_keys(lab.storage()).len());
    lab.storage().delete(&parity[0].key).unwrap();
    damage(lab.storage(), &parity[1].key, |bytes| {
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
    });
    let report = check(&lab.repository);
    assert!(report.is_restorable() && !report.is_clean());
    let mut kinds: Vec<Damage> = report.parity.iter().map(|bad| bad.damage).collect();
    kinds.sort();
    assert_eq!(kinds, [Damage::Missing, Damage::Corrupt]);
    let packs = report.parity.iter().map(|bad| bad.pack).collect();
    let report = repair_packs(
        &lab.repository,
        &PackOptions {
            packs,
            ..PackOptions::default()
        },
    );
    assert_eq!(report.parity_written.len(), 2);
    assert!(check(&lab.repository).is_clean());
}

#[test]
fn an_index_comes_back_from_packs_alone() {
    let lab = Lab::new(Arc::new(MemoryStorage::new()), 0);
    let chunks = lab.repository.index().len() as u64;
    let segments = lab.storage().list("index/").unwrap();
    damage(lab.storage(), &segments[0].key, |bytes| bytes[50] ^= 1);
    std::fs::remove_dir_all(lab.place.cache.path()).unwrap();
    assert!(matches!(
        open(&lab.place, lab.place.storage.clone()),
        Err(RepoError::Damaged { .. })
    ));
    let report = repair_index(&lab.place, lab.place.storage.clone()).unwrap();
    assert_eq!(
        (report.bad_segments.len(), report.replaced),
        (1, segments.len() as u64)
    );
    assert_eq!(
        (report.packs, report.chunks),
        (pack_keys(lab.storage()).len() as u64, chunks)
    );
    lab.assert_whole();

    for segment in lab.storage().list("index/").unwrap() {
        lab.storage().delete(&segment.key).unwrap();
    }
    let repository = open(&lab.place, lab.place.storage.clone()).unwrap();
    let report = check(&repository);
    assert!(!report.is_restorable());
    assert_eq!(report.findings[0].damage, Damage::Missing);
    let report = repair_index(&lab.place, lab.place.storage.clone()).unwrap();
    assert_eq!(
        (report.packs, report.new_packs),
        (report.new_packs, pack_keys(lab.storage()).len() as u64)
    );
    lab.assert_whole();
    assert!(check(&open(&lab.place, lab.place.storage.clone()).unwrap()).is_clean());
    assert!(lab.storage().list("sessions/").unwrap().is_empty());
}

#[test]
fn a_pack_without_a_table_of_contents_stays_in_the_index() {
    let lab = Lab::new(Arc::new(MemoryStorage::new()), 0);
    let keys = pack_keys(lab.storage());
    damage(lab.storage(), &keys[0], |bytes| {
        let end = bytes.len() - 1;
        bytes[end] ^= 1;
    });
    lab.storage().delete(&keys[1]).unwrap();
    let report = repair_index(&lab.place, lab.place.storage.clone()).unwrap();
    assert_eq!(
        (report.kept.len(), report.kept[0].pack, report.kept[0].known),
        (1, id_of(&keys[0]), true)
    );
    assert_eq!(report.missing, [id_of(&keys[1])]);
    let report = check(&open(&lab.place, lab.place.storage.clone()).unwrap());
    let of_pack: Vec<_> = report
        .findings
        .iter()
        .filter(|found| found.pack.is_some())
        .collect();
    assert_eq!(
        (of_pack.len(), of_pack[0].pack, of_pack[0].needed),
        (1, Some(id_of(&keys[0])), false)
    );
    assert!(
        report
            .findings
            .iter()
            .any(|found| found.pack.is_none() && found.damage == Damage::Missing)
    );
}

#[test]
fn a_crash_at_any_moment_of_rebuilding_the_index_loses_nothing() {
    let lab = Lab::of(Arc::new(MemoryStorage::new()), 0, 1_200_000);
    let mut number = 1;
    loop {
        let faults = FaultStorage::new(lab.place.storage.clone());
        let moment = if number % 2 == 0 {
            Moment::Before
        } else {
            Moment::After
        };
        faults.crash_at(number, moment);
        let outcome = repair_index(&lab.place, Arc::new(faults.clone()));
        lab.assert_whole();
        if outcome.is_ok() && !faults.is_crashed() {
            break;
        }
        // The process is dead; on this host that is known of its lease.
        for lease in lab.storage().list("leases/collect/").unwrap() {
            lab.storage().delete(&lease.key).unwrap();
        }
        repair_index(&lab.place, lab.place.storage.clone()).unwrap();
        number += 1;
    }
    assert!(number > 15, "{number}");
    assert!(check(&open(&lab.place, lab.place.storage.clone()).unwrap()).is_clean());
}

#[test]
fn a_wrong_key_rebuilds_nothing() {
    let lab = Lab::new(Arc::new(MemoryStorage::new()), 0);
    let other = Place {
        storage: lab.place.storage.clone(),
        key: KeyFile::generate(&mut SystemEntropy).unwrap(),
        cache: tempfile::tempdir().unwrap(),
    };
    let before = lab.storage().list("").unwrap();
    assert!(repair_index(&other, lab.place.storage.clone()).is_err());
    assert_eq!(lab.storage().list("").unwrap(), before);
}
