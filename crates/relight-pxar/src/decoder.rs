//! Reading archives from front to back.

use std::io::{self, Read, Seek, SeekFrom};

use crate::entry::{ContentPlace, Entry, KindLayout, Window, parse, part};
use crate::error::DecodeError;
use crate::format::{
    self, GOODBYE_ITEM_SIZE, GOODBYE_TAIL_MARKER, HEADER_SIZE, ItemHeader, MAX_DEPTH, Version, u64_at,
};

/// Bytes asked of the source at a time.
const BLOCK: usize = 128 * 1024;

/// What comes next in an archive.
#[derive(Debug)]
pub enum Event<'a> {
    /// An entry. The first one is the root directory; the children of a directory follow it up to its end.
    Entry(Entry<'a>),
    /// The directory entered last, and not left yet, ends.
    EndDirectory {
        /// Its path from the root; empty for the root.
        path: &'a [u8],
        /// Position behind its last byte.
        end: u64,
    },
}

/// Reads an archive (version 1, or the metadata stream of version 2) from front to back, with bounded memory.
#[derive(Debug)]
pub struct Decoder<R> {
    input: Input<R>,
    version: Version,
    prelude: Option<Vec<u8>>,
    /// Bytes at the front of the input that belong to the entry handed out last.
    taken: usize,
    /// Inline content of that entry not read yet.
    content: u64,
    /// Path of the entry handed out last.
    path: Vec<u8>,
    /// Length of the path of each open directory.
    directories: Vec<usize>,
    state: State,
}

#[derive(Debug, PartialEq, Eq)]
enum State {
    Root,
    Children,
    End,
}

impl<R: Read> Decoder<R> {
    /// Begins to read: the version and the prelude.
    pub fn new(source: R) -> Result<Self, DecodeError> {
        Self::with_skip(source, |source, count| {
            let skipped = io::copy(&mut source.take(count), &mut io::sink())?;
            if skipped == count {
                Ok(())
            } else {
                Err(io::ErrorKind::UnexpectedEof.into())
            }
        })
    }

    /// As [`Decoder::new`], for a source that can jump over contents that are not read.
    pub fn seekable(source: R) -> Result<Self, DecodeError>
    where
        R: Seek,
    {
        Self::with_skip(source, |source, count| {
            let count = i64::try_from(count).map_err(|_| io::ErrorKind::UnexpectedEof)?;
            source.seek(SeekFrom::Current(count)).map(|_| ())
        })
    }

    fn with_skip(source: R, skip: fn(&mut R, u64) -> io::Result<()>) -> Result<Self, DecodeError> {
        let input = Input {
            source,
            skip,
            buffer: Vec::new(),
            start: 0,
            end: 0,
            position: 0,
        };
        let mut decoder = Self {
            input,
            version: Version::V1,
            prelude: None,
            taken: 0,
            content: 0,
            path: Vec::new(),
            directories: Vec::new(),
            state: State::Root,
        };
        decoder.read_start()?;
        Ok(decoder)
    }

    fn read_start(&mut self) -> Result<(), DecodeError> {
        if self.input.header()?.kind == format::FORMAT_VERSION {
            let content = self.input.small_item()?;
            self.version = match (u64_at(&content, 0), content.len()) {
                (1, 8) => Version::V1,
                (2, 8) => Version::V2,
                (version, 8) => return Err(DecodeError::UnknownVersion { version }),
                _ => return Err(DecodeError::damaged(0, "the version has the wrong size")),
            };
            if self.version == Version::V2 && self.input.header()?.kind == format::PRELUDE {
                self.prelude = Some(self.input.small_item()?);
            }
        }
        Ok(())
    }

    /// Version of the archive.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The prelude of a version 2 archive, where there is one.
    pub fn prelude(&self) -> Option<&[u8]> {
        self.prelude.as_deref()
    }

    /// Position in the archive of what comes next.
    pub fn position(&self) -> u64 {
        self.input
            .position
            .saturating_add(self.taken as u64)
            .saturating_add(self.content)
    }

    /// Directories entered and not left, the root included.
    pub fn depth(&self) -> usize {
        self.directories.len()
    }

