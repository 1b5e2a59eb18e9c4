//! Each damage is found, named by its kind, and traced to the bytes of the snapshots that it concerns; what is
//! stored again is used again.

mod common;

use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use common::{Place, back_up, content, read_back};
use relight_repo::control::Control;
use relight_repo::pack::PackKind;
use relight_repo::snapshot::Snapshot;
use relight_repo::storage::PutOptions;
use relight_repo::storage::fault::{Fault, FaultStorage, Kind};
use relight_repo::storage::local::LocalStorage;
use relight_repo::verify::{Damage, Options, Report, Scope, State, standing, verify};
use relight_repo::{PackId, Repository};

static QUIET: AtomicBool = AtomicBool::new(false);

fn place() -> (tempfile::TempDir, Place) {
    let directory = tempfile::tempdir().unwrap();
    let storage = LocalStorage::create(&directory.path().join("repository")).unwrap();
    (directory, Place::new(Arc::new(storage)))
}

fn run(repository: &Arc<Repository>, scope: Scope) -> Report {
    verify(repository, &Options::new(scope), Control::quiet(&QUIET)).unwrap()
}

/// The packs, the largest first.
fn packs(place: &Place, kind: PackKind) -> Vec<(PackId, PathBuf)> {
    let root = PathBuf::from(place.storage.location());
    let mut listed = place.storage.list(kind.prefix()).unwrap();
    listed.sort_by_key(|object| std::cmp::Reverse(object.size));
    listed
        .into_iter()
        .map(|object| {
            (
                PackKind::parse_key(&object.key).unwrap().1,
                root.join(&object.key),
            )
        })
        .collect()
}

fn flip(path: &Path, at: usize) {
    let mut bytes = std::fs::read(path).unwrap();
    bytes[at] ^= 0x10;
    std::fs::write(path, bytes).unwrap();
}

/// The findings as (damage, whether a snapshot lacks something, number of chunks).
fn findings(report: &Report) -> Vec<(Damage, bool, usize)> {
    report
        .findings
        .iter()
        .map(|found| (found.damage, found.needed, found.chunks.len()))
        .collect()
}

struct Lab {
    _directory: tempfile::TempDir,
    place: Place,
    repository: Arc<Repository>,
    big: Vec<u8>,
    small: Vec<u8>,
    snapshots: Vec<Snapshot>,
}

/// Two snapshots that share most of an archive of several packs.
fn lab() -> Lab {
    let (directory, place) = place();
    let repository = place.open().unwrap();
    let big = content(11, 60_000_000);
    let small = content(12, 300_000);
    let first = back_up(&repository, "host/a", &[("big", &big), ("small", &small)]).unwrap();
    let second = back_up(&repository, "host/a", &[("big", &big[..50_000_000])]).unwrap();
    Lab {
        _directory: directory,
        place,
        repository,
        big,
        small,
        snapshots: vec![first, second],
    }
}

#[test]
fn what_is_good_is_found_good_and_remembered() {
    let lab = lab();
    let before = standing(&lab.repository, &lab.snapshots, Control::quiet(&QUIET)).unwrap();
    assert!(before.iter().all(|snapshot| snapshot.state == State::Unverified));
    let began = jiff::Timestamp::now();
    let report = run(&lab.repository, Scope::Everything);
    assert!(report.is_clean(), "{report:#?}");
    let stored: u64 = ["packs/data/", "packs/meta/"]
        .iter()
        .flat_map(|prefix| lab.place.storage.list(prefix).unwrap())
        .map(|object| object.size)
        .sum();
    assert_eq!((report.figures.bytes, report.figures.all_bytes), (stored, stored));
    assert_eq!(report.figures.packs, report.figures.all_packs);
    assert_eq!((report.figures.never_checked, report.figures.snapshots), (0, 2));
    assert!(report.figures.content > 60_300_000);
    assert!(report.oldest.unwrap().checked);
    for snapshot in standing(&lab.place.open().unwrap(), &lab.snapshots, Control::quiet(&QUIET)).unwrap() {
        assert!(
            matches!(snapshot.state, State::Verified { since } if since.as_millisecond() >= began.as_millisecond()),
            "{snapshot:?}"
        );
    }
    let again = Options {
        scope: Scope::Everything,
        unless_checked_since: Some(began - jiff::SignedDuration::from_secs(1)),
    };
    let report = verify(&lab.repository, &again, Control::quiet(&QUIET)).unwrap();
    assert_eq!((report.figures.packs, report.is_clean()), (0, true));
}

