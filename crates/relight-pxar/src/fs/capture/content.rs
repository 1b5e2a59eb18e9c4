//! Moves the content of one file into the payload stream.

use std::fs::File;
use std::io;
use std::sync::atomic::AtomicBool;

use rustix::fs::{Advice, SeekFrom, fadvise, seek};
use rustix::io::Errno;

use super::CaptureError;
use crate::fs::progress::{Progress, count, is_set};
use crate::fs::sink::{ArchiveSink, PayloadError};
use crate::fs::stat::FileStat;

/// Most bytes asked for at once: often enough to notice a cancellation soon.
const READ_MAX: u64 = 4 << 20;

/// What became of a content.
#[derive(Debug, Default)]
pub(super) struct Copied {
    /// Bytes that came from the file.
    pub read: u64,
    /// The file ended before the size it was announced with.
    pub short: bool,
    /// Reading failed; zeros stand for the rest.
    pub error: Option<io::Error>,
}

/// Writes exactly `stat.size` bytes: what the file holds, zeros for its holes without reading them, and zeros where it
/// ends early or cannot be read.
pub(super) fn copy<S: ArchiveSink>(
    sink: &mut S,
    file: &File,
    stat: &FileStat,
    progress: &Progress,
    cancel: &AtomicBool,
) -> Result<Copied, CaptureError> {
    let size = stat.size;
    if size >= READ_MAX {
        // The kernel then reads further ahead. It is only advice.
        let _ = fadvise(file, 0, None, Advice::Sequential);
    }
    let mut copied = Copied::default();
    let mut sparse = stat.blocks.saturating_mul(512) < size;
    let mut position = 0;
    while position < size {
        let mut data_end = size;
        if sparse {
            match next_data(file, position, size) {
                Ok(Some((start, end))) => {
                    zeros(sink, start - position, progress)?;
                    position = start;
                    data_end = end;
                }
                Ok(None) => {
                    zeros(sink, size - position, progress)?;
                    break;
                }
                // A file system that cannot tell reads its holes as zeros; the read position has not moved.
                Err(_) => sparse = false,
            }
        }
        while position < data_end {
            if is_set(cancel) {
                return Err(CaptureError::Cancelled);
            }
            let wanted = (data_end - position).min(READ_MAX) as usize;
            match sink.read_payload_from(file, wanted) {
                Ok(0) => copied.short = true,
                Ok(read) => {
                    position += read as u64;
                    copied.read += read as u64;
                    count(&progress.bytes, read as u64);
                    continue;
                }
                Err(PayloadError::Read(error)) => copied.error = Some(error),
                Err(PayloadError::Sink(error)) => return Err(CaptureError::Sink(error)),
            }
            zeros(sink, size - position, progress)?;
            return Ok(copied);
        }
    }
    Ok(copied)
}

fn zeros<S: ArchiveSink>(sink: &mut S, length: u64, progress: &Progress) -> Result<(), CaptureError> {
    if length > 0 {
        sink.write_zeros(length).map_err(CaptureError::Sink)?;
        count(&progress.bytes, length);
    }
    Ok(())
}

/// The next range of data at or behind `position`, and the read position set to its start; none where only a hole is
/// left.
fn next_data(file: &File, position: u64, size: u64) -> Result<Option<(u64, u64)>, Errno> {
    let start = match seek(file, SeekFrom::Data(position)) {
        Ok(start) => start,
        Err(Errno::NXIO) => return Ok(None),
        Err(error) => {
            seek(file, SeekFrom::Start(position))?;
            return Err(error);
        }
    };
    if start >= size {
        return Ok(None);
    }
    let end = seek(file, SeekFrom::Hole(start)).unwrap_or(size).min(size);
    seek(file, SeekFrom::Start(start))?;
    Ok(Some((start.max(position), end.max(start))))
}
