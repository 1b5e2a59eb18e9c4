//! What our encoder writes, our readers read; what it must not write, it refuses.

#![allow(clippy::unwrap_used)]

mod format_support;

use format_support::*;
use proptest::prelude::*;
use relight_pxar::format::mode;
use relight_pxar::metadata::{Acl, DefaultAcl};
use relight_pxar::{Accessor, Decoder, EncodeError, Encoder, EntryKind, Event, FileTime, Metadata, Version};

fn directory() -> Metadata {
    Metadata {
        mode: mode::DIRECTORY | 0o755,
        ..Metadata::default()
    }
}

fn file() -> Metadata {
    Metadata {
        mode: mode::FILE | 0o644,
        ..Metadata::default()
    }
}

fn permissions() -> impl Strategy<Value = Vec<(u32, u8)>> {
    prop::collection::vec((any::<u32>(), 0..8u8), 0..4)
}

prop_compose! {
    fn default_acl()(
        objects in prop::array::uniform4(prop::option::of(0..8u8)),
        users in permissions(),
        groups in permissions(),
    ) -> DefaultAcl {
        let [user_obj, group_obj, other, mask] = objects;
        DefaultAcl { user_obj, group_obj, other, mask, users, groups }
    }
}

prop_compose! {
    fn metadata(file_type: u32)(
        permission_bits in 0..0o10_000u32,
        flags in any::<u64>(),
        owner in any::<(u32, u32)>(),
        time in (any::<i64>(), 0..1_000_000_000u32),
        xattrs in prop::collection::vec(("[a-z.]{1,255}", prop::collection::vec(any::<u8>(), 0..400)), 0..3),
        acl in (permissions(), permissions(), prop::option::of(0..8u8), prop::option::of(default_acl())),
        fcaps in prop::option::of(prop::collection::vec(any::<u8>(), 0..30)),
        project_id in prop::option::of(any::<u64>()),
    ) -> Metadata {
        let (users, groups, group_obj, default) = acl;
        Metadata {
            mode: file_type | permission_bits,
            flags,
            uid: owner.0,
            gid: owner.1,
            mtime: FileTime { secs: time.0, nanos: time.1 },
            xattrs: xattrs.into_iter().map(|(name, value)| (name.into_bytes(), value)).collect(),
            acl: Acl { users, groups, group_obj, default },
            fcaps,
            project_id,
        }
    }
}

/// An entry of a tree, by what it is.
#[derive(Debug, Clone)]
enum Tree {
    Directory(Metadata, std::collections::BTreeMap<Vec<u8>, Tree>),
    Leaf(Metadata, What),
}

fn leaf() -> impl Strategy<Value = Tree> {
    let target = || prop::collection::vec(1..=255u8, 0..40);
    let content = prop::collection::vec(any::<u8>(), 0..500);
    let file = (metadata(mode::FILE), content).prop_map(|(metadata, content)| {
        Tree::Leaf(
            metadata,
            What::File {
                size: content.len() as u64,
                content,
                payload: None,
            },
        )
    });
    prop_oneof![
        file,
        (metadata(mode::SYMLINK), target())
            .prop_map(|(metadata, target)| Tree::Leaf(metadata, What::Symlink(target))),
        (metadata(mode::CHARACTER), any::<(u64, u64)>())
            .prop_map(|(metadata, (major, minor))| Tree::Leaf(metadata, What::Device(major, minor))),
        metadata(mode::FIFO).prop_map(|metadata| Tree::Leaf(metadata, What::Fifo)),
        metadata(mode::SOCKET).prop_map(|metadata| Tree::Leaf(metadata, What::Socket)),
    ]
}

fn name() -> impl Strategy<Value = Vec<u8>> {
    prop::collection::vec((1..=255u8).prop_filter("slash", |&byte| byte != b'/'), 1..20)
        .prop_filter("dots", |name| name != b"." && name != b"..")
}

fn tree() -> impl Strategy<Value = Tree> {
    let nested = leaf().prop_recursive(3, 40, 8, |inner| {
        (
            metadata(mode::DIRECTORY),
            prop::collection::btree_map(name(), inner, 0..8),
        )
            .prop_map(|(metadata, children)| Tree::Directory(metadata, children))
    });
    (
        metadata(mode::DIRECTORY),
        prop::collection::btree_map(name(), nested, 0..8),
    )
        .prop_map(|(metadata, children)| Tree::Directory(metadata, children))
}

