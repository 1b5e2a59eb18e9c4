//! Chunks that a client encrypted are kept as they came, and survive all that is done to a repository.

mod common;

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use common::{Place, content, read_back};
use relight_repo::control::Control;
use relight_repo::pack::{Codec, PackKind};
use relight_repo::read::{ChunkCache, ChunkReader, Form, PieceStream, Stored};
use relight_repo::session::{Encoded, Session};
use relight_repo::snapshot::{Archive, ArchiveKind, Snapshot, SnapshotSpec};
use relight_repo::storage::memory::MemoryStorage;
use relight_repo::verify::{Options, Scope, verify};
use relight_repo::{ChunkId, RepoError, Repository};

/// Chunks as a client might encrypt them: digest, blob, length of the content.
fn sealed(seed: u64, count: u64) -> Vec<([u8; 32], Vec<u8>, u32)> {
    (0..count)
        .map(|number| {
            let raw = 100_000 + 1000 * number as u32;
            let blob = content(seed * 1000 + number, raw as usize + 44);
            (ChunkId::of(&blob).0, blob, raw)
        })
        .collect()
}

fn save(repository: &Arc<Repository>, workload: &str, chunks: &[([u8; 32], Vec<u8>, u32)]) -> Snapshot {
    let session = begin(repository);
    for (digest, blob, raw) in chunks {
        let encoded = Encoded::ClientSealed {
            digest: *digest,
            blob,
            raw: *raw,
        };
        session
            .put_chunk(PackKind::Data, ChunkId::of_client_sealed(digest), encoded)
            .unwrap();
    }
    let mut writer = session.archive("drive.img", ArchiveKind::Stream).unwrap();
    for (digest, _, raw) in chunks {
        let id = ChunkId::of_client_sealed(digest);
        assert!(writer.push_known(id, u64::from(*raw)).unwrap());
    }
    let archive = writer.finish().unwrap();
    publish(&session, workload, archive)
}

fn begin(repository: &Arc<Repository>) -> Session {
    Session::begin(repository.clone(), Arc::new(AtomicBool::new(false))).unwrap()
}

fn publish(session: &Session, workload: &str, archive: Archive) -> Snapshot {
    let spec = SnapshotSpec {
        workload: workload.into(),
        ..SnapshotSpec::default()
    };
    session.publish(spec, vec![archive]).unwrap()
}

fn assert_there(repository: &Arc<Repository>, snapshot: &Snapshot, chunks: &[([u8; 32], Vec<u8>, u32)]) {
    for form in [Form::Stored, Form::Sealed] {
        let reader = Arc::new(ChunkReader::in_form(repository.clone(), form).unwrap());
        let root = snapshot.archive("drive.img").unwrap().root;
        let stream = PieceStream::new(&reader, root, 0).unwrap();
        let mut count = 0;
        for (item, (digest, blob, raw)) in stream.zip(chunks) {
            let (piece, stored) = item.unwrap();
            let stored = stored.unwrap();
            let stored = Stored::parse(&stored).unwrap();
            assert_eq!(
                (piece.length, stored.raw, stored.codec),
                (u64::from(*raw), *raw, Codec::ClientSealed)
            );
            assert_eq!(stored.client_sealed(), Some((digest, blob.as_slice())));
            count += 1;
        }
        assert_eq!(count, chunks.len());
    }
}

fn is_clean(repository: &Arc<Repository>) {
    let cancelled = AtomicBool::new(false);
    let report = verify(
        repository,
        &Options::new(Scope::Everything),
        Control::quiet(&cancelled),
    )
    .unwrap();
    assert!(report.is_clean(), "{report:?}");
}

