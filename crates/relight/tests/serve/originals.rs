//! Snapshots as the original client writes them, seen by the commands of Relight.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use relight_pbs::client::{BackupOptions, Client, Credentials, Trust};
use relight_pbs::formats::blob::Blob;
use relight_pbs::formats::chunker::StreamChunker;
use relight_pbs::formats::crypt::{CryptKey, KeyFile};
use relight_pbs::formats::ids::{FileKind, Namespace, SnapshotName};
use relight_pbs::formats::index::{DynamicIndex, FixedIndex};
use relight_pbs::formats::manifest::Manifest;

use zeroize::Zeroizing;

use super::lab::{Lab, Running};

/// Most of what a chunk or a file among the fixtures holds.
const MOST: usize = 16 << 20;

pub fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../relight-pbs/tests/fixtures")
}

/// A key among the fixtures.
pub fn key(name: &str, password: Option<&str>) -> Arc<CryptKey> {
    let file = KeyFile::parse(&fs::read(fixtures().join("keys").join(name)).unwrap()).unwrap();
    let password = password.map(|text| Zeroizing::new(text.as_bytes().to_vec()));
    Arc::new(CryptKey::new(&file.unlock(|| password).unwrap()).unwrap())
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
    mounted(
        &lab,
        &[],
        "by-workload/host/fix/2023-11-14T22:13:21Z/tree",
        "whole/tree",
    );
    let found = lab.json(&["find", "-w", "host/fix", "*"]);
    assert!(found["matches"].as_array().unwrap().len() > 20, "{found}");
    assert!(fs::metadata(lab.path("whole/disk.img")).unwrap().len() == 13_632_000);
    lab.ok(&["verify"]);
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_encrypted_is_read_with_its_key() {
    let Ready { lab, server, header } = ready();
    let plain = key("key-none.json", None);
    let client = client(&server, &header, "");
    upload(
        &client,
        "vm/100/2023-11-15T00:15:01Z",
        "vm/100/2023-11-15T00:15:01Z",
        Some(plain.clone()),
    )
    .await;
    let tree = "ns/ns1/ns/sub/host/enc";
    let tree = fs::read_dir(fixtures().join("datastore").join(tree)).unwrap();
    let tree = tree
        .map(|entry| entry.unwrap().path())
        .find(|path| path.is_dir())
        .unwrap();
    let time = tree.file_name().unwrap().to_str().unwrap().to_string();
    let folder = format!("ns/ns1/ns/sub/host/enc/{time}");
    let scrypt = key("key-scrypt.json", Some("fixture-password"));
    upload(&client, &folder, &format!("host/enc/{time}"), Some(scrypt)).await;
    for name in ["key-none.json", "key-scrypt.json"] {
        fs::copy(fixtures().join("keys").join(name), lab.path(name)).unwrap();
    }
    fs::write(lab.path("key-password"), "fixture-password\n").unwrap();
    let (vm, host) = (
        "vm/100@2023-11-15T00:15:01Z".to_string(),
        format!("host/enc@{time}"),
    );
    let open = ["--client-key", "key-none.json"];
    let open_host = [
        "--client-key",
        "key-scrypt.json",
        "--client-key-password-file",
        "key-password",
    ];

    // Without the key, or with another, nothing is read, and which key is needed is told.
    for arguments in [
        &["ls", &vm][..],
        &["dump", &vm, "drive-scsi0.img"],
        &["restore", &vm, "--to", "x"],
    ] {
        let said = lab.fails(arguments);
        assert!(
            said.contains(&plain.fingerprint().short()) && said.contains("--client-key"),
            "{said}"
        );
    }
    let said = lab.fails(&[&["ls", &vm][..], &open_host].concat());
    assert!(said.contains(&plain.fingerprint().short()), "{said}");
    let said = lab.fails(&["ls", &host, "--client-key", "key-scrypt.json"]);
    assert!(said.contains("password"), "{said}");

    // With it: images with their holes, small files as they were, trees.
    let listed = lab.ok(&[&["ls", &vm][..], &open].concat());
    assert!(!listed.contains(".fidx"), "{listed}");
    lab.ok(&[&["restore", &vm, "--to", "vm"][..], &open].concat());
    let disk = fs::read(lab.path("vm/drive-scsi0.img")).unwrap();
    assert_eq!(
        sha256(&disk),
        "e83c476f9d32c4953aaaa502a0547073c100d155a9892badc73a18609e8f1fcd"
    );
    let conf = fs::read(fixtures().join("etc.conf")).unwrap();
    assert!(fs::read(lab.path("vm/qemu-server.conf")).unwrap() == conf);
    assert_eq!(
        lab.ok(&[&["dump", &vm, "qemu-server.conf.blob"][..], &open].concat())
            .into_bytes(),
        conf
    );
    let names = lab.ok(&[&["ls", &host, "-lR"][..], &open_host].concat());
    assert!(names.lines().count() > 20, "{names}");
    lab.ok(&[&["restore", &host, "--to", "host"][..], &open_host].concat());
    assert!(lab.path("host/disk.img").exists());
    let found = lab.json(&[&["find", "etc", "-w", "host/enc"][..], &open_host].concat());
    assert!(found.get("sealed").is_none(), "{found}");

    let shown = format!("by-workload/host/enc/{time}/tree");
    mounted(&lab, &open_host, &shown, "host/tree");

    // What only the key can show.
    let checked = lab.json(&[&["verify"][..], &open].concat());
    assert_eq!(checked["sealed"]["snapshots"], 1, "{checked}");
    assert_eq!(checked["sealed"]["problems"], serde_json::json!([]), "{checked}");
    assert!(
        checked["sealed"]["bytes"].as_u64().unwrap() > 4 << 20,
        "{checked}"
    );
    server.stop();
}

fn sha256(bytes: &[u8]) -> String {
    // Of a plain chunk the identity is its hash.
    relight_repo::ChunkId::of(bytes).to_string()
}

/// Mounts the repository and compares a folder of it with one that was restored.
#[track_caller]
fn mounted(lab: &Lab, key: &[&str], shown: &str, restored: &str) {
    let point = lab.path("mount");
    fs::create_dir_all(&point).unwrap();
    let arguments = [&["mount", "mount"][..], key].concat();
    let mut child = lab
        .command(&arguments)
        .stdout(std::process::Stdio::null())
        .spawn()
        .unwrap();
    let shown = point.join(shown);
    let begun = std::time::Instant::now();
    while !shown.exists() {
        assert!(begun.elapsed().as_secs() < 30, "nothing is mounted");
        std::thread::sleep(std::time::Duration::from_millis(20));
    }
    let restored = lab.path(restored);
    let mut compared = 0;
    let mut folders = vec![std::path::PathBuf::new()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(restored.join(&folder)).unwrap() {
            let entry = entry.unwrap();
            let (kind, path) = (entry.file_type().unwrap(), folder.join(entry.file_name()));
            if kind.is_dir() {
                folders.push(path);
            } else if kind.is_file() {
                assert!(
                    fs::read(shown.join(&path)).unwrap() == fs::read(entry.path()).unwrap(),
                    "{path:?}"
                );
                compared += 1;
            }
        }
    }
    let id = child.id().to_string();
    std::process::Command::new("kill")
        .args(["-INT", &id])
        .status()
        .unwrap();
    child.wait().unwrap();
    assert!(compared > 5, "{compared}");
}
