//! The backup protocol as clients speak it, on a real repository.

mod support;
mod wire;

use bytes::Bytes;
use http::Method;
use relight_pbs::formats::blob::{self, Blob};
use relight_pbs::formats::crypt::CryptKey;
use relight_pbs::formats::ids::Namespace;
use relight_pbs::formats::index::{FIXED_CHUNK, FixedIndex, FixedSum};
use relight_pbs::formats::manifest::{CryptMode, Manifest, ManifestFile};
use relight_pbs::service::backup::{self, Ended};
use serde_json::Value;
use wire::*;

const FIRST: &str = "host/fix/2023-11-14T22:13:21Z";
const SECOND: &str = "host/fix/2023-11-14T23:13:21Z";

/// An image with a hole, whose end is no whole chunk.
fn image(seed: u64) -> Vec<u8> {
    let mut image = content(seed, 3 * FULL + 1000);
    image[FULL..2 * FULL].fill(0);
    image[2 * FULL..2 * FULL + FULL / 2].fill(7);
    image
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_and_an_incremental_backup_are_there_and_whole() {
    let place = Place::new();
    let store = place.datastore();
    let (disk, tree) = (image(1), content(2, 300_000));
    let mut first = BackupSession::begin(&store, FIRST).await.unwrap();
    assert_eq!(first.wire.get("/previous_backup_time").await.data(), Value::Null);
    let message = first
        .wire
        .get("/previous?archive-name=index.json.blob")
        .await
        .refused(400);
    assert_eq!(message, "no valid previous backup");
    first.image("disk.img.fidx", &disk).await;
    first
        .stream("tree.pxar.didx", &tree, &[100_000, 150_000, 50_000])
        .await;
    first.blob("etc.conf.blob", b"key = value").await;
    assert_eq!(first.finish().await, Ended::Finished);

    let store = place.datastore();
    let entry = store.snapshot(&Namespace::ROOT, &FIRST.parse().unwrap()).unwrap();
    assert_eq!(
        store
            .owner(&Namespace::ROOT, &entry.name.group)
            .unwrap()
            .unwrap()
            .to_string(),
        "bkup@pbs!tok1"
    );
    let manifest = store.manifest(&entry).unwrap();
    assert_eq!(manifest.files.len(), 3);
    let statistic = &manifest.unprotected[Manifest::UPLOAD_STATISTIC];
    assert_eq!(
        (statistic["count"].as_u64(), statistic["size"].as_u64()),
        (Some(7), Some((disk.len() + tree.len()) as u64))
    );
    let index = store
        .read_index(&entry, &"disk.img.fidx".parse().unwrap())
        .unwrap();
    assert_eq!(
        (index.size, index.csum),
        (disk.len() as u64, manifest.files[0].csum)
    );

    // The same image with one change: only that is sent.
    let mut changed = disk.clone();
    changed[3 * FULL + 10] ^= 1;
    let mut second = BackupSession::begin(&store, SECOND).await.unwrap();
    assert_eq!(
        second.wire.get("/previous_backup_time").await.data(),
        1_700_000_001
    );
    let served = second
        .wire
        .get("/previous?archive-name=index.json.blob")
        .await
        .bytes();
    assert_eq!(Manifest::from_blob(&served).unwrap().files, manifest.files);
    let bytes = second
        .wire
        .get("/previous?archive-name=disk.img.fidx")
        .await
        .bytes();
    let index = FixedIndex::parse(&bytes).unwrap();
    let target = format!("/fixed_index?archive-name=disk.img.fidx&size={}", disk.len());
    let wid = second.wire.post(&target).await.data().as_u64().unwrap();
    let last = second.chunk("fixed", wid, &changed[3 * FULL..], true).await;
    let mut digests = index.digests().to_vec();
    digests[3] = last;
    let chunks: Vec<_> = digests
        .iter()
        .enumerate()
        .map(|(at, digest)| (at as u64 * FIXED_CHUNK, *digest))
        .collect();
    second.append("fixed", wid, &chunks).await.data();
    let mut sum = FixedSum::default();
    digests.iter().for_each(|digest| sum.add(digest));
    let csum = sum.finish();
    second
        .wire
        .post(&close_target("fixed", wid, 4, disk.len(), &csum))
        .await
        .data();
    second.file("disk.img.fidx", disk.len() as u64, csum, Default::default());
    assert_eq!(second.finish().await, Ended::Finished);
    let entry = store
        .snapshot(&Namespace::ROOT, &SECOND.parse().unwrap())
        .unwrap();
    let index = store
        .read_index(&entry, &"disk.img.fidx".parse().unwrap())
        .unwrap();
    assert_eq!(
        index.chunks.iter().map(|chunk| chunk.digest).collect::<Vec<_>>(),
        digests
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_at_any_step_leaves_nothing_and_locks_nothing() {
    let place = Place::new();
    let store = place.datastore();
    let disk = image(1);
    for step in 0..7 {
        let mut session = BackupSession::begin(&store, FIRST).await.unwrap();
        let busy = backup::begin(request(&store, "", SECOND, "bkup@pbs!tok1")).await;
        assert_eq!(busy.err().unwrap().status, 400, "one writer a group");
        if step == 1 {
            session
                .wire
                .post("/fixed_index?archive-name=disk.img.fidx&size=5")
                .await
                .data();
        }
        if step == 2 {
            // In the middle of a chunk.
            let wid = session
                .wire
                .post("/fixed_index?archive-name=disk.img.fidx")
                .await
                .data()
                .as_u64()
                .unwrap();
            let target = chunk_target("fixed", wid, &sha256(&disk[..FULL]), FULL, FULL + 12);
            let (_response, mut body) = {
                let request = http::Request::builder()
                    .method(Method::POST)
                    .uri(format!("https://localhost:8007{target}"))
                    .body(())
                    .unwrap();
                session.wire.open(request).await
            };
            body.send_data(Bytes::from(vec![1; 100_000]), false).unwrap();
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
        if step >= 3 {
            session.image("disk.img.fidx", &disk).await;
        }
        if step >= 4 {
            session.blob("etc.conf.blob", b"x").await;
        }
        if step >= 5 {
            session.manifest().await;
        }
        if step == 6 {
            // A finish that fails, because an index is open.
            session
                .wire
                .post("/dynamic_index?archive-name=x.didx")
                .await
                .data();
            session.wire.post("/finish").await.refused(400);
        }
        assert!(matches!(session.cut().await, Ended::Aborted(_)), "{step}");
        assert_eq!(store.list().unwrap().all_groups().count(), 0, "{step}");
        assert_eq!(store.locks().active(), (0, 0), "{step}");
    }
    // The next one works at once, and what was sent before need not be stored again.
    let mut session = BackupSession::begin(&store, FIRST).await.unwrap();
    session.image("disk.img.fidx", &disk).await;
    assert_eq!(session.finish().await, Ended::Finished);
    assert_eq!(store.list().unwrap().all_groups().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_not_begin_does_not() {
    let place = Place::new();
    let store = place.datastore();
    let begin = |namespace: &str, name: &str, who: &str| backup::begin(request(&store, namespace, name, who));
    let status = |result: Result<backup::Backup, relight_pbs::service::http::ApiError>| {
        result.err().map(|error| (error.status.as_u16(), error.message))
    };
    assert_eq!(
        status(begin("nowhere", FIRST, "bkup@pbs!tok1").await),
        Some((404, "namespace not found".into()))
    );
    assert!(status(begin("", "host/benchmark/2023-11-14T22:13:21Z", "a@pbs").await).is_some());
    let mut session = BackupSession::begin(&store, FIRST).await.unwrap();
    session.blob("etc.conf.blob", b"x").await;
    session.finish().await;
    assert_eq!(
        status(begin("", FIRST, "bkup@pbs!tok1").await),
        Some((400, "backup timestamp is older than last backup.".into()))
    );
    let older = "host/fix/2023-11-14T22:13:20Z";
    assert_eq!(
        status(begin("", older, "bkup@pbs!tok1").await),
        Some((400, "backup timestamp is older than last backup.".into()))
    );
    for (who, may) in [
        ("bkup@pbs!tok1", true),
        ("bkup@pbs", true),
        ("bkup@pbs!tok2", false),
        ("other@pbs", false),
        ("root@pam", false),
    ] {
        let refused = status(begin("", SECOND, who).await);
        assert_eq!(refused.is_none(), may, "{who} {refused:?}");
    }
    assert_eq!(store.locks().active(), (0, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dirty_bitmap_sends_only_what_changed() {
    let place = Place::new();
    let store = place.datastore();
    let disk = image(3);
    let mut first = BackupSession::begin(&store, FIRST).await.unwrap();
    first.image("drive.img.fidx", &disk).await;
    let csum = hex::encode(first.files[0].csum);
    first.finish().await;

    let mut changed = disk.clone();
    changed[2 * FULL + 5] ^= 1;
    let mut second = BackupSession::begin(&store, SECOND).await.unwrap();
    second
        .wire
        .get("/previous?archive-name=index.json.blob")
        .await
        .bytes();
    let index = FixedIndex::parse(
        &second
            .wire
            .get("/previous?archive-name=drive.img.fidx")
            .await
            .bytes(),
    )
    .unwrap();
    let new = format!(
        "/fixed_index?archive-name=drive.img.fidx&size={}&reuse-csum=",
        disk.len()
    );
    second
        .wire
        .post(&format!("{new}{}", "00".repeat(32)))
        .await
        .refused(400);
    let other = format!(
        "/fixed_index?archive-name=drive.img.fidx&size={}&reuse-csum={csum}",
        disk.len() + FULL
    );
    second.wire.post(&other).await.refused(400);
    second
        .wire
        .post(&format!(
            "/fixed_index?archive-name=drive.img.fidx&reuse-csum={csum}"
        ))
        .await
        .refused(400);
    let wid = second
        .wire
        .post(&format!("{new}{csum}"))
        .await
        .data()
        .as_u64()
        .unwrap();
    // The library sends a chunk of zeros for every image, whether it needs it or not, and several times at once.
    let zeros = vec![0; FULL];
    let (a, b) = tokio::join!(
        second.chunk("fixed", wid, &zeros, true),
        second.chunk("fixed", wid, &zeros, true)
    );
    assert_eq!(a, b);
    let digest = second
        .chunk("fixed", wid, &changed[2 * FULL..3 * FULL], true)
        .await;
    second
        .append("fixed", wid, &[(2 * FIXED_CHUNK, digest)])
        .await
        .data();
    let mut digests = index.digests().to_vec();
    digests[2] = digest;
    let mut sum = FixedSum::default();
    digests.iter().for_each(|digest| sum.add(digest));
    let csum = sum.finish();
    second
        .wire
        .post(&close_target("fixed", wid, 1, FULL, &csum))
        .await
        .data();
    second.file("drive.img.fidx", disk.len() as u64, csum, Default::default());
    second.finish().await;
    assert_eq!(restored(&store, SECOND, "drive.img.fidx").await, changed);
    assert_eq!(restored(&store, FIRST, "drive.img.fidx").await, disk);
}

/// Restores an image through the reader protocol.
async fn restored(
    store: &std::sync::Arc<relight_pbs::service::datastore::Datastore>,
    name: &str,
    file: &str,
) -> Vec<u8> {
    let session = ReaderSession::begin(store, name).await.unwrap();
    let index = FixedIndex::parse(&session.download(file).await).unwrap();
    let mut image = Vec::new();
    for (digest, length) in index.chunks() {
        let content = Blob::parse(&session.chunk(&digest).await)
            .unwrap()
            .decode(FULL)
            .unwrap();
        assert_eq!((content.len() as u64, sha256(&content)), (length, digest));
        image.extend(content);
    }
    image
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_encrypts_is_kept_as_it_came() {
    let place = Place::new();
    let store = place.datastore();
    let key = CryptKey::new(&[7; 32]).unwrap();
    let disk = image(4);
    let mut session = BackupSession::begin(&store, FIRST).await.unwrap();
    let target = format!("/fixed_index?archive-name=disk.img.fidx&size={}", disk.len());
    let wid = session.wire.post(&target).await.data().as_u64().unwrap();
    let (mut chunks, mut blobs) = (Vec::new(), Vec::new());
    for (number, content) in disk.chunks(FULL).enumerate() {
        let digest = key.digest(content);
        let blob = blob::encrypt(content, &key, true).unwrap();
        let target = chunk_target("fixed", wid, &digest, content.len(), blob.len());
        session.wire.post_bytes(&target, blob.clone()).await.data();
        // Once more, as it happens.
        session.wire.post_bytes(&target, blob.clone()).await.data();
        chunks.push(((number * FULL) as u64, digest));
        blobs.push(blob);
    }
    session.append("fixed", wid, &chunks).await.data();
    let digests: Vec<_> = chunks.iter().map(|(_, digest)| *digest).collect();
    let csum = fixed_sum(&digests);
    session
        .wire
        .post(&close_target("fixed", wid, chunks.len(), disk.len(), &csum))
        .await
        .data();
    session.file("disk.img.fidx", disk.len() as u64, csum, CryptMode::Encrypt);
    let mut manifest = Manifest::new(session.name.clone(), session.files.clone());
    manifest.sign(&key).unwrap();
    session
        .blob("index.json.blob", manifest.to_text().as_bytes())
        .await;
    session.wire.post("/finish").await.data();
    assert_eq!(session.cut().await, Ended::Finished);

    let reader = ReaderSession::begin(&store, FIRST).await.unwrap();
    let served = Manifest::from_blob(&reader.download("index.json.blob").await).unwrap();
    served.check_signature(&key).unwrap();
    let index = FixedIndex::parse(&reader.download("disk.img.fidx").await).unwrap();
    assert_eq!((index.digests(), index.sum()), (digests.as_slice(), csum));
    for (digest, blob) in digests.iter().zip(&blobs) {
        assert_eq!(reader.chunk(digest).await, *blob, "bit for bit");
    }
    reader.end().await;

    // The next one takes over what it knows.
    let session = BackupSession::begin(&store, SECOND).await.unwrap();
    session
        .wire
        .get("/previous?archive-name=disk.img.fidx")
        .await
        .bytes();
    let target = format!("/fixed_index?archive-name=disk.img.fidx&size={}", disk.len());
    let wid = session.wire.post(&target).await.data().as_u64().unwrap();
    session.append("fixed", wid, &chunks).await.data();
    session
        .wire
        .post(&close_target("fixed", wid, chunks.len(), disk.len(), &csum))
        .await
        .data();
    // What is known encrypted is not taken in the clear under the same digest, nor the other way round.
    let blob = blob::encode(&disk[..FULL], true).unwrap();
    let target = format!("/fixed_index?archive-name=other.img.fidx&size={FULL}");
    let wid = session.wire.post(&target).await.data().as_u64().unwrap();
    let target = chunk_target("fixed", wid, &sha256(&disk[..FULL]), FULL, blob.len());
    session.wire.post_bytes(&target, blob).await.data();
    let sealed = blob::encrypt(&disk[..FULL], &key, true).unwrap();
    let target = chunk_target("fixed", wid, &sha256(&disk[..FULL]), FULL, sealed.len());
    session.wire.post_bytes(&target, sealed).await.refused(400);
    session.cut().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn hostile_chunks_are_refused_and_change_nothing() {
    let place = Place::new();
    let store = place.datastore();
    // Somebody else's chunk, of which the digest is known.
    let secret = content(77, 10_000);
    let mut other = BackupSession::of(request(
        &store,
        "",
        "host/other/2023-11-14T22:13:21Z",
        "other@pbs",
    ))
    .await
    .unwrap();
    other.stream("secret.didx", &secret, &[10_000]).await;
    assert_eq!(other.finish().await, Ended::Finished);

    let session = BackupSession::begin(&store, FIRST).await.unwrap();
    let wire = &session.wire;
    let dynamic = wire
        .post("/dynamic_index?archive-name=a.didx")
        .await
        .data()
        .as_u64()
        .unwrap();
    let fixed = wire
        .post("/fixed_index?archive-name=a.img.fidx&size=8388608")
        .await
        .data()
        .as_u64()
        .unwrap();
    let foreign = sha256(&secret);
    let message = session
        .append("dynamic", dynamic, &[(0, foreign)])
        .await
        .refused(400);
    assert_eq!(message, format!("no such chunk {}", hex::encode(foreign)));
    // To claim it one must have it.
    let rubbish = blob::encode(&vec![3; 10_000], true).unwrap();
    let claim = chunk_target("dynamic", dynamic, &foreign, 10_000, rubbish.len());
    wire.post_bytes(&claim, rubbish.clone()).await.refused(400);
    session
        .append("dynamic", dynamic, &[(0, foreign)])
        .await
        .refused(400);
    let key = CryptKey::new(&[9; 32]).unwrap();
    let sealed = blob::encrypt(&vec![3; 10_000], &key, true).unwrap();
    let claim = chunk_target("dynamic", dynamic, &foreign, 10_000, sealed.len());
    wire.post_bytes(&claim, sealed.clone()).await.data();
    // Encrypted it is another chunk, and not the secret.
    session.append("dynamic", dynamic, &[(0, foreign)]).await.data();

    let good = content(5, 5000);
    let (digest, blob) = (sha256(&good), blob::encode(&good, false).unwrap());
    let target = |digest: &[u8; 32], size: usize, encoded: usize| {
        chunk_target("dynamic", dynamic, digest, size, encoded)
    };
    for (size, encoded) in [
        (4999, blob.len()),
        (5001, blob.len()),
        (0, blob.len()),
        (5000, blob.len() - 1),
        (5000, blob.len() + 1),
        (5000, 12),
        ((16 << 20) + 1, blob.len()),
        (5000, (16 << 20) + 45),
        (usize::MAX, usize::MAX),
    ] {
        wire.post_bytes(&target(&digest, size, encoded), blob.clone())
            .await
            .refused_or_too_large();
    }
    wire.post_bytes(&target(&[1; 32], 5000, blob.len()), blob.clone())
        .await
        .refused(400);
    let mut bad = blob.clone();
    bad[0] ^= 1;
    wire.post_bytes(&target(&digest, 5000, bad.len()), bad)
        .await
        .refused(400);
    let mut bad = sealed.clone();
    *bad.last_mut().unwrap() ^= 1;
    wire.post_bytes(&target(&digest, 10_000, bad.len()), bad)
        .await
        .refused(400);
    // A bomb: a frame that holds far more than it may.
    let bomb = blob::encode(&vec![0; 100 << 20], true).unwrap();
    wire.post_bytes(&target(&digest, 16 << 20, bomb.len()), bomb)
        .await
        .refused(400);
    // Too long for an image, and two that are shorter than the others.
    let long = vec![1; FULL + 1];
    let blob_of_long = blob::encode(&long, true).unwrap();
    let claim = chunk_target("fixed", fixed, &sha256(&long), long.len(), blob_of_long.len());
    wire.post_bytes(&claim, blob_of_long).await.refused(400);
    session.chunk("fixed", fixed, &[1; 512], true).await;
    let short = blob::encode(&[2; 512], true).unwrap();
    let claim = chunk_target("fixed", fixed, &sha256(&[2; 512]), 512, short.len());
    let message = wire.post_bytes(&claim, short).await.refused(400);
    assert!(message.contains("detected multiple end chunks"), "{message}");

    for target in [
        "/dynamic_chunk?wid=9&digest=00&encoded-size=13&size=1",
        "/dynamic_chunk?wid=1&digest=zz&encoded-size=13&size=1",
        "/dynamic_chunk?wid=1",
        "/dynamic_chunk",
        "/dynamic_chunk?wid=1&wid=2",
        "/fixed_index?archive-name=../a.fidx&size=5",
        "/fixed_index?archive-name=a%2Fb.fidx&size=5",
        "/fixed_index?archive-name=%ff.fidx&size=5",
        "/fixed_index?archive-name=b.didx&size=5",
        "/fixed_index?archive-name=b.fidx&size=0",
        "/fixed_index?archive-name=b.fidx&size=18446744073709551615",
        "/fixed_index?archive-name=b.fidx&size=5&other=1",
        "/fixed_index?archive-name=a.img.fidx&size=5",
        "/dynamic_index?archive-name=a.didx",
        "/dynamic_index?archive-name=a.img.didx",
        "/dynamic_index?archive-name=b.fidx",
        "/dynamic_index?archive-name=b",
        "/blob?file-name=b.blob&encoded-size=5",
        "/blob?file-name=client.log.blob&encoded-size=50",
        "/dynamic_close?wid=99&chunk-count=0&size=0&csum=00",
        "/finish",
        "/finish?x=1",
    ] {
        wire.post(target).await.refused(400);
    }
    for target in ["/", "/nothing", "/finish/now", "/previous_backup_time"] {
        wire.post(target).await.refused(404);
    }
    wire.post(&format!("/finish?{}", "x".repeat(4000)))
        .await
        .refused(414);
    let zero = "0".repeat(64);
    for body in [
        serde_json::json!([]),
        serde_json::json!({"wid": dynamic}),
        serde_json::json!({"wid": dynamic, "digest-list": [zero], "offset-list": []}),
        serde_json::json!({"wid": dynamic, "digest-list": [zero], "offset-list": [-1]}),
        serde_json::json!({"wid": dynamic, "digest-list": "x", "offset-list": [0]}),
        serde_json::json!({"wid": fixed, "digest-list": [], "offset-list": [], "more": 1}),
    ] {
        wire.put("/dynamic_index", &body).await.refused(400);
    }
    wire.put(
        "/dynamic_index",
        &serde_json::json!({"wid": "x".repeat(600 << 10)}),
    )
    .await
    .refused(413);
    assert!(matches!(session.cut().await, Ended::Aborted(_)));
    assert_eq!(store.list().unwrap().all_groups().count(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_log_may_come_along() {
    let place = Place::new();
    let store = place.datastore();
    let mut session = BackupSession::begin(&store, FIRST).await.unwrap();
    session.blob("etc.conf.blob", b"key = value").await;
    let log = blob::encode(b"what the client said", true).unwrap();
    let target = format!("/blob?file-name=client.log.blob&encoded-size={}", log.len());
    session
        .wire
        .post_bytes(&target, vec![7; log.len()])
        .await
        .refused(400);
    session.wire.post_bytes(&target, log.clone()).await.data();
    session.wire.post_bytes(&target, log.clone()).await.refused(400);
    assert_eq!(session.finish().await, Ended::Finished);
    let entry = store.snapshot(&Namespace::ROOT, &FIRST.parse().unwrap()).unwrap();
    let kept = store
        .read_file(&entry, &"client.log.blob".parse().unwrap())
        .unwrap();
    assert_eq!(kept, log);
    assert_eq!(store.manifest(&entry).unwrap().files.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_must_tell_the_truth() {
    let place = Place::new();
    let store = place.datastore();
    let file = |csum: [u8; 32], name: &str| ManifestFile {
        filename: name.parse().unwrap(),
        crypt_mode: CryptMode::None,
        size: 1,
        csum,
        other: serde_json::Map::new(),
    };
    for (number, bad) in [
        blob::encode(b"{}", true).unwrap(),
        blob::encode(b"nonsense", true).unwrap(),
        Manifest::new(SECOND.parse().unwrap(), vec![]).to_blob().unwrap(),
        Manifest::new(FIRST.parse().unwrap(), vec![file([0; 32], "a.didx")])
            .to_blob()
            .unwrap(),
        Manifest::new(FIRST.parse().unwrap(), vec![file([0; 32], "never.blob")])
            .to_blob()
            .unwrap(),
    ]
    .into_iter()
    .enumerate()
    {
        let mut session = BackupSession::begin(&store, FIRST).await.unwrap();
        session.wire.post("/finish").await.refused(400);
        session.stream("a.didx", &[5; 1000], &[1000]).await;
        session.wire.post("/finish").await.refused(400);
        let target = format!("/blob?file-name=index.json.blob&encoded-size={}", bad.len());
        session.wire.post_bytes(&target, bad).await.data();
        let message = session.wire.post("/finish").await.refused(400);
        assert!(message.contains("manifest"), "{number}: {message}");
        session.cut().await;
    }
    assert_eq!(store.list().unwrap().all_groups().count(), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn after_finish_nothing_more_is_taken() {
    let place = Place::new();
    let store = place.datastore();
    let mut session = BackupSession::begin(&store, FIRST).await.unwrap();
    session.blob("etc.conf.blob", b"x").await;
    session.manifest().await;
    session.wire.post("/finish").await.data();
    // The group is free before the client goes.
    let next = BackupSession::begin(&store, SECOND).await.unwrap();
    session.wire.post("/finish").await.refused(400);
    session
        .wire
        .post("/dynamic_index?archive-name=x.didx")
        .await
        .refused(400);
    assert_eq!(session.cut().await, Ended::Finished);
    next.cut().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn zeros_in_a_stream_stay_where_the_client_cut_them() {
    let place = Place::new();
    let store = place.datastore();
    let mut stream = vec![0; 3 << 20];
    stream.extend(content(1, 1 << 20));
    stream.extend(vec![0; 9 << 20]);
    let lengths = [1 << 20, 2 << 20, 1 << 20, 9 << 20];
    let mut session = BackupSession::begin(&store, FIRST).await.unwrap();
    session.stream("tree.ppxar.didx", &stream, &lengths).await;
    let csum = session.files[0].csum;
    session.finish().await;
    let entry = store.snapshot(&Namespace::ROOT, &FIRST.parse().unwrap()).unwrap();
    let index = store
        .read_index(&entry, &"tree.ppxar.didx".parse().unwrap())
        .unwrap();
    assert_eq!(index.csum, csum);
    // What is known as zeros of an image may be part of a stream, too.
    let mut session = BackupSession::begin(&store, SECOND).await.unwrap();
    session.image("disk.img.fidx", &vec![0; FULL]).await;
    let wid = session
        .wire
        .post("/dynamic_index?archive-name=z.didx")
        .await
        .data()
        .as_u64()
        .unwrap();
    let digest = sha256(&vec![0; FULL]);
    session
        .append("dynamic", wid, &[(0, digest), (FIXED_CHUNK, digest)])
        .await
        .data();
    let mut sum = relight_pbs::formats::index::DynamicSum::default();
    sum.add(FIXED_CHUNK, &digest);
    sum.add(2 * FIXED_CHUNK, &digest);
    let csum = sum.finish();
    session
        .wire
        .post(&close_target("dynamic", wid, 2, 2 * FULL, &csum))
        .await
        .data();
    session.file("z.didx", 2 * FIXED_CHUNK, csum, CryptMode::None);
    session.finish().await;
    let entry = store
        .snapshot(&Namespace::ROOT, &SECOND.parse().unwrap())
        .unwrap();
    let index = store.read_index(&entry, &"z.didx".parse().unwrap()).unwrap();
    assert_eq!(index.csum, csum);
    let reader = ReaderSession::begin(&store, SECOND).await.unwrap();
    reader.download("z.didx").await;
    let chunk = reader.chunk(&digest).await;
    assert_eq!(Blob::parse(&chunk).unwrap().decode(FULL).unwrap(), vec![0; FULL]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_previous_snapshot_can_be_read_while_the_next_is_made() {
    let place = Place::new();
    let store = place.datastore();
    let mut first = BackupSession::begin(&store, FIRST).await.unwrap();
    first.stream("tree.mpxar.didx", &content(1, 5000), &[5000]).await;
    first.finish().await;
    let second = BackupSession::begin(&store, SECOND).await.unwrap();
    let reader = ReaderSession::begin(&store, FIRST).await.unwrap();
    reader.download("tree.mpxar.didx").await;
    // Nobody removes it meanwhile.
    let removed = store
        .locks()
        .snapshot(&Namespace::ROOT, &FIRST.parse().unwrap(), true);
    assert!(removed.is_err());
    assert!(
        ReaderSession::begin(&store, SECOND).await.is_err(),
        "not before it is there"
    );
    reader.end().await;
    second.cut().await;
    drop(
        store
            .locks()
            .snapshot(&Namespace::ROOT, &FIRST.parse().unwrap(), true)
            .unwrap(),
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn calls_take_effect_in_the_order_in_which_they_were_made() {
    let place = Place::new();
    let store = place.datastore();
    let session = BackupSession::begin(&store, FIRST).await.unwrap();
    let wid = session
        .wire
        .post("/dynamic_index?archive-name=a.didx")
        .await
        .data()
        .as_u64()
        .unwrap();
    let digest = session.chunk("dynamic", wid, &content(1, 1000), true).await;
    // None waits for the answer of the one before.
    let mut sent = Vec::new();
    let mut sum = relight_pbs::formats::index::DynamicSum::default();
    for number in 0..150u64 {
        let list = serde_json::json!({"wid": wid, "digest-list": [hex::encode(digest)], "offset-list": [number * 1000]});
        let body = Bytes::from(list.to_string());
        sent.push(
            session
                .wire
                .send(Method::PUT, "/dynamic_index", Some(body))
                .await
                .unwrap(),
        );
        sum.add((number + 1) * 1000, &digest);
    }
    let close = close_target("dynamic", wid, 150, 150_000, &sum.finish());
    sent.push(session.wire.send(Method::POST, &close, None).await.unwrap());
    for response in sent {
        answered(response).await.unwrap().data();
    }
    session.cut().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_good_upload_takes_the_place_of_a_damaged_chunk() {
    let place = Place::new();
    let store = place.datastore();
    let disk = content(8, 2 * FULL);
    let mut first = BackupSession::begin(&store, FIRST).await.unwrap();
    first.image("disk.img.fidx", &disk).await;
    first.finish().await;
    for entry in walk(&place.path().join("packs/data")) {
        let mut bytes = std::fs::read(&entry).unwrap();
        bytes[100_000] ^= 1;
        std::fs::write(&entry, bytes).unwrap();
    }
    let all = relight_pbs::service::datastore::Selection::Namespace(Namespace::ROOT, None);
    let never = std::sync::atomic::AtomicBool::new(false);
    let failed = store
        .verify(&all, false, None, "UPID:x:", &|_| {}, &never)
        .unwrap();
    assert_eq!(failed.len(), 1);

    let mut second = BackupSession::begin(&store, SECOND).await.unwrap();
    // It is not offered to build upon.
    assert_eq!(second.wire.get("/previous_backup_time").await.data(), Value::Null);
    second
        .wire
        .get("/previous?archive-name=disk.img.fidx")
        .await
        .refused(400);
    second.image("disk.img.fidx", &disk).await;
    second.finish().await;
    assert!(restored(&store, SECOND, "disk.img.fidx").await == disk);
    assert!(
        restored(&store, FIRST, "disk.img.fidx").await == disk,
        "the older one is whole again, too"
    );
}

fn walk(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    entries
        .flat_map(|path| if path.is_dir() { walk(&path) } else { vec![path] })
        .collect()
}