#[test]
fn it_comes_back_as_it_came_and_has_no_content() {
    let place = Place::new(Arc::new(MemoryStorage::new()));
    let repository = place.open().unwrap();
    let chunks = sealed(1, 12);
    let snapshot = save(&repository, "vm/100", &chunks);
    let again = save(&repository, "vm/100", &chunks);
    assert_eq!(again.figures.new_chunks, 0);
    assert_eq!(snapshot.archives[0].root, again.archives[0].root);
    let repository = place.open().unwrap();
    assert_there(&repository, &snapshot, &chunks);
    let error = read_back(&repository, &snapshot.archives[0]).unwrap_err();
    assert!(matches!(error, RepoError::ClientSealed(_)), "{error}");
    let reader = ChunkReader::new(repository.clone()).unwrap();
    let id = ChunkId::of_client_sealed(&chunks[3].0);
    assert!(matches!(reader.read(&id), Err(RepoError::ClientSealed(found)) if found == id));
    is_clean(&repository);
}

#[test]
fn copies_have_it_too() {
    let place = Place::new(Arc::new(MemoryStorage::new()));
    let repository = place.open().unwrap();
    let chunks = sealed(2, 9);
    let snapshot = save(&repository, "vm/100", &chunks);
    let other = Place::new(Arc::new(MemoryStorage::new()));
    let target = other.open().unwrap();
    let cancelled = AtomicBool::new(false);
    let report =
        relight_repo::copy::copy(&repository, &target, &[snapshot], Control::quiet(&cancelled)).unwrap();
    assert!(report.failed.is_empty(), "{report:?}");
    let copy = target.snapshot(report.copied[0].target).unwrap();
    assert_there(&target, &copy, &chunks);
    is_clean(&target);
}

#[test]
fn what_is_not_what_it_says_is_refused_and_the_session_goes_on() {
    let place = Place::new(Arc::new(MemoryStorage::new()));
    let repository = place.open().unwrap();
    let session = begin(&repository);
    let blob = vec![7; 1000];
    let encoded = Encoded::ClientSealed {
        digest: [1; 32],
        blob: &blob,
        raw: 900,
    };
    let other = ChunkId::of_client_sealed(&[2; 32]);
    assert!(matches!(
        session.put_chunk(PackKind::Data, other, encoded),
        Err(RepoError::ChunkMismatch(id)) if id == other
    ));
    let large = vec![1; (16 << 20) + 45];
    let encoded = Encoded::ClientSealed {
        digest: [1; 32],
        blob: &large,
        raw: 16 << 20,
    };
    let id = ChunkId::of_client_sealed(&[1; 32]);
    assert!(matches!(
        session.put_chunk(PackKind::Data, id, encoded),
        Err(RepoError::ChunkTooLarge { .. })
    ));
    let encoded = Encoded::ClientSealed {
        digest: [1; 32],
        blob: &large[1..],
        raw: 16 << 20,
    };
    assert!(session.put_chunk(PackKind::Data, id, encoded).unwrap());
    assert!(!session.put_chunk(PackKind::Data, id, encoded).unwrap());
    let mut writer = session.archive("drive.img", ArchiveKind::Image).unwrap();
    assert!(writer.push_known(id, 16 << 20).unwrap());
    let archive = writer.finish().unwrap();
    let snapshot = publish(&session, "vm/1", archive);
    drop(session);
    assert_there(
        &place.open().unwrap(),
        &snapshot,
        &[([1; 32], large[1..].to_vec(), 16 << 20)],
    );
}

