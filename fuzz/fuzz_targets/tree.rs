//! Reads nodes of chunk lists; what is accepted is written again to the same bytes.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relight_repo::ChunkId;
use relight_repo::tree::Node;

fuzz_target!(|data: &[u8]| {
    for level in 1..=3 {
        if let Ok(node) = Node::decode(ChunkId::default(), data, level) {
            assert_eq!(node.encode(), data);
            let _ = node.span();
        }
    }
});
