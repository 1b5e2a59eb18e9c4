//! Archives made by the original (client 4.2.3) of one tree with every kind of entry and metadata.

#![allow(clippy::unwrap_used)]

mod format_support;

use std::collections::BTreeMap;
use std::io::Cursor;

use format_support::*;
use relight_pxar::format::{GOODBYE, ItemHeader};
use relight_pxar::metadata::{Acl, DefaultAcl};
use relight_pxar::read_at::ReadAt;
use relight_pxar::siphash::hash_name;
use relight_pxar::{Accessor, Decoder, EntryKind, FileTime, NodeId, Version};

fn by_path(items: Vec<Item>) -> BTreeMap<Vec<u8>, Item> {
    items
        .into_iter()
        .filter(|item| item.what != What::End)
        .map(|item| (item.path.clone(), item))
        .collect()
}

#[test]
fn a_version_1_archive_holds_the_tree() {
    let items = by_path(decode_bytes(TREE_V1));
    assert_eq!(items.len(), 61);
    let item = |path: &str| &items[path.as_bytes()];

    assert_eq!(item("").what, What::Directory);
    assert_eq!(item("").metadata.mode, 0o040_755);
    assert_eq!(item("setuid").metadata.mode, 0o104_755);
    assert_eq!(item("sub").metadata.gid, 1001);
    assert_eq!(item("fifo").what, What::Fifo);
    assert_eq!(item("null-dev").what, What::Device(1, 3));
    assert_eq!(
        item("link-dangling").what,
        What::Symlink(b"/does/not/exist".to_vec())
    );
    assert_eq!(
        item("sub/hardlink-to-hello").what,
        What::Hardlink(b"hello.txt".to_vec())
    );
    assert_eq!(
        item("sub/hardlink-to-hello").target_position,
        Some(item("hello.txt").position)
    );
    assert_eq!(
        item("empty").what,
        What::File {
            size: 0,
            content: Vec::new(),
            payload: None
        }
    );
    assert!(items.contains_key(&b"latin1-\xe4\xf6\xfc"[..]));
    assert!(items.contains_key(&b"n".repeat(200)[..]));
    assert_eq!(
        item("hello.txt").metadata.mtime,
        FileTime {
            secs: 1_700_162_000,
            nanos: 123_456_789
        }
    );
    let What::File {
        size: 716_800,
        content,
        ..
    } = &item("text-700k.txt").what
    else {
        panic!()
    };
    assert_eq!(content.len(), 716_800);
}

#[test]
fn attributes_of_a_version_1_archive_are_those_of_the_tree() {
    let items = by_path(decode_bytes(TREE_V1));
    let xattrs = &items[&b"xattrs"[..]].metadata.xattrs;
    let expected: [(&[u8], &[u8]); 2] = [
        (b"user.color", b"blue"),
        (
            b"user.bin",
            &[0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15],
        ),
    ];
    assert_eq!(
        xattrs
            .iter()
            .map(|(name, value)| (&name[..], &value[..]))
            .collect::<Vec<_>>(),
        expected
    );
    let acl = &items[&b"acl"[..]].metadata.acl;
    let expected = Acl {
        users: vec![(1234, 6)],
        groups: vec![(4321, 4)],
        group_obj: Some(4),
        default: None,
    };
    assert_eq!(*acl, expected);
    let default = DefaultAcl {
        user_obj: Some(7),
        group_obj: Some(5),
        other: Some(5),
        mask: Some(7),
        users: vec![(1234, 7)],
        groups: vec![],
    };
    assert_eq!(items[&b"acldir"[..]].metadata.acl.default, Some(default));
}

#[test]
fn version_2_archives_hold_the_same_tree() {
    let first = by_path(decode_bytes(TREE_V1));
    for archive in [TREE_DATA, TREE_METADATA] {
        let second = by_path(decode_bytes(archive));
        assert_eq!(
            first.keys().collect::<Vec<_>>(),
            second.keys().collect::<Vec<_>>()
        );
        for (path, item) in &second {
            assert_eq!(item.metadata, first[path].metadata);
            match (&item.what, &first[path].what) {
                (
                    What::File {
                        size,
                        payload: Some(_),
                        ..
                    },
                    What::File { content, .. },
                ) => {
                    assert_eq!(*size, content.len() as u64);
                }
                (what, other) => assert_eq!(what, other),
            }
        }
    }
}