    /// The next entry or end of a directory; none after the end of the root. An inline content not read is skipped.
    /// After an error no further call is of use.
    // Not an iterator: what it hands out borrows from its buffers.
    #[allow(clippy::should_implement_trait)]
    pub fn next(&mut self) -> Result<Option<Event<'_>>, DecodeError> {
        self.settle()?;
        let named = match self.state {
            State::End => return Ok(None),
            State::Root => false,
            State::Children => true,
        };
        if named && self.input.header()?.kind == format::GOODBYE {
            return self.leave_directory().map(Some);
        }
        let position = self.input.position;
        let layout = parse(&mut self.input, self.version, named)?;
        let parent = self.directories.last().copied().unwrap_or(0);
        self.path.truncate(parent);
        if named {
            if parent > 0 {
                self.path.push(b'/');
            }
            let name = part(self.input.bytes(), &layout.name);
            self.path.extend_from_slice(name);
        } else if !matches!(layout.kind, KindLayout::Directory) {
            return Err(DecodeError::damaged(
                position,
                "the root of the archive is not a directory",
            ));
        }
        match layout.kind {
            KindLayout::Directory => {
                if self.directories.len() >= MAX_DEPTH {
                    return Err(DecodeError::damaged(
                        position,
                        "directories are nested deeper than 4096",
                    ));
                }
                self.directories.push(self.path.len());
                self.state = State::Children;
            }
            KindLayout::File {
                size,
                content: ContentPlace::Inline { .. },
            } => self.content = size,
            _ => {}
        }
        self.taken = layout.length;
        let bytes = self.input.bytes();
        layout
            .entry(bytes, &self.path, part(bytes, &layout.name), position)
            .map(|entry| Some(Event::Entry(entry)))
    }

    /// Reads on in the inline content of the file handed out last (version 1); 0 at its end, and for other entries.
    pub fn read_content(&mut self, buffer: &mut [u8]) -> Result<usize, DecodeError> {
        self.input.advance(std::mem::take(&mut self.taken));
        let wanted = usize::try_from(self.content)
            .unwrap_or(usize::MAX)
            .min(buffer.len());
        if wanted == 0 {
            return Ok(0);
        }
        let count = self.input.read(&mut buffer[..wanted])?;
        self.content -= count as u64;
        Ok(count)
    }

    /// A reader of the inline content of the file handed out last (version 1); empty for other entries.
    pub fn content(&mut self) -> Content<'_, R> {
        Content { decoder: self }
    }

    /// Skips the rest of the directory entered last with everything in it; its end is not handed out.
    pub fn skip_directory(&mut self) -> Result<(), DecodeError> {
        let depth = self.directories.len();
        while self.directories.len() >= depth && self.next()?.is_some() {}
        Ok(())
    }

    /// Hands back the source, read to somewhere behind what was handed out.
    pub fn into_inner(self) -> R {
        self.input.source
    }

    /// Moves behind the entry handed out last.
    fn settle(&mut self) -> Result<(), DecodeError> {
        self.input.advance(std::mem::take(&mut self.taken));
        self.input.skip(std::mem::take(&mut self.content))
    }

    fn leave_directory(&mut self) -> Result<Event<'_>, DecodeError> {
        let position = self.input.position;
        let size = self.input.header()?.size;
        let table = size - HEADER_SIZE;
        if table < GOODBYE_ITEM_SIZE || !table.is_multiple_of(GOODBYE_ITEM_SIZE) {
            return Err(DecodeError::damaged(
                position,
                "a directory's look-up table has an impossible size",
            ));
        }
        if position.checked_add(size).is_none() {
            return Err(DecodeError::damaged(
                position,
                "a directory's look-up table is larger than an archive can be",
            ));
        }
        self.input.skip(size - GOODBYE_ITEM_SIZE)?;
        let tail = self.input.require(GOODBYE_ITEM_SIZE as usize)?;
        if u64_at(tail, 0) != GOODBYE_TAIL_MARKER || u64_at(tail, 16) != size {
            return Err(DecodeError::damaged(
                position,
                "a directory's look-up table does not end as it must",
            ));
        }
        self.input.advance(GOODBYE_ITEM_SIZE as usize);
        self.path.truncate(self.directories.pop().unwrap_or(0));
        if self.directories.is_empty() {
            self.state = State::End;
        }
        Ok(Event::EndDirectory {
            path: &self.path,
            end: self.input.position,
        })
    }
}

/// Reads the inline content of a file, see [`Decoder::content`].
#[derive(Debug)]
pub struct Content<'d, R> {
    decoder: &'d mut Decoder<R>,
}

