//! Writing archives.

use std::io::{self, Read, Write};

use crate::error::EncodeError;
use crate::format::{self, ItemHeader, MAX_DEPTH, MAX_PATH, MAX_PRELUDE, Version, mode, name_problem};
use crate::goodbye::{self, GoodbyeItem};
use crate::metadata_items::EntryMetadata;
use crate::payload;
use crate::siphash::hash_name;

/// Bytes gathered before they are written.
const BUFFER: usize = 64 * 1024;

/// Writes an archive: the metadata stream of version 2 ([`Encoder::new`]), or version 1 with contents inline
/// ([`Encoder::new_v1`]).
///
/// Entries of a directory are added sorted by name in byte order. Each `add_*` method returns the position of the
/// entry, which a later hard link names. Metadata is given as `&Metadata` or as [`crate::RawMetadata`] from another
/// archive. Memory: 24 bytes an entry of the directories open at a time.
#[derive(Debug)]
pub struct Encoder<W> {
    out: W,
    version: Version,
    /// Bytes not yet written to `out`.
    buffer: Vec<u8>,
    /// Bytes written to `out`.
    written: u64,
    /// Records of all open directories, the root's first.
    items: Vec<GoodbyeItem>,
    directories: Vec<OpenDirectory>,
    /// End of the payload referred to last.
    payload_end: u64,
    failed: bool,
}

/// A directory whose children are being added.
#[derive(Debug)]
struct OpenDirectory {
    /// Where its FILENAME item lies; of the root, 0.
    position: u64,
    /// What its table's last record points at: its ENTRY item, of the root the beginning of the stream.
    entry: u64,
    hash: u64,
    /// First of its records in `items`.
    first_item: usize,
    /// Name of the child added last; empty before the first.
    last_name: Vec<u8>,
}

/// What [`Encoder::add_file`] wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AddedFile {
    /// Position of the entry.
    pub position: u64,
    /// Bytes the content lacked; zeros were written in their place, so that the archive stays readable. Not 0 means
    /// the file shrank while it was read: report it.
    pub missing: u64,
}

