//! The recorded requests of the original client are answered as the original server answered them, and what was saved so is
//! restored as it was.

mod support;
mod wire;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use http::Method;
use relight_pbs::formats::blob::Blob;
use relight_pbs::formats::ids::{FileKind, FileName, Namespace, SnapshotName};
use relight_pbs::formats::index::{Digest, DynamicIndex, FixedIndex};
use relight_pbs::formats::manifest::Manifest;
use relight_pbs::service::backup::{BackupRequest, Ended};
use relight_pbs::service::datastore::Datastore;
use relight_pbs::service::reader::ReaderRequest;
use relight_repo::group::{Record, Subject};
use serde::Deserialize;
use serde_json::{Value, json};
use wire::*;

#[derive(Deserialize)]
struct Recorded {
    protocol: String,
    query: String,
    requests: Vec<RecordedCall>,
}

#[derive(Deserialize)]
struct RecordedCall {
    method: String,
    path: String,
    /// Of a list of digests the first.
    first: Option<String>,
    status: Option<u16>,
    data: Option<Value>,
    length: Option<usize>,
}

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn query(text: &str) -> HashMap<String, String> {
    let pairs = text.split('&').filter_map(|pair| pair.split_once('='));
    pairs
        .map(|(name, value)| (name.to_string(), value.replace("%2F", "/")))
        .collect()
}

struct Original {
    namespace: Namespace,
    name: SnapshotName,
    folder: PathBuf,
}

impl Original {
    fn of(parameters: &HashMap<String, String>) -> Self {
        let namespace: Namespace = parameters.get("ns").map_or("", String::as_str).parse().unwrap();
        let group = format!("{}/{}", parameters["backup-type"], parameters["backup-id"]);
        let seconds: i64 = parameters["backup-time"].parse().unwrap();
        let name = SnapshotName {
            group: group.parse().unwrap(),
            backup_time: seconds.try_into().unwrap(),
        };
        let mut folder = fixtures().join("datastore");
        namespace
            .parts()
            .for_each(|part| folder = folder.join("ns").join(part));
        folder = folder.join(name.to_string());
        Self {
            namespace,
            name,
            folder,
        }
    }

    fn file(&self, name: &str) -> Vec<u8> {
        std::fs::read(self.folder.join(name)).unwrap()
    }

    /// The manifest as the client uploaded it: without what the server added.
    fn manifest(&self) -> Vec<u8> {
        let mut manifest = Manifest::from_blob(&self.file("index.json.blob")).unwrap();
        for added in [
            Manifest::UPLOAD_STATISTIC,
            Manifest::NOTES,
            Manifest::VERIFY_STATE,
        ] {
            manifest.unprotected.remove(added);
        }
        manifest.to_blob().unwrap()
    }

    fn chunks(&self, name: &FileName) -> Vec<(u64, Digest)> {
        let bytes = self.file(name.as_str());
        let chunks: Vec<(Digest, u64)> = match name.kind() {
            FileKind::FixedIndex => FixedIndex::parse(&bytes).unwrap().chunks().collect(),
            _ => DynamicIndex::parse(&bytes).unwrap().chunks().collect(),
        };
        let mut at = 0;
        let with_start = chunks.into_iter().map(|(digest, length)| {
            at += length;
            (at - length, digest)
        });
        with_start.collect()
    }
}

fn chunk(digest: &str) -> Vec<u8> {
    std::fs::read(
        fixtures()
            .join("datastore/.chunks")
            .join(&digest[..4])
            .join(digest),
    )
    .unwrap()
}

