//! Archives of both versions, and what goes beside them.

use std::io;
use std::path::Path;

use relight_pxar::format::mode;
use relight_pxar::fs::posix_acl;
use relight_pxar::fs::stat_records::{StatRecord, header};
use relight_pxar::metadata::{Acl, DefaultAcl};
use relight_pxar::{EncodeError, Encoder, FileTime, Metadata, payload};

use super::Seed;

fn metadata(kind: u32) -> Metadata {
    Metadata {
        mode: kind | 0o640,
        uid: 1000,
        gid: 1001,
        mtime: FileTime {
            secs: 1_700_000_000,
            nanos: 5,
        },
        ..Metadata::default()
    }
}

/// Everything that an entry can have.
fn rich() -> Metadata {
    Metadata {
        flags: 0x10,
        xattrs: vec![
            (b"user.a".to_vec(), b"value".to_vec()),
            (b"security.x".to_vec(), vec![0, 255]),
        ],
        acl: acl(),
        fcaps: Some(vec![1, 0, 0, 2, 0, 32, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]),
        project_id: Some(42),
        ..metadata(mode::FILE)
    }
}

fn acl() -> Acl {
    Acl {
        users: vec![(1000, 6)],
        groups: vec![(100, 4), (101, 0)],
        group_obj: Some(5),
        default: None,
    }
}

fn folder() -> Metadata {
    let default = DefaultAcl {
        user_obj: Some(7),
        group_obj: Some(5),
        other: Some(0),
        mask: Some(7),
        users: vec![(1, 2)],
        groups: vec![(3, 4)],
    };
    Metadata {
        acl: Acl {
            default: Some(default),
            ..Acl::default()
        },
        ..metadata(mode::DIRECTORY)
    }
}

/// A folder with something of every kind; version 2 takes contents from a payload stream.
fn fill(encoder: &mut Encoder<Vec<u8>>, v2: bool) -> Result<(), EncodeError> {
    let plain = metadata(mode::DIRECTORY);
    encoder.add_device(b"block", &metadata(mode::BLOCK), 8, 1)?;
    encoder.add_device(b"char", &metadata(mode::CHARACTER), 1, 3)?;
    encoder.add_fifo(b"fifo", &metadata(mode::FIFO))?;
    let position = if v2 {
        encoder.add_file_ref(b"file", &rich(), 16, 9)?
    } else {
        encoder
            .add_file(b"file", &rich(), 9, &mut &b"content 1"[..])?
            .position
    };
    encoder.start_directory(b"folder", &folder())?;
    encoder.start_directory(b"empty", &plain)?;
    encoder.end_directory()?;
    if v2 {
        encoder.add_file_ref(b"file", &metadata(mode::FILE), 16 + 16 + 9, 0)?;
    } else {
        encoder.add_file(b"file", &metadata(mode::FILE), 0, &mut &b""[..])?;
    }
    encoder.add_symlink(b"link", &metadata(mode::SYMLINK), b"../file")?;
    encoder.end_directory()?;
    encoder.add_hardlink(b"hard", b"file", position)?;
    encoder.add_socket(b"name", &metadata(mode::SOCKET))?;
    encoder.add_symlink(b"z\xff", &metadata(mode::SYMLINK), b"/does/not/exist")?;
    Ok(())
}

fn stream() -> Vec<u8> {
    let parts = [
        &payload::START_MARKER[..],
        &payload::header(9),
        b"content 1",
        &payload::header(0),
        &payload::TAIL_MARKER,
    ];
    parts.concat()
}

/// For the target that wants the payload behind the archive, and its length.
fn with_payload(archive: &[u8], payload: &[u8]) -> Vec<u8> {
    [archive, payload, &(payload.len() as u16).to_le_bytes()].concat()
}

fn stats() -> Vec<u8> {
    let mut bytes = header(FileTime {
        secs: 1_700_000_000,
        nanos: 9,
    })
    .to_vec();
    for ino in 1..4 {
        let record = StatRecord {
            ino,
            ctime: FileTime { secs: -5, nanos: 7 },
            nlink: 1,
            dev: 8 << 32 | 1,
            allocated: 4096,
        };
        bytes.extend_from_slice(&record.to_bytes());
    }
    bytes
}

pub fn seeds(crates: &Path) -> io::Result<Vec<Seed>> {
    let root = metadata(mode::DIRECTORY);
    let made = |v2: bool, prelude: Option<&[u8]>| -> Result<Vec<u8>, EncodeError> {
        let mut encoder = if v2 {
            Encoder::new(Vec::new(), prelude, &root)?
        } else {
            Encoder::new_v1(Vec::new(), &root)?
        };
        fill(&mut encoder, v2)?;
        encoder.finish()
    };
    let made = |v2, prelude| made(v2, prelude).map_err(io::Error::other);
    let (v1, v2, prelude) = (
        made(false, None)?,
        made(true, None)?,
        made(true, Some(b"*.tmp\n"))?,
    );
    let mut seeds: Vec<Seed> = Vec::new();
    for (name, archive) in [("v1", &v1), ("v2", &v2), ("v2-prelude", &prelude)] {
        seeds.push(("pxar_decode", name.into(), archive.clone()));
        seeds.push(("pxar_access", name.into(), with_payload(archive, &stream())));
    }
    // Made by the original; of the version 1 archive, which holds large files, only the beginning.
    let fixtures = crates.join("relight-pxar/tests/fixtures");
    for name in ["data.mpxar", "metadata.mpxar"] {
        let archive = std::fs::read(fixtures.join(name))?;
        seeds.push(("pxar_decode", name.into(), archive.clone()));
        seeds.push(("pxar_access", name.into(), with_payload(&archive, &[])));
    }
    let mut whole = std::fs::read(fixtures.join("tree.pxar"))?;
    whole.truncate(6 << 10);
    seeds.push(("pxar_decode", "tree.pxar".into(), whole));

    seeds.push(("stat_records", "records".into(), stats()));
    for (name, value) in [
        ("access", posix_acl::access_value(0o640, &acl())),
        (
            "default",
            folder().acl.default.as_ref().map(posix_acl::default_value),
        ),
    ] {
        seeds.extend(value.map(|value| ("stat_records", name.to_string(), value)));
    }
    Ok(seeds)
}