impl<R: Read> Read for Content<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.decoder.read_content(buffer).map_err(|error| match error {
            DecodeError::Io(error) => error,
            DecodeError::Truncated { .. } => io::Error::new(io::ErrorKind::UnexpectedEof, error),
            error => io::Error::new(io::ErrorKind::InvalidData, error),
        })
    }
}

/// Buffered source of an archive's bytes.
#[derive(Debug)]
struct Input<R> {
    source: R,
    skip: fn(&mut R, u64) -> io::Result<()>,
    buffer: Vec<u8>,
    /// Bytes not consumed: `buffer[start..end]`.
    start: usize,
    end: usize,
    /// Where `start` lies in the archive.
    position: u64,
}

impl<R: Read> Input<R> {
    fn bytes(&self) -> &[u8] {
        part(&self.buffer, &(self.start..self.end))
    }

    /// Reads until `length` bytes are there, or the source ends.
    fn fill(&mut self, length: usize) -> Result<(), DecodeError> {
        if self.start > 0 {
            self.buffer.copy_within(self.start..self.end, 0);
            self.end -= self.start;
            self.start = 0;
            if length <= BLOCK && self.buffer.len() > 4 * BLOCK {
                self.buffer.truncate(BLOCK.max(self.end));
                self.buffer.shrink_to_fit();
            }
        }
        while self.end - self.start < length {
            if self.end == self.buffer.len() {
                // Grows with what really comes, not with what a header claims.
                self.buffer
                    .resize(self.buffer.len() + BLOCK.max(self.buffer.len() / 2), 0);
            }
            match self.source.read(&mut self.buffer[self.end..]) {
                Ok(0) => break,
                Ok(count) => self.end += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    /// Drops bytes that are known to be there.
    fn advance(&mut self, count: usize) {
        self.start += count;
        self.position = self.position.saturating_add(count as u64);
    }

    fn skip(&mut self, count: u64) -> Result<(), DecodeError> {
        let buffered = (self.end - self.start) as u64;
        let here = count.min(buffered);
        self.advance(here as usize);
        if count > here {
            (self.skip)(&mut self.source, count - here).map_err(|error| match error.kind() {
                io::ErrorKind::UnexpectedEof => DecodeError::Truncated {
                    position: self.position,
                },
                _ => error.into(),
            })?;
            self.position = self.position.saturating_add(count - here);
        }
        Ok(())
    }

    fn read(&mut self, buffer: &mut [u8]) -> Result<usize, DecodeError> {
        let buffered = self.end - self.start;
        let count = if buffered > 0 {
            let count = buffered.min(buffer.len());
            buffer[..count].copy_from_slice(&self.buffer[self.start..self.start + count]);
            count
        } else {
            let count = loop {
                match self.source.read(buffer) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    result => break result?,
                }
            };
            if count == 0 {
                return Err(DecodeError::Truncated {
                    position: self.position,
                });
            }
            self.position = self.position.saturating_add(count as u64);
            return Ok(count);
        };
        self.advance(count);
        Ok(count)
    }

    fn header(&mut self) -> Result<ItemHeader, DecodeError> {
        let position = self.position;
        let bytes = self.require(HEADER_SIZE as usize)?;
        match bytes.first_chunk::<16>() {
            Some(bytes) => ItemHeader::parse(bytes, position),
            None => Err(DecodeError::Truncated { position }),
        }
    }

    /// Content of the next item, of a type whose size is bounded, and moves behind it.
    fn small_item(&mut self) -> Result<Vec<u8>, DecodeError> {
        let size = self.header()?.size as usize;
        let content = part(self.require(size)?, &(HEADER_SIZE as usize..size)).to_vec();
        self.advance(size);
        Ok(content)
    }
}

impl<R: Read> Window for Input<R> {
    fn position(&self) -> u64 {
        self.position
    }

    fn require(&mut self, length: usize) -> Result<&[u8], DecodeError> {
        if self.end - self.start < length {
            self.fill(length)?;
            if self.end - self.start < length {
                let position = self.position.saturating_add((self.end - self.start) as u64);
                return Err(DecodeError::Truncated { position });
            }
        }
        Ok(self.bytes())
    }

    fn ends_at(&mut self, length: usize) -> Result<bool, DecodeError> {
        if self.end - self.start > length {
            return Ok(false);
        }
        self.fill(length + 1)?;
        Ok(self.end - self.start <= length)
    }
}
