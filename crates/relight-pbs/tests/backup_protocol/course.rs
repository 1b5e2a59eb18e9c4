//! The course of a backup: how it begins, what it sends, how it ends or breaks off.

use bytes::Bytes;
use http::Method;
use relight_pbs::formats::blob;
use relight_pbs::formats::ids::Namespace;
use relight_pbs::formats::index::{FIXED_CHUNK, FixedIndex, FixedSum};
use relight_pbs::formats::manifest::Manifest;
use relight_pbs::service::backup::{self, Ended};
use serde_json::Value;

use crate::lab::*;
use crate::wire::*;

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
