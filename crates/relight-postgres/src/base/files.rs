//! The list of what a base backup holds, and where the content of each file lies in its archive.

use std::io::Write;

use relight_repo::read::ArchiveReader;
use serde::{Deserialize, Serialize};

use crate::error::{PostgresError, Result};

/// The version this program writes.
const VERSION: u32 = 1;
/// No list is longer.
const MOST: u64 = 1 << 30;

/// What a base backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileList {
    version: u32,
    /// Files are cut into chunks of this many bytes, from the beginning of each.
    pub chunk: u64,
    /// Tablespaces other than those in the data directory.
    pub tablespaces: Vec<Tablespace>,
    /// Directories, files and links, in the order in which they came.
    pub entries: Vec<Entry>,
}

/// A tablespace outside the data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tablespace {
    /// Its number: the name of its link in `pg_tblspc`.
    pub oid: u32,
    /// Where it was.
    pub location: String,
}

/// One thing in the data directory or a tablespace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its path from the data directory; what is in a tablespace is under `pg_tblspc/OID`.
    pub path: String,
    /// What it is.
    #[serde(flatten)]
    pub kind: EntryKind,
    /// Permissions.
    pub mode: u32,
    /// Time of its last change, seconds since 1970.
    pub modified: i64,
    /// Of a file that was read on its host: by what the next backup sees that it did not change.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stamp: Option<String>,
}

/// What an entry is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "kebab-case")]
pub enum EntryKind {
    /// A directory.
    Directory,
    /// A symbolic link.
    Link {
        /// To this.
        to: String,
    },
    /// A file.
    File {
        /// Its bytes.
        size: u64,
        /// Where they begin in the archive.
        offset: u64,
    },
}

impl FileList {
    /// With nothing in it yet.
    pub fn new(chunk: u64, tablespaces: Vec<Tablespace>) -> Self {
        Self {
            version: VERSION,
            chunk,
            tablespaces,
            entries: Vec::new(),
        }
    }

    /// Its bytes.
    pub fn encode(&self) -> Result<Vec<u8>> {
        let mut bytes = serde_json::to_vec(self)
            .map_err(|error| PostgresError::damaged("the list of files", error.to_string()))?;
        bytes
            .write_all(b"\n")
            .map_err(|error| PostgresError::damaged("the list of files", error.to_string()))?;
        Ok(bytes)
    }

    /// Reads an archive that holds one, for a content of `content` bytes.
    pub fn load(archive: &ArchiveReader, content: u64) -> Result<Self> {
        let damaged = |why: String| PostgresError::damaged("the list of files of a base backup", why);
        if archive.size() > MOST {
            return Err(damaged(format!("it has {} bytes", archive.size())));
        }
        let mut bytes = vec![0; archive.size() as usize];
        archive.read_exact_at(&mut bytes, 0)?;
        let list: Self = serde_json::from_slice(&bytes).map_err(|error| damaged(error.to_string()))?;
        if list.version != VERSION {
            return Err(damaged(format!(
                "it has version {}, and this program reads version {VERSION}: use a newer one",
                list.version
            )));
        }
        if !list.chunk.is_power_of_two() || list.chunk < 8192 {
            return Err(damaged(format!("its chunks have {} bytes", list.chunk)));
        }
        for entry in &list.entries {
            if !is_inside(&entry.path) {
                return Err(damaged(format!(
                    "{:?} is no path in a data directory",
                    entry.path
                )));
            }
            if let EntryKind::File { size, offset } = entry.kind
                && offset.checked_add(size).is_none_or(|end| end > content)
            {
                return Err(damaged(format!("{} lies outside the content", entry.path)));
            }
        }
        Ok(list)
    }

    /// Bytes of all files.
    pub fn bytes(&self) -> u64 {
        self.entries.iter().map(Entry::size).sum()
    }
}

impl Entry {
    /// Bytes of its content.
    pub fn size(&self) -> u64 {
        match self.kind {
            EntryKind::File { size, .. } => size,
            _ => 0,
        }
    }

    /// The last part of its path.
    pub fn name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }
}

/// Whether a path leads nowhere but into the directory it is relative to.
fn is_inside(path: &str) -> bool {
    path.split('/')
        .all(|part| !matches!(part, "" | "." | "..") && !part.contains('\0'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_that_lead_elsewhere() {
        for good in ["PG_VERSION", "base/1/2", "pg_tblspc/1/PG_17/5/6", "..."] {
            assert!(is_inside(good), "{good}");
        }
        for bad in ["", "/etc/passwd", "..", "a/../../b", "a//b", "./a", "a/", "a\0"] {
            assert!(!is_inside(bad), "{bad:?}");
        }
    }
}
