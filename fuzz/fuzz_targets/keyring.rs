//! Reads keyrings (and tries to open them), their opened bodies, key files, recovery keys, names, and sealed objects.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use relight_fuzz::{REPOSITORY, entropy, keys};
use relight_keys::{
    KeyFile, KeyId, KeySet, Keyring, KeyringName, ObjectKind, RecoveryKey, RepositoryId, WrapId, fuzzing,
    open, open_object,
};

static KEYS: LazyLock<KeySet> = LazyLock::new(keys);
static PROVIDER: LazyLock<KeyFile> =
    LazyLock::new(|| KeyFile::generate(&mut entropy()).expect("these bytes never end"));

fuzz_target!(|data: &[u8]| {
    if let Ok(ring) = Keyring::parse(data) {
        assert!(ring.wraps().len() > 0);
        let _ = open(data, &*PROVIDER);
    }
    fuzzing::read_body(data);
    let _ = open_object(&KEYS, REPOSITORY, ObjectKind::SNAPSHOT, "snapshots/0", data);
    let _ = KeyFile::parse(data);
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = RecoveryKey::parse(text);
        if let Ok(name) = text.parse::<KeyringName>() {
            assert_eq!(name.to_string(), text);
        }
        let _ = (
            text.parse::<RepositoryId>(),
            text.parse::<KeyId>(),
            text.parse::<WrapId>(),
        );
    }
});
