//! The mark of a restore that is under way: a file in the data directory that is there before anything else is, and goes
//! when `pg_control` has come.
//!
//! A restore that was killed leaves it. By it the next one tells a directory that it may go on with from one that is
//! somebody else's, whatever had been written of it; and a lock on it tells that a restore is still at work.

use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use relight_repo::snapshot::Snapshot;
use rustix::fs::{FlockOperation, OFlags};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use super::layout::Places;
use crate::base::About;
use crate::error::{PostgresError, Result};

/// Name of the file, in the data directory.
pub(super) const MARK: &str = "relight-restore.unfinished";
/// The directory may be another user's, who must not have this one write elsewhere.
const NO_LINK: i32 = OFlags::NOFOLLOW.bits().cast_signed();
/// No such file is longer.
const MOST: u64 = 1 << 20;

/// A restore that did not come to its end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unfinished {
    /// What it restored.
    pub snapshot: String,
    /// When it began.
    pub began: Timestamp,
    /// Identity of the cluster.
    #[serde(rename = "system-identifier")]
    pub system: u64,
    /// Directories that it restored to: that of the data and those of tablespaces.
    pub places: Vec<PathBuf>,
}

impl Unfinished {
    /// Looks whether one is in a directory. One line for each restore that was begun there; what the last of several says
    /// counts, and the places of all.
    ///
    /// # Errors
    /// The mark cannot be read, or the restore is still at work.
    pub(super) fn find(directory: &Path) -> Result<Option<Self>> {
        let path = directory.join(MARK);
        let mut options = fs::OpenOptions::new();
        let file = match options.read(true).custom_flags(NO_LINK).open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            opened => opened.map_err(PostgresError::io("open", &path))?,
        };
        // A file system without locks says something else.
        if let Err(Errno::WOULDBLOCK) = rustix::fs::flock(&file, FlockOperation::NonBlockingLockShared) {
            return Err(at_work(directory));
        }
        let mut text = String::new();
        file.take(MOST)
            .read_to_string(&mut text)
            .map_err(PostgresError::io("read", &path))?;
        // A line that was not written to its end is none.
        let begun = text
            .lines()
            .filter_map(|line| serde_json::from_str::<Self>(line).ok());
        Ok(begun.reduce(|earlier, mut later| {
            for place in earlier.places {
                if !later.places.contains(&place) {
                    later.places.push(place);
                }
            }
            later
        }))
    }

    /// What to say to somebody who wants to restore into a directory in which it is.
    pub(super) fn refusal(&self, directory: &Path) -> PostgresError {
        PostgresError::Refused(format!(
            "{} holds a restore of snapshot {} that began at {} and did not come to its end: nothing was changed; with \
             --delta it is completed, and what is there already is not written again; or choose another place",
            directory.display(),
            self.short(),
            self.began.strftime("%Y-%m-%d %H:%M:%SZ"),
        ))
    }

    /// The beginning of the snapshot's name.
    pub fn short(&self) -> &str {
        self.snapshot.get(..8).unwrap_or(&self.snapshot)
    }
}

fn at_work(directory: &Path) -> PostgresError {
    PostgresError::Refused(format!(
        "another restore is at work in {}: wait for its end, or end it; nothing was changed",
        directory.display()
    ))
}

/// The mark of the restore of this process, locked for as long as it is at work.
pub(super) struct Mark {
    path: PathBuf,
    _file: File,
}

impl Mark {
    /// Makes it, in a data directory that exists, or adds to the one that is there. It is on disk afterwards.
    pub fn set(places: &Places, snapshot: &Snapshot, about: &About) -> Result<Self> {
        let directory = places.directory();
        let path = directory.join(MARK);
        let failed = || PostgresError::io("write", &path);
        let mut file = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .custom_flags(NO_LINK)
            .open(&path)
            .map_err(failed())?;
        if let Err(Errno::WOULDBLOCK) = rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
            return Err(at_work(directory));
        }
        let line = serde_json::to_string(&Unfinished {
            snapshot: snapshot.id.to_string(),
            began: Timestamp::now(),
            system: about.system,
            places: places.roots(),
        })
        .map_err(|error| failed()(error.into()))?;
        // Ends what an earlier one did not write to its end.
        let written = file
            .write_all(format!("\n{line}\n").as_bytes())
            .and_then(|()| file.sync_all())
            .and_then(|()| File::open(directory)?.sync_all());
        written.map_err(failed())?;
        Ok(Self { path, _file: file })
    }

    /// The restore came to its end: takes the mark away.
    pub fn clear(self) -> Result<()> {
        fs::remove_file(&self.path).map_err(PostgresError::io("remove", &self.path))
    }
}
