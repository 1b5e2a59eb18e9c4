//! What the original programs wrote reads, and is written again as it was.

use std::path::{Path, PathBuf};

use relight_pbs::formats::blob::{self, Blob, BlobKind, ChunkDecoder, MAX_BLOB, MAX_CHUNK};
use relight_pbs::formats::catalog::{CatalogReader, CatalogWriter, EntryKind};
use relight_pbs::formats::crypt::{CryptKey, KeyFile, master};
use relight_pbs::formats::ids::{FileKind, FileName, SnapshotName};
use relight_pbs::formats::index::{DynamicIndex, FixedIndex};
use relight_pbs::formats::manifest::{CryptMode, Manifest};
use zeroize::Zeroizing;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn read(path: impl AsRef<Path>) -> Vec<u8> {
    std::fs::read(fixtures().join(path)).unwrap()
}

fn key(name: &str, password: Option<&str>) -> CryptKey {
    let file = KeyFile::parse(&read(format!("keys/{name}"))).unwrap();
    let password = password.map(|text| Zeroizing::new(text.as_bytes().to_vec()));
    CryptKey::new(&file.unlock(|| password).unwrap()).unwrap()
}

#[test]
fn a_master_key_gives_the_key_of_a_client_back() {
    let folder = snapshots()
        .into_iter()
        .find(|folder| folder.ends_with("host/enc") || folder.parent().unwrap().ends_with("host/enc"));
    let sealed = std::fs::read(folder.unwrap().join("rsa-encrypted.key.blob")).unwrap();
    let sealed = Blob::parse(&sealed).unwrap().decode(MAX_BLOB).unwrap();
    let private = read("keys/master-private.pem");
    let file = master::open(&sealed, &private).unwrap();
    let wanted = key("key-scrypt.json", Some("fixture-password")).fingerprint();
    assert_eq!(
        CryptKey::new(&file.unlock(|| None).unwrap())
            .unwrap()
            .fingerprint(),
        wanted
    );
    // The other way round, and with what is no such key.
    let public = read("keys/master-public.pem");
    let again = master::seal(&file, &public).unwrap();
    assert_ne!(again, sealed);
    assert_eq!(*master::open(&again, &private).unwrap().encode(), *file.encode());
    let mut damaged = again.clone();
    damaged[7] ^= 1;
    assert!(master::open(&damaged, &private).is_err() && master::open(&again[1..], &private).is_err());
    let protected =
        "-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAAAA\n-----END RSA PRIVATE KEY-----\n";
    for wrong in [
        &public[..],
        b"",
        b"-----BEGIN PRIVATE KEY-----\n!\n",
        protected.as_bytes(),
    ] {
        assert!(master::open(&sealed, wrong).is_err());
    }
    assert!(master::seal(&file, &private).is_err());
}

/// All snapshots: their folders.
fn snapshots() -> Vec<PathBuf> {
    fn walk(folder: &Path, found: &mut Vec<PathBuf>) {
        if folder.join(FileName::MANIFEST).exists() {
            found.push(folder.to_path_buf());
        }
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            }
        }
    }
    let mut found = Vec::new();
    walk(&fixtures().join("datastore"), &mut found);
    found.sort();
    assert_eq!(found.len(), 8);
    found
}

/// The blob of a chunk, if it is among the fixtures.
fn chunk(digest: &[u8; 32]) -> Option<Vec<u8>> {
    let name = hex::encode(digest);
    let path = fixtures().join("datastore/.chunks").join(&name[..4]).join(&name);
    std::fs::read(path).ok()
}

fn sha256(bytes: &[u8]) -> Vec<u8> {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().to_vec()
}

/// The key of a snapshot, as its manifest says.
fn key_of(manifest: &Manifest) -> Option<CryptKey> {
    let fingerprint = manifest.key_fingerprint()?;
    let keys = [
        key("key-none.json", None),
        key("key-scrypt.json", Some("fixture-password")),
    ];
    let found = keys.into_iter().find(|key| key.fingerprint() == fingerprint);
    Some(found.unwrap())
}

