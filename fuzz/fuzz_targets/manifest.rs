//! Reads manifests (as they are stored, and the JSON in them) and the descriptor of a repository.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relight_repo::SnapshotId;
use relight_repo::settings::Descriptor;
use relight_repo::snapshot::Snapshot;

fuzz_target!(|data: &[u8]| {
    // A manifest says which snapshot it is of.
    let id = SnapshotId([0x77; 16]);
    let read = |bytes: &[u8]| {
        let Ok(snapshot) = Snapshot::decode(bytes, id) else {
            return;
        };
        assert_eq!(snapshot.id, id);
        let _ = snapshot.archive("disk.img");
    };
    read(data);
    if let Ok(frame) = zstd::bulk::compress(data, 1) {
        read(&frame);
    }
    if let Ok(descriptor) = Descriptor::decode(data) {
        let _ = descriptor.repository();
        let again = descriptor.encode().expect("what was read can be written");
        assert!(Descriptor::decode(&again).is_ok());
    }
});
