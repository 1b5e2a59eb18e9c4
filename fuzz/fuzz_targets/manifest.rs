//! Reads manifests, the descriptor and list nodes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relight_repo::settings::Descriptor;
use relight_repo::snapshot::Snapshot;
use relight_repo::tree::Node;
use relight_repo::{ChunkId, SnapshotId};

fuzz_target!(|data: &[u8]| {
    let _ = Snapshot::decode(data, SnapshotId::default());
    let _ = Descriptor::decode(data);
    for level in 1..3 {
        if let Ok(node) = Node::decode(ChunkId::default(), data, level) {
            assert_eq!(node.encode(), data);
        }
    }
});
