//! One call of `archive_command`.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::mpsc;

use super::spool::{Spool, fingerprint};
use crate::wal::error::{Result, WalError};
use crate::wal::name::WalName;
use crate::wal::store::{Checked, LogStore, NewFile, Pushed};

/// Files that one call takes along at most.
const TOGETHER: usize = 32;
/// No file of a log is larger.
const MOST: u64 = 1 << 30;

/// Puts the file at `path` into the log that `open` opens. When this returns, it is durable. What else is ready to be
/// archived beside it is taken along, and the spool remembers it for the calls that ask for it.
///
/// # Errors
/// As [`LogStore::push`], for the file that was asked for; the server keeps it and asks again.
pub fn push<E: From<WalError>>(
    path: &Path,
    spool: &Spool,
    open: impl FnOnce() -> Result<LogStore, E>,
) -> Result<Pushed, E> {
    let name = name_of(path)?;
    if spool.recall(name, || fingerprint(path).ok()) {
        return Ok(Pushed::Known);
    }
    let asked = Checked::of(read(path, name)?)?;
    let store = open()?;
    let (result, along) = push_all(&store, asked, &ready(path, name))?;
    for (name, fingerprint) in along {
        if let Err(error) = spool.remember(name, &fingerprint) {
            // Then it is compared when the server asks for it.
            tracing::debug!(%name, %error, "not remembered");
            break;
        }
    }
    Ok(result)
}

/// A file that was taken along, with what it is known by.
type Along = (WalName, String);

/// Stores the file that was asked for, and those that are ready as far as they are good.
fn push_all(store: &LogStore, asked: Checked, ready: &[(WalName, PathBuf)]) -> Result<(Pushed, Vec<Along>)> {
    let mut push = store.begin_push()?;
    let result = push.add_checked(asked)?;
    let mut along = Vec::new();
    // While one file is cut into chunks, the next is read and looked at.
    let (sender, receiver) = mpsc::sync_channel(1);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for (name, path) in ready {
                let look = || {
                    let before = fingerprint(path).ok()?;
                    let checked = Checked::of(read(path, *name).ok()?).ok()?;
                    // Only what lay still is known by what it looks like.
                    (fingerprint(path).ok()? == before).then_some((checked, before))
                };
                if let Some((checked, fingerprint)) = look()
                    && sender.send((*name, checked, fingerprint)).is_err()
                {
                    return;
                }
            }
        });
        for (name, checked, fingerprint) in receiver {
            match push.add_checked(checked) {
                Ok(_) => along.push((name, fingerprint)),
                // The server will ask for it, and be told.
                Err(error) if error.is_refusal() => tracing::debug!(%name, %error, "not taken along"),
                Err(error) => return Err(error),
            }
        }
        Ok(())
    })?;
    push.commit()?;
    Ok((result, along))
}

/// The name of the file at `path`.
pub fn name_of(path: &Path) -> Result<WalName> {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or_default();
    name.parse()
}

/// The file at `path`, and which cluster it belongs to.
fn read(path: &Path, name: WalName) -> Result<NewFile> {
    let size = fs::metadata(path).map_err(WalError::io("read", path))?.len();
    if size > MOST {
        return Err(WalError::NotWal {
            name: name.to_string(),
            why: format!("it has {size} bytes"),
        });
    }
    Ok(NewFile {
        name,
        bytes: fs::read(path).map_err(WalError::io("read", path))?,
        system: system_of(path),
    })
}

/// The system identifier of the cluster that a file in `pg_wal` belongs to: the first eight bytes of `pg_control`
/// (PostgreSQL's `src/include/catalog/pg_control.h`).
fn system_of(path: &Path) -> Option<u64> {
    let data = path.parent()?.parent()?;
    let control = fs::read(data.join("global/pg_control")).ok()?;
    Some(u64::from_ne_bytes(control.get(..8)?.try_into().ok()?))
}

/// What else the server is about to ask for, in the order in which it will.
fn ready(path: &Path, but: WalName) -> Vec<(WalName, PathBuf)> {
    let Some(folder) = path.parent() else {
        return Vec::new();
    };
    let Ok(entries) = fs::read_dir(folder.join("archive_status")) else {
        return Vec::new();
    };
    let name = |entry: fs::DirEntry| {
        entry
            .file_name()
            .to_str()?
            .strip_suffix(".ready")?
            .parse::<WalName>()
            .ok()
    };
    let mut names: Vec<WalName> = entries
        .flatten()
        .filter_map(name)
        .filter(|name| *name != but)
        .collect();
    // Histories come first, then what is oldest.
    names.sort_by_key(|name| (!matches!(name, WalName::History(_)), name.to_string()));
    names.truncate(TOGETHER - 1);
    names
        .into_iter()
        .map(|name| (name, folder.join(name.to_string())))
        .collect()
}