#[test]
fn a_flipped_bit_is_traced_to_its_bytes_and_healed_by_the_next_backup() {
    let lab = lab();
    let (pack, path) = packs(&lab.place, PackKind::Data).remove(0);
    flip(&path, 2_000_000);
    let structure = run(&lab.repository, Scope::Structure);
    assert!(structure.is_clean(), "no content is read: {structure:#?}");

    let report = run(&lab.repository, Scope::Everything);
    assert_eq!(findings(&report), [(Damage::Corrupt, true, 1)]);
    assert_eq!(report.findings[0].pack, Some(pack));
    assert!(!report.is_restorable());
    assert!(!report.affected.is_empty());
    for affected in &report.affected {
        let snapshot = lab
            .snapshots
            .iter()
            .find(|snapshot| snapshot.id == affected.snapshot)
            .unwrap();
        for archive in &affected.archives {
            assert_eq!(
                archive.bytes,
                archive.ranges.iter().map(|range| range.length).sum::<u64>()
            );
            let root = snapshot.archive(&archive.name).unwrap().root;
            let reader = Arc::new(relight_repo::read::ChunkReader::new(lab.repository.clone()).unwrap());
            let random = relight_repo::read::ArchiveReader::new(reader, root);
            let range = archive.ranges[0];
            let mut byte = [0];
            assert!(random.read_exact_at(&mut byte, range.offset).is_err());
            assert!(
                random
                    .read_exact_at(&mut byte, range.offset + range.length - 1)
                    .is_err()
            );
            if range.offset > 0 {
                random.read_exact_at(&mut byte, range.offset - 1).unwrap();
            }
        }
    }
    let damaged = standing(&lab.repository, &lab.snapshots, Control::quiet(&QUIET)).unwrap();
    assert!(damaged.iter().any(|snapshot| snapshot.state
        == State::Damaged {
            damage: Damage::Corrupt
        }));

    // Another process: what was found is in the repository.
    let repository = lab.place.open().unwrap();
    let healed = back_up(&repository, "host/a", &[("big", &lab.big), ("small", &lab.small)]).unwrap();
    assert_eq!(
        healed.figures.new_chunks, 1,
        "just the corrupt chunk is stored again"
    );
    assert!(read_back(&repository, healed.archive("big").unwrap()).unwrap() == lab.big);
    assert!(read_back(&repository, lab.snapshots[0].archive("big").unwrap()).unwrap() == lab.big);
    let report = run(&repository, Scope::Everything);
    assert!(report.is_restorable(), "{report:#?}");
    assert_eq!(
        findings(&report),
        [(Damage::Corrupt, false, 1)],
        "the bad copy is still there"
    );
    let states = standing(&repository, &lab.snapshots, Control::quiet(&QUIET)).unwrap();
    assert!(
        states
            .iter()
            .all(|snapshot| matches!(snapshot.state, State::Verified { .. }))
    );
}

#[test]
fn a_lost_pack_is_missing_and_its_chunks_are_stored_again() {
    for kind in PackKind::ALL {
        let lab = lab();
        let (pack, path) = packs(&lab.place, kind).remove(0);
        std::fs::remove_file(&path).unwrap();
        for scope in [Scope::Structure, Scope::Everything] {
            let report = run(&lab.repository, scope);
            let first = &report.findings[0];
            assert_eq!(
                (first.pack, first.damage, first.needed),
                (Some(pack), Damage::Missing, true)
            );
            assert_eq!(report.findings.len(), 1, "{report:#?}");
            assert!(!report.affected.is_empty() && !report.is_restorable());
            let ranges = report.affected.iter().flat_map(|affected| &affected.archives);
            assert!(
                ranges
                    .flat_map(|archive| &archive.ranges)
                    .all(|range| range.damage == Damage::Missing)
            );
        }
        let repository = lab.place.open().unwrap();
        back_up(&repository, "host/a", &[("big", &lab.big), ("small", &lab.small)]).unwrap();
        back_up(&repository, "host/a", &[("big", &lab.big[..50_000_000])]).unwrap();
        let report = run(&repository, Scope::Everything);
        assert!(report.is_restorable(), "{report:#?}");
        assert_eq!(findings(&report), [(Damage::Missing, false, 0)]);
        assert!(read_back(&repository, lab.snapshots[0].archive("big").unwrap()).unwrap() == lab.big);
    }
}

