//! What lies in a repository.

use std::io;
use std::path::Path;

use relight_fuzz::{REPOSITORY, entropy, keys};
use relight_keys::{KeyFile, ObjectKind, RecoveryKey, create, open_object, seal_object_with};
use relight_repo::index::file::IndexFile;
use relight_repo::index::{PackLine, Segment};
use relight_repo::pack::format::{Header, Trailer, encode_toc};
use relight_repo::pack::{Codec, PackKind, Record};
use relight_repo::{ChunkId, PackId, SegmentId, fuzzing};

use super::Seed;

const MANIFEST: &str = r#"{"version":1,"id":"77777777777777777777777777777777","workload":"host/web01",
"time":"2026-11-22T10:00:00Z","published":"2026-11-22T10:01:00.5Z","host":"web01","program":"relight 0.1.0",
"archives":[{"name":"disk.img","kind":"image","root":{"id":"2222222222222222222222222222222222222222222222222222222222222222","levels":1,"size":8388608}},
{"name":"etc.mpxar","kind":"pxar-metadata","root":{"id":"0000000000000000000000000000000000000000000000000000000000000000","levels":0,"size":0}}],
"parent":"88888888888888888888888888888888","attributes":{"path.etc":"/etc"},"incomplete":["/etc/x: changed"],
"figures":{"logical":1,"added":2,"stored":3,"new_chunks":4,"known_chunks":5},"retain_until":"2027-01-01T00:00:00Z"}"#;

fn records() -> Vec<Record> {
    let mut offset = 64;
    let made = [
        (Codec::Plain, 100, 116),
        (Codec::Zstd, 5000, 216),
        (Codec::Plain, 0, 16),
    ];
    let record = |(number, (codec, raw, stored)): (usize, (Codec, u32, u32))| {
        let id = ChunkId([number as u8 * 3 + 1; 32]);
        let record = Record {
            id,
            offset,
            stored,
            raw,
            codec,
        };
        offset += stored;
        record
    };
    made.into_iter().enumerate().map(record).collect()
}

fn segment() -> Segment {
    let line = |number, kind| PackLine {
        id: PackId([number; 16]),
        kind,
        key: keys().current().id(),
        size: 1000,
    };
    let mut segment = Segment {
        supersedes: vec![SegmentId([9; 16])],
        ..Segment::default()
    };
    segment.add_pack(line(1, PackKind::Data), &records());
    segment.add_pack(line(2, PackKind::Metadata), &records()[..1]);
    segment.sort();
    segment
}

fn packs() -> Vec<Seed> {
    let header = Header {
        kind: PackKind::Data,
        key: keys().current().id(),
        id: PackId::default(),
        repository: REPOSITORY,
    };
    let records = records();
    let end = records.last().map_or(64, |last| last.offset + last.stored);
    let mut toc = end.to_le_bytes().to_vec();
    encode_toc(&records, &mut toc);
    let sealed = toc.len() as u32 - 4 + 16;
    let total = u64::from(end) + u64::from(sealed) + 32;
    let mut pack = header.encode().to_vec();
    pack.resize(total as usize - 32, 0x55);
    pack.extend_from_slice(&Trailer { toc: sealed, total }.encode());
    let content = b"content ".repeat(30);
    let frame = zstd::bulk::compress(&content, 1).expect("zstd works");
    let length = (content.len() as u16).to_le_bytes();
    vec![
        ("pack", "toc".into(), toc),
        ("pack", "whole".into(), pack),
        ("pack", "frame".into(), [&[1][..], &length, &frame].concat()),
        ("pack", "plain".into(), [&[0][..], &length, &content].concat()),
    ]
}

