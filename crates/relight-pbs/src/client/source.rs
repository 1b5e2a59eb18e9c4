//! Archives of a server as the pxar crate reads them: from their beginning with read-ahead, or anywhere.

use std::collections::VecDeque;
use std::io::{self, Read, Seek, SeekFrom};
use std::ops::{ControlFlow, Range};
use std::sync::{Arc, Mutex, PoisonError};

use relight_pxar::fs::extract::{ArchiveSource, ArchiveStream, ContentSource};
use relight_pxar::read_at::ReadAt;
use tokio::runtime::Handle;

use super::reader::{Content, Piece, Pieces, ReaderArchive, ReaderSession};
use super::{ClientError, Result};

/// Parts that are not wanted are passed over within the stream up to this length; beyond it, reading begins anew.
const GAP: u64 = 8 << 20;
/// So many chunks in a row begin a read-ahead: who wants one small file needs none.
const IN_ORDER: u32 = 2;
/// Chunks that random access keeps, and bytes of them at most (but for one).
const KEPT: usize = 64;
const ROOM: u64 = 32 << 20;

/// An archive that is read by threads that may block; they must not run asynchronous code. Clones share what they keep.
#[derive(Clone)]
pub struct RemoteArchive {
    runtime: Handle,
    archive: Arc<ReaderArchive>,
    /// Chunks by use, the latest last.
    kept: Arc<Mutex<VecDeque<Piece>>>,
}

/// A tree of a snapshot of a server, split or in one stream.
pub struct RemoteTree {
    metadata: RemoteArchive,
    payload: Option<RemoteArchive>,
}

impl ReaderSession {
    /// An archive as [`ReaderSession::archive`] opens it, for threads that may block.
    ///
    /// # Errors
    /// Those of [`ReaderSession::archive`].
    pub async fn blocking(&self, name: &str) -> Result<RemoteArchive> {
        Ok(RemoteArchive {
            runtime: Handle::current(),
            archive: Arc::new(self.archive(name).await?),
            kept: Arc::default(),
        })
    }

    /// The tree `NAME`: `NAME.mpxar` and `NAME.ppxar`, or `NAME.pxar`.
    ///
    /// # Errors
    /// Those of [`ReaderSession::archive`].
    pub async fn tree(&self, name: &str) -> Result<RemoteTree> {
        let split = format!("{name}.mpxar");
        if self.manifest().file(&format!("{split}.didx")).is_none() {
            let metadata = self.blocking(&format!("{name}.pxar")).await?;
            return Ok(RemoteTree {
                metadata,
                payload: None,
            });
        }
        Ok(RemoteTree {
            metadata: self.blocking(&split).await?,
            payload: Some(self.blocking(&format!("{name}.ppxar")).await?),
        })
    }
}

impl RemoteTree {
    /// Names and attributes; of a tree in one stream also contents.
    pub fn metadata(&self) -> &RemoteArchive {
        &self.metadata
    }

    /// Contents of a split tree.
    pub fn payload(&self) -> Option<&RemoteArchive> {
        self.payload.as_ref()
    }
}

impl ArchiveSource for RemoteTree {
    fn metadata(&self) -> io::Result<Box<dyn ArchiveStream + '_>> {
        Ok(Box::new(self.metadata.stream()))
    }

    fn content(&self) -> io::Result<Box<dyn ContentSource + '_>> {
        let payload = self.payload.as_ref().ok_or(io::ErrorKind::Unsupported)?;
        Ok(Box::new(Walker::new(payload, false)))
    }

    fn random_access(&self) -> Option<&dyn ReadAt> {
        Some(&self.metadata)
    }
}

impl RemoteArchive {
    /// The archive.
    pub fn archive(&self) -> &ReaderArchive {
        &self.archive
    }

    /// It from its beginning, several chunks ahead.
    pub fn stream(&self) -> RemoteStream<'_> {
        RemoteStream {
            walker: Walker::new(self, true),
            position: 0,
        }
    }

    fn single(&self, at: u64) -> Result<Option<Piece>> {
        let lock = || self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut kept = lock();
            if let Some(number) = kept.iter().position(|piece| piece.holds(at))
                && let Some(piece) = kept.remove(number)
            {
                kept.push_back(piece.clone());
                return Ok(Some(piece));
            }
        }
        let Some(piece) = self.runtime.block_on(self.archive.piece(at))? else {
            return Ok(None);
        };
        let mut kept = lock();
        kept.push_back(piece.clone());
        let bytes = |kept: &VecDeque<Piece>| kept.iter().map(Piece::memory).sum::<u64>();
        while kept.len() > 1 && (kept.len() > KEPT || bytes(&kept) > ROOM) {
            kept.pop_front();
        }
        Ok(Some(piece))
    }
}