async fn replay_backup(store: &Arc<Datastore>, recorded: &Recorded) {
    let original = Original::of(&query(&recorded.query));
    let session = BackupSession::of(BackupRequest {
        datastore: store.clone(),
        namespace: original.namespace.clone(),
        snapshot: original.name.clone(),
        auth_id: "bkup@pbs!tok1".parse().unwrap(),
        benchmark: false,
    })
    .await
    .unwrap();
    // The numbers that the original gave depend on the order in which its threads came; ours on that of the requests.
    let mut numbers: HashMap<u64, (u64, FileName)> = HashMap::new();
    for call in &recorded.requests {
        let (path, text) = call.path.split_once('?').unwrap_or((&call.path, ""));
        let mut parameters = query(text);
        if let Some(wid) = parameters.get("wid") {
            let ours = numbers[&wid.parse().unwrap()].0.to_string();
            parameters.insert("wid".into(), ours);
        }
        let mut body = None;
        if path.ends_with("_chunk") {
            body = Some(chunk(&parameters["digest"]));
        } else if path == "/blob" {
            let name = &parameters["file-name"];
            let bytes = match name.as_str() {
                "index.json.blob" => original.manifest(),
                name => original.file(name),
            };
            parameters.insert("encoded-size".into(), bytes.len().to_string());
            body = Some(bytes);
        } else if let Some(first) = &call.first {
            let is_it = |name: &FileName| {
                original
                    .chunks(name)
                    .iter()
                    .any(|(_, digest)| hex::encode(digest) == *first)
            };
            let (wid, name) = numbers.values().find(|(_, name)| is_it(name)).unwrap();
            let chunks = original.chunks(name);
            let digests: Vec<String> = chunks.iter().map(|(_, digest)| hex::encode(digest)).collect();
            let offsets: Vec<u64> = chunks.iter().map(|(start, _)| *start).collect();
            let list = json!({"digest-list": digests, "offset-list": offsets, "wid": wid});
            body = Some(serde_json::to_vec(&list).unwrap());
        }
        let text: Vec<String> = parameters
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        let target = if text.is_empty() {
            path.to_string()
        } else {
            format!("{path}?{}", text.join("&"))
        };
        let method: Method = call.method.parse().unwrap();
        let answer = session
            .wire
            .try_call(method, &target, body.map(Into::into))
            .await
            .unwrap();
        assert_eq!(
            answer.status.as_u16(),
            call.status.unwrap(),
            "{target}: {:?}",
            answer.body
        );
        if path.ends_with("_index") && call.first.is_none() {
            let theirs = call.data.as_ref().unwrap().as_u64().unwrap();
            let name = parameters["archive-name"].parse().unwrap();
            numbers.insert(theirs, (answer.data().as_u64().unwrap(), name));
        } else if let Some(length) = call.length {
            if !target.contains("index.json.blob") {
                assert_eq!(answer.body.len(), length, "{target}");
            }
        } else {
            assert_eq!(answer.data(), call.data.clone().unwrap_or_default(), "{target}");
        }
    }
    assert_eq!(session.cut().await, Ended::Finished);
}

async fn replay_reader(store: &Arc<Datastore>, recorded: &Recorded) {
    let original = Original::of(&query(&recorded.query));
    let session = ReaderSession::of(ReaderRequest {
        datastore: store.clone(),
        namespace: original.namespace.clone(),
        snapshot: original.name.clone(),
        auth_id: "bkup@pbs!tok1".parse().unwrap(),
        must_own: true,
    })
    .await
    .unwrap();
    for call in &recorded.requests {
        let answer = session.wire.get(&call.path).await;
        assert_eq!(answer.status.as_u16(), call.status.unwrap(), "{}", call.path);
        if let Some(digest) = call.path.strip_prefix("/chunk?digest=") {
            let (ours, theirs) = (Blob::parse(&answer.body).unwrap(), chunk(digest));
            ours.check_crc().unwrap();
            let theirs = Blob::parse(&theirs).unwrap();
            if theirs.kind().is_encrypted() || theirs.kind().is_compressed() {
                assert_eq!(ours.bytes(), theirs.bytes(), "as it came");
            } else {
                assert_eq!(ours.decode(16 << 20).unwrap(), theirs.decode(16 << 20).unwrap());
            }
        } else if let Some(name) = call.path.strip_prefix("/download?file-name=") {
            let Some(length) = call.length else { continue };
            let name: FileName = name.parse().unwrap();
            if name.is_manifest() {
                let ours = Manifest::from_blob(&answer.body).unwrap();
                let theirs = Manifest::from_blob(&original.file("index.json.blob")).unwrap();
                assert_eq!((ours.files, ours.signature), (theirs.files, theirs.signature));
            } else {
                assert_eq!(answer.body.len(), length);
            }
            match name.kind() {
                // All but UUID and time.
                FileKind::FixedIndex | FileKind::DynamicIndex => {
                    assert_eq!(answer.body[32..], original.file(name.as_str())[32..]);
                }
                FileKind::Blob if !name.is_manifest() => {
                    assert_eq!(answer.body, original.file(name.as_str()));
                }
                FileKind::Blob => {}
            }
        }
    }
    session.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn recorded_sessions_are_answered_in_kind() {
    let place = Place::new();
    let store = place.datastore();
    store
        .repository()
        .set_group(&Record::new(Subject::Namespace, "ns1/sub"))
        .unwrap();
    let text = std::fs::read(fixtures().join("requests.json")).unwrap();
    let recorded: Vec<Recorded> = serde_json::from_slice(&text).unwrap();
    let (mut backups, mut readers) = (0, 0);
    for session in &recorded {
        if session.protocol == "backup" {
            replay_backup(&store, session).await;
            backups += 1;
        } else {
            replay_reader(&store, session).await;
            readers += 1;
        }
    }
    assert_eq!((backups, readers), (8, 14));
    assert_eq!(
        store
            .list()
            .unwrap()
            .all_groups()
            .flat_map(|group| &group.snapshots)
            .count(),
        8
    );
    assert_eq!(store.locks().active(), (0, 0));
}