impl<W: Write> Encoder<W> {
    /// Begins the metadata stream of a version 2 archive with its root directory. `prelude` is kept as it is; the
    /// original's readers expect JSON there.
    pub fn new<'m>(
        writer: W,
        prelude: Option<&[u8]>,
        root: impl Into<EntryMetadata<'m>>,
    ) -> Result<Self, EncodeError> {
        let mut encoder = Self::empty(writer, Version::V2);
        encoder.push_item(format::FORMAT_VERSION, &[&2u64.to_le_bytes()]);
        if let Some(prelude) = prelude {
            if prelude.len() > MAX_PRELUDE {
                return Err(EncodeError::Misuse("the prelude is larger than 16 MiB"));
            }
            encoder.push_item(format::PRELUDE, &[prelude]);
        }
        encoder.begin_root(root.into())?;
        Ok(encoder)
    }

    /// Begins a version 1 archive with its root directory.
    pub fn new_v1<'m>(writer: W, root: impl Into<EntryMetadata<'m>>) -> Result<Self, EncodeError> {
        let mut encoder = Self::empty(writer, Version::V1);
        encoder.begin_root(root.into())?;
        Ok(encoder)
    }

    fn empty(out: W, version: Version) -> Self {
        Self {
            out,
            version,
            buffer: Vec::with_capacity(BUFFER + BUFFER / 4),
            written: 0,
            items: Vec::new(),
            directories: Vec::new(),
            payload_end: payload::START_MARKER.len() as u64,
            failed: false,
        }
    }

    fn begin_root(&mut self, metadata: EntryMetadata<'_>) -> Result<(), EncodeError> {
        require_type(metadata, &[mode::DIRECTORY])?;
        metadata.write(&mut self.buffer)?;
        self.directories.push(OpenDirectory {
            position: 0,
            entry: 0,
            hash: 0,
            first_item: 0,
            last_name: Vec::new(),
        });
        Ok(())
    }

    /// Bytes of the archive so far: where the next entry will lie.
    pub fn position(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// End of the payload referred to last: the earliest place a further [`Encoder::add_file_ref`] may name.
    pub fn payload_end(&self) -> u64 {
        self.payload_end
    }

    /// Directories open, the root included; 0 after it was ended.
    pub fn depth(&self) -> usize {
        self.directories.len()
    }

    /// Begins a directory; entries added from now on are its children until [`Encoder::end_directory`].
    pub fn start_directory<'m>(
        &mut self,
        name: &[u8],
        metadata: impl Into<EntryMetadata<'m>>,
    ) -> Result<u64, EncodeError> {
        let metadata = metadata.into();
        require_type(metadata, &[mode::DIRECTORY])?;
        if self.directories.len() >= MAX_DEPTH {
            return Err(EncodeError::Misuse("directories are nested deeper than 4096"));
        }
        self.check_name(name)?;
        let position = self.position();
        let start = self.buffer.len();
        self.push_name(name);
        let entry = self.position();
        if let Err(error) = metadata.write(&mut self.buffer) {
            self.buffer.truncate(start);
            return Err(error);
        }
        self.remember_name(name);
        self.directories.push(OpenDirectory {
            position,
            entry,
            hash: hash_name(name),
            first_item: self.items.len(),
            last_name: Vec::new(),
        });
        self.flush_if_full()?;
        Ok(position)
    }

    /// Ends the directory begun last; ending the root ends the archive.
    pub fn end_directory(&mut self) -> Result<(), EncodeError> {
        self.check_usable()?;
        let position = self.position();
        let directory = self
            .directories
            .pop()
            .ok_or(EncodeError::Misuse("no directory is open"))?;
        let items = self.items.get_mut(directory.first_item..).unwrap_or_default();
        goodbye::write_table(items, position, directory.entry, &mut self.buffer);
        self.items.truncate(directory.first_item);
        if !self.directories.is_empty() {
            let size = self.position() - directory.position;
            self.items.push(GoodbyeItem {
                hash: directory.hash,
                offset: directory.position,
                size,
            });
        }
        self.flush_if_full()
    }

    /// Adds a regular file of a version 2 archive. `payload_offset` is where the header of its content lies in the
    /// payload stream, not before the end of the payload named last; `size` is that of the content.
    pub fn add_file_ref<'m>(
        &mut self,
        name: &[u8],
        metadata: impl Into<EntryMetadata<'m>>,
        payload_offset: u64,
        size: u64,
    ) -> Result<u64, EncodeError> {
        if self.version != Version::V2 {
            return Err(EncodeError::Misuse(
                "a version 1 archive has no payload stream to refer to",
            ));
        }
        if payload_offset < self.payload_end {
            return Err(EncodeError::PayloadOrder {
                offset: payload_offset,
                end: self.payload_end,
            });
        }
        let metadata = metadata.into();
        require_type(metadata, &[mode::FILE])?;
        let content = [&payload_offset.to_le_bytes()[..], &size.to_le_bytes()];
        let position = self.add_entry(name, Some(metadata), Some((format::PAYLOAD_REF, &content)))?;
        self.payload_end = payload::end(payload_offset, size);
        Ok(position)
    }

    /// Adds a regular file of a version 1 archive, reading `size` bytes of `content`. Bytes beyond are not read; a
    /// content that ends before is filled up with zeros and [`AddedFile::missing`] says by how many.
    pub fn add_file<'m>(
        &mut self,
        name: &[u8],
        metadata: impl Into<EntryMetadata<'m>>,
        size: u64,
        content: &mut impl Read,
    ) -> Result<AddedFile, EncodeError> {
        if self.version != Version::V1 {
            return Err(EncodeError::Misuse(
                "contents of a version 2 archive go to its payload stream",
            ));
        }
        if size > u64::MAX / 2 {
            return Err(EncodeError::Misuse("a file is larger than an archive can be"));
        }
        let metadata = metadata.into();
        require_type(metadata, &[mode::FILE])?;
        self.check_name(name)?;
        let position = self.position();
        let start = self.buffer.len();
        self.push_name(name);
        if let Err(error) = metadata.write(&mut self.buffer) {
            self.buffer.truncate(start);
            return Err(error);
        }
        self.buffer
            .extend_from_slice(&ItemHeader::new(format::PAYLOAD, size).to_bytes());
        let missing = self.copy_content(size, content)?;
        self.finish_entry(name, position);
        Ok(AddedFile { position, missing })
    }

    /// Adds a symbolic link.
    pub fn add_symlink<'m>(
        &mut self,
        name: &[u8],
        metadata: impl Into<EntryMetadata<'m>>,
        target: &[u8],
    ) -> Result<u64, EncodeError> {
        let metadata = metadata.into();
        require_type(metadata, &[mode::SYMLINK])?;
        check_target(name, target)?;
        self.add_entry(name, Some(metadata), Some((format::SYMLINK, &[target, &[0]])))
    }

    /// Adds a block or character device.
    pub fn add_device<'m>(
        &mut self,
        name: &[u8],
        metadata: impl Into<EntryMetadata<'m>>,
        major: u64,
        minor: u64,
    ) -> Result<u64, EncodeError> {
        let metadata = metadata.into();
        require_type(metadata, &[mode::BLOCK, mode::CHARACTER])?;
        let content = [&major.to_le_bytes()[..], &minor.to_le_bytes()];
        self.add_entry(name, Some(metadata), Some((format::DEVICE, &content)))
    }

    /// Adds a named pipe.
    pub fn add_fifo<'m>(
        &mut self,
        name: &[u8],
        metadata: impl Into<EntryMetadata<'m>>,
    ) -> Result<u64, EncodeError> {
        let metadata = metadata.into();
        require_type(metadata, &[mode::FIFO])?;
        self.add_entry(name, Some(metadata), None)
    }

    /// Adds a socket.
    pub fn add_socket<'m>(
        &mut self,
        name: &[u8],
        metadata: impl Into<EntryMetadata<'m>>,
    ) -> Result<u64, EncodeError> {
        let metadata = metadata.into();
        require_type(metadata, &[mode::SOCKET])?;
        self.add_entry(name, Some(metadata), None)
    }

    /// Adds a further name of a regular file added before. `target` is the path of that one from the root, without a
    /// leading slash, and `target_position` what adding it returned. The original follows links to regular files only.
    pub fn add_hardlink(
        &mut self,
        name: &[u8],
        target: &[u8],
        target_position: u64,
    ) -> Result<u64, EncodeError> {
        check_target(name, target)?;
        let distance = self.position().saturating_sub(target_position);
        if distance == 0 {
            return Err(EncodeError::Misuse(
                "a hard link must point at an entry before it",
            ));
        }
        let content = [&distance.to_le_bytes()[..], target, &[0]];
        self.add_entry(name, None, Some((format::HARDLINK, &content)))
    }

    /// Ends the archive (with the root directory, where that is still open) and hands back the writer, flushed.
    pub fn finish(mut self) -> Result<W, EncodeError> {
        match self.directories.len() {
            0 => self.check_failed()?,
            1 => self.end_directory()?,
            _ => return Err(EncodeError::Misuse("directories are still open")),
        }
        self.write_buffer()?;
        self.out.flush()?;
        Ok(self.out)
    }

    /// Writes what is gathered so far, so that the writer has every byte before [`Encoder::position`].
    pub fn flush(&mut self) -> Result<(), EncodeError> {
        self.check_failed()?;
        self.write_buffer()?;
        self.out.flush().map_err(|error| self.fail(error))
    }

    /// The writer. Bytes written to it directly would break the archive.
    pub fn writer(&self) -> &W {
        &self.out
    }

    fn add_entry(
        &mut self,
        name: &[u8],
        metadata: Option<EntryMetadata<'_>>,
        item: Option<(u64, &[&[u8]])>,
    ) -> Result<u64, EncodeError> {
        self.check_name(name)?;
        let position = self.position();
        let start = self.buffer.len();
        self.push_name(name);
        if let Some(Err(error)) = metadata.map(|metadata| metadata.write(&mut self.buffer)) {
            self.buffer.truncate(start);
            return Err(error);
        }
        if let Some((kind, parts)) = item {
            self.push_item(kind, parts);
        }
        self.finish_entry(name, position);
        self.flush_if_full()?;
        Ok(position)
    }

    fn finish_entry(&mut self, name: &[u8], position: u64) {
        let size = self.position() - position;
        self.items.push(GoodbyeItem {
            hash: hash_name(name),
            offset: position,
            size,
        });
        self.remember_name(name);
    }

    fn check_failed(&self) -> Result<(), EncodeError> {
        if self.failed {
            Err(EncodeError::Failed)
        } else {
            Ok(())
        }
    }

    fn check_usable(&self) -> Result<(), EncodeError> {
        self.check_failed()?;
        if self.directories.is_empty() {
            return Err(EncodeError::Misuse(
                "the archive's root directory was ended already",
            ));
        }
        Ok(())
    }

    fn check_name(&self, name: &[u8]) -> Result<(), EncodeError> {
        self.check_usable()?;
        if let Some(what) = name_problem(name) {
            return Err(EncodeError::Name {
                name: name.to_vec(),
                what,
            });
        }
        match self.directories.last() {
            Some(directory) if directory.last_name.as_slice() >= name => Err(EncodeError::Order {
                name: name.to_vec(),
                previous: directory.last_name.clone(),
            }),
            _ => Ok(()),
        }
    }

    fn remember_name(&mut self, name: &[u8]) {
        if let Some(directory) = self.directories.last_mut() {
            directory.last_name.clear();
            directory.last_name.extend_from_slice(name);
        }
    }

    fn push_name(&mut self, name: &[u8]) {
        self.push_item(format::FILENAME, &[name, &[0]]);
    }

    fn push_item(&mut self, kind: u64, parts: &[&[u8]]) {
        let size: usize = parts.iter().map(|part| part.len()).sum();
        self.buffer
            .extend_from_slice(&ItemHeader::new(kind, size as u64).to_bytes());
        for part in parts {
            self.buffer.extend_from_slice(part);
        }
    }

    /// Copies `size` bytes; how many of them are zeros for want of content.
    fn copy_content(&mut self, size: u64, content: &mut impl Read) -> Result<u64, EncodeError> {
        let mut left = size;
        let mut ended = false;
        let mut missing = 0;
        while left > 0 {
            if self.buffer.len() >= BUFFER {
                self.write_buffer()?;
            }
            let start = self.buffer.len();
            let room = left.min((BUFFER - start) as u64) as usize;
            self.buffer.resize(start + room, 0);
            let mut filled = if ended { room } else { 0 };
            while filled == 0 {
                match content.read(&mut self.buffer[start..]) {
                    Ok(0) => {
                        ended = true;
                        missing = left;
                        filled = room;
                        self.buffer[start..].fill(0);
                    }
                    Ok(count) => filled = count.min(room),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    Err(error) => return Err(self.fail(error)),
                }
            }
            self.buffer.truncate(start + filled);
            left -= filled as u64;
        }
        self.flush_if_full()?;
        Ok(missing)
    }

    fn flush_if_full(&mut self) -> Result<(), EncodeError> {
        if self.buffer.len() >= BUFFER {
            self.write_buffer()
        } else {
            Ok(())
        }
    }

    fn write_buffer(&mut self) -> Result<(), EncodeError> {
        if let Err(error) = self.out.write_all(&self.buffer) {
            return Err(self.fail(error));
        }
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        // A large directory's table must not keep its memory for the rest of the archive.
        self.buffer.shrink_to(4 * BUFFER);
        Ok(())
    }

    fn fail(&mut self, error: io::Error) -> EncodeError {
        self.failed = true;
        EncodeError::Io(error)
    }
}

fn require_type(metadata: EntryMetadata<'_>, allowed: &[u32]) -> Result<(), EncodeError> {
    if allowed.contains(&metadata.file_type()) {
        Ok(())
    } else {
        Err(EncodeError::Metadata(
            "the file type of the mode is not that of the entry",
        ))
    }
}

fn check_target(name: &[u8], target: &[u8]) -> Result<(), EncodeError> {
    let what = if target.len() > MAX_PATH {
        "its target is longer than 4096 bytes"
    } else if target.contains(&0) {
        "its target holds a zero byte"
    } else {
        return Ok(());
    };
    Err(EncodeError::Name {
        name: name.to_vec(),
        what,
    })
}
