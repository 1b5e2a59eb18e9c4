//! Restores file trees from archives.
//!
//! **Safety.** Every object is reached by its name in an open directory, no symbolic link below the target is ever
//! followed, and names from the archive are single components. So whatever an archive holds, and whatever others do in
//! the target meanwhile, nothing outside of the target is written to.
//!
//! **Complete or not there.** A file is written under a temporary name (`.relight-restore.…`) and renamed when content
//! and metadata are whole, its time having been set last. What bears its own name with the right kind, size and time is
//! therefore complete, and a restore that was cut off can be run again: with [`ExtractOptions::resume`] it passes over
//! what is complete. Temporary files of a run that was killed are removed when their directory is restored into again.
//!
//! **Order.** A directory gets its metadata when everything in it is done, append-only and immutable are set at the
//! very end.

pub(in crate::fs) mod content;
mod entries;
pub(in crate::fs) mod items;
mod jobs;
mod late;
mod links;
mod place;
mod pool;
mod report;
mod restore;
mod selection;
mod shared;
mod source;
pub(in crate::fs) mod sparse;
mod target;
mod verify;

use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::AtomicBool;

pub use report::{Loss, LossKind, Losses, RestoreReport};
pub use selection::{Selection, Standing};
pub use source::{ArchiveSource, ArchiveStream, ContentSource, Piece, ReadAtContent};
pub use sparse::MIN_HOLE;

use super::progress::Progress;
use crate::error::DecodeError;

/// What happens to an entry whose name is taken in the target. Directories are merged: an existing one is gone into and
/// gets the archive's metadata, but nothing in it is removed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum ConflictPolicy {
    /// What exists stays, the entry is left out and counted. For a directory of the archive whose name something else
    /// has, all that is in it is left out.
    Skip,
    /// The entry takes the place of what exists, in one step. A directory that is not empty is never removed for
    /// anything else: that entry is reported.
    Replace,
    /// What exists stays unless it is older than the entry, which then takes its place as with [`Self::Replace`].
    KeepNewer,
    /// What exists stays, and the entry gets the first free of the names `NAME.restored`, `NAME.restored-2`, ….
    Rename,
    /// The restore ends with an error.
    #[default]
    Fail,
}

/// What to restore and how.
#[derive(Debug, Clone)]
pub struct ExtractOptions {
    /// Which paths.
    pub selection: Selection,
    /// What to do where a name is taken.
    pub conflict: ConflictPolicy,
    /// Pass over what exists with the right kind, size and modification time, as a run that was cut off leaves it. To
    /// be switched off where existing files are not to be trusted (damage or malice may leave size and time as they
    /// were).
    pub resume: bool,
    /// Read back what was written and compare: with [`ExtractOptions::sync`] when everything is on disk, from there;
    /// else each file right after it was written, from the cache of the kernel.
    pub verify: bool,
    /// Threads that write small files; at least one.
    pub writers: usize,
    /// Give the target directory the metadata of the archive's root (if everything is restored).
    pub root_metadata: bool,
    /// Wait in the end until everything is on disk.
    pub sync: bool,
}

impl Default for ExtractOptions {
    fn default() -> Self {
        Self {
            selection: Selection::all(),
            conflict: ConflictPolicy::default(),
            resume: true,
            verify: false,
            writers: 2,
            root_metadata: true,
            sync: true,
        }
    }
}

impl ExtractOptions {
    /// Whether files are read back in the end, from disk; for that their hashes are kept.
    fn verifies_late(&self) -> bool {
        self.verify && self.sync
    }

    /// Whether each file is read back as soon as it is written.
    fn verifies_at_once(&self) -> bool {
        self.verify && !self.sync
    }
}

/// Why a restore ended before its end. What was restored so far is complete and stays.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The target takes nothing more, or cannot be used at all.
    #[error("cannot restore {} into the target: {source}; make room or choose another target, and run it again",
        String::from_utf8_lossy(.path))]
    Target {
        /// Path in the archive; empty where the target itself is meant.
        path: Vec<u8>,
        /// Why.
        source: io::Error,
    },
    /// Something has the name of an entry, and the policy is [`ConflictPolicy::Fail`].
    #[error("{} exists in the target: choose another target, or say whether to skip, replace or rename",
        String::from_utf8_lossy(.path))]
    Exists {
        /// Path in the archive.
        path: Vec<u8>,
    },
    /// The archive cannot be read on.
    #[error(transparent)]
    Archive(#[from] DecodeError),
    /// The cancellation flag was set. No temporary file is left.
    #[error("the restore was cancelled; run it again to go on where it stopped")]
    Cancelled,
}

/// Restores the selected paths of an archive into the directory `target`, which is made if it does not exist.
///
/// What cannot be restored as it is in the archive, down to a single attribute, is in the report; without privileges
/// that is what belongs to others and device nodes.
///
/// # Errors
/// Where the restore did not go to its end. Running it again with the same options goes on.
pub fn extract(
    source: &dyn ArchiveSource,
    target: &Path,
    options: &ExtractOptions,
    progress: &Progress,
    cancel: &AtomicBool,
) -> Result<RestoreReport, RestoreError> {
    restore::run(source, || target::open_target(target), options, progress, cancel)
}

/// The same into a directory that is open already (for reading), however its path has changed meanwhile.
///
/// # Errors
/// As [`extract`].
pub fn extract_into(
    source: &dyn ArchiveSource,
    target: OwnedFd,
    options: &ExtractOptions,
    progress: &Progress,
    cancel: &AtomicBool,
) -> Result<RestoreReport, RestoreError> {
    restore::run(source, || target::opened(target), options, progress, cancel)
}
