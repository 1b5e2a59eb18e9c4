//! How many names a file of a tree has. The archive does not say so at the file, only at each further name; but
//! programs that copy trees look for the other names only of files that have several.

use std::io::{self, Read, Seek, SeekFrom};

use relight_pxar::read_at::ReadAt;
use relight_pxar::{DecodeError, Decoder, EntryKind, Event, NodeId};

use crate::content::Bytes;

/// The mark by which [`NodeId`] tells what is not a directory.
const NOT_DIRECTORY: u64 = 1 << 63;

/// Files of a tree that have several names.
#[derive(Debug, Default)]
pub struct Links {
    /// Where such a file lies and how many further names it has, sorted.
    further: Vec<(u64, u32)>,
}

impl Links {
    /// Reads all names of an archive. 16 bytes are kept for each file that has several.
    pub fn read(archive: &Bytes) -> Result<Self, DecodeError> {
        let mut targets: Vec<u64> = Vec::new();
        let mut decoder = Decoder::seekable(FromFront { archive, at: 0 })?;
        while let Some(event) = decoder.next()? {
            if let Event::Entry(entry) = event
                && let EntryKind::Hardlink { target_position, .. } = entry.kind
            {
                targets.push(target_position);
            }
        }
        targets.sort_unstable();
        let mut further: Vec<(u64, u32)> = Vec::new();
        for target in targets {
            match further.last_mut() {
                Some((last, count)) if *last == target => *count = count.saturating_add(1),
                _ => further.push((target, 1)),
            }
        }
        further.shrink_to_fit();
        Ok(Self { further })
    }

    /// How many names a file has.
    pub fn of(&self, node: NodeId) -> u32 {
        let place = node.to_raw() & !NOT_DIRECTORY;
        match self.further.binary_search_by_key(&place, |(target, _)| *target) {
            Ok(found) => self
                .further
                .get(found)
                .map_or(1, |(_, count)| count.saturating_add(1)),
            Err(_) => 1,
        }
    }
}

/// Reads an archive from front to back.
struct FromFront<'a> {
    archive: &'a Bytes,
    at: u64,
}

impl Read for FromFront<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.archive.size().saturating_sub(self.at);
        let count = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
        self.archive.read_exact_at(&mut buffer[..count], self.at)?;
        self.at += count as u64;
        Ok(count)
    }
}

impl Seek for FromFront<'_> {
    /// Only forward from where it is: contents are passed over.
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let SeekFrom::Current(count) = to else {
            return Err(io::ErrorKind::Unsupported.into());
        };
        let count = u64::try_from(count).map_err(|_| io::ErrorKind::Unsupported)?;
        self.at = self.at.saturating_add(count);
        Ok(self.at)
    }
}
