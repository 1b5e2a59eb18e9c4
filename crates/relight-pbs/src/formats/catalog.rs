//! `catalog.pcat1`: names, sizes and times of all files of a snapshot, to look for them without reading the archives.
//!
//! Blocks of directories, children before parents; the last eight bytes tell where the root's block begins. A block
//! names its subdirectories by how far back their blocks are.

use std::io::{self, Read, Seek, SeekFrom, Write};

const MAGIC: [u8; 8] = [0x91, 0xfd, 0x60, 0xf9, 0xc4, 0x67, 0x58, 0xd5];
/// Longest name of a file in bytes.
const MAX_NAME: u64 = 4096;
/// How deep directories may be nested for [`CatalogReader::walk`].
const MAX_DEPTH: usize = 1024;

/// Why a catalog cannot be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CatalogError {
    /// Reading or writing failed.
    #[error("the catalog cannot be read: {0}")]
    Io(#[from] io::Error),
    /// It is not one, or damaged.
    #[error("the catalog is damaged: {0}")]
    Damaged(&'static str),
    /// No such path.
    #[error("no such file or directory in the catalog")]
    NotFound,
    /// A file where a directory was expected.
    #[error("not a directory")]
    NotADirectory,
}

/// What an entry is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKind {
    /// A directory, with the position of its block.
    Directory {
        /// Where its block begins.
        start: u64,
    },
    /// A file.
    File {
        /// Bytes.
        size: u64,
        /// Modified, in seconds since 1970.
        mtime: i64,
    },
    /// A symbolic link.
    Symlink,
    /// Another name of a file.
    Hardlink,
    /// A block device.
    BlockDevice,
    /// A character device.
    CharDevice,
    /// A named pipe.
    Fifo,
    /// A socket.
    Socket,
}

impl EntryKind {
    /// The letter that stands for it.
    pub fn letter(&self) -> u8 {
        match self {
            Self::Directory { .. } => b'd',
            Self::File { .. } => b'f',
            Self::Symlink => b'l',
            Self::Hardlink => b'h',
            Self::BlockDevice => b'b',
            Self::CharDevice => b'c',
            Self::Fifo => b'p',
            Self::Socket => b's',
        }
    }
}

/// An entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CatalogEntry {
    /// Its name: bytes, never empty, without slashes and zeros.
    pub name: Vec<u8>,
    /// What it is.
    pub kind: EntryKind,
}

fn write_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// A negative number is its magnitude with bit 7 set in its last byte too, and a zero after it.
fn write_signed(value: i64, out: &mut Vec<u8>) {
    write_varint(value.unsigned_abs(), out);
    if value < 0 {
        if let Some(last) = out.last_mut() {
            *last |= 0x80;
        }
        out.push(0);
    }
}

/// The unread part of a block.
struct Cursor<'a>(&'a [u8]);

impl<'a> Cursor<'a> {
    fn byte(&mut self) -> Result<u8, CatalogError> {
        let (first, rest) = self
            .0
            .split_first()
            .ok_or(CatalogError::Damaged("a block ends early"))?;
        self.0 = rest;
        Ok(*first)
    }

    fn bytes(&mut self, count: u64) -> Result<&'a [u8], CatalogError> {
        let split = usize::try_from(count)
            .ok()
            .and_then(|count| self.0.split_at_checked(count));
        let (bytes, rest) = split.ok_or(CatalogError::Damaged("a block ends early"))?;
        self.0 = rest;
        Ok(bytes)
    }

    fn varint(&mut self) -> Result<u64, CatalogError> {
        varint(|| self.byte())
    }

    fn signed(&mut self) -> Result<i64, CatalogError> {
        let too_large = CatalogError::Damaged("a number is too large");
        let (mut magnitude, mut shift) = (0u64, 0);
        loop {
            let byte = self.byte()?;
            if byte == 0 && shift > 0 {
                // Only after a byte with bit 7 set: the sign.
                return 0i64.checked_sub_unsigned(magnitude).ok_or(too_large);
            }
            magnitude |= shifted(byte, shift).ok_or(CatalogError::Damaged("a number is too large"))?;
            if byte < 0x80 {
                return i64::try_from(magnitude).map_err(|_| too_large);
            }
            shift += 7;
        }
    }
}

fn shifted(byte: u8, shift: u32) -> Option<u64> {
    let value = u64::from(byte & 0x7f);
    // Bits of a tenth byte may be there for the sign, but not be set beyond 64.
    if shift >= 70 || (shift == 63 && value > 1) {
        return None;
    }
    Some(value << shift)
}

fn varint(mut byte: impl FnMut() -> Result<u8, CatalogError>) -> Result<u64, CatalogError> {
    let (mut value, mut shift) = (0, 0);
    loop {
        let next = byte()?;
        value |= shifted(next, shift)
            .filter(|_| shift < 64)
            .ok_or(CatalogError::Damaged("a number is too large"))?;
        if next < 0x80 {
            return Ok(value);
        }
        shift += 7;
    }
}

