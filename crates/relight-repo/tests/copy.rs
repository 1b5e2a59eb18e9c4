//! Copies between repositories: nothing is lost, nothing is read or stored twice.

mod common;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use common::{Place, back_up, content, read_back};
use relight_repo::Repository;
use relight_repo::control::{Control, Progress, Unit};
use relight_repo::copy::{CopyReport, ORIGIN_SNAPSHOT, copy};
use relight_repo::session::{IMAGE_CHUNK, Session};
use relight_repo::snapshot::{ArchiveKind, Marks, Snapshot, SnapshotSpec};
use relight_repo::storage::fault::{FaultStorage, Kind};
use relight_repo::storage::memory::MemoryStorage;

fn place() -> Place {
    Place::new(Arc::new(MemoryStorage::new()))
}

fn run(source: &Arc<Repository>, target: &Arc<Repository>) -> CopyReport {
    let snapshots = source.snapshots().unwrap().0;
    copy(
        source,
        target,
        &snapshots,
        Control::quiet(&AtomicBool::new(false)),
    )
    .unwrap()
}

/// A snapshot with everything that a copy has to keep.
fn rich(repository: &Arc<Repository>) -> (Snapshot, Vec<(&'static str, Vec<u8>)>) {
    let session = Session::begin(repository.clone(), Arc::new(AtomicBool::new(false))).unwrap();
    let mut image = content(31, 3 * IMAGE_CHUNK + 77);
    image[IMAGE_CHUNK..2 * IMAGE_CHUNK].fill(0);
    let mut writer = session.archive("disk", ArchiveKind::Image).unwrap();
    for chunk in image.chunks(IMAGE_CHUNK) {
        writer.push_chunk(chunk.to_vec()).unwrap();
    }
    writer.push_zeros(300 * IMAGE_CHUNK as u64).unwrap();
    let mut archives = vec![writer.finish().unwrap()];
    image.resize(image.len() + 300 * IMAGE_CHUNK, 0);
    let meta = content(32, 500_000);
    let mut writer = session.archive("meta", ArchiveKind::PxarMetadata).unwrap();
    writer.write(&meta).unwrap();
    archives.push(writer.finish().unwrap());
    archives.push(
        session
            .archive("empty", ArchiveKind::Blob)
            .unwrap()
            .finish()
            .unwrap(),
    );
    let spec = SnapshotSpec {
        workload: "vm/1".into(),
        time: Some("2024-05-06T07:08:09.123456789Z".parse().unwrap()),
        host: "pve1".into(),
        attributes: [("guest".to_string(), "web".to_string())].into(),
        incomplete: vec!["/etc/shadow".into()],
        ..SnapshotSpec::default()
    };
    let snapshot = session.publish(spec, archives).unwrap();
    (
        snapshot,
        vec![("disk", image), ("meta", meta), ("empty", Vec::new())],
    )
}

#[test]
fn a_copy_is_the_same_and_is_made_once() {
    let (here, there, third) = (place(), place(), place());
    let source = here.open().unwrap();
    let (first, archives) = rich(&source);
    source
        .set_marks(
            first.id,
            &Marks {
                protected: true,
                notes: "keep".into(),
                ..Marks::default()
            },
        )
        .unwrap();
    let target = there.open().unwrap();
    let report = run(&source, &target);
    assert_eq!(
        (report.copied.len(), report.skipped.len(), report.failed.len()),
        (1, 0, 0)
    );
    let copied = target.snapshot(report.copied[0].target).unwrap();
    for (name, bytes) in &archives {
        assert!(
            read_back(&target, copied.archive(name).unwrap()).unwrap() == *bytes,
            "{name}"
        );
    }
    assert_eq!(copied.archives, first.archives, "equal cuts give equal lists");
    assert_eq!(
        (&copied.workload, copied.time, &copied.host),
        (&first.workload, first.time, &first.host)
    );
    assert_eq!(
        (&copied.incomplete, &copied.attributes["guest"]),
        (&first.incomplete, &"web".to_string())
    );
    assert_eq!(copied.attributes[ORIGIN_SNAPSHOT], first.id.to_string());
    assert!(target.marks(copied.id).unwrap().protected);

    // Again, by way of a third one, and back: nothing happens.
    assert_eq!(run(&source, &target).skipped, [first.id]);
    let last = third.open().unwrap();
    assert_eq!(run(&target, &last).copied.len(), 1);
    assert_eq!(run(&source, &last).skipped, [first.id]);
    assert_eq!(run(&last, &source).skipped.len(), 1);
    assert_eq!(source.snapshot_ids().unwrap().len(), 1);
}

#[test]
fn only_what_is_lacking_is_read() {
    let (here, there) = (place(), place());
    let source = here.open().unwrap();
    let mut bytes = content(41, 40_000_000);
    let first = back_up(&source, "host/a", &[("big", &bytes)]).unwrap();
    let target = there.open().unwrap();
    run(&source, &target);
    bytes.splice(20_000_000..20_000_010, *b"0123456789");
    let second = back_up(&source, "host/a", &[("big", &bytes)]).unwrap();
    let watched = FaultStorage::new(here.storage.clone());
    let report = run(&here.open_through(Arc::new(watched.clone())).unwrap(), &target);
    assert_eq!((report.skipped, report.copied.len()), (vec![first.id], 1));
    assert_eq!(report.copied[0].source, second.id);
    assert!(report.copied[0].added < 6 << 20, "{:?}", report.copied);
    let data = |operation: &relight_repo::storage::fault::Operation| {
        operation.kind == Kind::GetRange && operation.key.starts_with("packs/data/")
    };
    let read: u64 = watched
        .log()
        .iter()
        .filter(|operation| data(operation))
        .map(|operation| operation.bytes)
        .sum();
    assert!(read < 9 << 20, "{read}");
    let copied = target.snapshot(report.copied[0].target).unwrap();
    assert!(read_back(&target, &copied.archives[0]).unwrap() == bytes);
}

#[test]
fn a_damaged_snapshot_is_not_copied_and_stops_no_other() {
    let (here, there) = (place(), place());
    let source = here.open().unwrap();
    let bad = back_up(&source, "host/a", &[("x", &content(51, 3_000_000))]).unwrap();
    let listed = here.storage.list("packs/data/").unwrap();
    let mut bytes = here.storage.get(&listed[0].key).unwrap();
    bytes[1000] ^= 1;
    here.storage
        .put(&listed[0].key, &[&bytes], &Default::default())
        .unwrap();
    let good = back_up(&source, "host/b", &[("x", &content(52, 3_000_000))]).unwrap();
    let target = there.open().unwrap();
    let report = run(&source, &target);
    assert_eq!((report.failed.len(), report.failed[0].0), (1, bad.id));
    assert_eq!((report.copied.len(), report.copied[0].source), (1, good.id));
    assert_eq!(target.snapshot_ids().unwrap().len(), 1);
}

#[test]
fn cancelled_it_goes_on_where_it_was() {
    let (here, there) = (place(), place());
    let source = here.open().unwrap();
    let bytes = content(61, 30_000_000);
    back_up(&source, "host/a", &[("big", &bytes)]).unwrap();
    let target = there.open().unwrap();
    struct StopAt(AtomicBool, std::sync::atomic::AtomicU64);
    impl Progress for StopAt {
        fn begin(&self, _: &'static str, _: Unit, total: u64) {
            assert_eq!(total, 30_000_000);
        }
        fn advance(&self, amount: u64) {
            use std::sync::atomic::Ordering;
            if self.1.fetch_add(amount, Ordering::Relaxed) > 15_000_000 {
                self.0.store(true, Ordering::Relaxed);
            }
        }
    }
    let stop = StopAt(AtomicBool::new(false), Default::default());
    let snapshots = source.snapshots().unwrap().0;
    let report = copy(
        &source,
        &target,
        &snapshots,
        Control {
            cancelled: &stop.0,
            progress: &stop,
        },
    )
    .unwrap();
    assert!(report.cancelled && report.copied.is_empty());
    assert!(target.snapshot_ids().unwrap().is_empty());
    let report = run(&source, &there.open().unwrap());
    assert!(report.copied[0].added < 16_000_000, "{report:?}");
    let copied = target.snapshot(report.copied[0].target).unwrap();
    assert!(read_back(&there.open().unwrap(), &copied.archives[0]).unwrap() == bytes);
}

#[test]
fn owners_notes_and_logs_go_along() {
    use relight_repo::group::{Record, Subject};
    use relight_repo::snapshot::Verification;

    let (source, target) = (place(), place());
    let (from, to) = (source.open().unwrap(), target.open().unwrap());
    let snapshot = back_up(&from, "site/vm/100", &[("a", b"content")]).unwrap();
    let mut records = Vec::new();
    for (subject, name) in [
        (Subject::Group, "site/vm/100"),
        (Subject::Namespace, "site"),
        (Subject::Group, "site/vm/101"),
        (Subject::Namespace, "sit"),
    ] {
        let mut record = Record::new(subject, name);
        record.owner = format!("owner of {name}");
        from.set_group(&record).unwrap();
        records.push(record);
    }
    let marks = Marks {
        notes: "good".into(),
        verification: Some(Verification {
            time: jiff::Timestamp::now(),
            good: true,
            task: String::new(),
        }),
        ..Marks::default()
    };
    from.set_marks(snapshot.id, &marks).unwrap();
    assert!(from.add_log(snapshot.id, b"log").unwrap());
    assert!(!from.add_log(snapshot.id, b"another").unwrap());
    let report = run(&from, &to);
    let id = report.copied[0].target;
    assert_eq!(to.log(id).unwrap().as_deref(), Some(&b"log"[..]));
    let marks = to.marks(id).unwrap();
    assert_eq!((marks.notes.as_str(), marks.verification), ("good", None));
    let mut copied = to.groups().unwrap();
    copied.sort_by_key(|record| record.subject);
    assert_eq!(copied, records[..2]);
    // What the target says itself stays.
    let mut own = records[0].clone();
    own.owner = "somebody".into();
    to.set_group(&own).unwrap();
    run(&from, &to);
    assert_eq!(to.group(Subject::Group, "site/vm/100").unwrap(), Some(own));
}
