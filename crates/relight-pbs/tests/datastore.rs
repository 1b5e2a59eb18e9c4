//! A datastore on a real repository: what clients uploaded and what `relight backup` made look the same to a client.

mod support;

use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::AtomicBool;
use std::time::Instant;

use relight_pbs::formats::blob::Blob;
use relight_pbs::formats::ids::{Group, Namespace, SnapshotName};
use relight_pbs::formats::index::{DynamicIndex, FixedIndex};
use relight_pbs::formats::manifest::{CryptMode, Manifest};
use relight_pbs::service::datastore::{Datastore, Entry, Keep, Selection, Source, StoreError, zero_digest};
use relight_repo::read::{ChunkReader, Stored};
use relight_repo::{ChunkId, RepoError};
use support::{Place, Upload, content, relight_backup, sha256};

const MIB: usize = 1 << 20;

fn name(text: &str) -> SnapshotName {
    text.parse().unwrap()
}

fn group(text: &str) -> Group {
    text.parse().unwrap()
}

fn root() -> Namespace {
    Namespace::ROOT
}

fn only(store: &Datastore) -> Arc<Entry> {
    let listing = store.list().unwrap();
    let entries: Vec<_> = listing
        .all_groups()
        .flat_map(|group| group.snapshots.iter().cloned())
        .collect();
    assert_eq!(entries.len(), 1);
    entries[0].clone()
}

fn quiet(_: &str) {}

/// An image with a hole, and an end that is no whole chunk.
fn image() -> Vec<u8> {
    let mut image = content(1, 13 * MIB + 777);
    image[4 * MIB..8 * MIB].fill(0);
    image
}

/// Restores what an index lists as a client does: chunk by chunk, each compared with its digest.
fn restore(store: &Datastore, chunks: impl IntoIterator<Item = ([u8; 32], u64)>, ids: &[ChunkId]) -> Vec<u8> {
    let reader = ChunkReader::new(store.repository()).unwrap();
    let mut bytes = Vec::new();
    for ((digest, length), id) in chunks.into_iter().zip(ids) {
        let chunk = if *id == ChunkId::ZEROS {
            vec![0; length as usize]
        } else {
            reader.read(id).unwrap()
        };
        assert_eq!((sha256(&chunk), chunk.len() as u64), (digest, length));
        bytes.extend_from_slice(&chunk);
    }
    bytes
}

#[test]
fn what_relight_made_is_restored_as_a_client_does() {
    let place = Place::new();
    let folder = place.folder.path().join("data");
    std::fs::create_dir_all(folder.join("sub")).unwrap();
    for number in 0..40u64 {
        std::fs::write(folder.join(format!("sub/{number}")), content(number, 90_000)).unwrap();
    }
    let disk = place.folder.path().join("disk.raw");
    std::fs::write(&disk, image()).unwrap();
    let snapshot = relight_backup(&place.open(), "pg/main", Some(&folder), Some(&disk));
    let store = place.datastore();
    let entry = only(&store);
    assert_eq!(entry.name.group, group("host/pg-main"));
    assert_eq!(entry.name.backup_time.seconds(), snapshot.time.as_second());
    let files = store.files(&entry).unwrap();
    let names: Vec<&str> = files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(
        names,
        [
            "tree.mpxar.didx",
            "tree.ppxar.didx",
            "disk.img.fidx",
            "index.json.blob"
        ]
    );
    let manifest = Manifest::from_blob(&store.manifest_blob(&entry).unwrap()).unwrap();
    manifest.check_snapshot(&entry.name).unwrap();
    assert_eq!(manifest.files.len(), 3);
    for file in &manifest.files {
        assert_eq!(file.crypt_mode, CryptMode::None);
        let index = store.read_index(&entry, &file.filename).unwrap();
        let bytes = store.read_file(&entry, &file.filename).unwrap();
        let ids: Vec<ChunkId> = index.chunks.iter().map(|chunk| chunk.id).collect();
        let archive = store.archive(&entry, &file.filename).unwrap();
        let whole = if file.filename.as_str().ends_with(".fidx") {
            let parsed = FixedIndex::parse(&bytes).unwrap();
            assert_eq!((parsed.sum(), parsed.size()), (file.csum, file.size));
            let whole = restore(&store, parsed.chunks(), &ids);
            assert!(whole == image());
            whole
        } else {
            let parsed = DynamicIndex::parse(&bytes).unwrap();
            assert_eq!((parsed.sum(), parsed.size()), (file.csum, file.size));
            restore(&store, parsed.chunks(), &ids)
        };
        assert_eq!(whole.len() as u64, archive.root.size);
        // The same each time, also for another process.
        assert!(place.datastore().read_file(&entry, &file.filename).unwrap() == bytes);
    }
}