#[test]
fn a_frame_of_a_client_is_stored_as_it_is_and_read_as_content() {
    let place = Place::new(Arc::new(MemoryStorage::new()));
    let repository = place.open().unwrap();
    let session = begin(&repository);
    let bytes = b"as the client compressed it ".repeat(10_000);
    let frame = zstd::bulk::compress(&bytes, 19).unwrap();
    let id = ChunkId::of(&bytes);
    let raw = bytes.len() as u32;
    let encoded = Encoded::Zstd { frame: &frame, raw };
    assert!(session.put_chunk(PackKind::Data, id, encoded).unwrap());
    let mut writer = session.archive("stream", ArchiveKind::Stream).unwrap();
    assert!(writer.push_known(id, u64::from(raw)).unwrap());
    let archive = writer.finish().unwrap();
    let snapshot = publish(&session, "host/a", archive);
    drop(session);
    let repository = place.open().unwrap();
    assert!(read_back(&repository, &snapshot.archives[0]).unwrap() == bytes);
    let stored = ChunkReader::new(repository.clone())
        .unwrap()
        .read_stored(&id)
        .unwrap();
    let stored = Stored::parse(&stored).unwrap();
    assert_eq!((stored.codec, stored.payload), (Codec::Zstd, frame.as_slice()));
    is_clean(&repository);
}

#[test]
fn a_cache_of_stored_forms_gives_what_a_reader_gives() {
    let place = Place::new(Arc::new(MemoryStorage::new()));
    let repository = place.open().unwrap();
    let chunks = sealed(3, 6);
    let snapshot = save(&repository, "vm/7", &chunks);
    let reader = Arc::new(ChunkReader::in_form(repository, Form::Sealed).unwrap());
    let cache = Arc::new(ChunkCache::new(reader, 64 << 20));
    let archive = relight_repo::read::ArchiveReader::sharing(cache, snapshot.archives[0].root);
    let mut at = 0;
    for (digest, blob, raw) in &chunks {
        let (piece, stored) = archive.piece(at).unwrap();
        assert_eq!(piece.length, u64::from(*raw));
        let stored = stored.unwrap();
        assert_eq!(
            Stored::parse(&stored).unwrap().client_sealed(),
            Some((digest, blob.as_slice()))
        );
        at += piece.length;
    }
    assert!(archive.read_exact_at(&mut [0; 10], 0).is_err());
}

#[test]
fn a_list_made_of_wrong_lengths_is_noticed() {
    let place = Place::new(Arc::new(MemoryStorage::new()));
    let repository = place.open().unwrap();
    let session = begin(&repository);
    let blob = vec![7; 1000];
    let id = ChunkId::of_client_sealed(&[1; 32]);
    let encoded = Encoded::ClientSealed {
        digest: [1; 32],
        blob: &blob,
        raw: 900,
    };
    session.put_chunk(PackKind::Data, id, encoded).unwrap();
    let mut writer = session.archive("drive.img", ArchiveKind::Stream).unwrap();
    assert!(writer.push_known(id, 901).unwrap());
    let archive = writer.finish().unwrap();
    let snapshot = publish(&session, "vm/1", archive);
    let reader = Arc::new(ChunkReader::in_form(repository.clone(), Form::Sealed).unwrap());
    let mut stream = PieceStream::new(&reader, snapshot.archives[0].root, 0).unwrap();
    assert!(stream.next().unwrap().is_err());
}

#[test]
fn it_is_moved_when_a_pack_is_rewritten() {
    use relight_repo::collect::{CollectOptions, collect};

    let place = Place::new(Arc::new(MemoryStorage::new()));
    let repository = place.open().unwrap();
    let (kept, gone) = (sealed(4, 5), sealed(5, 40));
    // Both in one pack, of which little is needed afterwards.
    let session = begin(&repository);
    let mut archives = Vec::new();
    for chunks in [&kept, &gone] {
        let mut writer = session.archive("drive.img", ArchiveKind::Stream).unwrap();
        for (digest, blob, raw) in chunks {
            let id = ChunkId::of_client_sealed(digest);
            let encoded = Encoded::ClientSealed {
                digest: *digest,
                blob,
                raw: *raw,
            };
            session.put_chunk(PackKind::Data, id, encoded).unwrap();
            assert!(writer.push_known(id, u64::from(*raw)).unwrap());
        }
        archives.push(writer.finish().unwrap());
    }
    let other = publish(&session, "vm/2", archives.pop().unwrap());
    let snapshot = publish(&session, "vm/1", archives.pop().unwrap());
    drop(session);
    repository.forget(other.id).unwrap();
    let before = repository.index().packs();
    let cancelled = AtomicBool::new(false);
    let options = CollectOptions {
        grace: std::time::Duration::ZERO,
        clock_skew: std::time::Duration::ZERO,
        ..CollectOptions::default()
    };
    let mut rewritten = 0;
    for _ in 0..3 {
        let report = collect(&repository, &options, Control::quiet(&cancelled)).unwrap();
        rewritten += report.written.packs;
    }
    assert!(rewritten > 0);
    let repository = place.open().unwrap();
    assert!(
        before
            .keys()
            .any(|pack| !repository.index().packs().contains_key(pack))
    );
    assert_there(&repository, &snapshot, &kept);
    is_clean(&repository);
}

