//! Reads an index segment; what is accepted is sealed, opened and read to the same.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use relight_fuzz::{REPOSITORY, keys};
use relight_keys::KeySet;
use relight_repo::SegmentId;
use relight_repo::index::Segment;

static KEYS: LazyLock<KeySet> = LazyLock::new(keys);

fuzz_target!(|data: &[u8]| {
    let Ok(segment) = Segment::decode(data, "segment") else {
        return;
    };
    assert!(
        segment
            .entries
            .iter()
            .all(|entry| (entry.pack as usize) < segment.packs.len())
    );
    assert!(segment.entries.is_sorted_by_key(|entry| entry.record.id));
    let id = SegmentId::default();
    let sealed = segment
        .seal(KEYS.current(), REPOSITORY, id)
        .expect("it is sealed");
    let again = Segment::open(&sealed, &KEYS, REPOSITORY, id).expect("it is opened");
    assert!(again == segment);
});
