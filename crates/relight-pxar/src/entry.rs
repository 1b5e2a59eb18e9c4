//! One entry of an archive, and how it is found in the bytes: shared by the sequential and the random reader.

use std::ops::Range;

use crate::error::DecodeError;
use crate::format::{self, HEADER_SIZE, ItemHeader, MAX_METADATA, Version, mode, name_problem, u64_at};
use crate::metadata::{Metadata, Stat};
use crate::metadata_items::{RawMetadata, is_attribute, is_entry};

/// An entry as a reader hands it out, borrowing from its buffers.
#[derive(Debug, Clone, Copy)]
pub struct Entry<'a> {
    /// Path from the root, components joined with slashes, none in front; empty for the root.
    pub path: &'a [u8],
    /// Last component of the path.
    pub name: &'a [u8],
    /// What it is.
    pub kind: EntryKind<'a>,
    /// Its metadata; none for a hard link, which has that of its target.
    pub metadata: Option<RawMetadata<'a>>,
    /// Where its FILENAME item lies; of the root, where its ENTRY item lies.
    pub position: u64,
}

impl Entry<'_> {
    /// The part of the metadata every entry has; none for a hard link.
    pub fn stat(&self) -> Option<Stat> {
        self.metadata.map(|raw| raw.stat())
    }

    /// Decodes the metadata; that of a hard link is empty.
    pub fn decode_metadata(&self) -> Result<Metadata, DecodeError> {
        self.metadata
            .map_or_else(|| Ok(Metadata::default()), |raw| raw.decode())
    }
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind<'a> {
    /// A directory; its children follow.
    Directory,
    /// A regular file.
    File {
        /// Bytes of its content.
        size: u64,
        /// Where they are.
        content: ContentPlace,
    },
    /// A symbolic link.
    Symlink {
        /// What it points at.
        target: &'a [u8],
    },
    /// A block or character device; the mode says which.
    Device {
        /// Major number.
        major: u64,
        /// Minor number.
        minor: u64,
    },
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
    /// A further name of an entry before.
    Hardlink {
        /// Where the FILENAME item of that entry lies.
        target_position: u64,
        /// Path of that entry from the root as the archive gives it, not checked: it may hold anything.
        target: &'a [u8],
    },
}

/// Where the content of a regular file lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ContentPlace {
    /// In the archive itself (version 1).
    Inline {
        /// Its first byte in the archive.
        offset: u64,
    },
    /// In the payload stream (version 2).
    Payload {
        /// Where its PAYLOAD header lies in the payload stream; the content begins 16 bytes behind.
        offset: u64,
    },
}

/// Bytes of an archive from the beginning of an entry on.
pub(crate) trait Window {
    /// Where the window begins in the archive.
    fn position(&self) -> u64;

    /// The window's first `length` bytes at least; [`DecodeError::Truncated`] where the archive ends before.
    fn require(&mut self, length: usize) -> Result<&[u8], DecodeError>;

    /// Whether the archive, or the entry, ends `length` bytes into the window.
    fn ends_at(&mut self, length: usize) -> Result<bool, DecodeError>;
}

/// Where the parts of an entry lie within its window.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    pub name: Range<usize>,
    pub metadata: Option<Range<usize>>,
    pub kind: KindLayout,
    /// Bytes of the entry without an inline content or children.
    pub length: usize,
}

/// What [`EntryKind`] says, with places in the window instead of bytes.
#[derive(Debug, Clone)]
pub(crate) enum KindLayout {
    Directory,
    File {
        size: u64,
        content: ContentPlace,
    },
    Symlink {
        target: Range<usize>,
    },
    Device {
        major: u64,
        minor: u64,
    },
    Fifo,
    Socket,
    Hardlink {
        target_position: u64,
        target: Range<usize>,
    },
}