/// Reads a catalog.
pub struct CatalogReader<R> {
    source: R,
    root: u64,
    end: u64,
}

impl<R: Read + Seek> CatalogReader<R> {
    /// Checks the beginning and finds the root.
    pub fn new(mut source: R) -> Result<Self, CatalogError> {
        let size = source.seek(SeekFrom::End(0))?;
        let end = size
            .checked_sub(8)
            .ok_or(CatalogError::Damaged("it is too short"))?;
        source.seek(SeekFrom::Start(0))?;
        let mut magic = [0; 8];
        source.read_exact(&mut magic)?;
        if magic != MAGIC {
            return Err(CatalogError::Damaged("it does not begin as a catalog does"));
        }
        source.seek(SeekFrom::Start(end))?;
        let mut root = [0; 8];
        source.read_exact(&mut root)?;
        let root = u64::from_le_bytes(root);
        if root < 8 || root >= end {
            return Err(CatalogError::Damaged("its root is not in it"));
        }
        Ok(Self { source, root, end })
    }

    /// Position of the root's block.
    pub fn root(&self) -> u64 {
        self.root
    }

    /// The entries of the directory whose block begins at `start`, which came from this reader.
    pub fn list(&mut self, start: u64) -> Result<Vec<CatalogEntry>, CatalogError> {
        self.source.seek(SeekFrom::Start(start))?;
        let mut source = io::BufReader::new(&mut self.source);
        let mut head = 0;
        let length = varint(|| {
            let mut byte = [0];
            source.read_exact(&mut byte)?;
            head += 1;
            Ok(byte[0])
        })?;
        let room = self.end.checked_sub(start + head);
        if room.is_none_or(|room| length > room) {
            return Err(CatalogError::Damaged("a block is longer than the catalog"));
        }
        let mut block = Vec::new();
        source.take(length).read_to_end(&mut block)?;
        if block.len() as u64 != length {
            return Err(CatalogError::Damaged("a block ends early"));
        }
        let mut cursor = Cursor(&block);
        let count = cursor.varint()?;
        // The shortest entry has three bytes.
        if count > length / 3 {
            return Err(CatalogError::Damaged(
                "a block has an impossible number of entries",
            ));
        }
        let entries = (0..count)
            .map(|_| entry(&mut cursor, start))
            .collect::<Result<Vec<_>, _>>()?;
        if !cursor.0.is_empty() {
            return Err(CatalogError::Damaged("a block is longer than its entries"));
        }
        Ok(entries)
    }

    /// The entry at a path, names joined by slashes; the root itself has no entry.
    pub fn find(&mut self, path: &[u8]) -> Result<CatalogEntry, CatalogError> {
        let mut found: Option<CatalogEntry> = None;
        for name in path.split(|&byte| byte == b'/').filter(|name| !name.is_empty()) {
            let start = match &found {
                None => self.root,
                Some(CatalogEntry {
                    kind: EntryKind::Directory { start },
                    ..
                }) => *start,
                Some(_) => return Err(CatalogError::NotADirectory),
            };
            let entries = self.list(start)?;
            found = entries.into_iter().find(|entry| entry.name == name);
            if found.is_none() {
                return Err(CatalogError::NotFound);
            }
        }
        found.ok_or(CatalogError::NotFound)
    }

    /// Visits all entries with their paths, parents before children.
    pub fn walk(&mut self, visit: &mut dyn FnMut(&[u8], &CatalogEntry)) -> Result<(), CatalogError> {
        // What is to be done: a directory's entries that were not visited, and how long the path to it is.
        let mut open = vec![(self.list(self.root)?.into_iter(), 0)];
        let mut path = Vec::new();
        // In a tree each entry is visited once; directories that share children could make that any number.
        let mut budget = self.end / 3;
        while let Some((entries, prefix)) = open.last_mut() {
            path.truncate(*prefix);
            let Some(entry) = entries.next() else {
                open.pop();
                continue;
            };
            budget = budget
                .checked_sub(1)
                .ok_or(CatalogError::Damaged("directories share their entries"))?;
            if *prefix > 0 {
                path.push(b'/');
            }
            path.extend_from_slice(&entry.name);
            visit(&path, &entry);
            if let EntryKind::Directory { start } = entry.kind {
                if open.len() >= MAX_DEPTH {
                    return Err(CatalogError::Damaged("directories are nested too deeply"));
                }
                let entries = self.list(start)?.into_iter();
                open.push((entries, path.len()));
            }
        }
        Ok(())
    }
}

