//! Captures a Linux file tree into a version 2 archive: one pass, in the order of the archive, with memory that does not
//! grow with the tree (but for 100 bytes or so a file with several names).
//!
//! Given the previous archive, an unchanged file costs one `statx`: its metadata is copied from there and its content is
//! taken over by the sink without being read.
//!
//! Symbolic links are never followed below the root, and the tree may change while it is walked: what vanishes or
//! changes under way is reported by path, and the capture goes on.

mod content;
mod entries;
mod exclude_file;
mod previous;
mod report;
mod root;
mod walk;

use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicBool;

pub use previous::Previous;
pub use report::{CaptureReport, Counts, Problem, ProblemKind, Problems};

use super::progress::Progress;
use super::sink::ArchiveSink;
use crate::error::EncodeError;
use crate::exclude::Pattern;

/// What to capture and how.
#[derive(Debug, Clone)]
pub struct CaptureOptions {
    /// Stay on the mount the root is on: where another begins the archive has an empty directory, and the path is
    /// reported. Subvolumes of one mounted btrfs belong to it; a single file that something is mounted on is captured.
    pub one_file_system: bool,
    /// Where mounts are crossed: leave those out that the kernel makes up (`proc`, `sysfs`, `cgroup`, …).
    pub skip_pseudo: bool,
    /// What to leave out of the whole tree.
    pub exclude: Vec<Pattern>,
    /// Heed `.pxarexclude` files in the tree.
    pub exclude_files: bool,
    /// Kept in the archive's prelude, where readers of the original look for exclude patterns as JSON.
    pub prelude: Option<Vec<u8>>,
}

impl Default for CaptureOptions {
    fn default() -> Self {
        Self {
            one_file_system: true,
            skip_pseudo: true,
            exclude: Vec::new(),
            exclude_files: true,
            prelude: None,
        }
    }
}

/// Why a capture ended without an archive.
#[derive(Debug, thiserror::Error)]
pub enum CaptureError {
    /// The root could not be opened.
    #[error("cannot open {} to back it up: {source}", .path.display())]
    Root {
        /// The root as given.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The sink did not take the archive.
    #[error("cannot store the archive: {0}")]
    Sink(#[source] io::Error),
    /// The archive could not be written on; a defect of this program if it is not [`EncodeError::Io`].
    #[error(transparent)]
    Encode(EncodeError),
    /// The cancellation flag was set.
    #[error("the backup was cancelled")]
    Cancelled,
}

impl From<EncodeError> for CaptureError {
    fn from(error: EncodeError) -> Self {
        match error {
            EncodeError::Io(error) => Self::Sink(error),
            error => Self::Encode(error),
        }
    }
}

/// Captures the tree at `root`, or the single file `root` as the one entry of an archive whose root directory stands
/// for the directory it is in. A symbolic link given as the root is followed.
///
/// `previous` are the streams of an earlier capture of the same root. What is wrong with them costs speed, not
/// correctness: the rest of the tree is then read, and the report says so.
///
/// # Errors
/// Where the root cannot be opened, the sink fails, or `cancel` is set. What was written to the sink is then no archive.
pub fn capture<S: ArchiveSink>(
    root: &Path,
    options: &CaptureOptions,
    previous: Option<Previous<'_>>,
    sink: &mut S,
    progress: &Progress,
    cancel: &AtomicBool,
) -> Result<CaptureReport, CaptureError> {
    let root = root::Root::open(root)?;
    walk::run(root, options, previous, sink, progress, cancel)
}