/// The items of a tree in archive order, with payloads placed `gap` bytes apart for version 2.
fn items_of(
    tree: &Tree,
    path: &[u8],
    version: Version,
    gap: u64,
    next_payload: &mut u64,
    items: &mut Vec<Item>,
) {
    let item = |what, metadata: &Metadata| Item {
        path: path.to_vec(),
        what,
        metadata: metadata.clone(),
        raw: Vec::new(),
        position: 0,
        target_position: None,
    };
    match tree {
        Tree::Leaf(metadata, What::File { size, .. }) if version == Version::V2 => {
            let offset = *next_payload + gap;
            *next_payload = relight_pxar::payload::end(offset, *size);
            items.push(item(
                What::File {
                    size: *size,
                    content: Vec::new(),
                    payload: Some(offset),
                },
                metadata,
            ));
        }
        Tree::Leaf(metadata, what) => items.push(item(what.clone(), metadata)),
        Tree::Directory(metadata, children) => {
            items.push(item(What::Directory, metadata));
            for (name, child) in children {
                let mut child_path = path.to_vec();
                if !path.is_empty() {
                    child_path.push(b'/');
                }
                child_path.extend_from_slice(name);
                items_of(child, &child_path, version, gap, next_payload, items);
            }
            items.push(item(What::End, &Metadata::default()));
        }
    }
}

fn plain(items: Vec<Item>) -> Vec<Item> {
    let plain = |item| Item {
        raw: Vec::new(),
        position: 0,
        target_position: None,
        ..item
    };
    items.into_iter().map(plain).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_tree_comes_back(tree in tree(), split in any::<bool>(), gap in 0..100u64) {
        let version = if split { Version::V2 } else { Version::V1 };
        let mut items = Vec::new();
        items_of(&tree, b"", version, gap, &mut 16, &mut items);
        let archive = encode(&items, version, split.then_some(b"{}"), false).unwrap();
        let mut decoder = Decoder::new(archive.as_slice()).unwrap();
        let decoded = decode(&mut decoder).unwrap();
        prop_assert_eq!(decoder.position(), archive.len() as u64);
        prop_assert_eq!(&plain(decoded.clone()), &items);
        let accessor = Accessor::open(archive.as_slice()).unwrap();
        prop_assert_eq!(walk(&accessor).unwrap(), decoded.clone());
        for item in decoded.iter().filter(|item| item.what != What::End) {
            prop_assert_eq!(accessor.lookup_path(&item.path).unwrap().unwrap().position(), item.position);
        }
        prop_assert_eq!(encode(&decoded, version, split.then_some(b"{}"), true).unwrap(), archive);
    }
}

#[test]
fn a_large_directory_is_searched_by_name() {
    let mut encoder = Encoder::new(Vec::new(), None, &directory()).unwrap();
    for index in 0..5000 {
        encoder
            .add_file_ref(format!("{index:05}").as_bytes(), &file(), 16 + index * 20, 4)
            .unwrap();
    }
    let archive = encoder.finish().unwrap();
    let accessor = Accessor::open(archive.as_slice()).unwrap();
    let root = accessor.directory(&accessor.root().unwrap()).unwrap();
    assert_eq!(root.len(), 5000);
    for index in 0..5000 {
        let name = format!("{index:05}").into_bytes();
        assert_eq!(accessor.lookup(&root, &name).unwrap().unwrap().name(), name);
    }
    assert!(accessor.lookup(&root, b"05000").unwrap().is_none());
}

#[test]
fn hard_links_point_back_at_their_file() {
    let mut encoder = Encoder::new(Vec::new(), None, &directory()).unwrap();
    encoder.start_directory(b"a", &directory()).unwrap();
    let position = encoder.add_file_ref(b"file", &file(), 16, 3).unwrap();
    encoder.end_directory().unwrap();
    encoder.add_hardlink(b"link", b"a/file", position).unwrap();
    let archive = encoder.finish().unwrap();
    let accessor = Accessor::open(archive.as_slice()).unwrap();
    let link = accessor.lookup_path(b"link").unwrap().unwrap();
    assert_eq!(
        link.kind(),
        EntryKind::Hardlink {
            target_position: position,
            target: b"a/file"
        }
    );
    assert_eq!(accessor.resolve_hardlink(&link).unwrap().name(), b"file");
}

