//! Which files of a data directory belong to a backup (documentation of PostgreSQL, "Backing Up The Data Directory";
//! rules of BASE_BACKUP in `backup/basebackup.c`).

use std::collections::HashSet;
use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::control;
use super::files::Tablespace;
use super::label;
use crate::error::{PostgresError, Result};

/// Directories that are kept and whose contents are not.
const EMPTIED: [&str; 8] = [
    "pg_dynshmem",
    "pg_notify",
    "pg_replslot",
    "pg_serial",
    "pg_snapshots",
    "pg_stat_tmp",
    "pg_subtrans",
    "pg_wal",
];
/// Files of the top that are of no use.
const LEFT_OUT: [&str; 10] = [
    "postmaster.pid",
    "postmaster.opts",
    label::PATH,
    "backup_label.old",
    label::MAP,
    "tablespace_map.old",
    "backup_manifest",
    "postgresql.auto.conf.tmp",
    "current_logfiles.tmp",
    "pg_internal.init",
];

/// One thing that was found.
#[derive(Debug)]
pub(super) struct Found {
    /// Its path in the list of files.
    pub path: String,
    /// Where it is.
    pub place: PathBuf,
    pub kind: FoundKind,
    pub mode: u32,
    pub modified: i64,
}

#[derive(Debug)]
pub(super) enum FoundKind {
    Directory,
    Link(String),
    File { size: u64, stamp: String },
}

/// What a file is known by from one backup to the next, and when it changed last, in nanoseconds since 1970.
pub(super) fn stamp(meta: &fs::Metadata) -> (String, i128) {
    let nanoseconds = |seconds: i64, rest: i64| i128::from(seconds) * 1_000_000_000 + i128::from(rest);
    let modified = nanoseconds(meta.mtime(), meta.mtime_nsec());
    let changed = nanoseconds(meta.ctime(), meta.ctime_nsec());
    (
        format!("{}:{}:{modified}:{changed}", meta.dev(), meta.ino()),
        modified.max(changed),
    )
}

/// Tablespaces outside the data directory.
pub(super) fn tablespaces(data: &Path) -> Result<Vec<Tablespace>> {
    let folder = data.join("pg_tblspc");
    let mut spaces = Vec::new();
    for entry in fs::read_dir(&folder).map_err(PostgresError::io("look into", &folder))? {
        let entry = entry.map_err(PostgresError::io("look into", &folder))?;
        let path = entry.path();
        let Ok(oid) = entry.file_name().to_string_lossy().parse() else {
            continue;
        };
        if !path.is_symlink() {
            continue;
        }
        let place = fs::read_link(&path).map_err(PostgresError::io("read the link", &path))?;
        if place.starts_with(data) {
            return Err(PostgresError::Refused(format!(
                "tablespace {oid} lies in the data directory ({}): move it elsewhere",
                place.display()
            )));
        }
        let location = place
            .to_str()
            .ok_or_else(|| PostgresError::Refused(format!("the place of tablespace {oid} is not UTF-8")))?;
        spaces.push(Tablespace {
            oid,
            location: location.to_string(),
        });
    }
    spaces.sort_by_key(|space| space.oid);
    Ok(spaces)
}

/// Everything that belongs to a backup but `pg_control`, in a fixed order. What goes away meanwhile is not missed: the log
/// says why.
pub(super) fn scan(data: &Path, spaces: &[Tablespace]) -> Result<Vec<Found>> {
    let mut found = Vec::new();
    walk(data, "", &mut found)?;
    for space in spaces {
        let path = format!("pg_tblspc/{}", space.oid);
        let place = PathBuf::from(&space.location);
        let meta = fs::metadata(&place).map_err(PostgresError::io("look at", &place))?;
        found.push(directory(path.clone(), place.clone(), &meta));
        walk(&place, &path, &mut found)?;
    }
    Ok(found)
}

fn directory(path: String, place: PathBuf, meta: &fs::Metadata) -> Found {
    Found {
        path,
        place,
        kind: FoundKind::Directory,
        mode: meta.mode() & 0o7777,
        modified: meta.mtime(),
    }
}

