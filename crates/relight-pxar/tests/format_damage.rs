//! Damaged archives: an error that names the place, never a panic, never much memory, never a wrong end.

#![allow(clippy::unwrap_used)]

mod format_support;

use format_support::*;
use proptest::prelude::*;
use relight_pxar::format::{self, ItemHeader};
use relight_pxar::{Accessor, DecodeError, Decoder, NodeId, RawMetadata};

/// The original's version 1 archive without its two large files, and both version 2 ones.
fn archives() -> Vec<Vec<u8>> {
    let mut items = decode_bytes(TREE_V1);
    items.retain(|item| !matches!(item.what, What::File { size, .. } if size > 10_000));
    let small = encode(&items, relight_pxar::Version::V1, None, true).unwrap();
    vec![small, TREE_DATA.to_vec(), TREE_METADATA.to_vec()]
}

/// Reads everything there is to read.
fn exercise(archive: &[u8]) {
    if let Ok(mut decoder) = Decoder::new(archive) {
        let _ = decode(&mut decoder);
    }
    if let Ok(accessor) = Accessor::open(archive) {
        let _ = walk(&accessor);
        for path in [
            &b"sub/deep/er/file.txt"[..],
            b"hello.txt",
            b"sub/hardlink-to-hello",
            b"xattrs",
        ] {
            if let Ok(Some(node)) = accessor.lookup_path(path) {
                let _ = accessor.resolve_hardlink(&node).map(|node| node.metadata());
                let _ = accessor.node(node.id());
                let _ = accessor.content(&node, Some(&archive));
            }
        }
    }
}

#[test]
fn a_shortened_archive_never_seems_whole() {
    for archive in archives() {
        let step = (archive.len() / 700).max(1);
        for length in (0..archive.len())
            .step_by(step)
            .chain(archive.len() - 60..archive.len())
        {
            let part = &archive[..length];
            let result = Decoder::new(part).and_then(|mut decoder| decode(&mut decoder));
            assert!(
                matches!(result, Err(DecodeError::Truncated { .. })),
                "{length}: {result:?}"
            );
            let result = Accessor::open(part).and_then(|accessor| accessor.root());
            assert!(result.is_err(), "{length}");
        }
    }
}

#[test]
fn no_id_is_misread() {
    for archive in archives() {
        let accessor = Accessor::open(archive.as_slice()).unwrap();
        for number in 0..archive.len() as u64 + 100 {
            let _ = accessor.node(NodeId::from_raw(number));
            let _ = accessor.node(NodeId::from_raw(number | 1 << 63));
        }
        let _ = accessor.node(NodeId::from_raw(u64::MAX));
    }
}

#[test]
fn sizes_beyond_all_bounds_are_refused_before_memory_is_taken() {
    for kind in [
        format::FILENAME,
        format::XATTR,
        format::FCAPS,
        format::SYMLINK,
        format::PRELUDE,
        format::GOODBYE,
    ] {
        for size in [0, 15, 1 << 40, u64::MAX] {
            let mut archive = ItemHeader { kind, size }.to_bytes().to_vec();
            exercise(&archive);
            // Behind a proper root entry.
            let mut root = TREE_V1[..56].to_vec();
            root.append(&mut archive);
            let result = Decoder::new(root.as_slice()).and_then(|mut decoder| decode(&mut decoder));
            assert!(result.is_err());
            exercise(&root);
        }
    }
}

#[test]
fn kept_metadata_is_checked() {
    let items = decode_bytes(TREE_V1);
    let raw = &items.iter().find(|item| item.path == b"xattrs").unwrap().raw;
    assert!(RawMetadata::new(raw).unwrap().has_attributes());
    assert!(RawMetadata::new(&[]).is_err());
    assert!(RawMetadata::new(&raw[..raw.len() - 1]).is_err());
    assert!(RawMetadata::new(&[raw.as_slice(), raw].concat()).is_err());
    assert!(RawMetadata::new(&raw[56..]).is_err());
}

#[test]
fn unknown_versions_are_named() {
    let mut archive = TREE_DATA.to_vec();
    archive[16] = 3;
    assert!(matches!(
        Decoder::new(archive.as_slice()),
        Err(DecodeError::UnknownVersion { version: 3 })
    ));
    assert!(matches!(
        Accessor::open(archive.as_slice()),
        Err(DecodeError::UnknownVersion { version: 3 })
    ));
}

#[test]
fn a_wrong_payload_is_noticed() {
    let accessor = Accessor::open(TREE_DATA).unwrap();
    let node = accessor.lookup_path(b"hello.txt").unwrap().unwrap();
    assert!(matches!(
        accessor.content(&node, None),
        Err(DecodeError::WrongKind(_))
    ));
    let zeros = vec![0; 2_000_000];
    assert!(matches!(
        accessor.content(&node, Some(&zeros)),
        Err(DecodeError::Damaged { .. })
    ));
    assert!(matches!(
        accessor.content(&node, Some(&vec![0; 8])),
        Err(DecodeError::Truncated { .. })
    ));
}

#[derive(Debug, Clone)]
enum Change {
    Byte(prop::sample::Index, u8),
    Number(prop::sample::Index, u64),
    Cut(prop::sample::Index, usize),
    Repeat(prop::sample::Index, usize),
}

fn change() -> impl Strategy<Value = Change> {
    let number = prop_oneof![
        any::<u64>(),
        0..200u64,
        Just(u64::MAX),
        Just(1 << 32),
        Just(format::GOODBYE)
    ];
    prop_oneof![
        (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(at, byte)| Change::Byte(at, byte)),
        (any::<prop::sample::Index>(), number).prop_map(|(at, number)| Change::Number(at, number)),
        (any::<prop::sample::Index>(), 1..100usize).prop_map(|(at, length)| Change::Cut(at, length)),
        (any::<prop::sample::Index>(), 1..100usize).prop_map(|(at, length)| Change::Repeat(at, length)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_damage_makes_a_reader_panic(
        which in 0..3usize,
        changes in prop::collection::vec(change(), 1..6),
    ) {
        thread_local!(static ARCHIVES: Vec<Vec<u8>> = archives());
        let mut archive = ARCHIVES.with(|archives| archives[which].clone());
        for change in changes {
            let length = archive.len();
            match change {
                Change::Byte(at, byte) => archive[at.index(length)] = byte,
                Change::Number(at, number) => {
                    let at = at.index(length - 8);
                    archive[at..at + 8].copy_from_slice(&number.to_le_bytes());
                }
                Change::Cut(at, count) => {
                    let at = at.index(length - 100);
                    archive.drain(at..at + count);
                }
                Change::Repeat(at, count) => {
                    let at = at.index(length - 100);
                    let part = archive[at..at + count].to_vec();
                    archive.splice(at..at, part);
                }
            }
        }
        exercise(&archive);
    }
}
