//! Restores file trees.

use std::io;
use std::ops::{ControlFlow, Range};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::sync::atomic::AtomicBool;
use std::sync::{Arc, Mutex};

use relight_pxar::fs::extract::{
    ArchiveSource, ArchiveStream, ContentSource, ExtractOptions, Piece, RestoreError, RestoreReport, extract,
    extract_into,
};
use relight_pxar::fs::progress::Progress;
use relight_pxar::read_at::ReadAt;
use relight_repo::RepoError;
use relight_repo::read::{ChunkReader, Content, PieceStream};
use relight_repo::storage::StorageError;
use relight_repo::tree::{self, Root};

use super::Tree;
use super::content::{GAP, RandomArchive, archive_read, open_archive};
use crate::error::{Result, WorkloadError, from_io, into_io};

/// So many pieces in a row begin a read-ahead: who restores one small file needs none.
const IN_ORDER: u32 = 2;

/// Restores a tree (or what `options` select of it) into `target`.
///
/// # Errors
/// Where the restore did not go to its end. If contents lie in a cold storage class, [`StorageError::Cold`] is given
/// after everything else was restored that comes before the first of them: running it again when they are thawed
/// goes on.
pub fn restore(
    reader: &Arc<ChunkReader>,
    tree: &Tree<'_>,
    target: &Path,
    options: &ExtractOptions,
    progress: &Progress,
    cancelled: &AtomicBool,
) -> Result<RestoreReport> {
    let source = TreeArchive::new(reader, tree);
    let restored = extract(&source, target, options, progress, cancelled);
    outcome(&source, restored)
}

/// The same into a directory that is open already.
pub fn restore_into(
    reader: &Arc<ChunkReader>,
    tree: &Tree<'_>,
    target: OwnedFd,
    options: &ExtractOptions,
    progress: &Progress,
    cancelled: &AtomicBool,
) -> Result<RestoreReport> {
    let source = TreeArchive::new(reader, tree);
    let restored = extract_into(&source, target, options, progress, cancelled);
    outcome(&source, restored)
}

fn outcome(source: &TreeArchive, restored: Result<RestoreReport, RestoreError>) -> Result<RestoreReport> {
    if let (Ok(_), Some((key, location))) = (&restored, source.cold()) {
        return Err(RepoError::Storage(StorageError::Cold { key, location }).into());
    }
    restored.map_err(|error| match error {
        RestoreError::Cancelled => RepoError::Cancelled.into(),
        RestoreError::Target { path, source } => match from_io(source) {
            Ok(error) => error.into(),
            Err(source) => WorkloadError::Restore(RestoreError::Target { path, source }),
        },
        other => WorkloadError::Restore(other),
    })
}

/// A tree in a snapshot as the pxar crate reads archives.
pub struct TreeArchive {
    reader: Arc<ChunkReader>,
    metadata: Root,
    payload: Root,
    random: RandomArchive,
    /// Object and storage of the first content that lies in a cold class.
    cold: Cold,
}

type Cold = Arc<Mutex<Option<(String, String)>>>;

fn cold_of(cold: &Cold) -> Option<(String, String)> {
    cold.lock()
        .unwrap_or_else(|poisoned| poisoned.into_inner())
        .clone()
}

impl TreeArchive {
    /// The tree.
    pub fn new(reader: &Arc<ChunkReader>, tree: &Tree<'_>) -> Self {
        Self {
            reader: reader.clone(),
            metadata: tree.metadata.root,
            payload: tree.payload.root,
            random: open_archive(reader, tree.metadata),
            cold: Cold::default(),
        }
    }

    fn cold(&self) -> Option<(String, String)> {
        cold_of(&self.cold)
    }
}

impl ArchiveSource for TreeArchive {
    fn metadata(&self) -> io::Result<Box<dyn ArchiveStream + '_>> {
        Ok(Box::new(
            archive_read(&self.reader, self.metadata).map_err(into_io)?,
        ))
    }

    fn content(&self) -> io::Result<Box<dyn ContentSource + '_>> {
        Ok(Box::new(Payload {
            reader: self.reader.clone(),
            root: self.payload,
            current: None,
            stream: None,
            in_order: 0,
            cold: self.cold.clone(),
        }))
    }

    fn random_access(&self) -> Option<&dyn ReadAt> {
        Some(&self.random)
    }
}

/// Reads parts of a payload in rising order, ahead if they follow each other.
struct Payload {
    reader: Arc<ChunkReader>,
    root: Root,
    current: Option<(tree::Piece, Content)>,
    stream: Option<PieceStream>,
    in_order: u32,
    cold: Cold,
}

impl Payload {
    /// Makes the piece that holds byte `at` the current one.
    fn seek(&mut self, at: u64) -> relight_repo::Result<(tree::Piece, Content)> {
        let holds = |piece: &tree::Piece| (piece.offset..piece.offset + piece.length).contains(&at);
        if let Some((piece, content)) = self.current.as_ref().filter(|(piece, _)| holds(piece)) {
            return Ok((*piece, content.clone()));
        }
        let end = self
            .current
            .as_ref()
            .map_or(0, |(piece, _)| piece.offset + piece.length);
        if (end..end + GAP).contains(&at) {
            self.in_order += 1;
        } else {
            self.in_order = 0;
            self.stream = None;
        }
        if self.stream.is_none() && self.in_order >= IN_ORDER {
            self.stream = Some(PieceStream::new(&self.reader, self.root, at)?);
        }
        let found = match &mut self.stream {
            Some(stream) => stream
                .find(|item| item.as_ref().map_or(true, |(piece, _)| holds(piece)))
                .transpose()?,
            None => self.single(at)?,
        };
        let found = found.ok_or_else(|| RepoError::Damaged {
            what: "payload".into(),
            why: format!("it ends before byte {at}"),
        })?;
        self.current = Some(found.clone());
        Ok(found)
    }

    fn single(&self, at: u64) -> relight_repo::Result<Option<(tree::Piece, Content)>> {
        PieceStream::single(&self.reader, self.root, at)
    }
}

impl ContentSource for Payload {
    fn read(
        &mut self,
        range: Range<u64>,
        take: &mut dyn FnMut(Piece<'_>) -> ControlFlow<()>,
    ) -> io::Result<()> {
        if let Some((key, location)) = cold_of(&self.cold) {
            // All of it has to be thawed first: asking for every single file would only take time.
            return Err(into_io(StorageError::Cold { key, location }.into()));
        }
        let mut at = range.start;
        while at < range.end {
            let (piece, content) = match self.seek(at) {
                Ok(found) => found,
                Err(error) => {
                    // The next file may be readable.
                    self.stream = None;
                    self.in_order = 0;
                    if let RepoError::Storage(StorageError::Cold { key, location }) = &error {
                        *self.cold.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) =
                            Some((key.clone(), location.clone()));
                    }
                    return Err(into_io(error));
                }
            };
            let end = range.end.min(piece.offset + piece.length);
            let within = (at - piece.offset) as usize..(end - piece.offset) as usize;
            let flow = match &content {
                Some(content) => take(Piece::Bytes(&content[within])),
                None => take(Piece::Zeros(end - at)),
            };
            if flow.is_break() {
                break;
            }
            at = end;
        }
        Ok(())
    }
}
