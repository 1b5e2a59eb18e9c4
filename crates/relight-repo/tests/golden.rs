//! A repository that was made by format version 1 stays readable for ever. It lies in `tests/golden/v1` and is never
//! made anew; a new format adds another one.

mod common;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use common::{content, read_back};
use relight_keys::KeyFile;
use relight_repo::control::Control;
use relight_repo::session::{IMAGE_CHUNK, Session};
use relight_repo::settings::Settings;
use relight_repo::snapshot::{ArchiveKind, SnapshotSpec};
use relight_repo::storage::local::LocalStorage;
use relight_repo::verify::{Options, Scope, verify};
use relight_repo::{OpenOptions, Repository, keyring};

fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden/v1")
}

/// What the golden repository holds: a stream, and an image with a hole.
fn stream() -> Vec<u8> {
    let mut bytes = content(11, 40_000);
    bytes.extend_from_slice(&b"golden ".repeat(200_000));
    bytes
}

fn image() -> Vec<u8> {
    let mut image = vec![0; 2 * IMAGE_CHUNK + 777];
    image[..20_000].copy_from_slice(&content(12, 20_000));
    let end = image.len() - 500;
    image[end..].copy_from_slice(&content(13, 500));
    image
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

/// Makes the golden repository where there is none. Run once for a format, by hand.
#[test]
#[ignore = "makes the fixture; a format has exactly one"]
fn make() {
    assert!(
        !golden().exists(),
        "the golden repository of this format exists: it must stay as it is"
    );
    let key = KeyFile::generate(&mut relight_keys::SystemEntropy).unwrap();
    let storage = LocalStorage::create(&golden().join("repository")).unwrap();
    let settings = Settings {
        parity_percent: 10,
        ..Settings::default()
    };
    keyring::initialise(&storage, &key, "golden", jiff::Timestamp::now(), settings).unwrap();
    key.create(&golden().join("key")).unwrap();
    let cache = tempfile::tempdir().unwrap();
    let keys = keyring::unlock(&storage, &key).unwrap().into_keys();
    let options = OpenOptions::new(cache.path());
    let repository = Arc::new(Repository::open(Arc::new(storage), keys, options).unwrap());
    let session = Session::begin(repository, Arc::new(AtomicBool::new(false))).unwrap();
    let mut writer = session.archive("stream", ArchiveKind::Stream).unwrap();
    writer.write(&stream()).unwrap();
    let mut archives = vec![writer.finish().unwrap()];
    let mut writer = session.archive("disk.img", ArchiveKind::Image).unwrap();
    for chunk in image().chunks(IMAGE_CHUNK) {
        writer.push_chunk(chunk.to_vec()).unwrap();
    }
    archives.push(writer.finish().unwrap());
    let attributes = [("made".to_string(), "for ever".to_string())].into();
    let spec = SnapshotSpec {
        workload: "host/golden".into(),
        attributes,
        ..SnapshotSpec::default()
    };
    session.publish(spec, archives).unwrap();
}

#[test]
fn version_1_is_read() {
    let directory = tempfile::tempdir().unwrap();
    copy(&golden().join("repository"), directory.path());
    let key = KeyFile::parse(&std::fs::read(golden().join("key")).unwrap()).unwrap();
    let storage = LocalStorage::open(directory.path()).unwrap();
    let keys = keyring::unlock(&storage, &key).unwrap().into_keys();
    let cache = tempfile::tempdir().unwrap();
    let options = OpenOptions::new(cache.path());
    let repository = Arc::new(Repository::open(Arc::new(storage), keys, options).unwrap());
    let (snapshots, bad) = repository.snapshots().unwrap();
    assert!(bad.is_empty());
    let [snapshot] = snapshots.as_slice() else {
        panic!("{} snapshots", snapshots.len())
    };
    assert_eq!(snapshot.workload, "host/golden");
    assert_eq!(snapshot.attributes["made"], "for ever");
    assert!(read_back(&repository, snapshot.archive("stream").unwrap()).unwrap() == stream());
    assert!(read_back(&repository, snapshot.archive("disk.img").unwrap()).unwrap() == image());
    let cancelled = AtomicBool::new(false);
    let report = verify(
        &repository,
        &Options::new(Scope::Everything),
        Control::quiet(&cancelled),
    )
    .unwrap();
    assert!(report.is_clean(), "{report:?}");
    assert!(report.figures.packs >= 2);
}