impl ReadAt for RemoteArchive {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        let (mut at, mut rest) = (offset, buffer);
        while !rest.is_empty() {
            let piece = self.single(at).map_err(io::Error::other)?;
            let piece = piece.ok_or(io::ErrorKind::UnexpectedEof)?;
            let count = piece.copy(at, rest);
            rest = &mut rest[count..];
            at += count as u64;
        }
        Ok(())
    }

    fn size(&self) -> u64 {
        self.archive.size()
    }
}

impl Piece {
    /// Bytes of its content.
    pub fn length(&self) -> u64 {
        match &self.content {
            Content::Zeros(length) => *length,
            Content::Bytes(bytes) => bytes.len() as u64,
        }
    }

    fn memory(&self) -> u64 {
        match &self.content {
            Content::Zeros(_) => 0,
            Content::Bytes(bytes) => bytes.len() as u64,
        }
    }

    fn holds(&self, at: u64) -> bool {
        (self.offset..self.offset + self.length()).contains(&at)
    }

    /// Copies what it holds from `at` on, which must lie in it. Gives how much that was.
    fn copy(&self, at: u64, to: &mut [u8]) -> usize {
        let within = at - self.offset;
        let count = (self.length() - within).min(to.len() as u64) as usize;
        match &self.content {
            Content::Zeros(_) => to[..count].fill(0),
            Content::Bytes(bytes) => to[..count].copy_from_slice(&bytes[within as usize..][..count]),
        }
        count
    }
}

/// Reads parts in rising order, ahead if they follow each other.
struct Walker<'a> {
    archive: &'a RemoteArchive,
    /// Whether all of it is wanted.
    sequential: bool,
    pieces: Option<Pieces<'a>>,
    current: Option<Piece>,
    in_order: u32,
}

impl<'a> Walker<'a> {
    fn new(archive: &'a RemoteArchive, sequential: bool) -> Self {
        Self {
            archive,
            sequential,
            pieces: None,
            current: None,
            in_order: 0,
        }
    }

    /// The piece that holds byte `at`; none beyond the end.
    fn seek(&mut self, at: u64) -> Result<Option<Piece>> {
        if let Some(piece) = self.current.as_ref().filter(|piece| piece.holds(at)) {
            return Ok(Some(piece.clone()));
        }
        let end = self
            .current
            .take()
            .map_or(0, |piece| piece.offset + piece.length());
        if (end..=end + GAP).contains(&at) {
            self.in_order += 1;
        } else {
            self.in_order = 0;
            self.pieces = None;
        }
        if self.pieces.is_none() && !self.sequential && self.in_order < IN_ORDER {
            self.current = self.archive.single(at)?;
            return Ok(self.current.clone());
        }
        let archive = self.archive;
        let pieces = self.pieces.get_or_insert_with(|| archive.archive.pieces_from(at));
        loop {
            match archive.runtime.block_on(pieces.next()) {
                Ok(Some(piece)) if piece.holds(at) => {
                    self.current = Some(piece.clone());
                    return Ok(Some(piece));
                }
                Ok(Some(_)) => {}
                Ok(None) => return Ok(None),
                Err(error) => {
                    // What comes behind it may be readable.
                    self.pieces = None;
                    self.in_order = 0;
                    return Err(error);
                }
            }
        }
    }
}

impl ContentSource for Walker<'_> {
    fn read(
        &mut self,
        range: Range<u64>,
        take: &mut dyn FnMut(relight_pxar::fs::extract::Piece<'_>) -> ControlFlow<()>,
    ) -> io::Result<()> {
        use relight_pxar::fs::extract::Piece as Part;
        let mut at = range.start;
        while at < range.end {
            let piece = self.seek(at).map_err(io::Error::other)?;
            let piece = piece.ok_or(io::ErrorKind::UnexpectedEof)?;
            let end = range.end.min(piece.offset + piece.length());
            let within = (at - piece.offset) as usize..(end - piece.offset) as usize;
            let flow = match &piece.content {
                Content::Bytes(bytes) => take(Part::Bytes(&bytes[within])),
                Content::Zeros(_) => take(Part::Zeros(end - at)),
            };
            if flow.is_break() {
                break;
            }
            at = end;
        }
        Ok(())
    }
}

/// An archive that is read from its beginning. See [`ArchiveStream`].
pub struct RemoteStream<'a> {
    walker: Walker<'a>,
    position: u64,
}

impl Read for RemoteStream<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let Some(piece) = self.walker.seek(self.position).map_err(io::Error::other)? else {
            return Ok(0);
        };
        let count = piece.copy(self.position, buffer);
        self.position += count as u64;
        Ok(count)
    }
}

impl Seek for RemoteStream<'_> {
    /// Only forward from where it is.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let SeekFrom::Current(count) = to else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let count = u64::try_from(count).map_err(|_| io::ErrorKind::Unsupported)?;
        self.position = self.position.saturating_add(count);
        Ok(self.position)
    }
}

/// The error of a client that came through an interface which knows only [`io::Error`].
pub fn client_error(error: io::Error) -> Result<ClientError, io::Error> {
    error.downcast::<ClientError>()
}
