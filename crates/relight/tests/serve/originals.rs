//! Snapshots as the original client writes them, seen by the commands of Relight.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use relight_pbs::client::{BackupOptions, Client, Credentials, Trust};
use relight_pbs::formats::blob::Blob;
use relight_pbs::formats::chunker::StreamChunker;
use relight_pbs::formats::crypt::CryptKey;
use relight_pbs::formats::ids::{FileKind, Namespace, SnapshotName};
use relight_pbs::formats::index::{DynamicIndex, FixedIndex};
use relight_pbs::formats::manifest::Manifest;

use super::lab::{Lab, Running};

/// Most of what a chunk or a file among the fixtures holds.
const MOST: usize = 16 << 20;

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../relight-pbs/tests/fixtures")
}

/// A client of the server that runs, as the token of the lab.
pub fn client(server: &Running, header: &str, namespace: &str) -> Client {
    let token = header.strip_prefix("Authorization: PBSAPIToken ").unwrap();
    let (who, secret) = token.rsplit_once(':').unwrap();
    let address = format!("https://{who}@{}/main", server.address).parse().unwrap();
    let credentials = Credentials::new(who.parse().unwrap(), secret).unwrap();
    let trust = Trust::Fingerprint(server.fingerprint.parse().unwrap());
    Client::over_tls(
        &address,
        credentials,
        trust,
        namespace.parse::<Namespace>().unwrap(),
    )
    .unwrap()
}

/// Uploads a snapshot of the fixtures with the same chunks and files, encrypted anew if there is a key.
pub async fn upload(client: &Client, folder: &str, name: &str, key: Option<Arc<CryptKey>>) {
    let folder = fixtures().join("datastore").join(folder);
    let read = |name: &str| fs::read(folder.join(name)).unwrap();
    let decode = |bytes: &[u8]| {
        let blob = Blob::parse(bytes).unwrap();
        match &key {
            Some(key) if blob.kind().is_encrypted() => blob.decrypt(key, MOST).unwrap(),
            _ => blob.decode(MOST).unwrap(),
        }
    };
    let chunk = |digest: &[u8; 32]| {
        let name = hex(digest);
        let path = fixtures().join("datastore/.chunks").join(&name[..4]).join(&name);
        Bytes::from(decode(&fs::read(path).unwrap()))
    };
    let manifest = Manifest::from_blob(&read("index.json.blob")).unwrap();
    let name: SnapshotName = name.parse().unwrap();
    let session = client
        .backup(name, key.clone(), BackupOptions::default())
        .await
        .unwrap();
    for file in &manifest.files {
        let (name, stem) = (file.filename.as_str(), file.filename.stem());
        match file.filename.kind() {
            FileKind::FixedIndex => {
                let index = FixedIndex::parse(&read(name)).unwrap();
                let mut writer = session.image(stem, Some(index.size())).await.unwrap();
                for digest in index.digests() {
                    writer.push(chunk(digest)).await.unwrap();
                }
                writer.finish().await.unwrap();
            }
            FileKind::DynamicIndex => {
                let index = DynamicIndex::parse(&read(name)).unwrap();
                let chunker = StreamChunker::new(StreamChunker::TREE);
                let mut writer = session.stream(stem, chunker).await.unwrap();
                for entry in index.entries() {
                    writer.push(chunk(&entry.digest)).await.unwrap();
                }
                writer.finish().await.unwrap();
            }
            FileKind::Blob if name == "index.json.blob" => {}
            FileKind::Blob => session.blob(stem, &decode(&read(name))).await.unwrap(),
        }
    }
    session.finish().await.unwrap();
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub struct Ready {
    pub lab: Lab,
    pub server: Running,
    pub header: String,
}

/// A server, and a token that may do everything in its datastore; its secret is in the file `secret`.
pub fn ready() -> Ready {
    let lab = Lab::new();
    lab.user("bkup@pbs", "DatastoreAdmin", "/datastore/main");
    let header = lab.token("bkup@pbs!tok1", "DatastoreAdmin", "/datastore/main");
    let secret = header.rsplit_once(':').unwrap().1;
    fs::write(lab.path("secret"), format!("{secret}\n")).unwrap();
    let server = lab.serve();
    Ready { lab, server, header }
}

#[tokio::test(flavor = "multi_thread")]
async fn trees_in_one_stream_are_trees_to_all_commands() {
    let Ready { lab, server, header } = ready();
    let client = client(&server, &header, "");
    upload(
        &client,
        "host/fix/2023-11-14T22:13:21Z",
        "host/fix/2023-11-14T22:13:21Z",
        None,
    )
    .await;
    upload(
        &client,
        "host/split/2023-11-15T03:46:41Z",
        "host/split/2023-11-15T03:46:41Z",
        None,
    )
    .await;
    let whole = "host/fix@2023-11-14T22:13:21Z";
    let split = "host/split@2023-11-15T03:46:41Z";
    let root = lab.ok(&["ls", whole]);
    assert!(
        root.lines().any(|line| line == "tree") && !root.contains("tree.pxar"),
        "{root}"
    );
    let names = |snapshot: &str| lab.ok(&["ls", snapshot, "-lR", "tree"]);
    assert!(names(whole).lines().count() > 20);
    assert_eq!(names(whole), names(split));
    // The same tree by another name and in another form: no difference but the other archives.
    let diff = lab.ok(&["diff", whole, split, "--content", "tree"]);
    assert!(!diff.contains("tree/"), "{diff}");

    lab.ok(&["restore", whole, "--to", "whole", "--sync"]);
    lab.ok(&["restore", split, "tree", "--to", "split"]);
    let compared = std::process::Command::new("diff")
        .args(["-r", "--no-dereference", "whole/tree", "split/tree"])
        .current_dir(lab.folder.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&compared.stdout).into_owned();
    // It cannot compare special files, and says so.
    assert!(
        said.lines().all(|line| line.contains("is a fifo")
            || line.contains("is a socket")
            || line.contains("is a character special")
            || line.contains("is a block special")),
        "{said}"
    );
    let found = lab.json(&["find", "-w", "host/fix", "*"]);
    assert!(found["matches"].as_array().unwrap().len() > 20, "{found}");
    assert!(fs::metadata(lab.path("whole/disk.img")).unwrap().len() == 13_632_000);
    lab.ok(&["verify"]);
    server.stop();
}
