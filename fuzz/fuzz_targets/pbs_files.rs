//! Reads what clients of the Proxmox Backup protocol upload: blobs, indexes and catalogs. Checksums are put right first,
//! or hardly anything would get past them.
#![no_main]

use std::io::Cursor;

use libfuzzer_sys::fuzz_target;
use relight_pbs::formats::blob::Blob;
use relight_pbs::formats::catalog::{CatalogReader, EntryKind};
use relight_pbs::formats::crypt::CryptKey;
use relight_pbs::formats::index::{DynamicIndex, FixedIndex, HEADER};
use relight_repo::ChunkId;

fn blob(data: &[u8]) {
    let limit = 1 << 20;
    for right in [false, true] {
        let mut bytes = data.to_vec();
        if right && let Ok(blob) = Blob::parse(data) {
            let crc = crc32fast::hash(blob.payload());
            bytes[8..12].copy_from_slice(&crc.to_le_bytes());
        }
        let Ok(blob) = Blob::parse(&bytes) else { return };
        if let Ok(content) = blob.decode(limit) {
            assert!(content.len() <= limit);
        }
        if let Ok(key) = CryptKey::new(&[7; 32]) {
            let _ = blob.decrypt(&key, limit);
        }
    }
}

fn indexes(data: &[u8]) {
    let mut bytes = data.to_vec();
    if let Some((header, entries)) = bytes.split_at_mut_checked(HEADER) {
        header[32..64].copy_from_slice(&ChunkId::of(entries).0);
    }
    if let Ok(index) = DynamicIndex::parse(&bytes) {
        let again = DynamicIndex::parse(&index.encode());
        assert!(again.is_ok_and(|again| again == index));
        let _ = index.size();
    }
    if let Ok(index) = FixedIndex::parse(&bytes) {
        let again = FixedIndex::parse(&index.encode());
        assert!(again.is_ok_and(|again| again == index));
        let _ = (index.size(), index.chunk_size());
    }
}

fn catalog(data: &[u8]) {
    let Ok(mut catalog) = CatalogReader::new(Cursor::new(data)) else {
        return;
    };
    let mut folders = vec![catalog.root()];
    for _ in 0..200 {
        let Some(start) = folders.pop() else { break };
        let Ok(entries) = catalog.list(start) else {
            continue;
        };
        for entry in entries {
            assert!(!entry.name.is_empty() && !entry.name.contains(&b'/') && !entry.name.contains(&0));
            if let EntryKind::Directory { start: below } = entry.kind {
                // Children come before their parents, so that nothing goes round in circles.
                assert!(below < start);
                folders.push(below);
            }
        }
    }
    let _ = catalog.find(b"folder/file");
}

fuzz_target!(|data: &[u8]| {
    blob(data);
    indexes(data);
    catalog(data);
});