#[test]
fn entries_must_be_sorted_and_properly_named() {
    let mut encoder = Encoder::new(Vec::new(), None, &directory()).unwrap();
    encoder.add_file_ref(b"b", &file(), 16, 0).unwrap();
    for name in [&b"a"[..], b"b"] {
        assert!(matches!(
            encoder.add_file_ref(name, &file(), 32, 0),
            Err(EncodeError::Order { .. })
        ));
    }
    for name in [&b""[..], b".", b"..", b"x/y", b"x\0y", &[b'x'; 5000]] {
        assert!(matches!(
            encoder.add_file_ref(name, &file(), 32, 0),
            Err(EncodeError::Name { .. })
        ));
        assert!(matches!(
            encoder.start_directory(name, &directory()),
            Err(EncodeError::Name { .. })
        ));
    }
    // Nothing of the refused ones is in the archive, and it can go on.
    encoder.add_file_ref(b"c", &file(), 32, 0).unwrap();
    let names: Vec<_> = decode_bytes(&encoder.finish().unwrap())
        .into_iter()
        .map(|item| item.path)
        .collect();
    assert_eq!(names, [&b""[..], b"b", b"c", b""]);
}

#[test]
fn metadata_that_does_not_fit_is_refused_and_leaves_nothing_behind() {
    let mut encoder = Encoder::new(Vec::new(), None, &directory()).unwrap();
    let position = encoder.position();
    let refused = [
        directory(),
        Metadata {
            mtime: FileTime {
                secs: 0,
                nanos: 1_000_000_000,
            },
            ..file()
        },
        Metadata {
            xattrs: vec![(b"user.big".to_vec(), vec![0; 70_000])],
            ..file()
        },
        Metadata {
            xattrs: vec![(Vec::new(), vec![0])],
            ..file()
        },
        Metadata {
            acl: Acl {
                users: vec![(0, 8)],
                ..Acl::default()
            },
            ..file()
        },
        Metadata {
            fcaps: Some(vec![0; 70_000]),
            ..file()
        },
    ];
    for metadata in &refused {
        assert!(matches!(
            encoder.add_file_ref(b"x", metadata, 16, 0),
            Err(EncodeError::Metadata(_))
        ));
        assert_eq!(encoder.position(), position);
    }
    assert!(matches!(
        encoder.add_symlink(b"x", &file(), b"t"),
        Err(EncodeError::Metadata(_))
    ));
    assert!(matches!(
        encoder.add_hardlink(b"x", b"t", position),
        Err(EncodeError::Misuse(_))
    ));
}

#[test]
fn payload_references_never_go_backwards() {
    let mut encoder = Encoder::new(Vec::new(), None, &directory()).unwrap();
    assert!(matches!(
        encoder.add_file_ref(b"a", &file(), 0, 0),
        Err(EncodeError::PayloadOrder { .. })
    ));
    encoder.add_file_ref(b"a", &file(), 100, 50).unwrap();
    assert_eq!(encoder.payload_end(), 166);
    assert!(matches!(
        encoder.add_file_ref(b"b", &file(), 165, 1),
        Err(EncodeError::PayloadOrder { .. })
    ));
    encoder.add_file_ref(b"b", &file(), 166, 1).unwrap();
}

#[test]
fn calls_that_do_not_fit_the_version_or_state_are_refused() {
    let mut single = Encoder::new_v1(Vec::new(), &directory()).unwrap();
    assert!(matches!(
        single.add_file_ref(b"a", &file(), 16, 0),
        Err(EncodeError::Misuse(_))
    ));
    let mut split = Encoder::new(Vec::new(), None, &directory()).unwrap();
    assert!(matches!(
        split.add_file(b"a", &file(), 0, &mut std::io::empty()),
        Err(EncodeError::Misuse(_))
    ));
    split.end_directory().unwrap();
    assert!(matches!(
        split.add_file_ref(b"a", &file(), 16, 0),
        Err(EncodeError::Misuse(_))
    ));
    assert!(matches!(split.end_directory(), Err(EncodeError::Misuse(_))));
    split.finish().unwrap();
    single.start_directory(b"d", &directory()).unwrap();
    assert!(matches!(single.finish(), Err(EncodeError::Misuse(_))));
}

