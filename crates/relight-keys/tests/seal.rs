//! What is sealed opens again, and nothing else opens in its place.

#![allow(clippy::unwrap_used)]

use relight_keys::{
    DataKey, KeySet, ObjectKind, OpenError, RepositoryId, SEALED_OVERHEAD, SealError, SystemEntropy,
    TAG_LENGTH, open_object, seal_object,
};

fn keys() -> KeySet {
    let repository = RepositoryId::generate(&mut SystemEntropy).unwrap();
    KeySet::generate(repository, 1_700_000_000, &mut SystemEntropy).unwrap()
}

#[test]
fn records_open_only_in_their_own_place() {
    let keys = keys();
    let cipher = keys.current().pack_cipher(keys.repository(), &[7; 16]);
    let plain = b"a record of some bytes".to_vec();
    let mut record = plain.clone();
    let tag = cipher.seal(4096, b"digest", &mut record);
    assert_ne!(record, plain);
    record.extend_from_slice(&tag);

    assert_eq!(
        cipher.open(4096, b"digest", &mut record.clone()).unwrap(),
        &plain[..]
    );
    let mut out = vec![0; plain.len()];
    cipher.open_to(4096, b"digest", &record, &mut out).unwrap();
    assert_eq!(out, plain);

    assert_eq!(cipher.open(4097, b"digest", &mut record.clone()), Err(OpenError));
    assert_eq!(
        cipher.open(4096, b"other digest", &mut record.clone()),
        Err(OpenError)
    );
    let other_pack = keys.current().pack_cipher(keys.repository(), &[8; 16]);
    assert_eq!(
        other_pack.open(4096, b"digest", &mut record.clone()),
        Err(OpenError)
    );
    let other_repository = keys.current().pack_cipher(RepositoryId([0; 16]), &[7; 16]);
    assert_eq!(
        other_repository.open(4096, b"digest", &mut record.clone()),
        Err(OpenError)
    );
    let other_key = DataKey::generate(&mut SystemEntropy)
        .unwrap()
        .pack_cipher(keys.repository(), &[7; 16]);
    assert_eq!(
        other_key.open(4096, b"digest", &mut record.clone()),
        Err(OpenError)
    );
    for byte in 0..record.len() {
        let mut flipped = record.clone();
        flipped[byte] ^= 1;
        assert_eq!(cipher.open(4096, b"digest", &mut flipped), Err(OpenError));
    }
    assert_eq!(
        cipher.open(4096, b"digest", &mut record[..TAG_LENGTH - 1]),
        Err(OpenError)
    );
    assert_eq!(
        cipher.open_to(4096, b"digest", &record, &mut [0; 3]),
        Err(OpenError)
    );
}

#[test]
fn equal_records_look_different_at_every_offset_and_in_every_pack() {
    let keys = keys();
    let seal = |pack: u8, offset| {
        let mut record = vec![0; 64];
        let _ = keys
            .current()
            .pack_cipher(keys.repository(), &[pack; 16])
            .seal(offset, b"", &mut record);
        record
    };
    assert_ne!(seal(1, 0), seal(1, 80));
    assert_ne!(seal(1, 0), seal(2, 0));
    assert_eq!(seal(1, 0), seal(1, 0));
}

#[test]
fn the_cipher_is_shared_between_threads() {
    fn shareable<T: Send + Sync>(_: &T) {}
    let keys = keys();
    shareable(&keys);
    shareable(&keys.current().pack_cipher(keys.repository(), &[7; 16]));
}

#[test]
fn objects_open_and_say_what_is_wrong_when_they_do_not() {
    let keys = keys();
    let repository = keys.repository();
    let seal =
        |name: &str| seal_object(keys.current(), repository, ObjectKind::SNAPSHOT, name, b"content").unwrap();
    let open = |kind, name: &str, bytes: &[u8]| open_object(&keys, repository, kind, name, bytes);
    let sealed = seal("snapshots/a");
    assert_eq!(sealed.len(), 7 + SEALED_OVERHEAD);
    assert_eq!(
        open(ObjectKind::SNAPSHOT, "snapshots/a", &sealed).unwrap(),
        b"content"
    );
    assert_ne!(seal("snapshots/a"), sealed, "the salt is fresh each time");

    let name = "snapshots/b".to_owned();
    assert_eq!(
        open(ObjectKind::SNAPSHOT, &name, &sealed),
        Err(SealError::Damaged { name: name.clone() })
    );
    assert_eq!(
        open(ObjectKind::INDEX_SEGMENT, &name, &sealed),
        Err(SealError::Kind {
            name: name.clone(),
            expected: ObjectKind::INDEX_SEGMENT,
            found: ObjectKind::SNAPSHOT
        })
    );
    assert_eq!(
        open_object(
            &keys,
            RepositoryId([1; 16]),
            ObjectKind::SNAPSHOT,
            "snapshots/a",
            &sealed
        ),
        Err(SealError::Damaged {
            name: "snapshots/a".to_owned()
        })
    );
    let strangers = KeySet::generate(repository, 0, &mut SystemEntropy).unwrap();
    assert_eq!(
        open_object(
            &strangers,
            repository,
            ObjectKind::SNAPSHOT,
            "snapshots/a",
            &sealed
        ),
        Err(SealError::KeyNotAvailable {
            name: "snapshots/a".to_owned(),
            key: keys.current().id()
        })
    );
    let mut newer = sealed.clone();
    newer[8] = 2;
    assert_eq!(
        open(ObjectKind::SNAPSHOT, &name, &newer),
        Err(SealError::Version {
            name: name.clone(),
            found: 2
        })
    );
    assert_eq!(
        open(ObjectKind::SNAPSHOT, &name, b"{\"plain\": 1}"),
        Err(SealError::NotSealed { name: name.clone() })
    );
}

#[test]
fn every_flipped_bit_and_every_cut_of_an_object_is_noticed() {
    let keys = keys();
    let sealed = seal_object(
        keys.current(),
        keys.repository(),
        ObjectKind::SNAPSHOT,
        "a",
        b"some content",
    )
    .unwrap();
    for bit in 0..sealed.len() * 8 {
        let mut flipped = sealed.clone();
        flipped[bit / 8] ^= 1 << (bit % 8);
        assert!(
            open_object(&keys, keys.repository(), ObjectKind::SNAPSHOT, "a", &flipped).is_err(),
            "{bit}"
        );
    }
    for length in 0..sealed.len() {
        let cut = &sealed[..length];
        assert!(
            open_object(&keys, keys.repository(), ObjectKind::SNAPSHOT, "a", cut).is_err(),
            "{length}"
        );
    }
}

#[test]
fn repository_secrets_differ_by_label_and_never_show() {
    let keys = keys();
    assert_eq!(keys.secret("chunking"), keys.secret("chunking"));
    assert_ne!(keys.secret("chunking"), keys.secret("names"));
    let shown = format!("{keys:?} {:?}", keys.current());
    assert!(shown.contains(&keys.current().id().to_string()));
    assert!(!shown.contains("Secret"), "{shown}");
}

#[test]
fn ids_print_and_parse() {
    let keys = keys();
    assert_eq!(keys.repository().to_string().parse(), Ok(keys.repository()));
    assert_eq!(keys.current().id().to_string().parse(), Ok(keys.current().id()));
    assert_eq!(
        "12".parse::<RepositoryId>().unwrap_err().to_string(),
        "not a repository id: expected 32 hexadecimal digits"
    );
}
