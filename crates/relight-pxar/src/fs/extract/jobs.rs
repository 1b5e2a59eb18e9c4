//! What writer threads do.

use std::ffi::CString;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;

use xxhash_rust::xxh3::xxh3_64;

use super::items::ItemKind;
use super::links::Linker;
use super::place::{Place, Placing};
use super::pool::Pool;
use super::shared::{DirHandle, Shared, add, lock};
use super::source::Piece;
use super::sparse::{MIN_HOLE, SparseWriter};
use super::verify;
use crate::fs::progress::count;
use crate::metadata::Metadata;

/// One object to make.
pub(super) struct Job<'a> {
    pub dir: Arc<DirHandle<'a>>,
    pub place: Place,
    /// Path in the archive.
    pub path: Vec<u8>,
    /// Path of the directory below the target.
    pub directory: Arc<[u8]>,
    pub metadata: Metadata,
    pub strip_acl: bool,
    pub position: u64,
    pub work: Work,
}

/// What kind of object it is.
pub(super) enum Work {
    /// A regular file with this content.
    File(Vec<u8>),
    /// A symbolic link, device, pipe or socket.
    Other(ItemKind),
    /// A further name of a file before it in the archive.
    Link {
        target_position: u64,
        target: Vec<u8>,
        /// The directory was made by this restore, so the name is free.
        fresh: bool,
    },
}

impl Job<'_> {
    /// Bytes it holds.
    pub fn weight(&self) -> usize {
        match &self.work {
            Work::File(content) => content.len(),
            Work::Other(_) | Work::Link { .. } => 0,
        }
    }

    fn placing<'s, 'a>(&'s self, shared: &'s Shared<'a>) -> Placing<'s, 'a> {
        Placing {
            shared,
            dir: self.dir.as_fd(),
            place: &self.place,
            path: &self.path,
            directory: &self.directory,
            metadata: &self.metadata,
            strip_acl: self.strip_acl,
        }
    }
}

/// Works until the pool is closed.
pub(super) fn work<'a>(shared: &Shared<'a>, pool: &Pool<Job<'a>>) {
    let mut linker = Linker::default();
    pool.work(|number, job| {
        // What waits when the restore ends is not begun.
        if shared.stopped() {
            return;
        }
        match &job.work {
            Work::Link {
                target_position,
                target,
                fresh,
            } => {
                pool.wait_for_turn(number);
                linker.link(shared, &job, *target_position, target, *fresh);
            }
            Work::File(content) => {
                if let Err(error) = write_file(shared, &job, content) {
                    job.placing(shared).lose(&error);
                    shared.misplace(job.position, None);
                }
            }
            Work::Other(kind) => {
                let placing = job.placing(shared);
                match placing.put_other(kind) {
                    Ok(()) => {
                        add(&shared.counters.others, 1);
                        count(&shared.progress.others, 1);
                    }
                    Err(error) => {
                        placing.lose(&error);
                        shared.misplace(job.position, None);
                    }
                }
            }
        }
    });
}

fn write_file(shared: &Shared<'_>, job: &Job<'_>, content: &[u8]) -> io::Result<()> {
    let placing = job.placing(shared);
    let (mut file, temporary) = placing.create_file()?;
    if (content.len() as u64) < MIN_HOLE {
        file.write_all(content)?;
    } else {
        let mut writer = SparseWriter::new(&file, false);
        writer.write(Piece::Bytes(content))?;
        writer.finish()?;
    }
    let at_once = shared
        .options
        .verifies_at_once()
        .then(|| verify::reads_back(&file, content));
    placing.finish_file(&file, temporary)?;
    if let Some(result) = at_once {
        verify::tell(shared, &job.path, result);
    }
    let hash = shared.options.verifies_late().then(|| xxh3_64(content));
    file_done(shared, job.position, content.len() as u64, hash);
    count(&shared.progress.bytes, content.len() as u64);
    Ok(())
}

/// Counts a file that was written.
pub(super) fn file_done(shared: &Shared<'_>, position: u64, size: u64, hash: Option<u64>) {
    add(&shared.counters.files, 1);
    add(&shared.counters.bytes, size);
    count(&shared.progress.files, 1);
    if let Some(hash) = hash {
        lock(&shared.hashes).push((position, hash));
    }
}

/// A name from the archive as system calls want it. The decoder has refused those with a zero byte.
pub(super) fn c_name(name: &[u8]) -> CString {
    CString::new(name).unwrap_or_default()
}
