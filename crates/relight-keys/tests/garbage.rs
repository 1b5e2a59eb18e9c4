//! Whatever bytes come from outside: an error, soon, and no panic.

#![allow(clippy::unwrap_used)]

mod support;

use proptest::prelude::*;
use relight_keys::{
    KeyFile, Keyring, NewKeyring, ObjectKind, RecoveryKey, SystemEntropy, create, open, open_all,
    open_object, seal_object,
};
use support::{NOW, key_file, passphrase, repository};

/// A keyring with all kinds of wraps, and one of its providers.
fn rich() -> (KeyFile, NewKeyring) {
    let (file, pass) = (key_file(), passphrase("correct horse battery"));
    let recovery = RecoveryKey::generate(&mut SystemEntropy).unwrap();
    let first = create(repository(), &file, "file", NOW, &mut SystemEntropy).unwrap();
    let mut change = open(first.bytes(), &file).unwrap().change().unwrap();
    change.add_wrap(&pass, "pass", NOW, &mut SystemEntropy).unwrap();
    change
        .add_wrap(&recovery, "safe", NOW, &mut SystemEntropy)
        .unwrap();
    let keyring = change.finish(NOW, &mut SystemEntropy).unwrap();
    (file, keyring)
}

/// A change to some bytes: overwrite, cut out, or repeat a piece.
fn mutate(bytes: &[u8], edits: &[(u8, prop::sample::Index, prop::sample::Index, Vec<u8>)]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for (action, from, to, with) in edits {
        let (a, b) = (from.index(bytes.len() + 1), to.index(bytes.len() + 1));
        let (a, b) = (a.min(b), a.max(b));
        match action % 3 {
            0 => drop(bytes.splice(a..(a + with.len()).min(bytes.len()), with.iter().copied())),
            1 => drop(bytes.drain(a..b.min(a + 64))),
            _ => {
                let piece = bytes[a..b.min(a + 4096)].to_vec();
                drop(bytes.splice(b..b, piece));
            }
        }
    }
    bytes
}

type Edit = (u8, prop::sample::Index, prop::sample::Index, Vec<u8>);

fn edits() -> impl Strategy<Value = Vec<Edit>> {
    let with = prop_oneof![
        prop::collection::vec(any::<u8>(), 1..8),
        Just(vec![0xff; 4]),
        Just(b"4294967295".to_vec()),
        Just(b"[[[[[[[[".to_vec()),
    ];
    prop::collection::vec(
        (
            any::<u8>(),
            any::<prop::sample::Index>(),
            any::<prop::sample::Index>(),
            with,
        ),
        1..5,
    )
}

#[test]
fn mutated_keyrings_never_open_and_never_panic() {
    let (file, keyring) = rich();
    let name = keyring.name().to_string();
    let config = ProptestConfig {
        cases: 3000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(edits in edits())| {
        let mutated = mutate(keyring.bytes(), &edits);
        if mutated != keyring.bytes() {
            prop_assert!(open(&mutated, &file).is_err());
            prop_assert!(open_all(&[(&name, &mutated)], &file).is_err());
        }
    });
}

#[test]
fn mutated_objects_never_open() {
    let keys = support::first(&key_file()).into_keys();
    let sealed = seal_object(
        keys.current(),
        keys.repository(),
        ObjectKind::SNAPSHOT,
        "a",
        &[7; 300],
    )
    .unwrap();
    let config = ProptestConfig {
        cases: 2000,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    proptest!(config, |(edits in edits())| {
        let mutated = mutate(&sealed, &edits);
        if mutated != sealed {
            prop_assert!(open_object(&keys, keys.repository(), ObjectKind::SNAPSHOT, "a", &mutated).is_err());
        }
    });
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn random_bytes_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..400), text in ".{0,80}") {
        prop_assert!(Keyring::parse(&bytes).is_err());
        prop_assert!(Keyring::parse(&[b"RLKEYRNG\x01\0\0\0", &bytes[..]].concat()).is_err());
        prop_assert!(KeyFile::parse(&bytes).is_err());
        prop_assert!(RecoveryKey::parse(&text).is_err());
    }

    #[test]
    fn recovery_keys_round_trip_and_single_errors_are_located(
        seed in any::<[u8; 8]>(), at in 0usize..45, with in "[0-9A-HJKMNP-TV-Z]",
    ) {
        let seed: &'static str = Box::leak(hex::encode(seed).into_boxed_str());
        let key = RecoveryKey::generate(&mut support::FixedEntropy::new(seed)).unwrap();
        let text = key.to_text();
        prop_assert_eq!(&*RecoveryKey::parse(&text).unwrap().to_text(), &*text);
        let at = at + at / 5;
        let mut typed = text.to_string();
        typed.replace_range(at..=at, &with);
        if typed != *text {
            let error = RecoveryKey::parse(&typed).unwrap_err().to_string();
            prop_assert_eq!(error, format!("typing error in group {}; compare with the print", at / 6 + 1));
        }
    }
}

#[test]
fn too_much_is_refused() {
    let (_, keyring) = rich();
    let mut padded = keyring.bytes().to_vec();
    padded.resize(2 << 20, 0);
    assert!(Keyring::parse(&padded).unwrap_err().to_string().contains("1 MiB"));

    // Lengths beyond the end, up to the greatest.
    for length in [0u32, 1, u32::MAX, i32::MAX as u32] {
        let mut bytes = keyring.bytes().to_vec();
        bytes[12..16].copy_from_slice(&length.to_le_bytes());
        assert!(Keyring::parse(&bytes).is_err());
    }
    let nested = "[".repeat(100_000);
    let bytes = [
        &b"RLKEYRNG\x01\0\0\0"[..],
        &(nested.len() as u32).to_le_bytes(),
        nested.as_bytes(),
        &[0; 4],
    ];
    assert!(Keyring::parse(&bytes.concat()).is_err());
}

#[test]
fn a_keyring_holds_64_wraps_and_not_more() {
    let file = key_file();
    let made = support::first(&file);
    let others: Vec<KeyFile> = (0..64).map(|_| key_file()).collect();
    let mut change = open(made.bytes(), &file).unwrap().change().unwrap();
    for other in &others[..63] {
        change
            .add_wrap(other, &"ü".repeat(64), NOW, &mut SystemEntropy)
            .unwrap();
    }
    let error = change
        .add_wrap(&others[63], "one more", NOW, &mut SystemEntropy)
        .unwrap_err();
    assert_eq!(error.to_string(), "a keyring holds at most 64 wraps");
    for label in ["", "a\nb", "\x1b[31m", &"x".repeat(129)] {
        assert!(
            change
                .add_wrap(&others[63], label, NOW, &mut SystemEntropy)
                .is_err()
        );
    }
    let full = change.finish(NOW, &mut SystemEntropy).unwrap();
    assert!(open(full.bytes(), &others[62]).is_ok());
}