#[test]
fn a_pack_that_comes_back_is_no_longer_suspect() {
    let lab = lab();
    let (pack, path) = packs(&lab.place, PackKind::Data).remove(0);
    let away = path.with_extension("away");
    let (good, mut bad) = (std::fs::read(&path).unwrap(), std::fs::read(&path).unwrap());
    std::fs::rename(&path, &away).unwrap();
    run(&lab.repository, Scope::Structure);
    assert_eq!(lab.place.storage.list("suspects/").unwrap().len(), 1);
    bad[1_000_000] ^= 1;
    std::fs::write(&path, &bad).unwrap();
    std::fs::remove_file(&away).unwrap();
    let report = run(&lab.repository, Scope::Everything);
    assert_eq!(findings(&report), [(Damage::Corrupt, true, 1)]);
    assert!(report.healed.is_empty());
    std::fs::write(&path, &good).unwrap();
    let share = Scope::Share(NonZeroU32::new(1000).unwrap());
    let report = run(&lab.repository, share);
    assert_eq!(
        report.healed,
        [pack],
        "what was suspect is looked at in every run"
    );
    assert!(lab.place.storage.list("suspects/").unwrap().is_empty());
    assert!(run(&lab.place.open().unwrap(), Scope::Everything).is_clean());
}

#[test]
fn a_torn_pack_loses_only_what_was_cut_off() {
    let lab = lab();
    let (pack, path) = packs(&lab.place, PackKind::Data).remove(0);
    let bytes = std::fs::read(&path).unwrap();
    std::fs::write(&path, &bytes[..bytes.len() / 2]).unwrap();
    for scope in [Scope::Structure, Scope::Everything] {
        let report = run(&lab.repository, scope);
        assert_eq!(report.findings.len(), 1);
        let found = &report.findings[0];
        assert_eq!(
            (found.pack, found.damage, found.needed),
            (Some(pack), Damage::Corrupt, true)
        );
        assert!(found.chunks.len() > 2, "{}", found.chunks.len());
        let first = report
            .affected
            .iter()
            .find(|affected| affected.snapshot == lab.snapshots[0].id)
            .unwrap();
        assert!(first.archives.iter().map(|archive| archive.bytes).sum::<u64>() < 30_000_000);
    }
    // Bytes behind the end are damage, but nothing is lost by it.
    std::fs::write(&path, [&bytes[..], &[7; 20_000_000]].concat()).unwrap();
    let report = run(&lab.repository, Scope::Everything);
    assert_eq!(findings(&report), [(Damage::Corrupt, false, 0)]);
    assert!(report.is_restorable() && !report.is_clean());
}

#[test]
fn damage_around_the_chunks_loses_none() {
    for at in [
        3,
        9,
        13,
        20,
        40,
        usize::MAX - 1,
        usize::MAX - 30,
        usize::MAX - 100,
    ] {
        let lab = lab();
        let (pack, path) = packs(&lab.place, PackKind::Data).remove(0);
        let length = std::fs::metadata(&path).unwrap().len() as usize;
        flip(
            &path,
            if at < length {
                at
            } else {
                length - (usize::MAX - at)
            },
        );
        let report = run(&lab.repository, Scope::Everything);
        assert_eq!(findings(&report), [(Damage::Corrupt, false, 0)], "at {at}");
        assert_eq!(report.findings[0].pack, Some(pack));
        assert!(report.is_restorable());
        let report = run(&lab.repository, Scope::Structure);
        assert_eq!(
            findings(&report),
            [(Damage::Corrupt, false, 0)],
            "it is remembered"
        );
    }
}

#[test]
fn errors_of_the_disk_are_no_verdict_and_name_the_chunk() {
    let lab = lab();
    let (pack, path) = packs(&lab.place, PackKind::Data).remove(0);
    let faults = FaultStorage::new(lab.place.storage.clone());
    let repository = lab.place.open_through(Arc::new(faults.clone())).unwrap();
    let name = format!("packs/data/{}/{pack}", &pack.to_string()[..2]);
    assert!(path.ends_with(&name));
    // Whole requests fail, and so does one record of them.
    let (key, seen) = (name.clone(), std::sync::atomic::AtomicUsize::new(0));
    faults.inject(Fault::Io, move |operation| {
        let this = operation.kind == Kind::GetRange && operation.key == key;
        this && (operation.bytes > 5 << 20 || {
            let large = operation.bytes > 100_000;
            large && seen.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 3
        })
    });
    let report = run(&repository, Scope::Everything);
    assert_eq!(findings(&report), [(Damage::Unreadable, true, 1)]);
    assert!(!report.is_restorable());
    assert!(
        lab.place.storage.list("suspects/").unwrap().is_empty(),
        "no verdict"
    );
    faults.heal();
    let report = run(&repository, Scope::Everything);
    assert!(report.is_clean(), "{report:#?}");
}

