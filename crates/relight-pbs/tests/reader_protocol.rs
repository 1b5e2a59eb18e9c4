//! The reader protocol as clients speak it, on a real repository.

mod support;
mod wire;

use std::sync::Arc;
use std::time::{Duration, Instant};

use relight_keys::{KeyFile, SystemEntropy};
use relight_pbs::formats::blob::{Blob, MAX_CHUNK};
use relight_pbs::formats::ids::Namespace;
use relight_pbs::formats::index::{DynamicIndex, FixedIndex};
use relight_pbs::service::datastore::{Datastore, DatastoreOptions};
use relight_pbs::service::reader::{self, ReaderRequest};
use relight_repo::settings::Settings;
use relight_repo::storage::fault::{Fault, FaultStorage};
use relight_repo::storage::memory::MemoryStorage;
use relight_repo::{OpenOptions, Repository, keyring};
use support::relight_backup;
use wire::*;

const FIRST: &str = "host/fix/2023-11-14T22:13:21Z";

/// A stream of chunks that compress to little, so that the test is about their number.
async fn many_chunks(store: &Arc<Datastore>, count: usize) -> Vec<u8> {
    let mut stream = Vec::new();
    for number in 0..count {
        let mut chunk = vec![b'x'; 1 << 20];
        chunk[..8].copy_from_slice(&(number as u64 + 1).to_le_bytes());
        stream.extend(chunk);
    }
    let mut session = BackupSession::begin(store, FIRST).await.unwrap();
    session
        .stream("tree.pxar.didx", &stream, &vec![1 << 20; count])
        .await;
    session.blob("etc.conf.blob", b"key = value").await;
    session.finish().await;
    stream
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restore_in_order_is_foreseen() {
    let place = Place::new();
    let store = place.datastore();
    let stream = many_chunks(&store, 120).await;
    let session = ReaderSession::begin(&store, FIRST).await.unwrap();
    let index = DynamicIndex::parse(&session.download("tree.pxar.didx").await).unwrap();
    let mut restored = Vec::new();
    for (digest, _) in index.chunks() {
        restored.extend(
            Blob::parse(&session.chunk(&digest).await)
                .unwrap()
                .decode(MAX_CHUNK)
                .unwrap(),
        );
    }
    assert!(restored == stream);
    let ended = session.end().await;
    assert_eq!(ended.chunks, 120);
    assert!(ended.foreseen * 100 > ended.chunks * 95, "{ended:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn only_chunks_of_downloaded_indexes_are_given() {
    let place = Place::new();
    let store = place.datastore();
    let stream = many_chunks(&store, 3).await;
    let digest = sha256(&stream[..1 << 20]);
    let secret = content(9, 5000);
    let mut other = BackupSession::of(request(&store, "", "host/other/2023-11-14T22:13:21Z", "o@pbs"))
        .await
        .unwrap();
    other.stream("secret.didx", &secret, &[5000]).await;
    other.finish().await;
    let session = ReaderSession::begin(&store, FIRST).await.unwrap();
    let chunk = |digest: &[u8; 32]| format!("/chunk?digest={}", hex::encode(digest));
    let begun = Instant::now();
    let (early, foreign) = (chunk(&digest), chunk(&sha256(&secret)));
    let (early, before) = tokio::join!(session.wire.get(&early), session.wire.get(&foreign));
    let message = early.refused(401);
    assert_eq!(
        message,
        format!("download chunk {} not allowed", hex::encode(digest))
    );
    before.refused(401);
    assert!(begun.elapsed() >= Duration::from_secs(3), "guessing is slow");
    session.download("tree.pxar.didx").await;
    session.chunk(&digest).await;
    session.wire.get(&foreign).await.refused(401);
    session.wire.get("/chunk?digest=00").await.refused(400);
    session.wire.get("/chunk").await.refused(400);
    session
        .wire
        .get("/download?file-name=secret.didx")
        .await
        .refused(404);
    let message = session
        .wire
        .get("/download?file-name=nope.conf.blob")
        .await
        .refused(404);
    assert!(
        message.starts_with("open file") && message.ends_with("failed - not found"),
        "{message}"
    );
    for name in ["..%2Findex.json.blob", "%2Fetc%2Fpasswd", "owner", ""] {
        session
            .wire
            .get(&format!("/download?file-name={name}"))
            .await
            .refused(400);
    }
    session.wire.get("/finish").await.refused(404);
    session
        .wire
        .post("/download?file-name=index.json.blob")
        .await
        .refused(404);
    let speed = session.wire.get("/speedtest").await.bytes();
    assert!(speed.len() == 1 << 20 && speed.iter().all(|&byte| byte == b'A'));
    session.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_must_own_reads_only_what_it_owns() {
    let place = Place::new();
    let store = place.datastore();
    many_chunks(&store, 1).await;
    let begin = |who: &str, must_own| {
        reader::begin(ReaderRequest {
            datastore: store.clone(),
            namespace: Namespace::ROOT,
            snapshot: FIRST.parse().unwrap(),
            auth_id: who.parse().unwrap(),
            must_own,
        })
    };
    for (who, must_own, may) in [
        ("bkup@pbs!tok1", true, true),
        ("bkup@pbs", true, true),
        ("bkup@pbs!tok2", true, false),
        ("other@pbs", true, false),
        ("other@pbs", false, true),
    ] {
        assert_eq!(begin(who, must_own).await.is_ok(), may, "{who} {must_own}");
    }
    let missing = ReaderSession::begin(&store, "host/fix/2020-11-14T22:13:21Z")
        .await
        .err()
        .unwrap();
    assert_eq!(
        missing.message,
        "snapshot host/fix/2020-11-14T22:13:21Z does not exist."
    );
    assert_eq!(store.locks().active(), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_relight_saved_is_read_as_well() {
    let place = Place::new();
    let repository = place.open();
    let mut disk = content(5, 3 * FULL + 12345);
    disk[..2 * FULL].fill(0);
    let path = place.folder.path().join("disk.raw");
    std::fs::write(&path, &disk).unwrap();
    let snapshot = relight_backup(&repository, "vm/100", None, Some(&path));
    let store = place.datastore();
    let entry = store.list().unwrap().all_groups().next().unwrap().snapshots[0].clone();
    assert_eq!(entry.id(), snapshot.id);
    let session = ReaderSession::of(ReaderRequest {
        datastore: store.clone(),
        namespace: Namespace::ROOT,
        snapshot: entry.name.clone(),
        auth_id: "root@pam".parse().unwrap(),
        must_own: true,
    })
    .await
    .unwrap();
    let files = store.files(&entry).unwrap();
    let name = &files
        .iter()
        .find(|file| file.name.as_str().ends_with(".fidx"))
        .unwrap()
        .name;
    let index = FixedIndex::parse(&session.download(name.as_str()).await).unwrap();
    let mut restored = Vec::new();
    for digest in index.digests() {
        restored.extend(
            Blob::parse(&session.chunk(digest).await)
                .unwrap()
                .decode(MAX_CHUNK)
                .unwrap(),
        );
    }
    assert!(restored == disk);
    session.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_requests_at_once_are_all_answered() {
    let place = Place::new();
    let store = place.datastore();
    let stream = many_chunks(&store, 60).await;
    let session = ReaderSession::begin(&store, FIRST).await.unwrap();
    session.download("tree.pxar.didx").await;
    let tasks: Vec<_> = (0..600usize)
        .map(|number| {
            let wire = session.wire.clone();
            let at = (number * 7 % 60) << 20;
            let digest = sha256(&stream[at..at + (1 << 20)]);
            tokio::spawn(async move {
                let answer = wire.get(&format!("/chunk?digest={}", hex::encode(digest))).await;
                let content = Blob::parse(&answer.bytes()).unwrap().decode(MAX_CHUNK).unwrap();
                assert_eq!(sha256(&content), digest);
            })
        })
        .collect();
    for task in tasks {
        task.await.unwrap();
    }
    assert_eq!(session.end().await.chunks, 600);
}

/// A datastore in memory, each read of which takes as long as one from a distant object storage.
fn distant(latency: Duration) -> (tempfile::TempDir, FaultStorage, Arc<Datastore>) {
    let storage = FaultStorage::new(Arc::new(MemoryStorage::new()));
    let key = KeyFile::generate(&mut SystemEntropy).unwrap();
    keyring::initialise(
        &storage,
        &key,
        "test",
        jiff::Timestamp::now(),
        Settings::default(),
    )
    .unwrap();
    let keys = keyring::unlock(&storage, &key).unwrap().into_keys();
    let cache = tempfile::tempdir().unwrap();
    let mut options = OpenOptions::new(cache.path());
    options.threads = 2;
    let repository = Arc::new(Repository::open(Arc::new(storage.clone()), keys, options).unwrap());
    let options = DatastoreOptions::new("root@pam".parse().unwrap());
    storage.inject(Fault::Delay(latency), |operation| operation.kind.is_read());
    (
        cache,
        storage,
        Datastore::new("main", repository, options).unwrap(),
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn latency_of_the_storage_is_hidden() {
    const COUNT: usize = 60;
    let latency = Duration::from_millis(100);
    let (_cache, _storage, store) = distant(latency);
    let disk = content(3, COUNT * FULL);
    let mut session = BackupSession::begin(&store, FIRST).await.unwrap();
    session.image("disk.img.fidx", &disk).await;
    session.finish().await;
    let session = ReaderSession::begin(&store, FIRST).await.unwrap();
    let index = FixedIndex::parse(&session.download("disk.img.fidx").await).unwrap();
    let begun = Instant::now();
    for digest in index.digests() {
        session.chunk(digest).await;
    }
    let taken = begun.elapsed();
    assert!(taken < latency * COUNT as u32 / 2, "{taken:?}");
    let ended = session.end().await;
    assert_eq!(ended.foreseen, COUNT as u64 - 1);
}