impl Layout {
    /// The entry, given the bytes the layout was made from.
    pub(crate) fn entry<'a>(
        &self,
        bytes: &'a [u8],
        path: &'a [u8],
        name: &'a [u8],
        position: u64,
    ) -> Result<Entry<'a>, DecodeError> {
        let metadata = self.metadata(bytes, position)?;
        Ok(Entry {
            path,
            name,
            kind: self.kind(bytes),
            metadata,
            position,
        })
    }

    /// What the entry is.
    pub(crate) fn kind<'a>(&self, bytes: &'a [u8]) -> EntryKind<'a> {
        match &self.kind {
            KindLayout::Directory => EntryKind::Directory,
            KindLayout::File { size, content } => EntryKind::File {
                size: *size,
                content: *content,
            },
            KindLayout::Symlink { target } => EntryKind::Symlink {
                target: part(bytes, target),
            },
            KindLayout::Device { major, minor } => EntryKind::Device {
                major: *major,
                minor: *minor,
            },
            KindLayout::Fifo => EntryKind::Fifo,
            KindLayout::Socket => EntryKind::Socket,
            KindLayout::Hardlink {
                target_position,
                target,
            } => EntryKind::Hardlink {
                target_position: *target_position,
                target: part(bytes, target),
            },
        }
    }

    /// The entry's metadata; none for a hard link.
    pub(crate) fn metadata<'a>(
        &self,
        bytes: &'a [u8],
        position: u64,
    ) -> Result<Option<RawMetadata<'a>>, DecodeError> {
        let Some(range) = &self.metadata else {
            return Ok(None);
        };
        RawMetadata::of_checked(part(bytes, range), position.saturating_add(range.start as u64)).map(Some)
    }
}

/// The bytes of a range; none where it is out of bounds.
pub(crate) fn part<'a>(bytes: &'a [u8], range: &Range<usize>) -> &'a [u8] {
    bytes.get(range.clone()).unwrap_or_default()
}

/// Walks the items of the entry a window begins with. `named` says whether it begins with a FILENAME item, as all but
/// the root do.
pub(crate) fn parse(window: &mut impl Window, version: Version, named: bool) -> Result<Layout, DecodeError> {
    let position = window.position();
    let mut parser = Parser {
        window,
        position,
        offset: 0,
    };
    let name = if named { parser.name()? } else { 0..0 };
    let header = parser.header()?;
    if header.kind == format::HARDLINK && named {
        let kind = parser.hardlink(header)?;
        return Ok(Layout {
            name,
            metadata: None,
            kind,
            length: parser.offset,
        });
    }
    if !is_entry(header.kind) {
        return Err(parser.damaged("an entry does not begin with its metadata"));
    }
    let start = parser.offset;
    let content = parser.content(header)?;
    let file_mode = u64_at(content, 0) & u64::from(mode::TYPE);
    let (metadata, next) = parser.attributes(start)?;
    let kind = parser.kind(file_mode as u32, next, version)?;
    Ok(Layout {
        name,
        metadata: Some(metadata),
        kind,
        length: parser.offset,
    })
}

struct Parser<'w, T> {
    window: &'w mut T,
    position: u64,
    /// Where the next item lies in the window.
    offset: usize,
}

