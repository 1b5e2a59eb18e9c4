//! Compares two trees, or an archive with a tree: names, kinds, every byte of content and every piece of metadata.
//!
//! Times of access and change, inode numbers and how content is spread over holes are not compared: they cannot be
//! restored, or make no difference.

mod archive;
mod content;
mod links;
mod merge;
mod metadata;
mod tree;

use std::fmt;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

use super::extract::{ArchiveSource, Selection};
use super::metadata::Part;
use super::progress::Progress;
use crate::error::DecodeError;

/// Differences kept with their path; beyond, they are only counted.
const KEPT: usize = 10_000;

/// How two entries of the same path differ.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DifferenceKind {
    /// Only the first has it; if it is a directory, with all that is in it.
    OnlyFirst,
    /// Only the second has it; if it is a directory, with all that is in it.
    OnlySecond,
    /// They are of different kinds.
    Kind,
    /// They are regular files of different length.
    Size,
    /// They are regular files of different content.
    Content,
    /// They are symbolic links to different paths.
    Target,
    /// They are devices of different numbers.
    Device,
    /// They share their content with different other names.
    Links,
    /// They differ in this part of their metadata.
    Metadata(Part),
    /// One of them could not be read.
    Unreadable,
}

impl fmt::Display for DifferenceKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OnlyFirst => out.write_str("only in the first"),
            Self::OnlySecond => out.write_str("only in the second"),
            Self::Kind => out.write_str("another kind of object"),
            Self::Size => out.write_str("another length"),
            Self::Content => out.write_str("another content"),
            Self::Target => out.write_str("another link target"),
            Self::Device => out.write_str("another device"),
            Self::Links => out.write_str("linked with other names"),
            Self::Metadata(part) => write!(out, "another {part}"),
            Self::Unreadable => out.write_str("cannot be read"),
        }
    }
}

/// A difference at one path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Path from the roots.
    pub path: Vec<u8>,
    /// What differs.
    pub kind: DifferenceKind,
    /// Both sides in words; may be empty.
    pub detail: String,
}

impl fmt::Display for Difference {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", String::from_utf8_lossy(&self.path), self.kind)?;
        if self.detail.is_empty() {
            Ok(())
        } else {
            write!(out, " ({})", self.detail)
        }
    }
}

/// What to compare.
#[derive(Debug, Clone)]
pub struct CompareOptions {
    /// Compare contents; else only their lengths.
    pub content: bool,
    /// Parts of the metadata that may differ (an extended attribute by its name, or by an empty name all of them).
    pub ignore: Vec<Part>,
    /// Compare the metadata of the two roots themselves.
    pub roots: bool,
    /// Take directories on which something else is mounted as empty.
    pub one_file_system: bool,
    /// Which paths; of an archive and a tree, or of two trees.
    pub selection: Selection,
}

impl Default for CompareOptions {
    fn default() -> Self {
        Self {
            content: true,
            ignore: Vec::new(),
            roots: true,
            one_file_system: true,
            selection: Selection::all(),
        }
    }
}

/// The outcome of a comparison.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Comparison {
    /// Entries that both sides have.
    pub entries: u64,
    /// Bytes of content that were compared, holes included.
    pub bytes: u64,
    /// The differences, in the order of the archive; the first ten thousand.
    pub differences: Vec<Difference>,
    /// Number of differences.
    pub total: u64,
}

impl Comparison {
    /// Whether no difference was found.
    pub fn is_equal(&self) -> bool {
        self.total == 0
    }

    fn push(&mut self, path: &[u8], kind: DifferenceKind, detail: impl fmt::Display) {
        self.total += 1;
        if self.differences.len() < KEPT {
            self.differences.push(Difference {
                path: path.to_vec(),
                kind,
                detail: detail.to_string(),
            });
        }
    }
}

/// Why a comparison did not go to its end.
#[derive(Debug, thiserror::Error)]
pub enum CompareError {
    /// A root could not be opened.
    #[error("cannot open {} to compare it: {source}", .path.display())]
    Root {
        /// The root as given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The archive could not be read.
    #[error(transparent)]
    Archive(#[from] DecodeError),
    /// The cancellation flag was set.
    #[error("the comparison was cancelled")]
    Cancelled,
}

/// Compares the trees below two directories.
pub fn compare_trees(
    first: &Path,
    second: &Path,
    options: &CompareOptions,
    progress: &Progress,
    cancel: &AtomicBool,
) -> Result<Comparison, CompareError> {
    let first = merge::Side::Tree(Box::new(tree::TreeSide::open(first, options)?));
    let second = tree::TreeSide::open(second, options)?;
    merge::Merge::new(first, second, options, progress, cancel).run()
}

/// Compares an archive (the first) with the tree below a directory (the second).
pub fn compare_archive(
    source: &dyn ArchiveSource,
    root: &Path,
    options: &CompareOptions,
    progress: &Progress,
    cancel: &AtomicBool,
) -> Result<Comparison, CompareError> {
    let first = merge::Side::Archive(Box::new(archive::ArchiveSide::open(source, options)?));
    let second = tree::TreeSide::open(root, options)?;
    merge::Merge::new(first, second, options, progress, cancel).run()
}
