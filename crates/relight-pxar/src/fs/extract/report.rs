//! What a restore tells of itself.

use std::fmt;

use crate::fs::metadata::Part;

/// Losses kept with their path; beyond, they are only counted.
const KEPT: usize = 10_000;

/// What of a path was not restored.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum LossKind {
    /// The content could not be had from the archive; there is no such file.
    Content,
    /// The object could not be created; for a directory, nothing in it was.
    Object,
    /// Something is in the way that the restore does not remove.
    Conflict,
    /// The object is there without this part of its metadata.
    Metadata(Part),
    /// A further name of a file was restored as a file of its own.
    LinkAsCopy,
    /// What was read back is not what was written.
    Verification,
}

impl fmt::Display for LossKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Content => out.write_str("content could not be read from the archive"),
            Self::Object => out.write_str("could not be created"),
            Self::Conflict => out.write_str("something is in its way"),
            Self::Metadata(part) => write!(out, "{part} could not be set"),
            Self::LinkAsCopy => out.write_str("restored as a copy instead of a link"),
            Self::Verification => out.write_str("differs from what was written"),
        }
    }
}

/// Something that was not restored as it is in the archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Loss {
    /// Path in the archive.
    pub path: Vec<u8>,
    /// What is missing.
    pub kind: LossKind,
    /// The reason in words.
    pub detail: String,
}

/// Losses by path: the first ten thousand, and the number of all.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Losses {
    kept: Vec<Loss>,
    total: u64,
}

impl Losses {
    pub(super) fn push(&mut self, path: &[u8], kind: LossKind, detail: impl fmt::Display) {
        self.total += 1;
        if self.kept.len() < KEPT {
            self.kept.push(Loss {
                path: path.to_vec(),
                kind,
                detail: detail.to_string(),
            });
        }
    }

    /// The losses kept.
    pub fn iter(&self) -> std::slice::Iter<'_, Loss> {
        self.kept.iter()
    }

    /// Number of losses.
    pub fn total(&self) -> u64 {
        self.total
    }

    /// Whether everything was restored.
    pub fn is_empty(&self) -> bool {
        self.total == 0
    }

    pub(super) fn sort(&mut self) {
        // Writers report in any order.
        self.kept.sort_by(|a, b| a.path.cmp(&b.path));
    }
}

impl<'a> IntoIterator for &'a Losses {
    type Item = &'a Loss;
    type IntoIter = std::slice::Iter<'a, Loss>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

/// The outcome of a restore that went to its end.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct RestoreReport {
    /// Regular files written.
    pub files: u64,
    /// Directories created.
    pub directories: u64,
    /// Symbolic links, devices, pipes and sockets created.
    pub others: u64,
    /// Further names of files linked.
    pub hardlinks: u64,
    /// Bytes of content written, holes included.
    pub bytes: u64,
    /// Entries found complete from an earlier run.
    pub complete: u64,
    /// Entries left out because something existed under their name.
    pub skipped: u64,
    /// Entries that took the place of something else.
    pub replaced: u64,
    /// Entries put under another name because something existed under theirs: path in the archive, new name. The first
    /// ten thousand.
    pub renamed: Vec<(Vec<u8>, Vec<u8>)>,
    /// Files read back and found as written.
    pub verified: u64,
    /// What was not restored.
    pub losses: Losses,
    /// Selected paths that the archive does not have.
    pub not_found: Vec<Vec<u8>>,
}

impl RestoreReport {
    pub(super) fn add_renamed(&mut self, path: &[u8], name: &[u8]) {
        if self.renamed.len() < KEPT {
            self.renamed.push((path.to_vec(), name.to_vec()));
        }
    }
}
