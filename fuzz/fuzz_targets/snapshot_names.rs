//! Parses how snapshots are named; what is accepted prints and parses again to the same.
#![no_main]

use jiff::tz::TimeZone;
use libfuzzer_sys::fuzz_target;
use relight_model::snapshot_ref::SnapshotRef;
use relight_repo::{ChunkId, PackId, SnapshotId};

fuzz_target!(|text: &str| {
    if let Ok(named) = text.parse::<SnapshotRef>() {
        if let SnapshotRef::At(_, time) = &named {
            let _ = time.bounds(&TimeZone::UTC);
        }
        let printed = named.to_string();
        assert_eq!(
            printed.parse::<SnapshotRef>().ok().map(|again| again.to_string()),
            Some(printed)
        );
    }
    if let Ok(id) = text.parse::<SnapshotId>() {
        assert_eq!(id.to_string(), text.to_ascii_lowercase());
    }
    let _ = (text.parse::<ChunkId>(), text.parse::<PackId>());
});
