//! The formats, held fast by files that every later version must read.
//!
//! `cargo test -p relight-keys --test golden -- --ignored` writes fixtures that are missing; it never replaces one.

#![allow(clippy::unwrap_used)]

mod support;

use std::{fs, path::PathBuf};

use relight_keys::{
    Entropy, KeyFile, Keyring, KeyringName, ObjectKind, Provider, RecoveryKey, RepositoryId, create, open,
    open_all, open_object, seal_object_with,
};
use support::{FixedEntropy, NOW, passphrase};

const REPOSITORY: RepositoryId = RepositoryId(*b"golden repo 0001");
const PASSPHRASE: &str = "golden passphrase";
const SNAPSHOT: &str = "snapshots/golden";
const PACK: [u8; 16] = *b"golden pack 0001";

/// All fixtures: name and contents.
fn make() -> Vec<(String, Vec<u8>)> {
    let rng = &mut FixedEntropy::new("relight-keys golden v1");
    let pass = passphrase(PASSPHRASE);
    let file = KeyFile::generate(rng).unwrap();
    let recovery = RecoveryKey::generate(rng).unwrap();

    let first = create(REPOSITORY, &pass, "passphrase of the golden file", NOW, rng).unwrap();
    let mut change = open(first.bytes(), &pass).unwrap().change().unwrap();
    change.add_wrap(&file, "key file", NOW + 60, rng).unwrap();
    change
        .add_wrap(&recovery, "recovery key", NOW + 120, rng)
        .unwrap();
    change.rotate(NOW + 180, rng).unwrap();
    let second = change.finish(NOW + 240, rng).unwrap();

    let old = first.keys().current();
    let object = seal_object_with(
        rng,
        old,
        REPOSITORY,
        ObjectKind::SNAPSHOT,
        SNAPSHOT,
        b"golden plaintext",
    )
    .unwrap();
    let mut record = b"golden record".to_vec();
    let tag = second
        .keys()
        .current()
        .pack_cipher(REPOSITORY, &PACK)
        .seal(123_456, b"identity", &mut record);
    record.extend_from_slice(&tag);

    vec![
        ("keyring-1.bin".to_owned(), first.bytes().to_vec()),
        ("keyring-2.bin".to_owned(), second.bytes().to_vec()),
        ("key-file.txt".to_owned(), file.to_text().as_bytes().to_vec()),
        (
            "recovery-key.txt".to_owned(),
            recovery.to_text().as_bytes().to_vec(),
        ),
        (
            "recovery-key.svg".to_owned(),
            recovery.to_qr_svg().as_bytes().to_vec(),
        ),
        ("object.bin".to_owned(), object),
        ("record.bin".to_owned(), record),
        (
            "secret.hex".to_owned(),
            hex::encode(second.keys().secret("golden")).into_bytes(),
        ),
    ]
}

fn path(name: &str) -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/v1")
        .join(name)
}

fn fixture(name: &str) -> Vec<u8> {
    fs::read(path(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

#[test]
#[ignore = "writes fixtures that are missing"]
fn write_missing_fixtures() {
    for (name, contents) in make() {
        if !path(&name).exists() {
            fs::create_dir_all(path(&name).parent().unwrap()).unwrap();
            fs::write(path(&name), contents).unwrap();
        }
    }
}

#[test]
fn golden_keyrings_open_with_every_provider() {
    let pass = passphrase(PASSPHRASE);
    let file = KeyFile::parse(&fixture("key-file.txt")).unwrap();
    let recovery = RecoveryKey::parse(&String::from_utf8(fixture("recovery-key.txt")).unwrap()).unwrap();
    let second = fixture("keyring-2.bin");
    let first = open(&fixture("keyring-1.bin"), &pass).unwrap();
    for provider in [&pass as &dyn Provider, &file, &recovery] {
        let opened = open(&second, provider).unwrap();
        let keys = opened.keys();
        assert_eq!(keys.repository(), REPOSITORY);
        assert_eq!(keys.ids().count(), 2);
        assert_eq!(keys.created(keys.current().id()), Some(NOW + 180));
        assert_eq!(
            hex::encode(keys.secret("golden")).into_bytes(),
            fixture("secret.hex")
        );
        let old = first.keys().current();
        assert_eq!(keys.get(old.id()), Some(old));

        let object = open_object(
            keys,
            REPOSITORY,
            ObjectKind::SNAPSHOT,
            SNAPSHOT,
            &fixture("object.bin"),
        )
        .unwrap();
        assert_eq!(object, b"golden plaintext");
        let mut record = fixture("record.bin");
        let cipher = keys.current().pack_cipher(REPOSITORY, &PACK);
        assert_eq!(
            cipher.open(123_456, b"identity", &mut record).unwrap(),
            b"golden record"
        );
    }
    let names = ["keyring-1.bin", "keyring-2.bin"].map(|name| {
        let contents = fixture(name);
        (Keyring::parse(&contents).unwrap().name().to_string(), contents)
    });
    let all = open_all(&names, &pass).unwrap();
    assert_eq!(
        all.sources()
            .iter()
            .map(KeyringName::generation)
            .collect::<Vec<_>>(),
        [1, 2]
    );
}

/// What is written must not change unnoticed either.
#[test]
fn the_same_input_still_gives_the_golden_bytes() {
    for (name, contents) in make() {
        assert!(contents == fixture(&name), "{name} differs");
    }
}

#[test]
fn fixed_entropy_is_fixed() {
    let mut bytes = [0; 4];
    FixedEntropy::new("relight-keys golden v1")
        .fill(&mut bytes)
        .unwrap();
    let mut again = [0; 4];
    FixedEntropy::new("relight-keys golden v1")
        .fill(&mut again)
        .unwrap();
    assert_eq!(bytes, again);
}
