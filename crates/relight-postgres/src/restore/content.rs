//! Contents of files, from the repository in parallel.

use std::collections::HashMap;
use std::fs::OpenOptions;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use relight_repo::RepoError;
use relight_repo::direct::DirectFile;
use relight_repo::id::ChunkId;
use relight_repo::read::{ChunkReader, PieceStream, scan_runs};
use relight_repo::tree::{Piece, Root, TreeReader};
use relight_workloads::kind::Work;

use super::layout::Places;
use crate::base::control;
use crate::base::files::{EntryKind, FileList};
use crate::error::{PostgresError, Result};

/// Files by where their contents begin in the archive.
struct Contents<'a> {
    places: &'a Places,
    /// Begin, length and path, in order; empty files are not among them.
    files: Vec<(u64, u64, &'a str)>,
    control: Mutex<Vec<u8>>,
    written: AtomicU64,
    open: Mutex<HashMap<&'a str, Arc<DirectFile>>>,
    /// What went wrong with a file first. On its way through the repository's reader it would pass for an error of a source.
    failure: Mutex<Option<PostgresError>>,
}

/// Files that are kept open while they are written to: each comes in many parts.
const OPEN: usize = 256;

/// Writes all of it into files that were just made, which are full of zeros. Gives the content of `pg_control`, which is
/// kept back, and how many bytes were written.
pub(super) fn write_all(
    reader: &Arc<ChunkReader>,
    root: Root,
    places: &Places,
    list: &FileList,
    work: &Work,
) -> Result<(Vec<u8>, u64)> {
    let contents = Contents::new(places, list);
    let put = |offset: u64, bytes: &[u8]| {
        work.done.fetch_add(bytes.len() as u64, Ordering::Relaxed);
        contents.put(offset, bytes)
    };
    // They are there already.
    let zeros = |piece: Piece| {
        work.done.fetch_add(piece.length, Ordering::Relaxed);
        Ok(())
    };
    let scanned = scan_runs(reader, root, &work.cancelled, &put, &zeros);
    scanned.map_err(|error| contents.failure(error))?;
    Ok(contents.finish())
}

/// Writes what is not there already.
pub(super) fn write_changed(
    reader: &Arc<ChunkReader>,
    root: Root,
    places: &Places,
    list: &FileList,
    work: &Work,
) -> Result<(Vec<u8>, u64)> {
    let contents = Contents::new(places, list);
    let zeros = vec![0; list.chunk as usize];
    let mut changed = Vec::new();
    for piece in TreeReader::new(&**reader, root, 0)? {
        let piece = piece?;
        if work.cancelled.load(Ordering::Relaxed) {
            return Err(RepoError::Cancelled.into());
        }
        if contents.is_same(&piece, &zeros) {
            work.done.fetch_add(piece.length, Ordering::Relaxed);
        } else {
            changed.push(piece);
        }
    }
    let put = |offset, bytes: &[u8]| {
        contents
            .put(offset, bytes)
            .map_err(|error| contents.failure(error))
    };
    for item in PieceStream::of(reader, Box::new(changed.into_iter().map(Ok))) {
        let (piece, content) = item?;
        if work.cancelled.load(Ordering::Relaxed) {
            return Err(RepoError::Cancelled.into());
        }
        match content {
            Some(bytes) => put(piece.offset, &bytes)?,
            None => {
                for at in (0..piece.length).step_by(zeros.len()) {
                    let count = (piece.length - at).min(zeros.len() as u64) as usize;
                    put(piece.offset + at, &zeros[..count])?;
                }
            }
        }
        work.done.fetch_add(piece.length, Ordering::Relaxed);
    }
    Ok(contents.finish())
}

impl<'a> Contents<'a> {
    fn new(places: &'a Places, list: &'a FileList) -> Self {
        let mut files: Vec<(u64, u64, &str)> = list
            .entries
            .iter()
            .filter_map(|entry| match entry.kind {
                EntryKind::File { size, offset } if size > 0 => Some((offset, size, entry.path.as_str())),
                _ => None,
            })
            .collect();
        files.sort_unstable();
        Self {
            places,
            files,
            control: Mutex::default(),
            written: AtomicU64::new(0),
            open: Mutex::default(),
            failure: Mutex::default(),
        }
    }

