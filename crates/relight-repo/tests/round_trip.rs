//! What goes in comes out, also after everything local was lost.

mod common;

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Mutex};

use common::{Place, back_up, content, read_back};
use relight_repo::read::{ArchiveReader, ChunkReader, Scan, scan, scan_runs};
use relight_repo::session::{IMAGE_CHUNK, Session};
use relight_repo::snapshot::{ArchiveKind, SnapshotSpec};
use relight_repo::storage::local::LocalStorage;
use relight_repo::tree::Piece;
use relight_repo::{RepoError, keyring};

fn place() -> (tempfile::TempDir, Place) {
    let directory = tempfile::tempdir().unwrap();
    let storage = LocalStorage::create(&directory.path().join("repository")).unwrap();
    (directory, Place::new(Arc::new(storage)))
}

#[test]
fn streams_come_back_byte_for_byte() {
    let (_directory, place) = place();
    let bytes = content(1, 20_000_001);
    let small = content(2, 17);
    let repository = place.open().unwrap();
    let first = back_up(
        &repository,
        "host/a",
        &[("big", &bytes), ("small", &small), ("none", &[])],
    )
    .unwrap();
    assert!(first.figures.stored < bytes.len() as u64, "it compresses");

    std::fs::remove_dir_all(place.cache.path()).unwrap();
    let repository = place.open().unwrap();
    let (snapshots, bad) = repository.snapshots().unwrap();
    assert!(bad.is_empty());
    assert_eq!(snapshots, std::slice::from_ref(&first));
    for (name, wanted) in [("big", &bytes[..]), ("small", &small), ("none", &[])] {
        assert!(
            read_back(&repository, first.archive(name).unwrap()).unwrap() == wanted,
            "{name}"
        );
    }

    let again = back_up(&repository, "host/a", &[("big", &bytes)]).unwrap();
    assert_eq!(again.figures.new_chunks, 0, "nothing is stored twice");
    assert_eq!(again.archives[0].root, first.archives[0].root);
    let mut changed = bytes.clone();
    changed.splice(9_000_000..9_000_010, *b"other");
    let third = back_up(&repository, "host/a", &[("big", &changed)]).unwrap();
    assert!(third.figures.added < 6 << 20, "{:?}", third.figures);
    assert!(read_back(&repository, &third.archives[0]).unwrap() == changed);
}

#[test]
fn an_image_keeps_its_holes_and_its_odd_end() {
    let (_directory, place) = place();
    let repository = place.open().unwrap();
    let mut image = content(3, 3 * IMAGE_CHUNK + 1234);
    image[IMAGE_CHUNK..2 * IMAGE_CHUNK].fill(0);
    let session = Session::begin(repository.clone(), Arc::new(AtomicBool::new(false))).unwrap();
    let mut writer = session.archive("disk", ArchiveKind::Image).unwrap();
    for chunk in image.chunks(IMAGE_CHUNK) {
        let chunk = chunk.to_vec();
        let read = move |buffer: &mut [u8]| {
            buffer.copy_from_slice(&chunk);
            Ok(())
        };
        let length = image.len() as u64 - writer.position();
        writer
            .push_read((IMAGE_CHUNK as u64).min(length) as usize, Box::new(read))
            .unwrap();
    }
    writer.push_zeros(5 << 40).unwrap();
    let archive = writer.finish().unwrap();
    let spec = SnapshotSpec {
        workload: "vm/1".into(),
        ..SnapshotSpec::default()
    };
    let snapshot = session.publish(spec, vec![archive]).unwrap();
    drop(session);
    assert_eq!(
        snapshot.figures.new_chunks,
        3 + 4,
        "two full chunks, the end, and the list above them"
    );

    let reader = Arc::new(ChunkReader::new(repository).unwrap());
    let root = snapshot.archives[0].root;
    assert_eq!(root.size, image.len() as u64 + (5 << 40));
    let back = Mutex::new(vec![0u8; image.len()]);
    scan(&reader, root, &AtomicBool::new(false), &|piece, content| {
        if let Scan::Data(bytes) = content {
            let start = piece.offset as usize;
            back.lock().unwrap()[start..start + bytes.len()].copy_from_slice(bytes);
        }
        Ok(())
    })
    .unwrap();
    assert!(back.into_inner().unwrap() == image);

    let random = ArchiveReader::new(reader, root);
    for (offset, length) in [
        (0, 10),
        (IMAGE_CHUNK - 5, 10),
        (image.len() - 1, 1),
        (77, 3 * IMAGE_CHUNK),
    ] {
        let mut buffer = vec![1; length];
        random.read_exact_at(&mut buffer, offset as u64).unwrap();
        assert!(buffer == image[offset..offset + length]);
    }
    let mut end = [1; 3];
    random.read_exact_at(&mut end, root.size - 3).unwrap();
    assert_eq!(end, [0; 3]);
    assert!(random.read_exact_at(&mut end, root.size - 2).is_err());
}