#[test]
fn key_files_open_and_are_written_as_they_were() {
    let bytes = read("keys/key-none.json");
    assert_eq!(*KeyFile::parse(&bytes).unwrap().encode(), bytes);
    let bytes = read("keys/key-scrypt.json");
    let file = KeyFile::parse(&bytes).unwrap();
    assert_eq!(*file.encode(), bytes);
    assert_eq!(file.hint.as_deref(), Some("fixture-password"));
    let opened = key("key-scrypt.json", Some("fixture-password"));
    assert_eq!(Some(opened.fingerprint()), file.fingerprint);
    assert!(file.unlock(|| Some(Zeroizing::new(b"another".to_vec()))).is_err());
}

#[test]
fn manifests_are_signed_and_name_what_is_there() {
    let mut signed = 0;
    for folder in snapshots() {
        let bytes = std::fs::read(folder.join(FileName::MANIFEST)).unwrap();
        let text = Blob::parse(&bytes).unwrap().decode(MAX_BLOB).unwrap();
        let manifest = Manifest::parse(&text).unwrap();
        assert_eq!(manifest.to_text().into_bytes(), text, "written as it was");
        assert_eq!(
            Manifest::from_blob(&manifest.to_blob().unwrap()).unwrap(),
            manifest
        );
        let parts: Vec<&str> = folder
            .iter()
            .rev()
            .take(3)
            .map(|part| part.to_str().unwrap())
            .collect();
        let name: SnapshotName = format!("{}/{}/{}", parts[2], parts[1], parts[0]).parse().unwrap();
        manifest.check_snapshot(&name).unwrap();
        if let Some(key) = key_of(&manifest) {
            manifest.check_signature(&key).unwrap();
            let mut again = manifest.clone();
            again.sign(&key).unwrap();
            assert_eq!(again, manifest, "signed as it was");
            signed += 1;
        }
        for file in &manifest.files {
            let bytes = std::fs::read(folder.join(file.filename.as_str())).unwrap();
            match file.filename.kind() {
                FileKind::Blob => {
                    assert_eq!(
                        (bytes.len() as u64, sha256(&bytes)),
                        (file.size, file.csum.to_vec())
                    );
                    let blob = Blob::parse(&bytes).unwrap();
                    blob.check_crc().unwrap();
                    let content = match key_of(&manifest) {
                        Some(key) => blob.decrypt(&key, MAX_BLOB).unwrap(),
                        None => blob.decode(MAX_BLOB).unwrap(),
                    };
                    if file.filename.as_str() == "etc.conf.blob" {
                        assert_eq!(content, read("etc.conf"));
                    }
                }
                FileKind::FixedIndex => {
                    let index = FixedIndex::parse(&bytes).unwrap();
                    assert_eq!((index.size(), index.sum()), (file.size, file.csum));
                    assert_eq!(bytes.len() as u64, FixedIndex::file_size(file.size));
                    let again = FixedIndex::new(index.header, index.size(), index.digests().to_vec());
                    assert_eq!(again.unwrap().encode(), bytes, "written as it was");
                }
                FileKind::DynamicIndex => {
                    let index = DynamicIndex::parse(&bytes).unwrap();
                    assert_eq!((index.size(), index.sum()), (file.size, file.csum));
                    assert_eq!(
                        bytes.len() as u64,
                        DynamicIndex::file_size(index.entries().len() as u64)
                    );
                    let again = DynamicIndex::new(index.header, index.entries().to_vec());
                    assert_eq!(again.unwrap().encode(), bytes, "written as it was");
                }
            }
        }
    }
    assert_eq!(signed, 4);
}

/// All chunks of an index with their lengths.
fn chunks_of(folder: &Path, name: &FileName) -> Vec<([u8; 32], u64)> {
    let bytes = std::fs::read(folder.join(name.as_str())).unwrap();
    match name.kind() {
        FileKind::FixedIndex => FixedIndex::parse(&bytes).unwrap().chunks().collect(),
        FileKind::DynamicIndex => DynamicIndex::parse(&bytes).unwrap().chunks().collect(),
        FileKind::Blob => vec![],
    }
}

