//! Brings the streams of a captured tree into a session.

use std::fs::File;
use std::io::{self, Read};
use std::ops::Range;

use relight_pxar::fs::sink::{ArchiveSink, PayloadError};
use relight_repo::Result;
use relight_repo::cdc::Sizes;
use relight_repo::session::{ArchiveWriter, Session};
use relight_repo::snapshot::{Archive, ArchiveKind};

use super::reuse::{Reuse, Taken};
use super::{METADATA, PAYLOAD, STAT};
use crate::error::into_io;

/// One read of a file is at most this long: what is left over after a cut is copied.
const READ: usize = 256 << 10;
/// Runs of zeros from this length on are stored as such; shorter ones are content.
const ZEROS: u64 = 1 << 20;

/// The three archives of a tree that is being captured.
pub(super) struct SessionSink<'a> {
    metadata: ArchiveWriter,
    payload: ArchiveWriter,
    stat: ArchiveWriter,
    reuse: Option<Reuse<'a>>,
    /// The file before was large enough to have chunks of its own.
    was_large: bool,
    /// The next file is to be cut behind so many bytes, where a chunk began that was lost.
    cut_due: Option<u64>,
    /// This file is to be cut behind so many bytes more.
    cut_in: Option<u64>,
}

impl<'a> SessionSink<'a> {
    pub fn new(session: &Session, name: &str, reuse: Option<Reuse<'a>>) -> Result<Self> {
        Ok(Self {
            metadata: session.archive(&format!("{name}{METADATA}"), ArchiveKind::PxarMetadata)?,
            payload: session.archive(&format!("{name}{PAYLOAD}"), ArchiveKind::PxarPayload)?,
            stat: session.archive(&format!("{name}{STAT}"), ArchiveKind::PxarStat)?,
            reuse,
            was_large: false,
            cut_due: None,
            cut_in: None,
        })
    }

    /// Ends the archives.
    pub fn finish(self) -> Result<[Archive; 3]> {
        Ok([
            self.metadata.finish()?,
            self.payload.finish()?,
            self.stat.finish()?,
        ])
    }

    fn interrupt(&mut self) {
        if let Some(reuse) = &mut self.reuse {
            reuse.interrupt();
        }
    }

    /// How many of `count` bytes come before the next cut that is asked for.
    fn uncut(&self, count: usize) -> usize {
        self.cut_in.map_or(count, |left| left.min(count as u64) as usize)
    }

    /// Takes note of payload that was written, and cuts where it is asked for.
    fn written(&mut self, count: u64) -> Result<()> {
        if let Some(left) = self.cut_in {
            self.cut_in = Some(left.saturating_sub(count)).filter(|left| *left > 0);
            if self.cut_in.is_none() {
                self.payload.cut()?;
            }
        }
        Ok(())
    }

    fn write(&mut self, mut bytes: &[u8]) -> Result<()> {
        while !bytes.is_empty() {
            let (part, rest) = bytes.split_at(self.uncut(bytes.len()));
            self.payload.write(part)?;
            self.written(part.len() as u64)?;
            bytes = rest;
        }
        Ok(())
    }

    fn zeros(&mut self, length: u64) -> Result<()> {
        if length >= ZEROS {
            self.payload.push_zeros(length)?;
            return self.written(length);
        }
        let zeros = [0; 4096];
        let mut rest = length;
        while rest > 0 {
            let part = rest.min(zeros.len() as u64);
            self.write(&zeros[..part as usize])?;
            rest -= part;
        }
        Ok(())
    }
}

impl ArchiveSink for SessionSink<'_> {
    fn write_metadata(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.metadata.write(bytes).map_err(into_io)
    }

    fn write_stat(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stat.write(bytes).map_err(into_io)
    }

    fn payload_position(&mut self) -> io::Result<u64> {
        Ok(self.payload.position())
    }

    fn start_file(&mut self, size: u64) -> io::Result<()> {
        // A large file has chunks of its own, so that it is found again wherever it is moved to.
        let large = size >= Sizes::DATA.least as u64;
        if large || self.was_large {
            self.payload.cut().map_err(into_io)?;
        }
        self.was_large = large;
        self.cut_in = self.cut_due.take().filter(|bytes| *bytes > 0);
        Ok(())
    }

    fn write_payload(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.interrupt();
        self.write(bytes).map_err(into_io)
    }

    fn read_payload_from(&mut self, mut file: &File, max: usize) -> Result<usize, PayloadError> {
        self.interrupt();
        let most = self.uncut(max).min(READ);
        let space = self.payload.space();
        let length = space.len().min(most);
        let count = loop {
            match file.read(&mut space[..length]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result.map_err(PayloadError::Read)?,
            }
        };
        let advanced = self
            .payload
            .advance(count)
            .and_then(|()| self.written(count as u64));
        advanced.map_err(|error| PayloadError::Sink(into_io(error)))?;
        Ok(count)
    }

    fn write_zeros(&mut self, length: u64) -> io::Result<()> {
        self.interrupt();
        self.zeros(length).map_err(into_io)
    }

    fn reuse_payload(&mut self, old: Range<u64>) -> io::Result<Option<u64>> {
        self.cut_due = None;
        let Some(reuse) = &mut self.reuse else {
            return Ok(None);
        };
        match reuse.take(&mut self.payload, old).map_err(into_io)? {
            Taken::At(place) => Ok(Some(place)),
            Taken::Lost { cut } => {
                if cut == Some(0) {
                    self.payload.cut().map_err(into_io)?;
                }
                self.cut_due = cut;
                Ok(None)
            }
        }
    }
}