fn entry(cursor: &mut Cursor<'_>, start: u64) -> Result<CatalogEntry, CatalogError> {
    let letter = cursor.byte()?;
    let length = cursor.varint()?;
    if length > MAX_NAME {
        return Err(CatalogError::Damaged("a name is too long"));
    }
    let name = cursor.bytes(length)?.to_vec();
    if name.is_empty() || name == b"." || name == b".." || name.iter().any(|&byte| byte == b'/' || byte == 0)
    {
        return Err(CatalogError::Damaged("a name is not one of a file"));
    }
    let kind = match letter {
        b'd' => {
            let back = cursor.varint()?;
            // Strictly back, so that no directory can be in itself.
            let child = start
                .checked_sub(back)
                .filter(|&child| back > 0 && child >= MAGIC.len() as u64);
            let start = child.ok_or(CatalogError::Damaged("a directory is not where it should be"))?;
            EntryKind::Directory { start }
        }
        b'f' => EntryKind::File {
            size: cursor.varint()?,
            mtime: cursor.signed()?,
        },
        b'l' => EntryKind::Symlink,
        b'h' => EntryKind::Hardlink,
        b'b' => EntryKind::BlockDevice,
        b'c' => EntryKind::CharDevice,
        b'p' => EntryKind::Fifo,
        b's' => EntryKind::Socket,
        _ => return Err(CatalogError::Damaged("an entry is of no known kind")),
    };
    Ok(CatalogEntry { name, kind })
}

/// Writes a catalog: directories are opened, filled and closed as an archive is written.
pub struct CatalogWriter<W> {
    out: W,
    position: u64,
    open: Vec<OpenDirectory>,
}

#[derive(Default)]
struct OpenDirectory {
    name: Vec<u8>,
    count: u64,
    entries: Vec<u8>,
    /// Position in `entries`, name and block of each subdirectory: the distance is known when this block begins.
    children: Vec<(usize, Vec<u8>, u64)>,
}

impl<W: Write> CatalogWriter<W> {
    /// Begins a catalog.
    pub fn new(mut out: W) -> Result<Self, CatalogError> {
        out.write_all(&MAGIC)?;
        Ok(Self {
            out,
            position: MAGIC.len() as u64,
            open: vec![OpenDirectory::default()],
        })
    }

    /// Opens a directory in the one that is open; of the topmost the name is that of an archive.
    pub fn begin_directory(&mut self, name: &[u8]) {
        self.open.push(OpenDirectory {
            name: name.to_vec(),
            ..OpenDirectory::default()
        });
    }

    /// Closes the directory that was opened last.
    pub fn end_directory(&mut self) -> Result<(), CatalogError> {
        if self.open.len() < 2 {
            return Err(CatalogError::Damaged("more directories were closed than opened"));
        }
        let start = self.position;
        let Some(directory) = self.open.pop() else {
            return Ok(());
        };
        let name = directory.name.clone();
        self.write_block(directory)?;
        if let Some(parent) = self.open.last_mut() {
            parent.count += 1;
            parent.children.push((parent.entries.len(), name, start));
        }
        Ok(())
    }

    /// Adds an entry that is not a directory; directories are opened instead, and ignored here.
    pub fn add(&mut self, name: &[u8], kind: EntryKind) {
        let Some(directory) = self.open.last_mut() else {
            return;
        };
        if matches!(kind, EntryKind::Directory { .. }) {
            return;
        }
        directory.count += 1;
        let out = &mut directory.entries;
        out.push(kind.letter());
        write_varint(name.len() as u64, out);
        out.extend_from_slice(name);
        if let EntryKind::File { size, mtime } = kind {
            write_varint(size, out);
            write_signed(mtime, out);
        }
    }

    fn write_block(&mut self, directory: OpenDirectory) -> Result<(), CatalogError> {
        let start = self.position;
        let mut block = Vec::with_capacity(directory.entries.len() + 16);
        write_varint(directory.count, &mut block);
        let mut written = 0;
        for (at, name, child) in directory.children {
            block.extend_from_slice(&directory.entries[written..at]);
            written = at;
            block.push(b'd');
            write_varint(name.len() as u64, &mut block);
            block.extend_from_slice(&name);
            write_varint(start - child, &mut block);
        }
        block.extend_from_slice(&directory.entries[written..]);
        let mut head = Vec::new();
        write_varint(block.len() as u64, &mut head);
        self.out.write_all(&head)?;
        self.out.write_all(&block)?;
        self.position += (head.len() + block.len()) as u64;
        Ok(())
    }