#[test]
fn what_a_client_uploaded_comes_back_bit_for_bit() {
    let place = Place::new();
    let store = place.datastore();
    let zeros = vec![0; 3 * MIB];
    let data = content(5, 2 * MIB);
    // Chunks of zeros of a stream keep their cuts.
    let chunks: Vec<&[u8]> = vec![&data, &zeros, &zeros, &zeros[..5], &data[..9]];
    let (_, uploaded) = Upload::new(&place.open(), "", "vm/100/2023-11-14T22:13:21Z")
        .image("drive-scsi0.img.fidx", &image())
        .stream("root.pxar.didx", chunks.iter().copied())
        .blob("qemu-server.conf.blob", b"cores: 2\n")
        .finish("bkup@pbs!tok");
    let entry = only(&store);
    let manifest = store.manifest(&entry).unwrap();
    assert_eq!(manifest.files, uploaded.files);
    assert!(manifest.unprotected.contains_key(Manifest::UPLOAD_STATISTIC));
    let listed = store.files(&entry).unwrap();
    assert_eq!(
        listed[3].size,
        Some(store.manifest_blob(&entry).unwrap().len() as u64)
    );
    for file in &manifest.files {
        let bytes = store.read_file(&entry, &file.filename).unwrap();
        match store.file(&entry, &file.filename).unwrap().source {
            Source::Blob(_) => assert_eq!((sha256(&bytes), bytes.len() as u64), (file.csum, file.size)),
            _ => {
                let index = store.read_index(&entry, &file.filename).unwrap();
                assert_eq!((index.csum, index.size), (file.csum, file.size));
            }
        }
    }
    let index = store
        .read_index(&entry, &"root.pxar.didx".parse().unwrap())
        .unwrap();
    let lengths: Vec<u64> = index.chunks.iter().map(|chunk| chunk.length).collect();
    let expected: Vec<u64> = chunks.iter().map(|chunk| chunk.len() as u64).collect();
    assert_eq!(lengths, expected);
    assert_eq!(index.chunks[1].digest, zero_digest(3 * MIB as u64));
    assert_eq!(
        store.owner(&root(), &group("vm/100")).unwrap(),
        Some("bkup@pbs!tok".parse().unwrap())
    );
}

#[test]
fn what_a_client_encrypted_is_served_and_never_read() {
    let place = Place::new();
    let store = place.datastore();
    let chunks: Vec<([u8; 32], Vec<u8>)> = (0..3u8)
        .map(|number| ([number; 32], content(u64::from(number), 50_000)))
        .collect();
    let size = 9 * MIB as u64;
    Upload::new(&place.open(), "", "vm/101/2023-11-14T22:13:21Z")
        .sealed_image("drive.img.fidx", &chunks, size)
        .finish("bkup@pbs");
    let entry = only(&store);
    let file = "drive.img.fidx".parse().unwrap();
    let bytes = store.read_file(&entry, &file).unwrap();
    assert_eq!(FixedIndex::parse(&bytes).unwrap().header.uuid, [7; 16]);
    let index = store.read_index(&entry, &file).unwrap();
    assert_eq!(index.chunks.len(), 3);
    for (chunk, (digest, blob)) in index.chunks.iter().zip(&chunks) {
        assert_eq!(chunk.digest, *digest);
        let stored = store.stored_reader().read(&chunk.id).unwrap();
        let (found, bytes) = Stored::parse(&stored).unwrap().client_sealed().unwrap();
        assert_eq!((found, bytes), (digest, blob.as_slice()));
        assert!(matches!(
            store.reader().read(&chunk.id),
            Err(RepoError::ClientSealed(_))
        ));
    }
    assert_eq!(
        store.files(&entry).unwrap()[0].crypt_mode,
        Some(CryptMode::Encrypt)
    );
    let cancelled = AtomicBool::new(false);
    let selection = Selection::Namespace(root(), None);
    let failed = store.verify(&selection, false, None, "UPID:x:", &quiet, &cancelled);
    assert_eq!(failed.unwrap(), Vec::<String>::new());
}

