//! Walks an archive by its hash tables, reads contents, and looks names up. The last two bytes say how long the payload
//! stream is, which comes last.
#![no_main]

use libfuzzer_sys::fuzz_target;
use relight_pxar::EntryKind;
use relight_pxar::accessor::{Accessor, Node};
use relight_pxar::read_at::ReadAt;

struct Walk<'a> {
    accessor: &'a Accessor<Vec<u8>>,
    payload: &'a Vec<u8>,
    budget: usize,
}

impl Walk<'_> {
    fn visit(&mut self, node: &Node, depth: usize) {
        let _ = (node.metadata(), node.stat());
        if let Ok(same) = self.accessor.node(node.id()) {
            assert_eq!(same.id(), node.id());
        }
        match node.kind() {
            EntryKind::File { .. } => self.content(node),
            EntryKind::Hardlink { .. } => {
                if let Ok(target) = self.accessor.resolve_hardlink(node) {
                    assert!(!matches!(
                        target.kind(),
                        EntryKind::Hardlink { .. } | EntryKind::Directory
                    ));
                    self.content(&target);
                }
            }
            EntryKind::Directory => self.folder(node, depth),
            _ => {}
        }
    }

    fn content(&self, node: &Node) {
        if let Ok(content) = self.accessor.content(node, Some(self.payload)) {
            let mut buffer = vec![0; content.size().min(4096) as usize];
            content
                .read_exact_at(&mut buffer, 0)
                .expect("a content that was found is all there");
            let end = content.size() - buffer.len() as u64;
            content
                .read_exact_at(&mut buffer, end)
                .expect("a content that was found is all there");
        }
    }

    fn folder(&mut self, node: &Node, depth: usize) {
        let Ok(folder) = self.accessor.directory(node) else {
            return;
        };
        let _ = self.accessor.lookup(&folder, b"name");
        if let Ok(list) = self.accessor.child_list(&folder) {
            let _ = list.len();
        }
        let Ok(children) = self.accessor.children(&folder) else {
            return;
        };
        for child in children {
            if self.budget == 0 || depth == 32 {
                return;
            }
            self.budget -= 1;
            let Ok(child) = child else { return };
            assert!(!child.name().contains(&b'/') && child.name() != b".." && child.name() != b".");
            let _ = self.accessor.lookup(&folder, child.name());
            self.visit(&child, depth + 1);
        }
    }
}

fuzz_target!(|data: &[u8]| {
    let Some((data, length)) = data.split_last_chunk::<2>() else {
        return;
    };
    let at = data
        .len()
        .saturating_sub(usize::from(u16::from_le_bytes(*length)));
    let (archive, payload) = data.split_at(at);
    let Ok(accessor) = Accessor::open(archive.to_vec()) else {
        return;
    };
    let _ = accessor.lookup_path(b"folder/file");
    if let Ok(root) = accessor.root() {
        Walk {
            accessor: &accessor,
            payload: &payload.to_vec(),
            budget: 2000,
        }
        .visit(&root, 0);
    }
});
