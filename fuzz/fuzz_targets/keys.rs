//! Reads keyrings, key files and recovery keys.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relight_keys::{KeyFile, Keyring, RecoveryKey};

fuzz_target!(|data: &[u8]| {
    let _ = Keyring::parse(data);
    let _ = KeyFile::parse(data);
    if let Ok(text) = std::str::from_utf8(data) {
        let _ = RecoveryKey::parse(text);
    }
});
