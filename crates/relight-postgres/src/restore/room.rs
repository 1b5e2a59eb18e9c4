//! Whether what is to be restored has room where it goes. It is looked at before the first byte is written.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::layout::Places;
use crate::base::files::{EntryKind, FileList};
use crate::error::{PostgresError, Result};

/// Type of ZFS, by statfs(2). It compresses what it stores: how much of something goes into its free space is not known.
const ZFS: u64 = 0x2fc1_2fc1;

/// A file system that something goes to.
struct Place {
    /// The first of the directories on it.
    root: PathBuf,
    needed: u64,
    free: u64,
    block: u64,
    is_zfs: bool,
    roots: Vec<PathBuf>,
}

/// What has no room on one file system.
#[derive(Debug)]
pub(super) struct Lack {
    /// The first of the directories on it.
    pub place: PathBuf,
    /// Bytes that all of it takes there.
    pub needed: u64,
    /// Bytes that there are for it: free, or taken by what is in the directories, which is written over or removed first.
    pub room: u64,
}

/// Refuses what has no room. `log` are bytes of the log beside the files of the list.
pub(super) fn check(places: &Places, list: &FileList, log: u64) -> Result<()> {
    match lack(places, list, log)? {
        Some(lack) => Err(PostgresError::NoRoom {
            place: lack.place,
            needed: lack.needed,
            room: lack.room,
        }),
        None => Ok(()),
    }
}

/// What has no room.
pub(super) fn lack(places: &Places, list: &FileList, log: u64) -> Result<Option<Lack>> {
    let (mut found, by_root) = file_systems(places)?;
    let mut add = |root: usize, bytes: u64| {
        if let Some(place) = by_root.get(root).and_then(|device| found.get_mut(device)) {
            let whole = bytes.checked_next_multiple_of(place.block).unwrap_or(bytes);
            place.needed = place.needed.saturating_add(whole);
        }
    };
    for entry in &list.entries {
        let bytes = match entry.kind {
            EntryKind::File { size, .. } if !is_put_again(&entry.path, log) => size,
            // A directory takes a block.
            EntryKind::Directory => 1,
            _ => continue,
        };
        add(places.root_of(&entry.path), bytes);
    }
    add(0, log);
    let is_tight = |place: &&Place| !place.is_zfs && place.needed > place.free;
    let mut lacks = found.values().filter(is_tight).map(|place| {
        let there = place.roots.iter().map(|root| taken(root)).sum::<u64>();
        Lack {
            place: place.root.clone(),
            needed: place.needed,
            room: place.free.saturating_add(there),
        }
    });
    Ok(lacks.find(|lack| lack.needed > lack.room))
}

/// Whether a file of the backup's own log is written over by the log that is put there.
fn is_put_again(path: &str, log: u64) -> bool {
    log > 0
        && path
            .strip_prefix("pg_wal/")
            .is_some_and(|name| !name.contains('/'))
}

/// The file systems by their devices, and the device of each root.
fn file_systems(places: &Places) -> Result<(BTreeMap<u64, Place>, Vec<u64>)> {
    let mut found: BTreeMap<u64, Place> = BTreeMap::new();
    let mut by_root = Vec::new();
    for root in places.roots() {
        let there = root.ancestors().find(|path| path.exists()).unwrap_or(&root);
        let failed = || PostgresError::io("look at", there);
        let device = fs::metadata(there).map_err(failed())?.dev();
        let known = |error: rustix::io::Errno| failed()(io::Error::from(error));
        let stat = rustix::fs::statvfs(there).map_err(known)?;
        let kind = rustix::fs::statfs(there).map_err(known)?.f_type;
        by_root.push(device);
        let place = found.entry(device).or_insert_with(|| Place {
            root: root.clone(),
            needed: 0,
            free: stat.f_bavail.saturating_mul(stat.f_frsize),
            block: stat.f_frsize.max(1),
            is_zfs: kind as u64 == ZFS,
            roots: Vec::new(),
        });
        place.roots.push(root);
    }
    Ok((found, by_root))
}

/// Bytes that a directory and all in it take. What cannot be looked at counts nothing.
pub(super) fn taken(directory: &Path) -> u64 {
    let Ok(entries) = fs::read_dir(directory) else {
        return 0;
    };
    let own = fs::symlink_metadata(directory).map_or(0, |meta| meta.blocks());
    entries.flatten().fold(own.saturating_mul(512), |sum, entry| {
        let bytes = match entry.file_type() {
            Ok(kind) if kind.is_dir() => taken(&entry.path()),
            Ok(_) => entry
                .metadata()
                .map_or(0, |meta| meta.blocks().saturating_mul(512)),
            Err(_) => 0,
        };
        sum.saturating_add(bytes)
    })
}
