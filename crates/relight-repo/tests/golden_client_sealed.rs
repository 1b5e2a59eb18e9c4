//! Chunks that a client encrypted, groups, logs and verification states, as they were first written. The repository lies
//! in `tests/golden/v1-client-sealed`, is never made anew, and stays readable for ever.

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use common::content;
use relight_keys::KeyFile;
use relight_repo::control::Control;
use relight_repo::group::{Record, Subject};
use relight_repo::pack::PackKind;
use relight_repo::read::{ChunkReader, Form, PieceStream, Stored};
use relight_repo::session::{Encoded, Session};
use relight_repo::settings::Settings;
use relight_repo::snapshot::{ArchiveKind, Marks, SnapshotSpec, Verification};
use relight_repo::storage::local::LocalStorage;
use relight_repo::verify::{Options, Scope, verify};
use relight_repo::{ChunkId, OpenOptions, Repository, keyring};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1-client-sealed")
}

/// What the golden repository holds: digests, blobs and lengths of content.
fn chunks() -> Vec<([u8; 32], Vec<u8>, u32)> {
    (0..5u8)
        .map(|number| {
            let blob = content(u64::from(number), 10_044);
            ([number; 32], blob, 10_000 + u32::from(number))
        })
        .collect()
}

/// What goes in a pack of its own: a frame that a client compressed.
fn frame() -> (Vec<u8>, Vec<u8>) {
    let bytes = b"compressed by the client ".repeat(1000);
    let frame = zstd::bulk::compress(&bytes, 7).unwrap();
    (bytes, frame)
}

fn marks() -> Marks {
    Marks {
        protected: true,
        notes: "keep".into(),
        verification: Some(Verification {
            time: "2026-07-04T05:06:07Z".parse().unwrap(),
            good: true,
            task: "UPID:golden:".into(),
        }),
    }
}

fn group() -> Record {
    let mut group = Record::new(Subject::Group, "site/vm/100");
    group.owner = "backup@pbs!node".into();
    group.notes = "gold".into();
    group.attributes = [("made".to_string(), "for ever".to_string())].into();
    group
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}

/// Makes the golden repository where there is none. Run once, by hand.
#[test]
#[ignore = "makes the fixture; there is exactly one"]
fn make() {
    assert!(
        !golden().exists(),
        "the golden repository exists: it must stay as it is"
    );
    let key = KeyFile::generate(&mut relight_keys::SystemEntropy).unwrap();
    let storage = LocalStorage::create(&golden().join("repository")).unwrap();
    let now = jiff::Timestamp::now();
    keyring::initialise(&storage, &key, "golden", now, Settings::default()).unwrap();
    key.create(&golden().join("key")).unwrap();
    let cache = tempfile::tempdir().unwrap();
    let keys = keyring::unlock(&storage, &key).unwrap().into_keys();
    let options = OpenOptions::new(cache.path());
    let repository = Arc::new(Repository::open(Arc::new(storage), keys, options).unwrap());
    let session = Session::begin(repository.clone(), Arc::new(AtomicBool::new(false))).unwrap();
    let mut sealed = session.archive("drive.img", ArchiveKind::Stream).unwrap();
    for (digest, blob, raw) in chunks() {
        let id = ChunkId::of_client_sealed(&digest);
        let encoded = Encoded::ClientSealed {
            digest,
            blob: &blob,
            raw,
        };
        assert!(session.put_chunk(PackKind::Data, id, encoded).unwrap());
        assert!(sealed.push_known(id, u64::from(raw)).unwrap());
    }
    let (bytes, frame) = frame();
    let (id, raw) = (ChunkId::of(&bytes), bytes.len() as u32);
    let encoded = Encoded::Zstd { frame: &frame, raw };
    assert!(session.put_chunk(PackKind::Data, id, encoded).unwrap());
    let mut plain = session.archive("plain", ArchiveKind::Stream).unwrap();
    assert!(plain.push_known(id, u64::from(raw)).unwrap());
    let spec = SnapshotSpec {
        workload: "site/vm/100".into(),
        ..SnapshotSpec::default()
    };
    let archives = vec![sealed.finish().unwrap(), plain.finish().unwrap()];
    let snapshot = session.publish(spec, archives).unwrap();
    repository.set_marks(snapshot.id, &marks()).unwrap();
    assert!(repository.add_log(snapshot.id, b"it went well").unwrap());
    repository.set_group(&group()).unwrap();
}

#[test]
fn what_was_first_written_is_read() {
    let directory = tempfile::tempdir().unwrap();
    copy(&golden().join("repository"), directory.path());
    let key = KeyFile::parse(&std::fs::read(golden().join("key")).unwrap()).unwrap();
    let storage = LocalStorage::open(directory.path()).unwrap();
    let keys = keyring::unlock(&storage, &key).unwrap().into_keys();
    let cache = tempfile::tempdir().unwrap();
    let repository = Repository::open(Arc::new(storage), keys, OpenOptions::new(cache.path())).unwrap();
    let repository = Arc::new(repository);
    let snapshots = repository.snapshots().unwrap().0;
    let [snapshot] = snapshots.as_slice() else {
        panic!("{} snapshots", snapshots.len())
    };
    let reader = Arc::new(ChunkReader::in_form(repository.clone(), Form::Stored).unwrap());
    let root = snapshot.archive("drive.img").unwrap().root;
    let given: Vec<_> = PieceStream::new(&reader, root, 0)
        .unwrap()
        .map(|item| item.unwrap().1.unwrap())
        .collect();
    assert_eq!(given.len(), chunks().len());
    for (given, (digest, blob, raw)) in given.iter().zip(&chunks()) {
        let stored = Stored::parse(given).unwrap();
        assert_eq!(stored.raw, *raw);
        assert_eq!(stored.client_sealed(), Some((digest, blob.as_slice())));
    }
    let plain = snapshot.archive("plain").unwrap();
    assert!(common::read_back(&repository, plain).unwrap() == frame().0);
    assert_eq!(repository.marks(snapshot.id).unwrap(), marks());
    assert_eq!(
        repository.log(snapshot.id).unwrap().as_deref(),
        Some(&b"it went well"[..])
    );
    assert_eq!(repository.groups().unwrap(), [group()]);
    let cancelled = AtomicBool::new(false);
    let options = Options::new(Scope::Everything);
    let report = verify(&repository, &options, Control::quiet(&cancelled)).unwrap();
    assert!(report.is_clean(), "{report:?}");
}