/// The contents from the version 1 archive, put where a version 2 metadata stream says, give the original's payload
/// stream byte for byte (length and hash were taken from it).
#[test]
fn payload_references_name_the_places_of_the_contents() {
    let contents = by_path(decode_bytes(TREE_V1));
    let mut places = Vec::new();
    for item in decode_bytes(TREE_DATA) {
        if let (
            What::File {
                payload: Some(offset),
                ..
            },
            What::File { content, .. },
        ) = (&item.what, &contents[&item.path].what)
        {
            places.push((*offset, content.as_slice()));
        }
    }
    let stream = payload_stream(&places, 1_062_772);
    assert_eq!(hash_name(&stream), 0x40d9_5ee8_8f41_833a);

    let accessor = Accessor::open(TREE_DATA).unwrap();
    for (path, item) in &contents {
        if let What::File { content, .. } = &item.what {
            let node = accessor.lookup_path(path).unwrap().unwrap();
            let reader = accessor.content(&node, Some(&stream)).unwrap();
            let mut read = vec![0; content.len()];
            assert_eq!(reader.size(), content.len() as u64);
            reader.read_exact_at(&mut read, 0).unwrap();
            assert_eq!(&read, content);
            assert!(reader.read_exact_at(&mut [0], content.len() as u64).is_err());
        }
    }
}

#[test]
fn the_prelude_is_handed_out() {
    let prelude = Some(&br#"{"exclude-patterns":"*.tmp\n"}"#[..]);
    assert_eq!(Decoder::new(TREE_METADATA).unwrap().prelude(), prelude);
    assert_eq!(Accessor::open(TREE_METADATA).unwrap().prelude(), prelude);
    assert_eq!(Decoder::new(TREE_DATA).unwrap().prelude(), None);
    assert_eq!(Decoder::new(TREE_DATA).unwrap().version(), Version::V2);
    assert_eq!(Decoder::new(TREE_V1).unwrap().version(), Version::V1);
}

#[test]
fn what_is_decoded_encodes_to_the_same_bytes() {
    for (archive, only_table_sizes_differ) in [(TREE_V1, false), (TREE_METADATA, false), (TREE_DATA, true)] {
        let mut decoder = Decoder::new(archive).unwrap();
        let items = decode(&mut decoder).unwrap();
        for raw in [false, true] {
            let encoded = encode(&items, decoder.version(), decoder.prelude(), raw).unwrap();
            if only_table_sizes_differ {
                assert!(without_table_sizes(&encoded) == without_table_sizes(archive));
            } else {
                assert!(encoded == archive, "raw metadata: {raw}");
            }
        }
    }
}

/// A metadata stream with the sizes in its look-up tables blanked: where the original writes a content itself, it
/// counts it there, though it lies in the payload stream.
fn without_table_sizes(archive: &[u8]) -> Vec<u8> {
    let mut archive = archive.to_vec();
    let mut position = 0;
    while position < archive.len() {
        let header = ItemHeader::parse(archive[position..].first_chunk().unwrap(), position as u64).unwrap();
        let end = position + header.size as usize;
        if header.kind == GOODBYE {
            for item in archive[position + 16..end].chunks_mut(24) {
                item[16..].fill(0);
            }
        }
        position = end;
    }
    archive
}

#[test]
fn look_up_tables_lead_to_the_same_entries() {
    for archive in [TREE_V1, TREE_DATA, TREE_METADATA] {
        let accessor = Accessor::open(archive).unwrap();
        let items = decode_bytes(archive);
        assert_eq!(walk(&accessor).unwrap(), items);
        for item in items.iter().filter(|item| item.what != What::End) {
            let node = accessor.lookup_path(&item.path).unwrap().unwrap();
            assert_eq!(node.position(), item.position);
            let again = accessor.node(NodeId::from_raw(node.id().to_raw())).unwrap();
            assert_eq!(again.kind(), node.kind());
            assert_eq!(again.metadata().unwrap(), item.metadata);
        }
        assert!(accessor.lookup_path(b"sub/deep/nothing").unwrap().is_none());
        assert!(accessor.lookup_path(b"hello.txt/x").unwrap().is_none());
    }
}

#[test]
fn hard_links_lead_to_their_file() {
    for archive in [TREE_V1, TREE_DATA] {
        let accessor = Accessor::open(archive).unwrap();
        let link = accessor.lookup_path(b"sub/hardlink-to-hello").unwrap().unwrap();
        let target = accessor.resolve_hardlink(&link).unwrap();
        assert_eq!(
            target.id(),
            accessor.lookup_path(b"hello.txt").unwrap().unwrap().id()
        );
        assert!(matches!(target.kind(), EntryKind::File { size: 10, .. }));
    }
}

#[test]
fn contents_are_skipped_and_directories_left() {
    let mut decoder = Decoder::seekable(Cursor::new(TREE_V1)).unwrap();
    let mut seen = Vec::new();
    while let Some(event) = decoder.next().unwrap() {
        if let relight_pxar::Event::Entry(entry) = event {
            seen.push(entry.path.to_vec());
            if entry.path == b"sub/deep" {
                decoder.skip_directory().unwrap();
            }
        }
    }
    assert_eq!(seen.len(), 61 - 42);
    assert!(seen.contains(&b"xattrs".to_vec()));
}
