//! What clients send: encrypted, hostile, untrue, and in the place of what was damaged.

use relight_pbs::formats::blob::{self, Blob};
use relight_pbs::formats::crypt::CryptKey;
use relight_pbs::formats::ids::Namespace;
use relight_pbs::formats::index::{FIXED_CHUNK, FixedIndex};
use relight_pbs::formats::manifest::{CryptMode, Manifest, ManifestFile};
use relight_pbs::service::backup::Ended;
use serde_json::Value;

use crate::lab::*;
use crate::wire::*;

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