    /// The error of a file, if that is what the reader passes on.
    fn failure(&self, error: RepoError) -> PostgresError {
        let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
        match error {
            RepoError::Source(source) => failure.take().unwrap_or_else(|| RepoError::Source(source).into()),
            other => other.into(),
        }
    }

    /// Calls `take` for each file that a range of the archive belongs to, with the place in the file and the part of the
    /// range.
    fn parts<E>(
        &self,
        offset: u64,
        length: u64,
        mut take: impl FnMut(&'a str, u64, std::ops::Range<usize>) -> std::result::Result<(), E>,
    ) -> std::result::Result<(), E> {
        let end = offset.saturating_add(length);
        let mut number = self
            .files
            .partition_point(|(begin, size, _)| begin + size <= offset);
        while let Some((begin, size, path)) = self.files.get(number)
            && *begin < end
        {
            let (from, until) = ((*begin).max(offset), (begin + size).min(end));
            let range = (from - offset) as usize..(until - offset) as usize;
            take(path, from - begin, range)?;
            number += 1;
        }
        Ok(())
    }

    /// A file that was made before, open.
    fn file(&self, path: &'a str) -> std::io::Result<Arc<DirectFile>> {
        let lock = || self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = lock().get(path) {
            return Ok(file.clone());
        }
        let mut options = OpenOptions::new();
        let file = options.read(true).write(true).open(self.places.path(path))?;
        let file = Arc::new(DirectFile::new(file));
        let mut open = lock();
        if open.len() >= OPEN {
            open.clear();
        }
        open.insert(path, file.clone());
        Ok(file)
    }

    fn put(&self, offset: u64, bytes: &[u8]) -> relight_repo::Result<()> {
        self.parts(offset, bytes.len() as u64, |path, at, range| {
            let bytes = &bytes[range];
            if path == control::PATH {
                let mut kept = self.control.lock().unwrap_or_else(PoisonError::into_inner);
                let end = at as usize + bytes.len();
                if kept.len() < end {
                    kept.resize(end, 0);
                }
                kept[at as usize..end].copy_from_slice(bytes);
                return Ok(());
            }
            self.written.fetch_add(bytes.len() as u64, Ordering::Relaxed);
            let written = self.file(path).and_then(|file| file.write_all_at(bytes, at));
            written.map_err(|source| {
                let kind = source.kind();
                let mut failure = self.failure.lock().unwrap_or_else(PoisonError::into_inner);
                failure.get_or_insert_with(|| PostgresError::io("write", &self.places.path(path))(source));
                RepoError::Source(kind.into())
            })
        })
    }

    /// Whether the files hold what the piece says. `pg_control` never does: its content has to be given.
    fn is_same(&self, piece: &Piece, zeros: &[u8]) -> bool {
        let mut same = true;
        let Ok(length) = usize::try_from(piece.length) else {
            return false;
        };
        if length > zeros.len() && piece.id == ChunkId::ZEROS {
            // A longer hole: piece by piece.
            let step = zeros.len() as u64;
            return (0..piece.length).step_by(zeros.len()).all(|at| {
                let part = Piece {
                    offset: piece.offset + at,
                    length: step.min(piece.length - at),
                    id: ChunkId::ZEROS,
                };
                self.is_same(&part, zeros)
            });
        }
        let mut there = vec![0; length];
        let read: std::io::Result<()> = self.parts(piece.offset, piece.length, |path, at, range| {
            if path == control::PATH {
                same = false;
                return Ok(());
            }
            self.file(path)?.read_exact_at(&mut there[range], at)
        });
        if read.is_err() || !same {
            return false;
        }
        if piece.id == ChunkId::ZEROS {
            there == zeros[..length]
        } else {
            ChunkId::of(&there) == piece.id
        }
    }

    fn finish(self) -> (Vec<u8>, u64) {
        let control = self.control.into_inner().unwrap_or_else(PoisonError::into_inner);
        (control, self.written.into_inner())
    }
}