#[test]
fn notes_protection_and_verification_are_in_the_manifest_and_with_other_servers() {
    let place = Place::new();
    let store = place.datastore();
    let other = place.datastore();
    let snapshot = name("ct/200/2023-11-14T22:13:21Z");
    Upload::new(&place.open(), "", &snapshot.to_string())
        .blob("pct.conf.blob", b"x")
        .finish("bkup@pbs");
    assert!(!only(&other).is_protected());
    store.set_notes(&root(), &snapshot, "first\nsecond").unwrap();
    store.set_protected(&root(), &snapshot, true).unwrap();
    let entry = only(&other);
    assert!(entry.is_protected());
    assert_eq!(other.notes(&entry).unwrap(), "first\nsecond");
    let manifest = Manifest::from_blob(&other.manifest_blob(&entry).unwrap()).unwrap();
    assert_eq!(manifest.unprotected["notes"], "first\nsecond");
    assert!(matches!(
        store.forget(&root(), &snapshot),
        Err(StoreError::Refused(_))
    ));
    let cancelled = AtomicBool::new(false);
    let one = Selection::Snapshot(root(), snapshot.clone());
    let lines = Mutex::new(Vec::new());
    let log = |line: &str| lines.lock().unwrap().push(line.to_string());
    assert!(
        store
            .verify(&one, true, None, "UPID:task:", &log, &cancelled)
            .unwrap()
            .is_empty()
    );
    assert!(!lines.lock().unwrap().is_empty());
    let manifest = other.manifest(&only(&other)).unwrap();
    assert_eq!(manifest.verify_state().unwrap().upid, "UPID:task:");
    lines.lock().unwrap().clear();
    store
        .verify(&one, true, None, "UPID:again:", &log, &cancelled)
        .unwrap();
    assert_eq!(lines.lock().unwrap().last().unwrap(), "nothing to verify");
    let log = relight_pbs::formats::blob::encode(b"log of the client", true).unwrap();
    store.add_log(&root(), &snapshot, &log).unwrap();
    assert!(store.add_log(&root(), &snapshot, &log).is_err());
    assert!(store.add_log(&root(), &snapshot, b"no blob at all").is_err());
    let entry = only(&other);
    let file = "client.log.blob".parse().unwrap();
    assert_eq!(other.read_file(&entry, &file).unwrap(), log);
    assert_eq!(
        Blob::parse(&log).unwrap().decode(100).unwrap(),
        b"log of the client"
    );
}

