//! Parses names of snapshots and workloads; what is accepted prints and parses again to the same.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relight_model::snapshot_ref::SnapshotRef;
use relight_model::workload::Workload;

fuzz_target!(|text: &str| {
    if let Ok(name) = text.parse::<Workload>() {
        assert_eq!(name.as_str(), text);
    }
    let _ = text.parse::<SnapshotRef>();
});
