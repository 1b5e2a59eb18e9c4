//! What the threads of one restore share, and the directories it works in.

use std::collections::HashMap;
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use rustix::io::Errno;

use super::report::{LossKind, RestoreReport};
use super::{ExtractOptions, RestoreError};
use crate::fs::apply::{self, Target};
use crate::fs::metadata::{MetadataProblem, MetadataReader};
use crate::fs::progress::{Progress, is_set};
use crate::fs::stat::FileStat;
use crate::metadata::Metadata;

/// Beginning of the names of files not yet complete.
pub(super) const TEMPORARY: &str = ".relight-restore.";

/// Numbers counted by several threads.
#[derive(Debug, Default)]
pub(super) struct Counters {
    pub files: AtomicU64,
    pub directories: AtomicU64,
    pub others: AtomicU64,
    pub hardlinks: AtomicU64,
    pub bytes: AtomicU64,
    pub complete: AtomicU64,
    pub skipped: AtomicU64,
    pub replaced: AtomicU64,
    pub verified: AtomicU64,
}

/// Flags that seal an object, to be set when everything else is done.
#[derive(Debug)]
pub(super) struct Seal {
    /// Path in the archive.
    pub path: Vec<u8>,
    /// Path below the target.
    pub place: Vec<u8>,
    pub metadata: Metadata,
}

/// A further name of a file, to be restored at the end because its first name is not at its place.
#[derive(Debug)]
pub(super) struct LateLink {
    pub target_position: u64,
    /// Path in the archive.
    pub path: Vec<u8>,
    /// Path of its directory below the target.
    pub directory: Vec<u8>,
    pub name: Vec<u8>,
}

/// State of one restore.
pub(super) struct Shared<'a> {
    pub options: &'a ExtractOptions,
    pub progress: &'a Progress,
    cancel: &'a AtomicBool,
    /// The target directory.
    pub root: OwnedFd,
    /// Set when the restore ends before its end.
    stop: AtomicBool,
    fatal: Mutex<Option<RestoreError>>,
    pub counters: Counters,
    report: Mutex<RestoreReport>,
    pub seals: Mutex<Vec<Seal>>,
    pub late_links: Mutex<Vec<LateLink>>,
    /// Entries (by position) that are not under their name: under another, or not at all.
    misplaced: Mutex<HashMap<u64, Option<CString>>>,
    /// Position of a file in the archive and hash of its content.
    pub hashes: Mutex<Vec<(u64, u64)>>,
    /// Place below the target of a file restored late, and hash of its content.
    pub late_hashes: Mutex<Vec<(Vec<u8>, u64)>>,
    /// Directories that have another name than in the archive: path there, path below the target.
    moved_directories: Mutex<Vec<(Vec<u8>, Vec<u8>)>>,
    token: u32,
    next_temporary: AtomicU64,
}

/// Locks; a thread that panicked takes the restore down when it is joined, until then what it left is whole.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) fn add(counter: &AtomicU64, by: u64) {
    counter.fetch_add(by, Ordering::Relaxed);
}

impl<'a> Shared<'a> {
    pub fn new(
        options: &'a ExtractOptions,
        progress: &'a Progress,
        cancel: &'a AtomicBool,
        root: OwnedFd,
    ) -> Self {
        // Only has to differ from run to run: names are never reused, whatever it is.
        let nanos = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .map_or(0, |since| since.subsec_nanos());
        Self {
            options,
            progress,
            cancel,
            root,
            stop: AtomicBool::new(false),
            fatal: Mutex::default(),
            counters: Counters::default(),
            report: Mutex::default(),
            seals: Mutex::default(),
            late_links: Mutex::default(),
            misplaced: Mutex::default(),
            hashes: Mutex::default(),
            late_hashes: Mutex::default(),
            moved_directories: Mutex::default(),
            token: nanos ^ std::process::id().rotate_left(16),
            next_temporary: AtomicU64::new(0),
        }
    }

    /// Whether the work is to end now.
    pub fn stopped(&self) -> bool {
        self.stop.load(Ordering::Relaxed) || is_set(self.cancel)
    }

    /// Ends the restore with the first such error.
    pub fn fail(&self, error: RestoreError) {
        lock(&self.fatal).get_or_insert(error);
        self.stop.store(true, Ordering::Relaxed);
    }

    /// The error that ended the restore, if any.
    pub fn verdict(&self) -> Result<(), RestoreError> {
        match lock(&self.fatal).take() {
            Some(error) => Err(error),
            None if is_set(self.cancel) => Err(RestoreError::Cancelled),
            None => Ok(()),
        }
    }

