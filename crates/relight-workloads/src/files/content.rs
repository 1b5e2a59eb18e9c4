//! Archives of a tree as the pxar crate wants to read them.

use std::io::{self, Read};
use std::sync::Arc;

use relight_pxar::read_at::ReadAt;
use relight_repo::Result;
use relight_repo::read::{ArchiveReader, ChunkReader, PieceStream};
use relight_repo::snapshot::Archive;
use relight_repo::tree::Root;

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

/// Reads an archive from front to back with read-ahead.
pub fn archive_read(reader: &Arc<ChunkReader>, root: Root) -> Result<impl Read + Send + 'static + use<>> {
    Ok(Sequential {
        stream: PieceStream::new(reader, root, 0)?,
        content: None,
        at: 0,
        zeros: 0,
    })
}

struct Sequential {
    stream: PieceStream,
    content: Option<Arc<Vec<u8>>>,
    at: usize,
    zeros: u64,
}

impl Read for Sequential {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        loop {
            if self.zeros > 0 {
                let count = self.zeros.min(buffer.len() as u64);
                buffer[..count as usize].fill(0);
                self.zeros -= count;
                return Ok(count as usize);
            }
            if let Some(content) = &self.content {
                let rest = &content[self.at..];
                if !rest.is_empty() {
                    let count = rest.len().min(buffer.len());
                    buffer[..count].copy_from_slice(&rest[..count]);
                    self.at += count;
                    return Ok(count);
                }
            }
            match self.stream.next().transpose().map_err(into_io)? {
                None => return Ok(0),
                Some((piece, None)) => {
                    self.content = None;
                    self.zeros = piece.length;
                }
                Some((_, Some(content))) => {
                    self.content = Some(content);
                    self.at = 0;
                }
            }
        }
    }
}