impl<T: Window> Parser<'_, T> {
    fn damaged(&self, what: &'static str) -> DecodeError {
        DecodeError::damaged(self.position.saturating_add(self.offset as u64), what)
    }

    fn header(&mut self) -> Result<ItemHeader, DecodeError> {
        let position = self.position.saturating_add(self.offset as u64);
        let bytes = self.window.require(self.offset + HEADER_SIZE as usize)?;
        match bytes.get(self.offset..).and_then(|rest| rest.first_chunk::<16>()) {
            Some(bytes) => ItemHeader::parse(bytes, position),
            None => Err(DecodeError::Truncated { position }),
        }
    }

    /// The content of the item at `offset`, and moves behind it. For items of bounded size only.
    fn content(&mut self, header: ItemHeader) -> Result<&[u8], DecodeError> {
        let start = self.offset + HEADER_SIZE as usize;
        let end = self.offset + header.size as usize;
        let bytes = self.window.require(end)?;
        self.offset = end;
        Ok(part(bytes, &(start..end)))
    }

    fn name(&mut self) -> Result<Range<usize>, DecodeError> {
        let header = self.header()?;
        if header.kind != format::FILENAME {
            return Err(self.damaged("there is no file name where an entry should begin"));
        }
        let start = HEADER_SIZE as usize;
        let problem = match self.content(header)?.split_last() {
            Some((0, name)) => name_problem(name),
            _ => Some("a name does not end with a zero byte"),
        };
        match problem {
            Some(what) => Err(DecodeError::damaged(self.position, what)),
            None => Ok(start..self.offset - 1),
        }
    }

    fn hardlink(&mut self, header: ItemHeader) -> Result<KindLayout, DecodeError> {
        let start = self.offset + HEADER_SIZE as usize + 8;
        let position = self.position;
        let content = self.content(header)?;
        let well_formed = content.len() > 8 && is_terminated(&content[8..]);
        let distance = u64_at(content, 0);
        if !well_formed {
            return Err(self.damaged("a hard link has no proper target"));
        }
        match position.checked_sub(distance) {
            Some(target_position) if distance > 0 => Ok(KindLayout::Hardlink {
                target_position,
                target: start..self.offset - 1,
            }),
            _ => Err(self.damaged("a hard link does not point at an entry before it")),
        }
    }

    /// Moves behind the attribute items. Hands out where the metadata lies that begins at `start`, and the header of
    /// the item behind it, none where the entry ends there.
    fn attributes(&mut self, start: usize) -> Result<(Range<usize>, Option<ItemHeader>), DecodeError> {
        loop {
            if self.window.ends_at(self.offset)? {
                return Ok((start..self.offset, None));
            }
            let header = self.header()?;
            if !is_attribute(header.kind) {
                return Ok((start..self.offset, Some(header)));
            }
            if self.offset - start > MAX_METADATA {
                return Err(self.damaged("the metadata of an entry is larger than 64 MiB"));
            }
            self.content(header)?;
        }
    }

    /// What the entry is, by the file type and the item behind its metadata, which is moved behind (but for an inline
    /// content).
    fn kind(
        &mut self,
        file_type: u32,
        next: Option<ItemHeader>,
        version: Version,
    ) -> Result<KindLayout, DecodeError> {
        let next_kind = next.map(|header| header.kind);
        let ends = matches!(next_kind, None | Some(format::FILENAME | format::GOODBYE));
        match (file_type, next) {
            (mode::DIRECTORY, _) if ends => Ok(KindLayout::Directory),
            (mode::FIFO, _) if ends => Ok(KindLayout::Fifo),
            (mode::SOCKET, _) if ends => Ok(KindLayout::Socket),
            (mode::SYMLINK, Some(header)) if header.kind == format::SYMLINK => {
                let start = self.offset + HEADER_SIZE as usize;
                if !is_terminated(self.content(header)?) {
                    return Err(self.damaged("a symbolic link has no proper target"));
                }
                Ok(KindLayout::Symlink {
                    target: start..self.offset - 1,
                })
            }
            (mode::BLOCK | mode::CHARACTER, Some(header)) if header.kind == format::DEVICE => {
                let [major, minor] = self.pair(header)?;
                Ok(KindLayout::Device { major, minor })
            }
            (mode::FILE, Some(header)) if header.kind == format::PAYLOAD && version == Version::V1 => {
                self.offset += HEADER_SIZE as usize;
                let offset = self.position.saturating_add(self.offset as u64);
                let size = header.content();
                if offset.checked_add(size).is_none() {
                    return Err(self.damaged("a content ends beyond what an archive can be"));
                }
                Ok(KindLayout::File {
                    size,
                    content: ContentPlace::Inline { offset },
                })
            }
            (mode::FILE, Some(header)) if header.kind == format::PAYLOAD_REF && version == Version::V2 => {
                let [offset, size] = self.pair(header)?;
                if offset
                    .checked_add(size)
                    .and_then(|end| end.checked_add(HEADER_SIZE))
                    .is_none()
                {
                    return Err(self.damaged("a content ends beyond what a payload stream can be"));
                }
                Ok(KindLayout::File {
                    size,
                    content: ContentPlace::Payload { offset },
                })
            }
            (_, None) => {
                let position = self.position.saturating_add(self.offset as u64);
                Err(DecodeError::Truncated { position })
            }
            _ => Err(self.damaged("what follows the metadata of an entry does not fit its file type")),
        }
    }

    fn pair(&mut self, header: ItemHeader) -> Result<[u64; 2], DecodeError> {
        let content = self.content(header)?;
        if content.len() != 16 {
            return Err(self.damaged("an item has the wrong size"));
        }
        Ok([u64_at(content, 0), u64_at(content, 8)])
    }
}

/// Whether bytes end with their only zero byte.
fn is_terminated(bytes: &[u8]) -> bool {
    bytes
        .iter()
        .position(|&byte| byte == 0)
        .is_some_and(|end| end + 1 == bytes.len())
}