fn keyrings(crates: &Path) -> io::Result<Vec<Seed>> {
    let mut seeds: Vec<Seed> = Vec::new();
    let fixtures = crates.join("relight-keys/tests/fixtures/v1");
    for name in [
        "keyring-1.bin",
        "keyring-2.bin",
        "key-file.txt",
        "recovery-key.txt",
        "object.bin",
    ] {
        seeds.push(("keyring", name.into(), std::fs::read(fixtures.join(name))?));
    }
    let provider = KeyFile::generate(&mut entropy()).map_err(io::Error::other)?;
    let ring = create(REPOSITORY, &provider, "first key", 1_700_000_000, &mut entropy());
    let ring = ring.map_err(io::Error::other)?;
    seeds.push(("keyring", "own".into(), ring.bytes().to_vec()));
    seeds.push(("keyring", "name".into(), ring.name().to_string().into_bytes()));
    seeds.push(("keyring", "body".into(), relight_keys::fuzzing::body_of(&keys())));
    let sealed = seal_object_with(
        &mut entropy(),
        keys().current(),
        REPOSITORY,
        ObjectKind::SNAPSHOT,
        "snapshots/0",
        b"words",
    );
    seeds.push(("keyring", "sealed".into(), sealed.map_err(io::Error::other)?));
    let recovery = RecoveryKey::generate(&mut entropy()).map_err(io::Error::other)?;
    seeds.push((
        "keyring",
        "recovery".into(),
        recovery.to_text().as_bytes().to_vec(),
    ));
    Ok(seeds)
}

pub fn seeds(crates: &Path) -> io::Result<Vec<Seed>> {
    let mut seeds = packs();
    seeds.extend(keyrings(crates)?);

    let (segment, id) = (segment(), SegmentId::default());
    let sealed = segment
        .seal(keys().current(), REPOSITORY, id)
        .map_err(io::Error::other)?;
    let plain = open_object(
        &keys(),
        REPOSITORY,
        ObjectKind::INDEX_SEGMENT,
        &Segment::key(id),
        &sealed,
    );
    seeds.push((
        "index_segment",
        "segment".into(),
        plain.map_err(io::Error::other)?,
    ));

    let folder = tempfile::tempdir()?;
    let path = folder.path().join("file.idx");
    let entries = segment.entries.iter().copied();
    IndexFile::write(&path, &[id], &segment.packs, segment.entries.len(), entries)?;
    seeds.push(("index_cache", "file".into(), std::fs::read(&path)?));

    let golden = crates.join("relight-repo/tests/golden/v1/repository");
    seeds.push((
        "manifest",
        "descriptor".into(),
        std::fs::read(golden.join("relight.json"))?,
    ));
    seeds.push(("manifest", "json".into(), MANIFEST.into()));
    seeds.push((
        "manifest",
        "frame".into(),
        zstd::bulk::compress(MANIFEST.as_bytes(), 3)?,
    ));

    for (number, (kind, record)) in fuzzing::records().into_iter().enumerate() {
        seeds.push((
            "records",
            format!("record-{number}"),
            [&[kind.0][..], &record].concat(),
        ));
    }

    let pack: Vec<u8> = (0..700u32).map(|number| (number * 7 % 251) as u8).collect();
    for percent in [5, 100] {
        let object = fuzzing::parity(&pack, percent);
        let whole = [&pack[..], &object, &700u16.to_le_bytes()].concat();
        seeds.push(("parity", format!("whole-{percent}"), whole));
        let mut lost = pack.clone();
        lost[..64].fill(0);
        seeds.push((
            "parity",
            format!("damaged-{percent}"),
            [&lost[..], &object, &700u16.to_le_bytes()].concat(),
        ));
        seeds.push((
            "parity",
            format!("alone-{percent}"),
            [&object[..], &[0, 0]].concat(),
        ));
    }

    for level in 1..=3u8 {
        let mut node = vec![b'R', b'N', 1, level];
        for (span, id) in [(4u64 << 20, ChunkId([level; 32])), (1 << 40, ChunkId::ZEROS)] {
            node.extend_from_slice(&span.to_le_bytes());
            node.extend_from_slice(&id.0);
        }
        seeds.push(("tree", format!("level-{level}"), node));
    }
    Ok(seeds)
}
