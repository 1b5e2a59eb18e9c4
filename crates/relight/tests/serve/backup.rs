//! Backups and restores through the protocol, over TLS, beside those of the command line.

use std::time::Duration;

use bytes::Bytes;
use relight_pbs::formats::blob;
use relight_pbs::formats::ids::SnapshotName;
use relight_pbs::formats::index::{Digest, FixedIndex, FixedSum};
use relight_pbs::formats::manifest::{CryptMode, Manifest, ManifestFile};
use relight_repo::id::ChunkId;
use serde_json::json;

use super::lab::{Lab, Running, Session};

const PIECE: usize = 4 << 20;

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut state = seed | 1;
    let next = |_| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 56) as u8
    };
    (0..length).map(next).collect()
}

fn query(time: i64) -> String {
    format!("backup-id=100&backup-time={time}&backup-type=vm&benchmark=false&debug=false&store=main")
}

/// Uploads the pieces of an image; gives their digests.
async fn upload(session: &mut Session, image: &[u8]) -> Vec<Digest> {
    let size = image.len();
    let wid = session
        .data(
            "POST",
            &format!("fixed_index?archive-name=drive.img.fidx&size={size}"),
            "",
        )
        .await;
    let mut digests = Vec::new();
    for piece in image.chunks(PIECE) {
        let digest = ChunkId::of(piece).0;
        let body = blob::encode(piece, true).unwrap();
        let target = format!(
            "fixed_chunk?wid={wid}&digest={}&size={}&encoded-size={}",
            ChunkId::of(piece),
            piece.len(),
            body.len()
        );
        session.data("POST", &target, body).await;
        digests.push(digest);
    }
    let list: Vec<String> = image
        .chunks(PIECE)
        .map(|piece| ChunkId::of(piece).to_string())
        .collect();
    let offsets: Vec<usize> = (0..list.len()).map(|at| at * PIECE).collect();
    let body = json!({"wid": wid, "digest-list": list, "offset-list": offsets}).to_string();
    session.data("PUT", "fixed_index", body).await;
    let mut sum = FixedSum::default();
    digests.iter().for_each(|digest| sum.add(digest));
    let sum: String = sum.finish().iter().map(|byte| format!("{byte:02x}")).collect();
    let close = format!(
        "fixed_close?wid={wid}&chunk-count={}&size={size}&csum={sum}",
        digests.len()
    );
    session.data("POST", &close, "").await;
    digests
}

async fn back_up(server: &Running, token: &str, time: i64, image: &[u8]) {
    let mut session = server
        .upgrade("backup", &query(time), token)
        .await
        .unwrap_or_else(|error| panic!("{error:?}"));
    session.data("GET", "previous_backup_time", "").await;
    let digests = upload(&mut session, image).await;
    let mut sum = FixedSum::default();
    digests.iter().for_each(|digest| sum.add(digest));
    let name: SnapshotName = format!("vm/100/{}", jiff::Timestamp::from_second(time).unwrap())
        .parse()
        .unwrap();
    let file = ManifestFile {
        filename: "drive.img.fidx".parse().unwrap(),
        crypt_mode: CryptMode::None,
        size: image.len() as u64,
        csum: sum.finish(),
        other: serde_json::Map::new(),
    };
    let manifest = Manifest::new(name, vec![file]).to_blob().unwrap();
    let target = format!("blob?file-name=index.json.blob&encoded-size={}", manifest.len());
    session.data("POST", &target, manifest).await;
    session.data("POST", "finish", "").await;
    session.vanish().await;
}

