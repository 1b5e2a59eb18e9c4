//! Reads the parts of a pack that are not chunks.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relight_keys::RepositoryId;
use relight_repo::PackId;
use relight_repo::pack::format::{HEADER, Header, TRAILER, Trailer, decode_toc};

fuzz_target!(|data: &[u8]| {
    if let Some(header) = data.first_chunk::<HEADER>() {
        let _ = Header::decode(header, "pack", PackId::default(), RepositoryId([0; 16]));
    }
    if let Some(trailer) = data.last_chunk::<TRAILER>() {
        let _ = Trailer::decode(trailer, data.len() as u64, "pack");
    }
    if let Ok(records) = decode_toc(data, data.len() as u64, "pack") {
        // What is accepted lies where it says.
        assert!(records.iter().all(|record| u64::from(record.offset) + u64::from(record.stored) <= data.len() as u64));
    }
});
