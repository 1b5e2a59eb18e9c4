//! What clients of the Proxmox Backup protocol upload and say; files that the original made among it.

use std::io;
use std::path::Path;

use relight_pbs::formats::blob::{self, Blob};
use relight_pbs::formats::catalog::{CatalogError, CatalogWriter, EntryKind};
use relight_pbs::formats::index::{DynamicEntry, DynamicIndex, FixedIndex, IndexHeader};

use super::Seed;

const NAMES: [&str; 9] = [
    "UPID:host:0000ABCD:00001234:00000001:6553F100:backup:store\\x3ahost-web:user@pbs!token:",
    "ns1/ns2/ns3",
    "drive-scsi0.img.fidx",
    "root.pxar.didx",
    "index.json.blob",
    "vm/100",
    "host/web-01.example_org",
    "vm/100/2023-11-15T00:15:01Z",
    "2023-11-15T00:15:01Z",
];

fn files() -> io::Result<Vec<Seed>> {
    let header = IndexHeader {
        uuid: [3; 16],
        ctime: 1_700_000_000,
    };
    let entry = |number: u64| DynamicEntry {
        end: number * 5000,
        digest: [number as u8; 32],
    };
    let dynamic = DynamicIndex::new(header, (1..4).map(entry).collect()).map_err(io::Error::other)?;
    let fixed = FixedIndex::new(header, (4 << 20) + 1, vec![[1; 32], [2; 32]]).map_err(io::Error::other)?;
    let encode = |compress| blob::encode(&b"content ".repeat(20), compress).map_err(io::Error::other);
    Ok(vec![
        ("pbs_files", "dynamic".into(), dynamic.encode()),
        ("pbs_files", "fixed".into(), fixed.encode()),
        ("pbs_files", "plain".into(), encode(false)?),
        ("pbs_files", "compressed".into(), encode(true)?),
    ])
}

fn catalog() -> Result<Vec<u8>, CatalogError> {
    let mut bytes = Vec::new();
    let mut catalog = CatalogWriter::new(&mut bytes)?;
    catalog.begin_directory(b"tree.pxar.didx");
    catalog.add(b"file", EntryKind::File { size: 300, mtime: -5 });
    catalog.begin_directory(b"folder");
    for (name, kind) in [
        (&b"link"[..], EntryKind::Symlink),
        (b"hard", EntryKind::Hardlink),
        (b"disk", EntryKind::BlockDevice),
        (b"null", EntryKind::CharDevice),
        (b"pipe", EntryKind::Fifo),
        (b"sock\xff", EntryKind::Socket),
    ] {
        catalog.add(name, kind);
    }
    catalog.end_directory()?;
    catalog.end_directory()?;
    catalog.finish()?;
    Ok(bytes)
}

/// Manifests, keys and an encrypted blob that the original made.
fn originals(crates: &Path) -> io::Result<Vec<Seed>> {
    let fixtures = crates.join("relight-pbs/tests/fixtures");
    let mut seeds: Vec<Seed> = Vec::new();
    for key in ["key-none.json", "key-scrypt.json"] {
        seeds.push((
            "pbs_words",
            key.into(),
            std::fs::read(fixtures.join("keys").join(key))?,
        ));
    }
    let snapshots = ["vm/100/2023-11-15T00:15:01Z", "host/fix/2023-11-14T22:13:21Z"];
    for (number, snapshot) in snapshots.iter().enumerate() {
        let bytes = std::fs::read(fixtures.join("datastore").join(snapshot).join("index.json.blob"))?;
        let text = Blob::parse(&bytes).and_then(|blob| blob.decode(1 << 20));
        seeds.push((
            "pbs_words",
            format!("manifest-{number}"),
            text.map_err(io::Error::other)?,
        ));
        seeds.push(("pbs_files", format!("manifest-{number}"), bytes));
    }
    let encrypted = fixtures.join("datastore/vm/100/2023-11-15T00:15:01Z/qemu-server.conf.blob");
    seeds.push(("pbs_files", "encrypted".into(), std::fs::read(encrypted)?));
    Ok(seeds)
}

pub fn seeds(crates: &Path) -> io::Result<Vec<Seed>> {
    let mut seeds = files()?;
    seeds.push((
        "pbs_files",
        "catalog".into(),
        catalog().map_err(io::Error::other)?,
    ));
    seeds.extend(originals(crates)?);
    for (number, name) in NAMES.iter().enumerate() {
        seeds.push(("pbs_words", format!("name-{number}"), name.as_bytes().to_vec()));
    }
    Ok(seeds)
}