fn walk(folder: &Path, prefix: &str, found: &mut Vec<Found>) -> Result<()> {
    let gone = |error: &io::Error| error.kind() == io::ErrorKind::NotFound;
    let entries = match fs::read_dir(folder) {
        Err(error) if gone(&error) => return Ok(()),
        other => other.map_err(PostgresError::io("look into", folder))?,
    };
    let mut names = Vec::new();
    for entry in entries {
        let entry = entry.map_err(PostgresError::io("look into", folder))?;
        match entry.file_name().into_string() {
            Ok(name) => names.push(name),
            Err(name) => tracing::warn!(
                "{} is not saved: its name is not UTF-8",
                folder.join(name).display()
            ),
        }
    }
    names.sort_unstable();
    let unlogged: HashSet<String> = names
        .iter()
        .filter_map(|name| name.strip_suffix("_init"))
        .map(String::from)
        .collect();
    for name in names {
        let path = if prefix.is_empty() {
            name.clone()
        } else {
            format!("{prefix}/{name}")
        };
        if is_left_out(&path, &name, &unlogged) {
            continue;
        }
        let place = folder.join(&name);
        let meta = match place.symlink_metadata() {
            Err(error) if gone(&error) => continue,
            other => other.map_err(PostgresError::io("look at", &place))?,
        };
        let kind = meta.file_type();
        if kind.is_dir() || (EMPTIED.contains(&path.as_str()) && place.is_dir()) {
            found.push(directory(path.clone(), place.clone(), &meta));
            if path == "pg_wal" {
                // The server does not make it by itself.
                found.push(directory("pg_wal/archive_status".into(), place, &meta));
            } else if !EMPTIED.contains(&path.as_str()) {
                walk(&place, &path, found)?;
            }
        } else if kind.is_file() {
            let (stamp, _) = stamp(&meta);
            found.push(Found {
                path,
                place,
                kind: FoundKind::File {
                    size: meta.len(),
                    stamp,
                },
                mode: meta.mode() & 0o7777,
                modified: meta.mtime(),
            });
        } else if kind.is_symlink() && prefix != "pg_tblspc" {
            let to = fs::read_link(&place).map_err(PostgresError::io("read the link", &place))?;
            found.push(Found {
                path,
                kind: FoundKind::Link(to.display().to_string()),
                place,
                mode: meta.mode() & 0o7777,
                modified: meta.mtime(),
            });
        }
    }
    Ok(())
}

fn is_left_out(path: &str, name: &str, unlogged: &HashSet<String>) -> bool {
    if path == control::PATH
        || LEFT_OUT.contains(&path)
        || name.starts_with("pgsql_tmp")
        || name.starts_with("pg_internal.init")
        || matches!(path, "recovery.signal" | "standby.signal")
    {
        return true;
    }
    let is_data = ["base/", "global/", "pg_tblspc/"]
        .iter()
        .any(|place| path.starts_with(place));
    if !is_data {
        return false;
    }
    // Of temporary relations: t3_16384, t3_16384_fsm.1.
    if let Some((backend, _)) = name.strip_prefix('t').and_then(|rest| rest.split_once('_'))
        && !backend.is_empty()
        && backend.bytes().all(|byte| byte.is_ascii_digit())
    {
        return true;
    }
    // Of an unlogged relation only the form that it begins with.
    let node = name.split(['.', '_']).next().unwrap_or_default();
    unlogged.contains(node) && !name.contains("_init")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_left_out() {
        let unlogged = HashSet::from(["5".to_string()]);
        let out = |path: &str| {
            let name = path.rsplit('/').next().unwrap();
            is_left_out(path, name, &unlogged)
        };
        for path in [
            "postmaster.pid",
            "backup_label",
            "global/pg_control",
            "global/pg_internal.init",
            "base/1/pg_internal.init.123",
            "base/pgsql_tmp",
            "base/1/t3_16384",
            "base/1/t3_16384_fsm.1",
            "base/1/5",
            "base/1/5.1",
            "base/1/5_fsm",
            "standby.signal",
        ] {
            assert!(out(path), "{path}");
        }
        for path in [
            "PG_VERSION",
            "postgresql.auto.conf",
            "base/1/5_init",
            "base/1/55",
            "base/1/2619_vm",
            "conf.d/tables",
            "global/pg_filenode.map",
        ] {
            assert!(!out(path), "{path}");
        }
    }
}