    /// Closes all directories and ends the catalog.
    pub fn finish(mut self) -> Result<W, CatalogError> {
        while self.open.len() > 1 {
            self.end_directory()?;
        }
        let root = self.position;
        if let Some(directory) = self.open.pop() {
            self.write_block(directory)?;
        }
        self.out.write_all(&root.to_le_bytes())?;
        self.out.flush()?;
        Ok(self.out)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn all(bytes: &[u8]) -> Result<Vec<(Vec<u8>, CatalogEntry)>, CatalogError> {
        let mut found = Vec::new();
        let mut reader = CatalogReader::new(io::Cursor::new(bytes))?;
        reader.walk(&mut |path, entry| found.push((path.to_vec(), entry.clone())))?;
        Ok(found)
    }

    #[test]
    fn a_tree_reads_back() {
        let mut writer = CatalogWriter::new(Vec::new()).unwrap();
        writer.begin_directory(b"root.pxar.didx");
        writer.add(b"first", EntryKind::File { size: 300, mtime: -5 });
        writer.begin_directory(b"sub");
        writer.add(b"link", EntryKind::Symlink);
        writer.end_directory().unwrap();
        writer.begin_directory(b"empty");
        writer.end_directory().unwrap();
        writer.add(
            b"last",
            EntryKind::File {
                size: u64::MAX,
                mtime: i64::MIN,
            },
        );
        let bytes = writer.finish().unwrap();
        let found = all(&bytes).unwrap();
        let paths: Vec<&[u8]> = found.iter().map(|(path, _)| path.as_slice()).collect();
        let expected: [&[u8]; 6] = [
            b"root.pxar.didx",
            b"root.pxar.didx/first",
            b"root.pxar.didx/sub",
            b"root.pxar.didx/sub/link",
            b"root.pxar.didx/empty",
            b"root.pxar.didx/last",
        ];
        assert_eq!(paths, expected);
        assert_eq!(found[1].1.kind, EntryKind::File { size: 300, mtime: -5 });
        assert_eq!(
            found[5].1.kind,
            EntryKind::File {
                size: u64::MAX,
                mtime: i64::MIN
            }
        );
        let mut reader = CatalogReader::new(io::Cursor::new(&bytes)).unwrap();
        assert_eq!(
            reader.find(b"/root.pxar.didx/sub/link").unwrap().kind,
            EntryKind::Symlink
        );
        assert!(matches!(
            reader.find(b"root.pxar.didx/none"),
            Err(CatalogError::NotFound)
        ));
        assert!(matches!(
            reader.find(b"root.pxar.didx/first/x"),
            Err(CatalogError::NotADirectory)
        ));
    }

    #[test]
    fn numbers_read_back() {
        for value in [
            0,
            1,
            -1,
            63,
            64,
            127,
            128,
            -127,
            -128,
            -129,
            i64::MAX,
            i64::MIN,
            i64::MIN + 1,
        ] {
            let mut out = Vec::new();
            write_signed(value, &mut out);
            let mut cursor = Cursor(&out);
            assert_eq!(cursor.signed().unwrap(), value);
            assert!(cursor.0.is_empty(), "{value}");
        }
        for value in [0, 127, 128, u64::MAX] {
            let mut out = Vec::new();
            write_varint(value, &mut out);
            assert_eq!(Cursor(&out).varint().unwrap(), value);
        }
        let endless = [0xff; 100];
        assert!(Cursor(&endless).varint().is_err() && Cursor(&endless).signed().is_err());
        assert!(Cursor(&[0x80; 3]).varint().is_err());
    }

    #[test]
    fn a_directory_cannot_be_in_itself() {
        // One block at 8: a directory "a" whose block is 0 bytes back.
        for back in [0, 1, 200] {
            let mut bytes = MAGIC.to_vec();
            bytes.extend_from_slice(&[5, 1, b'd', 1, b'a', back]);
            bytes.extend_from_slice(&8u64.to_le_bytes());
            assert!(all(&bytes).is_err());
        }
    }

    #[test]
    fn shared_directories_do_not_multiply() {
        let mut bytes = MAGIC.to_vec();
        bytes.extend_from_slice(&[1, 0]);
        let mut child = 8;
        for _ in 0..60 {
            let start = bytes.len();
            let back = (start - child) as u8;
            bytes.extend_from_slice(&[9, 2, b'd', 1, b'a', back, b'd', 1, b'b', back]);
            child = start;
        }
        bytes.extend_from_slice(&(child as u64).to_le_bytes());
        assert!(matches!(
            all(&bytes),
            Err(CatalogError::Damaged("directories share their entries"))
        ));
    }

    proptest! {
        #[test]
        fn changed_catalogs_are_read_or_refused(at in 0..60usize, value in any::<u8>()) {
            let mut writer = CatalogWriter::new(Vec::new()).unwrap();
            for _ in 0..3 {
                writer.begin_directory(b"directory");
                writer.add(b"file", EntryKind::File { size: 1 << 40, mtime: 1_700_000_000 });
            }
            let mut bytes = writer.finish().unwrap();
            if let Some(byte) = bytes.get_mut(at) {
                *byte = value;
            }
            let _ = all(&bytes);
        }
    }
}
