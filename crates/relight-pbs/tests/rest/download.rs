//! Files and folders out of archives.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::lab::*;
use crate::support::{Upload, content, relight_backup};

#[tokio::test(flavor = "multi_thread")]
async fn files_and_folders_are_downloaded() {
    let server = Server::new();
    let folder = server.place.folder.path().join("data");
    std::fs::create_dir_all(folder.join("sub/deep")).unwrap();
    std::fs::write(folder.join("sub/hello"), b"hello world").unwrap();
    std::fs::write(folder.join("sub/deep/large"), content(3, 3_000_000)).unwrap();
    std::os::unix::fs::symlink("hello", folder.join("sub/link")).unwrap();
    std::os::unix::ffi::OsStrExt::as_bytes(folder.as_os_str());
    let disk = server.place.folder.path().join("disk.raw");
    std::fs::write(&disk, content(9, 9 << 20)).unwrap();
    let snapshot = relight_backup(&server.place.open(), "host/web", Some(&folder), Some(&disk));
    let time = snapshot.time.as_second();
    let of = format!("backup-type=host&backup-id=web&backup-time={time}");
    let who = "admin@pbs";
    let root = server
        .data(who, "GET", &format!("catalog?{of}&filepath=root"))
        .await;
    let archive = STANDARD.encode("/tree.mpxar.didx");
    assert_eq!(
        root,
        json!([{"filepath": archive, "text": "tree.mpxar.didx", "type": "d", "leaf": false}])
    );
    let escape = |path: &[u8]| -> String {
        STANDARD
            .encode(path)
            .bytes()
            .map(|byte| format!("%{byte:02X}"))
            .collect()
    };
    let top = server
        .data(
            who,
            "GET",
            &format!("catalog?{of}&filepath={}", escape(b"/tree.mpxar.didx")),
        )
        .await;
    assert_eq!((&top[0]["text"], &top[0]["type"]), (&json!("sub"), &json!("d")));
    assert_eq!(
        top[0]["filepath"].as_str().unwrap(),
        STANDARD.encode("/tree.mpxar.didx/sub")
    );
    let sub = server
        .data(
            who,
            "GET",
            &format!("catalog?{of}&filepath={}", escape(b"/tree.mpxar.didx/sub")),
        )
        .await;
    let types: Vec<(&str, &str)> = sub
        .as_array()
        .unwrap()
        .iter()
        .map(|entry| (entry["text"].as_str().unwrap(), entry["type"].as_str().unwrap()))
        .collect();
    assert_eq!(types, [("deep", "d"), ("hello", "f"), ("link", "l")]);
    assert_eq!((&sub[1]["size"], &sub[1]["leaf"]), (&json!(11), &json!(true)));
    let get = |path: &'static [u8], more: &'static str| {
        let target = format!("pxar-file-download?{of}&filepath={}{more}", escape(path));
        let server = &server;
        async move { server.call(who, "GET", &target, None).await }
    };
    let file = get(b"tree.mpxar.didx/sub/hello", "").await;
    assert_eq!((file.status, file.text().as_str()), (200, "hello world"));
    assert!(file.head.contains("filename=\"hello\""), "{}", file.head);
    let large = get(b"/tree.mpxar.didx/sub/deep/large", "").await;
    assert!(large.body == content(3, 3_000_000));
    let zip = get(b"tree.mpxar.didx/sub", "").await;
    assert!(zip.body.starts_with(b"PK\x03\x04") && zip.head.contains("sub.zip"));
    let tar = get(b"tree.mpxar.didx/sub", "&tar=true").await;
    let tar = zstd::stream::decode_all(tar.body.as_slice()).unwrap();
    assert_eq!(&tar[257..262], b"ustar");
    assert!(tar.windows(11).any(|part| part == b"hello world"));
    for (path, status) in [
        (&b"tree.mpxar.didx/none"[..], 404),
        (b"other.pxar.didx/x", 404),
        (b"tree.mpxar.didx/../../etc/passwd", 400),
        (b"tree.mpxar.didx/sub/link", 400),
    ] {
        let reply = get(path, "").await;
        assert_eq!(reply.status, status, "{}", reply.text());
    }
    // The image as it was, and the files as clients of the other protocol get them.
    let image = server
        .call(
            who,
            "GET",
            &format!("download-decoded?{of}&file-name=disk.img.fidx"),
            None,
        )
        .await;
    assert!(image.body == content(9, 9 << 20));
    assert!(image.head.contains("filename=\"disk.img\""), "{}", image.head);
    let index = server
        .call(
            who,
            "GET",
            &format!("download?{of}&file-name=disk.img.fidx"),
            None,
        )
        .await;
    assert_eq!(index.body.len(), 4096 + 3 * 32);
    let manifest = server
        .call(
            who,
            "GET",
            &format!("download-decoded?{of}&file-name=index.json.blob"),
            None,
        )
        .await;
    let manifest: Value = serde_json::from_slice(&manifest.body).unwrap();
    assert_eq!(manifest["backup-time"], time);
    for bad in ["nope.blob", "../../etc/shadow", "disk.img"] {
        let target = format!("download?{of}&file-name={bad}");
        let reply = server.call(who, "GET", &target, None).await;
        assert!(matches!(reply.status, 400 | 404), "{}", reply.text());
    }
    // What belongs to nobody belongs to the administrator.
    server
        .refused(
            "user@pbs",
            "GET",
            &format!("download?{of}&file-name=index.json.blob"),
            400,
        )
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn archives_of_older_clients_are_browsed_too() {
    use relight_pbs::formats::blob::Blob;
    use relight_pbs::formats::index::DynamicIndex;

    // An archive that the original client wrote, in one stream.
    let golden = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/datastore");
    let folder = golden.join("host/fix/2023-11-14T22:13:21Z");
    let Ok(index) = std::fs::read(folder.join("tree.pxar.didx")) else {
        panic!("the fixture is not there");
    };
    let index = DynamicIndex::parse(&index).unwrap();
    let chunks: Vec<Vec<u8>> = index
        .entries()
        .iter()
        .map(|entry| {
            let name = hex::encode(entry.digest);
            let path = golden.join(format!(".chunks/{}/{name}", &name[..4]));
            let bytes = std::fs::read(path).unwrap();
            Blob::parse(&bytes).unwrap().decode(16 << 20).unwrap()
        })
        .collect();
    let server = Server::new();
    Upload::new(&server.place.open(), "", "host/fix/2023-11-14T22:13:21Z")
        .stream("tree.pxar.didx", chunks.iter().map(Vec::as_slice))
        .finish("user@pbs!t");
    let root = server
        .data("user@pbs!t", "GET", &format!("catalog?{FIX}&filepath=/"))
        .await;
    let path = root[0]["filepath"].as_str().unwrap().replace('=', "%3D");
    let list = server
        .data("user@pbs!t", "GET", &format!("catalog?{FIX}&filepath={path}"))
        .await;
    assert!(list.as_array().unwrap().len() > 3, "{list}");
    let mut files = 0;
    for entry in list.as_array().unwrap() {
        if entry["type"] == "f" {
            let path = entry["filepath"].as_str().unwrap();
            let path = path.replace('+', "%2B").replace('=', "%3D");
            let target = format!("pxar-file-download?{FIX}&filepath={path}");
            let reply = server.call("user@pbs!t", "GET", &target, None).await;
            assert_eq!(reply.status, 200);
            assert_eq!(reply.body.len() as u64, entry["size"].as_u64().unwrap());
            files += 1;
        }
    }
    assert!(files > 0, "{list}");
    let path = root[0]["filepath"].as_str().unwrap().replace('=', "%3D");
    let target = format!("pxar-file-download?{FIX}&filepath={path}&tar=1");
    let reply = server.call("user@pbs!t", "GET", &target, None).await;
    assert!(zstd::stream::decode_all(reply.body.as_slice()).unwrap().len() > 100_000);
}