#[test]
fn damage_is_told_with_the_snapshot() {
    let place = Place::new();
    let store = place.datastore();
    let snapshot = name("vm/100/2023-11-14T22:13:21Z");
    Upload::new(&place.open(), "", &snapshot.to_string())
        .image("drive.img.fidx", &image())
        .finish("bkup@pbs");
    Upload::new(&place.open(), "", "vm/101/2023-11-14T22:13:21Z")
        .image("drive.img.fidx", &content(77, 5 * MIB))
        .finish("bkup@pbs");
    // The largest pack is that of the first image.
    let mut packs = Vec::new();
    for shard in std::fs::read_dir(place.path().join("packs/data")).unwrap() {
        for pack in std::fs::read_dir(shard.unwrap().path()).unwrap() {
            let pack = pack.unwrap();
            packs.push((pack.metadata().unwrap().len(), pack.path()));
        }
    }
    packs.sort();
    let (_, pack) = packs.pop().unwrap();
    let mut bytes = std::fs::read(&pack).unwrap();
    bytes[100_000] ^= 1;
    std::fs::remove_file(&pack).unwrap();
    std::fs::write(&pack, bytes).unwrap();
    let cancelled = AtomicBool::new(false);
    let all = Selection::Namespace(root(), None);
    let failed = store
        .verify(&all, true, None, "UPID:v:", &quiet, &cancelled)
        .unwrap();
    assert_eq!(failed, [snapshot.to_string()]);
    let state = |name: &str| {
        let entry = store.snapshot(&root(), &name.parse().unwrap()).unwrap();
        entry.verification().unwrap()["state"].clone()
    };
    assert_eq!(state("vm/100/2023-11-14T22:13:21Z"), "failed");
    assert_eq!(state("vm/101/2023-11-14T22:13:21Z"), "ok");
    // A good upload of the same content heals it.
    Upload::new(&place.open(), "", "vm/100/2023-11-15T22:13:21Z")
        .image("drive.img.fidx", &image())
        .finish("bkup@pbs");
    let failed = store
        .verify(&all, true, None, "UPID:v:", &quiet, &cancelled)
        .unwrap();
    assert_eq!(failed, Vec::<String>::new());
    assert_eq!(state("vm/100/2023-11-14T22:13:21Z"), "ok");
}

#[test]
fn owners_are_those_who_made_it_until_somebody_changes_that() {
    let place = Place::new();
    let store = place.datastore();
    let vm = group("vm/1");
    let upload = |time: &str, owner: &str| {
        Upload::new(&place.open(), "lab", &format!("vm/1/{time}"))
            .blob("a.blob", b"a")
            .finish(owner);
    };
    let lab: Namespace = "lab".parse().unwrap();
    let bkup = "bkup@pbs".parse().unwrap();
    assert!(matches!(
        store.claim(&lab, &vm, &bkup),
        Err(StoreError::NoNamespace(_))
    ));
    store.create_namespace(&root(), "lab").unwrap();
    assert_eq!(store.claim(&lab, &vm, &bkup).unwrap(), bkup);
    upload("2023-11-14T22:13:21Z", "bkup@pbs");
    let other = "other@pbs!t".parse().unwrap();
    assert_eq!(store.claim(&lab, &vm, &other).unwrap(), bkup);
    store.set_owner(&lab, &vm, &other).unwrap();
    store.set_group_notes(&lab, &vm, "web\nmore").unwrap();
    upload("2023-11-14T22:13:22Z", "bkup@pbs");
    let seen = place.datastore().group(&lab, &vm).unwrap();
    assert_eq!(
        (seen.owner.clone(), seen.notes.as_str()),
        (Some(other), "web\nmore")
    );
    assert_eq!(seen.snapshots.len(), 2);
    // With its last snapshot a group is gone, and whoever comes next owns it.
    let removed = store.forget_group(&lab, &vm).unwrap();
    assert_eq!((removed.removed_snapshots, removed.removed_groups), (2, 1));
    let third = "third@pbs".parse().unwrap();
    assert_eq!(store.claim(&lab, &vm, &third).unwrap(), third);
    assert!(
        place.open().groups().unwrap().len() == 1,
        "only the namespace is left"
    );
}

#[test]
fn namespaces_come_and_go() {
    let place = Place::new();
    let store = place.datastore();
    let names = || -> Vec<String> {
        store
            .list()
            .unwrap()
            .namespaces()
            .map(ToString::to_string)
            .collect()
    };
    assert_eq!(names(), [""]);
    let a = store.create_namespace(&root(), "a").unwrap();
    store.create_namespace(&a, "b").unwrap();
    assert!(store.create_namespace(&a, "b").is_err());
    assert!(store.create_namespace(&root(), "../x").is_err());
    assert!(matches!(
        store.create_namespace(&"nope".parse().unwrap(), "c"),
        Err(StoreError::NoNamespace(_))
    ));
    // Snapshots make namespaces, too.
    Upload::new(&place.open(), "c/d", "host/x/2023-11-14T22:13:21Z")
        .blob("a.blob", b"a")
        .finish("bkup@pbs");
    assert_eq!(names(), ["", "a", "a/b", "c", "c/d"]);
    let c: Namespace = "c".parse().unwrap();
    let (_, gone) = store.remove_namespace(&c, false).unwrap();
    assert!(!gone);
    assert_eq!(names(), ["", "a", "a/b", "c", "c/d"]);
    let d: Namespace = "c/d".parse().unwrap();
    let snapshot = name("host/x/2023-11-14T22:13:21Z");
    store.set_protected(&d, &snapshot, true).unwrap();
    let (removed, gone) = store.remove_namespace(&c, true).unwrap();
    assert_eq!((removed.protected_snapshots, gone), (1, false));
    store.set_protected(&d, &snapshot, false).unwrap();
    let (removed, gone) = store.remove_namespace(&c, true).unwrap();
    assert_eq!((removed.removed_snapshots, gone), (1, true));
    let (_, gone) = store.remove_namespace(&a, false).unwrap();
    assert!(gone);
    assert_eq!(names(), [""]);
    assert!(store.remove_namespace(&root(), true).is_err());
}

