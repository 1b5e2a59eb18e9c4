//! Compares contents.

use std::fs::File;
use std::io::{self, Read};

use rustix::fs::{SeekFrom, seek};
use rustix::io::Errno;

use crate::fs::extract::Piece;
use crate::fs::extract::sparse::is_zero;

/// Bytes read at a time.
const BLOCK: usize = 256 * 1024;

/// A file that pieces of another content are held against.
pub(super) struct Against {
    file: File,
    position: u64,
    buffer: Vec<u8>,
}

/// The file ends, or differs, before this byte.
#[derive(Debug)]
pub(super) struct Differs(pub u64);

impl Against {
    pub fn new(file: File, buffer: Vec<u8>) -> Self {
        let mut buffer = buffer;
        buffer.resize(BLOCK, 0);
        Self {
            file,
            position: 0,
            buffer,
        }
    }

    /// Hands the buffer back for the next file.
    pub fn into_buffer(self) -> Vec<u8> {
        self.buffer
    }

    /// Compares the next piece.
    pub fn take(&mut self, piece: Piece<'_>) -> io::Result<Result<(), Differs>> {
        match piece {
            Piece::Bytes(bytes) => self.bytes(bytes),
            Piece::Zeros(length) => self.zeros(length),
        }
    }

    fn bytes(&mut self, mut bytes: &[u8]) -> io::Result<Result<(), Differs>> {
        while !bytes.is_empty() {
            let length = bytes.len().min(self.buffer.len());
            let count = self.file.read(&mut self.buffer[..length])?;
            let same = count > 0 && self.buffer[..count] == bytes[..count];
            self.position += count as u64;
            if !same {
                return Ok(Err(Differs(self.position)));
            }
            bytes = &bytes[count..];
        }
        Ok(Ok(()))
    }

    fn zeros(&mut self, length: u64) -> io::Result<Result<(), Differs>> {
        let end = self.position.saturating_add(length);
        while self.position < end {
            let data = match seek(&self.file, SeekFrom::Data(self.position)) {
                Ok(data) => data.min(end),
                Err(Errno::NXIO) => end,
                Err(_) => self.position,
            };
            self.position = data;
            seek(&self.file, SeekFrom::Start(data))?;
            let wanted = (end - data).min(self.buffer.len() as u64) as usize;
            if wanted == 0 {
                break;
            }
            let count = self.file.read(&mut self.buffer[..wanted])?;
            self.position += count as u64;
            if count == 0 || !is_zero(&self.buffer[..count]) {
                return Ok(Err(Differs(self.position)));
            }
        }
        Ok(Ok(()))
    }
}

/// Hands the `size` bytes of a file to `take`, holes as zeros without reading them, until `take` says no. Whether all
/// were there.
pub(super) fn pieces(
    file: &mut File,
    size: u64,
    take: &mut dyn FnMut(Piece<'_>) -> io::Result<bool>,
) -> io::Result<bool> {
    let mut buffer = vec![0; BLOCK.min(usize::try_from(size).unwrap_or(BLOCK))];
    let mut position = 0;
    let mut sparse = true;
    while position < size {
        let mut end = size;
        if sparse {
            match seek(&*file, SeekFrom::Data(position)) {
                Ok(data) if data > position => {
                    let data = data.min(size);
                    if !take(Piece::Zeros(data - position))? {
                        return Ok(true);
                    }
                    position = data;
                    continue;
                }
                Ok(_) => {
                    end = seek(&*file, SeekFrom::Hole(position)).unwrap_or(size).min(size);
                }
                Err(Errno::NXIO) => {
                    take(Piece::Zeros(size - position))?;
                    return Ok(true);
                }
                Err(_) => sparse = false,
            }
            seek(&*file, SeekFrom::Start(position))?;
        }
        while position < end {
            let wanted = (end - position).min(buffer.len() as u64) as usize;
            let count = file.read(&mut buffer[..wanted])?;
            if count == 0 {
                return Ok(false);
            }
            if !take(Piece::Bytes(&buffer[..count]))? {
                return Ok(true);
            }
            position += count as u64;
        }
    }
    Ok(true)
}
