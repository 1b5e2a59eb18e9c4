//! Any stream: chunks by content.

use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use relight_repo::RepoError;
use relight_repo::read::{ChunkReader, PieceStream};
use relight_repo::session::Session;
use relight_repo::snapshot::{Archive, ArchiveKind};

use crate::error::Result;

/// Saves what `source` gives as the archive `name`. `done` counts bytes.
pub fn back_up(
    session: &Session,
    name: &str,
    source: &mut dyn Read,
    done: &AtomicU64,
    cancelled: &AtomicBool,
) -> Result<Archive> {
    let mut writer = session.archive(name, ArchiveKind::Stream)?;
    loop {
        if cancelled.load(Ordering::Relaxed) {
            return Err(RepoError::Cancelled.into());
        }
        let space = writer.space();
        let most = space.len().min(256 << 10);
        match source.read(&mut space[..most]) {
            Ok(0) => return Ok(writer.finish()?),
            Ok(count) => {
                writer.advance(count)?;
                done.fetch_add(count as u64, Ordering::Relaxed);
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(RepoError::Source(error).into()),
        }
    }
}

/// Writes an archive to `target` from front to back. `done` counts bytes.
pub fn restore(
    reader: &Arc<ChunkReader>,
    archive: &Archive,
    target: &mut dyn Write,
    done: &AtomicU64,
    cancelled: &AtomicBool,
) -> Result<()> {
    let zeros = vec![0; 64 << 10];
    for item in PieceStream::new(reader, archive.root, 0)? {
        if cancelled.load(Ordering::Relaxed) {
            return Err(RepoError::Cancelled.into());
        }
        let (piece, content) = item?;
        let written = match content {
            Some(content) => target.write_all(&content),
            None => {
                let parts = (0..piece.length).step_by(zeros.len());
                parts
                    .map(|at| (piece.length - at).min(zeros.len() as u64) as usize)
                    .try_for_each(|count| target.write_all(&zeros[..count]))
            }
        };
        written.map_err(RepoError::Source)?;
        done.fetch_add(piece.length, Ordering::Relaxed);
    }
    target.flush().map_err(|error| RepoError::Source(error).into())
}