#[tokio::test]
async fn what_a_client_saves_is_restored_by_clients_and_by_the_command_line() {
    let lab = Lab::new();
    lab.user("bkup@pbs", "DatastoreAdmin", "/datastore/main");
    let token = lab.token("bkup@pbs!tok1", "DatastorePowerUser", "/datastore/main");
    let server = lab.serve();
    let mut image = noise(7, 2 * PIECE + 12_345);
    image[PIECE..2 * PIECE].fill(0);
    let time = 1_700_000_001;
    back_up(&server, &token, time, &image).await;
    // Listed, with its owner and a task.
    let base = "admin/datastore/main";
    let snapshots = server.get(&format!("{base}/snapshots"), &[&token]).await.data();
    assert_eq!(
        (&snapshots[0]["backup-id"], &snapshots[0]["backup-time"]),
        (&"100".into(), &time.into())
    );
    assert_eq!(snapshots[0]["owner"], "bkup@pbs!tok1");
    let tasks = server
        .get("nodes/localhost/tasks?typefilter=backup", &[&token])
        .await
        .data();
    assert_eq!(
        (&tasks[0]["worker_type"], &tasks[0]["status"]),
        (&"backup".into(), &"OK".into())
    );
    // The same time again: refused as the original does.
    let (status, text) = server
        .upgrade("backup", &query(time), &token)
        .await
        .err()
        .unwrap();
    assert_eq!(
        (status, text.as_str()),
        (400, "backup timestamp is older than last backup.")
    );
    // Through the reader, as a client restores it.
    let reader = format!("backup-id=100&backup-time={time}&backup-type=vm&debug=true&store=main");
    let mut session = server
        .upgrade("reader", &reader, &token)
        .await
        .unwrap_or_else(|error| panic!("{error:?}"));
    let index = Session::good(
        session
            .call("GET", "download?file-name=drive.img.fidx", Bytes::new())
            .await,
    );
    let mut restored = Vec::new();
    for (digest, length) in FixedIndex::parse(&index).unwrap().chunks() {
        let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let chunk = Session::good(
            session
                .call("GET", &format!("chunk?digest={digest}"), Bytes::new())
                .await,
        );
        let piece = blob::Blob::parse(&chunk).unwrap().decode(PIECE).unwrap();
        assert_eq!(piece.len() as u64, length);
        restored.extend(piece);
    }
    assert!(restored == image);
    session.vanish().await;
    // By the command line, while the server runs.
    let output = lab
        .command(&["dump", "vm/100@latest", "drive.img"])
        .output()
        .unwrap();
    assert!(
        output.status.success() && output.stdout == image,
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert!(lab.ok(&["snapshots"]).contains("vm/100"));
    // And what the command line saves, clients see.
    std::fs::create_dir(lab.path("src")).unwrap();
    std::fs::write(lab.path("src/file"), "content\n").unwrap();
    lab.ok(&["backup", "src", "-w", "host/here"]);
    let admin = lab.token("bkup@pbs!all", "DatastoreAdmin", "/datastore/main");
    let snapshots = server
        .get(
            &format!("{base}/snapshots?backup-id=here&backup-type=host"),
            &[&admin],
        )
        .await
        .data();
    let files = snapshots[0]["files"].as_array().unwrap();
    assert!(
        files.iter().any(|file| file["filename"] == "src.mpxar.didx"),
        "{snapshots}"
    );
    // A token does not see what others own, unless it may.
    let own = server.get(&format!("{base}/snapshots"), &[&token]).await.data();
    assert_eq!(own.as_array().unwrap().len(), 1);
    // Read and forgotten again.
    let one = format!("{base}/snapshots?backup-type=vm&backup-id=100&backup-time={time}");
    assert_eq!(server.ask("DELETE", &one, &[&token], "").await.status, 200);
    assert_eq!(
        server.get(&format!("{base}/groups"), &[&token]).await.data(),
        json!([])
    );
    assert_eq!(server.stop().0, 0);
    let records = lab.ok(&["audit", "-n", "1000", "--who", "bkup@pbs!tok1"]);
    assert!(
        records.contains("/backup") && records.contains("DELETE //api2/json/admin/datastore/main/snapshots"),
        "{records}"
    );
}

#[tokio::test]
async fn a_client_that_vanishes_leaves_nothing_behind() {
    let lab = Lab::new();
    lab.user("bkup@pbs", "DatastoreAdmin", "/datastore/main");
    let token = lab.token("bkup@pbs!tok1", "DatastoreBackup", "/datastore/main");
    let server = lab.serve();
    let image = noise(9, PIECE + 1);
    let mut session = server
        .upgrade("backup", &query(1_700_000_001), &token)
        .await
        .ok()
        .unwrap();
    upload(&mut session, &image).await;
    // Meanwhile nobody else writes to the group.
    let (status, _) = server
        .upgrade("backup", &query(1_700_000_002), &token)
        .await
        .err()
        .unwrap();
    assert_eq!(status, 400);
    session.vanish().await;
    // At once another one does, and nothing is seen of the first.
    let mut tries = 0;
    while server
        .upgrade("backup", &query(1_700_000_003), &token)
        .await
        .is_err()
    {
        tries += 1;
        assert!(tries < 100, "the group stays locked");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    tokio::time::sleep(Duration::from_millis(200)).await;
    back_up(&server, &token, 1_700_000_004, &image).await;
    let snapshots = server
        .get("admin/datastore/main/snapshots", &[&token])
        .await
        .data();
    assert_eq!(snapshots.as_array().unwrap().len(), 1, "{snapshots}");
    // Told to stop while a backup runs: it may go on for the grace time of a second, no longer.
    let mut session = server
        .upgrade("backup", &query(1_700_000_005), &token)
        .await
        .ok()
        .unwrap();
    upload(&mut session, &image).await;
    let (code, took) = tokio::task::spawn_blocking(move || server.stop()).await.unwrap();
    assert_eq!(code, 0);
    assert!(
        (Duration::from_millis(900)..Duration::from_secs(15)).contains(&took),
        "{took:?}"
    );
    let snapshots = lab.json(&["snapshots", "-w", "vm/100"]);
    assert_eq!(snapshots["snapshots"].as_array().unwrap().len(), 1, "{snapshots}");
    let server = lab.serve();
    let list = server
        .get("nodes/localhost/tasks?typefilter=backup&limit=0", &[&token])
        .await
        .data();
    let ends: Vec<&str> = list
        .as_array()
        .unwrap()
        .iter()
        .map(|task| task["status"].as_str().unwrap())
        .collect();
    assert!(
        ends.iter().filter(|end| **end == "OK").count() == 1 && !ends.contains(&"unknown"),
        "{ends:?}"
    );
}