    pub fn report(&self) -> MutexGuard<'_, RestoreReport> {
        lock(&self.report)
    }

    /// Reports a loss. One that says that the disk takes nothing more ends the restore instead of being reported for
    /// every file there is.
    pub fn lose(&self, path: &[u8], kind: LossKind, error: &io::Error) {
        if let Some(Errno::NOSPC | Errno::DQUOT | Errno::ROFS) = Errno::from_io_error(error) {
            let source = io::Error::new(error.kind(), error.to_string());
            self.fail(RestoreError::Target {
                path: path.to_vec(),
                source,
            });
        } else {
            self.report().losses.push(path, kind, error);
        }
    }

    pub fn lose_metadata(&self, path: &[u8], problems: Vec<MetadataProblem>) {
        for MetadataProblem { part, error } in problems {
            self.lose(path, LossKind::Metadata(part), &error);
        }
    }

    /// Notes that an entry is not under its own name.
    pub fn misplace(&self, position: u64, name: Option<CString>) {
        lock(&self.misplaced).insert(position, name);
    }

    /// Where an entry is: none for under its own name, or the name it got, if it is there at all.
    pub fn misplaced(&self, position: u64) -> Option<Option<CString>> {
        lock(&self.misplaced).get(&position).cloned()
    }

    /// Notes that a directory has another name than in the archive.
    pub fn move_directory(&self, path: &[u8], place: &[u8]) {
        lock(&self.moved_directories).push((path.to_vec(), place.to_vec()));
    }

    /// Path below the target of a directory of the archive.
    pub fn place_of_directory(&self, path: &[u8]) -> Vec<u8> {
        let moved = lock(&self.moved_directories);
        // Inner ones were noted after outer ones, with their whole place.
        for (from, to) in moved.iter().rev() {
            if let Some(rest) = path.strip_prefix(from.as_slice())
                && (rest.is_empty() || rest.first() == Some(&b'/'))
            {
                return [to, rest].concat();
            }
        }
        path.to_vec()
    }

    /// A name for a file that is not complete.
    pub fn temporary(&self) -> CString {
        let number = self.next_temporary.fetch_add(1, Ordering::Relaxed);
        // Digits and dots hold no zero byte.
        CString::new(format!("{TEMPORARY}{:08x}.{number:x}", self.token)).unwrap_or_default()
    }

    pub fn finish(self) -> RestoreReport {
        let mut report = self.report.into_inner().unwrap_or_else(PoisonError::into_inner);
        let Counters {
            files,
            directories,
            others,
            hardlinks,
            bytes,
            complete,
            skipped,
            replaced,
            verified,
        } = self.counters;
        report.files = files.into_inner();
        report.directories = directories.into_inner();
        report.others = others.into_inner();
        report.hardlinks = hardlinks.into_inner();
        report.bytes = bytes.into_inner();
        report.complete = complete.into_inner();
        report.skipped = skipped.into_inner();
        report.replaced = replaced.into_inner();
        report.verified = verified.into_inner();
        report.losses.sort();
        report
    }
}

/// What is to be done when nothing works in a directory any more.
pub(super) struct Closing<'a> {
    pub shared: Arc<Shared<'a>>,
    /// Path in the archive.
    pub path: Vec<u8>,
    pub metadata: Metadata,
    /// It was there before the restore, so it may have what the archive does not.
    pub existed: bool,
}

/// An open directory below the target. Whoever works in it holds it; the last to let go of it sets its metadata, once
/// it is to be closed: writing into it would change its time again.
pub(super) struct DirHandle<'a> {
    fd: OwnedFd,
    closing: Mutex<Option<Closing<'a>>>,
}

impl From<OwnedFd> for DirHandle<'_> {
    fn from(fd: OwnedFd) -> Self {
        Self {
            fd,
            closing: Mutex::new(None),
        }
    }
}

impl AsFd for DirHandle<'_> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl<'a> DirHandle<'a> {
    /// Has its metadata set when the last holder lets go.
    pub fn close(&self, closing: Closing<'a>) {
        *lock(&self.closing) = Some(closing);
    }
}

impl Drop for DirHandle<'_> {
    fn drop(&mut self) {
        let Some(Closing {
            shared,
            path,
            metadata,
            existed,
        }) = lock(&self.closing).take()
        else {
            return;
        };
        let mut problems = Vec::new();
        if existed && let Ok(stat) = FileStat::of(&self.fd) {
            let mut unread = Vec::new();
            let current = MetadataReader::new().open_object(self.fd.as_fd(), &stat, &mut unread);
            apply::clear_extras(self.fd.as_fd(), &current, &metadata, &mut problems);
        }
        apply::apply(Target::Open(self.fd.as_fd()), &metadata, &mut problems);
        shared.lose_metadata(&path, problems);
    }
}

/// A name that is removed again unless it is kept.
pub(super) struct Temporary<'d> {
    dir: BorrowedFd<'d>,
    name: CString,
    armed: bool,
}

impl<'d> Temporary<'d> {
    /// Takes charge of `name`, which was just created in `dir`.
    pub fn new(dir: BorrowedFd<'d>, name: CString) -> Self {
        Self {
            dir,
            name,
            armed: true,
        }
    }

    pub fn name(&self) -> &CStr {
        &self.name
    }

    /// The object has its final name now.
    pub fn keep(mut self) {
        self.armed = false;
    }
}

impl Drop for Temporary<'_> {
    fn drop(&mut self) {
        if self.armed {
            // Gone already is as good.
            let _ = rustix::fs::unlinkat(self.dir, self.name.as_c_str(), rustix::fs::AtFlags::empty());
        }
    }
}
