//! Reads what S3 servers answer, files with access keys, and locations.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use relight_repo::fuzzing::s3::{Nowhere, text};

static NOWHERE: LazyLock<Nowhere> = LazyLock::new(Nowhere::new);

fuzz_target!(|data: &[u8]| {
    NOWHERE.document(data);
    if let Ok(words) = std::str::from_utf8(data) {
        text(words);
    }
});