#[test]
fn a_file_that_shrank_is_filled_up_and_reported() {
    let mut encoder = Encoder::new_v1(Vec::new(), &directory()).unwrap();
    let content = vec![7; 100_000];
    let added = encoder
        .add_file(b"a", &file(), 250_000, &mut content.as_slice())
        .unwrap();
    assert_eq!(added.missing, 150_000);
    assert_eq!(
        encoder
            .add_file(b"b", &file(), 5, &mut content.as_slice())
            .unwrap()
            .missing,
        0
    );
    let items = decode_bytes(&encoder.finish().unwrap());
    let What::File { content: read, .. } = &items[1].what else {
        panic!()
    };
    assert_eq!(read.len(), 250_000);
    assert_eq!(&read[..100_000], content);
    assert!(read[100_000..].iter().all(|&byte| byte == 0));
    assert_eq!(
        items[2].what,
        What::File {
            size: 5,
            content: vec![7; 5],
            payload: None
        }
    );
}

#[test]
fn an_error_of_the_writer_makes_the_archive_unusable() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let mut encoder = Encoder::new(Full, None, &directory()).unwrap();
    encoder.add_file_ref(b"a", &file(), 16, 0).unwrap();
    assert!(matches!(encoder.flush(), Err(EncodeError::Io(_))));
    assert!(matches!(
        encoder.add_file_ref(b"b", &file(), 32, 0),
        Err(EncodeError::Failed)
    ));
    assert!(matches!(encoder.finish(), Err(EncodeError::Failed)));
}

#[test]
fn early_archives_with_their_shorter_entries_are_read() {
    let mut archive = Vec::new();
    archive.extend_from_slice(
        &relight_pxar::format::ItemHeader::new(relight_pxar::format::ENTRY_V1, 32).to_bytes(),
    );
    for number in [
        u64::from(mode::DIRECTORY | 0o700),
        5,
        1 << 32 | 2,
        1_500_000_000_000_000_007,
    ] {
        archive.extend_from_slice(&number.to_le_bytes());
    }
    let table = relight_pxar::format::ItemHeader::new(relight_pxar::format::GOODBYE, 24);
    archive.extend_from_slice(&table.to_bytes());
    for number in [relight_pxar::format::GOODBYE_TAIL_MARKER, 48, 40] {
        archive.extend_from_slice(&number.to_le_bytes());
    }
    let expected = Metadata {
        mode: mode::DIRECTORY | 0o700,
        flags: 5,
        uid: 2,
        gid: 1,
        mtime: FileTime {
            secs: 1_500_000_000,
            nanos: 7,
        },
        ..Metadata::default()
    };
    assert_eq!(decode_bytes(&archive)[0].metadata, expected);
    let accessor = Accessor::open(archive.as_slice()).unwrap();
    assert_eq!(accessor.root().unwrap().metadata().unwrap(), expected);
}

/// The rate depends on the machine; the bound is far above what an unoptimised build takes.
#[test]
fn two_hundred_thousand_entries_take_no_time() {
    let mut encoder = Encoder::new(Vec::new(), None, &directory()).unwrap();
    let metadata = file();
    let mut offset = 16;
    let start = std::time::Instant::now();
    for parent in 0..200 {
        encoder
            .start_directory(format!("{parent:04}").as_bytes(), &directory())
            .unwrap();
        for index in 0..1000 {
            encoder
                .add_file_ref(format!("file-{index:04}").as_bytes(), &metadata, offset, 100)
                .unwrap();
            offset += 116;
        }
        encoder.end_directory().unwrap();
    }
    let archive = encoder.finish().unwrap();
    let encoded = start.elapsed();
    let start = std::time::Instant::now();
    let mut decoder = Decoder::new(archive.as_slice()).unwrap();
    let mut files = 0;
    while let Some(event) = decoder.next().unwrap() {
        if let Event::Entry(entry) = event {
            files += u64::from(matches!(entry.kind, EntryKind::File { .. }));
        }
    }
    let decoded = start.elapsed();
    println!(
        "{} bytes, encoded in {encoded:?}, decoded in {decoded:?}",
        archive.len()
    );
    assert_eq!(files, 200_000);
    assert!(encoded.as_secs() < 5 && decoded.as_secs() < 5);
}