#[test]
fn chunks_are_what_their_digests_say() {
    let mut seen = [0; 4];
    for folder in snapshots() {
        let manifest = Manifest::from_blob(&std::fs::read(folder.join(FileName::MANIFEST)).unwrap()).unwrap();
        let key = key_of(&manifest);
        for file in &manifest.files {
            for (digest, length) in chunks_of(&folder, &file.filename) {
                let Some(bytes) = chunk(&digest) else { continue };
                let blob = Blob::parse(&bytes).unwrap();
                blob.check_crc().unwrap();
                assert_eq!(blob.kind().is_encrypted(), file.crypt_mode == CryptMode::Encrypt);
                let content = match &key {
                    Some(key) => blob.decrypt(key, MAX_CHUNK).unwrap(),
                    None => blob.decode(MAX_CHUNK).unwrap(),
                };
                assert_eq!(content.len() as u64, length);
                if blob.kind().is_encrypted() {
                    assert_eq!(key.as_ref().unwrap().digest(&content), digest);
                } else {
                    assert_eq!(sha256(&content), digest);
                    assert_eq!(
                        blob::encode(&content, blob.kind().is_compressed()).unwrap()[..8],
                        bytes[..8]
                    );
                    assert_eq!(
                        blob::header(blob.kind().is_compressed(), [blob.payload()]),
                        bytes[..12]
                    );
                }
                if blob.kind() == BlobKind::Plain {
                    assert_eq!(blob::encode(&content, false).unwrap(), bytes);
                }
                if blob.kind() == BlobKind::Zstd {
                    let mut decoder = ChunkDecoder::new().unwrap();
                    assert_eq!(decoder.expand(blob.payload(), content.len()).unwrap(), content);
                }
                seen[blob.kind() as usize] += 1;
            }
        }
    }
    assert!(
        seen[BlobKind::Zstd as usize] > 0 && seen[BlobKind::EncryptedZstd as usize] > 0,
        "{seen:?}"
    );
}

#[test]
fn a_catalog_reads_and_is_written_as_it_was() {
    let folder = fixtures().join("datastore/host/fix/2023-11-14T22:13:21Z");
    let chunks = chunks_of(&folder, &"catalog.pcat1.didx".parse().unwrap());
    let mut catalog = Vec::new();
    for (digest, _) in chunks {
        let bytes = chunk(&digest).unwrap();
        catalog.extend(Blob::parse(&bytes).unwrap().decode(MAX_CHUNK).unwrap());
    }
    let mut reader = CatalogReader::new(std::io::Cursor::new(&catalog)).unwrap();
    let mut entries = Vec::new();
    reader
        .walk(&mut |path, entry| entries.push((path.to_vec(), entry.clone())))
        .unwrap();
    let find = |path: &str| {
        entries
            .iter()
            .find(|(found, _)| found == path.as_bytes())
            .map(|(_, entry)| entry.kind)
    };
    assert!(matches!(
        find("tree.pxar.didx"),
        Some(EntryKind::Directory { .. })
    ));
    assert!(matches!(
        find("tree.pxar.didx/sub"),
        Some(EntryKind::Directory { .. })
    ));
    assert!(matches!(
        find("tree.pxar.didx/hello.txt"),
        Some(EntryKind::File { .. })
    ));
    assert!(
        entries
            .iter()
            .any(|(_, entry)| std::str::from_utf8(&entry.name).is_err()),
        "names are bytes"
    );

    // The same tree written again gives the same bytes.
    let mut writer = CatalogWriter::new(Vec::new()).unwrap();
    let mut depth = 0;
    for (path, entry) in &entries {
        // Names have no slashes, so this is the depth of the entry's parent.
        let parents = path.iter().filter(|&&byte| byte == b'/').count();
        while depth > parents {
            writer.end_directory().unwrap();
            depth -= 1;
        }
        match entry.kind {
            EntryKind::Directory { .. } => {
                writer.begin_directory(&entry.name);
                depth += 1;
            }
            kind => writer.add(&entry.name, kind),
        }
    }
    assert_eq!(writer.finish().unwrap(), catalog);
}
