//! Opens a local index file, and looks chunks up in it: those it has, and one of the input.
#![no_main]

use std::sync::LazyLock;

use libfuzzer_sys::fuzz_target;
use relight_repo::ChunkId;
use relight_repo::index::file::IndexFile;
use tempfile::TempDir;

static FOLDER: LazyLock<TempDir> = LazyLock::new(|| {
    let memory = std::path::Path::new("/dev/shm");
    let folder = if memory.is_dir() {
        TempDir::new_in(memory)
    } else {
        TempDir::new()
    };
    folder.expect("there is room for a small file")
});

fuzz_target!(|data: &[u8]| {
    let path = FOLDER.path().join("file.idx");
    std::fs::write(&path, data).expect("there is room for a small file");
    let Ok(file) = IndexFile::open(&path) else { return };
    for at in 0..file.len().min(100) {
        if let Some(entry) = file.entry(at) {
            for (found, line) in file.find(&entry.record.id) {
                assert!(found.record.id == entry.record.id && line == &file.packs()[found.pack as usize]);
            }
        }
    }
    let mut id = ChunkId::default();
    if let Some(last) = data.last_chunk() {
        id.0 = *last;
    }
    let _ = file.find(&id).count();
});