#[test]
fn a_service_that_is_down_ends_the_run_and_condemns_nothing() {
    let lab = lab();
    let faults = FaultStorage::new(lab.place.storage.clone());
    let repository = lab.place.open_through(Arc::new(faults.clone())).unwrap();
    faults.inject(Fault::Unavailable, |operation| operation.kind == Kind::GetRange);
    for scope in [Scope::Everything, Scope::Structure] {
        // Few packs: it may end before patience does.
        if let Ok(report) = verify(&repository, &Options::new(scope), Control::quiet(&QUIET)) {
            assert!(!report.is_clean());
            assert!(
                report
                    .findings
                    .iter()
                    .all(|found| found.damage == Damage::Unreadable)
            );
        }
        assert!(lab.place.storage.list("suspects/").unwrap().is_empty());
    }
    faults.heal();
    assert!(run(&repository, Scope::Everything).is_clean());
}

#[test]
fn a_bit_that_flips_on_the_way_is_no_damage() {
    let lab = lab();
    let faults = FaultStorage::new(lab.place.storage.clone());
    let repository = lab.place.open_through(Arc::new(faults.clone())).unwrap();
    faults.inject_times(1, Fault::Flip(8_000_000), |operation| {
        operation.kind == Kind::GetRange && operation.bytes > 5 << 20
    });
    let report = run(&repository, Scope::Everything);
    assert!(report.is_clean());
    assert_eq!(report.figures.flaky, 1);
}

#[test]
fn shares_cover_everything_in_so_many_runs() {
    let (_directory, place) = place();
    let repository = place.open().unwrap();
    for number in 0..12 {
        back_up(&repository, "host/a", &[("x", &content(100 + number, 400_000))]).unwrap();
    }
    let share = || Scope::Share(NonZeroU32::new(5).unwrap());
    // Shares are shares of bytes: how many packs there are, and how large, depends on which worker filled which.
    let sizes = || {
        repository
            .index()
            .packs()
            .into_values()
            .map(|(line, _)| line.size)
    };
    let (total, largest) = (sizes().sum::<u64>(), sizes().max().unwrap());
    let mut read = 0;
    for number in 0..5 {
        let report = run(&repository, share());
        let bytes = report.figures.bytes;
        assert!(
            (total.div_ceil(5)..total.div_ceil(5) + largest).contains(&bytes),
            "{bytes} of {total}"
        );
        read += bytes;
        if number == 2 {
            assert!(report.figures.never_checked > 0);
            assert!(!report.oldest.unwrap().checked);
        }
        if number == 4 {
            assert_eq!(report.figures.never_checked, 0);
            assert!(report.oldest.unwrap().checked);
        }
    }
    assert!(
        (total..total + 5 * largest).contains(&read),
        "{read} of {total}: nothing is read twice but what the last share begins anew with"
    );
    for _ in 0..20 {
        run(&repository, share());
    }
    assert!(
        place.storage.list("checks/").unwrap().len() <= 18,
        "records are merged"
    );
}

#[test]
fn one_snapshot_can_be_verified() {
    let (_directory, place) = place();
    let repository = place.open().unwrap();
    let first = back_up(&repository, "host/a", &[("x", &content(21, 3_000_000))]).unwrap();
    let second = back_up(&repository, "host/b", &[("x", &content(22, 3_000_000))]).unwrap();
    let report = run(&repository, Scope::Snapshots(vec![first.id]));
    assert!(report.is_clean());
    assert!(report.figures.packs >= 2 && report.figures.never_checked >= 2);
    assert_eq!(
        report.figures.packs + report.figures.never_checked,
        report.figures.all_packs
    );
    let states = standing(&repository, &[first, second], Control::quiet(&QUIET)).unwrap();
    assert!(matches!(states[0].state, State::Verified { .. }));
    assert_eq!(states[1].state, State::Unverified);
    let unknown = Options::new(Scope::Snapshots(vec![relight_repo::SnapshotId([9; 16])]));
    assert!(verify(&repository, &unknown, Control::quiet(&QUIET)).is_err());
}

