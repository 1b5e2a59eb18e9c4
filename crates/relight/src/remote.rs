//! What is in a snapshot of a server, by the names that people know it by.

use relight_pbs::client::{ReaderSession, saved_from};
use relight_pbs::formats::ids::FileKind;
use relight_pbs::formats::manifest::Manifest;
use relight_workloads::files::{METADATA, PAYLOAD, STAT, WHOLE};

use crate::failure::{Failure, Result};

/// Something in a snapshot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A tree, by the name that its archives share.
    Tree(String),
    /// `disk.img`.
    Image(String),
    /// Any other stream.
    Stream(String),
    /// A small file, such as `qemu-server.conf`.
    Small(String),
}

impl Item {
    /// Its name at the root of the snapshot.
    pub fn name(&self) -> &str {
        match self {
            Self::Tree(name) | Self::Image(name) | Self::Stream(name) | Self::Small(name) => name,
        }
    }

    /// Whether it is the list of names that the original client keeps beside trees, of no use by itself.
    pub fn is_catalog(&self) -> bool {
        self.name() == "catalog.pcat1"
    }
}

/// Everything in a snapshot, in the order of its manifest.
pub fn items(manifest: &Manifest) -> Vec<Item> {
    let has = |name: &str, ending: &str| manifest.file(&format!("{name}{ending}.didx")).is_some();
    let mut items = Vec::new();
    for file in &manifest.files {
        let stem = file.filename.stem();
        let item = match file.filename.kind() {
            FileKind::FixedIndex => Item::Image(stem.to_string()),
            FileKind::Blob => Item::Small(stem.to_string()),
            FileKind::DynamicIndex => {
                let of_split = |ending: &str| {
                    let name = stem.strip_suffix(ending)?;
                    (has(name, METADATA) && has(name, PAYLOAD)).then_some(name)
                };
                if let Some(name) = of_split(METADATA) {
                    Item::Tree(name.to_string())
                } else if of_split(PAYLOAD).or_else(|| of_split(STAT)).is_some() {
                    continue;
                } else if let Some(name) = stem.strip_suffix(WHOLE).filter(|name| !has(name, METADATA)) {
                    Item::Tree(name.to_string())
                } else {
                    Item::Stream(stem.to_string())
                }
            }
        };
        items.push(item);
    }
    items
}

/// What a path means: a name at the root of the snapshot and what is below it, or where a tree was saved from.
pub fn find(manifest: &Manifest, items: &[Item], path: &[u8]) -> Result<(Item, Vec<u8>)> {
    let parts = |path: &[u8]| -> Vec<Vec<u8>> {
        let parts = path.split(|byte| *byte == b'/').filter(|part| !part.is_empty());
        parts.map(<[u8]>::to_vec).collect()
    };
    let given = parts(path);
    if path.first() == Some(&b'/') {
        let mut trees: Vec<(&Item, usize)> = Vec::new();
        for item in items.iter().filter(|item| matches!(item, Item::Tree(_))) {
            let origin = saved_from(manifest, item.name()).map(|origin| parts(origin.as_bytes()));
            if let Some(origin) = origin.filter(|origin| given.starts_with(origin)) {
                trees.push((item, origin.len()));
            }
        }
        if let Some((item, length)) = trees.into_iter().max_by_key(|(_, length)| *length) {
            return Ok((item.clone(), given[length..].join(&b'/')));
        }
    }
    let first = given.first().map(Vec::as_slice).unwrap_or_default();
    let found = items.iter().find(|item| item.name().as_bytes() == first);
    let found = found.filter(|item| given.len() < 2 || matches!(item, Item::Tree(_)));
    let known: Vec<&str> = items.iter().map(Item::name).collect();
    let item = found.ok_or_else(|| {
        Failure::Usage(format!(
            "the snapshot has no {}; at its root are: {}",
            String::from_utf8_lossy(path),
            known.join(", ")
        ))
    })?;
    Ok((item.clone(), given[1..].join(&b'/')))
}

/// Bytes of the archives of these names, as the manifest has them.
pub fn size(session: &ReaderSession, names: &[&str]) -> u64 {
    let of = |name: &&str| -> u64 {
        let endings = ["", PAYLOAD, WHOLE];
        let files = session.manifest().files.iter();
        let is_its = |stem: &str| {
            endings
                .iter()
                .any(|ending| stem.strip_suffix(ending) == Some(name))
        };
        files
            .filter(|file| is_its(file.filename.stem()))
            .map(|file| file.size)
            .sum()
    };
    names.iter().map(of).sum()
}
