//! One call of `restore_command`.

use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, Instant};

use super::spool::{Spool, write_new};
use crate::wal::error::{Result, WalError};
use crate::wal::name::WalName;
use crate::wal::store::{Fetched, LogStore};

/// How long a file is waited for that is being fetched ahead.
const PATIENCE: Duration = Duration::from_secs(5);
const TICK: Duration = Duration::from_millis(5);

/// What became of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// The file is at its place; it had been fetched ahead.
    Ahead,
    /// The file is at its place.
    Found,
    /// The log ends before it.
    End,
}

/// Puts the file `name` of the log to `target`. What is not in the spool is looked for in the log that `open` opens.
/// With `partial`, the beginning of a segment that was never completed is taken for it, with zeros behind, where the log
/// ends there.
///
/// # Errors
/// Whatever is not known to be the end of the log: see [`LogStore::recover`]. Nothing is at `target` then.
pub fn fetch<E: From<WalError>>(
    name: WalName,
    target: &Path,
    spool: &Spool,
    partial: bool,
    open: impl FnOnce() -> Result<LogStore, E>,
) -> Result<Outcome, E> {
    let is_segment = matches!(name, WalName::Segment(_));
    if is_segment {
        let taken = take(name, target, spool)?;
        // A spool on a full disk only makes it slower.
        if let Err(error) = spool.set_cursor(name) {
            tracing::debug!(%error, "the process that fetches ahead was not told");
        }
        if taken {
            return Ok(Outcome::Ahead);
        }
    }
    let store = open()?;
    let fetched = if partial {
        store.recover_partial(name)?
    } else {
        store.recover(name)?
    };
    match fetched {
        Fetched::Found(bytes) => {
            place(&bytes, target)?;
            Ok(Outcome::Found)
        }
        Fetched::End => Ok(Outcome::End),
    }
}

/// Takes a file that was fetched ahead, or is about to be.
fn take(name: WalName, target: &Path, spool: &Spool) -> Result<bool> {
    let (ready, coming) = (spool.fetched(name), spool.fetching(name));
    let began = Instant::now();
    loop {
        match fs::rename(&ready, target) {
            Ok(()) => return Ok(true),
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            // Another file system.
            Err(_) => {
                let bytes = fs::read(&ready).map_err(WalError::io("read", &ready))?;
                place(&bytes, target)?;
                let _ = fs::remove_file(&ready);
                return Ok(true);
            }
        }
        if began.elapsed() > PATIENCE || !coming.exists() || !spool.is_locked() {
            // It may have become ready since it was looked for.
            return Ok(fs::rename(&ready, target).is_ok());
        }
        std::thread::sleep(TICK);
    }
}

fn place(bytes: &[u8], target: &Path) -> Result<()> {
    write_new(target, bytes)
        .map_err(WalError::io("write", target))
        .inspect_err(|_| {
            let _ = fs::remove_file(target);
        })
}