#[test]
fn pruning_keeps_what_the_rules_say_and_what_is_in_use() {
    let place = Place::new();
    let store = place.datastore();
    let host = group("host/x");
    for day in 10..20 {
        for hour in [1, 13] {
            Upload::new(
                &place.open(),
                "",
                &format!("host/x/2024-01-{day}T{hour:02}:00:00Z"),
            )
            .blob("a.blob", b"a")
            .finish("bkup@pbs");
        }
    }
    let keep = Keep {
        keep_last: 1.try_into().ok(),
        keep_daily: 3.try_into().ok(),
        ..Keep::default()
    };
    let kept = |judged: &[relight_pbs::service::datastore::Pruned]| -> Vec<String> {
        judged
            .iter()
            .filter(|one| one.keep)
            .map(|one| one.entry.name.backup_time.to_string())
            .collect()
    };
    let everything = store.prune(&root(), &host, &Keep::default(), false).unwrap();
    assert_eq!(kept(&everything).len(), 20);
    store
        .set_protected(&root(), &name("host/x/2024-01-11T01:00:00Z"), true)
        .unwrap();
    let plan = store.prune(&root(), &host, &keep, true).unwrap();
    let expected = [
        "2024-01-11T01:00:00Z",
        "2024-01-16T13:00:00Z",
        "2024-01-17T13:00:00Z",
        "2024-01-18T13:00:00Z",
        "2024-01-19T13:00:00Z",
    ];
    assert_eq!(kept(&plan), expected);
    assert_eq!(store.group(&root(), &host).unwrap().snapshots.len(), 20);
    let reading = name("host/x/2024-01-10T01:00:00Z");
    let lock = store.locks().snapshot(&root(), &reading, false).unwrap();
    let done = store.prune(&root(), &host, &keep, false).unwrap();
    let failed: Vec<_> = done.iter().filter(|one| one.failure.is_some()).collect();
    assert_eq!(failed.len(), 1);
    assert_eq!(failed[0].entry.name, reading);
    drop(lock);
    store.prune(&root(), &host, &keep, false).unwrap();
    assert_eq!(store.group(&root(), &host).unwrap().snapshots.len(), 5);
}

#[test]
fn collection_tells_what_it_found_and_remembers_it() {
    let place = Place::new();
    let store = place.datastore();
    Upload::new(&place.open(), "", "vm/100/2023-11-14T22:13:21Z")
        .image("drive.img.fidx", &image())
        .finish("bkup@pbs");
    let cancelled = AtomicBool::new(false);
    let lines = Mutex::new(Vec::new());
    let log = |line: &str| lines.lock().unwrap().push(line.to_string());
    let status = store.collect("UPID:gc:", &log, &cancelled).unwrap();
    assert_eq!(
        (status.index_file_count, status.index_data_bytes),
        (1, image().len() as u64)
    );
    assert!(status.disk_bytes > 0 && status.disk_chunks >= 3);
    assert!(lines.lock().unwrap().len() > 3);
    let again = place.datastore();
    assert_eq!(again.collect_status(), status);
    assert_eq!(again.last_collection().unwrap().1, "OK");
    let full = store.status().unwrap();
    assert!(full.total >= full.used && full.used > 0 && full.avail > 0);
    assert_eq!(store.counts().unwrap().vm.unwrap().snapshots, 1);
}

