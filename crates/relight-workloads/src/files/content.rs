//! Archives of a tree as the pxar crate wants to read them.

use std::io::{self, Read, Seek, SeekFrom};
use std::sync::Arc;

use relight_pxar::read_at::ReadAt;
use relight_repo::Result;
use relight_repo::read::{ArchiveReader, ChunkReader, Content, PieceStream};
use relight_repo::snapshot::Archive;
use relight_repo::tree::{Piece, Root};

use crate::error::into_io;

/// An archive for random access.
pub struct RandomArchive(ArchiveReader);

/// Opens an archive for random access.
pub fn open_archive(reader: &Arc<ChunkReader>, archive: &Archive) -> RandomArchive {
    RandomArchive(ArchiveReader::new(reader.clone(), archive.root))
}

impl ReadAt for RandomArchive {
    fn read_exact_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<()> {
        self.0.read_exact_at(buffer, offset).map_err(|error| match error {
            relight_repo::RepoError::Source(error) => error,
            error => into_io(error),
        })
    }

    fn size(&self) -> u64 {
        self.0.size()
    }
}

/// What is passed over is read along up to this length; beyond it, reading begins anew behind it.
pub(super) const GAP: u64 = 8 << 20;

/// Reads an archive from front to back with read-ahead.
pub fn archive_read(reader: &Arc<ChunkReader>, root: Root) -> Result<ArchiveRead> {
    Ok(ArchiveRead {
        stream: Some(PieceStream::new(reader, root, 0)?),
        reader: reader.clone(),
        root,
        current: None,
        position: 0,
    })
}

/// An archive that is read from front to back. What is passed over by seeking is not read where it is large, so that
/// what cannot be read of it does no harm.
pub struct ArchiveRead {
    reader: Arc<ChunkReader>,
    root: Root,
    /// Gives what comes behind `current`; none where it has to begin anew.
    stream: Option<PieceStream>,
    current: Option<(Piece, Content)>,
    position: u64,
}

impl ArchiveRead {
    /// Makes the piece that holds the position the current one; false at the end of the archive.
    fn advance(&mut self) -> Result<bool> {
        let end = self
            .current
            .take()
            .map_or(0, |(piece, _)| piece.offset + piece.length);
        if !(end..=end + GAP).contains(&self.position) {
            self.stream = None;
        }
        loop {
            let anew = self.stream.is_none();
            let stream = match &mut self.stream {
                Some(stream) => stream,
                none => none.insert(PieceStream::new(&self.reader, self.root, self.position)?),
            };
            match stream.find(|item| {
                item.as_ref()
                    .map_or(true, |(piece, _)| holds(piece, self.position))
            }) {
                None => return Ok(false),
                Some(Ok(found)) => {
                    self.current = Some(found);
                    return Ok(true);
                }
                Some(Err(error)) => {
                    self.stream = None;
                    // It may have been something that is only passed over.
                    if anew || self.position == end {
                        return Err(error);
                    }
                }
            }
        }
    }
}

fn holds(piece: &Piece, at: u64) -> bool {
    (piece.offset..piece.offset + piece.length).contains(&at)
}

impl Read for ArchiveRead {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if let Some((piece, content)) = self
                .current
                .as_ref()
                .filter(|(piece, _)| holds(piece, self.position))
            {
                let within = self.position - piece.offset;
                let count = (piece.length - within).min(buffer.len() as u64) as usize;
                match content {
                    Some(content) => {
                        buffer[..count].copy_from_slice(&content[within as usize..within as usize + count]);
                    }
                    None => buffer[..count].fill(0),
                }
                self.position += count as u64;
                return Ok(count);
            }
            if !self.advance().map_err(into_io)? {
                return Ok(0);
            }
        }
    }
}

impl Seek for ArchiveRead {
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