#[test]
fn what_was_condemned_under_a_writer_is_stored_again() {
    use relight_repo::collect::{CollectOptions, collect};

    let place = Place::new(Arc::new(MemoryStorage::new()));
    let (writer, collector) = (place.open().unwrap(), place.open().unwrap());
    let chunks = sealed(6, 7);
    let first = save(&writer, "vm/1", &chunks);
    let session = begin(&writer);
    let mut archive = session.archive("drive.img", ArchiveKind::Stream).unwrap();
    for (digest, _, raw) in &chunks {
        let id = ChunkId::of_client_sealed(digest);
        assert!(archive.push_known(id, u64::from(*raw)).unwrap());
    }
    let archive = archive.finish().unwrap();
    writer.forget(first.id).unwrap();
    let cancelled = AtomicBool::new(false);
    let options = CollectOptions {
        grace: std::time::Duration::ZERO,
        clock_skew: std::time::Duration::ZERO,
        wait_for_sessions: false,
        allow_empty: true,
        ..CollectOptions::default()
    };
    let report = collect(&collector, &options, Control::quiet(&cancelled)).unwrap();
    assert!(report.condemned.packs > 0);
    let snapshot = publish(&session, "vm/1", archive);
    assert!(session.figures().new_chunks >= 7);
    drop(session);
    for _ in 0..2 {
        collect(&collector, &options, Control::quiet(&cancelled)).unwrap();
    }
    let repository = place.open().unwrap();
    assert_there(&repository, &snapshot, &chunks);
    is_clean(&repository);
}

#[test]
fn what_rotted_is_fetched_from_a_copy() {
    use relight_repo::repair::{PackOptions, packs};
    use relight_repo::storage::Storage;

    let storage = Arc::new(MemoryStorage::new());
    let place = Place::new(storage.clone());
    let repository = place.open().unwrap();
    let chunks = sealed(7, 9);
    let snapshot = save(&repository, "vm/1", &chunks);
    let other = Place::new(Arc::new(MemoryStorage::new()));
    let copy = other.open().unwrap();
    let cancelled = AtomicBool::new(false);
    let control = Control::quiet(&cancelled);
    relight_repo::copy::copy(&repository, &copy, std::slice::from_ref(&snapshot), control).unwrap();
    let pack = storage.list("packs/data/").unwrap().remove(0).key;
    let mut bytes = storage.get(&pack).unwrap();
    for at in (200_000..bytes.len() - 200_000).step_by(50_000) {
        bytes[at] ^= 1;
    }
    storage.put(&pack, &[&bytes], &Default::default()).unwrap();
    let options = Options::new(Scope::Everything);
    let report = verify(&repository, &options, control).unwrap();
    assert!(!report.is_restorable());
    let options = PackOptions {
        from: vec![copy],
        ..PackOptions::default()
    };
    let report = packs(&repository, &options, control).unwrap();
    assert!(report.fetched_chunks > 0, "{report:?}");
    assert!(report.rest.is_restorable(), "{report:?}");
    let repository = place.open().unwrap();
    assert_there(&repository, &snapshot, &chunks);
}