#[test]
fn a_damaged_manifest_is_reported_and_hides_no_other() {
    let lab = lab();
    let key = Snapshot::key(lab.snapshots[1].id);
    let mut bytes = lab.place.storage.get(&key).unwrap();
    bytes[60] ^= 1;
    lab.place
        .storage
        .put(&key, &[&bytes], &PutOptions::default())
        .unwrap();
    let report = run(&lab.repository, Scope::Structure);
    assert_eq!(report.manifests.len(), 1);
    assert_eq!(
        (report.manifests[0].snapshot, report.manifests[0].damage),
        (lab.snapshots[1].id, Damage::Corrupt)
    );
    assert!(!report.is_restorable());
    assert!(report.findings.is_empty() && report.affected.is_empty());
}

#[test]
fn cancelled_it_remembers_what_it_checked() {
    let lab = lab();
    let cancelled = AtomicBool::new(false);
    struct StopAtFirst<'a>(&'a AtomicBool);
    impl relight_repo::control::Progress for StopAtFirst<'_> {
        fn begin(&self, _: &'static str, _: relight_repo::control::Unit, _: u64) {}
        fn advance(&self, _: u64) {
            self.0.store(true, std::sync::atomic::Ordering::Relaxed);
        }
    }
    let progress = StopAtFirst(&cancelled);
    let control = Control {
        cancelled: &cancelled,
        progress: &progress,
    };
    let report = verify(&lab.repository, &Options::new(Scope::Everything), control).unwrap();
    assert!(report.cancelled);
    assert!(report.figures.packs < report.figures.all_packs);
    assert_eq!(
        report.figures.never_checked,
        report.figures.all_packs - report.figures.packs
    );
}

#[test]
fn a_collection_clears_away_what_is_damaged_and_no_longer_needed() {
    let world = relight_repo::storage::memory::MemoryStorage::new();
    let place = Place::new(Arc::new(world.clone()));
    let repository = place.open().unwrap();
    let bytes = [
        content(71, 5_000_000),
        content(72, 5_000_000),
        content(73, 5_000_000),
    ];
    for bytes in &bytes {
        back_up(&repository, "host/a", &[("x", bytes)]).unwrap();
    }
    let mut listed = place.storage.list("packs/data/").unwrap();
    listed.sort_by_key(|object| std::cmp::Reverse(object.size));
    let change = |key: &str, change: &dyn Fn(&mut Vec<u8>)| {
        let mut sealed = place.storage.get(key).unwrap();
        change(&mut sealed);
        place
            .storage
            .put(key, &[&sealed], &PutOptions::default())
            .unwrap();
    };
    place.storage.delete(&listed[0].key).unwrap();
    change(&listed[1].key, &|sealed| sealed[50_000] ^= 1);
    change(&listed[2].key, &|sealed| sealed.truncate(100_000));
    let options = relight_repo::collect::CollectOptions {
        grace: std::time::Duration::ZERO,
        ..Default::default()
    };
    let collect = || relight_repo::collect::collect(&place.open().unwrap(), &options, Control::quiet(&QUIET));
    assert!(!run(&repository, Scope::Everything).is_restorable());
    assert!(collect().is_err(), "it is not known what is needed");
    for bytes in &bytes {
        back_up(&place.open().unwrap(), "host/a", &[("x", bytes)]).unwrap();
    }
    let report = run(&repository, Scope::Everything);
    assert!(
        report.is_restorable() && report.findings.len() == 3,
        "{report:#?}"
    );
    for _ in 0..4 {
        world.advance(std::time::Duration::from_secs(3600));
        collect().unwrap();
    }
    let repository = place.open().unwrap();
    let report = run(&repository, Scope::Everything);
    assert!(report.is_clean(), "{report:#?}");
    assert!(place.storage.list("suspects/").unwrap().is_empty());
    let (snapshots, _) = repository.snapshots().unwrap();
    for (snapshot, number) in snapshots.iter().zip([0, 1, 2, 0, 1, 2]) {
        assert!(read_back(&repository, &snapshot.archives[0]).unwrap() == bytes[number]);
    }
}
