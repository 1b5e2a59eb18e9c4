//! What a capture tells of itself.

use std::fmt;

use crate::fs::metadata::Part;

/// Problems kept with their path; beyond, they are only counted.
const KEPT: usize = 10_000;

/// Entries of each kind in the archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Regular files, each counted once however many names it has.
    pub files: u64,
    /// Directories, the root included.
    pub directories: u64,
    /// Symbolic links.
    pub symlinks: u64,
    /// Further names of regular files.
    pub hardlinks: u64,
    /// Block and character devices.
    pub devices: u64,
    /// Named pipes.
    pub fifos: u64,
    /// Sockets.
    pub sockets: u64,
}

/// What went wrong with one path.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ProblemKind {
    /// The file was written to while it was read: the archive holds a mix of old and new, or zeros at its end.
    ChangedWhileRead,
    /// It was there when its directory was listed and gone, or of another kind, when its turn came. Not in the archive.
    Vanished,
    /// A file that could not be opened is not in the archive; a directory is, but without what is in it.
    Unreadable,
    /// Reading failed on the way: zeros stand in the archive for the rest of the file.
    Incomplete,
    /// The entry is in the archive without this part of its metadata.
    Metadata(Part),
    /// The format cannot hold it (nesting, length). Not in the archive.
    NotArchivable,
    /// A `.pxarexclude` file that could not be read, or a line in it that is no pattern; the rest of it is heeded.
    ExcludeFile,
    /// A further name of a file that the archive holds as a file of its own, as the path of the first is too long.
    LinkAsCopy,
}

impl fmt::Display for ProblemKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ChangedWhileRead => out.write_str("changed while it was read"),
            Self::Vanished => out.write_str("vanished"),
            Self::Unreadable => out.write_str("cannot be opened"),
            Self::Incomplete => out.write_str("could not be read to its end"),
            Self::Metadata(part) => write!(out, "{part} could not be read"),
            Self::NotArchivable => out.write_str("cannot be archived"),
            Self::ExcludeFile => out.write_str("exclude patterns not understood"),
            Self::LinkAsCopy => out.write_str("archived as a copy instead of a link"),
        }
    }
}

/// A problem with one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    /// Path from the root of the capture.
    pub path: Vec<u8>,
    /// What went wrong.
    pub kind: ProblemKind,
    /// The reason in words; may be empty.
    pub detail: String,
}

/// Problems by path: the first ten thousand, and the number of all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Problems {
    kept: Vec<Problem>,
    total: u64,
}

impl Problems {
    pub(super) fn push(&mut self, path: &[u8], kind: ProblemKind, detail: impl fmt::Display) {
        self.total += 1;
        if self.kept.len() < KEPT {
            self.kept.push(Problem {
                path: path.to_vec(),
                kind,
                detail: detail.to_string(),
            });
        }
    }

    /// The problems kept, in the order they were met.
    pub fn iter(&self) -> std::slice::Iter<'_, Problem> {
        self.kept.iter()
    }

    /// Number of problems met.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Whether everything went well.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }
}

impl<'a> IntoIterator for &'a Problems {
    type Item = &'a Problem;
    type IntoIter = std::slice::Iter<'a, Problem>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The outcome of a capture that went to its end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct CaptureReport {
    /// What is in the archive.
    pub counts: Counts,
    /// Regular files whose content was taken from the previous archive.
    pub unchanged_files: u64,
    /// Bytes of content in the archive.
    pub bytes: u64,
    /// Bytes of content that were read, holes not counted.
    pub bytes_read: u64,
    /// What is not in the archive as it should be.
    pub problems: Problems,
    /// Paths where another file system begins; the archive has an empty directory there.
    pub mount_points: Vec<Vec<u8>>,
    /// Entries left out by patterns.
    pub excluded: u64,
    /// Exclude patterns that matched nothing, as they were given.
    pub unmatched_patterns: Vec<String>,
    /// Why the previous archive was of no use from some point on; none where it was used whole or not given.
    pub previous_lost: Option<String>,
}
