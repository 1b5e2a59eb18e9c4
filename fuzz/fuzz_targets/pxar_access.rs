//! Walks an archive by its hash tables, and looks names up that come from the input too.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relight_pxar::accessor::{Accessor, Node};

fn walk(accessor: &Accessor<Vec<u8>>, node: &Node, depth: usize, budget: &mut usize) {
    let Ok(directory) = accessor.directory(node) else { return };
    let _ = accessor.lookup(&directory, b"name");
    let Ok(children) = accessor.children(&directory) else { return };
    for child in children {
        if *budget == 0 {
            return;
        }
        *budget -= 1;
        let Ok(child) = child else { return };
        if depth < 32 {
            walk(accessor, &child, depth + 1, budget);
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Ok(accessor) = Accessor::open(data.to_vec()) else { return };
    if let Ok(root) = accessor.root() {
        walk(&accessor, &root, 0, &mut 2000);
    }
});