#[test]
fn what_was_forgotten_a_moment_ago_is_shown_as_pending() {
    let place = Place::new();
    let store = place.datastore();
    for snapshot in ["vm/100/2023-11-14T22:13:21Z", "vm/101/2023-11-14T22:13:21Z"] {
        let mut upload = Upload::new(&place.open(), "", snapshot);
        if snapshot.starts_with("vm/100") {
            upload = upload.image("drive.img.fidx", &image());
        }
        upload.blob("a.blob", b"a").finish("bkup@pbs");
    }
    let collect = || {
        store
            .collect("UPID:gc:", &|_| (), &AtomicBool::new(false))
            .unwrap()
    };
    let before = collect();
    assert_eq!((before.pending_bytes, before.removed_bytes), (0, 0));
    store
        .forget(&root(), &"vm/100/2023-11-14T22:13:21Z".parse().unwrap())
        .unwrap();
    let after = collect();
    assert!(after.pending_bytes > 0 && after.pending_chunks > 0);
    assert_eq!(after.removed_bytes, 0);
    assert!(
        after.disk_bytes + after.pending_bytes <= before.disk_bytes,
        "{before:?} {after:?}"
    );
}

#[test]
fn of_two_snapshots_in_one_second_the_newer_is_shown() {
    let place = Place::new();
    let store = place.datastore();
    for bytes in [b"a", b"b"] {
        Upload::new(&place.open(), "", "host/x/2023-11-14T22:13:21Z")
            .blob("a.blob", bytes)
            .finish("bkup@pbs");
    }
    let entry = only(&store);
    assert_eq!(entry.hidden.len(), 1);
    let file = store.read_file(&entry, &"a.blob".parse().unwrap()).unwrap();
    assert_eq!(Blob::parse(&file).unwrap().decode(9).unwrap(), b"b");
    store.forget(&root(), &entry.name).unwrap();
    assert_eq!(store.list().unwrap().all_groups().count(), 0);
    assert!(place.open().snapshot_ids().unwrap().is_empty());
}

#[test]
fn a_thousand_snapshots_are_listed_quickly() {
    let place = Place::new();
    let repository = place.open();
    let session = support::begin(&repository);
    let mut writer = session
        .archive("a.blob", relight_repo::snapshot::ArchiveKind::Blob)
        .unwrap();
    writer.write(b"something").unwrap();
    let archive = writer.finish().unwrap();
    for number in 0..1000 {
        let file = relight_pbs::formats::manifest::ManifestFile {
            filename: "a.blob".parse().unwrap(),
            crypt_mode: CryptMode::None,
            size: 9,
            csum: [1; 32],
            other: serde_json::Map::new(),
        };
        let when = format!("vm/{}/2023-11-14T22:13:{:02}Z", number % 200, number / 200);
        let manifest = Manifest::new(name(&when), vec![file]);
        let spec = relight_repo::snapshot::SnapshotSpec {
            workload: format!("vm/{}", number % 200),
            time: Some(name(&when).backup_time.timestamp()),
            attributes: relight_pbs::service::datastore::entry::attributes(
                "a@pbs",
                &manifest,
                &Default::default(),
            )
            .unwrap(),
            ..Default::default()
        };
        session.publish(spec, vec![archive.clone()]).unwrap();
    }
    let store = place.datastore();
    let list = |what: &str| {
        let began = Instant::now();
        let listing = store.list().unwrap();
        let mut files = 0;
        for group in listing.all_groups() {
            for entry in &group.snapshots {
                files += store.files(entry).unwrap().len();
            }
        }
        let took = began.elapsed();
        println!("{what}: {took:?}");
        assert_eq!((listing.all_groups().count(), files), (200, 2000));
        took
    };
    list("first");
    let mut best = (0..5).map(|_| list("again")).min().unwrap();
    // Other tests run at the same time.
    if best.as_millis() >= 100 {
        std::thread::sleep(std::time::Duration::from_secs(5));
        best = list("once more");
    }
    assert!(best.as_millis() < 100, "{best:?}");
}