#[test]
fn small_chunks_that_are_handed_on_together_are_chunks_of_their_own() {
    const PAGE: usize = 8 << 10;
    let (_directory, place) = place();
    let repository = place.open().unwrap();
    let mut bytes = content(5, 40 * PAGE + 100);
    bytes[3 * PAGE..5 * PAGE].fill(0);
    let save = |bytes: &[u8]| {
        let session = Session::begin(repository.clone(), Arc::new(AtomicBool::new(false))).unwrap();
        let mut writer = session.archive("pages", ArchiveKind::Stream).unwrap();
        let (first, second) = bytes.split_at(16 * PAGE);
        writer.push_parts(first.to_vec(), PAGE).unwrap();
        let second = second.to_vec();
        let length = second.len();
        let read = move |buffer: &mut [u8]| {
            buffer.copy_from_slice(&second);
            Ok(())
        };
        writer.push_read_parts(length, PAGE, Box::new(read)).unwrap();
        let archive = writer.finish().unwrap();
        let spec = SnapshotSpec {
            workload: "pg/1".into(),
            ..SnapshotSpec::default()
        };
        session.publish(spec, vec![archive]).unwrap()
    };
    let first = save(&bytes);
    assert!(read_back(&repository, &first.archives[0]).unwrap() == bytes);
    let reader = ChunkReader::new(repository.clone()).unwrap();
    let lengths: Vec<u64> = relight_repo::tree::TreeReader::new(&reader, first.archives[0].root, 0)
        .unwrap()
        .map(|piece| piece.unwrap().length)
        .collect();
    assert_eq!(lengths.len(), 41);
    assert!(lengths[..40].iter().all(|length| *length == PAGE as u64));
    // One byte of the second half.
    bytes[30 * PAGE] ^= 1;
    let second = save(&bytes);
    assert!(
        second.figures.added < 2 * PAGE as u64 + 16 * 1024,
        "{:?}",
        second.figures
    );
    assert!(read_back(&repository, &second.archives[0]).unwrap() == bytes);

    // Read in runs: what was handed on together lies together, whatever lies between its chunks.
    let reader = Arc::new(reader);
    for snapshot in [first, second] {
        let (back, runs) = (Mutex::new(vec![0; bytes.len()]), AtomicU32::new(0));
        let put = |offset: u64, run: &[u8]| {
            runs.fetch_add(1, Ordering::Relaxed);
            back.lock().unwrap()[offset as usize..offset as usize + run.len()].copy_from_slice(run);
            Ok(())
        };
        let holes = Mutex::new(Vec::new());
        let note = |piece: Piece| {
            holes.lock().unwrap().push(piece.offset / PAGE as u64);
            Ok(())
        };
        let root = snapshot.archives[0].root;
        scan_runs(&reader, root, &AtomicBool::new(false), &put, &note).unwrap();
        assert_eq!(holes.into_inner().unwrap(), [3, 4]);
        assert!(back.into_inner().unwrap() == read_back(&repository, &snapshot.archives[0]).unwrap());
        assert!(runs.into_inner() <= 8, "chunks came one by one");
    }
}

#[test]
fn a_session_without_publication_leaves_no_snapshot_and_its_chunks_are_used() {
    let (_directory, place) = place();
    let repository = place.open().unwrap();
    let bytes = content(4, 9_000_000);
    let session = Session::begin(repository.clone(), Arc::new(AtomicBool::new(false))).unwrap();
    let mut writer = session.archive("big", ArchiveKind::Stream).unwrap();
    writer.write(&bytes).unwrap();
    drop(writer.finish().unwrap());
    drop(session);
    assert!(repository.snapshot_ids().unwrap().is_empty());
    assert!(
        place.storage.list("sessions/").unwrap().is_empty(),
        "it said good-bye"
    );
    let snapshot = back_up(&place.open().unwrap(), "host/a", &[("big", &bytes)]).unwrap();
    assert_eq!(snapshot.figures.new_chunks, 0);
}

#[test]
fn known_chunks_are_taken_by_name_only_if_they_are_there() {
    let (_directory, place) = place();
    let repository = place.open().unwrap();
    let bytes = content(5, 5_000_000);
    let first = back_up(&repository, "host/a", &[("big", &bytes)]).unwrap();
    let reader = ChunkReader::new(repository.clone()).unwrap();
    let session = Session::begin(repository.clone(), Arc::new(AtomicBool::new(false))).unwrap();
    let mut writer = session.archive("big", ArchiveKind::Stream).unwrap();
    assert!(!writer.push_known(relight_repo::ChunkId([7; 32]), 100).unwrap());
    for piece in session.pieces(&reader, &first.archives[0]).unwrap() {
        let piece = piece.unwrap();
        assert!(writer.push_known(piece.id, piece.length).unwrap());
    }
    let archive = writer.finish().unwrap();
    assert_eq!(archive.root, first.archives[0].root);
}

#[test]
fn a_wrong_place_or_key_is_refused_and_changes_nothing() {
    let (directory, place) = place();
    let empty = LocalStorage::create(&directory.path().join("empty")).unwrap();
    assert!(matches!(
        keyring::unlock(&empty, &place.key),
        Err(RepoError::NotARepository { .. })
    ));
    let other = relight_keys::KeyFile::generate(&mut relight_keys::SystemEntropy).unwrap();
    assert!(matches!(
        keyring::unlock(&*place.storage, &other),
        Err(RepoError::Keys(_))
    ));
    let again = keyring::initialise(
        &*place.storage,
        &other,
        "x",
        jiff::Timestamp::now(),
        relight_repo::settings::Settings::default(),
    );
    assert!(matches!(again, Err(RepoError::AlreadyARepository { .. })));
    place.open().unwrap();
}
