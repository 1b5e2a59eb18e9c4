//! Where a capture puts the archive.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;

/// A run of zeros to write from.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

/// Why content could not be moved from a file to the sink.
#[derive(Debug)]
pub enum PayloadError {
    /// The file could not be read: the capture reports it and goes on.
    Read(io::Error),
    /// The sink failed: the capture ends.
    Sink(io::Error),
}

/// Takes the three streams of a version 2 archive: metadata, payload (contents) and the stat records of
/// [`super::stat_records`]. Each is written front to back; the sink cuts, stores and buffers as it likes.
pub trait ArchiveSink {
    /// Appends to the metadata stream.
    fn write_metadata(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Appends to the stream of stat records.
    fn write_stat(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// The offset in the payload stream that the next byte written to it will have.
    fn payload_position(&mut self) -> io::Result<u64>;

    /// A file of that many bytes of content begins here: a good place for a chunk to begin, so that a large file that
    /// moved is found again.
    fn start_file(&mut self, size: u64) -> io::Result<()> {
        let _ = size;
        Ok(())
    }

    /// Appends to the payload stream.
    fn write_payload(&mut self, bytes: &[u8]) -> io::Result<()>;

    /// Appends what one read of `file` gives, `max` bytes at most, to the payload stream; 0 at the end of the file. A
    /// sink with a buffer of its own reads right into that.
    fn read_payload_from(&mut self, mut file: &File, max: usize) -> Result<usize, PayloadError> {
        let mut buffer = vec![0; max.min(256 * 1024)];
        let count = loop {
            match file.read(&mut buffer) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result.map_err(PayloadError::Read)?,
            }
        };
        self.write_payload(&buffer[..count]).map_err(PayloadError::Sink)?;
        Ok(count)
    }

    /// Appends zeros to the payload stream. A sink that knows chunks of zeros need not make them.
    fn write_zeros(&mut self, mut length: u64) -> io::Result<()> {
        while length > 0 {
            let part = length.min(ZEROS.len() as u64);
            self.write_payload(&ZEROS[..part as usize])?;
            length -= part;
        }
        Ok(())
    }

    /// Makes the bytes `old` of the previous archive's payload stream part of this one without reading them, and hands
    /// out where `old.start` lies in this stream: not before any byte written or reused so far, though neighbours in
    /// the previous stream may share what is reused. None where that cannot be done (a chunk is lost or suspect); the
    /// file is then read. Ranges come in rising order.
    fn reuse_payload(&mut self, old: Range<u64>) -> io::Result<Option<u64>> {
        let _ = old;
        Ok(None)
    }
}

impl<S: ArchiveSink + ?Sized> ArchiveSink for &mut S {
    fn write_metadata(&mut self, bytes: &[u8]) -> io::Result<()> {
        (**self).write_metadata(bytes)
    }

    fn write_stat(&mut self, bytes: &[u8]) -> io::Result<()> {
        (**self).write_stat(bytes)
    }

    fn payload_position(&mut self) -> io::Result<u64> {
        (**self).payload_position()
    }

    fn start_file(&mut self, size: u64) -> io::Result<()> {
        (**self).start_file(size)
    }

    fn write_payload(&mut self, bytes: &[u8]) -> io::Result<()> {
        (**self).write_payload(bytes)
    }

    fn read_payload_from(&mut self, file: &File, max: usize) -> Result<usize, PayloadError> {
        (**self).read_payload_from(file, max)
    }

    fn write_zeros(&mut self, length: u64) -> io::Result<()> {
        (**self).write_zeros(length)
    }

    fn reuse_payload(&mut self, old: Range<u64>) -> io::Result<Option<u64>> {
        (**self).reuse_payload(old)
    }
}
